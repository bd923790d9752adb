/**
 * An owner without a wallet: the key is derived from a phrase that the owner writes down.
 *
 *     phrase    36 letters and digits of Crockford's base32 in nine groups of four: 160 bits drawn at random, then the
 *               first 20 bits of SHA-256("sealspace/recovery-phrase/1" ‖ those 20 bytes) as a checksum
 *     key       Ed25519, its seed HKDF-SHA-256(the 20 bytes, no salt, info "sealspace/recovery-phrase/1") of 32 bytes
 *
 * Letters may be in either case; I and L are read as 1, and O as 0. A word list would add 13 KB to every page and no security.
 */

import { concat, random, sha256, utf8 } from "./bytes.js";
import { ALPHABET, crockford } from "./crockford.js";
import { didKey } from "./did.js";
import { ConsoleError } from "./errors.js";
import { keyPair } from "./key_pair.js";

const LABEL = utf8("sealspace/recovery-phrase/1");
const ENTROPY_BYTES = 20;
const [DIGITS, CHECK_DIGITS] = [32, 4];

/** @param {import("./bytes.js").Bytes} entropy 20 bytes @returns {Promise<string>} */
export async function phraseOf(entropy) {
  const check = crockford((await sha256(concat(LABEL, entropy))).slice(0, 5), CHECK_DIGITS);
  return (crockford(entropy, DIGITS) + check).replace(/(.{4})(?=.)/g, "$1 ");
}

/** @returns {Promise<string>} a new phrase: nine groups of four */
export const makePhrase = () => phraseOf(random(ENTROPY_BYTES));

/** @param {string} typed @returns {string} its digits in the alphabet's spelling, without blanks and dashes */
export const spelled = (typed) => typed.toUpperCase().replace(/[\s-]/g, "").replace(/[IL]/g, "1").replaceAll("O", "0");

/** @param {string} phrase as typed by the user @returns {Promise<import("./bytes.js").Bytes>} 20 bytes */
export async function entropyOf(phrase) {
  const digits = spelled(phrase);
  const isSpelt = digits.length === DIGITS + CHECK_DIGITS && [...digits].every((digit) => ALPHABET.includes(digit));
  const number = isSpelt ? [...digits.slice(0, DIGITS)].reduce((sum, digit) => (sum << 5n) | BigInt(ALPHABET.indexOf(digit)), 0n) : 0n;
  const entropy = Uint8Array.from({ length: ENTROPY_BYTES }, (_, at) => Number((number >> BigInt(8 * (ENTROPY_BYTES - 1 - at))) & 255n));
  if (!isSpelt || (await phraseOf(entropy)).replaceAll(" ", "") !== digits) {
    const hint = "compare all nine groups of four characters with the groups that you wrote down";
    throw new ConsoleError("phrase-invalid", "this is not a recovery phrase, or the phrase contains a typing error", { hint });
  }
  return entropy;
}

/** @param {string} phrase @returns {Promise<import("./wallets.js").Owner>} an owner whose key cannot be exported */
export async function ownerFromPhrase(phrase) {
  const secret = await crypto.subtle.importKey("raw", await entropyOf(phrase), "HKDF", false, ["deriveBits"]);
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info: LABEL };
  const seed = new Uint8Array(await crypto.subtle.deriveBits(how, secret, 256));
  const keys = await keyPair(seed);
  seed.fill(0);
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey));
  return { did: didKey(raw), kind: "phrase", keys };
}
