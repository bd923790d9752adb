/** The names that an owner gives to DIDs: one list, sealed to the owner's network and signed by a sign-in (SH9 to SH12). */

import { base64, base64url, text, utf8 } from "./bytes.js";
import { canonicalBytes, canonicalText, isObject, strictJson } from "./canonical_json.js";
import { addressOf, canonicalNetwork, didUrl, fromBase58, isDid, networkId, principalOf, spaceId } from "./did.js";
import { decrypt, encrypt, ensureNetwork } from "./encryption.js";
import { parseEnvelope } from "./envelope.js";
import { ConsoleError } from "./errors.js";
import * as kv from "./kv.js";
import { readStatement } from "./published.js";
import { covers, nowS, rootOf } from "./session.js";
import { signedBy } from "./shares.js";

/**
 * @import { Client } from "./client.js"
 * @import { Bytes } from "./bytes.js"
 * @typedef {{ name: string, did: string }} Contact
 * @typedef {{ contacts: Contact[], serial: number }} List ordered by name; `serial`: number of changes until now
 * @typedef {List & { etag: string }} Stored `etag`: version of the document; empty: there is none
 */

const [SPACE, PATH, TYPE] = ["default", "vault/contacts", "sealspace.contacts/v1"];
const MAX_STATEMENT_BYTES = 128 * 1024;
const MAX_RECORD_BYTES = 2 * MAX_STATEMENT_BYTES;
const MAX_ENVELOPE_BYTES = 2 * MAX_RECORD_BYTES;
export const MOST_CONTACTS = 500;
const MAX_DID_CHARS = 128;
const LEAST_KEY_BYTES = 34; // of a public key in a did:key, with the two bytes that name its type
const MAX_SIGN_IN_S = 30 * 86_400;
const MOST_TRIES = 32; // while other clients change the list
/** Words that commands take in the place of a DID. */
const RESERVED = ["all", "anybody", "did", "everybody", "everyone", "file", "me", "nobody", "none", "owner", "self", "team", "url", "you"];
/** Where a client's cache has the list that was read last. */
const CACHED = "contacts";
/** Where it has the reading that is under way. */
const READING = "contacts-reading";

/** @param {string} why @param {unknown} [cause] */
const invalid = (why, cause) => new ConsoleError("contacts-invalid", `the list of contacts ${why}`, { cause, details: { text: `The list of contacts ${why}.` } });

const outdated = () => invalid("is older than the one that this page has read before");

// --- names and DIDs --------------------------------------------------------------------------------------------------

/** @param {string} name @returns {boolean} whether it can be the name of a contact (SH10) */
export const isName = (name) => /^(?!did[_-]|z6mk)[a-z][a-z0-9_-]{0,31}$/.test(name) && !RESERVED.includes(name);

/** @param {string} did @returns {boolean} whether it is the DID of a wallet or a key in canonical spelling (SH10) */
export function isContactDid(did) {
  if (did.length > MAX_DID_CHARS || !isDid(did) || principalOf(did) !== did) return false;
  if (addressOf(did) !== null) return true;
  const key = did.startsWith("did:key:z") ? fromBase58(did.slice("did:key:z".length)) : null;
  return key !== null && key.length >= LEAST_KEY_BYTES;
}

// --- the signed list -------------------------------------------------------------------------------------------------

/** @param {Client["session"]} session @returns {string} id of the space */
const spaceOf = ({ owner }) => spaceId(owner, SPACE);

/** @param {Client["session"]} session @returns {Bytes} the label of the envelope, which names its place */
const labelOf = (session) => utf8(`tinycloud.vault:${spaceOf(session)}:contacts`);

/** @param {unknown} value @param {string[]} members in order @returns {value is {[member: string]: any}} */
const hasExactly = (value, members) => isObject(value) && Object.keys(value).sort().join() === members.join();

/**
 * Return the session key that an owner signed in. A grant to somebody else could have the same rights, except for the one to
 * read the owner's capabilities, which no client grants. So only a session (IP2) counts (SH9).
 * @param {string} token untrusted; its signature is verified @param {string} owner DID @returns {Promise<string | null>} null: it is no sign-in of the owner
 */
async function signedInKey(token, owner) {
  const signed = await signedBy(token).catch(() => null); // another kind of token
  if (!signed || signed.iss !== owner || signed.issuedAt === null || signed.expiresAt === null) return null;
  if (!(signed.expiresAt - signed.issuedAt <= MAX_SIGN_IN_S) || !isObject(signed.att)) return null;
  const key = principalOf(signed.aud);
  if (signed.hasFacts || !key.startsWith("did:key:") || signed.aud !== didUrl(key)) return null; // a policy, or a grant to a DID
  const held = Object.entries(signed.att).flatMap(([resource, abilities]) =>
    Object.entries(abilities).flatMap(([ability, caveats]) => (canonicalText(caveats) === "[{}]" ? [{ resource, ability }] : [])));
  const needed = [
    { resource: `${spaceId(owner, SPACE)}/kv/${PATH}`, ability: "tinycloud.kv/put" },
    { resource: networkId(owner), ability: "tinycloud.encryption/decrypt" },
  ];
  const readsRights = held.some(({ resource, ability }) => ability === "tinycloud.capabilities/read" && resource.startsWith("tinycloud:") && rootOf(resource) === owner);
  return readsRights && needed.every((one) => held.some((right) => covers(right, one))) ? key : null;
}

