// @ts-check
/** What a grant states. Words, questions, refusals and the token come from one canonical resource for each right (MF20). */

import { canonicalNetwork, networkId, ownerOfSpace, principalOf, spaceId } from "./did.js";
import { secretAt } from "./secrets.js";

/** @typedef {{ resource: string, service: string, space: string, path: string, actions: string[] }} Right `service` and `actions` in full */

export const GET = "tinycloud.kv/get";
export const DECRYPT = "tinycloud.encryption/decrypt";
export const ENCRYPTION = "tinycloud.encryption";
const SECRETS = "vault/secrets/";

/** @param {string} resource of a grant @param {string[]} [actions] @returns {Right} */
export function rightOf(resource, actions = []) {
  const [, space, service, path = ""] = /^(tinycloud:[^/]+)\/([^/]+)(?:\/(.*))?$/.exec(resource) ?? [];
  if (space !== undefined) return { resource, service: `tinycloud.${service}`, space, path, actions };
  const path_ = canonicalNetwork(resource);
  return { resource: path_, service: ENCRYPTION, space: "encryption", path: path_, actions };
}

/** @param {string} owner DID @param {{ service: string, space: string, path: string, actions: string[] }} asked of a manifest @returns {Right} */
export function requestedRight(owner, { service, space, path, actions }) {
  const root = `${spaceId(owner, space)}/${service.slice("tinycloud.".length)}`;
  return rightOf(service === ENCRYPTION ? path : path === "" || path === "/" ? root : `${root}/${path}`, actions);
}

/** Whether a right to one path is one to another. @param {string} path @param {string} below */
export const contains = (path, below) => path === "" || path === "/" || below === path || below.startsWith(path.endsWith("/") ? path : `${path}/`); // X3

/**
 * Which secrets a right is about. A path contains what is below it, with or without a slash at its end (X6).
 * @param {Right} right @returns {string | null} `NAME` or `scope/NAME`, a folder of them with a slash at its end, "" for all; null for none
 */
export function secretOf({ service, space, path }) {
  if (service !== "tinycloud.kv" || !space.endsWith(":secrets")) return null;
  if (contains(path, SECRETS)) return ""; // a right to `vault`, or to the whole space, too
  if (!path.startsWith(SECRETS)) return null;
  return secretAt(path)?.label ?? path.slice(SECRETS.length).replace(/^scoped\/(?=[^/])/, "").replace(/\/*$/, "/");
}

/** @param {string} secret of `secretOf` */
export const isFolder = (secret) => secret === "" || secret.endsWith("/");

/** @param {string} space id @param {string} owner DID */
export const isOwn = (space, owner) => principalOf(ownerOfSpace(space)) === principalOf(owner);

/** @param {Right} right @param {string} owner DID @returns {boolean} whether it reads in the owner's space of secrets (MF8) */
export const readsSecret = ({ service, space, actions }, owner) => service === "tinycloud.kv" && space === spaceId(owner, "secrets") && actions.includes(GET);

/** @param {Right[]} rights @returns {Right[]} each resource once */
export function joined(rights) {
  /** @type {Map<string, Right>} */
  const found = new Map();
  for (const right of rights) {
    const actions = new Set([...(found.get(right.resource)?.actions ?? []), ...right.actions]);
    found.set(right.resource, { ...right, actions: [...actions] });
  }
  return [...found.values()];
}

/** @param {string} owner DID @param {Right[]} chosen @returns {Right[]} all that a grant of them states: reading a secret needs its network's key (MF8) */
export const finalRights = (owner, chosen) =>
  joined(chosen.some((one) => readsSecret(one, owner)) ? [...chosen, rightOf(networkId(owner), [DECRYPT])] : chosen);
