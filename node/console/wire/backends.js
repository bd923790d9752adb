// @ts-check
/** Backends that received keys, with the evidence as the node verified it and put it into receipts. */

import { text } from "./bytes.js";
import * as receipts from "./receipts.js";
import { exchange, jsonOf, requireSuccess } from "./transport.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {{ did: string, lastAt: number, releases: number, evidence: import("./receipts.js").Judged | null }} Backend
 *   `lastAt` in epoch seconds; `evidence` of the last release; none: the node asked for none
 */

const MAX_PAGES = 50;

/** @param {Client} client @returns {Promise<Backend[]>} who received keys beside the owner's own sessions, the latest first */
export async function list(client) {
  /** @type {Map<string, Backend>} */
  const found = new Map();
  /** @type {string | null} */
  let after = null;
  for (let page = 0; page < MAX_PAGES; page++) {
    const read = await receipts.list(client, { after });
    for (const { invoker, atMicros, evidence } of read.receipts) {
      const before = found.get(invoker);
      found.set(invoker, { did: invoker, lastAt: atMicros / 1e6, releases: (before?.releases ?? 0) + 1, evidence });
    }
    if (read.after === null || read.after === after) break;
    after = read.after;
  }
  return [...found.values()].filter(({ evidence }) => evidence !== null).sort((one, other) => other.lastAt - one.lastAt);
}

/** @param {Client} client @param {Backend} backend @returns {Promise<any>} the record of its evidence: what the node found in the quote, of the digest in a signed receipt */
export const evidenceOf = async (client, { evidence }) =>
  evidence ? JSON.parse(text(await receipts.readDocument(client, evidence.record))) : null;

/** @returns {Promise<{ attestation: string, trustRoots: string[], keyProviders: string[], nodePolicy: boolean, nodePolicySuffices: boolean }>} by what the node says it judges backends; unsigned */
export const terms = async () =>
  jsonOf(requireSuccess(await exchange({ path: "/attestation/terms", repeatable: true, asked: "the node's terms" })));
