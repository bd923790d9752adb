/** Encryption networks: fetching the key to seal to, sealing, and opening with the node's help. */

import { base64, base64url, fromBase64, hex, random, sha256, utf8 } from "./bytes.js";
import { canonicalBytes, canonicalHash } from "./canonical_json.js";
import { tokenCid } from "./cid.js";
import { canonicalNetwork, ed25519Key, networkId } from "./did.js";
import { newReceiver, openEnvelope, parseEnvelope, rawKey, sealEnvelope, unwrapKey } from "./envelope.js";
import { ConsoleError } from "./errors.js";
import { keep, rows } from "./session.js";
import { exchange, jsonOf, malformed, pathSegment, requireSuccess } from "./transport.js";

/**
 * @import { Client } from "./client.js"
 * @import { Bytes } from "./bytes.js"
 * @typedef {import("./envelope.js").Recipient & { state: string }} Descriptor
 */

export const ALGORITHM = "x25519-aes256gcm/v1";
const DECRYPT = "tinycloud.encryption/decrypt";
const DECRYPT_TYPE = "tinycloud.encryption.decrypt/v1";
const MAX_BYTES = 64 * 1024;

/** @param {string} network id @param {string} [leaf] @returns {string} */
export const networkPath = (network, leaf) =>
  `/encryption/networks/${pathSegment(network)}${leaf === undefined ? "" : `/${leaf}`}`;

/** @param {string} did of a node @param {import("./canonical_json.js").Json} said untrusted @param {unknown} signature base64, over its canonical text @returns {Promise<boolean>} */
export async function isSignedBy(did, said, signature) {
  const [key, bytes] = [ed25519Key(did), fromBase64(signature)];
  if (!key || bytes?.length !== 64) return false;
  let signed;
  try {
    signed = canonicalBytes(said);
  } catch {
    return false; // a value without canonical text cannot have been signed
  }
  const verifier = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", verifier, bytes, signed);
}

/**
 * Fetch a network's descriptor, which the node signs for a fresh nonce, and pin its key in the session.
 * @param {Client} client @param {string} network id @returns {Promise<Descriptor>}
 */
export async function descriptor(client, network) {
  const cached = client.cache.get(network);
  if (cached) return cached;
  await client.checkNode();
  const { session } = client;
  const [nonce, asked] = [base64url(random(32)), "the key of the network"];
  const path = `${networkPath(network)}?nonce=${nonce}`;
  const answer = await exchange({ path, repeatable: true, maxBytes: MAX_BYTES, asked });
  if (answer.status === 404) throw new ConsoleError("network-not-found", `no network ${network} on this node`);
  const { descriptor: read, nodeSignature } = jsonOf(requireSuccess(answer)) ?? {};
  const { alg, keyVersion, state, publicEncryptionKey } = read ?? {};
  const key = fromBase64(publicEncryptionKey);
  if (read?.networkId !== network || alg !== ALGORITHM || !Number.isSafeInteger(keyVersion) || key?.length !== 32) {
    throw malformed(asked, "it describes no such network");
  }
  if (nodeSignature === undefined) throw new ConsoleError("descriptor-unsigned", "the node did not sign the network's key");
  const type = "sealspace.encryption.descriptor/v1";
  const signed = { type, node: session.node, network, publicEncryptionKey, alg, keyVersion, state, nonce };
  if (!(await isSignedBy(session.node, signed, nodeSignature))) {
    throw new ConsoleError("answer-untrusted", "the node's signature over the network's key does not hold");
  }
  const pinned = () => session.pins.find((one) => one.network === network);
  if (!pinned()) {
    session.pins.push({ network, publicEncryptionKey, keyVersion });
    await keep(session); // if another tab pinned a key first, its pin is kept
  }
  const pin = /** @type {import("./session.js").Pin} */ (pinned());
  if (pin.publicEncryptionKey !== publicEncryptionKey || pin.keyVersion !== keyVersion) {
    const hint = "seal nothing until the node's operator has said why the key changed; if it is right, sign in anew";
    throw new ConsoleError("network-key-changed", `the key of ${network} changed`, {
      hint,
      details: { pinned: await fingerprint(fromBase64(pin.publicEncryptionKey)), offered: await fingerprint(key) },
    });
  }
  if (state !== "active" && state !== "rotating") {
    throw new ConsoleError("network-not-active", `the network is not active (state: ${state})`, { details: { state } });
  }
  const found = { networkId: network, publicEncryptionKey: key, alg, keyVersion, state };
  client.cache.set(network, found);
  return found;
}

/** @param {Bytes | null} key @returns {Promise<string>} 16 hex digits, for people to compare */
export const fingerprint = async (key) => (key ? hex(await sha256(key)).slice(0, 16) : "");

/** @param {Client} client @param {string} [name] @returns {Promise<Descriptor>} the owner's network, created if missing */
export async function ensureNetwork(client, name = "default") {
  const { owner, node } = client.session;
  const network = networkId(owner, name);
  try {
    return await descriptor(client, network);
  } catch (error) {
    if (!(error instanceof ConsoleError) || error.code !== "network-not-found") throw error;
  }
  const action = "tinycloud.encryption/network.create";
  const body = { name, ownerDid: owner, threshold: { n: 1, t: 1 } };
  const type = "tinycloud.encryption.network-admin/v1";
  const fact = { type, targetNode: node, networkId: network, bodyHash: await canonicalHash(body), action };
  try {
    await client.sendJson(rows(network, [action]), "POST", "/encryption/networks", body, { facts: [fact] });
  } catch (error) {
    // Another session of the owner created it first; read its descriptor.
    if (!(error instanceof ConsoleError) || error.details.text !== "network already exists") throw error;
  }
  return descriptor(client, network);
}

