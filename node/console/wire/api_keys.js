/** API keys of a runner. The holder of a key calls programs in its owner's name and at its owner's cost. */

import { base64url, hex, random, sha256, utf8 } from "./bytes.js";
import { canonicalBytes, canonicalText } from "./canonical_json.js";
import { principalOf } from "./did.js";
import { ConsoleError } from "./errors.js";
import { askSigned, send, unusable } from "./runner.js";
import { isScope } from "./secrets.js";
import { nowS } from "./session.js";
import { isoTime } from "./siwe.js";

/**
 * @import { Runner } from "./runner.js"
 * @import { Session } from "./session.js"
 * @typedef {{ projects: string[], profiles: string[], maxPerCall: number, expiresS: number }} Stated `projects`:
 *   `<did>/<name>`, or `*` alone; `maxPerCall` in micro-units
 * @typedef {{ nonce: number, projects: string[], profiles: string[], maxPerCall: string, expires: string }} ApiKey
 * @typedef {{ balance: string, reserved: string, charged: string }} Account in micro-units
 */

const KEY_TYPE = "sealspace.runner.key/v1";
export const ANY_PROJECT = "*";
export const MAX_LIFE_DAYS = 90;
export const MAX_AMOUNT = 10 ** 15;
const MAX_NAMED = 64;
const MAX_NONCE = 2 ** 32 - 1;

/** @param {string} text `<did>/<name>`, or the name of one of the owner's projects @param {string} owner @returns {string | null} the full name; null if it is malformed */
export function projectOf(text, owner) {
  const [, did = owner, name] = /^(?:(did:[a-z0-9]+:[!-~]+)\/)?([a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?)$/.exec(text) ?? [];
  return name === undefined || principalOf(did) !== did ? null : `${did}/${name}`;
}

/** @param {string} text @returns {boolean} */
export const isProfile = (text) => text === "default" || (text.length <= 64 && text !== "" && isScope(text));

/**
 * Ask the owner to sign a statement. Its type differs from every token and sign-in, so it cannot be used as one.
 * @param {string} type @param {import("./canonical_json.js").Json} statement @param {import("./wallets.js").Owner} owner
 * @returns {Promise<import("./bytes.js").Bytes>} canonical JSON
 */
async function signedStatement(type, statement, owner) {
  const text = `sealspace statement ${type}\n${canonicalText(statement)}`;
  const key = owner.keys?.privateKey;
  const signature = key ? new Uint8Array(await crypto.subtle.sign("Ed25519", key, utf8(text))) : await owner.signText?.(text);
  if (!signature) throw new ConsoleError("wallet-absent", "this owner has no wallet");
  return canonicalBytes({ type, signer: owner.did, statement, signature: base64url(signature) });
}

/**
 * Create a key. The secret is generated here; the runner receives only its hash.
 * @param {import("./wallets.js").Owner} owner @param {Runner} runner @param {Stated} stated
 * @returns {Promise<string>} the key that its holder sends; it is shown only once
 */
export async function createKey(owner, runner, { projects, profiles, maxPerCall, expiresS }) {
  const isNamed = projects.length > 0 && projects.length <= MAX_NAMED && profiles.length <= MAX_NAMED && profiles.every(isProfile);
  if (!isNamed || !(maxPerCall >= 0 && maxPerCall <= MAX_AMOUNT) || !(expiresS > 0 && expiresS <= MAX_LIFE_DAYS * 86400)) {
    throw new ConsoleError("invalid-input", "a key names projects, profiles, an amount and an end of 90 days at most");
  }
  const secret = hex(random(32));
  const nonce = new DataView(random(4).buffer).getUint32(0);
  const secretSha256 = hex(await sha256(utf8(secret)));
  const statement = { nonce, secretSha256, projects, profiles, maxPerCall, expires: isoTime(nowS() + expiresS), runner: runner.did };
  await send(runner, "/keys", await signedStatement(KEY_TYPE, statement, owner));
  return `${owner.did}:${nonce}:${secret}`;
}

/** @param {Session} session @param {Runner} runner @returns {Promise<{ account: Account, keys: ApiKey[] }>} ordered by expiry, the latest first */
export async function list(session, runner) {
  const said = await askSigned(session, runner, "keys", { method: "GET", path: "/keys" });
  const isAmount = (/** @type {unknown} */ one) => typeof one === "string" && /^[0-9]{1,16}$/.test(one);
  const isTexts = (/** @type {unknown} */ some) => Array.isArray(some) && some.length <= MAX_NAMED && some.every((one) => typeof one === "string");
  const isKey = (/** @type {any} */ one) => Number.isInteger(one?.nonce) && one.nonce >= 0 && one.nonce <= MAX_NONCE && isTexts(one.projects) &&
    isTexts(one.profiles) && isAmount(one.maxPerCall) && /^[0-9TZ:.-]{20,30}$/.test(one.expires);
  const { balance, reserved, charged } = said?.account ?? {};
  if (![balance, reserved, charged].every(isAmount) || !Array.isArray(said.keys) || !said.keys.every(isKey)) throw unusable("these are no keys");
  const keys = said.keys.map((/** @type {ApiKey} */ { nonce, projects, profiles, maxPerCall, expires }) => ({ nonce, projects, profiles, maxPerCall, expires }));
  keys.sort((/** @type {ApiKey} */ one, /** @type {ApiKey} */ other) => other.expires.localeCompare(one.expires) || one.nonce - other.nonce);
  return { account: { balance, reserved, charged }, keys };
}

/** @param {Session} session @param {Runner} runner @param {number} nonce @returns {Promise<void>} once resolved, the runner rejects the key */
export async function revokeKey(session, runner, nonce) {
  const said = await askSigned(session, runner, `keys/${nonce}/revoke`, { method: "DELETE", path: `/keys/${nonce}` });
  if (said?.revoked !== String(nonce)) throw unusable("it does not confirm the revocation");
}
