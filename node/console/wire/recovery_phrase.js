// @ts-check
/**
 * An owner without a wallet: a key made from a phrase that is written down.
 *
 *     phrase    36 letters and digits of Crockford's base32 in nine groups of four: 160 bits drawn at random, then the
 *               first 20 bits of SHA-256("sealspace/recovery-phrase/1" ‖ those 20 bytes) as a checksum
 *     key       Ed25519, its seed HKDF-SHA-256(the 20 bytes, no salt, info "sealspace/recovery-phrase/1") of 32 bytes
 *
 * Letters in any case, I and L read as 1, O as 0. A list of words would be 13 KB on every page, for no more security.
 */

import { base64url, concat, fromBase64url, random, sha256, utf8 } from "./bytes.js";
import { didKey } from "./did.js";
import { ConsoleError } from "./errors.js";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LABEL = utf8("sealspace/recovery-phrase/1");
const ENTROPY_BYTES = 20;
const [DIGITS, CHECK_DIGITS] = [32, 4];
/** PKCS #8 around an Ed25519 seed (RFC 8410). */
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** @param {Uint8Array} bytes @param {number} digits @returns {string} the first digits of their base32 */
const shown = (bytes, digits) => {
  const number = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const at = (/** @type {number} */ digit) => Number((number >> BigInt(8 * bytes.length - 5 * (digit + 1))) & 31n);
  return Array.from({ length: digits }, (_, digit) => ALPHABET[at(digit)]).join("");
};

/** @param {import("./bytes.js").Bytes} entropy 20 bytes @returns {Promise<string>} */
export async function phraseOf(entropy) {
  const check = shown((await sha256(concat(LABEL, entropy))).slice(0, 5), CHECK_DIGITS);
  return (shown(entropy, DIGITS) + check).replace(/(.{4})(?=.)/g, "$1 ");
}

/** @returns {Promise<string>} a new phrase: nine groups of four */
export const makePhrase = () => phraseOf(random(ENTROPY_BYTES));

/** @param {string} phrase as a person types it @returns {Promise<import("./bytes.js").Bytes>} 20 bytes */
export async function entropyOf(phrase) {
  const digits = phrase.toUpperCase().replace(/[\s-]/g, "").replace(/[IL]/g, "1").replaceAll("O", "0");
  const isSpelt = digits.length === DIGITS + CHECK_DIGITS && [...digits].every((digit) => ALPHABET.includes(digit));
  const number = isSpelt ? [...digits.slice(0, DIGITS)].reduce((sum, digit) => (sum << 5n) | BigInt(ALPHABET.indexOf(digit)), 0n) : 0n;
  const entropy = Uint8Array.from({ length: ENTROPY_BYTES }, (_, at) => Number((number >> BigInt(8 * (ENTROPY_BYTES - 1 - at))) & 255n));
  if (!isSpelt || (await phraseOf(entropy)).replaceAll(" ", "") !== digits) {
    const hint = "nine groups of four letters and digits; compare each group with what you wrote down";
    throw new ConsoleError("phrase-invalid", "this is no recovery phrase, or a letter of it is wrong", { hint });
  }
  return entropy;
}

/** @param {string} phrase @returns {Promise<import("./wallets.js").Owner>} whose key cannot be exported */
export async function ownerFromPhrase(phrase) {
  const secret = await crypto.subtle.importKey("raw", await entropyOf(phrase), "HKDF", false, ["deriveBits"]);
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info: LABEL };
  const pkcs8 = concat(PKCS8, new Uint8Array(await crypto.subtle.deriveBits(how, secret, 256)));
  // Only the export of a private key says what its public one is.
  const exported = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", exported);
  const raw = /** @type {import("./bytes.js").Bytes} */ (fromBase64url(x));
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  const publicKey = await crypto.subtle.importKey("jwk", { kty: "OKP", crv: "Ed25519", x: base64url(raw) }, "Ed25519", true, ["verify"]);
  pkcs8.fill(0);
  return { did: didKey(raw), kind: "phrase", keys: { privateKey, publicKey } };
}
