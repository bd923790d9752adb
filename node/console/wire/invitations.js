/** Invitations to a team: the line, and both sides until the words are compared (spec/teams.md TM10 to TM13). */

import { base64url, concat, equal, fromBase64url, random, sha256, text, utf8 } from "./bytes.js";
import { canonicalBytes, canonicalText, isObject, strictJson } from "./canonical_json.js";
import { Client } from "./client.js";
import { tokenCid } from "./cid.js";
import { didKey, isDid, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { grant, revoke } from "./grants.js";
import { keyPair } from "./key_pair.js";
import * as kv from "./kv.js";
import { isMemberName, isWallet, MOST_SECRETS } from "./memberships.js";
import { attenuations } from "./recap.js";
import { secretName } from "./secrets.js";
import { inStore, nowS, rows, SECRETS_SPACE, SIDES } from "./session.js";
import { admit, memberships, possibleEnd } from "./teams.js";

/**
 * @import { Bytes } from "./bytes.js"
 * @import { Membership, Role } from "./memberships.js"
 * @import { Session } from "./session.js"
 * @import { Owner } from "./wallets.js"
 */
/**
 * @typedef {object} Invitation the content of a line (TM10)
 * @property {1} v
 * @property {string} node address
 * @property {string} node_did
 * @property {string} team DID
 * @property {string} name how the admin calls the team
 * @property {string} admin DID of the wallet that signs the membership
 * @property {Role} role
 * @property {string[]} [secrets] labels in ascending order; absent: all
 * @property {number} end of the membership, epoch seconds
 * @property {string} [member_name] how the team will call the member
 * @property {string} id
 * @property {string} seed secret key of the invitation; it opens nothing
 * @property {string} delegation the right of this key to answer
 */
/**
 * @typedef {{ owner: string, line: string, committed: string, nonce: string }} Inviting the admin's side; empty texts before they are known
 * @typedef {{ owner: string, line: string, joiner: string, nonce: string, adminNonce: string, isRevealed: boolean }} Joining the side of the person who joins
 */

export const PREFIX = "sinv_";
export const INVITATION_TTL_S = 2 * 86400;
const MAX_LINE_CHARS = 64 * 1024;
const MAX_TEXT_CHARS = 4096;
const MAX_ANSWER_BYTES = 1024;
/** The values in the folder of an invitation, in the order in which they are stored (TM12). */
const ANSWERS = ["commitment", "nonce", "reveal"];
const [ID_BYTES, NONCE_BYTES, WORD_COUNT, WORD_BITS] = [16, 32, 4, 11];
const COMMITMENT_LABEL = utf8("sealspace/invitation/commitment/v1\0");
const WORDS_LABEL = utf8("sealspace/invitation/words/v1\0");

/** @param {string} why */
const invalid = (why) => new ConsoleError("invitation-invalid", why, { details: { text: why } });
const altered = () => invalid("An answer to the invitation was replaced or altered. Make a new invitation, and send it over another channel.");
const spent = () => invalid("The invitation was used or withdrawn, or has ended.");

// --- the line --------------------------------------------------------------------------------------------------------

/** @param {Invitation} invitation @returns {string} the line that the person who joins gets */
export const lineOf = (invitation) => PREFIX + base64url(canonicalBytes(invitation));

/** @param {string} id @returns {string} the path of the answers */
const folderOf = (id) => `invitations/${id}/`;

/** @param {string} team DID @param {string} id @returns {string} the resource of the answers */
const folderResource = (team, id) => `${spaceId(team, SECRETS_SPACE)}/kv/${folderOf(id)}`;

/** @param {string} team DID @param {string} id @returns {import("./recap.js").Capability[]} what the key of an invitation may do: read the folder, and write each answer */
const rightsOf = (team, id) => [
  ...rows(folderResource(team, id), ["tinycloud.kv/get"]),
  ...ANSWERS.flatMap((answer) => rows(folderResource(team, id) + answer, ["tinycloud.kv/put"])),
];

/** @param {string} team DID @param {string} id @returns {import("./recap.js").Capability[]} the rights in lines of earlier versions: to read and write the whole folder */
const formerRightsOf = (team, id) => rows(folderResource(team, id), ["tinycloud.kv/get", "tinycloud.kv/put"]);

/** @param {unknown} one */
const isText = (one) => typeof one === "string" && one.length <= MAX_TEXT_CHARS;

/** @param {unknown} one @param {number} size */
const isBytes = (one, size) => typeof one === "string" && fromBase64url(one)?.length === size;

/** @param {unknown} one */
function isLabel(one) {
  const parts = typeof one === "string" ? one.split("/") : [];
  try {
    return parts.length > 0 && parts.length < 3 && secretName(parts.length > 1 ? parts[0] : null, String(parts.at(-1))).label === one;
  } catch {
    return false;
  }
}

/** @param {any} one untrusted @returns {one is Invitation} */
function isInvitation(one) {
  if (!isObject(one)) return false;
  const { v, node, node_did, team, name, admin, role, secrets, end, member_name, id, seed, delegation, ...others } = one;
  const isList = secrets === undefined || (Array.isArray(secrets) && secrets.length > 0 && secrets.length <= MOST_SECRETS && secrets.every(isLabel) &&
    secrets.every((label, at) => at === 0 || secrets[at - 1] < label));
  return v === 1 && !Object.keys(others).length && [node, node_did, team, name, admin].every(isText) && ["admin", "writer", "reader"].includes(role) && Number.isSafeInteger(end) &&
    isList && (role !== "admin" || secrets === undefined) && (member_name === undefined || (isText(member_name) && isMemberName(member_name))) && isBytes(id, ID_BYTES) &&
    isBytes(seed, 32) && typeof delegation === "string" && delegation.length <= MAX_LINE_CHARS && isWallet(team) && isWallet(admin);
}

/** @param {string} delegation token @returns {{ aud: string, exp: number, att: any }} its claims. No signature is verified; the node does so */
const claimsOf = (delegation) => strictJson(text(/** @type {Bytes} */ (fromBase64url(delegation.split(".")[1]))));

/**
 * Return the rights that the key of an invitation was given; null if they are others than to answer (TM10).
 * @param {Invitation} invitation @param {{ att: any }} claims of its delegation @returns {import("./recap.js").Capability[] | null}
 */
function rightsIn({ team, id }, { att }) {
  const stated = canonicalText(att);
  return [rightsOf(team, id), formerRightsOf(team, id)].find((rights) => canonicalText(attenuations(rights)) === stated) ?? null;
}

/**
 * Read a line, and check that it opens nothing (TM10).
 * @param {string} line untrusted @returns {Invitation} ConsoleError `invitation-invalid`, without any part of the line
 */
export function parseLine(line) {
  const said = line.trim();
  if (said.length > MAX_LINE_CHARS || !said.startsWith(PREFIX)) throw invalid("This is not an invitation, or not all of it.");
  let invitation, claims;
  try {
    invitation = strictJson(text(/** @type {Bytes} */ (fromBase64url(said.slice(PREFIX.length)))));
    if (!isInvitation(invitation)) throw new SyntaxError();
    claims = claimsOf(invitation.delegation);
    if (!isDid(claims.aud) || !Number.isFinite(claims.exp)) throw new SyntaxError();
  } catch {
    throw invalid("The invitation is altered or incomplete.");
  }
  if (!rightsIn(invitation, claims)) throw invalid("The invitation is altered: its key may do something else than answer.");
  if (claims.exp <= nowS() || invitation.end <= nowS()) throw invalid("The invitation has ended.");
  return invitation;
}

/** @param {Invitation} invitation @returns {number} epoch seconds, after which nobody can answer it */
export const endsAt = (invitation) => claimsOf(invitation.delegation).exp;

/** @param {Invitation} invitation @returns {string} the link of this page's console that has the line. A browser sends no part of it to the node */
export const linkOf = (invitation) => `${location.origin}/console/#/join/${lineOf(invitation)}`;

/** @param {Invitation} invitation @param {string} node DID of this page's node @returns {Promise<Client>} with the key of the invitation */
async function keyClient(invitation, node) {
  const keys = await keyPair(/** @type {Bytes} */ (fromBase64url(invitation.seed)));
  const did = didKey(new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey)));
  const claims = claimsOf(invitation.delegation);
  const { aud, exp } = claims;
  const rights = rightsIn(invitation, claims);
  if (rights === null || principalOf(aud) !== did) throw invalid("The invitation is altered: its parts do not match.");
  const { team, delegation } = invitation;
  const grants = [{ cid: tokenCid(delegation), token: delegation, capabilities: rights, expiresAt: exp }];
  return Client({ owner: team, kind: "wallet", did, keys, node, space: spaceId(team, SECRETS_SPACE), expiresAt: exp, grants, pins: [] });
}

