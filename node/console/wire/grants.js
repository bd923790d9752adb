// @ts-check
/** Grants: who holds what until when, granting by a manifest, revoking. */

import { tokenCid } from "./cid.js";
import { addressOf, checksummed, isDid, networkId, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { distinctCapabilities } from "./recap.js";
import { DECRYPT, contains, finalRights, isFolder, readsSecret, rightOf, secretOf } from "./rights.js";
import { addRights, nowS, proofsFor, register, rootOf, rows, sessionToken } from "./session.js";
import { isoTime } from "./siwe.js";
import { jsonOf, malformed } from "./transport.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./recap.js").Capability} Capability
 * @typedef {{ cid: string, direction: "granted" | "received", delegator: string, delegate: string,
 *   rights: { resource: string, abilities: string[], isConditioned: boolean }[], parents: string[], issuedAt: string | null,
 *   expiresAt: string | null, standing: "active" | "pending" | "expired" | "revoked" | "ancestor_revoked",
 *   revokedAt: string | null, isSession: boolean }} Grant times in RFC 3339; `isSession`: a sign-in of the owner, also this one
 * @typedef {{ cid: string, did: string, capabilities: Capability[], expiresAt: number, portable: string }} Granted
 *   `portable` is the text for the recipient
 */

const MARGIN_S = 60;
const MAX_PAGES = 1000;

/** @param {unknown} one */
const isText = (one) => typeof one === "string";

/** @param {any} one */
const isRight = (one) => isText(one?.resource) && Array.isArray(one.actions) && one.actions.every(isText) &&
  Array.isArray(one.caveats) && one.caveats.every((/** @type {unknown} */ caveat) => caveat !== null && typeof caveat === "object");

/** @param {any} one @param {string} asked @returns {Grant} */
function grantOf(one, asked) {
  const texts = [one?.cid, one?.delegatorDid, one?.delegateDid, one?.status];
  const times = [one?.issuedAt, one?.expiresAt, one?.revokedAt].filter((time) => time !== undefined && time !== null);
  const lists = [one?.resources, one?.parents].every(Array.isArray);
  if (![...texts, ...times].every(isText) || !lists || !one.resources.every(isRight) || !one.parents.every(isText)) {
    throw malformed(asked, "it is no delegation");
  }
  const rights = one.resources.map((/** @type {any} */ { resource, actions, caveats }) => ({
    resource,
    abilities: actions,
    isConditioned: caveats.some((/** @type {object} */ caveat) => Object.keys(caveat).length > 0),
  }));
  const isSession = rights.some((/** @type {{ abilities: string[] }} */ right) => right.abilities.includes("tinycloud.capabilities/read"));
  return {
    cid: one.cid,
    direction: one.direction,
    delegator: one.delegatorDid,
    delegate: one.delegateDid,
    rights,
    parents: one.parents,
    issuedAt: one.issuedAt ?? null,
    expiresAt: one.expiresAt ?? null,
    standing: one.status,
    revokedAt: one.revokedAt ?? null,
    isSession,
  };
}

/**
 * @param {Client} client
 * @param {{ direction?: "granted" | "received", status?: "active" | "pending" | "expired" | "revoked", space?: string }} [asked]
 * @returns {Promise<Grant[]>} of the owner's account, the latest issued first
 */
export async function list(client, asked = {}) {
  const wanted = rows(`${client.session.space}/delegation`, ["tinycloud.delegation/list"]);
  /** @type {Grant[]} */
  const found = [];
  /** @type {string | null} */
  let cursor = null;
  for (let page = 0; page < MAX_PAGES; page++) {
    const body = { ...asked, limit: 100, ...(cursor === null ? {} : { cursor }) };
    const answer = await client.sendJson(wanted, "POST", "/delegation/query", body, { repeatable: true });
    const read = jsonOf(answer);
    if (read?.schemaVersion !== 2 || !Array.isArray(read.items)) throw malformed(answer.asked, "it is no page of delegations");
    found.push(...read.items.map((/** @type {unknown} */ one) => grantOf(one, answer.asked)));
    if (typeof read.nextCursor !== "string") return found;
    if (read.nextCursor === cursor) break;
    cursor = read.nextCursor;
  }
  throw malformed("the delegations of the account", "the list does not advance");
}

