/** The text of a compose file, whose SHA-256 a quote proves, and what it says (CN20). */

import { hex, sha256, text as textOfBytes } from "./bytes.js";
import { isObject, strictJson } from "./canonical_json.js";
import { describedLines, variableLines, writtenNode } from "./compose_lines.js";
import { ConsoleError } from "./errors.js";
import { readYaml, unread } from "./yaml.js";

/**
 * @import { Bytes } from "./bytes.js"
 * @import { Line } from "./compose_lines.js"
 * @import { YamlNode } from "./yaml.js"
 * @typedef {{ service: string, text: string }} Said
 * @typedef {{ name: string, images: Said[], mounts: Said[], variables: Said[], lines: Line[] }} Compose
 *   `lines`: what is not harmless; all untrusted
 */

export const MAX_COMPOSE_BYTES = 256 * 1024;
const MOST_SERVICES = 64;
const MOST_LINES = 512;
const MOST_VARIABLES = 256;

/** @param {string} problem @param {string} [text] */
const refused = (problem, text = "") => new ConsoleError("invalid-input", "this is not the compose file", { details: { problem, text } });

/**
 * Return a compose file's text if it has one of some digests. The bytes are hashed as they are: no other spelling of the text is tried.
 * @param {Bytes} bytes untrusted @param {string[]} hashes hex SHA-256 that the code may have
 * @returns {Promise<{ text: string, hash: string }>} throws ConsoleError `invalid-input` with `details.problem`: `too-large`, `other` or `not-text`
 */
export async function provenText(bytes, hashes) {
  if (bytes.length > MAX_COMPOSE_BYTES) throw refused("too-large");
  const found = hex(await sha256(bytes));
  if (!hashes.includes(found)) throw refused("other", found);
  try {
    return { text: textOfBytes(bytes), hash: found };
  } catch {
    throw refused("not-text");
  }
}

/**
 * Say what a compose file has. Nothing in it is expanded, and no other file is read.
 * @param {string} text untrusted, at most MAX_COMPOSE_BYTES @returns {Compose} throws ConsoleError `invalid-input`, whose `details.line` is not read
 */
export function describeCompose(text) {
  if (!text.trimStart().startsWith("{")) return describeServices(text, "compose file");
  let app;
  try {
    app = strictJson(text);
  } catch {
    throw unread(1);
  }
  const { name = "", allowed_envs: chosen = [], docker_compose_file: file } = isObject(app) ? app : {};
  const isList = Array.isArray(chosen) && chosen.length <= MOST_VARIABLES && chosen.every((one) => typeof one === "string");
  if (typeof file !== "string" || typeof name !== "string" || app.runner !== "docker-compose" || !isList) throw unread(1);
  const said = describeServices(file, "docker_compose_file");
  const lines = [...describedLines(writtenNode(app), "application"), ...said.lines];
  if (lines.length > MOST_LINES) throw unread(1);
  return { ...said, name, lines };
}

/** @param {YamlNode | undefined} node @returns {node is Map<string, YamlNode>} */
const isMapping = (node) => node instanceof Map;

/** @param {string} text YAML @param {string} place of the text @returns {Compose} */
function describeServices(text, place) {
  const file = readYaml(text);
  const services = isMapping(file) ? file.get("services") : undefined;
  if (!isMapping(file) || !isMapping(services) || services.size > MOST_SERVICES) throw unread(1);
  /** @type {Compose} */
  const said = { name: "", images: [], mounts: [], variables: [], lines: [...variableLines(text, place), ...describedLines(file, "file")] };
  for (const [service, members] of services) {
    if (!isMapping(members)) throw unread(1);
    const image = members.get("image") ?? "";
    if (typeof image !== "string") throw unread(1);
    said.images.push({ service, text: image });
    said.mounts.push(...itemsOf(members.get("volumes"), mountText).map((one) => ({ service, text: one })));
    said.variables.push(...variablesOf(members.get("environment")).map((one) => ({ service, text: one })));
  }
  if (said.mounts.length + said.variables.length > MOST_LINES || said.lines.length > MOST_LINES) throw unread(1);
  return said;
}

/** @param {YamlNode | undefined} node @param {(item: YamlNode) => string} textOf @returns {string[]} */
function itemsOf(node, textOf) {
  if (node === undefined || node === "") return [];
  if (!Array.isArray(node)) throw unread(1);
  return node.map(textOf);
}

/** @param {YamlNode | undefined} node @returns {string} */
function plainText(node) {
  if (typeof node !== "string") throw unread(1);
  return node;
}

/** A mount in its short form, as `SOURCE:TARGET`, or each member of its long form. @param {YamlNode} item */
function mountText(item) {
  if (!isMapping(item)) return plainText(item);
  return [...item].map(([name, value]) => `${name} ${typeof value === "string" ? value : "…"}`).join(", ");
}

/** The names of variables, without their values. @param {YamlNode | undefined} node @returns {string[]} */
function variablesOf(node) {
  if (isMapping(node)) return [...node.keys()];
  return itemsOf(node, (item) => plainText(item).split("=", 1)[0]);
}
