/** Ids of tokens: CID version 1, raw, BLAKE3-256, in base32. */

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

/** @param {string} text base32 in lower case without padding @returns {import("./bytes.js").Bytes} */
export function fromBase32(text) {
  const bytes = [];
  let [held, bits] = [0, 0];
  for (const letter of text) {
    held = ((held << 5) | ALPHABET.indexOf(letter)) & 0xfff;
    for (bits += 5; bits >= 8; bits -= 8) bytes.push((held >> (bits - 8)) & 0xff);
  }
  return Uint8Array.from(bytes);
}

/** @param {string} token a key's token as sent, or a wallet's header @returns {string} the token's id, 59 characters */
export function tokenCid(token) {
  const signed = token.includes(".") ? utf8(token) : fromBase64(token.replaceAll("-", "+").replaceAll("_", "/"));
  if (signed === null) throw new RangeError("no token");
  return "b" + base32(concat(PREFIX, blake3(signed)));
}