/** @param {any} stated verified to be signed for this owner @param {string} owner DID @returns {List} */
function listOf(stated, owner) {
  if (!hasExactly(stated, ["contacts", "owner", "serial"])) throw invalid("has missing or unknown members");
  const { contacts, serial } = stated;
  if (stated.owner !== owner) throw invalid("was made by another owner");
  if (!Number.isSafeInteger(serial) || serial < 1) throw invalid("has no valid number");
  if (!Array.isArray(contacts) || contacts.length > MOST_CONTACTS) throw invalid("is too long");
  for (const one of contacts) {
    const isText = hasExactly(one, ["did", "name"]) && typeof one.name === "string" && typeof one.did === "string";
    if (!isText || !isName(one.name) || !isContactDid(one.did)) throw invalid("has a name or a DID that is not valid");
  }
  const isOrdered = contacts.every(({ name }, at) => at === 0 || contacts[at - 1].name < name);
  const hasDistinctDids = new Set(contacts.map(({ did }) => did)).size === contacts.length;
  if (!isOrdered || !hasDistinctDids) throw invalid("has a name or a DID twice, or is out of order");
  return { contacts: contacts.map(({ name, did }) => ({ name, did })), serial };
}

/**
 * Parse a list, and verify that the owner made it (SH9). Whether the sign-in has ended or was revoked does not matter.
 * @param {Bytes} record the plaintext, untrusted: everybody can seal to the public key of a network @param {string} owner DID
 * @returns {Promise<List>} ConsoleError `contacts-invalid` if anything is malformed, or signed by another key
 */
export async function readRecord(record, owner) {
  if (record.length > MAX_RECORD_BYTES) throw invalid("is too long");
  /** @type {any} */
  let stated;
  /** @type {Bytes} */
  let signed;
  try {
    const said = text(record);
    stated = strictJson(said);
    if (canonicalText(stated) !== said || !hasExactly(stated, ["proof", "signed"]) || !isObject(stated.signed)) throw new SyntaxError();
    signed = canonicalBytes(stated.signed);
  } catch (cause) {
    throw invalid("cannot be parsed", cause);
  }
  const { proof } = stated;
  if (proof !== null && typeof proof !== "string") throw invalid("cannot be parsed");
  if (signed.length > MAX_STATEMENT_BYTES) throw invalid("is too long");
  const signer = proof === null ? owner : await signedInKey(proof, owner);
  if (signer === null) throw invalid("is not signed by a sign-in of yours");
  const statement = await readStatement(signed, TYPE, signer).catch((cause) => Promise.reject(invalid("has no valid signature", cause)));
  return listOf(statement, owner);
}

/** @param {Client} client @param {Bytes} stored untrusted @returns {Promise<List>} */
async function opened(client, stored) {
  const { session } = client;
  const envelope = await parseEnvelope(stored).catch((cause) => Promise.reject(invalid("is not sealed", cause)));
  // J15: another owner's network would open it for whoever may decrypt there.
  if (rootOf(canonicalNetwork(envelope.networkId)) !== session.owner) throw invalid("is sealed to another owner's network");
  if (envelope.aad !== base64(labelOf(session))) throw invalid("was sealed for another place");
  try {
    return await readRecord(await decrypt(client, stored), session.owner);
  } catch (cause) {
    if (!(cause instanceof ConsoleError) || !["envelope-broken", "answer-untrusted"].includes(cause.code)) throw cause;
    throw invalid("is damaged, or the node's answer is", cause);
  }
}

/**
 * Read the list; several parts of a page share one request. A list that this page has read before takes one request if it is unchanged, and an older one is refused (SH11).
 * @param {Client} client @returns {Promise<Stored>} ConsoleError `contacts-invalid` if it is not a list that the owner signed
 */
export function read(client) {
  /** @type {Promise<Stored>} */
  const reading = client.cache.get(READING) ?? readNow(client).finally(() => client.cache.delete(READING));
  client.cache.set(READING, reading);
  return reading;
}

/** @param {Client} client @returns {Promise<Stored>} */
async function readNow(client) {
  /** @type {Stored} */
  const known = client.cache.get(CACHED) ?? { contacts: [], serial: 0, etag: "" };
  const value = await kv.get(client, spaceOf(client.session), PATH, { maxBytes: MAX_ENVELOPE_BYTES, ifNoneMatch: known.etag || undefined }).catch((error) => {
    if (error.code === "not-modified") return known;
    // Removing the last contact stores an empty list, so the document does not vanish.
    if (error.code === "not-found") return known.serial ? Promise.reject(outdated()) : known;
    throw error;
  });
  if (!("body" in value)) return value;
  const stored = { ...(await opened(client, value.body)), etag: value.etag };
  if (stored.serial < known.serial) throw outdated();
  client.cache.set(CACHED, stored);
  return stored;
}

