/** Canonical JSON: the unique text of a value, over which hashes and signatures are computed. */

import { hex, sha256, utf8 } from "./bytes.js";

/** @typedef {any} Json null, boolean, integer, text, list or object of such; JSDoc knows no recursive alias */

const MAX_DEPTH = 128;

/** @param {unknown} value @returns {value is {[name: string]: any}} */
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** @param {string} one @param {string} other @returns {number} comparison by code points */
export function byCodePoint(one, other) {
  const [left, right] = [[...one], [...other]];
  const at = left.findIndex((letter, index) => letter !== right[index]);
  if (at < 0) return left.length - right.length;
  return at >= right.length ? 1 : Number(left[at].codePointAt(0)) - Number(right[at].codePointAt(0));
}

/**
 * @param {Json} value all its numbers are integers @param {number} [depth]
 * @returns {string} throws RangeError for a fraction, an inexact integer or a lone surrogate.
 */
export function canonicalText(value, depth = 0) {
  if (depth > MAX_DEPTH) throw new RangeError("nested too deeply");
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new RangeError("not an exact integer");
  if (typeof value === "string") utf8(value);
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((one) => canonicalText(one, depth + 1)).join(",")}]`;
  const names = Object.keys(value).sort(byCodePoint);
  return `{${names.map((name) => `${canonicalText(name)}:${canonicalText(value[name], depth + 1)}`).join(",")}}`;
}

/** @param {Json} value @returns {import("./bytes.js").Bytes} */
export const canonicalBytes = (value) => utf8(canonicalText(value));

/** @param {Json} value @returns {Promise<string>} hex SHA-256 of the canonical text */
export const canonicalHash = async (value) => hex(await sha256(canonicalBytes(value)));

/** @param {string} text untrusted @returns {Json} throws SyntaxError, also for a repeated member or invalid Unicode */
export function strictJson(text) {
  const value = JSON.parse(text);
  const read = JSON.stringify(value);
  // A run without escapes is one step. With an alternation per character Chromium runs out of stack at 10 MB.
  const quoted = (/** @type {string} */ one) => one.match(/"[^"\\]*(?:\\.[^"\\]*)*"/g)?.length;
  if (quoted(text) !== quoted(read)) throw new SyntaxError("a member is repeated");
  if (/(?<!\\)(?:\\\\)*\\ud/.test(read)) throw new SyntaxError("half a character"); // JSON.stringify escapes only lone surrogates this way
  return value;
}
