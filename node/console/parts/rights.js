// A description of what a right allows. Names that others chose are quoted.
import { h } from "../elements.js";
import { rights as words } from "../texts_rights.js";
import { grants } from "../texts_grants.js";
import { networkId, ownerOfSpace, NETWORK } from "../wire/did.js";
import { copiesIn, ENCRYPTION, isFolder, isOwn, rightOf, secretOf } from "../wire/grants.js";
import { quoted } from "./quoted.js";
import { shortened } from "./values.js";

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

const MOST_NAMED = 6;

/**
 * What a grant allows. Secrets with the same rights are one part, and rights to copies are named by what they are for.
 * @param {{ resource: string, abilities: string[], isConditioned: boolean }[]} rights @param {string} owner DID
 * @returns {{ resources: string, said: import("../elements.js").Child }[]} the parts, with the resources that each is about
 */
export function grantWords(rights, owner) {
  /** @type {Map<string, { right: Right, isConditioned: boolean, labels: string[], resources: string[] }>} */
  const parts = new Map();
  for (const { resource, abilities, isConditioned } of rights) {
    const right = rightOf(resource, abilities);
    const secret = isOwn(right.space, owner) ? secretOf(right) : null;
    const isOne = secret !== null && !isFolder(secret) && !copiesIn(right);
    const same = isOne ? JSON.stringify([right.space, [...abilities].sort(), isConditioned]) : resource;
    const part = parts.get(same) ?? { right, isConditioned, labels: [], resources: [] };
    part.resources.push(resource);
    if (isOne) part.labels.push(secret);
    parts.set(same, part);
  }
  return [...parts.values()].map(({ right, isConditioned, labels, resources }) => ({ resources: resources.join(" "), said: [
    copyWords(right) ?? (labels.length > 1 ? secretsWords(right, labels) : rightWords(right, owner)), isConditioned && grants.conditioned] }));
}

/** "read the secrets A, B and 4 more". @param {Right} right of each @param {string[]} labels */
function secretsWords({ actions }, labels) {
  const verbs = words.listed([...new Set(actions.map((one) => words.verbs[one.replace(/^tinycloud\./, "")] ?? one))]);
  const shown = labels.length > MOST_NAMED ? labels.slice(0, MOST_NAMED - 1) : labels;
  const rest = labels.length - shown.length;
  return h("span", { title: labels.join(", ") }, verbs, " ", grants.theSecrets, shown.map((one, at) => [at > 0 && ", ", named(one)]), rest > 0 && grants.andMore(rest));
}

/** @param {Right} right @returns {Element | null} null: it is about no copies */
function copyWords(right) {
  const copies = copiesIn(right);
  if (!copies) return null;
  if (copies.secret === undefined) return h("span", {}, copies.team === undefined ? grants.readsCopies : grants.readsCopiesOf(copies.team));
  const { group = "" } = copies;
  return h("span", {}, grants.marks, named(copies.secret), " ", group.startsWith("did:") ? [grants.sharedWith, named(shortened(group, 18, 6))] : [grants.sharedWithTeam, named(group)]);
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
