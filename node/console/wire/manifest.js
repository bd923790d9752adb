/** App manifests: parse an application's requested rights strictly and expand them into resources (spec/manifests.md). */

import { isObject } from "./canonical_json.js";
import { URI_CHAR, isDid, isNetworkId, isSpaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { NAME_PATTERN, canonicalScope } from "./secrets.js";

/**
 * @typedef {{ service: string, space: string, path: string, actions: string[], expiryMs: number | null,
 *   description: string | null, origin: "stated" | "defaults" | "capabilities" }} Resource `service` and `actions` in full
 * @typedef {{ appId: string, name: string, description: string | null, did: string | null, expiryMs: number,
 *   isEndStated: boolean, resources: Resource[] }} Manifest `isEndStated`: whether the app asks for `expiryMs` itself
 * @typedef {{ path: string, text: string }} Fault
 * @typedef {{ service: string, path: string, actions: string[], space?: string, skipPrefix?: boolean,
 *   expiry?: string, description?: string }} Entry
 */

const MEMBERS = "manifest_version app_id name description icon appVersion did expiry space prefix defaults includePublicSpace knowledge permissions secrets".split(" ");
const PERMISSION_MEMBERS = "service space path actions caveats skipPrefix expiry description".split(" ");
const SECRET_MEMBERS = "name scope actions expiry description".split(" ");
const [KV, VAULT, ENCRYPTION, DEFAULT_SPACE] = ["tinycloud.kv", "tinycloud.vault", "tinycloud.encryption", "applications"];
const [MOST_ENTRIES, MOST_FAULTS] = [256, 50];
// MF20: the console and the node could understand any other spelling of a service, path or action differently.
const SERVICE = /^tinycloud\.[a-z][a-z0-9-]*$/;
const PATH = new RegExp(`^(?!(?:.*/)?\\.{1,2}(?:/|$))(?:${URI_CHAR}|[:/])*$`);
const NAME = new RegExp(`^${URI_CHAR}+$`);
const BLANKS = /^[ \t\n\r]+|[ \t\n\r]+$/g;
const DURATION = /^(-?\d*\.?\d+) *([a-z]*)$/;
/** @type {[RegExp, number][]} */
const UNITS_MS = [
  [/^(milliseconds?|msecs?|ms|)$/, 1],
  [/^(seconds?|secs?|s)$/, 1e3],
  [/^(minutes?|mins?|m)$/, 6e4],
  [/^(hours?|hrs?|h)$/, 36e5],
  [/^(days?|d)$/, 864e5],
  [/^(weeks?|w)$/, 6048e5],
  [/^(years?|yrs?|y)$/, 365.25 * 864e5],
];
/** @type {{[service: string]: string}} */
const TIERS = { default: "read write", admin: "read write schema", all: "read write schema" };
/** @type {{[word: string]: string}} */
const SECRET_ACTIONS = { read: "get", write: "put", delete: "del", get: "get", put: "put", del: "del", list: "list", metadata: "metadata" };
/** @type {{[service: string]: string[]}} */
const ACTIONS = {
  [KV]: ["get", "put", "del", "delete", "list", "metadata", "*"],
  [ENCRYPTION]: ["decrypt", "network.create", "network.revoke"],
  "tinycloud.capabilities": ["read"],
  "tinycloud.delegation": ["list", "status", "revoke"],
  "tinycloud.space": ["list", "create", "info", "host"],
};


/** @param {string} text @returns {number | null} */
export function durationMs(text) {
  const [, number, unit] = (text.length <= 100 && DURATION.exec(text.toLowerCase())) || [];
  const unitMs = unit === undefined ? undefined : UNITS_MS.find(([names]) => names.test(unit))?.[1];
  const whole = unitMs === undefined ? 0 : Math.floor(Number(number) * unitMs);
  return whole >= 1 && whole < 2 ** 53 ? whole : null;
}

/** @param {string} service @param {string} word @returns {string | null} the full ability */
function fullAction(service, word) {
  if (service === VAULT) {
    const bare = word.replace(/^tinycloud\.vault\//, "").replace(/^tinycloud\.kv\//, "");
    const action = bare === "head" ? "get" : Object.hasOwn(SECRET_ACTIONS, bare) ? SECRET_ACTIONS[bare] : null;
    return action && `${KV}/${action}`;
  }
  const full = word.includes("/") ? word : `${service}/${word}`;
  const [of, name] = full.split("/");
  if (of !== service || !/^[^/]+\/[A-Za-z0-9\-_.+*]{1,100}$/.test(full)) return null;
  return Object.hasOwn(ACTIONS, of) && !ACTIONS[of].includes(name) ? null : full;
}

/** A reader of one manifest. It records every fault and continues. @param {any} value */
function reading(value) {
  /** @type {Fault[]} */
  const faults = [];
  const note = (/** @type {string} */ path, /** @type {string} */ text) => {
    if (faults.length < MOST_FAULTS) faults.push({ path, text });
  };
  const known = (/** @type {object} */ members, /** @type {string[]} */ names, /** @type {string} */ at) => {
    for (const name of Object.keys(members)) if (!names.includes(name)) note(at + name.slice(0, 100), "is no known member");
  };
  const text = (/** @type {any} */ members, /** @type {string} */ name, /** @type {string} */ at) => {
    const found = members[name];
    if (found !== undefined && found !== null && typeof found !== "string") note(at + name, "must be a text");
    return typeof found === "string" ? found : undefined;
  };
  const common = (/** @type {any} */ members, /** @type {string} */ at) => {
    const [space, expiry] = [text(members, "space", at), text(members, "expiry", at)];
    if (expiry !== undefined && durationMs(expiry) === null) note(at + "expiry", "is no duration such as 30d");
    if (space !== undefined && !(NAME.test(space) || isSpaceId(space))) note(at + "space", "is neither a short name nor a full id of a space");
    return { space, expiry, description: text(members, "description", at) };
  };
  const entries = (/** @type {string} */ name, /** @type {any} */ listed, /** @type {boolean} */ isList) => {
    if (listed === undefined || listed === null) return [];
    if (isList !== Array.isArray(listed) || typeof listed !== "object") note(name, isList ? "must be a list" : "must be an object");
    else if (Object.keys(listed).length > MOST_ENTRIES) note(name, `has more than ${MOST_ENTRIES} entries`);
    else return Object.entries(listed);
    return [];
  };
  /** @returns {Entry} */
  const permission = (/** @type {any} */ entry, /** @type {string} */ at) => {
    if (!isObject(entry)) note(at, "must be an object");
    const members = isObject(entry) ? entry : {};
    known(members, PERMISSION_MEMBERS, `${at}.`);
    const { service, path, actions, caveats, skipPrefix = false } = members;
    if (typeof service !== "string" || !SERVICE.test(service)) note(`${at}.service`, "is no service: write it in full and in small letters, such as tinycloud.kv");
    if (typeof path !== "string" || !(service === ENCRYPTION ? isNetworkId(path) : PATH.test(path))) {
      note(`${at}.path`, service === ENCRYPTION ? "is no id of a network" : 'must be the raw path of a URI ("" or "/" for the root)');
    }
    if (caveats !== undefined && caveats !== null && (!Array.isArray(caveats) || caveats.some((one) => !isObject(one) || Object.keys(one).length))) {
      note(`${at}.caveats`, "narrows: no caveats are signed here; ask for a narrower path");
    }
    if (typeof skipPrefix !== "boolean") note(`${at}.skipPrefix`, "must be true or false");
    if (!Array.isArray(actions) || !actions.length) note(`${at}.actions`, "must name at least one action");
    const words = Array.isArray(actions) ? actions : [];
    words.forEach((word, index) => {
      if (typeof word !== "string" || fullAction(String(service), word) === null) note(`${at}.actions[${index}]`, `is no action of ${service}`);
    });
    return { service, path, actions: words, skipPrefix, ...common(members, `${at}.`) };
  };
  /** @returns {Entry} */
  const secret = (/** @type {string} */ key, /** @type {any} */ spec) => {
    const at = `secrets.${key.slice(0, 100)}`;
    if (!NAME_PATTERN.test(key)) note(at, "is no name of a secret");
    const members = isObject(spec) ? spec : {};
    known(members, SECRET_MEMBERS, `${at}.`);
    if (spec !== true && !isObject(spec) && !Array.isArray(spec) && typeof spec !== "string") note(at, "must be true, an action, a list of them, or an object");
    const given = isObject(spec) || spec === true ? (members.actions === undefined ? ["read"] : members.actions) : spec;
    const words = (Array.isArray(given) ? given : [given]).map((word) => typeof word === "string" ? word.replace(/^tinycloud\.kv\//, "") : "");
    // Do not quote the word: it may be a secret value that must not reach a log.
    if (!words.length || !words.every((word) => Object.hasOwn(SECRET_ACTIONS, word))) note(at, "names no action: read, write, delete, list, metadata");
    const name = (text(members, "name", `${at}.`) || key).replace(BLANKS, "");
    if (!NAME_PATTERN.test(name)) note(`${at}.name`, "is no name of a secret");
    let scope = text(members, "scope", `${at}.`);
    try {
      scope = scope === undefined ? undefined : canonicalScope(scope);
    } catch {
      note(`${at}.scope`, "is no scope");
    }
    const path = scope === undefined ? `secrets/${name}` : `secrets/scoped/${scope}/${name}`;
    return { service: VAULT, path, actions: words, skipPrefix: true, ...common(members, `${at}.`), space: "secrets" };
  };
  if (!isObject(value)) note("", "the manifest must be an object");
  const members = isObject(value) ? value : {};
  known(members, MEMBERS, "");
  if (![undefined, 1].includes(members.manifest_version)) note("manifest_version", "must be 1");
  for (const name of ["app_id", "name"]) if (typeof members[name] !== "string" || !members[name]) note(name, "is required");
  for (const name of ["icon", "appVersion"]) text(members, name, "");
  const { space, expiry, description = null } = common(members, "");
  const did = text(members, "did", "");
  if (did !== undefined && !isDid(did)) note("did", "is no DID");
  const prefix = text(members, "prefix", "") ?? String(members.app_id ?? "");
  if (!PATH.test(prefix)) note(members.prefix === undefined ? "app_id" : "prefix", "begins paths: no spaces, `?`, `#` or non-ASCII");
  if (![undefined, true, false].includes(members.includePublicSpace)) note("includePublicSpace", "must be true or false");
  if (![undefined, null, true].includes(members.knowledge) && !(typeof members.knowledge === "string" && /^knowledge\/.*\.md$/s.test(members.knowledge))) note("knowledge", "must be true or knowledge/….md");
  const { defaults = true } = members;
  const tier = typeof defaults === "string" ? defaults.replace(BLANKS, "").toLowerCase() : typeof defaults === "boolean" ? `${defaults}` : "";
  if (!["true", "false", "admin", "all"].includes(tier)) note("defaults", 'must be true, false, "admin" or "all"');
  const permissions = entries("permissions", members.permissions, true).map(([at, one]) => permission(one, `permissions[${at}]`));
  const secrets = entries("secrets", members.secrets, false).map(([key, spec]) => secret(key, spec));
  const expiryMs = durationMs(expiry ?? "30d") ?? 0;
  return { faults, expiryMs, isEndStated: expiry !== undefined, tier, permissions: [...permissions, ...secrets], space, prefix, description, did: did ?? null };
}

/** @param {Resource[]} resources @returns {Resource[]} merged: equal resources are joined at the position of the first */
function merged(resources) {
  /** @type {Map<string, Resource>} */
  const found = new Map();
  for (const one of resources) {
    const key = [one.service, one.space, one.path, one.expiryMs].join("\n");
    const first = found.get(key);
    if (!first) {
      found.set(key, { ...one, actions: [...new Set(one.actions)] });
      continue;
    }
    first.actions = [...new Set([...first.actions, ...one.actions])];
    first.description ??= one.description;
    if (one.origin === "stated") first.origin = "stated";
  }
  return [...found.values()];
}

/** @param {unknown} value untrusted JSON @returns {Manifest} throws ConsoleError `manifest-invalid`, whose `details.faults` have the path of the member */
export function parseManifest(value) {
  const { faults, expiryMs, isEndStated, tier, permissions, space, prefix, description, did } = reading(value);
  if (faults.length) {
    const [{ path, text }] = faults;
    throw new ConsoleError("manifest-invalid", `the manifest cannot be used: ${path} ${text}`, { hint: "its developer corrects it", details: { faults } });
  }
  /** @param {string} service @param {string} words @returns {Entry} */
  const tierEntry = (service, words) => ({ service, path: "/", actions: words.split(" "), space: DEFAULT_SPACE });
  const defaults = tier === "false" ? [] : [tierEntry(KV, "get put del list metadata"), tierEntry("tinycloud.sql", TIERS[tier] ?? TIERS.default)];
  if (tier === "all") defaults.push(tierEntry("tinycloud.duckdb", "read write"));
  /** @param {"stated" | "defaults"} origin @returns {(entry: Entry) => Resource} */
  const expanded = (origin) => (entry) => {
    const path = entry.skipPrefix || !prefix || entry.service === ENCRYPTION ? entry.path : `${prefix}/${entry.path.replace(/^\//, "")}`;
    return {
      service: entry.service === VAULT ? KV : entry.service,
      space: entry.service === ENCRYPTION ? "encryption" : (entry.space ?? space ?? DEFAULT_SPACE),
      path: entry.service === VAULT ? `vault/${path.replace(/^\//, "")}` : path,
      actions: entry.actions.map((word) => /** @type {string} */ (fullAction(entry.service, word))),
      expiryMs: entry.expiry === undefined ? null : durationMs(entry.expiry),
      description: entry.description ?? null,
      origin,
    };
  };
  const resources = merged([...defaults.map(expanded("defaults")), ...permissions.map(expanded("stated"))]);
  const spaces = new Set(resources.map((one) => one.space).filter((one) => one !== "encryption"));
  /** @type {Resource[]} */
  const reads = [...spaces].map((name) => ({
    service: "tinycloud.capabilities",
    space: name,
    path: "",
    actions: ["tinycloud.capabilities/read"],
    expiryMs: null,
    description: null,
    origin: "capabilities",
  }));
  const { app_id: appId, name } = /** @type {{ app_id: string, name: string }} */ (value);
  return { appId, name, description, did, expiryMs, isEndStated, resources: merged([...resources, ...reads]) };
}

/** @param {{ service: string }} right @param {string[]} features of the node @returns {boolean} whether the node serves it. If not, omit a right that only a default adds, and refuse a stated one */
export function isServed({ service }, features) {
  const name = service.slice("tinycloud.".length);
  return ["kv", "capabilities", "delegation", "space", "encryption"].includes(name) || features.includes(name);
}
