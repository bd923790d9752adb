// A description of what a right allows. Names that others chose are quoted.
import { h } from "../elements.js";
import { rights as words } from "../texts.js";
import { requests } from "../texts_requests.js";
import { networkId, ownerOfSpace, principalOf, NETWORK } from "../wire/did.js";
import { isServed } from "../wire/manifest.js";
import { ENCRYPTION, isFolder, isOwn, secretOf } from "../wire/grants.js";
import { quoted } from "./quoted.js";

/** @import { Right } from "../wire/grants.js" */

/** @param {string} text */
const named = (text) => quoted(text, { mono: true });

/** "read and write the secret “API_KEY”". @param {Right} right @param {string} owner DID of the user of the console */
export function rightWords(right, owner) {
  const actions = right.actions.map((one) => one.replace(/^tinycloud\./, ""));
  if (right.path === networkId(owner) && actions.every((one) => Object.hasOwn(words.ofYours, one))) {
    return h("span", {}, words.listed(actions.map((one) => words.ofYours[one])));
  }
  const isDeed = actions.every((one) => Object.hasOwn(words.deeds, one));
  const known = isDeed ? words.deeds : words.verbs;
  // An action of another service is shown unchanged. Rights to conditions and receipts of a network are sealspace's own.
  const isOfIt = (/** @type {string} */ one) => one.startsWith(`${right.service}/`) || (right.service === ENCRYPTION && one.startsWith("sealspace.encryption/"));
  const isSaid = right.actions.every((one, at) => isOfIt(one) && Object.hasOwn(known, actions[at]));
  const said = isSaid ? words.listed([...new Set(actions.map((one) => known[one]))]) : named(right.actions.join(" "));
  return h("span", {}, said, " ", placeOf(right, owner, isDeed));
}

/** @param {Right} right @param {string} owner @param {boolean} isDeed whether the action already names its object @returns {import("../elements.js").Child} */
function placeOf(right, owner, isDeed) {
  const { service, space, path } = right;
  if (service === ENCRYPTION) return path === networkId(owner) ? words.yourNetwork : [NETWORK.test(path) && words.network, named(path)];
  const isYours = isOwn(space, owner);
  const secret = secretOf(right);
  if (secret !== null) {
    const which = secret ? [isFolder(secret) ? words.secretsBelow : words.theSecret, named(secret)] : isYours ? words.yourSecrets : words.everySecret;
    // A folder includes names that only a runner generates. Say so: they cannot be ticked one by one.
    return [which, !isYours && [words.of, named(ownerOfSpace(space))], isFolder(secret) && words.andProtected];
  }
  const isWhole = ["", "/"].includes(path);
  const where = [isYours ? words.inSpace : words.inOther, named(isYours ? space.slice(space.lastIndexOf(":") + 1) : space)];
  const what = isWhole ? words.allValues : path.endsWith("/") ? [words.below, named(path)] : [named(path), words.andBelow];
  if (service === "tinycloud.kv") return [what, " ", where];
  if (service === "tinycloud.sql") return [isWhole ? words.allDatabases : [words.database, what], " ", where];
  if (isDeed) return [!isWhole && [words.at, named(path), " "], where];
  return [words.service, named(service.slice("tinycloud.".length)), " ", !isWhole && [what, " "], where];
}

/** @param {Right} right @param {string} owner DID @param {string[]} features of the node @returns {string} why the owner cannot grant it; empty if the owner can */
export function whyNot(right, owner, features) {
  const isYours = right.service === ENCRYPTION ? principalOf(NETWORK.exec(right.path)?.[1] ?? "") === principalOf(owner) : isOwn(right.space, owner);
  if (!isYours) return requests.otherOwner;
  if (!isServed(right, features)) return requests.notServed;
  if (right.actions.every((one) => one.startsWith("tinycloud.capabilities/"))) return requests.onlyYou;
  // The network of these secrets too: together with a folder of secrets, its key would open them.
  return right.path === networkId(owner, "protected") || /(?:^|\/)PROTECTED_/.test(secretOf(right) ?? "") ? requests.isProtected : "";
}
