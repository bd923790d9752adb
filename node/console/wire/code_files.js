/** What files say about a backend's code: its name, its images, and where each value comes from (AT64 to AT66). */

import { canonicalText, isObject } from "./canonical_json.js";
import { ConsoleError } from "./errors.js";

/**
 * @import { Policy } from "./policies.js"
 * @typedef {{ service: string, reference: string, publisher: string }} Image
 * @typedef {{ name: string, images: Image[], osImageHash: string | null, sources: {[value: string]: string} }} CodeFiles
 *   `sources`: for each value by its name on the command line, its source and origin: "computed: SHA-256 of app-compose.json"
 */

const MOST_CHARS = 8192;
const MOST_IMAGES = 32;
const MOST_TEXT_CHARS = 400;
const REGISTERS = ["mrtd", "rtmr0", "rtmr1", "rtmr2"];
const VALUES = ["composeHash", "appId", "keyProvider", ...REGISTERS, "rtmr3"];

/** @param {unknown} one */
const isText = (one) => typeof one === "string" && one.length <= MOST_TEXT_CHARS;

/**
 * Parse the names and sources that a grant states, or that a document has.
 * @param {any} stated untrusted @returns {CodeFiles | null} null: malformed or over a limit
 */
export function parseCodeFiles(stated) {
  if (!isObject(stated)) return null;
  const { name, images, osImageHash, sources } = stated;
  const isImage = (/** @type {any} */ one) => isObject(one) && [one.service, one.reference, one.publisher].every(isText);
  if (!isText(name) || !Array.isArray(images) || images.length > MOST_IMAGES || !images.every(isImage) || !isObject(sources)) return null;
  if (!(osImageHash === null || /^[0-9a-f]{64}$/.test(osImageHash))) return null;
  if (!Object.entries(sources).every(([value, source]) => VALUES.includes(value) && isText(source))) return null;
  const files = { name, images: images.map(({ service, reference, publisher }) => ({ service, reference, publisher })), osImageHash, sources: { ...sources } };
  return JSON.stringify(files).length > MOST_CHARS ? null : files;
}

/** @param {Policy} policy @param {string} value name @returns {string[]} what the policy accepts as this value */
function accepted(policy, value) {
  const list = { composeHash: policy.composeHashes, appId: policy.appIds, keyProvider: policy.keyProviders }[value];
  return list ?? policy.measurements.map((/** @type {any} */ one) => one[value]).filter((/** @type {unknown} */ one) => one !== undefined);
}

/**
 * Find names and sources in the output of `backend measure --json` or `backend show --json`.
 * @param {any} document parsed JSON @param {Policy} policy that the document has
 * @returns {CodeFiles | null | undefined} undefined: the document names no files; null: malformed or over a limit. Throws ConsoleError
 *   `invalid-input` if a value of the files is none that the policy accepts
 */
export function codeFilesIn(document, policy) {
  const isMeasured = document?.type === "sealspace.reference-values/v1";
  const code = isMeasured ? document : document?.code;
  if (!isObject(code)) return undefined;
  /** @type {{[value: string]: string}} */
  const sources = {};
  for (const one of (isMeasured ? document.values : document.compared) ?? []) {
    const texts = isMeasured ? one?.values : one?.files;
    if (!isText(one?.name) || !Array.isArray(texts) || !texts.every(isText)) return null;
    if (!texts.length || (one.name === "rtmr3" && !accepted(policy, "rtmr3").length)) continue;
    if (!accepted(policy, one.name).some((value) => texts.includes(value))) {
      throw new ConsoleError("invalid-input", "its files give other values than its policy", { details: { member: one.name } });
    }
    sources[one.name] = `${one.source}: ${one.origin}`;
  }
  const { name, images, osImageHash = null } = code;
  return parseCodeFiles({ name, images, osImageHash, sources });
}

/** Lines that say what differs between two lists of lines. @param {string[]} before @param {string[]} after */
export const differing = (before, after) => [
  ...before.filter((one) => !after.includes(one)).map((one) => `- ${one}`),
  ...after.filter((one) => !before.includes(one)).map((one) => `+ ${one}`),
];

/** A line with the first digits of each long hash. @param {string} line */
export const withShortHashes = (line) => line.replace(/[0-9a-f]{33,}/g, (one) => `${one.slice(0, 16)}…`);

/** @param {Policy} one @param {Policy} other @returns {boolean} whether they name the same code, under whatever terms */
export const isSameCode = (one, other) => canonicalText(codeOf(one)) === canonicalText(codeOf(other));

/** @param {Policy} policy */
const codeOf = ({ measurements, composeHashes = [], appIds = [], keyProviders = [] }) => ({ measurements, composeHashes, appIds, keyProviders });
