/** Conditions on the callers of programs (RN40), read as strictly as `sealspace/documents/call_conditions.py` does. */

import { canonicalBytes, isObject } from "./canonical_json.js";
import { isDid, principalOf } from "./did.js";
import { ConsoleError } from "./errors.js";

/** @typedef {any} Condition `"AllowAll"`, or an object with one member; JSDoc knows no recursive alias */

const [MAX_BYTES, MAX_DEPTH, MAX_PATTERN_CHARS, MAX_PATTERNS] = [16 * 1024, 32, 256, 16];
export const ANYONE = "AllowAll";
export const OWNER = { Owner: {} };
const ON_CHAIN = ["NearBalance", "FtBalance", "NftOwned", "DaoMember", "Predecessor"];
const TIME = /^(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** @param {string} why */
const refused = (why) => new ConsoleError("invalid-input", why, { details: { text: why } });

/** @param {unknown} text @returns {text is string} */
export function isTime(text) {
  const [, year, month, day] = (typeof text === "string" && TIME.exec(text)) || [];
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  date.setUTCFullYear(Number(year)); // years before 100
  return year !== undefined && date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day);
}

/** @param {string[]} dids @returns {Condition} only these callers, in canonical spelling */
export const onlyThese = (dids) => ({ Whitelist: { accounts: dids.map(principalOf) } });

/** @param {string} until RFC 3339 @param {Condition} condition @returns {Condition} the condition, until a time */
export const until = (until, condition) => ({ Logic: { operator: "And", conditions: [condition, { ValidUntil: { until } }] } });

/** The condition of each name: a check of its members, which are exactly those that it names. @type {{[name: string]: (content: any, depth: number) => boolean}} */
const KINDS = {
  Owner: (content) => has(content, ""),
  Whitelist: (content) => has(content, "accounts") && Array.isArray(content.accounts) && content.accounts.every((/** @type {unknown} */ one) => typeof one === "string" && isDid(one) && !one.includes("#")),
  AccountPattern: (content) => has(content, "pattern") && typeof content.pattern === "string" && content.pattern.length <= MAX_PATTERN_CHARS && /^[ -~]*$/.test(content.pattern),
  ValidUntil: (content) => (has(content, "until") && isTime(content.until)) || (has(content, "until_ns") && typeof content.until_ns === "string" && /^[0-9]{1,20}$/.test(content.until_ns)),
  WasmHash: (content) => has(content, "hash") && typeof content.hash === "string" && /^[0-9a-f]{64}$/.test(content.hash),
  Logic: (content, depth) => {
    if (!has(content, "conditions,operator") || !["And", "Or"].includes(content.operator) || !Array.isArray(content.conditions)) return false;
    for (const one of content.conditions) check(one, depth - 1);
    return true;
  },
  Not: (content, depth) => {
    if (!has(content, "condition")) return false;
    check(content.condition, depth - 1);
    return true;
  },
};

/** @param {any} content @param {string} names sorted */
const has = (content, names) => isObject(content) && Object.keys(content).sort().join() === names;

/** @param {unknown} value @param {number} depth */
function check(value, depth) {
  if (depth === 0) throw refused(`It is nested deeper than ${MAX_DEPTH} levels.`);
  if (value === ANYONE) return;
  if (!isObject(value) || Object.keys(value).length !== 1) throw refused('A condition is "AllowAll", or an object with one member.');
  const [[name, content]] = Object.entries(value);
  if (ON_CHAIN.includes(name)) throw refused(`The condition ${name} needs a blockchain, which runners do not read.`);
  if (!Object.hasOwn(KINDS, name)) throw refused("It has an unknown condition.");
  if (!KINDS[name](content, depth)) throw refused(`The condition ${name} is malformed.`);
}

/** @param {unknown} value untrusted JSON @returns {Condition} the condition unchanged; ConsoleError `invalid-input`. Patterns are compiled by the runner */
export function parseCondition(value) {
  check(value, MAX_DEPTH);
  let canonical;
  try {
    canonical = canonicalBytes(value);
  } catch {
    throw refused("It cannot be signed as JSON.");
  }
  if (canonical.length > MAX_BYTES) throw refused(`It is longer than ${MAX_BYTES} bytes.`);
  if (new TextDecoder().decode(canonical).split('{"AccountPattern":').length - 1 > MAX_PATTERNS) throw refused(`It has more than ${MAX_PATTERNS} patterns.`);
  return value;
}
