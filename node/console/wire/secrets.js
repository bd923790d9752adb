/** Secrets: named texts or bytes, sealed in the browser and stored in the owner's `secrets` space. */

import { base64, fromBase64, text, utf8 } from "./bytes.js";
import { strictJson } from "./canonical_json.js";
import { canonicalNetwork, networkId, ownerOfSpace, principalOf, spaceId } from "./did.js";
import { decryptWithKey, encrypt, ensureNetwork } from "./encryption.js";
import { MAX_ENVELOPE_BYTES, parseEnvelope } from "./envelope.js";
import { ConsoleError } from "./errors.js";
import * as kv from "./kv.js";
import { NOTES, placeOf, requirePlace } from "./places.js";
import { SECRETS_SPACE } from "./session.js";

/**
 * @import { Client } from "./client.js"
 * @typedef {{ scope: string | null, name: string, label: string, path: string, hasNote?: boolean }} SecretName
 * @typedef {{ value: string | Uint8Array<ArrayBuffer>, createdAt: string, updatedAt: string, etag: string, isBound: boolean }} Secret `isBound`: whether
 *   its plaintext states its place (EN45). Otherwise it may be another secret's value that somebody stored here
 */

export const ALL = "vault/secrets/";
const SCOPED = "vault/secrets/scoped/";
export const METADATA = {
  "x-vault-version": "2",
  "x-vault-cipher": "tinycloud-network-envelope",
  "x-vault-content-type": "application/json",
};
export const NAME_PATTERN = /^[A-Z][A-Z0-9_]*$/;
export const PROTECTED = "PROTECTED_";
export const MAX_SECRET_BYTES = 1024 * 1024;

/** @param {string} scope @returns {string} in lower case, with dashes for other characters */
export function canonicalScope(scope) {
  const canonical = scope.trim().toLowerCase().replace(/[^a-z0-9-]/gu, "-").replace(/-{2,}/g, "-").replace(/^-|-$/g, "");
  if (!canonical || canonical === "default" || canonical === "global") {
    throw new ConsoleError("invalid-input", "a scope has a letter or a digit, and is neither `default` nor `global`");
  }
  return canonical;
}

/** @param {string} text @returns {boolean} whether the text is a canonical scope, or empty */
export const isScope = (text) => /^(?!(?:default|global)$)[a-z0-9]+(?:-[a-z0-9]+)*$/.test(text) || !text;

/** @param {string | null} scope null: global @param {string} name @returns {SecretName} checked */
export function secretName(scope, name) {
  const trimmed = name.trim();
  if (!NAME_PATTERN.test(trimmed)) {
    const hint = "capital letters, digits and `_`, a letter first: `API_KEY`";
    throw new ConsoleError("invalid-input", "this is no name of a secret", { hint });
  }
  const canonical = scope === null ? null : canonicalScope(scope);
  const path = canonical === null ? ALL + trimmed : `${SCOPED}${canonical}/${trimmed}`;
  return { scope: canonical, name: trimmed, label: canonical === null ? trimmed : `${canonical}/${trimmed}`, path };
}

/** @param {string} path @returns {SecretName | null} the secret stored at the path; null if the path does not name one secret */
export function secretAt(path) {
  const [, scope = null, name] = /^vault\/secrets\/(?:scoped\/([a-z0-9-]+)\/)?([A-Z][A-Z0-9_]*)$/.exec(path) ?? [];
  return name === undefined ? null : { scope, name, label: scope === null ? name : `${scope}/${name}`, path };
}

/** @param {Client} client @returns {string} id of the owner's space of secrets */
export const spaceOf = ({ session }) => spaceId(session.owner, SECRETS_SPACE);

/** @param {Client} client @param {SecretName} secret @returns {import("./bytes.js").Bytes} of its envelope; nothing authenticates it */
export const labelOf = (client, { path }) => utf8(`tinycloud.vault:${spaceOf(client)}:${path.slice("vault/".length)}`);

/**
 * Notes are sealed values of their own, so that a program that may open a secret cannot read its note (EN33).
 * @param {SecretName} secret @returns {SecretName} with the path of its note
 */
export const noteAt = ({ label, path }) => ({ scope: null, name: "", label, path: NOTES + path.slice(ALL.length) });

