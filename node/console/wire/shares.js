/** What an owner shares with people: the signed grants, and the copies that follow from them (spec/sharing.md). */

import { base64url, fromBase64, fromBase64url, text, utf8 } from "./bytes.js";
import { decodeCbor } from "./cacao.js";
import { strictJson } from "./canonical_json.js";
import { tokenCid } from "./cid.js";
import { addressOf, ed25519Key, networkId, principalOf, spaceId } from "./did.js";
import { ALGORITHM } from "./encryption.js";
import { sealEnvelope } from "./envelope.js";
import { ConsoleError } from "./errors.js";
import { GET, items } from "./grants.js";
import * as kv from "./kv.js";
import { placeOf, SHARED } from "./places.js";
import { recapSentence } from "./recap.js";
import { recoverAddress } from "./secp256k1.js";
import { ALL, isScope, labelOf, METADATA, payloadOf, sealed, secretAt, spaceOf } from "./secrets.js";
import { nowS } from "./session.js";
import { siweText } from "./siwe.js";

/**
 * @import { Bytes } from "./bytes.js"
 * @import { Client } from "./client.js"
 * @import { SecretName } from "./secrets.js"
 * @typedef {{ kind: "folder", path: string, team: string | null, did: string, key: Bytes, keyVersion: number, group: string }} Folder of one person and key
 *   (SH1); `group`: the path below which grants name the secrets
 * @typedef {{ kind: "name", path: string, group: string, secret: SecretName }} Name by which a secret is shared with a person or a team (SH3)
 * @typedef {{ cid: string, expiresAt: number | null }} Live a live grant; epoch seconds
 * @typedef {Map<string, { target: Folder | Name, grants: Live[] }>} Signed by path, each with its grants, the latest first
 * @typedef {{ folder: Folder, expiresAt: number | null, secrets: SecretName[] }} Share a person's right to read copies of secrets
 */

export { SHARED };
const LIST = "tinycloud.kv/list";
export const READ = [GET, LIST];
const FOLDER = /^vault\/secrets\/shared\/(?:([a-z0-9][a-z0-9-]{0,63})\/)?(did:(?:key:z[1-9A-Za-z]{1,64}|pkh:eip155:[0-9]{1,20}:0x[0-9A-Fa-f]{40}))\/([\w-]{43})(?:\.([2-9]|[1-9][0-9]))?\/$/;
const MOST_REMOVED = 100;
/** What tokens state, by id. @type {Map<string, Promise<{ target: Folder | Name, expiresAt: number | null } | null>>} */
const read = new Map();

// --- paths -----------------------------------------------------------------------------------------------------------

/** @param {string | null} team @param {string} did @param {Bytes} [key] of the person's network @param {number} [keyVersion] @returns {Folder | null} null: the DID or the team is not valid */
export function folderOf(team, did, key = new Uint8Array(32), keyVersion = 1) {
  return folderAt(`${SHARED}${team === null ? "" : `${team}/`}${principalOf(did)}/${base64url(key)}${keyVersion === 1 ? "" : `.${keyVersion}`}/`);
}

/** @param {string} path @returns {Folder | null} null: it is no folder, or spelled in another way */
export function folderAt(path) {
  const [, team = null, did = "", encoded = "", version = "1"] = FOLDER.exec(path) ?? [];
  const key = fromBase64url(encoded);
  if (!did || key?.length !== 32 || principalOf(did) !== did) return null;
  return { kind: "folder", path, team, did, key, keyVersion: Number(version), group: `${SHARED}${team ?? did}/` };
}

/** @param {string} path @returns {Name | null} null: it names no shared secret */
function nameAt(path) {
  const [group] = /^vault\/secrets\/shared\/[^/]+\//.exec(path) ?? [];
  const secret = group === undefined ? null : secretAt(ALL + path.slice(group.length));
  return secret && isScope(secret.scope ?? "") ? { kind: "name", path, group: /** @type {string} */ (group), secret } : null;
}

/** @param {Folder} folder @param {SecretName} secret @returns {string} the path of its copy */
export const copyPath = (folder, { path }) => folder.path + path.slice(ALL.length);

// --- grants ----------------------------------------------------------------------------------------------------------

/**
 * Read a delegation without a proof, and verify its signature.
 * @param {string} token untrusted
 * @returns {Promise<{ iss: string, aud: string, issuedAt: number | null, expiresAt: number | null, att: any, hasFacts: boolean } | null>} `issuedAt`: null for a key's token;
 *   null: it is another token, or the signature is wrong
 */
