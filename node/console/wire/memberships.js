/** Memberships of teams, which a node lists and the browser verifies: signature, statement, rights, and who signed (spec/teams.md TM1, TM2). */

import { fromBase64, fromBase64url, text } from "./bytes.js";
import { decodeCbor } from "./cacao.js";
import { isObject, strictJson } from "./canonical_json.js";
import { base32, tokenCid } from "./cid.js";
import { addressOf, canonicalNetwork, fromBase58, networkId, principalOf, spaceId } from "./did.js";
import { KV_ABILITIES, nowS, rootOf, rows, SECRETS_SPACE, spaceOfResource } from "./session.js";
import { secretAt } from "./secrets.js";
import { walletMessage } from "./shares.js";

/**
 * @import { Capability } from "./recap.js"
 * @typedef {"admin" | "writer" | "reader"} Role
 * @typedef {{ cid: string, token: string, team: string, did: string, name: string, role: Role, secrets: string[], endsAt: number, admittedBy: string,
 *   parent: string | null, capabilities: Capability[] }} Membership verified. `did`: of the member's wallet; `name`: how the team calls the member, or
 *   empty; `secrets`: labels in ascending order, empty for all; `endsAt` in epoch seconds; `parent`: id of the admin's membership, null: the team signed it
 */

export const MEMBER_URN = "urn:sealspace:member:v1:";
/** Longest life of a membership, seconds. */
export const MAX_LIFE_S = 5 * 366 * 86_400;
export const MOST_SECRETS = 64;
const MOST_ADMIN_RIGHTS = 64;
const FOLDER = "vault/secrets/";
const INVITATIONS = "invitations/";
const DECRYPT = "tinycloud.encryption/decrypt";
const [GET, PUT, DELETE, LIST, METADATA] = KV_ABILITIES;
const ABILITIES = { reader: [GET, METADATA], writer: [GET, METADATA, PUT, DELETE] };

/** @param {string} did @returns {boolean} whether it is the DID of a wallet in canonical spelling */
export const isWallet = (did) => addressOf(did) !== null && principalOf(did) === did;

/** @param {string} name @returns {boolean} whether a team can call a member so */
export const isMemberName = (name) => /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name);

/** @param {string} team DID @returns {string} the resource below which all values of its space `secrets` are */
const valuesOf = (team) => `${spaceId(team, SECRETS_SPACE)}/kv/`;

/** @param {string} team DID @param {"reader" | "writer"} role @param {string[]} paths resources; empty for all @returns {Capability[]} rights on secrets */
const secretRights = (team, role, paths) =>
  paths.length ? paths.flatMap((path) => rows(path, ABILITIES[role])) : rows(valuesOf(team) + FOLDER, [...ABILITIES[role], LIST]);

/** @param {string} team DID @param {Role} role @param {string[]} paths resources; empty for all @returns {Capability[]} what a membership grants */
export function rightsOf(team, role, paths) {
  const network = networkId(team);
  if (role !== "admin") return [...secretRights(team, role, paths), ...rows(network, [DECRYPT])];
  const space = spaceId(team, SECRETS_SPACE);
  return [
    ...rows(network, [DECRYPT, "sealspace.encryption/receipts", "sealspace.encryption/policy"]),
    ...[FOLDER, INVITATIONS].flatMap((folder) => rows(valuesOf(team) + folder, KV_ABILITIES)),
    ...rows(`${space}/delegation`, ["list", "revoke", "status"].map((one) => `tinycloud.delegation/${one}`)),
    ...rows(`${space}/capabilities`, ["tinycloud.capabilities/read"]),
  ];
}

