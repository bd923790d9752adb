// Why an owner cannot grant a right that a manifest requests.
import { requests } from "../texts_requests.js";
import { networkId, NETWORK, principalOf } from "../wire/did.js";
import { ENCRYPTION, isOwn, secretOf } from "../wire/grants.js";
import { isServed } from "../wire/manifest.js";

/** @param {import("../wire/grants.js").Right} right @param {string} owner DID @param {string[]} features of the node @returns {string} why the owner cannot grant it; empty if the owner can */
export function whyNot(right, owner, features) {
  const isYours = right.service === ENCRYPTION ? principalOf(NETWORK.exec(right.path)?.[1] ?? "") === principalOf(owner) : isOwn(right.space, owner);
  if (!isYours) return requests.otherOwner;
  if (!isServed(right, features)) return requests.notServed;
  if (right.actions.every((one) => one.startsWith("tinycloud.capabilities/"))) return requests.onlyYou;
  // The network of these secrets too: together with a folder of secrets, its key would open them.
  return right.path === networkId(owner, "protected") || /(?:^|\/)PROTECTED_/.test(secretOf(right) ?? "") ? requests.isProtected : "";
}
