/** Requests to a runner, which has a different origin than the node. Each is signed for the runner's DID, program and body. */

import { base64url, sha256, utf8 } from "./bytes.js";
import { ed25519Key } from "./did.js";
import { ConsoleError } from "./errors.js";
import { addRights, proofsFor, rows, sessionToken } from "./session.js";
import { exchange, jsonOf } from "./transport.js";

/**
 * @import { Session } from "./session.js"
 * @import { Bytes } from "./bytes.js"
 * @typedef {{ url: string, did: string, start: string }} Runner `did` as stated by the runner: the caller
 *   compares it with the known DID. `start` identifies one start of the runner: a call signed for it runs at no other (RN178)
 */

export const GRANTS_PATH = "/.well-known/sealspace/backend/grants";
const CALL = "sealspace.run/call";
const CALL_FACT = "sealspace.run.call/v1";
const SIGN_IN_HEADER = "Sealspace-Sign-In";
const SIGN_IN_S = 86_400; // a runner rejects an older sign-in
const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 1024 * 1024;
const MAX_TEXT_CHARS = 300;
/** Messages for transport failures; the transport's own messages name the node. @type {{[code: string]: string}} */
const ON_THE_WAY = { "node-unreachable": "runner-unreachable", aborted: "runner-unreachable", "too-large": "runner-unusable", "malformed-answer": "runner-unusable" };

/** @param {unknown} text sent by the runner @returns {string} shortened, without invisible characters */
const shown = (text) => (typeof text === "string" ? text.slice(0, MAX_TEXT_CHARS).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd") : "");

/**
 * @param {string} url origin of the runner
 * @param {Partial<import("./transport.js").Request> & { path: string }} request
 * @returns {Promise<any>} the JSON of a success, untrusted; ConsoleError `runner-unreachable`, `runner-unusable`, or
 *   `runner-refused` with `details.reason` and `text`
 */
async function ask(url, { path, ...request }) {
  try {
    const asked = "asking the runner";
    const answer = await exchange({ maxBytes: MAX_ANSWER_BYTES, signal: AbortSignal.timeout(TIMEOUT_MS), asked, ...request, path: url + path });
    if (answer.status >= 200 && answer.status < 300) return answer.status === 204 ? null : jsonOf(answer);
    const said = jsonOf(answer);
    const { code, message, detail } = said?.error ?? { code: said?.code, message: said?.detail };
    const text = [message, detail].map(shown).filter(Boolean).join(" ");
    throw new ConsoleError("runner-refused", `the runner refuses: ${text}`, { details: { status: answer.status, problem: shown(code), text } });
  } catch (error) {
    const code = error instanceof ConsoleError ? ON_THE_WAY[error.code] : undefined;
    if (code === undefined) throw error;
    throw new ConsoleError(code, `asking the runner: ${code}`, { cause: error });
  }
}

/** @param {string} url origin of the runner @returns {Promise<Runner>} */
export async function look(url) {
  const { runner: did, start } = (await ask(url, { path: "/info", repeatable: true })) ?? {};
  if (typeof did === "string" && ed25519Key(did) && typeof start === "string" && /^[\w-]{43}$/.test(start)) return { url, did, start };
  throw unusable("it names no runner");
}

/** @param {string} why */
export const unusable = (why) => new ConsoleError("runner-unusable", `the runner's answer cannot be used: ${why}`);

// --- in the owner's name ---------------------------------------------------------------------------------------------

/** @param {Session} session @returns {import("./recap.js").Capability[]} the rights that a wallet's session needs */
const callRights = (session) => rows(`${session.space}/run`, [CALL]);

/** @param {Session} session @returns {boolean} whether the session may call in its owner's name now */
export function mayCall(session) {
  try {
    return proofsFor(session, callRights(session)) !== null;
  } catch {
    return false;
  }
}

/** Ask the wallet to let the session call; takes one signature. @param {Session} session @param {import("./wallets.js").Owner} owner @returns {Promise<void>} */
export async function allowCalls(session, owner) {
  if (!mayCall(session)) await addRights(session, owner, callRights(session), SIGN_IN_S);
}

/**
 * @param {Session} session @param {Runner} runner @param {string} program the called program, or a substitute such as `secrets/generate`
 * @param {Bytes} body @returns {Promise<{[name: string]: string}>} headers for one request, because the token works once
 */
export async function callHeaders(session, runner, program, body) {
  const wanted = rows(`${session.space}/run/${program}`, [CALL]);
  const { proofs } = proofsFor(session, wanted);
  const fact = { type: CALL_FACT, program, bodySha256: base64url(await sha256(body)), runner: runner.did, start: runner.start };
  const { token } = await sessionToken(session, { aud: runner.did, capabilities: wanted, proofs, facts: [fact] });
  const signIn = session.grants.find(({ cid }) => cid === proofs[0])?.token; // sent with each call: a runner does not store sign-ins
  return { Authorization: token, ...(signIn === undefined ? {} : { [SIGN_IN_HEADER]: signIn }) };
}

/**
 * Send a signed request to the runner, once, because a failed try may have had an effect. If the runner has restarted since
 * `look`, it rejects the request without effect; then send it once more (RN178).
 * @param {Session} session @param {Runner} runner @param {string} program as `callHeaders`
 * @param {{ method: "GET" | "POST" | "DELETE", path: string, json?: import("./canonical_json.js").Json }} request
 * @returns {Promise<any>} as `ask`
 */
export async function askSigned(session, runner, program, { json, ...request }) {
  const body = json === undefined ? undefined : utf8(JSON.stringify(json));
  const once = async (/** @type {Runner} */ at) => {
    const headers = await callHeaders(session, at, program, body ?? new Uint8Array(0));
    return ask(at.url, { ...request, headers: { ...headers, ...(body && { "Content-Type": "application/json" }) }, body, tries: 1 });
  };
  try {
    return await once(runner);
  } catch (error) {
    if (/** @type {any} */ (error).details?.problem !== "call-start") throw error;
    const { start } = await look(runner.url);
    if (start === runner.start) throw error; // the refusal is false: sign no second token, which could cause a second run
    return once({ ...runner, start }); // keep the DID that was checked before
  }
}

/** Send a statement that the owner signed; repeating it is harmless. @param {Runner} runner @param {string} path @param {Bytes | string} body @returns {Promise<any>} as `ask` */
export const send = (runner, path, body) => ask(runner.url, { path, body, headers: { "Content-Type": "application/json" }, repeatable: true });
