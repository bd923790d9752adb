/** Signing in for a team, and what an admin does with its members: the same tokens as those of the SDK (spec/teams.md). */

import { base64url } from "./bytes.js";
import { canonicalBytes } from "./canonical_json.js";
import { fromBase32, tokenCid } from "./cid.js";
import { base58, didKey, didUrl, isDid, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { items, revoke } from "./grants.js";
import { isAdmitted, isMemberName, isWallet, MAX_LIFE_S, MEMBER_URN, MOST_SECRETS, readMembership, rightsOf, statedTeam } from "./memberships.js";
import { requireNode } from "./node.js";
import { secretName } from "./secrets.js";
import { inStore, newKeys, nowS, register, SECRETS_SPACE, TEAMS, walletToken } from "./session.js";

/**
 * @import { Client } from "./client.js"
 * @import { Membership, Role } from "./memberships.js"
 * @import { Session } from "./session.js"
 * @import { Owner } from "./wallets.js"
 * @typedef {{ members: Membership[], unreadCount: number }} Listed the latest first; `unreadCount`: delegations that state that they are memberships, and are no valid ones
 * @typedef {{ renewed: Membership[], revoked: string[] }} Removal
 */

const SESSION_TTL_S = 7 * 86400;
export const MEMBERSHIP_TTL_S = 365 * 86400;
const MOST_MEMBERSHIPS = 2000;
const MOST_TOKEN_CHARS = 64 * 1024 * 1024;

/** @param {string} what @param {string} hint */
const refused = (what, hint) => new ConsoleError("invalid-input", what, { hint, details: { text: what } });

/** @param {string} cid in base32 @returns {string} in base58, as a wallet's message has it (S6) */
const inBase58 = (cid) => `z${base58(fromBase32(cid.slice(1)))}`;

/**
 * The tokens that state that they are memberships. Those of other teams are left out before anything is counted, because anybody can sign many for a person.
 * @param {Client} client @param {Parameters<typeof items>[1]} asked @param {string | null} team DID; null: every team
 * @returns {Promise<{ cid: string, token: string }[]>} unverified
 */
async function statedMemberships(client, asked, team) {
  const found = [];
  let charCount = 0;
  for await (const { cid, token, status } of items(client, { ...asked, status: "active", tokens: true })) {
    if (typeof cid !== "string" || typeof token !== "string" || status !== "active") continue;
    const stated = statedTeam(token);
    if (stated === null || (team !== null && stated !== team)) continue;
    found.push({ cid, token });
    charCount += token.length;
    if (found.length > MOST_MEMBERSHIPS || charCount > MOST_TOKEN_CHARS) { // each one costs a signature to verify
      throw new ConsoleError("malformed-answer", `the node lists more than ${MOST_MEMBERSHIPS} memberships, or too long ones`);
    }
  }
  return found;
}

// --- for oneself -----------------------------------------------------------------------------------------------------

/**
 * The live memberships that a person has received. Anybody can sign a membership of their own team for any wallet.
 * @param {Client} client of the own session @param {string | null} [team] DID; only its memberships
 * @returns {Promise<Membership[]>} the latest first. The admin's membership that one cites is not checked; the node does so on each use
 */
export async function memberships(client, team = null) {
  const { owner } = client.session;
  const stated = await statedMemberships(client, { direction: "received" }, team);
  return stated.flatMap(({ token, cid }) => readMembership(token, cid) ?? []).filter((one) => one.did === owner && one.endsAt > nowS());
}

/**
 * Sign in to a new key as a member of a team (TM3), and store the session. The wallet signs once.
 * @param {Session} own @param {Owner} owner @param {Membership} membership @param {string} name of the team among the contacts
 * @returns {Promise<Session>} ends no later than the own session and the membership
 */
export async function signInFor(own, owner, membership, name) {
  if (membership.did !== owner.did) throw refused("The membership is for another wallet.", "choose the account of the member in the wallet");
  await requireNode(own.node);
  const keys = await newKeys();
  const did = didKey(new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey)));
  const { team, capabilities, role, secrets } = membership;
  const end = Math.floor(Math.min(nowS() + SESSION_TTL_S, own.expiresAt, membership.endsAt));
  const { token, expiresAt } = await walletToken(owner, { uri: didUrl(did), capabilities, expiresAt: end, parents: [inBase58(membership.cid)] });
  await register(token, capabilities);
  /** @type {Session} */
  const session = { owner: team, kind: "wallet", did, keys, node: own.node, space: spaceId(team, SECRETS_SPACE), expiresAt,
    grants: [{ cid: tokenCid(token), token, capabilities, expiresAt }], pins: [], member: { did: owner.did, name, role, secrets, cid: membership.cid } };
  await inStore((store) => {
    const reading = store.get(TEAMS);
    reading.addEventListener("success", () => store.put({ ...reading.result, [team]: session }, TEAMS));
    return reading;
  });
  return session;
}

