/**
 * A session that `sealspace console` signs for a key of this browser. The key is made here and cannot be exported; it waits
 * for ten minutes. The command sends back a sign-in, which is of no use without the key.
 */

import { fromBase64, text, fromBase64url } from "./bytes.js";
import { decodeCbor } from "./cacao.js";
import { tokenCid } from "./cid.js";
import { addressOf, didKey, didUrl, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { begin, inStore, newKeys, nowS, PENDING, register, requireHosted, rows } from "./session.js";

/** @typedef {{ did: string, keys: CryptoKeyPair }} Offer */

const PENDING_S = 600;
const MAX_TOKEN_CHARS = 65536;
/** What signed at the command line -> the option of `sealspace login` that signs with it again. */
const KEY_FILES = new Map([["key", "key-file FILE"], ["keystore", "keystore FILE"]]);
const RECAP = "urn:recap:";

/** @returns {Promise<Offer>} a new key */
export async function newOffer() {
  const keys = await newKeys();
  return { keys, did: didKey(new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey))) };
}

/** @param {Offer} offer that the command is about to sign; replaces an earlier one */
export const keepOffer = (offer) => inStore((store) => store.put({ ...offer, until: nowS() + PENDING_S }, PENDING));

/** @param {string} token untrusted @returns {{ owner: string, audience: string, expiresAt: number, capabilities: import("./recap.js").Capability[] } | null} */
function readSignIn(token) {
  try {
    if (token.length > MAX_TOKEN_CHARS) return null;
    const { p } = decodeCbor(/** @type {any} */ (fromBase64(token.replaceAll("-", "+").replaceAll("_", "/"))));
    const recap = p.resources.at(-1);
    const { att } = JSON.parse(text(/** @type {any} */ (recap.startsWith(RECAP) && fromBase64url(recap.slice(RECAP.length)))));
    const capabilities = Object.entries(att).flatMap(([resource, held]) => rows(resource, Object.keys(held)));
    const expiresAt = Date.parse(p.exp) / 1000;
    if (!addressOf(p.iss) || !Number.isFinite(expiresAt) || !capabilities.length) return null;
    return { owner: principalOf(p.iss), audience: p.aud, expiresAt, capabilities };
  } catch {
    return null;
  }
}

/**
 * Take the sign-in that the command sent, and make it the session of this browser.
 * @param {string} token untrusted: any page can link to the console @param {string} node DID
 * @param {string | null} wallet that the link names, untrusted: it selects a text
 * @returns {Promise<import("./session.js").Session>}
 */
export async function acceptSignIn(token, node, wallet) {
  const offer = await inStore((store) => store.get(PENDING));
  const read = readSignIn(token);
  // Without this, a link could sign a person in as somebody else, who would then get their secrets. CN9
  if (!(offer?.keys?.privateKey instanceof CryptoKey) || !(nowS() < offer.until) || read?.audience !== didUrl(offer.did) || read.expiresAt <= nowS()) {
    throw new ConsoleError("link-refused", "the sign-in is not for a key that waits here");
  }
  const { owner, capabilities, expiresAt } = read;
  // The command has registered it. The node's answer says that it is signed, and by whom.
  requireHosted(await register(token, capabilities));
  const grant = { cid: tokenCid(token), token, capabilities, expiresAt };
  /** @type {import("./session.js").Session} */
  const session = { owner, kind: "wallet", login: KEY_FILES.get(wallet ?? ""), did: offer.did, keys: offer.keys, node, space: spaceId(owner, "default"), expiresAt, grants: [grant], pins: [] };
  await begin(session);
  return session;
}
