/** Grants: listing them, granting what a manifest requests, and revoking. */

import { parseRunStatement } from "./builds.js";
import { base64url, fromBase64, fromBase64url, text as textOfBytes } from "./bytes.js";
import { decodeCbor } from "./cacao.js";
import { canonicalBytes, isObject, strictJson } from "./canonical_json.js";
import { tokenCid } from "./cid.js";
import { addressOf, canonicalNetwork, checksummed, isDid, networkId, ownerOfSpace, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { distinctCapabilities } from "./recap.js";
import { secretAt } from "./secrets.js";
import { addRights, nowS, proofsFor, register, requireHosted, rootOf, rows, sessionToken, walletToken } from "./session.js";
import { isoTime } from "./siwe.js";
import { jsonOf, malformed } from "./transport.js";

/**
 * @import { Client } from "./client.js"
 * @import { Capability } from "./recap.js"
 * @import { RunStatement } from "./builds.js"
 * @typedef {{ resource: string, service: string, space: string, path: string, actions: string[] }} Right `service` and `actions` in full
 * @typedef {{ cid: string, direction: "granted" | "received", delegator: string, delegate: string,
 *   rights: { resource: string, abilities: string[], isConditioned: boolean }[], parents: string[], issuedAt: string | null,
 *   expiresAt: string | null, standing: "active" | "pending" | "expired" | "revoked" | "ancestor_revoked",
 *   revokedAt: string | null, isSession: boolean }} Grant times in RFC 3339; `isSession`: a sign-in of the owner, including this one
 * @typedef {{ cid: string, did: string, capabilities: Capability[], expiresAt: number, portable: string }} Granted
 *   `portable` is the text for the recipient
 * @typedef {{ name: string, code: unknown, hasCode: boolean, policies: unknown[], run?: RunStatement, machine?: "token" | "trust" | "member", isUnbound: boolean }} Stated `name`: of the app, machine token, trust or member, empty if none; `code`: names of the code, unchecked; `policies`: on code, as
 *   signed; `run`: the terms of a run grant; `isUnbound`: whether its recipient may use values that do not state their place (CN15)
 * @typedef {{ did: string, team?: string, until: string | null }} Reader a person with a copy of a secret
 */

const MARGIN_S = 60;
const MAX_PAGES = 1000;
const APP_FACT = "sealspace.app/v1";
const MOST_NAME_CHARS = 60;
const POLICY_FACT = "sealspace.attestation/v1";
const RUN_FACT = "sealspace.run/v1";
const MACHINE_FACT = "sealspace.machine/v1";
const TRUST_FACT = "sealspace.oidc/v1";
const MEMBER_FACT = "sealspace.member/v1";
const VALUES_FACT = "sealspace.values/v1";
/** Statements in a wallet's message: the fact with the same content, by the beginning of the resource. @type {{[urn: string]: string}} */
const URNS = Object.fromEntries([POLICY_FACT, RUN_FACT, MACHINE_FACT, TRUST_FACT, MEMBER_FACT, VALUES_FACT, APP_FACT].map((fact) => [`urn:${fact.replace(/[./]/g, ":")}:`, fact]));
/** What tokens state, by cid; a token never changes. @type {Map<string, Stated | null>} */
const stated = new Map();
export const GET = "tinycloud.kv/get";
export const DECRYPT = "tinycloud.encryption/decrypt";
export const ENCRYPTION = "tinycloud.encryption";
const SECRETS = "vault/secrets/";
const SHARED = "vault/secrets/shared/";
/** A folder of copies: team if any, DID, public key of the person's network (SH1). */
const SHARED_FOLDER = /^vault\/secrets\/shared\/(?:([a-z0-9-]{1,64})\/)?(did:[^/]+)\/[\w-]{43}(?:\.[0-9]{1,2})?\/$/;

// --- rights: descriptions, checks and the token all use one canonical resource per right (MF20) ---

/** @param {string} resource of a grant; a query is ignored (X1) @param {string[]} [actions] @returns {Right} */
export function rightOf(resource, actions = []) {
  const [, space, service, path = ""] = /^(tinycloud:[^/]+)\/([^/?#]+)(?:\/([^?#]*))?/.exec(resource) ?? [];
  if (space !== undefined) return { resource, service: `tinycloud.${service}`, space, path, actions };
  const network = canonicalNetwork(resource);
  return { resource: network, service: ENCRYPTION, space: "encryption", path: network, actions };
}

/** @param {string} owner DID @param {Omit<Right, "resource">} asked a right that a manifest requests @returns {Right} */
export function requestedRight(owner, { service, space, path, actions }) {
  const root = `${spaceId(owner, space)}/${service.slice("tinycloud.".length)}`;
  return rightOf(service === ENCRYPTION ? path : path === "" || path === "/" ? root : `${root}/${path}`, actions);
}

/** @param {string} path @param {string} below */
const contains = (path, below) => path === "" || path === "/" || below === path || below.startsWith(path.endsWith("/") ? path : `${path}/`); // X3

/**
 * Return the secrets that a right covers.
 * @param {Right} right @returns {string | null} `NAME` or `scope/NAME`; a folder ends with a slash; "" is all secrets; null is no secret
 */
export function secretOf({ service, space, path }) {
  if (service !== "tinycloud.kv" || !space.endsWith(":secrets")) return null;
  if (contains(path, SECRETS)) return ""; // also for a right to `vault`, or to the whole space
  if (!path.startsWith(SECRETS)) return null;
  return secretAt(path)?.label ?? path.slice(SECRETS.length).replace(/^scoped\/(?=[^/])/, "").replace(/\/*$/, "/");
}

/**
 * Return what a right to the copies of people is about: those of one person, or a secret that is shared (SH1, SH3).
 * @param {Right} right @returns {{ team?: string, secret?: string, group?: string } | null} null: it is about something else
 */
export function copiesIn({ service, space, path }) {
  if (service !== "tinycloud.kv" || !space.endsWith(":secrets")) return null;
  const [folder, team] = SHARED_FOLDER.exec(path) ?? [];
  if (folder) return { team };
  const [, group, rest = ""] = /^vault\/secrets\/shared\/([^/]+)\/(.+)$/.exec(path) ?? [];
  const secret = secretAt(SECRETS + rest)?.label;
  return secret ? { group, secret } : null;
}

/** @param {string} secret of `secretOf` */
export const isFolder = (secret) => secret === "" || secret.endsWith("/");

/** @param {string} space id @param {string} owner DID */
export const isOwn = (space, owner) => principalOf(ownerOfSpace(space)) === principalOf(owner);

/** @param {Right} right @param {string} owner DID */
export const readsSecret = ({ service, space, actions }, owner) => service === "tinycloud.kv" && space === spaceId(owner, "secrets") && actions.includes(GET);

/** @param {Right[]} rights @returns {Right[]} one right per resource */
export function joined(rights) {
  /** @type {Map<string, Right>} */
  const found = new Map();
  for (const right of rights) {
    const actions = new Set([...(found.get(right.resource)?.actions ?? []), ...right.actions]);
    found.set(right.resource, { ...right, actions: [...actions] });
  }
  return [...found.values()];
}

/** @param {string} owner DID @param {Right[]} chosen @returns {Right[]} the rights that a grant of them states (MF8) */
export const finalRights = (owner, chosen) =>
  joined(chosen.some((one) => readsSecret(one, owner)) ? [...chosen, rightOf(networkId(owner), [DECRYPT])] : chosen);

// --- grants ---

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
  if (isText(one.token)) stated.set(one.cid, statedIn(one.token, one.cid));
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

/** @param {string} token a session's or a wallet's, untrusted @returns {any[]} the facts that it states */
function factsIn(token) {
  const json = (/** @type {string} */ text) => strictJson(textOfBytes(/** @type {any} */ (fromBase64url(text))));
  const [, payload] = token.split(".");
  if (payload !== undefined) return json(payload).fct ?? [];
  const { resources = [] } = decodeCbor(/** @type {any} */ (fromBase64(token.replaceAll("-", "+").replaceAll("_", "/")))).p;
  return resources.flatMap((/** @type {string} */ one) => Object.entries(URNS).flatMap(([urn, fact]) => (one.startsWith(urn) ? [{ [fact]: json(one.slice(urn.length)) }] : [])));
}

/** @param {any[]} facts @returns {RunStatement | undefined} the terms of a run grant; undefined: none, several, or malformed ones, which a runner refuses */
function runIn(facts) {
  const found = facts.filter((one) => one !== null && typeof one === "object" && Object.hasOwn(one, RUN_FACT));
  try {
    return found.length === 1 ? parseRunStatement(found[0][RUN_FACT]) : undefined;
  } catch {
    return undefined;
  }
}

/** @param {unknown} stated @returns {boolean} whether it lets a recipient use values that do not state their place; other forms allow nothing (CN15) */
const isUnbound = (stated) => isObject(stated) && stated.unbound === true && Object.keys(stated).length === 1;

/** @param {string} token untrusted @param {string} cid @returns {Stated | null} null: not readable */
function statedIn(token, cid) {
  try {
    const facts = factsIn(token);
    if (tokenCid(token) !== cid) return null;
    const statement = (/** @type {string} */ fact) => facts.find((one) => one?.[fact])?.[fact];
    const [machine, trust, member] = [statement(MACHINE_FACT), statement(TRUST_FACT), statement(MEMBER_FACT)];
    const app = statement(APP_FACT);
    const { name } = app ?? machine ?? trust ?? member ?? {};
    return { name: isText(name) ? [...name].slice(0, MOST_NAME_CHARS).join("") : "", code: app?.code, run: runIn(facts), machine: machine ? "token" : trust ? "trust" : member ? "member" : undefined,
      isUnbound: (machine ?? trust)?.unbound === true || facts.some((one) => isUnbound(one?.[VALUES_FACT])),
      policies: facts.flatMap((one) => (one?.[POLICY_FACT] === undefined ? [] : [one[POLICY_FACT]])), hasCode: facts.some((one) => one?.[POLICY_FACT]?.measurements?.length > 0) };
  } catch {
    return null; // a token of another client
  }
}

/**
 * Return the terms of a run grant of this owner. Runners accept only those that the owner signed itself, without a parent (RN41).
 * @param {Client} client @param {Grant} grant returned by `list`, after `appNames` @returns {RunStatement | undefined}
 */
export const runOf = ({ session }, { cid, direction, delegator, parents }) =>
  (direction === "granted" && delegator === session.owner && !parents.length ? stated.get(cid)?.run : undefined);

/** @param {Grant} grant one of `ownGrants`, after `appNames` @returns {unknown} the names of its code and its files, as they were approved; untrusted */
export const statedCode = ({ cid }) => stated.get(cid)?.code;

/** @param {Grant} grant returned by `list`, after `appNames` */
export const machineOf = ({ cid }) => stated.get(cid)?.machine;

/** @param {Grant} grant returned by `list`, after `appNames` @returns {boolean} whether it allows values that do not state their place */
export const allowsUnbound = ({ cid }) => stated.get(cid)?.isUnbound === true;

/**
 * Return the policies on code that a grant states, and those that it rests on state.
 * @param {Grant[]} all returned by `list`, after `appNames` @param {Grant} grant
 * @returns {{ own: unknown[], above: unknown[], isWhole: boolean }} untrusted; `isWhole`: whether every token was readable
 */
export function policiesOf(all, { cid, parents }) {
  const of = (/** @type {string[]} */ cids) => cids.flatMap((one) => stated.get(one)?.policies ?? []);
  const isKnown = (/** @type {string} */ one) => Boolean(stated.get(one)) || all.some((parent) => parent.cid === one && parent.isSession);
  return { own: of([cid]), above: of(parents), isWhole: Boolean(stated.get(cid)) && parents.every(isKnown) };
}

/** @param {Grant[]} all returned by `list`, after `appNames` @param {Grant} grant @returns {boolean | null} whether it, or a grant that it rests on, approves code; null: not known */
export function approvesCode(all, { cid, parents }) {
  if ([cid, ...parents].some((one) => stated.get(one)?.hasCode)) return true;
  return stated.get(cid) && all.every((one) => one.isSession || !parents.includes(one.cid)) ? false : null;
}

/**
 * Return the grants to others that the owner, or a sign-in of the owner, signed. Only what these state counts: whoever passes a
 * grant on could state any name.
 * @param {Client} client @param {Grant[]} all returned by `list` @returns {Grant[]}
 */
export function ownGrants({ session: { owner } }, all) {
  const own = new Set(all.filter((one) => one.isSession && one.delegator === owner).map((one) => one.delegate));
  return all.filter((one) => one.direction === "granted" && !one.isSession && (one.delegator === owner || own.has(one.delegator)));
}

/**
 * Return the names that apps gave themselves when the owner approved them, and those of machine tokens and trusts.
 * @param {Client} client @param {Grant[]} all returned by `list` @returns {Promise<Map<string, string>>} by the id of the grant
 */
export async function appNames(client, all) {
  const approved = ownGrants(client, all);
  if (approved.some(({ cid }) => !stated.has(cid))) await list(client, { direction: "granted", tokens: true });
  return new Map(approved.map(({ cid }) => /** @type {[string, string]} */ ([cid, stated.get(cid)?.name])).filter(([, name]) => name));
}

/**
 * @param {Client} client
 * @param {{ direction?: "granted" | "received", status?: "active" | "pending" | "expired" | "revoked", space?: string, tokens?: true, derived?: true }} [asked] `derived`: also those that recipients passed on
 * @returns {Promise<Grant[]>} grants of the owner's account, the most recently issued first
 */
export async function list(client, asked = {}) {
  /** @type {Grant[]} */
  const found = [];
  for await (const one of items(client, asked)) found.push(grantOf(one, "the delegations of the account"));
  return found;
}

/**
 * Ask for delegations of the owner's account, page by page.
 * @param {Client} client @param {{ direction?: string, status?: string, space?: string, tokens?: true, derived?: true }} asked as `list`
 * @returns {AsyncGenerator<any>} as the node states them, unchecked, the most recently issued first
 */
export async function* items(client, asked) {
  const wanted = rows(`${client.session.space}/delegation`, ["tinycloud.delegation/list"]);
  /** @type {string | null} */
  let cursor = null;
  for (let page = 0; page < MAX_PAGES; page++) {
    const body = { ...asked, limit: 100, ...(cursor === null ? {} : { cursor }) };
    const answer = await client.sendJson(wanted, "POST", "/delegation/query", body, { repeatable: true });
    const read = jsonOf(answer);
    if (read?.schemaVersion !== 2 || !Array.isArray(read.items)) throw malformed(answer.asked, "it is no page of delegations");
    yield* read.items;
    if (typeof read.nextCursor !== "string") return;
    if (read.nextCursor === cursor) break;
    cursor = read.nextCursor;
  }
  throw malformed("the delegations of the account", "the list does not advance");
}

/** @param {Grant} grant @param {string} ability @param {string} resource canonical @returns {boolean} whether the grant gives this ability on this resource */
export const gives = ({ rights }, ability, resource) => rights.some(({ resource: held, abilities }) => {
  const [one, other] = [rightOf(held), rightOf(resource)];
  return abilities.includes(ability) && one.space === other.space && one.service === other.service && contains(one.path, other.path);
});

/**
 * Return the people with a copy of a secret. A grant of a folder lets a person read copies; grants to the owner name them (SH3).
 * @param {Grant[]} all live, the newest first @param {string} owner DID @param {string} path of the secret @returns {Reader[]}
 */
export function readersOfCopies(all, owner, path) {
  const own = all.filter((one) => one.delegator === owner);
  const named = (/** @type {string} */ group) => own.some((one) => one.delegate === owner && gives(one, GET, `${spaceId(owner, "secrets")}/kv/${SHARED}${group}/${path.slice(SECRETS.length)}`));
  /** @type {Map<string, Reader>} */
  const found = new Map();
  for (const { delegate, expiresAt, rights } of own) {
    for (const { resource } of rights) {
      const [, team, did] = SHARED_FOLDER.exec(rightOf(resource).path) ?? [];
      if (did && principalOf(did) === principalOf(delegate) && !found.has(resource) && named(team ?? did)) found.set(resource, { did, team, until: expiresAt });
    }
  }
  return [...found.values()];
}

/** List the networks whose secrets a grant opens or reads: true for `protected`, judged by names (RN144), else false. @param {Grant} grant @param {string} owner @returns {boolean[]} */
const opened = ({ rights }, owner) => rights.flatMap(({ resource, abilities }) => {
  const right = rightOf(resource, abilities);
  if (abilities.includes(DECRYPT) && rootOf(right.path) === owner) return [right.path === networkId(owner, "protected")];
  const secret = readsSecret(right, owner) ? secretOf(right) : null;
  return secret === null ? [] : isFolder(secret) ? [false, true] : [/(?:^|\/)PROTECTED_/.test(secret)];
});

/**
 * List the grants to revoke together with a grant: the recipient's live grants, of any client, for secrets of the same network.
 * A recipient that kept a sealed value only needs a right to decrypt. A grant that the owner may not revoke (W22) is replaced
 * by its parents.
 * @param {Client} client @param {Grant[]} all returned by `list` @param {Grant} grant @returns {Grant[]} the grant itself first
 */
export function endingWith({ session: { did, owner } }, all, grant) {
  const networks = opened(grant, owner);
  const live = all.filter((one) => one.direction === "granted" && ["active", "pending"].includes(one.standing));
  const todo = [grant, ...live.filter((one) => one.cid !== grant.cid && principalOf(one.delegate) === principalOf(grant.delegate) &&
    opened(one, owner).some((network) => networks.includes(network)))];
  if (todo.every(({ delegator }) => delegator === did)) return todo;
  // One grant that the owner may not revoke would make the node refuse the whole request, so a recipient could prevent revocation.
  const above = (/** @type {Grant} */ one) => one.delegator === owner || one.rights.some(({ resource }) => isOwn(rightOf(resource).space, owner))
    ? [] : live.filter(({ cid }) => one.parents.includes(cid));
  for (const one of todo) todo.push(...above(one).filter((parent) => !todo.includes(parent)));
  return todo.filter((one) => !above(one).length);
}

const MOST_REVOKED = 32; // V5

/**
 * Revoke grants, up to 32 in one token, all or none. Once this returns, the revocation is permanent and in force. The session
 * acts as the issuer of all of them, or else for its owner.
 * @param {Client} client @param {Grant[]} grants returned by `list` @returns {Promise<void>}
 */
export async function revoke(client, grants) {
  const ability = "tinycloud.delegation/revoke";
  const { session } = client;
  const holds = session.grants.find(({ capabilities, expiresAt }) =>
    expiresAt > nowS() && capabilities.some((held) => held.ability === ability));
  const proofs = holds && grants.some(({ delegator }) => delegator !== session.did) ? [holds.cid] : [];
  for (let from = 0; from < grants.length; from += MOST_REVOKED) {
    const cids = grants.slice(from, from + MOST_REVOKED).map(({ cid }) => cid);
    const answer = await client.invoke(cids.flatMap((cid) => rows(`urn:cid:${cid}`, [ability])), { path: "/revoke", proofs, repeatable: true });
    const { revoked, cid, cids: named = [cid] } = jsonOf(answer) ?? {};
    if (revoked !== true || !Array.isArray(named) || named.length !== cids.length || !cids.every((one) => named.includes(one))) {
      throw malformed(answer.asked, "it does not confirm the revocation");
    }
  }
}

/**
 * Grant with the session's key, without the owner's signature. Rights that the session lacks must be added first (`addRights`).
 * @param {Client} client @param {string} did of the recipient @param {Capability[]} capabilities
 * @param {{ expiresS?: number, policy?: import("./canonical_json.js").Json, name?: string, code?: import("./code_files.js").CodeFiles, run?: RunStatement }} [how] never longer than the session;
 *   the policy says which code may receive keys under the grant (spec/release.md); the node refuses a malformed one; `name` is
 *   what the app calls itself, and `code` what its files name, so that the owner recognises the grant later
 * @returns {Promise<Granted>}
 */
export async function grant(client, did, capabilities, { expiresS = 7 * 86400, policy, name, code, run } = {}) {
  const { session } = client;
  const recipient = principalOf(did);
  // The right to read capabilities marks a session as the owner in person, so it is never granted to others.
  const granted = distinctCapabilities(capabilities).filter(({ ability }) => !/^tinycloud\.(capabilities\/(read|\*)|\*)/.test(ability));
  if (!granted.length || !isDid(recipient) || !(expiresS > 0)) {
    throw new ConsoleError("invalid-input", "a grant names a DID, at least one right, and a time");
  }
  const { proofs, expiresAt: parentEnd } = proofsFor(session, granted);
  const end = session.kind === "phrase" ? Infinity : parentEnd;
  if (end - nowS() < MARGIN_S) throw new ConsoleError("session-expired", "the session ends within a minute", { hint: "sign in again" });
  await client.checkNode();
  const facts = [...(policy === undefined ? [] : [{ [POLICY_FACT]: policy }]), ...(run === undefined ? [] : [{ [RUN_FACT]: run }]),
    ...(name || code ? [{ [APP_FACT]: { name: [...(name ?? "")].slice(0, MOST_NAME_CHARS).join(""), ...(code && { code }) } }] : [])];
  const claims = { aud: recipient, capabilities: granted, proofs, facts, bare: true };
  // A child may not outlive its parent. Its end is rounded down, and not computed from the time that was left before the request above.
  const { token, expiresAt } = await sessionToken(session, { ...claims, expiresAt: Math.floor(Math.min(nowS() + expiresS, end)) });
  await register(token, granted);
  const made = { cid: tokenCid(token), did: recipient, capabilities: granted, expiresAt };
  return { ...made, portable: portableText(made, token, session.owner) };
}

/**
 * Grant with the owner's own signature, as runners demand it (RN41).
 * @param {Client} client @param {import("./wallets.js").Owner} owner @param {string} did of the recipient @param {Capability[]} capabilities
 * @param {{ expiresS: number, policy?: import("./canonical_json.js").Json, run?: RunStatement }} how as `grant` @returns {Promise<string>} the text for the recipient
 */
export async function grantAsOwner(client, owner, did, capabilities, how) {
  if (owner.kind === "phrase") return (await grant(client, did, capabilities, how)).portable;
  /** @type {{[fact: string]: any}} */
  const stated = { [POLICY_FACT]: how.policy, [RUN_FACT]: how.run };
  const resources = Object.entries(URNS).flatMap(([urn, fact]) => (stated[fact] === undefined ? [] : [urn + base64url(canonicalBytes(stated[fact]))]));
  const { token, expiresAt } = await walletToken(owner, { uri: did, capabilities, ttlS: how.expiresS, resources });
  requireHosted(await register(token, capabilities));
  return portableText({ cid: tokenCid(token), did, capabilities, expiresAt }, token, client.session.owner);
}

/** @param {{ cid: string, did: string, capabilities: Capability[], expiresAt: number }} made @param {string} token @param {string} owner @returns {string} the text in the format of other clients */
function portableText({ cid, did, capabilities, expiresAt }, token, owner) {
  const resources = joined(capabilities.map(({ resource, ability }) => rightOf(resource, [ability])))
    .map(({ service, space, path, actions }) => ({ service: service.slice("tinycloud.".length), space, path, actions }));
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
 * Grant the chosen rights to a manifest's DID in one delegation (MF12). The wallet signs at most once, for rights that the
 * session lacks.
 * @param {Client} client @param {import("./wallets.js").Owner | null} owner signs for rights that the session lacks; null: fail instead
 * @param {string} did of the recipient @param {Right[]} chosen only rights of this owner
 * @param {{ expiresS: number, policy?: import("./canonical_json.js").Json, name?: string, code?: import("./code_files.js").CodeFiles }} how `expiresS` is the shortest requested time; otherwise as `grant`
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
