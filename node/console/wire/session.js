/** Sessions: a browser key that cannot be exported, and the owner's grants to it. */

import { encodeCacao } from "./cacao.js";
import { tokenCid } from "./cid.js";
import { didKey, didUrl, networkId, ownerOfSpace, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { info, requireNode } from "./node.js";
import { attenuations, distinctCapabilities } from "./recap.js";
import { isoTime, newNonce, siweText, withRecap } from "./siwe.js";
import { exchange, jsonOf, malformed, pathSegment, requireSuccess } from "./transport.js";
import { mintUcan } from "./ucan.js";

/**
 * @import { Capability } from "./recap.js"
 * @import { Owner } from "./wallets.js"
 * @typedef {{ cid: string, token?: string, capabilities: Capability[], expiresAt: number }} Grant `expiresAt` in epoch
 *   seconds; `token` as signed
 * @typedef {{ network: string, publicEncryptionKey: string, keyVersion: number }} Pin
 */
/**
 * @typedef {object} Session immutable but for its grants and pins
 * @property {string} owner DID of the owner for whom it acts
 * @property {"wallet" | "phrase"} kind of the owner
 * @property {string} [login] option of `sealspace login` for the owner's key file, if `sealspace console` signed with one
 * @property {string} did of the session's key
 * @property {CryptoKeyPair} keys the private one cannot be exported
 * @property {string} node DID of the node at which it was made
 * @property {string} space id of the primary space
 * @property {number} expiresAt epoch seconds
 * @property {Grant[]} grants the sign-in first; empty if the key is the owner's own
 * @property {Pin[]} pins keys of the networks used for sealing
 * @property {Member} [member] if it acts for a team: the owner of the browser's own session, as a member of `owner`
 */
/** @typedef {{ did: string, name: string, role: "admin" | "writer" | "reader", secrets: string[], cid: string }} Member `name`: of the team among the person's contacts; `secrets`: labels,
 *   empty for all; `cid`: id of the membership */

const SESSION_TTL_S = 7 * 86400;
export const SECRETS_SPACE = "secrets";
export const KV_ABILITIES = ["get", "put", "del", "list", "metadata"].map((one) => `tinycloud.kv/${one}`);
const HOST_GRANT_TTL_S = 3600;
const INVOCATION_TTL_S = 60;
const [DATABASE, STORE, CURRENT] = ["sealspace-console", "sessions", "current"];
/** The sessions for teams, by the DID of the team (`teams.js`), and the invitations that wait (`invitations.js`). */
export const [TEAMS, SIDES] = ["teams", "invitations"];
/** The key that waits for `sealspace console`; see `link.js`. */
export const PENDING = "pending";
const tabs = new BroadcastChannel(DATABASE);

/** @returns {number} epoch seconds */
export const nowS = () => Date.now() / 1000;

/** @param {string} resource @param {string[]} abilities @returns {Capability[]} */
export const rows = (resource, abilities) => abilities.map((ability) => ({ resource, ability }));

/** @param {string} space id @returns {Capability[]} all rights to a space that a sign-in asks for */
export const wholeSpace = (space) => [
  ...rows(`${space}/kv`, KV_ABILITIES),
  ...rows(`${space}/capabilities`, ["tinycloud.capabilities/read"]),
  ...rows(`${space}/delegation`, ["list", "revoke", "status"].map((one) => `tinycloud.delegation/${one}`)),
];

/** @param {string} owner DID @returns {Capability[]} the rights that a console sign-in asks for */
export function consoleCapabilities(owner) {
  const primary = spaceId(owner, "default");
  const network = networkId(owner);
  return distinctCapabilities([
    ...wholeSpace(primary),
    ...rows(`${primary}/space`, ["list", "create", "info"].map((one) => `tinycloud.space/${one}`)),
    ...rows(`${spaceId(owner, SECRETS_SPACE)}/kv/vault/secrets/`, KV_ABILITIES),
    ...rows(network, ["tinycloud.encryption/decrypt", "tinycloud.encryption/network.create"]),
    ...rows(network, ["sealspace.encryption/receipts"]),
  ]);
}

// --- signing in ------------------------------------------------------------------------------------------------------

/**
 * Post a delegation.
 * @param {string} token @param {Capability[]} capabilities of it
 * @returns {Promise<string[]>} ids of its spaces that the node does not host
 */
export async function register(token, capabilities) {
  const asked = "registering a delegation";
  const said = jsonOf(
    requireSuccess(await exchange({ method: "POST", path: "/delegate", mint: async () => token, repeatable: true, asked })),
  );
  const skipped = Array.isArray(said?.skipped) ? said.skipped : [];
  return [...new Set(capabilities.map(({ resource }) => spaceOfResource(resource)))].filter((one) => skipped.includes(one));
}

/** @param {string} resource @returns {string} the id of its space, or the resource itself */
export const spaceOfResource = (resource) =>
  resource.startsWith("tinycloud:") ? resource.split("/", 1)[0] : resource;

/** @param {string} resource @returns {string | null} DID of the owner of its space or network */
export function rootOf(resource) {
  if (resource.startsWith("tinycloud:")) return principalOf(ownerOfSpace(spaceOfResource(resource)));
  const network = /^urn:tinycloud:encryption:(did:.*):[^:]+$/.exec(resource);
  return network ? principalOf(network[1]) : null;
}

/** @param {string} space id @returns {Promise<string>} the DID under which the node hosts it */
async function hostDid(space) {
  const asked = "under which DID the node hosts a space";
  const path = `/peer/generate/${pathSegment(space)}`;
  const answer = requireSuccess(await exchange({ path, repeatable: true, maxBytes: 4096, asked }));
  const did = new TextDecoder().decode(answer.body);
  if (!/^did:key:z[0-9A-Za-z]+$/.test(did)) throw malformed(asked, "it is no DID");
  return did;
}

/**
 * Ask a wallet for one signature.
 * @param {Owner} owner a wallet
 * @param {{ uri: string, capabilities: Capability[], ttlS?: number, expiresAt?: number, resources?: string[], parents?: string[] }} message `ttlS` or `expiresAt` in
 *   epoch seconds; `parents`: ids in base58
 * @returns {Promise<{ token: string, expiresAt: number }>}
 */
export async function walletToken(owner, { uri, capabilities, ttlS = 0, expiresAt: end, resources, parents }) {
  if (!owner.signText || !owner.address || !owner.chainId) {
    throw new ConsoleError("wallet-absent", "this owner has no wallet");
  }
  const issued = nowS();
  const expiresAt = end ?? Math.round((issued + ttlS) * 1000) / 1000;
  const bare = {
    domain: location.host,
    address: owner.address,
    chainId: owner.chainId,
    uri,
    nonce: newNonce(),
    issuedAt: isoTime(issued),
    expirationTime: isoTime(expiresAt),
    resources,
  };
  const message = withRecap(bare, capabilities, parents);
  return { token: encodeCacao(message, await owner.signText(siweText(message))), expiresAt };
}

/** @param {string[]} spaces ids that are not hosted */
export function requireHosted(spaces) {
  if (!spaces.length) return;
  const hint = "ask the node's operator to admit you as an owner";
  throw new ConsoleError("spaces-not-hosted", "the node does not host these spaces", { hint, details: { spaces } });
}

/**
 * Register the owner's sign-in, and host the spaces that the node does not host yet. Takes at most one further signature.
 * @param {(uri: string, capabilities: Capability[], ttlS: number) => Promise<{ token: string, expiresAt: number }>} sign
 * @param {string} did of the delegate @param {Capability[]} capabilities @param {number} ttlS @returns {Promise<Grant>}
 */
async function registered(sign, did, capabilities, ttlS) {
  const { token, expiresAt } = await sign(did, capabilities, ttlS);
  let skipped = await register(token, capabilities);
  if (skipped.length) {
    const hosting = skipped.flatMap((space) => rows(`${space}/space`, ["tinycloud.space/host"]));
    const host = await sign(await hostDid(skipped[0]), hosting, HOST_GRANT_TTL_S);
    await register(host.token, hosting);
    skipped = await register(token, capabilities);
  }
  requireHosted(skipped);
  return { cid: tokenCid(token), token, capabilities, expiresAt };
}

/** @returns {Promise<CryptoKeyPair>} Ed25519; the private key cannot be exported */
export const newKeys = () =>
  /** @type {Promise<CryptoKeyPair>} */ (crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"])).catch((cause) => {
    const hint = "use a current version of Chrome, Edge, Firefox or Safari";
    throw new ConsoleError("browser-too-old", "this browser cannot make the keys that are needed", { hint, cause });
  });