// --- what both sides compute -----------------------------------------------------------------------------------------

/** @param {string} id @param {string} joiner DID @param {string} nonce base64url @returns {Promise<string>} the commitment of the person who joins (TM12) */
export const commitment = async (id, joiner, nonce) => base64url(await sha256(concat(COMMITMENT_LABEL, canonicalBytes({ id, joiner, nonce }))));

/**
 * The words that two people compare (TM13).
 * @param {Invitation} invitation @param {{ joiner: string, joinerNonce: string, adminNonce: string }} answers nonces in base64url @returns {Promise<string[]>} four
 */
export async function wordsOf({ admin, end, id, role, secrets = [], team }, { joiner, joinerNonce, adminNonce }) {
  const { WORDS } = await import("./bip39_english.js");
  const digest = await sha256(concat(WORDS_LABEL, canonicalBytes({ admin, adminNonce, end, id, joiner, joinerNonce, role, secrets, team })));
  const number = digest.subarray(0, 8).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n) >> BigInt(64 - WORD_COUNT * WORD_BITS);
  return Array.from({ length: WORD_COUNT }, (_, at) => WORDS[Number((number >> BigInt((WORD_COUNT - 1 - at) * WORD_BITS)) & 0x7ffn)]);
}

/** @param {Client} client @param {string} path @returns {Promise<Bytes | null>} null: there is no value yet */
async function answer(client, path) {
  try {
    return (await kv.get(client, SECRETS_SPACE, path, { maxBytes: MAX_ANSWER_BYTES })).body;
  } catch (error) {
    const { code } = /** @type {any} */ (error);
    if (code === "not-found") return null;
    throw ["not-authorised", "revoked", "session-expired"].includes(code) ? spent() : error;
  }
}

