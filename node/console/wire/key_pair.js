/** Ed25519 keys from their seeds. */

import { base64url, concat, fromBase64url } from "./bytes.js";

/** PKCS #8 around an Ed25519 seed (RFC 8410). */
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** @param {import("./bytes.js").Bytes} seed 32 bytes @returns {Promise<CryptoKeyPair>} the private key cannot be exported */
export async function keyPair(seed) {
  const pkcs8 = concat(PKCS8, seed);
  // Exporting the private key is the only way to get its public key.
  const exported = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", exported);
  const raw = /** @type {import("./bytes.js").Bytes} */ (fromBase64url(x));
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  const publicKey = await crypto.subtle.importKey("jwk", { kty: "OKP", crv: "Ed25519", x: base64url(raw) }, "Ed25519", true, ["verify"]);
  pkcs8.fill(0);
  return { privateKey, publicKey };
}