// --- changes ---------------------------------------------------------------------------------------------------------

/** @param {string} what */
const refused = (what) => new ConsoleError("invalid-input", what, { details: { text: what } });

/** @param {List} list @param {string} name @returns {Contact} */
function named({ contacts }, name) {
  const found = contacts.find((one) => one.name === name);
  if (!found) throw refused(`There is no contact ${name.slice(0, 32)}.`);
  return found;
}

/** @param {List} list @param {Contact[]} contacts @returns {List} */
const changedTo = ({ serial }, contacts) => ({ serial: serial + 1, contacts: contacts.sort((one, other) => (one.name < other.name ? -1 : 1)) });

/** @param {List} list @param {string} name */
function requireFree({ contacts }, name) {
  if (!isName(name)) throw refused("This cannot be the name of a contact.");
  if (contacts.some((one) => one.name === name)) throw refused(`The name ${name} is taken.`);
}

/** Give a name to a DID. @param {Client} client @param {string} name @param {string} did @returns {Promise<Stored>} */
export const add = (client, name, did) => change(client, (list) => {
  const principal = principalOf(did);
  requireFree(list, name);
  if (!isContactDid(principal)) throw refused("A contact has the DID of a wallet or a key.");
  const known = list.contacts.find((one) => one.did === principal);
  if (known) throw refused(`This DID is already the contact ${known.name}.`);
  if (list.contacts.length >= MOST_CONTACTS) throw refused(`There are already ${MOST_CONTACTS} contacts, which is the limit.`);
  return changedTo(list, [...list.contacts, { name, did: principal }]);
});

/** @param {Client} client @param {string} name @param {string} newName @returns {Promise<Stored>} */
export const rename = (client, name, newName) => change(client, (list) => {
  const { did } = named(list, name);
  requireFree(list, newName);
  return changedTo(list, [...list.contacts.filter((one) => one.name !== name), { name: newName, did }]);
});

/** Remove a contact. Grants and shares stay as they are. @param {Client} client @param {string} name @returns {Promise<Stored>} */
export const remove = (client, name) => change(client, (list) => {
  named(list, name);
  return changedTo(list, list.contacts.filter((one) => one.name !== name));
});

/** Store a changed list, and make the change again in what another client stored meanwhile (SH12). @param {Client} client @param {(list: List) => List} edit @returns {Promise<Stored>} */
async function change(client, edit) {
  await ensureNetwork(client);
  for (let tries = 1; ; tries++) {
    const stored = await read(client);
    const list = edit(stored);
    try {
      return await put(client, list, stored.etag);
    } catch (error) {
      if (!(error instanceof ConsoleError) || error.code !== "conflict" || tries === MOST_TRIES) throw error;
    }
  }
}

/** @param {Client} client @param {List} list @param {string} etag of the list that it replaces @returns {Promise<Stored>} */
async function put(client, list, etag) {
  const { session } = client;
  const record = await signedRecord(session, list);
  const envelope = await encrypt(client, networkId(session.owner), record, { label: labelOf(session) });
  const written = await kv.put(client, spaceOf(session), PATH, envelope, etag ? { ifMatch: etag } : { ifAbsent: true });
  const stored = { ...list, etag: written };
  client.cache.set(CACHED, stored);
  return stored;
}

/** @param {Client["session"]} session @param {List} list @returns {Promise<Bytes>} the plaintext to seal */
async function signedRecord(session, { contacts, serial }) {
  const proof = await proofOf(session);
  const statement = { owner: session.owner, serial, contacts };
  const said = utf8(`sealspace statement ${TYPE}\n${canonicalText(statement)}`);
  const signature = base64url(new Uint8Array(await crypto.subtle.sign("Ed25519", session.keys.privateKey, said)));
  const signed = { type: TYPE, signer: session.did, statement, signature };
  const record = canonicalBytes({ proof, signed });
  if (record.length > MAX_RECORD_BYTES || canonicalBytes(signed).length > MAX_STATEMENT_BYTES) throw refused("The list of contacts would be too long.");
  return record;
}

/** @param {Client["session"]} session @returns {Promise<string | null>} the sign-in that shows whose key signs; null: the owner's own key */
async function proofOf(session) {
  if (session.did === session.owner) return null;
  for (const { token, expiresAt } of session.grants) {
    if (token !== undefined && expiresAt > nowS() && (await signedInKey(token, session.owner)) !== null) return token;
  }
  throw new ConsoleError("not-authorised", "this session may not change contacts: only a sign-in of the owner may", { hint: "sign in again" });
}
