/** Receipts of a network's releases, verified in the browser, and the documents that they name. */

import { hex, sha256 } from "./bytes.js";
import { networkId } from "./did.js";
import { isSignedBy, networkPath } from "./encryption.js";
import { ConsoleError } from "./errors.js";
import { rows } from "./session.js";
import { jsonOf, malformed, pathSegment } from "./transport.js";

/**
 * @import { Client } from "./client.js"
 * @typedef {{ record: string, quote: string | null, eventLog: string | null, collateral: string, nonce: string | null }} Judged
 *   SHA-256 of documents, hex
 * @typedef {{ type: string, node: string, network: string, owner: string, invoker: string, invocation: string,
 *   requestHash: string, receiverPublicKeyHash: string, chain: string[], policies: string[], verdict: string,
 *   ground: string, machine?: string, member?: string, mode: string, atMicros: number, evidence: Judged | null, signature: string }} Receipt
 * @typedef {{ reader: string, space: string, path: string, version: number, etag: string, hour: number, atMicros: number }} Fetch of a copy by a
 *   person with whom a secret is shared, one for each reader, version and hour; the node does not sign it (RC34, RC35)
 */

const MEMBERS = "type node network owner invoker invocation requestHash receiverPublicKeyHash chain policies verdict ground mode atMicros evidence signature";
const FETCH = "reader space path version etag hour atMicros";
const JUDGED = "record quote eventLog collateral nonce";
const [GROUNDS, MODES] = [["owner", "owner_session", "member", "machine", "attested", "off"], ["delegates", "everyone", "off"]];
const [MOST_LINKS, MOST_POLICIES, MAX_TEXT_CHARS] = [64, 512, 8192];
const MOST_ON_PAGE = 100;
const MAX_DOCUMENT_BYTES = 512 * 1024;

/** @param {any} one @param {string} names @returns {boolean} whether it is an object with exactly these members */
const has = (one, names) => one !== null && typeof one === "object" && Object.keys(one).sort().join(" ") === names.split(" ").sort().join(" ");

/** @param {unknown} one */
const isText = (one) => typeof one === "string" && one.length > 0 && one.length <= MAX_TEXT_CHARS;

/** @param {unknown} one */
const isDigest = (one) => typeof one === "string" && /^[0-9a-f]{64}$/.test(one);

/** @param {unknown} list @param {number} most @param {(one: unknown) => boolean} isOne */
const isList = (list, most, isOne) => Array.isArray(list) && list.length <= most && list.every(isOne);

/** @param {any} one */
const isJudged = (one) => one === null || (has(one, JUDGED) && [one.record, one.collateral].every(isDigest) &&
  [one.quote, one.eventLog, one.nonce].every((digest) => digest === null || isDigest(digest)));

/** @param {any} one @returns {boolean} whether each member has the type that the SDK expects */
const isReceipt = (one) => has(one, one?.ground === "machine" || one?.ground === "member" ? `${MEMBERS} ${one.ground}` : MEMBERS) && one.type === "sealspace.receipt/v1" && one.verdict === "authorised" &&
  [one.node, one.network, one.owner, one.invoker, one.invocation].every(isText) &&
  [one.requestHash, one.receiverPublicKeyHash].every(isDigest) && GROUNDS.includes(one.ground) && MODES.includes(one.mode) &&
  isList(one.chain, MOST_LINKS, isText) && isList(one.policies, MOST_POLICIES, isDigest) && isJudged(one.evidence) &&
  (one.ground !== "machine" || (isText(one.machine) && /^[A-Za-z0-9][\w.-]{0,63}$/.test(one.machine))) &&
  (one.ground !== "member" || isText(one.member)) && Number.isSafeInteger(one.atMicros) && one.atMicros >= 0;

/** @param {string} why */
const invalid = (why) => new ConsoleError("receipt-invalid", `a receipt does not hold: ${why}`, { hint: "trust nothing that it says" });

