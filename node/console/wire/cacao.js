/** A wallet's signed message on the wire: canonical DAG-CBOR of maps, arrays, texts, byte strings, small numbers and null. */

import { base64urlPadded, concat, equal, text, utf8 } from "./bytes.js";
import { didPkh } from "./did.js";

/** @typedef {any} CborValue null, integer, text, Uint8Array, array or object of such; JSDoc knows no recursive alias */

/** @param {number} major @param {number} number below 2^32 */
function head(major, number) {
  if (!Number.isInteger(number) || number < 0 || number >= 2 ** 32) throw new RangeError("number out of range");
  if (number < 24) return Uint8Array.of(major | number);
  if (number < 256) return Uint8Array.of(major | 24, number);
  if (number < 65536) return Uint8Array.of(major | 25, number >> 8, number);
  return Uint8Array.of(major | 26, number >>> 24, number >> 16, number >> 8, number);
}

/** @param {Uint8Array} one @param {Uint8Array} other encoded keys; the shorter sorts first, since a key begins with its length */
function byKey(one, other) {
  const at = one.findIndex((byte, index) => byte !== other[index]);
  return at < 0 ? 0 : one[at] - other[at];
}

/** @param {CborValue} value @returns {import("./bytes.js").Bytes} */
export function encodeCbor(value) {
  if (value === null) return Uint8Array.of(0xf6);
  if (typeof value === "number") return head(0, value);
  if (typeof value === "string") return concat(head(0x60, utf8(value).length), utf8(value));
  if (value instanceof Uint8Array) return concat(head(0x40, value.length), value);
  if (Array.isArray(value)) return concat(head(0x80, value.length), ...value.map(encodeCbor));
  const members = Object.keys(value).map((key) => ({ key: encodeCbor(key), member: encodeCbor(value[key]) }));
  members.sort((one, other) => byKey(one.key, other.key));
  return concat(head(0xa0, members.length), ...members.flatMap(({ key, member }) => [key, member]));
}

/** @param {import("./bytes.js").Bytes} bytes untrusted @returns {CborValue} throws an error unless it is the canonical encoding of a value */
export function decodeCbor(bytes) {
  let at = 0;
  const take = (/** @type {number} */ size) => {
    if (at + size > bytes.length) throw new RangeError("the bytes end early");
    return bytes.slice(at, (at += size));
  };
  /** @param {number} depth @returns {CborValue} */
  const read = (depth) => {
    const [first] = take(1);
    if (first === 0xf6) return null;
    const [major, small] = [first & 0xe0, first & 31];
    if (small > 26 || !depth) throw new RangeError("not allowed here");
    const number = small < 24 ? small : take(1 << (small - 24)).reduce((sum, byte) => sum * 256 + byte, 0);
    if (major === 0) return number;
    if (major === 0x40) return take(number);
    if (major === 0x60) return text(take(number));
    /** @type {CborValue[]} */
    const items = [];
    if (major === 0xa0) for (let left = number; left > 0; left--) items.push([read(1), read(depth - 1)]);
    else if (major === 0x80) for (let left = number; left > 0; left--) items.push(read(depth - 1));
    else throw new RangeError("not allowed here");
    return major === 0xa0 ? Object.fromEntries(items) : items;
  };
  const value = read(4);
  if (!equal(encodeCbor(value), bytes)) throw new RangeError("not canonical");
  return value;
}

/**
 * @param {import("./siwe.js").SiweMessage} message @param {Uint8Array} signature r, s, v: 65 bytes
 * @returns {string} the header
 */
export function encodeCacao(message, signature) {
  /** @type {{[name: string]: CborValue}} */
  const payload = {
    aud: message.uri,
    iat: message.issuedAt,
    iss: didPkh(message.chainId, message.address),
    nonce: message.nonce,
    domain: message.domain,
    version: 1,
  };
  if (message.expirationTime !== undefined) payload.exp = message.expirationTime;
  if (message.statement !== undefined) payload.statement = message.statement;
  if (message.resources?.length) payload.resources = message.resources;
  return base64urlPadded(encodeCbor({ h: { t: "eip4361" }, p: payload, s: { s: signature, t: "eip191" } }));
}
