/**
 * Parse a JSON file of names and values by the rules of `sealspace secret import`. Numbers, true, false and null become the text that the
 * file has for them. Errors give the number of the member, its name if that is valid, and never its value.
 */

import { fromBase64 } from "./bytes.js";
import { isObject, strictJson } from "./canonical_json.js";
import { MAX_ENTRIES, MAX_FILE_CHARS, MOST_FAULTS } from "./env_text.js";
import { ConsoleError } from "./errors.js";
import { NAME_PATTERN } from "./secrets.js";

const HINT = 'write {"NAME": "VALUE"}';
const MAX_DEPTH = 64;

/** @param {string} file @returns {boolean} whether it is meant as JSON */
export const isJson = (file) => /^\ufeff?\s*[{[]/.test(file);

/** @typedef {{ values: Map<string, string | import("./bytes.js").Bytes>, converted: string[] }} Entries `converted`: names of numbers, true, false and null */

/** @param {unknown} member @returns {boolean} */
const isLiteral = (member) => member === null || typeof member === "number" || typeof member === "boolean";

/** @param {string} text valid JSON @returns {any} the same, with each number, true, false and null as its text: 1.10 is "1.10" */
const withTexts = (text) => JSON.parse(text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*|true|false|null/g, (one) => (one[0] === '"' ? one : `"${one}"`)));

/** @param {string} _name @param {unknown} value @returns {unknown} */
function finite(_name, value) {
  if (typeof value === "number" && !Number.isFinite(value)) throw new SyntaxError("a number is out of range");
  return value;
}

/** @param {unknown} member @returns {string | import("./bytes.js").Bytes | null} text or bytes; null: something else */
function valueOf(member) {
  if (typeof member === "string") return member;
  if (!isObject(member) || Object.keys(member).sort().join() !== "encoding,value" || member.encoding !== "base64") return null;
  return fromBase64(member.value);
}

/** @param {string} text outside of strings, objects and lists may be nested this deep @returns {boolean} */
function isShallow(text) {
  let depth = 0;
  for (const mark of text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"/g, "").match(/[[\]{}]/g) ?? []) {
    depth += mark === "{" || mark === "[" ? 1 : -1;
    if (depth > MAX_DEPTH) return false;
  }
  return true;
}

/** @param {string} file @returns {Entries} in file order; throws ConsoleError `invalid-input`, whose `details.faults` have texts */
export function parseValues(file) {
  if (file.length > MAX_FILE_CHARS) throw new ConsoleError("too-large", `the file has more than ${MAX_FILE_CHARS} characters`);
  let members, texts;
  try {
    if (!isShallow(file)) throw new SyntaxError();
    members = strictJson(file);
    JSON.parse(file, finite);
    texts = withTexts(file);
  } catch {
    throw new ConsoleError("invalid-input", "It is not JSON, or repeats a name.", { hint: HINT }); // without the cause, which may quote a value
  }
  if (!isObject(members)) throw new ConsoleError("invalid-input", "It is not an object of names and values.", { hint: HINT });
  /** @type {Map<string, string | import("./bytes.js").Bytes>} */
  const values = new Map();
  /** @type {string[]} */
  const converted = [];
  /** @type {{ line: number, text: string }[]} */
  const faults = [];
  for (const [at, [name, member]] of Object.entries(members).entries()) {
    const value = valueOf(isLiteral(member) ? texts[name] : member);
    const wrong = !NAME_PATTERN.test(name) ? "has no valid secret name: capitals, digits and underscores, a capital first"
      : values.size === MAX_ENTRIES ? `exceeds the limit of ${MAX_ENTRIES} entries` : value === null ? "has a list or an object as its value, but not bytes in base64" : "";
    const named = NAME_PATTERN.test(name) ? ` (${name})` : "";
    if (!wrong) {
      values.set(name, /** @type {string} */ (value));
      if (isLiteral(member)) converted.push(name);
    } else if (faults.push({ line: 0, text: `Member ${at + 1}${named} ${wrong}` }) === MOST_FAULTS || values.size === MAX_ENTRIES) break;
  }
  if (!faults.length) return { values, converted };
  throw new ConsoleError("invalid-input", faults.map(({ text }) => text).join("; "), { hint: HINT, details: { faults } });
}