/**
 * Check a receipt's signer, node and network. This does not check that the node's audit chain contains it.
 * @param {any} receipt untrusted @param {string} node DID @param {string} network id @returns {Promise<Receipt>}
 */
export async function verify(receipt, node, network) {
  if (!isReceipt(receipt)) throw invalid("it has not the members of a receipt");
  const { signature, ...signed } = receipt;
  if (receipt.node !== node) throw invalid(`it is signed by ${receipt.node}`);
  if (receipt.network !== network) throw invalid("it is about another network");
  if (!(await isSignedBy(node, signed, signature))) throw invalid("its signature does not hold");
  return receipt;
}

/** @param {Client} client @param {string} leaf @param {string | null} after of the previous page */
function page(client, leaf, after) {
  const network = networkId(client.session.owner);
  const wanted = rows(network, ["sealspace.encryption/receipts"]);
  return client.invoke(wanted, { method: "GET", path: networkPath(network, after === null ? leaf : `${leaf}?after=${pathSegment(after)}`), repeatable: true });
}

/**
 * @param {Client} client @param {{ after?: string | null }} [asked]
 *   `after` of the previous page @returns {Promise<{ receipts: Receipt[], keys: (string | null)[], after: string | null }>} at most 100, oldest first;
 *   `keys`: for each the digest of the released key, which no signature covers (RC37); null: not stated
 */
export async function list(client, { after = null } = {}) {
  const answer = await page(client, "receipts", after);
  const read = jsonOf(answer);
  if (!Array.isArray(read?.receipts) || read.receipts.length > MOST_ON_PAGE) throw malformed(answer.asked, "it is no page of receipts");
  /** @type {Receipt[]} */
  const receipts = await Promise.all(read.receipts.map((/** @type {unknown} */ one) => verify(one, client.session.node, networkId(client.session.owner))));
  if (receipts.some((one, at) => at > 0 && receipts[at - 1].atMicros > one.atMicros)) throw malformed(answer.asked, "it is out of order");
  const keys = read.keys ?? receipts.map(() => null);
  if (!isList(keys, MOST_ON_PAGE, (one) => one === null || isDigest(one)) || keys.length !== receipts.length) throw malformed(answer.asked, "its keys are not those of its receipts");
  return { receipts, keys, after: typeof read.after === "string" ? read.after : null };
}

/** @param {any} one */
const isFetch = (one) => has(one, FETCH) && [one.reader, one.space, one.path].every(isText) && isDigest(one.etag) &&
  [one.version, one.hour, one.atMicros].every((number) => Number.isSafeInteger(number) && number >= 0);

/** @param {Client} client @param {{ after?: string | null }} [asked] `after` of the previous page @returns {Promise<{ fetches: Fetch[], after: string | null }>} at most 100, by hour (RC35) */
export async function fetches(client, { after = null } = {}) {
  const answer = await page(client, "fetches", after);
  const { fetches: found, after: next = null } = jsonOf(answer) ?? {};
  if (!isList(found, MOST_ON_PAGE, isFetch) || !(next === null || isText(next))) throw malformed(answer.asked, "it is no page of fetches");
  if (found.some((/** @type {Fetch} */ one, /** @type {number} */ at) => at > 0 && found[at - 1].hour > one.hour)) throw malformed(answer.asked, "it is out of order");
  if (next !== null && (!found.length || next === after)) throw malformed(answer.asked, "the list does not advance");
  return { fetches: found, after: next };
}

/** @param {Client} client @param {string} digest SHA-256 from a receipt, hex @returns {Promise<Uint8Array<ArrayBuffer>>} the document; its digest is checked */
export async function readDocument(client, digest) {
  const network = networkId(client.session.owner);
  const wanted = rows(network, ["sealspace.encryption/receipts"]);
  const path = networkPath(network, `receipts/${digest}`);
  const { body } = await client.invoke(wanted, { method: "GET", path, repeatable: true, maxBytes: MAX_DOCUMENT_BYTES });
  if (hex(await sha256(body)) !== digest) throw invalid(`the document ${digest} is another one`);
  return body;
}
