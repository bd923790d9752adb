/** Sharing secrets with people and teams, and ending it (spec/sharing.md). */

import { equal } from "./bytes.js";
import { networkId, principalOf, spaceId } from "./did.js";
import { descriptor, fingerprint } from "./encryption.js";
import { ConsoleError } from "./errors.js";
import { grantAsOwner, revoke } from "./grants.js";
import * as kv from "./kv.js";
import { ALL, opened, PROTECTED, removeListed, secretAt, spaceOf, version } from "./secrets.js";
import { nowS, rows } from "./session.js";
import { folderAt, folderOf, READ, removeAll, renewCopies, SHARED, sharesIn, signedShares, unbound } from "./shares.js";

/**
 * @import { Bytes } from "./bytes.js"
 * @import { Client } from "./client.js"
 * @import { Grant } from "./grants.js"
 * @import { Secret, SecretName } from "./secrets.js"
 * @import { Folder, Name, Signed } from "./shares.js"
 * @import { Owner } from "./wallets.js"
 * @typedef {{ key: Bytes, keyVersion: number }} Key
 * @typedef {{ secrets: SecretName[], did: string, team: string | null, expiresS: number }} Asked `secrets`: a new member of a team also gets those that the team has
 * @typedef {{ folder: Folder, fingerprint: string, isNew: boolean, secrets: SecretName[], unsigned: (Folder | Name)[], endsAt: number }} Plan what sharing takes:
 *   the key to seal to, all secrets that are copied, and the grants that the owner has to sign
 */

const ROUNDING_S = 2; // ends that other clients rounded to whole seconds
/** Names that runners set themselves (RN216); no client stores or shares secrets of these names. */
const RESERVED = /^(?:IEXEC_|SEALSPACE_|NEAR_|OUTLAYER_|ATTACHED_USD$|USD_PAYMENT$|WALLET_ID$)/;

/** @param {string} team @returns {boolean} */
export const isTeam = (team) => /^[a-z0-9][a-z0-9-]{0,63}$/.test(team);

/** @param {SecretName} secret @returns {boolean} whether it may be shared (SH2) */
export const isShareable = ({ name }) => !name.startsWith(PROTECTED) && !RESERVED.test(name);

/**
 * Find out what sharing takes. Nothing is written or signed.
 * @param {Client} client @param {Asked} asked
 * @returns {Promise<Plan>} ConsoleError `network-not-found`, `network-key-changed` (SH4), `not-found`: there is no such secret
 */
export async function plan(client, { secrets, did, team, expiresS }) {
  const { owner } = client.session;
  const place = folderOf(team, did);
  if (!place || place.did === owner) throw new ConsoleError("invalid-input", "a person is named by the DID of a wallet or a key other than your own");
  const signed = await signedShares(client);
  const all = sharesIn(signed);
  const { key, keyVersion } = await keyOf(client, place.did, all.flatMap(({ folder }) => (folder.did === place.did ? [folder] : [])));
  const folder = /** @type {Folder} */ (folderOf(team, did, key, keyVersion));
  const members = all.filter((one) => one.folder.group === folder.group);
  const isNew = !members.some((one) => one.folder.path === folder.path);
  const had = isNew && team ? members.flatMap((one) => one.secrets) : [];
  const wanted = [...new Map([...secrets, ...had].map((one) => [one.path, one])).values()];
  const refused = wanted.find((one) => !isShareable(one));
  if (refused) throw new ConsoleError("invalid-input", `${refused.label} opens only for attested programs, so it has no copies`);
  for (const { scope, name } of wanted) await version(client, scope, name);
  const held = signed.get(folder.path)?.grants[0];
  const endsAt = held ? held.expiresAt ?? Infinity : nowS() + expiresS;
  const isSigned = (/** @type {Name} */ { path }) => signed.get(path)?.grants.some(({ expiresAt }) => expiresAt === null || expiresAt >= endsAt - ROUNDING_S);
  const names = wanted.map((secret) => /** @type {Name} */ ({ kind: "name", path: folder.group + secret.path.slice(ALL.length), group: folder.group, secret }));
  return { folder, fingerprint: await fingerprint(key), isNew, secrets: wanted, endsAt, unsigned: [...(isNew ? [folder] : []), ...names.filter((one) => !isSigned(one))] };
}

/**
 * The key to seal to for a person (SH4): the same at the node and in every live grant.
 * @param {Client} client @param {string} did @param {Key[]} held keys in live grants @returns {Promise<Key>}
 */
async function keyOf(client, did, held) {
  let offered;
  try {
    const { publicEncryptionKey, keyVersion } = await descriptor(client, networkId(did));
    offered = { key: publicEncryptionKey, keyVersion };
  } catch (error) {
    if (!(error instanceof ConsoleError) || error.code !== "network-not-found") throw error;
    if (held.length) return held[0]; // the person's network is at another node
    throw new ConsoleError("person-unknown", `no network of ${did} on this node`);
  }
  const other = held.find(({ key, keyVersion }) => !equal(key, offered.key) || keyVersion !== offered.keyVersion);
  if (!other) return offered;
  throw new ConsoleError("network-key-changed", `the key of ${did} changed`, { details: { text: `${await fingerprint(other.key)} → ${await fingerprint(offered.key)}` } });
}

