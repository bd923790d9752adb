/** Parse a JSON file of names and values by the rules of `sealspace secret import`. Errors give the number of the member and never quote it. */

import { fromBase64 } from "./bytes.js";
import { isObject, strictJson } from "./canonical_json.js";
import { MAX_ENTRIES, MAX_FILE_CHARS, MOST_FAULTS } from "./env_text.js";
import { ConsoleError } from "./errors.js";
import { NAME_PATTERN } from "./secrets.js";

const HINT = 'write {"NAME": "VALUE"}';
const MAX_DEPTH = 64;

/** @param {string} file @returns {boolean} whether it is meant as JSON */
export const isJson = (file) => /^\ufeff?\s*[{[]/.test(file);

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

/** @param {string} file @returns {Map<string, string | import("./bytes.js").Bytes>} in file order; throws ConsoleError `invalid-input`, whose `details.faults` have texts */
export function parseValues(file) {
  if (file.length > MAX_FILE_CHARS) throw new ConsoleError("too-large", `the file has more than ${MAX_FILE_CHARS} characters`);
  let members;
  try {
    if (!isShallow(file)) throw new SyntaxError();
    members = strictJson(file);
  } catch {
    throw new ConsoleError("invalid-input", "It is not JSON, or repeats a name.", { hint: HINT }); // without the cause, which may quote a value
  }
  if (!isObject(members)) throw new ConsoleError("invalid-input", "It is not an object of names and values.", { hint: HINT });
  /** @type {Map<string, string | import("./bytes.js").Bytes>} */
  const values = new Map();
  /** @type {{ line: number, text: string }[]} */
  const faults = [];
  for (const [at, [name, member]] of Object.entries(members).entries()) {
    const value = valueOf(member);
    const wrong = !NAME_PATTERN.test(name) ? "has no valid secret name: capitals, digits and underscores, a capital first"
      : values.size === MAX_ENTRIES ? `exceeds the limit of ${MAX_ENTRIES} entries` : value === null ? "has a value that is neither text nor bytes" : "";
    if (!wrong) values.set(name, /** @type {string} */ (value));
    else if (faults.push({ line: 0, text: `Member ${at + 1} ${wrong}` }) === MOST_FAULTS || values.size === MAX_ENTRIES) break;
  }
  if (!faults.length) return values;
  throw new ConsoleError("invalid-input", faults.map(({ text }) => text).join("; "), { hint: HINT, details: { faults } });
}