/**
 * Which paths stored the content key of an envelope (RL23).
 * @param {Client} client of the network's owner @param {string} network id @param {Bytes} stored the envelope @returns {Promise<(string | null)[]>} at most two, the first one first; null: unknown now
 */
export async function pathsOf(client, network, stored) {
  const wrapped = fromBase64((await parseEnvelope(stored)).encryptedSymmetricKey);
  const path = `${networkPath(network, "paths")}?key=${base64url(wrapped ?? new Uint8Array())}`;
  const { paths } = jsonOf(await client.invoke(rows(network, [DECRYPT]), { method: "GET", path, repeatable: true })) ?? {};
  const isPath = (/** @type {unknown} */ one) => one === null || typeof one === "string";
  if (!Array.isArray(paths) || paths.length > 2 || !paths.every(isPath)) throw malformed("the paths of a sealed value", "it is no list of paths");
  return paths;
}

/**
 * Seal a payload in the browser; needs no authority.
 * @param {Client} client @param {string} network id @param {Bytes} plaintext
 * @param {{ label?: Bytes, metadata?: {[name: string]: string} }} [labels] @returns {Promise<string>}
 */
export const encrypt = async (client, network, plaintext, labels) =>
  sealEnvelope(await descriptor(client, network), plaintext, labels);

/**
 * Open an envelope with the node's help. The node rewraps the content key; the payload never leaves the browser.
 * @param {Client} client @param {Bytes} stored an envelope @param {{ expectedLabel?: Bytes }} [more]
 * @returns {Promise<Bytes>} the payload; opened only after every member of the node's answer was checked
 */
export const decrypt = async (client, stored, more) => (await decryptWithKey(client, stored, more)).plaintext;

/** Open an envelope as `decrypt` does, and return its content key too. @param {Client} client @param {Bytes} stored @param {{ expectedLabel?: Bytes }} [more] @returns {Promise<{ plaintext: Bytes, contentKey: Bytes }>} */
export async function decryptWithKey(client, stored, { expectedLabel } = {}) {
  const envelope = await parseEnvelope(stored);
  const network = canonicalNetwork(envelope.networkId); // the node echoes the canonical id
  if (expectedLabel && envelope.aad !== undefined && envelope.aad !== base64(expectedLabel)) {
    throw new ConsoleError("label-mismatch", "the envelope was sealed for another place");
  }
  await descriptor(client, network);
  const receiver = await newReceiver();
  const { alg, keyVersion, encryptedSymmetricKey } = envelope;
  const receiverPublicKey = base64(await rawKey(receiver.publicKey));
  const shared = {
    targetNode: client.session.node,
    networkId: network,
    alg,
    keyVersion,
    encryptedSymmetricKeyHash: await canonicalHash(encryptedSymmetricKey),
    receiverPublicKeyHash: await canonicalHash(receiverPublicKey),
  };
  const body = { type: DECRYPT_TYPE, ...shared, encryptedSymmetricKey, receiverPublicKey };
  const bodyHash = await canonicalHash(body);
  let sent = "";
  const answer = await client.call(rows(network, [DECRYPT]), {
    path: networkPath(network, "decrypt"),
    headers: { "Content-Type": "application/json" },
    body: canonicalBytes(body),
    facts: [{ type: DECRYPT_TYPE, bodyHash, ...shared }],
    minted: (token) => (sent = token),
    repeatable: true,
    maxBytes: MAX_BYTES,
  });
  if (answer.status === 401 || answer.status === 403 || answer.status === 404) client.cache.delete(network);
  try {
    requireSuccess(answer);
  } catch (error) {
    if (!(error instanceof ConsoleError)) throw error;
    if (answer.status === 404) throw new ConsoleError("network-not-found", `no network ${network} on this node`);
    if (answer.status !== 401 && answer.status !== 403) throw error;
    const message = error.details.text || error.message;
    throw new ConsoleError("decrypt-refused", `the node refuses to open it: ${message}`, { hint: error.hint, details: error.details });
  }
  const wrapped = await verifiedKey(jsonOf(answer), shared, tokenCid(sent), bodyHash);
  const contentKey = await unwrapKey(receiver.privateKey, wrapped);
  return { plaintext: await openEnvelope(envelope, contentKey), contentKey };
}

/**
 * @param {any} answer untrusted @param {{ targetNode: string, networkId: string, [name: string]: unknown }} asked
 * @param {string} invocationCid computed in the browser @param {string} bodyHash @returns {Promise<Bytes>} the wrapped key
 */
async function verifiedKey(answer, asked, invocationCid, bodyHash) {
  /** @param {string} why */
  const untrusted = (why) => new ConsoleError("answer-untrusted", `the node's answer cannot be trusted: ${why}`);
  if (answer?.type !== "tinycloud.encryption.decrypt-result/v1") throw untrusted("it is no result");
  const requestHash = hex(await sha256(utf8(invocationCid + bodyHash)));
  const expected = { ...asked, nodeId: asked.targetNode, invocationCid, requestHash };
  for (const [member, value] of Object.entries(expected)) {
    if (answer[member] !== value) throw untrusted(`its ${member} belongs to another request`);
  }
  const { nodeSignature, ...signed } = answer;
  if (!(await isSignedBy(asked.targetNode, signed, nodeSignature))) throw untrusted("its signature does not hold");
  const wrapped = fromBase64(answer.wrappedKey);
  if (!wrapped) throw untrusted("it holds no key");
  return wrapped;
}
