// @ts-check
/** A wallet's signed message on the wire. */

import { base64urlPadded } from "./bytes.js";
import { encodeCbor } from "./cbor.js";
import { didPkh } from "./did.js";

/**
 * @param {import("./siwe.js").SiweMessage} message @param {Uint8Array} signature r, s, v: 65 bytes
 * @returns {string} the header
 */
export function encodeCacao(message, signature) {
  /** @type {{[name: string]: import("./cbor.js").CborValue}} */
  const payload = {
    aud: message.uri,
    iat: message.issuedAt,
    iss: didPkh(message.chainId, message.address),
    nonce: message.nonce,
    domain: message.domain,
    version: 1,
  };
  if (message.expirationTime !== undefined) payload.exp = message.expirationTime;
  if (message.statement !== undefined) payload.statement = message.statement;
  if (message.resources?.length) payload.resources = message.resources;
  return base64urlPadded(encodeCbor({ h: { t: "eip4361" }, p: payload, s: { s: signature, t: "eip191" } }));
}