/** @param {Client} client @param {string} path @param {Bytes} body @returns {Promise<boolean>} whether the stored value is this one (TM11) */
async function putOnce(client, path, body) {
  try {
    await kv.put(client, SECRETS_SPACE, path, body, { ifAbsent: true });
    return true;
  } catch (error) {
    const { code } = /** @type {any} */ (error);
    if (["not-authorised", "revoked", "session-expired"].includes(code)) throw spent();
    if (code !== "conflict") throw error;
    const stored = await answer(client, path);
    return stored !== null && equal(stored, body);
  }
}

// --- sides that wait in this browser ---------------------------------------------------------------------------------

/**
 * Store a side, unless a later step of it is stored, by another tab for example: a nonce must not be drawn twice.
 * @template {Inviting | Joining} T
 * @param {string} key @param {T} side @param {(stored: T) => boolean} isLater @returns {Promise<T>} what is stored now
 */
async function keepSide(key, side, isLater) {
  let kept = side;
  await inStore((store) => {
    const reading = store.get(SIDES);
    reading.addEventListener("success", () => {
      const stored = reading.result?.[key];
      if (stored?.owner === side.owner && stored.line === side.line && isLater(stored)) kept = stored;
      else store.put({ ...reading.result, [key]: side }, SIDES);
    });
    return reading;
  });
  return kept;
}

/** @param {string} key */
const forgetSide = (key) => inStore((store) => {
  const reading = store.get(SIDES);
  reading.addEventListener("success", () => {
    const { [key]: _, ...others } = reading.result ?? {};
    store.put(others, SIDES);
  });
  return reading;
});

/** @param {"inviting" | "joining"} kind @param {string} owner DID @returns {Promise<any[]>} the sides of a person that can go on; those that ended are left out */
async function waiting(kind, owner) {
  const all = Object.entries((await inStore((store) => store.get(SIDES))) ?? {});
  return all.filter(([key, one]) => key.startsWith(`${kind} `) && one?.owner === owner && isLive(one.line)).map(([, one]) => one);
}

/** @param {string} line */
function isLive(line) {
  try {
    return Boolean(parseLine(line));
  } catch {
    return false;
  }
}

