/** Sealed payloads: AES-256-GCM under a content key, which is wrapped to a network by X25519. */

import { base64, concat, fromBase64, random, text, utf8 } from "./bytes.js";
import { canonicalHash, strictJson } from "./canonical_json.js";
import { ConsoleError } from "./errors.js";

/**
 * @import { Bytes } from "./bytes.js"
 * @typedef {{ networkId: string, publicEncryptionKey: Bytes, alg: string, keyVersion: number }} Recipient
 * @typedef {{ v: number, networkId: string, alg: string, keyVersion: number, encryptedSymmetricKey: string,
 *   encryptedSymmetricKeyHash: string, ciphertext: string, aad?: string, metadata?: {[name: string]: string} }} Envelope
 */

const [KEY_BYTES, NONCE_BYTES, TAG_BYTES, BLOB_VERSION] = [32, 12, 16, 1];
export const MAX_ENVELOPE_BYTES = 2 * 1024 * 1024;

/** @param {string} why @param {unknown} [cause] */
const broken = (why, cause) =>
  new ConsoleError("envelope-broken", `not an envelope that opens: ${why}`, {
    hint: "do not use what was read; store the value again",
    cause,
  });

/** @param {Bytes} key @param {KeyUsage} usage */
const aesKey = (key, usage) => crypto.subtle.importKey("raw", key, "AES-GCM", false, [usage]);

/** @returns {Promise<CryptoKeyPair>} X25519, for one exchange */
export const newReceiver = async () =>
  /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey("X25519", false, ["deriveBits"]));

/** @param {CryptoKey} publicKey @returns {Promise<Bytes>} */
export const rawKey = async (publicKey) => new Uint8Array(await crypto.subtle.exportKey("raw", publicKey));

/** @param {CryptoKey} privateKey @param {Bytes} publicKey of the other side @returns {Promise<Bytes>} 32 bytes */
async function shared(privateKey, publicKey) {
  // With a low-order key, the shared secret is publicly known. Browsers throw an error or return zeros.
  const bits = await crypto.subtle
    .importKey("raw", publicKey, "X25519", false, [])
    .then((theirs) => crypto.subtle.deriveBits({ name: "X25519", public: theirs }, privateKey, 256))
    .catch((cause) => Promise.reject(broken("the public key is none", cause)));
  const secret = new Uint8Array(bits);
  if (secret.every((byte) => byte === 0)) throw broken("the public key is of low order");
  return secret;
}

/** @param {Bytes} contentKey @param {Bytes} publicKey X25519 @returns {Promise<Bytes>} 93 bytes */
export async function wrapKey(contentKey, publicKey) {
  if (contentKey.length !== KEY_BYTES) throw broken("the content key has another length");
  const ephemeral = await newReceiver();
  const key = await aesKey(await shared(ephemeral.privateKey, publicKey), "encrypt");
  const iv = random(NONCE_BYTES);
  const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, contentKey));
  return concat(await rawKey(ephemeral.publicKey), Uint8Array.of(BLOB_VERSION), iv, sealed);
}

/** @param {CryptoKey} privateKey X25519 @param {Bytes} wrapped untrusted @returns {Promise<Bytes>} the content key */
export async function unwrapKey(privateKey, wrapped) {
  const size = KEY_BYTES + 1 + NONCE_BYTES + KEY_BYTES + TAG_BYTES;
  if (wrapped.length !== size || wrapped[KEY_BYTES] !== BLOB_VERSION) throw broken("the wrapped key has another form");
  const iv = wrapped.slice(KEY_BYTES + 1, KEY_BYTES + 1 + NONCE_BYTES);
  try {
    const key = await aesKey(await shared(privateKey, wrapped.slice(0, KEY_BYTES)), "decrypt");
    const sealed = wrapped.slice(KEY_BYTES + 1 + NONCE_BYTES);
    return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, sealed));
  } catch (cause) {
    throw broken("the key does not open", cause);
  }
}

/**
 * @param {Recipient} network @param {Bytes} plaintext
 * @param {{ label?: Bytes, metadata?: {[name: string]: string} }} [labels] not authenticated
 * @returns {Promise<string>} the text to store
 */
export async function sealEnvelope({ networkId, publicEncryptionKey, alg, keyVersion }, plaintext, { label, metadata } = {}) {
  const [contentKey, iv] = [random(KEY_BYTES), random(NONCE_BYTES)];
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await aesKey(contentKey, "encrypt"), plaintext);
  const encryptedSymmetricKey = base64(await wrapKey(contentKey, publicEncryptionKey));
  return JSON.stringify({
    v: 1,
    networkId,
    alg,
    keyVersion,
    encryptedSymmetricKey,
    encryptedSymmetricKeyHash: await canonicalHash(encryptedSymmetricKey),
    ciphertext: base64(concat(iv, new Uint8Array(sealed))),
    ...(label ? { aad: base64(label) } : {}),
    ...(metadata ? { metadata } : {}),
  });
}

/** @param {Bytes} stored untrusted @returns {Promise<Envelope>} an envelope whose key hash matches its key */
export async function parseEnvelope(stored) {
  if (stored.length > MAX_ENVELOPE_BYTES) throw broken("it is too long");
  let read;
  try {
    read = strictJson(text(stored));
  } catch {
    throw broken("it is no JSON");
  }
  const texts = ["networkId", "alg", "encryptedSymmetricKey", "encryptedSymmetricKeyHash", "ciphertext"];
  if (read?.v !== 1 || !Number.isSafeInteger(read.keyVersion) || !texts.every((one) => read[one] && typeof read[one] === "string")) {
    throw broken("a member is missing");
  }
  const { aad = "", metadata = {} } = read;
  if (!metadata || Array.isArray(metadata) || ![aad, ...Object.values(metadata)].every((one) => typeof one === "string")) {
    throw broken("a label is no text");
  }
  if (!/^urn:tinycloud:encryption:did:.+:[^:]+$/.test(read.networkId)) throw broken("it names no network");
  const isSound = fromBase64(read.encryptedSymmetricKey) && fromBase64(read.ciphertext);
  if (!isSound || (await canonicalHash(read.encryptedSymmetricKey)) !== read.encryptedSymmetricKeyHash) {
    throw broken("its key hash does not fit");
  }
  return read;
}

/** @param {Envelope} envelope @param {Bytes} contentKey @returns {Promise<Bytes>} the payload */
export async function openEnvelope({ ciphertext }, contentKey) {
  const sealed = fromBase64(ciphertext);
  if (contentKey.length !== KEY_BYTES || !sealed || sealed.length < NONCE_BYTES + TAG_BYTES) throw broken("it is too short");
  try {
    const iv = sealed.slice(0, NONCE_BYTES);
    const key = await aesKey(contentKey, "decrypt");
    return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, sealed.slice(NONCE_BYTES)));
  } catch (cause) {
    throw broken("the ciphertext does not open", cause);
  }
}