// --- for the team ----------------------------------------------------------------------------------------------------

/**
 * The members of a team. A node could leave out some.
 * @param {Client} client of an admin's session for the team @returns {Promise<Listed>}
 */
export async function members(client) {
  const { owner: team, space } = client.session;
  const stated = await statedMemberships(client, { direction: "granted", derived: true, space }, team);
  const read = stated.flatMap(({ token, cid }) => readMembership(token, cid) ?? []).filter((one) => one.team === team);
  const known = new Map(read.map((one) => [one.cid, one]));
  const admitted = read.filter((one) => isAdmitted(one, known));
  return { members: admitted.filter(({ endsAt }) => endsAt > nowS()), unreadCount: stated.length - admitted.length };
}

/** @param {Listed} listed @returns {Set<string>} DIDs */
export const adminsOf = ({ members: all }) => new Set(all.filter(({ role }) => role === "admin").map(({ did }) => did));

/** @param {Listed} listed @param {string} did @param {Set<string>} [ending] ids @returns {Membership} by which the person acts as an admin, and that does not end */
function adminOf({ members: all }, did, ending = new Set()) {
  const found = all.filter((one) => one.did === did && one.role === "admin");
  if (!found.length) throw refused("You are no admin of this team any more.", "ask an admin of the team to do this");
  const own = found.find(({ cid }) => !ending.has(cid));
  if (own) return own;
  throw refused("Your own membership depends on this member, who signed it, and would end too.", "let an admin do this whom this member did not admit");
}

/** @param {Listed} listed @param {string} did @returns {Membership[]} of a member, at least one */
function membershipsOf({ members: all }, did) {
  const found = all.filter((one) => one.did === did);
  if (!found.length) throw refused("This person is no member of the team any more.", "look at the list again");
  return found;
}

/** @param {Listed} listed @param {string} did */
function requireOtherAdmin(listed, did) {
  const admins = adminsOf(listed);
  if (admins.size === 1 && admins.has(did)) throw refused("The team would have no admin: only its own key could admit one.", "make another member an admin first");
}

/** @param {Listed} listed @param {Membership[]} former @returns {Set<string>} their ids, and those of all memberships that depend on them */
export function withDescendants({ members: all }, former) {
  const ending = new Set(former.map(({ cid }) => cid));
  for (let size = 0; size !== ending.size; ) {
    size = ending.size;
    for (const one of all) if (one.parent !== null && ending.has(one.parent)) ending.add(one.cid);
  }
  return ending;
}

/** @param {{ did: string, role: Role, secrets: string[] }} one */
const termsOf = ({ did, role, secrets }) => JSON.stringify([did, role, secrets]);

/**
 * Sign a membership, check it as a node does (TM1), and register it.
 * @param {Owner} owner the admin's wallet @param {Membership} parent of the admin
 * @param {{ did: string, role: Role, secrets: string[], endsAt: number, name: string }} terms
 * @returns {Promise<Membership>}
 */
async function sign(owner, parent, { did, role, secrets, endsAt, name }) {
  const { team } = parent;
  const labels = secrets.map((label) => label.split("/")).map((parts) => secretName(parts.length > 1 ? parts[0] : null, String(parts.at(-1))));
  const paths = [...new Set(labels.map(({ path }) => `${spaceId(team, SECRETS_SPACE)}/kv/${path}`))].sort();
  const statement = { member: did, role, end: endsAt, ...(paths.length && { paths }), ...(name && { name }) };
  const capabilities = rightsOf(team, role, paths);
  const resources = [MEMBER_URN + base64url(canonicalBytes(statement))];
  const { token } = await walletToken(owner, { uri: did, capabilities, expiresAt: endsAt, resources, parents: [inBase58(parent.cid)] });
  const signed = readMembership(token, tokenCid(token));
  if (!signed || owner.did !== parent.did) throw refused("The membership is not valid.", `name at most ${MOST_SECRETS} secrets, and none for an admin`);
  await register(token, capabilities);
  return signed;
}

/** @param {Membership} own of the admin @param {number} lifeS @returns {number} epoch seconds */
function endOf(own, lifeS) {
  if (!(lifeS > 0 && lifeS <= MAX_LIFE_S)) throw refused("A membership lasts at most 1,830 days.", "choose a shorter time");
  return Math.floor(Math.min(nowS() + lifeS, own.endsAt));
}

