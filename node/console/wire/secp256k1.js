/** The account that signed a personal message (EIP-191). Only public values are computed with, so the time taken reveals nothing. */

import { concat, hex, utf8 } from "./bytes.js";
import { keccak256 } from "./keccak.js";

/** @typedef {[bigint, bigint] | null} Point null: the point at infinity */

const P = 2n ** 256n - 2n ** 32n - 977n;
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
/** @type {Point} */
const GENERATOR = [0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n, 0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n];

/** @param {bigint} number @param {bigint} modulus */
const mod = (number, modulus) => ((number % modulus) + modulus) % modulus;

/** @param {bigint} number not 0 @param {bigint} modulus prime */
function inverse(number, modulus) {
  let [low, high, one, other] = [mod(number, modulus), modulus, 1n, 0n];
  while (low > 1n) {
    const times = high / low;
    [low, high, one, other] = [high - low * times, low, other - one * times, one];
  }
  return mod(one, modulus);
}

/** @param {bigint} square @returns {bigint} a root, if there is one */
function root(square) {
  let [found, base] = [1n, square];
  for (let left = (P + 1n) / 4n; left > 0n; left >>= 1n, base = (base * base) % P) if (left & 1n) found = (found * base) % P;
  return found;
}

/** @param {Point} one @param {Point} other @returns {Point} */
function add(one, other) {
  if (one === null || other === null) return one ?? other;
  const [[x, y], [x2, y2]] = [one, other];
  if (x === x2 && y !== y2) return null;
  const slope = x === x2 ? 3n * x * x * inverse(2n * y, P) : (y2 - y) * inverse(x2 - x, P);
  const x3 = mod(slope * slope - x - x2, P);
  return [x3, mod(slope * (x - x3) - y, P)];
}

/** @param {Uint8Array} bytes */
const number = (bytes) => BigInt(`0x${hex(bytes) || "0"}`);

/**
 * @param {string} text that was signed @param {Uint8Array} signature r, s, v: 65 bytes
 * @returns {string | null} the signer's address, 0x and 40 digits in lower case; null: the signature is malformed, or has a high s
 */
export function recoverAddress(text, signature) {
  const odd = [0, 1, 27, 28].indexOf(signature[64]) % 2;
  if (signature.length !== 65 || odd < 0) return null;
  const [r, s] = [number(signature.subarray(0, 32)), number(signature.subarray(32, 64))];
  if (r < 1n || r >= ORDER || s < 1n || s > ORDER / 2n) return null;
  const square = (r ** 3n + 7n) % P;
  const y = root(square);
  if ((y * y) % P !== square) return null;
  /** @type {Point} */
  const nonce = [r, y % 2n === BigInt(odd) ? y : P - y];
  const signed = utf8(text);
  const digest = keccak256(concat(utf8(`\x19Ethereum Signed Message:\n${signed.length}`), signed));
  const [times, more] = [mod(-number(digest) * inverse(r, ORDER), ORDER), mod(s * inverse(r, ORDER), ORDER)];
  const both = add(GENERATOR, nonce);
  /** @type {Point} */
  let sum = null;
  for (let bit = 255n; bit >= 0n; bit--) {
    sum = add(sum, sum);
    const [first, second] = [(times >> bit) & 1n, (more >> bit) & 1n];
    if (first || second) sum = add(sum, first && second ? both : first ? GENERATOR : nonce);
  }
  if (sum === null) return null;
  const key = sum.map((one) => Uint8Array.from({ length: 32 }, (_, at) => Number((one >> BigInt(248 - 8 * at)) & 255n)));
  return `0x${hex(keccak256(concat(...key)).subarray(12))}`;
}
