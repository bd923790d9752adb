// @ts-check
// What a right allows, in words; names that others chose stay visibly theirs.
import { h } from "../elements.js";
import { requests as words } from "../texts.js";
import { networkId, ownerOfSpace, principalOf, NETWORK } from "../wire/did.js";
import { isServed } from "../wire/manifest.js";
import { secretAt } from "../wire/secrets.js";
import { quoted } from "./quoted.js";

/** @typedef {{ service: string, space: string, path: string, actions: string[] }} Right `service` and `actions` in full */

const KV = "tinycloud.kv";
const SECRETS = "vault/secrets/";

/** @param {Right} right @returns {string | null} `NAME` or `scope/NAME`, a folder of them, "" for all; null where it is about no secrets */
export function secretOf({ service, space, path }) {
  if (service !== KV || !(space === "secrets" || space.endsWith(":secrets"))) return null;
  // A right to `vault`, or to the whole space, is one to what lies below.
  if (["", "/"].includes(path) || SECRETS.startsWith(path.replace(/\/?$/, "/"))) return "";
  if (!path.startsWith(SECRETS)) return null;
  return secretAt(path)?.label ?? path.slice(SECRETS.length).replace(/\/?$/, "/").replace(/^scoped\//, "");
}

/** @param {Right} right */
export const opensSecrets = (right) => right.service === "tinycloud.encryption"
  ? right.actions.includes("tinycloud.encryption/decrypt")
  : secretOf(right) !== null && right.actions.some((one) => one === "tinycloud.kv/get" || one === "tinycloud.kv/*");

/** @param {string} space short name or id @param {string} owner DID */
const isOwn = (space, owner) => !space.startsWith("tinycloud:") || principalOf(ownerOfSpace(space)) === principalOf(owner);

/** "read and write the secret “API_KEY”". @param {Right} right @param {string} owner DID of whoever is at the console */
export function rightWords(right, owner) {
  const { service, space, path } = right;
  const verbs = right.actions.map((one) => {
    const name = one.slice(service.length + 1);
    return one.startsWith(`${service}/`) && Object.hasOwn(words.verbs, name) ? words.verbs[name] : undefined; // else as it is written
  });
  const said = verbs.some((one) => one === undefined) ? quoted(right.actions.join(" "), { mono: true }) : words.listed([...new Set(/** @type {string[]} */ (verbs))]);
  const secret = secretOf(right);
  const isWhole = path === "" || path === "/";
  /** @type {import("../elements.js").Child[]} */
  let place = [isWhole ? "" : quoted(path, { mono: true }), isOwn(space, owner) ? words.inSpace : words.inOther, quoted(isOwn(space, owner) ? space.slice(space.lastIndexOf(":") + 1) : space, { mono: true })];
  if (service === "tinycloud.encryption") place = path === networkId(owner) ? [words.yourNetwork] : [words.network, quoted(path, { mono: true })];
  else if (secret === "") place = [words.everySecret];
  else if (secret !== null) place = [secret.endsWith("/") ? words.secretsBelow : words.theSecret, quoted(secret, { mono: true })];
  else if (service === KV) place = [isWhole ? words.allValues : path.endsWith("/") ? [words.below, place[0]] : place[0], ...place.slice(1)];
  else place = [words.service, quoted(service.replace("tinycloud.", ""), { mono: true }), " ", ...place];
  return h("span", {}, said, " ", place);
}

/** @param {Right} right @param {string} owner DID @param {string[]} features of the node @returns {string} why the owner cannot grant it; nothing where the owner can */
export function whyNot(right, owner, features) {
  const isYours = right.service === "tinycloud.encryption" ? principalOf(NETWORK.exec(right.path)?.[1] ?? "") === principalOf(owner) : isOwn(right.space, owner);
  if (!isYours) return words.otherOwner;
  if (!isServed(/** @type {any} */ (right), features)) return words.notServed;
  if (right.actions.every((one) => one.startsWith("tinycloud.capabilities/"))) return words.onlyYou;
  return /(?:^|\/)PROTECTED_/.test(secretOf(right) ?? "") ? words.isProtected : "";
}

/** @param {string} resource of a grant @param {string[]} actions @returns {Right} */
export function rightOf(resource, actions) {
  const [, space, service, path = ""] = /^(tinycloud:[^/]+)\/([^/]+)(?:\/(.*))?$/.exec(resource) ?? [];
  if (space === undefined) return { service: "tinycloud.encryption", space: "encryption", path: resource, actions };
  return { service: `tinycloud.${service}`, space, path, actions };
}
