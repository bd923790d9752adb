// @ts-check
/** Withdrawing code, a backend or evidence from the owner's network: final; it receives no key any more. */

import { canonicalHash } from "./canonical_json.js";
import { networkId, principalOf } from "./did.js";
import { networkPath } from "./encryption.js";
import { ConsoleError } from "./errors.js";
import { rows } from "./session.js";

/** @typedef {{ measurement: string } | { did: string } | { evidence: string }} Withdrawal 96 or 64 hex digits; a DID; 64 hex digits */

/** @param {string} owner DID @returns {import("./recap.js").Capability[]} what a session has to hold: `addRights` with one signature */
export const withdrawalRights = (owner) => rows(networkId(owner), ["sealspace.encryption/policy"]);

/** @param {import("./client.js").Client} client @param {Withdrawal} entry @returns {Promise<void>} */
export async function withdraw(client, entry) {
  const { owner, node } = client.session;
  const [[name, text], ...more] = Object.entries(entry);
  const isDid = name === "did" && /^did:[a-z0-9]+:[!-~]+$/.test(text) && principalOf(text) !== owner;
  const digits = { measurement: /^(?!0+$)(?:[0-9a-f]{64}|[0-9a-f]{96})$/, evidence: /^[0-9a-f]{64}$/ }[name];
  if (more.length || !(isDid || digits?.test(text))) {
    const hint = "a DID that is not your own, 96 or 64 hex digits of a measurement, or a digest of evidence";
    throw new ConsoleError("invalid-input", "nothing that can be withdrawn", { hint });
  }
  const network = networkId(owner);
  const type = "sealspace.encryption.withdrawal/v1";
  const fact = { type, targetNode: node, networkId: network, bodyHash: await canonicalHash(entry) };
  await client.sendJson(withdrawalRights(owner), "POST", networkPath(network, "withdraw"), entry, { facts: [fact] });
}