/** @param {string} said @returns {string} DID of a wallet in canonical spelling */
export function memberDid(said) {
  const did = isDid(said.trim()) ? principalOf(said.trim()) : "";
  if (isWallet(did)) return did;
  throw refused("This is not the DID of a wallet.", "ask the person for the DID of the wallet, which begins with did:pkh:eip155:");
}

/**
 * Admit a member. Compare the DID with the person: whoever has this wallet reads the secrets.
 * @param {Client} client @param {Owner} owner the admin's wallet
 * @param {{ did: string, role: Role, secrets: string[], name?: string, lifeS?: number, endsAt?: number }} terms `endsAt` wins over `lifeS`; neither: a year.
 *   It ends no later than the admin's own membership
 * @returns {Promise<Membership>}
 */
export async function admit(client, owner, { did, role, secrets, name = "", lifeS = MEMBERSHIP_TTL_S, endsAt }) {
  const own = adminOf(await members(client), owner.did);
  if (name && !isMemberName(name)) throw refused("This cannot be a member's name.", "use letters, digits, dots, dashes and underscores");
  if (endsAt !== undefined && endsAt > own.endsAt) throw refused("The membership would end after your own.", "make a new invitation");
  return sign(owner, own, { did: memberDid(did), role, secrets, name, endsAt: endsAt ?? endOf(own, lifeS) });
}

/**
 * What a new membership of an admin's can state at most, for an invitation.
 * @param {Client} client @param {string} admin DID @param {number} lifeS @returns {Promise<number>} its end
 */
export const possibleEnd = async (client, admin, lifeS) => endOf(adminOf(await members(client), admin), lifeS);

/**
 * How often the wallet signs in order to remove a member, or to change the role (TM15). Throws why it cannot be done.
 * @param {Listed} listed @param {string} admin DID of the person who does this @param {string} did @param {Role | null} role null: remove
 * @returns {Membership[]} the memberships of others that would end, and are signed anew first
 */
export function endingWith(listed, admin, did, role) {
  const former = membershipsOf(listed, did);
  if (role !== "admin") requireOtherAdmin(listed, did);
  const ending = withDescendants(listed, former);
  if (did === admin && role === null) {
    if (ending.size === former.length) return [];
    throw refused("The memberships that you signed would end with yours.", "ask another admin to remove you; that signs these memberships anew first");
  }
  adminOf(listed, admin, ending);
  const kept = new Set(listed.members.filter(({ cid }) => !ending.has(cid)).map(termsOf));
  const found = [];
  for (const one of listed.members) {
    if (!ending.has(one.cid) || one.did === did || kept.has(termsOf(one))) continue;
    // It may be for a second key of the person who is removed, so it is signed only after a question about each one (TM15).
    if (one.role === "admin") throw refused("This admin had admitted other admins, who may be other keys of the same person.", "use sealspace team remove or team role, which ask about each of them");
    kept.add(termsOf(one));
    found.push(one);
  }
  return found;
}

/** @param {Client} client @param {Membership[]} former */
const end = (client, former) => revoke(client, former.map(({ cid, admittedBy }) => /** @type {any} */ ({ cid, delegator: admittedBy })));

/**
 * Remove a member, or replace the memberships by one with another role. The memberships of others that depend on them are signed anew first (TM15), so an
 * interrupted call can be repeated.
 * @param {Client} client @param {Owner} owner the admin's wallet @param {string} did @param {{ role: Role, secrets: string[] } | null} terms null: remove
 * @param {string[]} [shown] ids of the memberships of others that the person has seen, and wants signed anew
 * @returns {Promise<Removal>}
 */
export async function changeMember(client, owner, did, terms, shown = []) {
  const listed = await members(client);
  const former = membershipsOf(listed, did);
  const depending = endingWith(listed, owner.did, did, terms && terms.role);
  if (depending.some(({ cid }) => !shown.includes(cid))) throw refused("Other members depend on this one by now.", "close this, look at the list again, and repeat it");
  const renewed = [];
  if (did !== owner.did || terms) {
    const own = adminOf(listed, owner.did, withDescendants(listed, former));
    for (const one of depending) renewed.push(await sign(owner, own, { ...one, endsAt: Math.min(one.endsAt, own.endsAt) }));
    if (terms) await sign(owner, own, { did, name: former[0].name, endsAt: Math.min(former[0].endsAt, own.endsAt), ...terms });
  }
  await end(client, former);
  return { renewed, revoked: former.map(({ cid }) => cid) };
}

/**
 * End all memberships of the person who signed in. An admin leaves by `changeMember`, with the session for the team.
 * @param {Client} own of the own session @param {string} team DID
 */
export async function leave(own, team) {
  const found = await memberships(own, team);
  if (!found.length) throw refused("You are no member of this team any more.", "choose your own secrets");
  await end(own, found);
}
