/** Values that do not state their place: finding them, and binding them to the name under which they are stored (CN14). */

import { hex, sha256, utf8 } from "./bytes.js";
import { principalOf, spaceId } from "./did.js";
import { encrypt, pathsOf } from "./encryption.js";
import { parseEnvelope } from "./envelope.js";
import { ConsoleError } from "./errors.js";
import * as grants from "./grants.js";
import * as kv from "./kv.js";
import { NOTES, placeOf } from "./places.js";
import { encodedPayload, labelOf, lastChanges, METADATA, noteAt, openedWhole, PROTECTED, spaceOf } from "./secrets.js";
import { renewCopies } from "./shares.js";

/**
 * @import { Bytes } from "./bytes.js"
 * @import { Client } from "./client.js"
 * @import { SecretName } from "./secrets.js"
 * @typedef {{ value: SecretName, isBound: boolean, etag: string, problem: ConsoleError | null, twins: string[], storedAt: string, writers: string[] }} Checked a secret's value, or a
 *   note with the label of its secret; `problem`: why it is refused; `twins`: paths at which the same sealed value, or one with the same content key, is stored too;
 *   `storedAt`: as the node states it, or empty; `writers`: DIDs of others who may write it now. The last two are not filled for bound values
 */

const AT_ONCE = 8;
const MOST_ENVELOPES = 32; // of 2 MiB each, in one answer
/** Errors that are about one value; others end the check. */
const OF_A_VALUE = ["envelope-broken", "label-mismatch", "place-mismatch", "payload-broken", "decrypt-refused", "network-not-found"];

/** @param {SecretName} value */
export const isNote = ({ path }) => path.startsWith(NOTES);

/** @param {SecretName} secret @returns {boolean} whether only a runner can open it, so that the runner binds it */
export const isOfRunner = ({ name }) => name.startsWith(PROTECTED);

/** @param {SecretName} secret @returns {SecretName[]} its value and its note */
const both = (secret) => [secret, ...(secret.hasNote ? [noteAt(secret)] : [])];

/** @param {string | Bytes} part of an envelope, or its content key */
const markOf = async (part) => hex(await sha256(typeof part === "string" ? utf8(part) : part));

/**
 * What shows a copied envelope: without its content key nobody can make another wrapped key or another ciphertext of it.
 * @param {Bytes} stored untrusted @returns {Promise<string[]>} digests; empty: it is not an envelope
 */
async function marksOf(stored) {
  const envelope = await parseEnvelope(stored).catch(() => null);
  return envelope ? Promise.all([envelope.encryptedSymmetricKey, envelope.ciphertext].map(markOf)) : [];
}

/**
 * Open values, and find out which of them do not state their place. Each opening has a receipt.
 * @param {Client} client @param {SecretName[]} all the owner's secrets, with which the sealed values are compared @param {SecretName[]} wanted the secrets whose values and notes are opened
 * @param {(done: number, all: number) => void} moved @returns {Promise<Checked[]>} the values in this order, without those deleted meanwhile
 */
