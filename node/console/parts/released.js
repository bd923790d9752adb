/** All receipts of a network, and the names of the secrets that they are about (RC37). */
import { parseEnvelope } from "../wire/envelope.js";
import * as kv from "../wire/kv.js";
import * as receipts from "../wire/receipts.js";
import * as secrets from "../wire/secrets.js";

export const MOST_ROWS = 20_000;
const [MOST_VERSIONS, AT_ONCE] = [500, 8]; // secrets whose versions are read to find who stored them
const MOST_ENVELOPES = 2000; // read to name secrets by their keys; beyond, they are named by policies and grants

/**
 * @import { Client } from "../wire/client.js"
 * @import { Membership } from "../wire/memberships.js"
 * @import { Receipt } from "../wire/receipts.js"
 */

/** Read all pages of a list. @template T @param {(after: string | null) => Promise<{ found: T[], after: string | null }>} read @param {AbortSignal} signal @returns {Promise<{ found: T[], isAll: boolean }>} */
export async function allOf(read, signal) {
  /** @type {T[]} */
  const found = [];
  /** @type {string | null} */
  let after = null;
  do {
    /** @type {{ found: T[], after: string | null }} */
    const page = await read(after).catch((error) => {
      // The network is created with the owner's first secret; an earlier node records no fetches.
      if (error.code !== "not-found" && error.code !== "network-not-found") throw error;
      return { found: [], after: null };
    });
    found.push(...page.found);
    after = page.after;
  } while (after !== null && found.length < MOST_ROWS && !signal.aborted);
  return { found, isAll: after === null };
}

/**
 * All receipts of the owner's network.
 * @param {Client} client @param {AbortSignal} signal
 * @returns {Promise<{ found: { receipt: Receipt, key: string | null }[], isAll: boolean }>} the oldest first; `key`: digest of the released key
 */
export const releases = (client, signal) => allOf(async (after) => {
  const page = await receipts.list(client, { after });
  return { found: page.receipts.map((receipt, at) => ({ receipt, key: page.keys[at] })), after: page.after };
}, signal);

/**
 * The secrets that a member of a team opened or stored, or that were opened with a right that the member passed on.
 * @param {Client} client of an admin @param {Membership[]} memberships all of the member
 * @returns {Promise<{ labels: string[], unnamedCount: number, unreadCount: number, isAll: boolean }>} `labels` of secrets whose present value was opened, or of which the member
 *   stored a value; `unnamedCount`: receipts that name no secret any more; `unreadCount`: secrets whose versions were not read
 */
export async function knownBy(client, memberships) {
  const dids = new Set(memberships.map(({ did }) => did));
  const cids = new Set(memberships.map(({ cid }) => cid));
  const { found, isAll } = await releases(client, new AbortController().signal);
  // Members whom a removed admin had admitted depend on the same membership; what they opened is their own.
  const isTheirs = (/** @type {Receipt} */ { ground, member = "", chain }) => (ground === "member" ? dids.has(member) : chain.some((cid) => cids.has(cid)));
  const theirs = found.filter(({ receipt }) => isTheirs(receipt));
  const ofKeys = theirs.length ? await labelsOfKeys(client) : new Map();
  const opened = theirs.flatMap(({ key }) => ofKeys.get(key) ?? []);
  const { labels: stored, unreadCount } = await storedBy(client, dids);
  return { labels: [...new Set([...opened, ...stored])].sort(), unnamedCount: theirs.filter(({ key }) => !ofKeys.has(key)).length, unreadCount, isAll };
}

/** The secrets of which some people stored the present or a former value (M62). @param {Client} client @param {Set<string>} dids of wallets @returns {Promise<{ labels: string[], unreadCount: number }>} */
async function storedBy(client, dids) {
  const all = await secrets.list(client);
  const asked = all.slice(0, MOST_VERSIONS);
  /** @type {string[]} */
  const labels = [];
  for (let at = 0; at < asked.length; at += AT_ONCE) {
    await Promise.all(asked.slice(at, at + AT_ONCE).map(async ({ path, label }) => {
      const versions = await kv.versions(client, secrets.spaceOf(client), path).catch((error) => {
        if (error.code !== "not-found") throw error; // it was deleted meanwhile
        return [];
      });
      if (versions.some((one) => one.storedBy !== null && dids.has(one.storedBy))) labels.push(label);
    }));
  }
  return { labels, unreadCount: all.length - asked.length };
}

/** The secrets that have a key now, by the digest of the key (RC37); none if there are more than 2,000. @param {Client} client @returns {Promise<Map<string | null, string[]>>} */
export async function labelsOfKeys(client) {
  /** @type {Map<string | null, string[]>} */
  const found = new Map();
  const stored = new Map((await secrets.list(client)).map((one) => [one.path, one]));
  if (stored.size > MOST_ENVELOPES) return found;
  for (const [path, { body }] of await kv.getMany(client, secrets.spaceOf(client), [...stored.keys()])) {
    const digest = await parseEnvelope(body).then((one) => one.encryptedSymmetricKeyHash, () => null);
    if (digest !== null) found.set(digest, [...(found.get(digest) ?? []), String(stored.get(path)?.label)].sort());
  }
  return found;
}