// --- the admin's side ------------------------------------------------------------------------------------------------

/** @param {Client} client of the admin's session for the team @returns {Promise<Inviting[]>} that wait in this browser */
export const waitingInvitations = async ({ session }) =>
  (await waiting("inviting", session.member?.did ?? "")).filter(({ line }) => parseLine(line).team === session.owner);

/**
 * Make an invitation, and store it (TM10).
 * @param {Client} client of the admin's session for the team
 * @param {{ role: Role, secrets: string[], name?: string, lifeS: number, ttlS?: number }} terms `lifeS`: of the membership; `ttlS`: of the invitation
 * @returns {Promise<Inviting>}
 */
export async function invite(client, { role, secrets, name, lifeS, ttlS = INVITATION_TTL_S }) {
  const { owner: team, member, node } = client.session;
  const admin = member?.did ?? "";
  const end = await possibleEnd(client, admin, lifeS);
  const seed = random(32);
  // Commands have it as an argument, so it does not begin with a dash (TM10).
  let id = "-";
  while (id.startsWith("-")) id = base64url(random(ID_BYTES));
  const keys = await keyPair(seed);
  const did = didKey(new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey)));
  const { portable } = await grant(client, did, rightsOf(team, id), { expiresS: ttlS });
  /** @type {Invitation} */
  const invitation = { v: 1, node: location.origin, node_did: node, team, name: member?.name ?? "", admin, role, end, id, seed: base64url(seed),
    delegation: JSON.parse(portable).delegationHeader.Authorization, ...(secrets.length && { secrets: [...new Set(secrets)].sort() }), ...(name && { member_name: name }) };
  return keepSide(`inviting ${id}`, { owner: admin, line: lineOf(invitation), committed: "", nonce: "" }, () => false);
}

/**
 * Make the next step of the admin's side.
 * @param {Client} client of the admin's session for the team @param {Inviting} side
 * @returns {Promise<{ side: Inviting, joiner: string, words: string[] | null }>} `words`: null before the person has answered
 */
export async function advanceInviting(client, side) {
  const invitation = parseLine(side.line);
  const folder = folderOf(invitation.id);
  const committed = await answer(client, `${folder}commitment`);
  if (!side.committed) {
    if (committed === null) return { side, joiner: "", words: null };
    // The nonce is stored before anybody sees it.
    const next = { ...side, committed: new TextDecoder().decode(committed), nonce: base64url(random(NONCE_BYTES)) };
    return { side: await keepSide(`inviting ${invitation.id}`, next, (stored) => stored.committed !== ""), joiner: "", words: null };
  }
  if (committed === null || !equal(committed, utf8(side.committed))) throw altered();
  if (!(await putOnce(client, `${folder}nonce`, utf8(side.nonce)))) throw altered();
  const revealed = await answer(client, `${folder}reveal`);
  if (revealed === null) return { side, joiner: "", words: null };
  const { joiner, nonce } = readReveal(revealed);
  if ((await commitment(invitation.id, joiner, nonce)) !== side.committed) throw altered();
  return { side, joiner, words: await wordsOf(invitation, { joiner, joinerNonce: nonce, adminNonce: side.nonce }) };
}

/** @param {Bytes} body untrusted @returns {{ joiner: string, nonce: string }} */
function readReveal(body) {
  try {
    const { joiner, nonce, ...others } = strictJson(text(body));
    if (Object.keys(others).length || typeof joiner !== "string" || !isWallet(joiner) || !isBytes(nonce, NONCE_BYTES)) throw new SyntaxError();
    return { joiner, nonce };
  } catch {
    throw altered();
  }
}

/** Sign the membership after both people have compared the words, and end the invitation. @param {Client} client @param {Owner} owner the admin's wallet @param {Inviting} side @param {string} joiner DID */
export async function confirm(client, owner, side, joiner) {
  const { role, secrets = [], end, member_name: name, admin } = parseLine(side.line);
  if (owner.did !== admin) throw invalid("Another admin made this invitation, and has to confirm it.");
  const made = await admit(client, owner, { did: joiner, role, secrets, name, endsAt: end });
  await withdraw(client, side);
  return made;
}