/**
 * Sign in and store the session. A wallet signs once, and a second time if the node does not host spaces by itself.
 * @param {Owner} owner
 * @param {{ nodeId?: string }} [asked] DID of the intended node: another node receives no token, and the wallet signs nothing
 * @returns {Promise<Session>}
 */
export async function signIn(owner, { nodeId } = {}) {
  const node = (await (nodeId === undefined ? info() : requireNode(nodeId))).nodeId;
  const wanted = consoleCapabilities(owner.did);
  const { kind } = owner;
  const base = { owner: owner.did, kind, node, space: spaceId(owner.did, "default"), pins: [] };
  /** @type {Session} */
  let session;
  if (kind === "wallet") {
    const keys = await newKeys();
    const did = didKey(new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey)));
    const grant = await registered(
      (uri, rows_, ttlS) => walletToken(owner, { uri, capabilities: rows_, ttlS }),
      didUrl(did),
      wanted,
      SESSION_TTL_S,
    );
    session = { ...base, did, keys, grants: [grant], expiresAt: grant.expiresAt };
  } else {
    const keys = /** @type {CryptoKeyPair} */ (owner.keys);
    session = { ...base, did: owner.did, keys, grants: [], expiresAt: nowS() + SESSION_TTL_S };
    const own = wanted.filter(({ resource }) => resource.startsWith("tinycloud:"));
    await registered((aud, rows_, ttlS) => sessionToken(session, { aud, capabilities: rows_, ttlS }), owner.did, own, HOST_GRANT_TTL_S);
  }
  await begin(session);
  return session;
}

