/** The node's description of itself. */

import { ed25519Key } from "./did.js";
import { ConsoleError } from "./errors.js";
import { exchange, jsonOf, malformed, requireSuccess } from "./transport.js";

/**
 * @typedef {object} NodeInfo
 * @property {string} nodeId its DID
 * @property {string} version
 * @property {string[]} features
 * @property {boolean} inTee the node's own claim; proves nothing by itself
 * @property {string} attestation who has to prove code: delegates, everyone, off
 * @property {string[]} trustRoots SHA-256 of roots that are not Intel's, hex
 */

/** @returns {Promise<NodeInfo>} requested anew each time */
export async function info() {
  const asked = "what the node says about itself";
  const said = jsonOf(requireSuccess(await exchange({ path: "/info", repeatable: true, asked })));
  if (said?.protocol !== 1) throw malformed(asked, "the node speaks another protocol");
  if (typeof said.nodeId !== "string" || !ed25519Key(said.nodeId)) throw malformed(asked, "it names no node");
  /** @param {unknown} list @returns {string[]} */
  const texts = (list) => (Array.isArray(list) ? list.filter((one) => typeof one === "string") : []);
  return {
    nodeId: said.nodeId,
    version: String(said.version ?? ""),
    features: texts(said.features),
    inTee: said.inTEE === true,
    attestation: String(said.attestation ?? ""),
    trustRoots: texts(said.trustRoots),
  };
}

/** @param {string} expected DID of the node at which a session was made @returns {Promise<NodeInfo>} */
export async function requireNode(expected) {
  const said = await info();
  if (said.nodeId === expected) return said;
  throw new ConsoleError("node-changed", `the session was made at the node ${expected}, but this is the node ${said.nodeId}`, {
    hint: "make sure that this is the node you mean; if it was restored as a new one, sign in again",
    details: { expected, found: said.nodeId },
  });
}
