// @ts-check
/** Ids of tokens: CID version 1, raw, BLAKE3-256, in base32; in a ReCap the same bytes in base58. */

import { base58 } from "./base58.js";
import { blake3 } from "./blake3.js";
import { concat, fromBase64, utf8 } from "./bytes.js";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const PREFIX = Uint8Array.of(1, 0x55, 0x1e, 32);

/** @param {Uint8Array} bytes @returns {string} base32 in lower case without padding */
export function base32(bytes) {
  let [text, held, bits] = ["", 0, 0];
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(held >> (bits - 5)) & 31];
  }
  return bits ? text + ALPHABET[(held << (5 - bits)) & 31] : text;
}

/** @param {string} text @returns {import("./bytes.js").Bytes | null} null unless it is the one text of its bytes */
export function fromBase32(text) {
  const bytes = [];
  let [held, bits] = [0, 0];
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) return null;
    held = ((held << 5) | digit) & 0xfff;
    bits += 5;
    if (bits >= 8) bytes.push((held >> (bits -= 8)) & 255);
  }
  const read = Uint8Array.from(bytes);
  return base32(read) === text ? read : null;
}

/** @param {string} token a key's, as it is sent, or a wallet's header @returns {string} its id, 59 characters */
export function tokenCid(token) {
  const signed = token.includes(".") ? utf8(token) : fromBase64(token.replaceAll("-", "+").replaceAll("_", "/"));
  if (signed === null) throw new RangeError("no token");
  return "b" + base32(concat(PREFIX, blake3(signed)));
}

/** @param {string} cid @returns {string | null} the same id in base58, null for another text */
export function base58Cid(cid) {
  const bytes = cid.startsWith("b") ? fromBase32(cid.slice(1)) : null;
  return bytes?.length === 36 && PREFIX.every((byte, at) => byte === bytes[at]) ? "z" + base58(bytes) : null;
}
