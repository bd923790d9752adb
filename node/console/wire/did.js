/** DIDs of keys (did:key) and Ethereum accounts (did:pkh), and the ids of their spaces and networks. */

import { concat, hex, utf8 } from "./bytes.js";
import { keccak256 } from "./keccak.js";

const ACCOUNT = /^did:pkh:eip155:\+?0*([1-9][0-9]{0,19}):(0x[0-9a-fA-F]{40})$/;
/** A character of a name in a URI; each escape has one spelling (U3). */
export const URI_CHAR = "(?:[A-Za-z0-9\\-._~!$&'()*+,;=@]|%(?!2[DE]|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])[0-9A-F]{2})";
const SUFFIX = `[a-z0-9]+:(?:${URI_CHAR}|:)+`;
const SPACE = new RegExp(`^tinycloud:(${SUFFIX}):${URI_CHAR}+$`);
export const NETWORK = new RegExp(`^urn:tinycloud:encryption:(did:${SUFFIX}):(${URI_CHAR}+)$`);

// --- base58, in Bitcoin's alphabet ---

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** @param {Uint8Array} bytes @returns {string} */
export function base58(bytes) {
  let zeros = 0;
  while (zeros < bytes.length && bytes[zeros] === 0) zeros++;
  let number = bytes.reduce((value, byte) => value * 256n + BigInt(byte), 0n);
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  return "1".repeat(zeros) + text;
}

/** @param {string} text @returns {import("./bytes.js").Bytes | null} null for other characters, or more than 128. */
export function fromBase58(text) {
  if (text.length > 128) return null;
  let number = 0n;
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) return null;
    number = number * 58n + BigInt(digit);
  }
  const bytes = [];
  for (; number > 0n; number /= 256n) bytes.unshift(Number(number % 256n));
  const zeros = /^1*/.exec(text)?.[0].length ?? 0;
  return Uint8Array.from([...Array(zeros).fill(0), ...bytes]);
}

// --- DIDs ---

/** @param {Uint8Array} publicKey Ed25519, 32 bytes */
export const didKey = (publicKey) => "did:key:z" + base58(concat(Uint8Array.of(0xed, 1), publicKey));

/** @param {string} did of a key @returns {string} the key's own DID URL */
export const didUrl = (did) => `${did}#${did.slice("did:key:".length)}`;

/** @param {string} did @returns {import("./bytes.js").Bytes | null} the Ed25519 key of a did:key, 32 bytes */
export function ed25519Key(did) {
  const content = did.startsWith("did:key:z") ? fromBase58(did.slice("did:key:z".length)) : null;
  return content?.length === 34 && content[0] === 0xed && content[1] === 1 ? content.slice(2) : null;
}

/** @param {string} address 0x and 40 hex digits of any case @returns {string} with its checksum (EIP-55) */
export function checksummed(address) {
  const lower = address.slice(2).toLowerCase();
  const digest = hex(keccak256(utf8(lower)));
  return "0x" + Array.from(lower, (digit, at) => (digest[at] >= "8" ? digit.toUpperCase() : digit)).join("");
}

/** @param {number} chainId @param {string} address @returns {string} */
export const didPkh = (chainId, address) => `did:pkh:eip155:${chainId}:${checksummed(address)}`;

/** @param {string} did @returns {string} the DID without fragment; an account with its checksum */
export function principalOf(did) {
  const bare = did.split("#", 1)[0];
  const account = ACCOUNT.exec(bare);
  return account ? `did:pkh:eip155:${account[1]}:${checksummed(account[2])}` : bare;
}

/** @param {string} did @returns {string | null} the address of an Ethereum account */
export const addressOf = (did) => ACCOUNT.exec(did)?.[2] ?? null;

/** @param {string} text */
export function isDid(text) {
  const bare = text.split("#", 1)[0];
  return /^did:[a-z0-9]+:[!-~]+$/.test(bare) && (!bare.startsWith("did:pkh:eip155:") || ACCOUNT.test(bare));
}

/** @param {string} text */
export const isSpaceId = (text) => isDid(`did:${SPACE.exec(text)?.[1]}`);

/** @param {string} text */
export const isNetworkId = (text) => isDid(NETWORK.exec(text)?.[1] ?? "");

/** @param {string} owner DID @param {string} name short, or a full id @returns {string} the canonical id of a space (U6) */
export const spaceId = (owner, name) => name.startsWith("tinycloud:")
  ? `tinycloud:${principalOf(ownerOfSpace(name)).slice(4)}${name.slice(name.lastIndexOf(":"))}` : `tinycloud:${owner.slice(4)}:${name}`;

/** @param {string} space id @returns {string} DID of its owner */
export const ownerOfSpace = (space) => "did:" + space.slice("tinycloud:".length, space.lastIndexOf(":"));

/** @param {string} owner DID @param {string} [name] @returns {string} the id of an encryption network */
export const networkId = (owner, name = "default") => `urn:tinycloud:encryption:${owner}:${name}`;

/** @param {string} network id @returns {string} with its owner spelled canonically */
export const canonicalNetwork = (network) =>
  network.replace(NETWORK, (_, owner, name) => networkId(principalOf(owner), name));