export async function check(client, all, wanted, moved) {
  /** @type {Map<string, Set<string>>} paths by mark */
  const paths = new Map();
  const note = (/** @type {string[]} */ marks, /** @type {string} */ path) => marks.forEach((mark) => paths.set(mark, (paths.get(mark) ?? new Set()).add(path)));
  const stored = all.flatMap(both).map(({ path }) => path);
  for (let from = 0; from < stored.length; from += MOST_ENVELOPES) {
    for (const [path, { body }] of await kv.getMany(client, spaceOf(client), stored.slice(from, from + MOST_ENVELOPES))) note(await marksOf(body), path);
  }
  /** @type {Map<string, string[]>} other paths that stored the same content key, by path: a former value is still a secret */
  const recorded = new Map();
  const prefix = `${spaceOf(client)}/kv/`;
  const others = (/** @type {(string | null)[]} */ found, /** @type {string} */ path) =>
    found.length ? found.filter((one) => one !== prefix + path).map((one) => (one ? one.replace(prefix, "") : "a path that is unknown now")) : ["a path that the node did not record"];
  const open = async (/** @type {SecretName} */ value) => {
    try {
      const { secret, stored: { body, etag }, contentKey, network } = await openedWhole(client, value);
      const marks = [...(await marksOf(body)), await markOf(contentKey)];
      note(marks, value.path);
      if (!secret.isBound) recorded.set(value.path, others(await pathsOf(client, network, body), value.path));
      return { value, isBound: secret.isBound, etag, problem: null, marks };
    } catch (error) {
      if (!(error instanceof ConsoleError) || ![...OF_A_VALUE, "not-found"].includes(error.code)) throw error;
      return error.code === "not-found" ? null : { value, isBound: false, etag: "", problem: error, marks: [] };
    }
  };
  const values = wanted.flatMap((one) => both(one).filter((value) => !isOfRunner(value)));
  const opened = [];
  for (let from = 0; from < values.length; from += AT_ONCE) {
    moved(from, values.length);
    opened.push(...(await Promise.all(values.slice(from, from + AT_ONCE).map(open))));
  }
  const found = opened.flatMap((one) => one ?? []);
  const listed = found.filter(({ isBound }) => !isBound).map(({ value }) => value.path);
  const [writers, times] = listed.length ? await Promise.all([writersOf(client, listed), lastChanges(client, listed)]) : [new Map(), new Map()];
  return found.map(({ marks, ...one }) => {
    const { path } = one.value;
    const twins = new Set([...marks.flatMap((mark) => [...(paths.get(mark) ?? [])]), ...(recorded.get(path) ?? [])]);
    twins.delete(path);
    return { ...one, twins: [...twins].sort(), storedAt: times.get(path) ?? "", writers: writers.get(path) ?? [] };
  });
}

/** Who else may write values, by live grants. @param {Client} client @param {string[]} paths @returns {Promise<Map<string, string[]>>} DIDs by path */
async function writersOf(client, paths) {
  const { owner } = client.session;
  const asked = /** @type {const} */ (["active", "pending"]).map((status) => grants.list(client, { direction: "granted", status, derived: true }));
  const live = (await Promise.all(asked)).flat();
  const sessions = new Set(live.filter((one) => one.isSession && one.delegator === owner).map((one) => one.delegate));
  const others = live.filter(({ delegate }) => principalOf(delegate) !== owner && !sessions.has(delegate));
  const at = (/** @type {string} */ path) => others.filter((one) => grants.gives(one, "tinycloud.kv/put", `${spaceId(owner, "secrets")}/kv/${path}`));
  return new Map(paths.map((path) => [path, [...new Set(at(path).map(({ delegate }) => delegate))]]));
}

/**
 * Store an unbound value again with its place, and renew the copies that people have (SH6). All other members of its plaintext stay, but the time of the change.
 * @param {Client} client @param {Checked} checked without a problem and without twins
 * @returns {Promise<void>} ConsoleError `conflict`: it was changed since it was checked; `copies-stale`: call it again
 */
export async function bind(client, { value, etag, problem, twins }) {
  if (problem || twins.length) throw problem ?? new ConsoleError("place-mismatch", `the sealed value of ${value.label} is stored elsewhere too`);
  const { secret, payload, network } = await openedWhole(client, value);
  if (!secret.isBound) {
    const bound = encodedPayload({ ...payload, updatedAt: new Date().toISOString(), place: placeOf(spaceOf(client), value.path) });
    const envelope = await encrypt(client, network, bound, { label: labelOf(client, value), metadata: METADATA });
    // On condition of the version that was checked, which may be older than the one that was just opened.
    await kv.put(client, spaceOf(client), value.path, envelope, { ifMatch: etag });
  }
  if (!isNote(value)) await renewCopies(client, [{ secret: value, value: secret.value }]);
}