/** Make a session the one of this browser, in every tab. @param {Session} session */
export async function begin(session) {
  await inStore((store) => {
    store.delete(PENDING);
    store.delete(TEAMS);
    const reading = store.get(CURRENT);
    reading.addEventListener("success", () => {
      if (reading.result?.owner !== session.owner) store.delete(SIDES);
    });
    return store.put(session, CURRENT);
  });
  tabs.postMessage(session.did);
}

/**
 * Sign a token with the session's key.
 * @param {Session} session
 * @param {{ aud: string, capabilities: Capability[], proofs?: string[], facts?: import("./canonical_json.js").Json[],
 *   ttlS?: number, expiresAt?: number, bare?: boolean }} claims `bare`: the issuer is the DID, not its URL
 * @returns {Promise<{ token: string, expiresAt: number }>}
 */
export async function sessionToken(session, { aud, capabilities, proofs = [], facts = [], ttlS = INVOCATION_TTL_S, expiresAt, bare }) {
  const exp = expiresAt ?? nowS() + ttlS;
  const iss = bare ? session.did : didUrl(session.did);
  const claims = { iss, aud, exp, fct: facts, prf: proofs, att: attenuations(capabilities) };
  return { token: await mintUcan(claims, session.keys.privateKey), expiresAt: exp };
}

// --- the rights of a session -----------------------------------------------------------------------------------------

/** @param {Capability} held @param {Capability} wanted */
export function covers(held, wanted) {
  if (held.ability !== wanted.ability) return false;
  if (held.resource === wanted.resource) return true;
  if (!held.resource.startsWith("tinycloud:")) return false;
  const [, service, path] = /^[^/]+\/([^/]+)(?:\/(.*))?$/.exec(held.resource) ?? [];
  if (path === undefined && service !== undefined) return wanted.resource.startsWith(held.resource + "/");
  return wanted.resource.startsWith(held.resource.endsWith("/") ? held.resource : held.resource + "/");
}

/**
 * @param {Session} session @param {Capability[]} wanted
 * @returns {{ proofs: string[], expiresAt: number }} ids to cite, a single one if possible, and the earliest expiry among them
 */
export function proofsFor(session, wanted) {
  const now = nowS();
  const hint = "sign in again";
  if (session.expiresAt <= now) throw new ConsoleError("session-expired", "the session has ended", { hint });
  const dependent = wanted.filter(({ resource }) => rootOf(resource) !== session.did);
  if (!dependent.length) return { proofs: [], expiresAt: session.expiresAt };
  const live = session.grants.filter(({ expiresAt }) => expiresAt > now);
  /** @param {Capability} one */
  const covering = (one) => live.find((grant) => grant.capabilities.some((held) => covers(held, one)));
  const whole = live.find((grant) => dependent.every((one) => grant.capabilities.some((held) => covers(held, one))));
  const missing = dependent.filter((one) => !covering(one));
  if (missing.length) {
    const text = missing.slice(0, 4).map(({ resource, ability }) => `${ability} on ${resource}`).join("; ");
    const message = `nothing that this session holds covers ${text}`;
    throw new ConsoleError("not-authorised", message, { hint: "allow it with your wallet, or sign in again", details: { missing } });
  }
  const cited = whole ? [whole] : [...new Set(dependent.map((one) => /** @type {Grant} */ (covering(one))))];
  return { proofs: cited.map(({ cid }) => cid), expiresAt: Math.min(...cited.map(({ expiresAt }) => expiresAt)) };
}

