/** Release policies: which code may receive keys under a grant (spec/release.md). */

import { canonicalText, isObject } from "./canonical_json.js";
import { ConsoleError } from "./errors.js";

/**
 * @typedef {{[member: string]: any}} Policy in the form that a grant states
 * @typedef {{ policy: Policy, did: string | null }} Approved `did`: of the backend that ran the code
 */

export const REGISTERS = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];
export const MOST_PATHS = 32;
const DEFAULT_TD_ATTRIBUTES = "0000001000000000";
/** @type {{[member: string]: RegExp}} */
const LISTS = {
  composeHashes: /^[0-9a-f]{64}$/,
  appIds: /^(?:[0-9a-f]{2}){1,64}$/,
  keyProviders: /^[!-~]{1,512}$/,
  tdAttributes: /^[0-9a-f]{16}$/,
  platformIds: /^[0-9a-f]{64}$/,
  tcbStatuses: /^[A-Za-z]{1,64}$/,
  advisories: /^[A-Za-z0-9-]{1,64}$/,
  paths: /^tinycloud:[!-~]{1,2048}$/,
};
const NUMBERS = ["tcbGraceSeconds", "minEvaluationNumber", "maxAgeSeconds"];


/** @param {any} policy @returns {string} the name of an invalid member, or an empty string */
function faultOf(policy) {
  if (!isObject(policy)) return "policy";
  for (const [member, value] of Object.entries(policy)) {
    if (member === "measurements") continue;
    if (member === "inPerson" ? typeof value === "boolean" : member === "receiver" ? ["attested", "signed"].includes(value) : NUMBERS.includes(member) ? Number.isSafeInteger(value) && value >= 0 : false) continue;
    const isList = Object.hasOwn(LISTS, member) && Array.isArray(value) && value.length <= 256;
    if (!isList || !value.every((one) => typeof one === "string" && LISTS[member].test(one))) return member.slice(0, 40);
  }
  const { measurements, composeHashes = [] } = policy;
  const isWhole = (/** @type {any} */ one) => isObject(one) && Object.keys(one).every((name) => REGISTERS.includes(name)) &&
    REGISTERS.every((name) => (name === "rtmr3" && composeHashes.length > 0 && one[name] === undefined) || (typeof one[name] === "string" && /^[0-9a-f]{96}$/.test(one[name])));
  return Array.isArray(measurements) && measurements.length > 0 && measurements.length <= 64 && measurements.every(isWhole) ? "" : "measurements";
}

/**
 * Parse the output of `sealspace backend show --json`, or a policy alone. The node validates it again, more strictly.
 * @param {unknown} value untrusted JSON @returns {Approved} a policy that names code
 */
export function parseApproved(value) {
  const shown = isObject(value) && value.policy !== undefined;
  const policy = shown ? value.policy : value;
  const fault = faultOf(policy);
  if (fault) throw new ConsoleError("invalid-input", `it does not say which code: ${fault}`, { details: { member: fault } });
  return { policy: /** @type {Policy} */ (policy), did: shown && typeof value.did === "string" ? value.did : null };
}

/**
 * Parse the policy that a backend states about itself. Nothing proves it, so it has to name one whole code under strict terms (AT62).
 * @param {any} claimed untrusted JSON @returns {Policy | null} null: it names anything else
 */
export function parseClaimed(claimed) {
  try {
    const [compose_hash, app_id, key_provider] = ["composeHashes", "appIds", "keyProviders"].map((name) => claimed[name]?.[0]);
    const { policy } = policyOf({ ...claimed.measurements[0], compose_hash, app_id, key_provider });
    // Anyone can run a key provider without an id, and the provider can read the application's data.
    const isWhole = compose_hash ? app_id && /^(kms|tpm):(?:[0-9a-f]{2})+$/.test(key_provider) : !app_id && !key_provider;
    return isWhole && isSame(claimed, policy) ? policy : null;
  } catch {
    return null;
  }
}

/** @param {Policy} one @param {Policy} other */
export const isSame = (one, other) => canonicalText(one) === canonicalText(other);

/**
 * @param {{[field: string]: any}} evidence returned by `backends.evidenceOf`
 * @returns {{ policy: Policy, refusals: ("tcbStatus" | "advisories" | "tdAttributes")[] }} a policy for exactly that
 *   code under strict terms, and the terms that the platform fails; throws ConsoleError `malformed-answer` if the code is missing
 */
export function policyOf(evidence) {
  const { compose_hash: compose, app_id: appId, key_provider: provider } = evidence;
  const registers = REGISTERS.filter((name) => name !== "rtmr3" || !compose);
  /** @type {Policy} */
  const policy = { measurements: [Object.fromEntries(registers.map((name) => [name, evidence[name]]))] };
  if (compose) policy.composeHashes = [compose];
  if (appId) policy.appIds = [appId];
  if (provider) policy.keyProviders = [provider];
  // A policy without one of the registers would accept other code too.
  if (faultOf(policy)) throw new ConsoleError("malformed-answer", `the evidence does not say which code: ${faultOf(policy)}`);
  /** @type {("tcbStatus" | "advisories" | "tdAttributes")[]} */
  const refusals = [];
  if (evidence.tcb_status !== "UpToDate" || evidence.qe_status !== "UpToDate") refusals.push("tcbStatus");
  if (evidence.advisories?.some((/** @type {string} */ one) => !one.startsWith("INTEL-DOC"))) refusals.push("advisories");
  if (evidence.td_attributes !== DEFAULT_TD_ATTRIBUTES) refusals.push("tdAttributes");
  return { policy, refusals };
}
