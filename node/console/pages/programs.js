import { h, pageHead } from "../elements.js";
import { buildFacts } from "../parts/builds.js";
import { openDialog } from "../parts/dialog.js";
import { runnerPanel } from "../parts/runner.js";
import { runnerUrl } from "../parts/known_node.js";
import { askForRights, isHeld } from "../parts/space_rights.js";
import { emptyState, loading } from "../parts/states.js";
import { copyField, facts, shortened, time } from "../parts/values.js";
import { programs as words } from "../texts_node.js";
import { hex, sha256, text } from "../wire/bytes.js";
import { parseBuild } from "../wire/builds.js";
import { strictJson } from "../wire/canonical_json.js";
import * as kv from "../wire/kv.js";
import * as spaces from "../wire/spaces.js";

export const title = words.title;
export const needsSession = true;

const SPACES = ["public", "projects"]; // developers publish to everyone, or to the people to whom they grant access
const PLACE = /^projects\/([a-z0-9-]{1,64})\/(active|versions\/[0-9a-f]{64})$/;

/**
 * @import { Client } from "../wire/client.js"
 * @typedef {{ sha256: string, bytes: number, target: string, publishedAt: string, source?: string,
 *   build?: import("../wire/builds.js").Build, manifest?: { secrets?: string[], hosts?: string[] }, statementSha256: string }} Version
 * @typedef {{ name: string, space: string, active: unknown, versions: Version[] }} Project `active`: the hash of the statement
 *   that describes the active version (RN177)
 */

/** @param {import("../app.js").Context} context */
export function render(context) {
  const { client, signal } = context;
  const body = h("div", { class: "stack" });
  const reload = () => loading(body, () => spaces.list(client).then((all) => content(all.filter(({ name }) => SPACES.includes(name)))), (shown) => shown, { signal });

  /** @param {import("../wire/spaces.js").Space[]} places */
  async function content(places) {
    const closed = places.filter((one) => !isHeld(client, one));
    const open = places.filter((one) => isHeld(client, one));
    const found = (await Promise.all(open.map((one) => projectsIn(client, one.name)))).flat();
    const none = h("section", { class: "panel" }, emptyState({ icon: "code", title: words.emptyTitle, text: words.empty, actions: [copyField(words.command)] }));
    return [closed.length > 0 && askForRights(client, closed, reload), found.length ? found.map(projectPanel) : closed.length === 0 && none];
  }

  reload();
  return h("div", { class: "page" }, pageHead(words), body,
    runnerUrl ? runnerPanel(context) : h("p", { class: "dim small" }, words.elsewhere, " ", h("code", {}, "sealspace runner keys list"), " · ", h("code", {}, "sealspace runner list")));
}

/** The statements about the projects of a space; unreadable ones are left out. @param {Client} client @param {string} space @returns {Promise<Project[]>} */
async function projectsIn(client, space) {
  const keys = (await kv.list(client, space, "projects/")).filter((key) => PLACE.test(key));
  const values = await kv.getMany(client, space, keys);
  /** @type {Map<string, Project>} */
  const projects = new Map();
  for (const [key, value] of values) {
    const [, name, place] = /** @type {RegExpExecArray} */ (PLACE.exec(key));
    const project = projects.get(name) ?? { name, space, active: null, versions: [] };
    const stated = statementOf(value.body);
    if (typeof stated?.sha256 !== "string") continue;
    projects.set(name, project);
    if (place === "active") project.active = stated.statementSha256;
    else if (place === `versions/${stated.sha256}`) {
      const version = /** @type {Version} */ (/** @type {unknown} */ (stated));
      project.versions.push({ ...version, statementSha256: hex(await sha256(value.body)) });
    }
  }
  for (const { versions } of projects.values()) versions.sort((one, other) => String(other.publishedAt).localeCompare(String(one.publishedAt)));
  return [...projects.values()].filter((one) => one.versions.length).sort((one, other) => one.name.localeCompare(other.name));
}

/** @param {Uint8Array<ArrayBuffer>} body @returns {Record<string, unknown> | null} */
function statementOf(body) {
  try {
    const { statement } = /** @type {any} */ (strictJson(text(body)));
    if (statement === null || typeof statement !== "object") return null;
    return { ...statement, build: parseBuild(statement.build) };
  } catch {
    return null;
  }
}

/** @param {Project} project */
const projectPanel = ({ name, space, active, versions }) =>
  h("section", { class: "panel stack", "aria-label": name }, h("div", { class: "row spread" }, h("h2", {}, name), h("span", { class: "chip" }, space === "public" ? words.public : words.private)),
    h("ul", { class: "versions", role: "list" }, versions.map((version) => h("li", { class: "row spread" },
      h("span", { class: "row" }, h("code", { title: version.sha256 }, shortened(version.sha256, 12, 6)), version.statementSha256 === active && h("span", { class: "chip good" }, words.active), time(String(version.publishedAt))),
      h("button", { "aria-label": words.openOf(shortened(version.sha256, 12, 6)), on: { click: () => show(name, version) } }, words.open)))),
    !versions.some(({ statementSha256 }) => statementSha256 === active) && h("p", { class: "dim" }, words.noneActive));

/** @param {string} name @param {Version} version */
function show(name, { sha256: hash, bytes, target, publishedAt, source, build, manifest }) {
  const listed = (/** @type {string[] | undefined} */ names, /** @type {string} */ none) => (Array.isArray(names) && names.length ? names.map(String).join(", ") : none);
  return openDialog(name, () => h("div", { class: "stack" }, facts([
    [words.sha256, copyField(hash, words.sha256)],
    [words.published, time(String(publishedAt))],
    [words.size, words.bytes(Number(bytes))],
    [words.target, String(target)],
    [words.source, source === undefined ? "–" : String(source)],
    ...buildFacts(build),
    [words.secrets, manifest?.secrets ? listed(manifest.secrets, words.noSecrets) : words.anySecrets],
    [words.hosts, listed(manifest?.hosts, words.noHosts)],
  ]), h("p", { class: "dim small" }, words.unchecked)));
}
