/** A recovery phrase stored in this browser, sealed by a passkey (WebAuthn PRF). A fingerprint or PIN opens it. */

import { concat, random, utf8 } from "./bytes.js";
import { ConsoleError } from "./errors.js";
import { entropyOf, phraseOf } from "./recovery_phrase.js";
import { inStore } from "./session.js";

/** @import { Bytes } from "./bytes.js" */

const KEPT = "passkey";
const LABEL = utf8("sealspace/passkey/1");

/** @param {unknown} [cause] */
const unavailable = (cause) =>
  new ConsoleError("passkey-unavailable", "no passkey could be used here", {
    hint: "type the recovery phrase; a passkey needs a device that can derive keys (PRF)",
    cause,
  });

/** @param {Bytes} id of the credential @param {Bytes} salt @returns {Promise<CryptoKey>} */
async function sealingKey(id, salt) {
  const publicKey = /** @type {PublicKeyCredentialRequestOptions} */ ({
    challenge: random(32),
    allowCredentials: [{ type: "public-key", id }],
    userVerification: "required",
    extensions: { prf: { eval: { first: salt } } },
  });
  const found = /** @type {any} */ (await navigator.credentials.get({ publicKey }).catch((cause) => Promise.reject(unavailable(cause))));
  const first = found?.getClientExtensionResults().prf?.results?.first;
  if (!first) throw unavailable();
  const secret = await crypto.subtle.importKey("raw", first, "HKDF", false, ["deriveKey"]);
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info: LABEL };
  return crypto.subtle.deriveKey(how, secret, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
}

/** @param {string} phrase @param {string} name of the owner, shown by the browser @returns {Promise<void>} creates a passkey, seals the phrase with it and stores it */
export async function keepPhrase(phrase, name) {
  const entropy = await entropyOf(phrase);
  const publicKey = /** @type {PublicKeyCredentialCreationOptions} */ ({
    challenge: random(32),
    rp: { name: "sealspace" },
    user: { id: random(16), name, displayName: name },
    pubKeyCredParams: [-8, -7, -257].map((alg) => ({ type: "public-key", alg })),
    authenticatorSelection: { userVerification: "required", residentKey: "preferred" },
    extensions: { prf: {} },
  });
  const made = /** @type {any} */ (await navigator.credentials.create({ publicKey }).catch((cause) => Promise.reject(unavailable(cause))));
  if (!made?.getClientExtensionResults().prf?.enabled) throw unavailable();
  const [id, salt, iv] = [new Uint8Array(made.rawId), random(32), random(12)];
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await sealingKey(id, salt), entropy);
  await inStore((store) => store.put({ id, salt, sealed: concat(iv, new Uint8Array(sealed)) }, KEPT));
}

/** @returns {Promise<boolean>} whether this browser stores a phrase */
export const isKept = async () => (await inStore((store) => store.get(KEPT))) !== undefined;

/** @returns {Promise<string>} the stored phrase, opened by its passkey */
export async function keptPhrase() {
  const kept = await inStore((store) => store.get(KEPT));
  if (!kept) throw unavailable();
  const key = await sealingKey(kept.id, kept.salt);
  try {
    const iv = kept.sealed.slice(0, 12);
    return await phraseOf(new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, kept.sealed.slice(12))));
  } catch (cause) {
    throw unavailable(cause);
  }
}

/** @returns {Promise<void>} */
export const forgetPhrase = async () => void (await inStore((store) => store.delete(KEPT)));