/**
 * Whether a grant gives an ability on a resource, a network in any spelling (X7).
 * @param {Grant} grant @param {string} ability @param {string} resource canonical
 */
export const gives = (grant, ability, resource) => grant.rights.some(({ resource: held, abilities }) => {
  const [one, other] = [rightOf(held), rightOf(resource)];
  const isThere = one.space === other.space && one.service === other.service && contains(one.path, other.path);
  return isThere && (abilities.includes(ability) || abilities.includes(ability.replace(/\/.*/, "/*")));
});

/** Of which networks a grant opens something or reads what is sealed: true stands for `protected`, whose secrets' names say so (RN144). @param {Grant} grant @param {string} owner @returns {Set<boolean>} */
const opened = ({ rights }, owner) => new Set(rights.flatMap(({ resource, abilities }) => {
  const right = rightOf(resource, abilities);
  if (abilities.includes(DECRYPT) && rootOf(right.path) === owner) return [right.path === networkId(owner, "protected")];
  const secret = readsSecret(right, owner) ? secretOf(right) : null;
  return secret === null ? [] : isFolder(secret) ? [false, true] : [/(?:^|\/)PROTECTED_/.test(secret)];
}));

/** @param {Grant} grant @param {Client} client @returns {boolean} whether the owner ends it as the owner of a space in it, or as a party to it (W22) */
const isOwners = ({ rights, ...grant }, { session: { owner } }) => [grant.delegator, grant.delegate].some((did) => principalOf(did) === owner) ||
  rights.some(({ resource }) => resource.startsWith("tinycloud:") && rootOf(resource) === owner);

/**
 * Which grants end with one: the other live ones to its recipient that open what it opens, because a recipient that kept a sealed
 * value needs nothing but a right to decrypt. In place of what only another sign-in could end stands that sign-in.
 * @param {Client} client @param {Grant[]} all of `list` @param {Grant} grant @returns {Grant[]} the grant itself first
 */
export function endingWith(client, all, grant) {
  const { did, owner } = client.session;
  const networks = opened(grant, owner);
  const live = all.filter((one) => one.direction === "granted" && ["active", "pending"].includes(one.standing));
  const theirs = live.filter((one) => one.cid !== grant.cid && principalOf(one.delegate) === principalOf(grant.delegate) &&
    [...opened(one, owner)].some((network) => networks.has(network)));
  return [...new Set([grant, ...theirs].flatMap((one) => {
    const above = isOwners(one, client) || one.delegator === did ? [] : live.filter(({ cid, delegator }) => delegator === owner && one.parents.includes(cid));
    return above.length ? above : [one];
  }))];
}

const MOST_REVOKED = 32; // V5

/**
 * Revoke grants, up to 32 in one token: all of them or none; in force, for ever, when this returns. The session acts for its owner;
 * as the issuer it ends what it granted on a network alone.
 * @param {Client} client @param {Grant[]} grants of `list` @returns {Promise<void>}
 */
export async function revoke(client, grants) {
  const ability = "tinycloud.delegation/revoke";
  const { session } = client;
  const holds = session.grants.find(({ capabilities, expiresAt }) =>
    expiresAt > nowS() && capabilities.some((held) => held.ability === ability));
  const isIssuer = grants.every(({ delegator }) => delegator === session.did);
  const parts = isIssuer ? [grants] : [grants.filter((one) => isOwners(one, client)), grants.filter((one) => !isOwners(one, client))];
  for (const [at, part] of parts.entries()) {
    for (let from = 0; from < part.length; from += MOST_REVOKED) {
      const some = part.slice(from, from + MOST_REVOKED);
      const wanted = some.flatMap(({ cid }) => rows(`urn:cid:${cid}`, [ability]));
      const answer = await client.invoke(wanted, { path: "/revoke", proofs: holds && !isIssuer && at === 0 ? [holds.cid] : [], repeatable: true });
      const said = jsonOf(answer);
      const cids = some.length === 1 ? [said?.cid] : said?.cids;
      const isWhole = Array.isArray(cids) && cids.length === some.length && some.every(({ cid }) => cids.includes(cid));
      if (said?.revoked !== true || !isWhole) throw malformed(answer.asked, "it does not confirm the revocation");
    }
  }
}

