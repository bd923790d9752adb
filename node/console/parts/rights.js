// @ts-check
// What a right allows, in words; names that others chose stay visibly theirs.
import { h } from "../elements.js";
import { requests, rights as words } from "../texts.js";
import { networkId, ownerOfSpace, principalOf, NETWORK } from "../wire/did.js";
import { isServed } from "../wire/manifest.js";
import { secretAt } from "../wire/secrets.js";
import { quoted } from "./quoted.js";

/** @typedef {{ service: string, space: string, path: string, actions: string[] }} Right `service` and `actions` in full */

const KV = "tinycloud.kv";
const SECRETS = "vault/secrets/";

/**
 * Which secrets a right is about. A path contains what is below it, with or without a slash at its end (X6).
 * @param {Right} right @returns {string | null} `NAME` or `scope/NAME`, a folder of them with a slash at its end, "" for all; null for none
 */
export function secretOf({ service, space, path }) {
  if (service !== KV || !(space === "secrets" || space.endsWith(":secrets"))) return null;
  // A right to `vault`, or to the whole space, is one to what lies below.
  if (["", "/"].includes(path) || SECRETS.startsWith(path.replace(/\/*$/, "/"))) return "";
  if (!path.startsWith(SECRETS)) return null;
  return secretAt(path)?.label ?? path.slice(SECRETS.length).replace(/^scoped\/(?=[^/])/, "").replace(/\/*$/, "/");
}

/** @param {Right} right */
export const opensSecrets = (right) => right.service === "tinycloud.encryption"
  ? right.actions.includes("tinycloud.encryption/decrypt")
  : secretOf(right) !== null && right.actions.some((one) => one === "tinycloud.kv/get" || one === "tinycloud.kv/*");

/** @param {string} space short name or id @param {string} owner DID */
const isOwn = (space, owner) => !space.startsWith("tinycloud:") || principalOf(ownerOfSpace(space)) === principalOf(owner);

/** @param {string} text */
const named = (text) => quoted(text, { mono: true });

/** "read and write the secret “API_KEY”". @param {Right} right @param {string} owner DID of whoever is at the console */
export function rightWords(right, owner) {
  const actions = right.actions.map((one) => one.replace(/^tinycloud\./, ""));
  const isDeed = actions.every((one) => Object.hasOwn(words.deeds, one));
  const known = isDeed ? words.deeds : words.verbs;
  const isSaid = right.actions.every((one, at) => one.startsWith(`${right.service}/`) && Object.hasOwn(known, actions[at])); // else as it is written
  const said = isSaid ? words.listed([...new Set(actions.map((one) => known[one]))]) : named(right.actions.join(" "));
  return h("span", {}, said, " ", placeOf(right, owner, isDeed));
}

/** @param {Right} right @param {string} owner @param {boolean} isDeed whether the deed itself says with what @returns {import("../elements.js").Child} */
function placeOf(right, owner, isDeed) {
  const { service, space, path } = right;
  if (service === "tinycloud.encryption") return path === networkId(owner) ? words.yourNetwork : [NETWORK.test(path) && words.network, named(path)];
  const isYours = isOwn(space, owner);
  const secret = secretOf(right);
  if (secret !== null) {
    const which = secret ? [secret.endsWith("/") ? words.secretsBelow : words.theSecret, named(secret)] : isYours ? words.yourSecrets : words.everySecret;
    return [which, !isYours && [words.of, named(ownerOfSpace(space))]];
  }
  const isWhole = ["", "/"].includes(path);
  const where = [isYours ? words.inSpace : words.inOther, named(isYours ? space.slice(space.lastIndexOf(":") + 1) : space)];
  const what = isWhole ? words.allValues : path.endsWith("/") ? [words.below, named(path)] : [named(path), words.andBelow];
  if (service === KV) return [what, " ", where];
  if (isDeed) return [!isWhole && [words.at, named(path), " "], where];
  return [words.service, named(service.replace("tinycloud.", "")), " ", !isWhole && [what, " "], where];
}

/** @param {Right} right @param {string} owner DID @param {string[]} features of the node @returns {string} why the owner cannot grant it; nothing where the owner can */
export function whyNot(right, owner, features) {
  const isYours = right.service === "tinycloud.encryption" ? principalOf(NETWORK.exec(right.path)?.[1] ?? "") === principalOf(owner) : isOwn(right.space, owner);
  if (!isYours) return requests.otherOwner;
  if (!isServed(/** @type {any} */ (right), features)) return requests.notServed;
  if (right.actions.every((one) => one.startsWith("tinycloud.capabilities/"))) return requests.onlyYou;
  return /(?:^|\/)PROTECTED_/.test(secretOf(right) ?? "") ? requests.isProtected : "";
}

/** @param {string} resource of a grant @param {string[]} actions @returns {Right} */
export function rightOf(resource, actions) {
  const [, space, service, path = ""] = /^(tinycloud:[^/]+)\/([^/]+)(?:\/(.*))?$/.exec(resource) ?? [];
  if (space === undefined) return { service: "tinycloud.encryption", space: "encryption", path: resource, actions };
  return { service: `tinycloud.${service}`, space, path, actions };
}