/**
 * Ask the wallet to grant the session further rights. Takes one signature, and one more if a space has to be hosted.
 * @param {Session} session @param {Owner} owner the owner who signed in @param {Capability[]} capabilities
 * @param {number} [mostS] longest lifetime in seconds
 * @returns {Promise<void>} does nothing for a phrase's session, which has every right
 */
export async function addRights(session, owner, capabilities, mostS = Infinity) {
  if (session.kind === "phrase") return;
  if (owner.did !== session.owner) throw new ConsoleError("wallet-account-changed", "this is not the owner of the session");
  await requireNode(session.node);
  const ttlS = Math.max(1, Math.min(mostS, session.expiresAt - nowS()));
  const grant = await registered(
    (uri, rows_, life) => walletToken(owner, { uri, capabilities: rows_, ttlS: life }),
    didUrl(session.did),
    capabilities,
    ttlS,
  );
  session.grants.push(grant);
  await keep(session);
}

// --- storage ---------------------------------------------------------------------------------------------------------

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/**
 * @template T
 * @param {(store: IDBObjectStore) => IDBRequest<T>} work runs on this origin's store. Requests that it makes
 *   in its request's `success` handler belong to the same transaction
 * @returns {Promise<T>}
 */
export async function inStore(work) {
  try {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    const database = await settled(opening);
    try {
      const transaction = database.transaction(STORE, "readwrite");
      // A write is durable only after its transaction has completed.
      const completed = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
      });
      const [value] = await Promise.all([settled(work(transaction.objectStore(STORE))), completed]);
      return value;
    } finally {
      database.close();
    }
  } catch (cause) {
    const hint = "allow this site to keep data, or leave the private window";
    throw new ConsoleError("storage-unavailable", "this browser keeps nothing for this page", { hint, cause });
  }
}

/**
 * Store a session's new grants and pins, and add those from other tabs. Fails if another tab signed out or signed in anew.
 * @param {Session} session @returns {Promise<void>}
 */
export async function keep(session) {
  let isKept = false;
  await inStore((store) => {
    const reading = store.get(session.member ? TEAMS : CURRENT);
    reading.addEventListener("success", () => {
      const kept = session.member ? reading.result?.[session.owner] : reading.result;
      if (!kept || !isWhole(kept) || kept.did !== session.did) return;
      const grants = [...new Map([...kept.grants, ...session.grants].map((one) => [one.cid, one])).values()];
      const pins = [...new Map([...session.pins, ...kept.pins].map((one) => [one.network, one])).values()];
      isKept = true;
      Object.assign(session, { grants, pins });
      session.member ? store.put({ ...reading.result, [session.owner]: session }, TEAMS) : store.put(session, CURRENT);
    });
    return reading;
  });
  if (!isKept) throw new ConsoleError("session-expired", "it was signed out in another tab", { hint: "sign in again" });
}

/** @param {any} kept a session stored by any version @returns {boolean} */
const isWhole = ({ owner, kind, did, keys, node, space, expiresAt, grants, pins }) =>
  [owner, kind, did, node, space].every((one) => typeof one === "string") && keys?.privateKey instanceof CryptoKey &&
  Number.isFinite(expiresAt) && Array.isArray(pins) && Array.isArray(grants) && grants.every((one) => Array.isArray(one?.capabilities));

/** @returns {Promise<Session | null>} the stored session, unless it has expired; `Client` checks its node */
export async function restore() {
  /** @type {Session | undefined} */
  const session = await inStore((store) => store.get(CURRENT));
  if (session && isWhole(session) && session.expiresAt > nowS()) return session;
  if (session) await forget();
  return null;
}

/**
 * @param {Session} own @param {string} team DID @returns {Promise<Session | null>} the stored session for a team; null: there is none of this owner. It may have ended
 */
export async function restoreTeam(own, team) {
  /** @type {Session | undefined} */
  const kept = (await inStore((store) => store.get(TEAMS)))?.[team];
  return kept && isWhole(kept) && kept.owner === team && kept.member?.did === own.owner && Array.isArray(kept.member.secrets) && kept.node === own.node ? kept : null;
}

const forget = () => inStore((store) => {
  for (const key of [PENDING, TEAMS, SIDES]) store.delete(key);
  return store.delete(CURRENT);
});

/** @returns {Promise<void>} forgets the session and its key, in every tab */
export async function signOut() {
  await forget();
  tabs.postMessage(null);
}

/** @param {(did: string | null) => void} listener called with the DID of the key with which another tab signed in; null: it signed out */
export const onOtherTab = (listener) => tabs.addEventListener("message", ({ data }) => listener(data));
