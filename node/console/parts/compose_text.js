// The text of a compose file that the owner has, compared with the digest in a quote, and what it says (CN20).
import { fill, h } from "../elements.js";
import { compose as words } from "../texts_compose.js";
import { utf8 } from "../wire/bytes.js";
import { MAX_COMPOSE_BYTES, describeCompose, provenText } from "../wire/compose.js";
import { textField } from "./form.js";
import { quoted, shownText } from "./quoted.js";
import { banner } from "./states.js";
import { facts } from "./values.js";

/**
 * @import { Line } from "../wire/compose_lines.js"
 * @import { Compose, Said } from "../wire/compose.js"
 */

const PINNED = /^[a-z0-9][A-Za-z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}$/;

/** @param {string} text */
const line = (text) => quoted(text, { mono: true, most: 400 });

/** @param {Said[]} said */
const listed = (said) => (said.length ? h("ul", { class: "plainlist" }, said.map(({ service, text }) => h("li", {}, line(`${service}: ${text}`)))) : words.none);

/** As the command line prints it. @param {Line} line */
const lineText = ({ place, sentence, value }) => `${place}: ${sentence}${value ? `: ${value}` : ""}`;

/** @param {Compose} said */
const described = ({ name, images, mounts, variables, lines }) => facts([
  name && [words.name, line(name)],
  ...images.map(({ service, text }) => /** @type {[string, Element[]]} */ ([words.image, [line(text ? `${service}: ${text}` : service),
    ...(PINNED.test(text) ? [] : [h("div", { class: "wrong" }, text ? words.unpinned : words.noImage)])]])),
  lines.length > 0 && [words.allows, h("ul", { class: "plainlist wrong" }, lines.map((one) => h("li", {}, line(lineText(one)))))],
  [words.mounts, listed(mounts)],
  [words.variables, listed(variables)],
]);

/** @param {string} text whose digest is the one of the code @returns {Element} */
function whatItSays(text) {
  try {
    return described(describeCompose(text));
  } catch (/** @type {any} */ error) {
    if (!error.details?.line) throw error;
    return banner({ kind: "warn", title: words.unread(error.details.line) });
  }
}

/**
 * A field for the text of a compose file. No request is made.
 * @param {() => string[]} hashesOf hex SHA-256 that the code may have
 * @returns {{ element: HTMLElement, draw: () => void }} `draw` is called when the code changes
 */
export function composeText(hashesOf) {
  const found = h("div", { class: "stack tight", "aria-live": "polite" });
  /** @type {(() => import("../wire/bytes.js").Bytes) | null} */
  let given = null;
  let turn = 0;
  let drawn = "";

  async function judge() {
    const own = ++turn;
    drawn = hashesOf().join();
    fill(found);
    field.refuse("");
    if (!given || !drawn) return;
    try {
      const { text, hash } = await provenText(given(), hashesOf());
      if (own !== turn) return;
      fill(found, h("p", { class: "small" }, words.same(hash), " ", words.words), whatItSays(text),
        h("details", {}, h("summary", {}, words.whole), h("pre", { class: "value", dir: "ltr", tabIndex: 0, "aria-label": words.whole }, shownText(text))));
    } catch (/** @type {any} */ error) {
      if (own !== turn) return;
      const problem = error instanceof RangeError ? "half" : error.details?.problem;
      if (!Object.hasOwn(words.problems, problem)) throw error;
      field.refuse(words.problems[problem](error.details?.text ?? ""));
    }
  }

  const file = h("input", { type: "file", hidden: true, "aria-label": words.upload, on: { change: async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    field.input.value = "";
    // The bytes are kept as they are: a field of text would change their line ends.
    const bytes = new Uint8Array(chosen.size > MAX_COMPOSE_BYTES ? MAX_COMPOSE_BYTES + 1 : await chosen.arrayBuffer());
    given = () => bytes;
    await judge();
  } } });
  const field = textField({ name: "compose", label: words.label, rows: 4, mono: true, beside: h("button", { type: "button", on: { click: () => file.click() } }, words.upload) });
  field.input.addEventListener("input", () => {
    const text = field.input.value;
    given = text ? () => (text.length > MAX_COMPOSE_BYTES ? new Uint8Array(MAX_COMPOSE_BYTES + 1) : utf8(text)) : null;
    judge();
  });
  const element = h("div", { class: "stack tight" }, h("p", { class: "small dim" }, words.lead), field.element, file, found);
  return { element, draw: () => { if (drawn !== hashesOf().join()) judge(); } };
}
