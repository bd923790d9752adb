/** Values in a space. A key is the raw path of a URI: `keyOf` percent-encodes what a URI cannot hold. */

import { blake3 } from "./blake3.js";
import { concat, fromBase64, hex, random, utf8 } from "./bytes.js";
import { byCodePoint } from "./canonical_json.js";
import { ConsoleError } from "./errors.js";
import { spaceId } from "./did.js";
import { jsonOf, malformed, pathSegment, requireSuccess } from "./transport.js";

/**
 * @import { Client } from "./client.js"
 * @import { Bytes } from "./bytes.js"
 * @typedef {{ body: Bytes, etag: string, contentType: string | null }} Value
 * @typedef {{ keys: string[], cursor: string | null }} Page
 */
/**
 * @typedef {object} Put
 * @property {string} [ifMatch] write only if the value has this version
 * @property {boolean} [ifAbsent] write only if there is no value
 * @property {string} [type] content type
 * @property {(movedBytes: number, sizeBytes: number) => void} [onProgress]
 * @property {AbortSignal} [signal]
 */

const MAX_PAGE_KEYS = 1000;
export const MAX_VALUE_BYTES = 64 * 1024 * 1024;
const [MOST_READS, MOST_WRITES, MAX_SMALL_BYTES] = [100, 250, 64 * 1024];
const [MAX_VALUES_BYTES, MAX_KEYS_BYTES, PER_CAPABILITY_BYTES] = [4 * 1024 * 1024, 96 * 1024, 160];
const MAX_BATCH_BYTES = 96 * 1024 * 1024;
const MAX_HASHED_BYTES = 16 * 1024 * 1024; // hashing more in the browser would take seconds
const TEXT = "text/plain;charset=UTF-8";
const VERSION = "x-sealspace-version";
const MOST_DID_CHARS = 1024;

