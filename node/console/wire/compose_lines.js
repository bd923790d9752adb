/** What the members of a compose file allow, by the same table as the command line (AT71). */

import { TABLE } from "./compose_members.js";

/**
 * @import { YamlNode } from "./yaml.js"
 * @typedef {{ place: string, sentence: string, value: string }} Line
 *   `place`: path of the member; `sentence`: what it allows, from the table; `value`: what it is about, or ""; place and value are untrusted
 * @typedef {{ allows?: string, unless?: string[], each?: string, texts?: boolean, inside?: string, form?: string }} Rule
 */

const PINNED = /^[a-z0-9][A-Za-z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}$/;
const VOLUME_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
// `$$` is one dollar sign. Go takes two letters beyond ASCII for s and k. YAML has escapes in double quotes.
const VARIABLE = /\$(?:\$|\{([A-Za-z_\u017f\u212a][0-9A-Za-z_\u017f\u212a]*)|([A-Za-z_\u017f\u212a][0-9A-Za-z_\u017f\u212a]*))|(\$\{?\\|\\(?:x24|u0024|U00000024))/g;
const { levels, mounts, environment } = TABLE;

/** @param {YamlNode} node @returns {node is Map<string, YamlNode>} */
const isMapping = (node) => node instanceof Map;
/** @param {string} place @param {string} sentence @param {string} [value] @returns {Line} */
const lineOf = (place, sentence, value = "") => ({ place, sentence, value });
/** @param {string} place */
const notUnderstood = (place) => lineOf(place, TABLE.unknown);

/**
 * Return a line for each member that is not harmless, in the file's order.
 * @param {YamlNode} node @param {string} level in the table @param {string} [place] @returns {Line[]}
 */
export function describedLines(node, level, place = "") {
  if (node === "") return [];
  if (!isMapping(node)) return [notUnderstood(place)];
  /** @type {Record<string, Rule>} */
  const members = levels[level];
  return [...node].flatMap(([name, value]) => {
    const known = Object.hasOwn(members, name) ? name : name.startsWith("x-") ? "x-*" : name;
    const memberPlace = place ? `${place}.${name}` : name;
    return Object.hasOwn(members, known) ? memberLines(value, members[known], memberPlace) : [notUnderstood(memberPlace)];
  });
}

/** @param {YamlNode} value @param {Rule} rule @param {string} place @returns {Line[]} */
function memberLines(value, rule, place) {
  if (rule.each) return eachLines(value, rule, place);
  if (rule.inside) return describedLines(value, rule.inside, place);
  if (rule.form) return formLines(value, rule, place);
  return rule.allows && !isListed(value, rule.unless) ? [lineOf(place, rule.allows)] : [];
}

/** Whether every text in a value is harmless. @param {YamlNode} value @param {string[]} [unless] */
function isListed(value, unless) {
  if (!unless) return false;
  if (typeof value === "string") return unless.includes(value.toLowerCase());
  if (Array.isArray(value)) return value.every((item) => typeof item === "string" && unless.includes(item.toLowerCase()));
  return isMapping(value) && value.size === 0 && unless.includes("");
}

/** @param {YamlNode} value @returns {[string, YamlNode][]} */
function namedItems(value) {
  if (isMapping(value)) return [...value];
  return Array.isArray(value) ? value.map((item, at) => [String(at + 1), item]) : [];
}

/** @param {YamlNode} value @param {Rule} rule @param {string} place @returns {Line[]} */
function eachLines(value, rule, place) {
  const lines = namedItems(value).flatMap(([name, item]) => {
    if (typeof item === "string" && rule.texts) return [];
    const itemPlace = `${place}.${name}`;
    const own = describedLines(item, rule.each ?? "", itemPlace);
    const isWithout = rule.each === "service" && (!isMapping(item) || (item.get("image") ?? "") === "");
    return isWithout ? [...own, lineOf(itemPlace, TABLE.no_image)] : own;
  });
  return isText(value) ? [...lines, notUnderstood(place)] : lines;
}

/** Whether a value is a text where none is expected. @param {YamlNode} value */
const isText = (value) => value !== "" && !isMapping(value) && !Array.isArray(value);

/** @param {YamlNode} value @param {Rule} rule @param {string} place @returns {Line[]} */
function formLines(value, rule, place) {
  const sentence = rule.allows ?? "";
  if (rule.form === "image") {
    const text = textOf(value);
    if (text === null) return [notUnderstood(place)];
    return text && !PINNED.test(text) ? [lineOf(place, sentence, text)] : [];
  }
  if (rule.form === "mounts") {
    const lines = Array.isArray(value) ? namedItems(value).flatMap(([name, item]) => mountLines(item, `${place}.${name}`)) : [];
    return isMapping(value) || isText(value) ? [...lines, notUnderstood(place)] : lines;
  }
  if (rule.form === "environment") return environmentLines(value, place);
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) return [notUnderstood(place)];
  return value.length ? [lineOf(place, sentence, value.join(", "))] : [];
}

/** A text of several lines is not read. @param {YamlNode} value @returns {string | null} */
function textOf(value) {
  if (typeof value === "string") return value;
  return isMapping(value) || Array.isArray(value) ? null : "$…";
}

/** @param {YamlNode} item a mount, in its short form or its long form @param {string} place @returns {Line[]} */
function mountLines(item, place) {
  const text = textOf(item);
  if (text !== null) {
    const colon = text.indexOf(":");
    const source = colon < 0 ? text : text.slice(0, colon);
    const isNew = colon < 0 && !text.includes("$");
    return isNew || VOLUME_NAME.test(source) ? [] : [folderLine(source, place)];
  }
  const lines = describedLines(item, "mount", place);
  if (!isMapping(item)) return lines;
  const kind = item.get("type") ?? "";
  const source = textOf(item.get("source") ?? "");
  if (typeof kind !== "string" || !mounts.types.includes(kind) || source === null) return [...lines, notUnderstood(`${place}.type`)];
  if (kind === "bind" || (kind === "volume" && source && !VOLUME_NAME.test(source))) return [...lines, folderLine(source, place)];
  return kind === "image" && !PINNED.test(source) ? [...lines, lineOf(place, mounts.image, source)] : lines;
}

/** @param {string} source of the machine @param {string} place @returns {Line} */
function folderLine(source, place) {
  const path = source.startsWith("/") ? normalPath(source) : source;
  const last = path.slice(path.lastIndexOf("/") + 1);
  if (mounts.dstack_names.includes(last)) return lineOf(place, mounts.dstack, source);
  if (mounts.docker_names.includes(last) || mounts.docker_folders.includes(path)) return lineOf(place, mounts.docker, source);
  return lineOf(place, mounts.folder, source);
}

/** @param {string} path from the root @returns {string} without `.`, `..` and empty parts */
function normalPath(path) {
  /** @type {string[]} */
  const parts = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** @param {YamlNode} value variables @param {string} place @returns {Line[]} */
function environmentLines(value, place) {
  /** @type {Map<string, boolean>} */
  const isOpen = new Map();
  if (isMapping(value)) for (const [name, text] of value) isOpen.set(name, text === "");
  else if (Array.isArray(value)) {
    for (const item of value) {
      const text = textOf(item);
      if (text === null) return [notUnderstood(place)];
      isOpen.set(text.split("=", 1)[0], !text.includes("="));
    }
  } else if (value !== "") return [notUnderstood(place)];
  return [...isOpen].flatMap(([name, isChosen]) => {
    const loads = environment.names.includes(name) || environment.prefixes.some((/** @type {string} */ prefix) => name.startsWith(prefix));
    const lines = loads ? [lineOf(`${place}.${name}`, environment.loads)] : [];
    return isChosen ? [...lines, lineOf(`${place}.${name}`, environment.open)] : lines;
  });
}

/** A line if a compose file has variables, `${NAME}` or `$NAME`. @param {string} text @param {string} place @returns {Line[]} */
export function variableLines(text, place) {
  const found = [...text.matchAll(VARIABLE)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
  const names = new Set(found);
  names.delete(""); // a dollar sign
  return names.size ? [lineOf(place, TABLE.variables, [...names].join(", "))] : [];
}

/** A value of JSON as the table reads it. @param {unknown} value @returns {YamlNode} */
export function writtenNode(value) {
  if (Array.isArray(value)) return value.map(writtenNode);
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return new Map(Object.entries(value).map(([name, member]) => [name, writtenNode(member)]));
  if (typeof value === "boolean") return String(value);
  return typeof value === "string" ? value : "number";
}