/** @param {Client} client @returns {Promise<string[]>} the keys of all secrets; of a member whose membership lists its secrets, of those that exist */
async function keysOf(client) {
  const listed = client.session.member?.secrets ?? [];
  if (!listed.length) return kv.list(client, spaceOf(client), ALL);
  const paths = listed.map((label) => secretName(label.includes("/") ? label.split("/")[0] : null, label.slice(label.indexOf("/") + 1)).path);
  return [...(await kv.headMany(client, spaceOf(client), paths)).keys()];
}

/** @param {Client} client @returns {Promise<SecretName[]>} every secret, global ones first; one request per thousand */
export async function list(client) {
  const keys = await keysOf(client);
  const known = new Set(keys);
  const found = keys.flatMap((path) => secretAt(path) ?? []).map((one) => ({ ...one, hasNote: known.has(noteAt(one).path) }));
  return found.sort((one, other) => Number(one.scope !== null) - Number(other.scope !== null));
}

/** @param {Client} client @param {string | null} scope @param {string} name @returns {Promise<string>} its version */
export const version = async (client, scope, name) => (await kv.head(client, spaceOf(client), secretName(scope, name).path)).etag;

/**
 * Read when secrets were changed last, without opening them.
 * @param {Client} client @param {string[]} paths
 * @returns {Promise<Map<string, string>>} when the node stored them; without those that an earlier version stored
 */
export async function lastChanges(client, paths) {
  /** @type {Map<string, string>} */
  const times = new Map();
  for (const [path, headers] of await kv.headMany(client, spaceOf(client), paths)) {
    const when = headers.get("Last-Modified");
    if (when && Date.parse(when)) times.set(path, when);
  }
  return times;
}

/** @param {Client} client @param {string} path of a secret @returns {Promise<string | null>} the network to which it is sealed; null: unknown */
export async function networkOf(client, path) {
  try {
    const { body } = await kv.get(client, spaceOf(client), path, { maxBytes: MAX_ENVELOPE_BYTES });
    return canonicalNetwork((await parseEnvelope(body)).networkId);
  } catch (error) {
    if (error instanceof ConsoleError && ["envelope-broken", "not-found", "space-not-found"].includes(error.code)) return null;
    throw error;
  }
}

/** @param {string | Uint8Array<ArrayBuffer>} value @param {import("./places.js").Place} place where it will be stored (EN45) @returns {import("./bytes.js").Bytes} the plaintext of a secret (EN26) */
export function payloadOf(value, place) {
  const now = new Date().toISOString();
  const times = { createdAt: now, updatedAt: now };
  if (typeof value === "string") utf8(value);
  return encodedPayload(typeof value === "string" ? { value, ...times, place } : { value: base64(value), encoding: "base64", ...times, place });
}

/** @param {object} payload the members of a plaintext @returns {import("./bytes.js").Bytes} ConsoleError `too-large` */
export function encodedPayload(payload) {
  const encoded = utf8(JSON.stringify(payload));
  if (encoded.length > MAX_SECRET_BYTES) throw new ConsoleError("too-large", `a secret holds at most ${MAX_SECRET_BYTES} bytes`);
  return encoded;
}

/** @param {Client} client @param {SecretName} secret @param {string | Uint8Array<ArrayBuffer>} value @returns {Promise<string>} its envelope */
export async function sealed(client, secret, value) {
  if (secret.name.startsWith(PROTECTED)) { // RN140
    throw new ConsoleError("invalid-input", `${secret.label} begins with ${PROTECTED}: only a runner makes such secrets`);
  }
  const payload = payloadOf(value, placeOf(spaceOf(client), secret.path));
  await ensureNetwork(client);
  return encrypt(client, networkId(client.session.owner), payload, { label: labelOf(client, secret), metadata: METADATA });
}

/**
 * Seal and store a secret. The owner's network is created if missing.
 * @param {Client} client @param {string | null} scope @param {string} name @param {string | Uint8Array<ArrayBuffer>} value
 * @param {{ ifMatch?: string, ifAbsent?: boolean }} [conditions] @returns {Promise<string>} the version
 */
export async function put(client, scope, name, value, conditions) {
  const secret = secretName(scope, name);
  return kv.put(client, spaceOf(client), secret.path, await sealed(client, secret, value), conditions);
}

/**
 * Seal and store several secrets. Copies of shared ones keep the former value; `shares.putMany` renews them too.
 * @param {Client} client @param {{ scope: string | null, name: string, value: string }[]} secrets @returns {Promise<void>} as `kv.putMany`
 */
