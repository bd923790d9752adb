// The code of a grant by its name, images and files, and what differs from the code that was approved before (CN18).
import { h } from "../elements.js";
import { code as words } from "../texts_code.js";
import { differing, withShortHashes } from "../wire/code_files.js";
import { quoted } from "./quoted.js";
import { facts, shortened, time } from "./values.js";

/**
 * @import { Approval } from "../wire/approvals.js"
 * @import { CodeFiles } from "../wire/code_files.js"
 * @import { Policy } from "../wire/policies.js"
 */

const MOST_LINE_CHARS = 400;

/** @param {CodeFiles} files @returns {string[]} a line for each name */
const named = ({ name, images, osImageHash }) => [
  ...(images.length ? [words.published(name, [...new Set(images.map(({ publisher }) => publisher))])] : []),
  ...images.map(({ service, reference }) => `image ${service}: ${reference}`), ...(osImageHash ? [`os image ${osImageHash}`] : [])];

/** The names of code. @param {CodeFiles | null} files null: too many to show @param {string} note who says so */
export function codeNames(files, note) {
  if (!files) return h("p", { class: "small" }, words.tooMuch);
  const { name, images, osImageHash } = files;
  const publishers = [...new Set(images.map(({ publisher }) => publisher))];
  const text = (/** @type {string} */ said) => quoted(said, { mono: true, most: MOST_LINE_CHARS });
  return h("div", { class: "stack tight" }, facts([
    [words.code, images.length ? text(words.published(name, publishers)) : name ? text(name) : words.unnamed],
    ...images.map(({ service, reference }) => /** @type {[string, Element]} */ ([words.image, text(`${service}: ${reference}`)])),
    osImageHash && [words.osImage, h("span", { class: "mono" }, words.release(osImageHash))],
  ]), h("p", { class: "small dim" }, note));
}

/**
 * A field for the text of the compose file, loaded when it is opened; hidden while the code has no compose file.
 * @param {() => string[]} hashesOf hex SHA-256 that the file may have
 */
export function composeChoice(hashesOf) {
  /** @type {{ element: HTMLElement, draw: () => void } | null} */
  let field = null;
  const open = async () => {
    field ??= (await import("./compose_text.js")).composeText(hashesOf);
    if (!field.element.isConnected) element.append(field.element);
  };
  const element = h("details", { class: "compose", on: { toggle: open } }, h("summary", {}, words.compose));
  const draw = () => {
    element.hidden = !hashesOf().length;
    field?.draw();
  };
  draw();
  return { element, draw };
}

/**
 * What differs from the code of the former approval, in the words of the command line.
 * @param {Approval | null} former null: there is none @param {Policy} policy @param {CodeFiles | null | undefined} files of this policy
 */
export function changes(former, policy, files) {
  if (!former) return facts([[words.changes, words.nothingYet]]);
  const { grant, isByName } = former;
  const [before, after] = words.pair({ ...former.policy, paths: [] }, { ...policy, paths: [] }); // the paths are those of the secrets, which the page lists
  const found = files && former.files ? differing([...named(former.files), ...before], [...named(files), ...after]) : differing(before, after);
  const ends = grant.expiresAt && [words.until, time(grant.expiresAt)];
  const list = (/** @type {string[]} */ shown) => h("ul", { class: "plainlist mono small" }, shown.map((line) => h("li", {}, quoted(line, { mono: true, most: MOST_LINE_CHARS }))));
  const short = found.map(withShortHashes);
  return h("div", { class: "stack tight", data: { changes: found.length } }, facts([[words.changes, found.length ? words.other(shortened(grant.cid)) : [words.same(shortened(grant.cid)), ends]]]),
    isByName && h("p", { class: "small dim" }, words.byName), found.length > 0 && list(short),
    short.some((line, at) => line !== found[at]) && h("details", {}, h("summary", {}, words.complete), list(found)));
}
