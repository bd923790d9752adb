/** The EIP-4361 text that a wallet signs. */

import { attenuations, encodeRecap, recapSentence } from "./recap.js";
import { checksummed } from "./did.js";
import { ConsoleError } from "./errors.js";

/**
 * @typedef {object} SiweMessage
 * @property {string} domain that asks for the signature, shown to the user
 * @property {string} address 0x and 40 hex digits
 * @property {number} chainId
 * @property {string} uri DID or DID URL of the addressee
 * @property {string} nonce
 * @property {string} issuedAt RFC 3339
 * @property {string} [expirationTime] RFC 3339; absent: never expires
 * @property {string} [statement]
 * @property {string[]} [resources]
 */

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** @returns {string} seventeen letters and digits: about 100 bits */
export function newNonce() {
  let number = crypto.getRandomValues(new BigUint64Array(2)).reduce((sum, part) => (sum << 64n) | part, 0n);
  let nonce = "";
  for (let at = 0; at < 17; at++, number /= 62n) nonce += LETTERS[Number(number % 62n)];
  return nonce;
}

/** @param {number} epochS @returns {string} UTC with milliseconds */
export const isoTime = (epochS) => new Date(Math.round(epochS * 1000)).toISOString();

/** @param {SiweMessage} message @returns {string} */
export function siweText(message) {
  const lines = [
    `${message.domain} wants you to sign in with your Ethereum account:`,
    checksummed(message.address),
    "",
    ...(message.statement === undefined ? [] : [message.statement]),
    "",
    `URI: ${message.uri}`,
    "Version: 1",
    `Chain ID: ${message.chainId}`,
    `Nonce: ${message.nonce}`,
    `Issued At: ${message.issuedAt}`,
    ...(message.expirationTime === undefined ? [] : [`Expiration Time: ${message.expirationTime}`]),
    ...(message.resources?.length ? ["Resources:", ...message.resources.map((one) => `- ${one}`)] : []),
  ];
  // A line break could forge a line. Invisible characters or direction overrides could display a text other than the signed one.
  if (lines.some((line) => /[\p{C}\p{Zl}\p{Zp}]/u.test(line))) {
    throw new ConsoleError("invalid-input", "a sign-in text holds printable characters only");
  }
  return lines.join("\n");
}

/**
 * @param {SiweMessage} message @param {import("./recap.js").Capability[]} capabilities @param {string[]} [parents] ids in base58
 * @returns {SiweMessage} the message with the ReCap as its last resource and the sentence at the end of its statement
 */
export function withRecap(message, capabilities, parents) {
  const att = attenuations(capabilities);
  return {
    ...message,
    statement: [message.statement, recapSentence(att)].filter((one) => one !== undefined).join(" "),
    resources: [...(message.resources ?? []), encodeRecap(att, parents)],
  };
}