/** End an invitation. @param {Client} client of the admin's session for the team @param {Inviting} side */
export async function withdraw(client, side) {
  const { id, delegation } = parseLine(side.line);
  const { iss } = strictJson(text(/** @type {Bytes} */ (fromBase64url(delegation.split(".")[1]))));
  await revoke(client, [/** @type {any} */ ({ cid: tokenCid(delegation), delegator: principalOf(iss) })]);
  await forgetSide(`inviting ${id}`);
}

// --- the side of the person who joins --------------------------------------------------------------------------------

/** @param {Session} own @returns {Promise<Joining[]>} that wait in this browser */
export const waitingJoins = (own) => waiting("joining", own.owner);

/**
 * Answer an invitation with a commitment. The nonce is stored first, so this can be repeated.
 * @param {Session} own @param {string} line untrusted @returns {Promise<Joining>}
 */
export async function join(own, line) {
  const invitation = parseLine(line);
  if (invitation.node_did !== own.node) throw invalid("The invitation is for another node. Sign in at the console of that node, and open it there.");
  if (!isWallet(own.owner)) throw invalid("A member of a team signs with a wallet, and you signed in without one.");
  const client = await keyClient(invitation, own.node);
  const drawn = { owner: own.owner, line: lineOf(invitation), joiner: own.owner, nonce: base64url(random(NONCE_BYTES)), adminNonce: "", isRevealed: false };
  const side = await keepSide(`joining ${invitation.id}`, drawn, () => true);
  if (side.adminNonce) return side;
  const committed = utf8(await commitment(invitation.id, side.joiner, side.nonce));
  if (await putOnce(client, `${folderOf(invitation.id)}commitment`, committed)) return side;
  throw invalid("Somebody has answered this invitation already. If it was not you, tell the admin, and ask for a new one.");
}

/**
 * Make the next step of the side of the person who joins.
 * @param {Joining} side @param {string} node DID of this page's node @returns {Promise<{ side: Joining, words: string[] | null }>} `words`: null before the admin has answered
 */
export async function advanceJoining(side, node) {
  const invitation = parseLine(side.line);
  const client = await keyClient(invitation, node);
  const [key, folder] = [`joining ${invitation.id}`, folderOf(invitation.id)];
  let now = side;
  if (!now.adminNonce) {
    const given = await answer(client, `${folder}nonce`);
    if (given === null) return { side, words: null };
    const adminNonce = new TextDecoder().decode(given);
    if (!isBytes(adminNonce, NONCE_BYTES)) throw altered();
    // Stored before the person's own is sent: whoever learns that one could else give another for the admin's.
    now = await keepSide(key, { ...now, adminNonce }, (stored) => stored.adminNonce !== "");
  }
  if (!now.isRevealed) {
    if (!(await putOnce(client, `${folder}reveal`, canonicalBytes({ joiner: now.joiner, nonce: now.nonce })))) throw altered();
    now = await keepSide(key, { ...now, isRevealed: true }, (stored) => stored.isRevealed);
  }
  return { side: now, words: await wordsOf(invitation, { joiner: now.joiner, joinerNonce: now.nonce, adminNonce: now.adminNonce }) };
}

/**
 * The membership that the admin signed after the words were compared.
 * @param {Client} own of the own session @param {Joining} side
 * @returns {Promise<Membership | null>} null: not yet, or with other terms; ConsoleError `invitation-invalid`: the admin ended the invitation without one
 */
export async function joined(own, side) {
  const invitation = parseLine(side.line);
  const { team, admin, role, secrets = [], end, id } = invitation;
  const wanted = JSON.stringify([admin, role, secrets, end]);
  const look = async () => (await memberships(own, team)).find((one) => JSON.stringify([one.admittedBy, one.role, one.secrets, one.endsAt]) === wanted) ?? null;
  const found = await look();
  if (found) return found;
  try {
    await answer(await keyClient(invitation, own.session.node), `${folderOf(id)}commitment`);
    return null;
  } catch (error) {
    // The admin signs first, and then ends the invitation: both can have happened since the list was read.
    const signed = await look();
    if (signed) return signed;
    throw error;
  }
}

/** Forget a side that is complete. @param {Joining} side */
export const forgetJoining = (side) => forgetSide(`joining ${parseLine(side.line).id}`);
