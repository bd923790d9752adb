/** Backends that received keys, with the verified evidence from the node's receipts; and how to withdraw them for ever. */

import { hex, text } from "./bytes.js";
import { canonicalHash } from "./canonical_json.js";
import { isDid, networkId, principalOf } from "./did.js";
import { networkPath } from "./encryption.js";
import { ConsoleError } from "./errors.js";
import * as receipts from "./receipts.js";
import { rows } from "./session.js";
import { exchange, jsonOf, malformed, requireSuccess } from "./transport.js";

/**
 * @import { Client } from "./client.js"
 * @typedef {{ did: string, lastAt: number, releases: number, evidence: import("./receipts.js").Judged | null }} Backend
 *   `lastAt` in epoch seconds; `evidence` of the last release; null: the node required no evidence
 */

const MAX_PAGES = 50;

/** @param {Client} client @returns {Promise<Backend[]>} backends that received keys on evidence, the most recent first */
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

/**
 * Parse a record of evidence: MessagePack of `[1, {field: value}]`.
 * @param {Uint8Array} record @returns {{[field: string]: any}} fields as in the SDK's `Evidence`; bytes as hex
 */
export function decodeEvidence(record) {
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  let at = 0;
  /** @param {number} size */
  const taken = (size) => record.subarray(at, (at += size));
  /** @param {number} size */
  const number = (size) => taken(size).reduce((sum, byte) => sum * 256 + byte, 0);
  /** @param {number} size */
  const list = (size) => Array.from({ length: size }, read);
  /** @param {number} size */
  const map = (size) => Object.fromEntries(Array.from({ length: size }, () => [String(read()), read()]));
  /** @returns {any} */
  function read() {
    const first = number(1);
    if (first < 0x80) return first;
    if (first < 0x90) return map(first & 15);
    if (first < 0xa0) return list(first & 15);
    if (first < 0xc0) return text(taken(first & 31));
    if (first === 0xcb) return view.getFloat64((at += 8) - 8);
    if (first >= 0xc4 && first <= 0xc6) return hex(taken(number(1 << (first - 0xc4))));
    if (first >= 0xcc && first <= 0xcf) return number(1 << (first - 0xcc));
    if (first >= 0xd9 && first <= 0xdb) return text(taken(number(1 << (first - 0xd9))));
    if (first === 0xdc) return list(number(2));
    if (first === 0xde) return map(number(2));
    if (first === 0xc0) return null;
    throw new RangeError("another kind of value");
  }
  try {
    const [version, fields] = read();
    if (version === 1 && at === record.length && fields && typeof fields === "object") return fields;
  } catch {
    // Reported below.
  }
  throw malformed("the evidence of a backend", "it is no record of evidence");
}

/** @param {Client} client @param {Backend} backend @returns {Promise<{[field: string]: any} | null>} the node's findings about the quote; the record matches a digest in a signed receipt */
export const evidenceOf = async (client, { evidence }) =>
  evidence ? decodeEvidence(await receipts.readDocument(client, evidence.record)) : null;

/** @returns {Promise<{ attestation: string, trustRoots: string[], keyProviders: string[], nodePolicy: boolean, nodePolicySuffices: boolean }>} the terms by which the node judges backends; unsigned */
export const terms = async () =>
  jsonOf(requireSuccess(await exchange({ path: "/attestation/terms", repeatable: true, asked: "the node's terms" })));

/** @typedef {{ measurement: string } | { did: string } | { evidence: string }} Withdrawal 96 or 64 hex digits; a DID; 64 hex digits */

/** @param {string} owner DID @returns {import("./recap.js").Capability[]} the rights that a session needs; `addRights` adds them with one signature */
export const withdrawalRights = (owner) => rows(networkId(owner), ["sealspace.encryption/policy"]);

/** @param {Client} client @param {Withdrawal} entry @returns {Promise<void>} */
export async function withdraw(client, entry) {
  const { owner, node } = client.session;
  const [[name, value], ...more] = Object.entries(entry);
  const isOther = name === "did" && isDid(value) && principalOf(value) !== owner;
  const digits = { measurement: /^(?!0+$)(?:[0-9a-f]{64}|[0-9a-f]{96})$/, evidence: /^[0-9a-f]{64}$/ }[name];
  if (more.length || !(isOther || digits?.test(value))) {
    const hint = "a DID that is not your own, 96 or 64 hex digits of a measurement, or a digest of evidence";
    throw new ConsoleError("invalid-input", "nothing that can be withdrawn", { hint });
  }
  const network = networkId(owner);
  const type = "sealspace.encryption.withdrawal/v1";
  const fact = { type, targetNode: node, networkId: network, bodyHash: await canonicalHash(entry) };
  await client.sendJson(withdrawalRights(owner), "POST", networkPath(network, "withdraw"), entry, { facts: [fact] });
}