export async function putMany(client, secrets) {
  const named = secrets.map(({ scope, name, value }) => ({ secret: secretName(scope, name), value }));
  /** @type {Map<string, string>} */
  const values = new Map();
  for (const { secret, value } of named) values.set(secret.path, await sealed(client, secret, value));
  await kv.putMany(client, spaceOf(client), values);
}

/** @param {Client} client @param {string | null} scope @param {string} name @returns {Promise<Secret>} opened in person, with the node's help */
export const reveal = (client, scope, name) => opened(client, secretName(scope, name));

/** @param {Client} client @param {SecretName} secret @param {number} [version] of a former value @returns {Promise<Secret>} ConsoleError `place-mismatch`: it is another secret's */
export const opened = async (client, secret, version) => (await openedWhole(client, secret, version)).secret;

/**
 * Open a secret or a note, for what is stored again.
 * @param {Client} client @param {SecretName} name @param {number} [version] of a former value
 * @returns {Promise<{ secret: Secret, payload: {[member: string]: any}, stored: kv.Value, network: string, contentKey: import("./bytes.js").Bytes }>} `payload`: all members of the plaintext
 */
export async function openedWhole(client, name, version) {
  const stored = await kv.get(client, spaceOf(client), name.path, { maxBytes: MAX_ENVELOPE_BYTES, version });
  const network = await requireOwn(client, name, stored.body);
  const { plaintext, contentKey } = await decryptWithKey(client, stored.body, { expectedLabel: labelOf(client, name) });
  return { ...readPayload(plaintext, stored.etag, placeOf(spaceOf(client), name.path)), stored, network, contentKey };
}

/** Check that an envelope is sealed to a network of the owner. @param {Client} client @param {SecretName} secret @param {import("./bytes.js").Bytes} stored @returns {Promise<string>} the canonical id of the network */
export async function requireOwn(client, secret, stored) {
  const { networkId: network } = await parseEnvelope(stored);
  // Otherwise one owner's envelope, stored in another owner's space, would be opened and taken for the other owner's secret.
  if (principalOf(network.slice("urn:tinycloud:encryption:".length, network.lastIndexOf(":"))) !== ownerOfSpace(spaceOf(client))) {
    throw new ConsoleError("envelope-broken", `${secret.label} is sealed to another owner's network`);
  }
  return canonicalNetwork(network);
}

/** @param {Uint8Array} plaintext untrusted: everybody can seal to the public key of a network @param {string} etag @param {import("./places.js").Place} place where the envelope was found */
function readPayload(plaintext, etag, place) {
  const broken = () => new ConsoleError("payload-broken", "what is sealed there is no secret"); // do not quote the payload
  let payload;
  try {
    payload = strictJson(text(plaintext));
  } catch {
    throw broken();
  }
  const { value, encoding, createdAt, updatedAt, place: stated } = payload ?? {};
  if (![value, createdAt, updatedAt].every((one) => typeof one === "string")) throw broken();
  const isBound = stated !== undefined;
  if (isBound) requirePlace(stated, place);
  const bytes = encoding === "base64" ? fromBase64(value) : null;
  if (encoding !== undefined && !bytes) throw broken();
  return { payload, secret: { value: bytes ?? value, createdAt, updatedAt, etag, isBound } };
}

/** Delete a listed secret together with its note. @param {Client} client @param {SecretName} secret */
export const removeListed = (client, secret) =>
  kv.removeAll(client, spaceOf(client), [secret.path, ...(secret.hasNote ? [noteAt(secret).path] : [])]);

/** @param {Client} client @param {SecretName} secret @returns {Promise<{ text: string, etag: string, isBound: boolean } | null>} its note; null: none */
export async function noteOf(client, secret) {
  try {
    const { value, etag, isBound } = await opened(client, noteAt(secret));
    return { text: typeof value === "string" ? value : "", etag, isBound };
  } catch (error) {
    if (error instanceof ConsoleError && error.code === "not-found") return null;
    throw error;
  }
}

/**
 * Seal and store the note of a secret; an empty text deletes it.
 * @param {Client} client @param {SecretName} secret @param {string} text @param {string | null} etag of the note that it replaces; null: of none
 */
export async function putNote(client, secret, text, etag) {
  const [note, conditions] = [noteAt(secret), etag === null ? { ifAbsent: true } : { ifMatch: etag }];
  if (text) await kv.put(client, spaceOf(client), note.path, await sealed(client, note, text), conditions);
  else if (etag !== null) await kv.remove(client, spaceOf(client), note.path, { ifMatch: etag });
}
