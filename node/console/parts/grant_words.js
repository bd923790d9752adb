// @ts-check
// What may be done with what, in words.
import { grants as words } from "../texts.js";
import { principalOf } from "../wire/did.js";
import { secretAt } from "../wire/secrets.js";

const VALUE = /^tinycloud:([^/]+):([^:/]+)\/([a-z]+)(?:\/(.*))?$/;
const NETWORK = /^urn:tinycloud:encryption:(.+):([^:]+)$/;
const ACTIONS = /** @type {Record<string, string>} */ ({ del: "delete", metadata: "head" });

/**
 * One right, as the command line says it: "get, put the secret API_KEY".
 * @param {{ resource: string, abilities: string[], isConditioned: boolean }} right
 * @param {string} by who grants it; the owner of a space is named where it is somebody else
 */
export function rightWords({ resource, abilities, isConditioned }, by) {
  const actions = abilities.map((one) => one.replace(/^tinycloud\.[a-z]+\//, "")).map((one) => (Object.hasOwn(ACTIONS, one) ? ACTIONS[one] : one));
  return `${actions.join(", ")} ${place(resource, by)}${isConditioned ? words.conditioned : ""}`;
}

/** @param {string} resource @param {string} by */
function place(resource, by) {
  /** @param {string} owner */
  const whose = (owner) => (principalOf(owner) === principalOf(by) ? "" : words.of(owner));
  const network = NETWORK.exec(resource);
  if (network) return words.network(network[2]) + whose(network[1]);
  const [, owner, space, service, path = ""] = VALUE.exec(resource) ?? [];
  if (owner === undefined) return resource;
  const theirs = whose(`did:${owner}`);
  if (service === "space") return words.spaces + theirs;
  const secret = service === "kv" && space === "secrets" ? secretAt(path) : null;
  if (secret) return words.secret(secret.label) + theirs;
  if (service === "kv" && space === "secrets" && path.startsWith("vault/secrets/")) return words.secretsBelow(path) + theirs;
  const where = path ? words.below(path) : words.everything;
  return words.inSpace(where, space) + theirs + (service === "kv" ? "" : ` (${service})`);
}
