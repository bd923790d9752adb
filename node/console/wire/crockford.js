/** Crockford's base32, for texts that people compare or write down. */

import { sha256, utf8 } from "./bytes.js";

export const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** @param {Uint8Array} bytes @param {number} digits @returns {string} the first digits of their base32 */
export const crockford = (bytes, digits) => {
  const number = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const at = (/** @type {number} */ digit) => Number((number >> BigInt(8 * bytes.length - 5 * (digit + 1))) & 31n);
  return Array.from({ length: digits }, (_, digit) => ALPHABET[at(digit)]).join("");
};

/** @param {string} token of the command's local page @param {string} did of this browser's key @returns {Promise<string>} the code that the command shows too */
export const linkCode = async (token, did) =>
  crockford(await sha256(utf8(`sealspace/console-code/1${token}${did}`)), 6).replace(/^.../, "$&-");