export async function signedBy(token) {
  if (token.includes(".")) {
    const [head, body, signature] = token.split(".");
    const json = (/** @type {string} */ part) => strictJson(text(/** @type {Bytes} */ (fromBase64url(part))));
    const { iss, aud, exp, nbf, prf, att } = json(body);
    const [key, bytes] = [ed25519Key(principalOf(iss)), fromBase64url(signature)];
    if (json(head).alg !== "EdDSA" || !key || !bytes || nbf !== undefined || prf?.length !== 0 || !Number.isFinite(exp)) return null;
    const verifier = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    if (!(await crypto.subtle.verify("Ed25519", verifier, bytes, utf8(`${head}.${body}`)))) return null;
    return { iss: principalOf(iss), aud, issuedAt: null, expiresAt: exp, att, hasFacts: false };
  }
  const signed = walletMessage(token);
  return signed?.prf.length === 0 ? { ...signed, hasFacts: signed.resources.length > 1 } : null;
}

/**
 * Read a wallet's delegation, and verify its signature.
 * @param {string} token untrusted
 * @returns {{ iss: string, aud: string, issuedAt: number, expiresAt: number | null, att: any, prf: string[], resources: string[] } | null} null: it is another token, or the
 *   signature is wrong; `resources`: the last one is the ReCap
 */
export function walletMessage(token) {
  const { h, p, s } = decodeCbor(/** @type {Bytes} */ (fromBase64(token.replaceAll("-", "+").replaceAll("_", "/"))));
  const { aud, iat, iss, nonce, domain, version: _, exp, statement, resources = [], ...others } = p;
  const [address, chainId] = [addressOf(iss), iss.split(":")[3]];
  const recap = resources.at(-1);
  if (h.t !== "eip4361" || s.t !== "eip191" || !address || Object.keys(others).length || !recap?.startsWith("urn:recap:")) return null;
  const message = { domain, address, chainId, uri: aud, nonce, issuedAt: iat, expirationTime: exp, statement, resources };
  const { att, prf } = strictJson(text(/** @type {Bytes} */ (fromBase64url(recap.slice("urn:recap:".length)))));
  const expiresAt = exp === undefined ? null : Date.parse(exp) / 1000;
  if (!Array.isArray(prf) || Number.isNaN(expiresAt) || !statement?.endsWith(recapSentence(att))) return null;
  return recoverAddress(siweText(message), s.s) === address.toLowerCase() ? { iss: principalOf(iss), aud, issuedAt: Date.parse(iat) / 1000, expiresAt, att, prf, resources } : null;
}

/**
 * Parse the grant of a folder or of a name, and verify its signature (SH3).
 * @param {string} token untrusted @param {string} owner DID of the person who shares; only this DID's own signature counts
 * @returns {Promise<{ target: Folder | Name, expiresAt: number | null } | null>} null: it is another grant. Its end and its revocation are not checked
 */
export async function readSigned(token, owner) {
  try {
    const signed = await signedBy(token);
    const resources = Object.keys(signed?.att ?? {});
    const place = `${spaceId(owner, "secrets")}/kv/`;
    if (!signed || signed.iss !== owner || resources.length !== 1 || !resources[0].startsWith(place)) return null;
    const stated = Object.entries(signed.att[resources[0]]);
    const isRead = stated.length === READ.length && stated.every(([ability, caveats]) => READ.includes(ability) && Array.isArray(caveats) && caveats.every((one) => one !== null && typeof one === "object" && !Object.keys(one).length));
    const path = resources[0].slice(place.length);
    const target = folderAt(path) ?? nameAt(path);
    if (!isRead || !target || principalOf(signed.aud) !== (target.kind === "folder" ? target.did : owner)) return null;
    return { target, expiresAt: signed.expiresAt };
  } catch {
    return null; // a token of another client
  }
}

/** @param {Client} client @returns {Promise<Signed>} from the owner's live grants */
export async function signedShares(client) {
  const { owner, member } = client.session;
  /** @type {Signed} */
  const found = new Map();
  if (member) return found; // a team shares no copies: its members read the secrets
  for await (const { cid, token, status } of items(client, { direction: "granted", status: "active", space: spaceId(owner, "secrets"), tokens: true })) {
    if (typeof token !== "string" || typeof cid !== "string" || status !== "active") continue;
    if (!read.has(cid)) read.set(cid, readSigned(token, owner).then((one) => (one && tokenCid(token) === cid ? one : null)));
    const one = await read.get(cid);
    if (!one || (one.expiresAt !== null && one.expiresAt <= nowS())) continue; // a node could list a grant as active after its end
    const { path } = one.target;
    const known = found.get(path) ?? { target: one.target, grants: [] };
    known.grants.push({ cid, expiresAt: one.expiresAt });
    found.set(path, known);
  }
  return found;
}