/** @param {string} name as typed by the user @returns {string} a key */
export function keyOf(name) {
  utf8(name);
  return name.replace(/[^A-Za-z0-9\-._~!$&'()*+,;=:@/]/gu, encodeURIComponent);
}

/** @param {string} key @returns {string} as the writer spelled it; the key itself if it is not UTF-8 */
export function plainNameOf(key) {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

/** @param {string} key @returns {string} readable form: invisible characters and direction overrides stay encoded; the key itself if it is not UTF-8 */
export const nameOf = (key) => plainNameOf(key).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, encodeURIComponent);

/** @param {Client} client @param {string} space @param {string} key @param {string} word */
function row({ session }, space, key, word) {
  const [isChars, isPath] = [/^(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*$/, /(^|\/)\.{1,2}(\/|$)/];
  if (!isChars.test(key) || isPath.test(key)) {
    const hint = "percent-encode spaces, `?`, `#`, `%` and non-ASCII; no `.` or `..` segments";
    throw new ConsoleError("invalid-input", "a key is the raw path of a URI", { hint });
  }
  return { resource: `${spaceId(session.owner, space)}/kv/${key}`, ability: `tinycloud.kv/${word}` };
}

/** @param {Headers} headers @param {Bytes} body @param {string} asked @returns {Value} checked: the bytes match the version */
function valueOf(headers, body, asked) {
  const etag = headers.get("ETag");
  if (!etag) throw malformed(asked, "it has no ETag");
  const digest = /^"blake3-([0-9a-f]{64})"$/.exec(etag)?.[1];
  if (digest && body.length <= MAX_HASHED_BYTES && hex(blake3(body)) !== digest) {
    throw new ConsoleError("transfer-broken", `${asked}: the bytes are not those of the ETag`);
  }
  return { body, etag, contentType: headers.get("Content-Type") };
}

/** @param {any} said untrusted @param {string} asked */
function headersOf(said, asked) {
  try {
    return new Headers(said);
  } catch {
    throw malformed(asked, "it has no headers");
  }
}

/** @param {{ ifMatch?: string, ifAbsent?: boolean }} conditions @returns {{[name: string]: string}} */
const conditioned = ({ ifMatch, ifAbsent }) =>
  ifAbsent ? { "If-None-Match": "*" } : ifMatch === undefined ? {} : { "If-Match": ifMatch };

/** @param {Client} client @param {import("./recap.js").Capability} wanted @param {import("./client.js").Sent} sent */
async function conditional(client, wanted, sent) {
  const answer = await client.call([wanted], sent);
  const isConditional = sent.headers && ("If-Match" in sent.headers || "If-None-Match" in sent.headers);
  if (isConditional && (answer.status === 412 || answer.status === 503)) {
    const hint = "load it anew, and decide which of the two stays";
    throw new ConsoleError("conflict", `${answer.asked}: it was changed meanwhile`, { hint });
  }
  return requireSuccess(answer);
}

/** @param {Client} client @param {string} space @param {string} key @param {{ maxBytes?: number, version?: number, ifNoneMatch?: string }} [more] `version`: number of a former value;
 * `ifNoneMatch`: version that is known, for which ConsoleError `not-modified` is thrown @returns {Promise<Value>} */
export async function get(client, space, key, { maxBytes = MAX_VALUE_BYTES, version, ifNoneMatch } = {}) {
  const headers = { "x-tinycloud-max-response-bytes": String(maxBytes), ...(version === undefined ? {} : { [VERSION]: String(version) }),
    ...(ifNoneMatch === undefined ? {} : { "If-None-Match": ifNoneMatch }) };
  const answer = await client.invoke([row(client, space, key, "get")], { headers, repeatable: true, maxBytes });
  // A node without versions ignores the header, and returns the current value (M56).
  if (version !== undefined && answer.headers.get(VERSION) !== String(version)) throw malformed(answer.asked, "it is another version");
  return valueOf(answer.headers, answer.body, answer.asked);
}

/** @param {Client} client @param {string} space @param {string} key @returns {Promise<{ etag: string, contentType: string | null }>} */
export async function head(client, space, key) {
  const { headers, asked } = await client.invoke([row(client, space, key, "metadata")], { repeatable: true });
  const etag = headers.get("ETag");
  if (!etag) throw malformed(asked, "it has no ETag");
  return { etag, contentType: headers.get("Content-Type") };
}

/**
 * Read which versions of a value the node keeps (M56).
 * @typedef {{ version: number, etag: string, storedAt: number | null, storedBy: string | null, replacedAt: number | null, isCurrent: boolean }} Version times in epoch seconds, and the DID of who stored it (M62), as the node states them
 * @param {Client} client @param {string} space @param {string} key @returns {Promise<Version[]>} the newest first, at least one
 */
export async function versions(client, space, key) {
  const answer = await client.invoke([row(client, space, key, "metadata")], { headers: { [VERSION]: "all" }, repeatable: true });
  const read = jsonOf(answer);
  const isTime = (/** @type {unknown} */ one) => one === null || Number.isFinite(one);
  const isDid = (/** @type {unknown} */ one) => one === null || one === undefined || (typeof one === "string" && one.startsWith("did:") && one.length <= MOST_DID_CHARS);
  const isVersion = (/** @type {any} */ one) => Number.isSafeInteger(one?.version) && typeof one.etag === "string" && isTime(one.storedAt) && isTime(one.replacedAt) && isDid(one.storedBy) && typeof one.current === "boolean";
  if (!Array.isArray(read) || !read.length || !read.every(isVersion)) throw malformed(answer.asked, "it is no list of versions");
  return read.map(({ version, etag, storedAt, storedBy, replacedAt, current }) => ({ version, etag, storedAt, storedBy: storedBy ?? null, replacedAt, isCurrent: current }));
}

/**
 * Write a value; it is durable when this returns.
 * @param {Client} client @param {string} space @param {string} key @param {Bytes | string | Blob} body @param {Put} [how]
 * @returns {Promise<string>} the version
 */
export async function put(client, space, key, body, { type, onProgress, signal, ...conditions } = {}) {
  const kind = type ?? (typeof body === "string" ? TEXT : undefined);
  const sent = typeof body === "string" ? utf8(body) : body instanceof Blob ? body.slice() : body; // drop the Blob's own type, which would be sent
  const headers = { ...(kind === undefined ? {} : { "Content-Type": kind }), ...conditioned(conditions) };
  const answer = await conditional(client, row(client, space, key, "put"), { headers, body: sent, onProgress, signal });
  return answer.headers.get("ETag") ?? "";
}

/** @param {Client} client @param {string} space @param {string} key @param {{ ifMatch?: string }} [conditions] @returns {Promise<void>} */
export async function remove(client, space, key, conditions = {}) {
  await conditional(client, row(client, space, key, "del"), { headers: conditioned(conditions) });
}

/** Delete values that exist, all or none. @param {Client} client @param {string} space @param {string[]} keys at most 250 */
export const removeAll = (client, space, keys) => client.invoke(keys.map((key) => row(client, space, key, "del")), {});

/** @param {Client} client @param {string} space @param {string} [prefix] @param {{ cursor?: string | null }} [place] @returns {Promise<Page>} keys, ascending */
export async function listPage(client, space, prefix = "", { cursor = null } = {}) {
  const headers = { "x-tinycloud-limit": String(MAX_PAGE_KEYS), ...(cursor !== null && { "x-tinycloud-cursor": cursor }) };
  const answer = await client.invoke([row(client, space, prefix, "list")], { headers, repeatable: true });
  const keys = jsonOf(answer);
  const following = answer.headers.get("x-tinycloud-truncated") === "true" ? answer.headers.get("x-tinycloud-next-cursor") : null;
  const isSound = Array.isArray(keys) && keys.every((key) => typeof key === "string" && key.startsWith(prefix));
  if (!isSound || keys.some((key, at) => at > 0 && byCodePoint(keys[at - 1], key) >= 0)) {
    throw malformed(answer.asked, "its keys are not those that were asked for, in order");
  }
  if (following !== null && (!keys.length || following === cursor)) throw malformed(answer.asked, "the list does not advance");
  return { keys, cursor: following };
}

/** @param {Client} client @param {string} space @param {string} [prefix] @returns {Promise<string[]>} every key, ascending */
export async function list(client, space, prefix = "") {
  /** @type {string[]} */
  const found = [];
  for (let cursor = null; ; ) {
    const page = await listPage(client, space, prefix, { cursor });
    if (found.length && page.keys.length && byCodePoint(found[found.length - 1], page.keys[0]) >= 0) {
      throw malformed(`listing ${prefix}`, "the list does not advance");
    }
    found.push(...page.keys);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}

/** @template T @param {T[]} parts @param {number} most @param {(part: T) => [number, number]} sizes bytes of key and of value @returns {T[][]} */
function packed(parts, most, sizes) {
  /** @type {T[][]} */
  const packs = [];
  let [keysBytes, valuesBytes] = [0, 0];
  for (const part of parts) {
    const [keyBytes, valueBytes] = sizes(part);
    const last = packs[packs.length - 1];
    keysBytes += keyBytes + PER_CAPABILITY_BYTES;
    valuesBytes += valueBytes;
    if (!last || last.length === most || keysBytes > MAX_KEYS_BYTES || valuesBytes > MAX_VALUES_BYTES) {
      packs.push([part]);
      [keysBytes, valuesBytes] = [keyBytes + PER_CAPABILITY_BYTES, valueBytes];
    } else {
      last.push(part);
    }
  }
  return packs;
}

/**
 * Read several values, up to 100 per request.
 * @param {Client} client @param {string} space @param {string[]} keys
 * @returns {Promise<Map<string, Value>>} without the keys that have no value
 */
export async function getMany(client, space, keys) {
  /** @type {Map<string, Value>} */
  const found = new Map();
  for (const pack of packed([...new Set(keys)], MOST_READS, (key) => [key.length, 0])) {
    if (pack.length === 1) {
      try {
        found.set(pack[0], await get(client, space, pack[0]));
      } catch (error) {
        if (!(error instanceof ConsoleError) || error.code !== "not-found") throw error;
      }
      continue;
    }
    const headers = { "x-tinycloud-max-response-bytes": String(MAX_VALUE_BYTES) };
    const wanted = pack.map((key) => row(client, space, key, "get"));
    const answer = await client.invoke(wanted, { headers, repeatable: true, maxBytes: MAX_BATCH_BYTES });
    const results = jsonOf(answer)?.results;
    const asked = new Set(pack);
    if (!Array.isArray(results) || results.length !== pack.length) throw malformed(answer.asked, "it is about other keys");
    for (const one of results) {
      const { key, ok, dataBase64, headers: said, error } = one ?? {};
      if (!asked.delete(key)) throw malformed(answer.asked, "it is about other keys");
      const body = ok ? fromBase64(dataBase64) : null;
      if (body) found.set(key, valueOf(headersOf(said, answer.asked), body, key));
      else if (ok || error?.code !== "KV_NOT_FOUND") throw malformed(answer.asked, `it says nothing usable about ${key}`);
    }
  }
  return found;
}

/**
 * Read the headers of values, up to 100 per request.
 * @param {Client} client @param {string} space @param {string[]} keys
 * @returns {Promise<Map<string, Headers>>} without the keys that have no value
 */
export async function headMany(client, space, keys) {
  /** @type {Map<string, Headers>} */
  const found = new Map();
  for (const pack of packed([...new Set(keys)], MOST_READS, (key) => [key.length, 0])) {
    const answer = await client.call(pack.map((key) => row(client, space, key, "metadata")), { repeatable: true });
    if (pack.length === 1) {
      if (answer.status !== 404) found.set(pack[0], requireSuccess(answer).headers);
      continue;
    }
    const results = jsonOf(requireSuccess(answer))?.results;
    if (!Array.isArray(results)) throw malformed(answer.asked, "it has no results");
    for (const one of results) if (one?.ok && pack.includes(one.key)) found.set(one.key, headersOf(one.headers, answer.asked));
  }
  return found;
}

/** @param {{ key: string, body: Bytes }[]} parts @returns {[Bytes, string]} a form, and its content type */
function multipart(parts) {
  const boundary = hex(random(24));
  const pieces = parts.flatMap(({ key, body }) => [
    utf8(`--${boundary}\r\nContent-Disposition: form-data; name="${pathSegment(key)}"\r\nContent-Type: ${TEXT}\r\n\r\n`),
    body,
    utf8("\r\n"),
  ]);
  return [concat(...pieces, utf8(`--${boundary}--\r\n`)), `multipart/form-data; boundary=${boundary}`];
}

/**
 * Write several texts in as few commits as possible, each all or nothing. Large texts are written one by one.
 * @param {Client} client @param {string} space @param {Map<string, string>} values
 * @returns {Promise<void>} throws ConsoleError `batch-incomplete` with `details.done` and `left` if only some were written
 */
export async function putMany(client, space, values) {
  const parts = [...values].map(([key, body]) => ({ key, body: utf8(body) }));
  const isSmall = (/** @type {{ body: Bytes }} */ { body }) => body.length <= MAX_SMALL_BYTES;
  const packs = packed(parts.filter(isSmall), MOST_WRITES, ({ key, body }) => [key.length, body.length]);
  packs.push(...parts.filter((part) => !isSmall(part)).map((part) => [part]));
  parts.forEach(({ key }) => row(client, space, key, "put")); // check all keys before sending anything
  for (const [at, pack] of packs.entries()) {
    const keys = pack.map(({ key }) => key);
    try {
      const [body, kind] = pack.length === 1 ? [pack[0].body, TEXT] : multipart(pack);
      const wanted = keys.map((key) => row(client, space, key, "put"));
      const answer = await client.invoke(wanted, { headers: { "Content-Type": kind }, body });
      if (pack.length > 1) {
        const { written, count } = jsonOf(answer) ?? {};
        if (count !== keys.length || String([...(written ?? [])].sort()) !== String([...keys].sort())) {
          throw malformed(answer.asked, "other keys were written than were asked for");
        }
      }
    } catch (cause) {
      if (!at) throw cause;
      const [done, left] = [packs.slice(0, at), packs.slice(at)].map((some) => some.flat().map(({ key }) => key));
      const message = `${done.length} values were written, ${left.length} were not`;
      throw new ConsoleError("batch-incomplete", message, { hint: "write those that are left again", details: { done, left }, cause });
    }
  }
}
