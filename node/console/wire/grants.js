// @ts-check
/** Grants: who holds what until when, granting by a manifest, revoking. */

import { tokenCid } from "./cid.js";
import { addressOf, canonicalNetwork, checksummed, networkId, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { distinctCapabilities } from "./recap.js";
import { addRights, nowS, proofsFor, register, rootOf, rows, sessionToken, spaceOfResource } from "./session.js";
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
 * Revoke a grant; in force, for ever, when this returns. What this session granted it revokes as the issuer, all else
 * for the owner of a space in it. A grant of another session on a network alone ends with that session: revoke that.
 * @param {Client} client @param {{ cid: string, delegator: string }} grant of `list` @returns {Promise<void>}
 */
export async function revoke(client, { cid, delegator }) {
  const ability = "tinycloud.delegation/revoke";
  const holds = client.session.grants.find(({ capabilities, expiresAt }) =>
    expiresAt > nowS() && capabilities.some((held) => held.ability === ability));
  const proofs = holds && delegator !== client.session.did ? [holds.cid] : [];
  const answer = await client.invoke([{ resource: `urn:cid:${cid}`, ability }], { path: "/revoke", proofs, repeatable: true });
  const said = jsonOf(answer);
  if (said?.revoked !== true || said.cid !== cid) throw malformed(answer.asked, "it does not confirm the revocation");
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
  if (!granted.length || !/^did:[a-z0-9]+:[!-~]+$/.test(recipient) || !(expiresS > 0)) {
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
    const actions = capabilities.filter((one) => one.resource === resource).map(({ ability }) => ability);
    const [, service, path = ""] = /^[^/]+\/([^/]+)(?:\/(.*))?$/.exec(resource) ?? [];
    if (!resource.startsWith("tinycloud:")) return { service: "encryption", space: "encryption", path: resource, actions };
    return { service, space: spaceOfResource(resource), path, actions };
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
 * Grant what a manifest's DID waits for, as far as it was chosen: at most one signature of the wallet for what the
 * session lacks, then a delegation for each space, which the owner of another space cannot revoke.
 * @param {Client} client @param {import("./wallets.js").Owner | null} owner to sign what the session lacks; null: refuse it
 * @param {import("./manifest.js").Manifest} manifest with a `did`
 * @param {import("./manifest.js").Resource[]} chosen of `manifest.resources`
 * @param {{ expiresS?: number, policy?: import("./canonical_json.js").Json }} [how] at most what the manifest asks; as `grant`
 * @returns {Promise<Granted[]>}
 */
export async function approve(client, owner, manifest, chosen, { expiresS = Infinity, policy } = {}) {
  if (!manifest.did) throw new ConsoleError("manifest-invalid", "the manifest names no DID to grant to", { hint: "its developer adds `did`" });
  const { session } = client;
  /** @type {Map<string, { capabilities: Capability[], expiresS: number }>} */
  const groups = new Map();
  const reads = chosen.some((one) => one.space === "secrets" && one.actions.includes("tinycloud.kv/get"));
  const network = { service: "tinycloud.encryption", space: "encryption", path: networkId(session.owner), actions: ["tinycloud.encryption/decrypt"], expiryMs: null };
  for (const one of reads ? [...chosen, network] : chosen) {
    const service = one.service.replace("tinycloud.", "");
    const root = `${spaceId(session.owner, one.space)}/${service}`;
    const resource = service === "encryption" ? canonicalNetwork(one.path) : ["", "/"].includes(one.path) ? root : `${root}/${one.path}`;
    const life = Math.min(expiresS, (one.expiryMs ?? Infinity) / 1000, manifest.expiryMs / 1000);
    const place = service === "encryption" ? rootOf(resource) : spaceOfResource(resource);
    const group = groups.get(`${place} ${life}`) ?? { capabilities: [], expiresS: life };
    group.capabilities.push(...rows(resource, one.actions.filter((ability) => ability !== "tinycloud.capabilities/read")));
    if (group.capabilities.length) groups.set(`${place} ${life}`, group);
  }
  const wanted = [...groups.values()].flatMap(({ capabilities }) => capabilities);
  if (!wanted.length) throw new ConsoleError("invalid-input", "nothing was chosen that can be granted");
  try {
    proofsFor(session, wanted);
  } catch (error) {
    if (!(error instanceof ConsoleError) || !error.details.missing || !owner) throw error;
    await addRights(session, owner, error.details.missing);
  }
  const made = [];
  for (const { capabilities, expiresS: life } of groups.values()) {
    made.push(await grant(client, manifest.did, capabilities, { expiresS: life, policy }));
  }
  return made;
}

export const MOST_BUNDLED = 32;

/** @param {Granted[]} made 1 to `MOST_BUNDLED`, for one recipient @returns {string} one text for it, as other clients write it */
export const bundle = (made) => made.length === 1 ? made[0].portable
  : JSON.stringify({ format: "listen.delegation-bundle", version: 1, delegations: made.map(({ portable }) => portable) });
