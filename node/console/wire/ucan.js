/** Tokens signed by a session's key: UCAN 0.10 as a compact JWS. */

import { base64url, utf8 } from "./bytes.js";
import { ed25519Key } from "./did.js";

/**
 * @typedef {object} Claims
 * @property {string} iss DID URL of the signer, or its DID
 * @property {string} aud DID of the addressee
 * @property {number} exp epoch seconds
 * @property {string} [nnc] absent: a fresh one is generated
 * @property {import("./canonical_json.js").Json[]} [fct]
 * @property {string[]} prf ids of the cited delegations
 * @property {import("./recap.js").Attenuations} att
 */

/** @param {Claims} claims @param {CryptoKey} privateKey @returns {Promise<string>} */
export async function mintUcan(claims, privateKey) {
  const publicKey = ed25519Key(claims.iss.split("#", 1)[0]);
  if (publicKey === null) throw new TypeError("the issuer is no key");
  const jwk = { alg: "EdDSA", crv: "Ed25519", kty: "OKP", x: base64url(publicKey) };
  const { iss, aud, exp, nnc, fct, prf, att } = claims;
  const nonce = nnc ?? `urn:uuid:${crypto.randomUUID()}`;
  const payload = { iss, aud, exp: Math.round(exp * 1000) / 1000, nnc: nonce, ...(fct?.length ? { fct } : {}), prf, att };
  const parts = [{ alg: "EdDSA", jwk, typ: "JWT", ucv: "0.10.0" }, payload];
  const signed = parts.map((part) => base64url(utf8(JSON.stringify(part)))).join(".");
  const signature = await crypto.subtle.sign("Ed25519", privateKey, utf8(signed));
  return `${signed}.${base64url(new Uint8Array(signature))}`;
}
