/** Requests with a session's authority. */

import { canonicalBytes } from "./canonical_json.js";
import { requireNode } from "./node.js";
import { proofsFor, sessionToken } from "./session.js";
import { exchange, requireSuccess } from "./transport.js";

/**
 * @import { Capability } from "./recap.js"
 * @typedef {Partial<import("./transport.js").Request> & { facts?: import("./canonical_json.js").Json[],
 *   proofs?: string[], minted?: (token: string) => void }} Sent `proofs` replace those that would be chosen for the capabilities
 */
/**
 * @typedef {object} Client
 * @property {import("./session.js").Session} session
 * @property {Client} own of the browser's own session, if this one acts for a team; else the same
 * @property {() => Promise<void>} checkNode checks once, before the first token, that the session was made at this node
 * @property {(wanted: Capability[], sent?: Sent) => Promise<import("./transport.js").Answer>} call any route
 *   (default: POST /invoke); refusals are returned
 * @property {(wanted: Capability[], sent?: Sent) => Promise<import("./transport.js").Answer>} invoke the same, but
 *   refusals are thrown
 * @property {(wanted: Capability[], method: "POST" | "PUT", path: string, body: import("./canonical_json.js").Json,
 *   sent?: Sent) => Promise<import("./transport.js").Answer>} sendJson
 * @property {Map<string, any>} cache shared by the modules, for this client only
 */

/** @param {Capability[]} wanted */
export function inWords([first, ...more]) {
  const words = `${first.ability} on ${first.resource}`;
  return more.length ? `${words} and ${more.length} more` : words;
}

/** @param {import("./session.js").Session} session @param {Client} [own] @returns {Client} */
export function Client(session, own) {
  /** @type {Promise<unknown> | null} */
  let checked = null;
  const checkNode = async () => {
    checked ??= requireNode(session.node);
    try {
      await checked;
    } catch (error) {
      checked = null;
      throw error;
    }
  };
  /** @param {Capability[]} wanted @param {Sent} [sent] */
  const call = async (wanted, { facts, proofs, minted, ...request } = {}) => {
    await checkNode();
    const cited = proofs ?? proofsFor(session, wanted).proofs;
    const mint = async () => {
      const { token } = await sessionToken(session, { aud: session.node, capabilities: wanted, proofs: cited, facts });
      minted?.(token);
      return token;
    };
    return exchange({ method: "POST", path: "/invoke", asked: inWords(wanted), ...request, mint });
  };
  /** @type {Client} */
  const client = {
    session,
    get own() { return own ?? client; },
    checkNode,
    call,
    invoke: async (wanted, sent) => requireSuccess(await call(wanted, sent)),
    sendJson: async (wanted, method, path, body, sent) => {
      const headers = { "Content-Type": "application/json" };
      return requireSuccess(await call(wanted, { method, path, headers, body: canonicalBytes(body), ...sent }));
    },
    cache: new Map(),
  };
  return client;
}