/** @param {Signed} signed @returns {Share[]} the people, each with the secrets that are shared with them */
export function sharesIn(signed) {
  const targets = [...signed.values()];
  return targets.flatMap(({ target: folder, grants }) => folder.kind !== "folder" ? [] : [{ folder, expiresAt: grants[0].expiresAt,
    secrets: targets.flatMap(({ target }) => (target.kind === "name" && target.group === folder.group ? [target.secret] : [])) }]);
}

/** @param {Client} client @returns {Promise<Share[]>} */
export const shares = async (client) => sharesIn(await signedShares(client));

// --- copies ----------------------------------------------------------------------------------------------------------

/**
 * @typedef {{ secret: SecretName, value: string | Bytes }} Entry
 * @param {Client} client @param {Folder} folder @param {Entry} entry @returns {Promise<string>} an envelope for the person, sealed to the key in the path
 */
async function sealedFor(client, folder, { secret, value }) {
  const recipient = { networkId: networkId(folder.did), publicEncryptionKey: folder.key, alg: ALGORITHM, keyVersion: folder.keyVersion };
  const copy = { ...secret, path: copyPath(folder, secret) };
  const payload = payloadOf(value, placeOf(spaceOf(client), copy.path));
  return sealEnvelope(recipient, payload, { label: labelOf(client, copy), metadata: METADATA });
}

/** @param {Client} client @param {Share[]} to @param {Entry[]} entries @returns {Promise<Map<string, string>>} the copies of these values, by path */
async function copiesOf(client, to, entries) {
  /** @type {Map<string, string>} */
  const copies = new Map();
  for (const { folder, secrets } of to) {
    for (const entry of entries) {
      if (secrets.some(({ path }) => path === entry.secret.path)) copies.set(copyPath(folder, entry.secret), await sealedFor(client, folder, entry));
    }
  }
  return copies;
}

/** A copy of a value that does not state its place could be another secret's, with the name of this one (CN14). @param {SecretName} secret */
export const unbound = ({ label }) => new ConsoleError("unbound-value", `${label} does not state its place`, { details: { text: label } });

/** Delete values of the owner's secrets. @param {Client} client @param {string[]} paths */
export async function removeAll(client, paths) {
  for (let from = 0; from < paths.length; from += MOST_REMOVED) await kv.removeAll(client, spaceOf(client), paths.slice(from, from + MOST_REMOVED));
}

/**
 * Store the copies of stored values, for all people or one folder (SH6).
 * @param {Client} client @param {Entry[]} entries @param {{ only?: string }} [which] path of the folder
 * @returns {Promise<Share[]>} the people whose copies were stored; ConsoleError `copies-stale`
 */
export async function renewCopies(client, entries, { only } = {}) {
  try {
    const to = (await shares(client)).filter(({ folder }) => only === undefined || folder.path === only);
    const copies = await copiesOf(client, to, entries);
    await kv.putMany(client, spaceOf(client), copies);
    await removeEnded(client, [...copies.keys()]);
    return to.filter(({ secrets }) => secrets.some(({ path }) => entries.some(({ secret }) => secret.path === path)));
  } catch (cause) {
    const details = cause instanceof ConsoleError ? cause.details : {};
    throw new ConsoleError("copies-stale", "the copies could not be renewed", { cause, details: { ...details, text: cause instanceof Error ? cause.message : "" } });
  }
}

/**
 * Seal and store several secrets and their copies, in the same commits as far as possible (SH6).
 * @param {Client} client @param {{ scope: string | null, name: string, label: string, path: string, value: string | Bytes }[]} secrets @returns {Promise<void>} as `kv.putMany`
 */
export async function putMany(client, secrets) {
  const entries = secrets.map(({ value, scope, name, label, path }) => ({ secret: { scope, name, label, path }, value }));
  /** @type {Map<string, string>} */
  const values = new Map();
  const to = await shares(client);
  const paths = new Set();
  for (const entry of entries) {
    values.set(entry.secret.path, await sealed(client, entry.secret, entry.value));
    for (const [path, copy] of await copiesOf(client, to, [entry])) values.set(path, copy), paths.add(path);
  }
  await kv.putMany(client, spaceOf(client), values);
  await removeEnded(client, [...paths]);
}

/** Delete copies whose sharing ended meanwhile (SH6). @param {Client} client @param {string[]} paths */
async function removeEnded(client, paths) {
  if (!paths.length) return;
  const live = new Set((await shares(client)).flatMap(({ folder, secrets }) => secrets.map((one) => copyPath(folder, one))));
  await removeAll(client, paths.filter((path) => !live.has(path)));
}