/**
 * Grant with the session's key: no signature of a person. What the session lacks it has to get first (`addRights`).
 * @param {Client} client @param {string} did of the recipient @param {Capability[]} capabilities
 * @param {{ expiresS?: number, policy?: import("./canonical_json.js").Json }} [how] at most what is left of the session;
 *   the policy says what code may receive keys under the grant (spec/release.md): the node refuses a malformed one
 * @returns {Promise<Granted>}
 */
export async function grant(client, did, capabilities, { expiresS = 7 * 86400, policy } = {}) {
  const { session } = client;
  const recipient = principalOf(did);
  // Reading capabilities is what makes a session of the owner in person; it is granted to nobody else.
  const granted = distinctCapabilities(capabilities).filter(({ ability }) => !/^tinycloud\.(capabilities\/(read|\*)|\*)/.test(ability));
  if (!granted.length || !isDid(recipient) || !(expiresS > 0)) {
    throw new ConsoleError("invalid-input", "a grant names a DID, at least one right, and a time");
  }
  const { proofs, expiresAt: end } = proofsFor(session, granted);
  const left = (session.kind === "phrase" ? Infinity : end) - nowS();
  if (left < MARGIN_S) throw new ConsoleError("session-expired", "the session ends within a minute", { hint: "sign in again" });
  await client.checkNode();
  const facts = policy === undefined ? [] : [{ "sealspace.attestation/v1": policy }];
  const claims = { aud: recipient, capabilities: granted, proofs, facts, bare: true };
  // Whole seconds: a child must not outlive its parent by a rounding.
  const { token, expiresAt } = await sessionToken(session, { ...claims, expiresAt: Math.floor(nowS() + Math.min(expiresS, left)) });
  await register(token, granted);
  const made = { cid: tokenCid(token), did: recipient, capabilities: granted, expiresAt };
  return { ...made, portable: portableText(made, token, session.owner) };
}

/** @param {{ cid: string, did: string, capabilities: Capability[], expiresAt: number }} made @param {string} token @param {string} owner @returns {string} as other clients write it */
export function portableText({ cid, did, capabilities, expiresAt }, token, owner) {
  const resources = [...new Set(capabilities.map(({ resource }) => resource))].map((resource) => {
    const { service, ...right } = rightOf(resource, capabilities.filter((one) => one.resource === resource).map(({ ability }) => ability));
    return { service: service.slice("tinycloud.".length), space: right.space, path: right.path, actions: right.actions };
  });
  const space = resources.find((one) => one.space !== "encryption")?.space ?? spaceId(owner, "default");
  const address = addressOf(owner);
  const account = address ? { ownerAddress: checksummed(address), chainId: Number(owner.split(":")[3]) } : { ownerDID: owner };
  return JSON.stringify({
    cid,
    delegationHeader: { Authorization: token },
    spaceId: space,
    path: resources[0].path,
    actions: resources[0].actions,
    resources,
    disableSubDelegation: false,
    expiry: isoTime(expiresAt),
    delegateDID: did,
    ...account,
    host: location.origin,
  });
}

/**
 * Grant what a manifest's DID waits for, as far as it was chosen, in one delegation (MF12): at most one signature of the wallet
 * for what the session lacks.
 * @param {Client} client @param {import("./wallets.js").Owner | null} owner to sign what the session lacks; null: refuse it
 * @param {string} did of the recipient @param {import("./rights.js").Right[]} chosen of this owner alone
 * @param {{ expiresS: number, policy?: import("./canonical_json.js").Json }} how the shortest time asked for; as `grant`
 * @returns {Promise<Granted>}
 */
export async function approve(client, owner, did, chosen, how) {
  const { session } = client;
  const wanted = finalRights(session.owner, chosen).flatMap(({ resource, actions }) => rows(resource, actions));
  // W22: the other owner could revoke all of it.
  if (wanted.some(({ resource }) => rootOf(resource) !== session.owner)) throw new ConsoleError("invalid-input", "a grant names what is of one owner");
  try {
    proofsFor(session, wanted);
  } catch (error) {
    if (!(error instanceof ConsoleError) || !error.details.missing || !owner) throw error;
    await addRights(session, owner, error.details.missing);
  }
  return grant(client, did, wanted, how);
}
