// @ts-check
/** A wallet's signed message on the wire: canonical DAG-CBOR of maps, arrays, texts, byte strings, small numbers and null. */

import { base64urlPadded, concat, utf8 } from "./bytes.js";
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

/** @param {Uint8Array} one @param {Uint8Array} other keys, encoded: the shorter first, since they begin with their length */
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