/** @param {string} resource @returns {string} with its owner spelled canonically, without query */
function canonical(resource) {
  const space = spaceOfResource(resource);
  return space === resource ? canonicalNetwork(resource) : spaceId("", space) + resource.slice(space.length).split(/[?#]/, 1)[0];
}

/** @param {any} att untrusted @returns {Capability[] | null} null: it is malformed, or has conditions */
function capabilitiesIn(att) {
  /** @type {Capability[]} */
  const found = [];
  for (const [resource, abilities] of Object.entries(isObject(att) ? att : {})) {
    for (const [ability, caveats] of Object.entries(isObject(abilities) ? abilities : {})) {
      const isFree = Array.isArray(caveats) && caveats.every((one) => isObject(one) && !Object.keys(one).length);
      if (!isFree) return null;
      found.push({ resource: canonical(resource), ability });
    }
  }
  return found;
}

/** @param {Capability[]} capabilities */
const sorted = (capabilities) => capabilities.map(({ resource, ability }) => `${resource} ${ability}`).sort();

/** @param {Capability[]} granted @param {string} team DID @param {Role} role @param {string[]} paths @returns {boolean} whether they are those of the role (TM1) */
function areRightsOf(granted, team, role, paths) {
  const others = granted.filter(({ resource, ability }) => ability !== DECRYPT || resource.startsWith("tinycloud:"));
  const networkCount = granted.length - others.length;
  if (role !== "admin") return networkCount === 1 && sorted(others).join() === sorted(secretRights(team, role, paths)).join();
  const isGranted = (/** @type {Capability} */ wanted) => others.some(({ resource, ability }) => ability === wanted.ability && (wanted.resource + "/").startsWith(resource.replace(/\/?$/, "/")));
  return networkCount > 0 && granted.length <= MOST_ADMIN_RIGHTS && secretRights(team, "writer", []).every(isGranted);
}

/** @param {string} token of any delegation, untrusted @returns {string | null} the team, if it states that it is a membership. No signature is verified */
export function statedTeam(token) {
  try {
    if (token.includes(".")) return null;
    const { resources } = decodeCbor(/** @type {any} */ (fromBase64(token.replaceAll("-", "+").replaceAll("_", "/")))).p;
    if (!resources.some((/** @type {string} */ one) => one.toLowerCase().startsWith("urn:sealspace:member:"))) return null;
    const { att } = strictJson(text(/** @type {any} */ (fromBase64url(resources.at(-1).slice("urn:recap:".length)))));
    return rootOf(canonical(Object.keys(att)[0]));
  } catch {
    return null;
  }
}

/** @param {any} stated untrusted @returns {boolean} whether each member has its type, and no other is there */
function isStatement(stated) {
  if (!isObject(stated)) return false;
  const { member, role, end, paths, name, ...others } = stated;
  const isList = paths === undefined || (Array.isArray(paths) && paths.length > 0 && paths.length <= MOST_SECRETS && new Set(paths).size === paths.length && paths.every((one) => typeof one === "string"));
  return !Object.keys(others).length && typeof member === "string" && isWallet(member) && ["admin", "writer", "reader"].includes(role) && Number.isSafeInteger(end) &&
    isList && (role !== "admin" || paths === undefined) && (name === undefined || (typeof name === "string" && isMemberName(name)));
}

/** @param {string} text of a parent, in base58 or base32 @returns {string} in base32 */
function parentCid(text) {
  const bytes = text.startsWith("z") ? fromBase58(text.slice(1)) : null;
  return bytes ? `b${base32(bytes)}` : text;
}

/**
 * Read a membership, and verify its signature, statement and rights (TM1).
 * @param {string} token untrusted @param {string} cid by which the node lists it @returns {Membership | null} null: it is no valid membership. Who may sign it is not checked
 */
export function readMembership(token, cid) {
  try {
    const signed = walletMessage(token);
    if (!signed || tokenCid(token) !== cid || signed.resources.length !== 2 || !signed.resources[0].startsWith(MEMBER_URN)) return null;
    const stated = strictJson(text(/** @type {any} */ (fromBase64url(signed.resources[0].slice(MEMBER_URN.length)))));
    if (!isStatement(stated) || stated.member !== signed.aud || stated.end !== signed.expiresAt || stated.end > nowS() + MAX_LIFE_S) return null;
    const { role, paths = [], name = "", end } = stated;
    const capabilities = capabilitiesIn(signed.att);
    const teams = new Set(capabilities?.map(({ resource }) => rootOf(resource)));
    const [team] = teams;
    if (!capabilities || teams.size !== 1 || !team || !isWallet(team)) return null;
    const secrets = paths.map((/** @type {string} */ path) => (path.startsWith(valuesOf(team)) ? secretAt(path.slice(valuesOf(team).length))?.label : undefined));
    if (secrets.includes(undefined) || !areRightsOf(capabilities, team, role, paths)) return null;
    if (signed.prf.length > 1 || (signed.iss === team) === (signed.prf.length > 0)) return null;
    const parent = signed.prf.length ? parentCid(signed.prf[0]) : null;
    return { cid, token, team, did: signed.aud, name, role, secrets: secrets.sort(), endsAt: end, admittedBy: signed.iss, parent, capabilities };
  } catch {
    return null; // a token of another kind
  }
}

/** @param {Membership} first @param {Map<string, Membership>} known by id @returns {boolean} whether the team, or a chain of its admins, signed it (TM2) */
export function isAdmitted(first, known) {
  let one = first;
  for (let left = known.size; left > 0; left--) {
    if (one.parent === null) return one.admittedBy === one.team;
    const parent = known.get(one.parent);
    if (!parent || parent.role !== "admin" || parent.did !== one.admittedBy || parent.team !== one.team || one.endsAt > parent.endsAt) return false;
    one = parent;
  }
  return false;
}
