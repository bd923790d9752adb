/** Bytes and their text encodings. Every decoder accepts exactly one text for each byte string. */

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {string} text @returns {Bytes} UTF-8; throws RangeError on a lone surrogate. */
export function utf8(text) {
  if (/\p{Surrogate}/u.test(text)) throw new RangeError("not Unicode");
  return encoder.encode(text);
}

/** @param {Uint8Array} bytes @returns {string} throws TypeError if the bytes are not UTF-8. */
export const text = (bytes) => decoder.decode(bytes);

/** @param {Uint8Array} bytes */
export const hex = (bytes) => Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");

/** @param {unknown} text lower-case digits @returns {Bytes | null} */
export function fromHex(text) {
  if (typeof text !== "string" || text.length % 2 || !/^[0-9a-f]*$/.test(text)) return null;
  return Uint8Array.from({ length: text.length / 2 }, (_, at) => parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** @param {Uint8Array} bytes @returns {string} standard base64 with padding. */
export function base64(bytes) {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 32768) binary += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(binary);
}

/** @param {unknown} text @returns {Bytes | null} null unless it is the canonical standard base64. */
export function fromBase64(text) {
  if (typeof text !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4) return null;
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return base64(bytes) === text ? bytes : null; // reject spare bits: they would make a second text for the same bytes
}

/** @param {Uint8Array} bytes @returns {string} base64url with padding. */
export const base64urlPadded = (bytes) => base64(bytes).replaceAll("+", "-").replaceAll("/", "_");

/** @param {Uint8Array} bytes @returns {string} base64url without padding. */
export const base64url = (bytes) => base64urlPadded(bytes).replace(/=+$/, "");

/** @param {unknown} text @returns {Bytes | null} null unless it is the canonical base64url without padding. */
export function fromBase64url(text) {
  if (typeof text !== "string" || !/^[A-Za-z0-9_-]*$/.test(text)) return null;
  const standard = text.replaceAll("-", "+").replaceAll("_", "/");
  return fromBase64(standard + "=".repeat((4 - (standard.length % 4)) % 4));
}

/** @param {...Uint8Array} parts @returns {Bytes} */
export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} one @param {Uint8Array} other */
export const equal = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

/** @param {number} sizeBytes @returns {Bytes} from the browser's random source. */
export const random = (sizeBytes) => crypto.getRandomValues(new Uint8Array(sizeBytes));

/** @param {Bytes} bytes @returns {Promise<Bytes>} */
export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
