/** The place of a sealed value, which its plaintext states (EN45). */

import { isObject } from "./canonical_json.js";
import { isSpaceId, ownerOfSpace, principalOf, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";

/** @typedef {{ owner: string, space: string, path: string, form: "secret" | "note" | "copy" }} Place */

/** Folder of the owner's notes (EN33). */
export const NOTES = "vault/secrets/notes/";
/** Folder of the copies for people (SH1). */
export const SHARED = "vault/secrets/shared/";
const MEMBERS = "form owner path space";
const FORMS = ["secret", "note", "copy"];
const MAX_TEXT_CHARS = 4096;

/** @param {string} space id @param {string} path @returns {Place} of a secret, a note or a copy; in canonical spelling */
export function placeOf(space, path) {
  const form = path.startsWith(NOTES) ? "note" : path.startsWith(SHARED) ? "copy" : "secret";
  return { owner: principalOf(ownerOfSpace(space)), space: spaceId("", space), path, form };
}

/** @param {unknown} stated @returns {stated is Place} */
function isPlace(stated) {
  if (!isObject(stated) || Object.keys(stated).sort().join(" ") !== MEMBERS) return false;
  return Object.values(stated).every((one) => typeof one === "string" && one.length <= MAX_TEXT_CHARS) && FORMS.includes(stated.form);
}

/**
 * Check that a plaintext belongs to the place where its envelope was found.
 * @param {unknown} stated the member `place` of the plaintext, untrusted @param {Place} expected of `placeOf`
 * @returns {void} ConsoleError `place-mismatch`: it belongs to another place; `payload-broken`: it is not a place, which never counts as absent
 */
export function requirePlace(stated, expected) {
  if (!isPlace(stated)) throw new ConsoleError("payload-broken", "the secret does not state a valid place");
  const isSameSpace = stated.space === expected.space || (isSpaceId(stated.space) && spaceId("", stated.space) === expected.space);
  if (stated.form !== expected.form || stated.path !== expected.path || principalOf(stated.owner) !== expected.owner || !isSameSpace) {
    throw new ConsoleError("place-mismatch", `the value stored at ${expected.path} was sealed for another place`);
  }
}