/**
 * Open the values to copy, and refuse those that do not state their place.
 * @param {Client} client @param {SecretName[]} secrets @returns {Promise<{ secret: SecretName, opened: Secret }[]>} ConsoleError `unbound-value`, `place-mismatch`
 */
export async function boundValues(client, secrets) {
  const found = [];
  for (const secret of secrets) {
    const value = await opened(client, secret);
    if (!value.isBound) throw unbound(secret);
    found.push({ secret, opened: value });
  }
  return found;
}

/**
 * Share secrets with a person who has an encryption network. Later values are shared too, by every client that keeps to SH6.
 * @param {Client} client @param {Owner | null} owner signs each new right; null: fail if there is one to sign @param {Asked} asked
 * @returns {Promise<Plan>} what was shared
 */
export async function share(client, owner, asked) {
  const before = await plan(client, asked);
  await boundValues(client, before.secrets); // before anything is signed or deleted
  // SH5: copies that an ended right left in the folder would be readable again with the new right.
  if (before.isNew) await unshare(client, { secrets: null, did: asked.did, team: asked.team });
  const all = sharesIn(await signedShares(client));
  if (before.isNew && asked.team && !all.some(({ folder }) => folder.group === before.folder.group)) await unshare(client, { secrets: null, did: null, team: asked.team });
  const { folder, unsigned, endsAt, secrets } = before.isNew ? await plan(client, { ...asked, secrets: before.secrets }) : before;
  for (const target of unsigned) {
    if (!owner) throw new ConsoleError("wallet-absent", "only the owner can sign the grant");
    const rights = rows(`${spaceId(client.session.owner, "secrets")}/kv/${target.path}`, READ);
    await grantAsOwner(client, owner, target.kind === "folder" ? target.did : client.session.owner, rights, { expiresS: endsAt - nowS() });
  }
  await copyAll(client, folder, secrets);
  return before;
}

/** Copy the values that are stored now; again, if one of them was replaced meanwhile (SH6). @param {Client} client @param {Folder} folder @param {SecretName[]} secrets */
async function copyAll(client, folder, secrets) {
  let copied = "";
  for (;;) {
    const entries = await boundValues(client, secrets);
    const versions = JSON.stringify(entries.map(({ opened }) => opened.etag));
    if (versions === copied) return;
    await renewCopies(client, entries.map(({ secret, opened }) => ({ secret, value: opened.value })), { only: folder.path });
    copied = versions;
  }
}

/**
 * End sharing: revoke the grants of names and folders, then delete the copies (SH5).
 * @param {Client} client
 * @param {{ secrets: SecretName[] | null, did: string | null, team: string | null }} asked `secrets`: null: all; without a person and a team: with everybody
 * @returns {Promise<string[]>} labels of the secrets of which copies were deleted
 */
export async function unshare(client, { secrets, did, team }) {
  const { owner } = client.session;
  const meant = folderOf(team, did ?? owner);
  if (!meant || (secrets && did && team)) throw new ConsoleError("invalid-input", "a team's secrets are for all its members");
  const prefix = did && team ? `${meant.group}${meant.did}/` : did || team ? meant.group : SHARED;
  const signed = await signedShares(client);
  const ending = secrets ? endingWith(signed, prefix, new Set(secrets.map(({ path }) => path))) : [...signed.values()].filter(({ target }) => target.path.startsWith(prefix));
  const grants = ending.flatMap((one) => one.grants.map(({ cid }) => /** @type {Grant} */ ({ cid, delegator: owner })));
  if (grants.length) await revoke(client, grants);
  const paths = [];
  const labels = new Set();
  for (const path of await kv.list(client, spaceOf(client), prefix)) {
    const [folder = ""] = /^.*\/[\w-]{43}(?:\.[0-9]{1,2})?\//.exec(path) ?? [];
    const secret = folderAt(folder) && secretAt(ALL + path.slice(folder.length));
    if (!secret || (secrets && !secrets.some((one) => one.path === secret.path))) continue;
    paths.push(path);
    labels.add(secret.label);
  }
  await removeAll(client, paths);
  return [...labels].sort();
}

/** What ends with some names: the names, and the right of a person alone whose last name it was. @param {Signed} signed @param {string} prefix @param {Set<string>} paths of the secrets */
function endingWith(signed, prefix, paths) {
  const all = [...signed.values()];
  const isEnding = (/** @type {Folder | Name} */ target) => target.kind === "name" && target.path.startsWith(prefix) && paths.has(target.secret.path);
  const left = new Set(all.flatMap(({ target }) => (target.kind === "name" && !isEnding(target) ? [target.group] : [])));
  const ended = new Set(all.flatMap(({ target }) => (isEnding(target) ? [target.group] : [])));
  return all.filter(({ target }) => isEnding(target) || (target.kind === "folder" && target.team === null && ended.has(target.group) && !left.has(target.group)));
}

/** Delete a listed secret, its note, and first its copies (SH6). @param {Client} client @param {SecretName} secret */
export async function removeWithCopies(client, secret) {
  await unshare(client, { secrets: [secret], did: null, team: null });
  await removeListed(client, secret);
}
