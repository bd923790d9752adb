/** Requests to the page's node and to a runner. Sizes are limited, each try has a fresh token, failures are ConsoleErrors. */

import { text } from "./bytes.js";
import { strictJson } from "./canonical_json.js";
import { ConsoleError, refusalOf } from "./errors.js";

/**
 * @typedef {object} Request
 * @property {"GET" | "POST" | "PUT" | "DELETE"} [method] GET by default; POST if there is a body
 * @property {string} path percent-encoded, with its query
 * @property {() => Promise<string>} [mint] makes the token for one try
 * @property {{[name: string]: string}} [headers]
 * @property {Uint8Array<ArrayBuffer> | string | Blob} [body]
 * @property {number} [tries] 3
 * @property {boolean} [repeatable] whether to retry if the outcome of a try is unknown
 * @property {number} [maxBytes] longest answer; 16 MiB
 * @property {string} asked description of the request, for error messages
 * @property {AbortSignal} [signal]
 * @property {(movedBytes: number, sizeBytes: number) => void} [onProgress] called as the body is sent
 */
/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {Headers} headers
 * @property {Uint8Array<ArrayBuffer>} body
 * @property {string} asked
 */

const TRIES = 3;
const BACKOFF_MS = 100;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const MAX_REFUSAL_BYTES = 64 * 1024;

/** @param {string} text @returns {string} one path segment */
export const pathSegment = (text) => encodeURIComponent(text);

/** @param {Response} response @param {number} most @param {string} asked */
async function wholeBody(response, most, asked) {
  const reader = response.body?.getReader();
  /** @type {Uint8Array[]} */
  const pieces = [];
  let size = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done || !value) break;
    size += value.length;
    if (size > most) {
      await reader?.cancel();
      throw new ConsoleError("too-large", `${asked}: the answer is longer than ${most} bytes`);
    }
    pieces.push(value);
  }
  const body = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    body.set(piece, at);
    at += piece.length;
  }
  return body;
}

/** @param {Request} request @param {{[name: string]: string}} headers @returns {Promise<Answer>} */
async function fetched(request, headers) {
  const { asked, body, signal } = request;
  const response = await fetch(request.path, {
    method: request.method ?? (body === undefined ? "GET" : "POST"),
    headers,
    body,
    signal,
    cache: "no-store",
    credentials: "omit",
    redirect: "error", // a redirect could pass the token to another server
    referrerPolicy: "no-referrer",
  });
  const most = response.ok ? (request.maxBytes ?? MAX_ANSWER_BYTES) : MAX_REFUSAL_BYTES;
  return { status: response.status, headers: response.headers, body: await wholeBody(response, most, asked), asked };
}

/** Send with XMLHttpRequest, the only browser API that reports upload progress. @param {Request} request @param {{[name: string]: string}} headers */
function uploaded(request, headers) {
  return /** @type {Promise<Answer>} */ (
    new Promise((resolve, reject) => {
      const sending = new XMLHttpRequest();
      sending.open(request.method ?? "POST", request.path);
      sending.responseType = "arraybuffer";
      for (const [name, value] of Object.entries(headers)) sending.setRequestHeader(name, value);
      sending.upload.onprogress = ({ loaded, total }) => request.onProgress?.(loaded, total);
      sending.onprogress = ({ loaded }) => {
        if (loaded <= (request.maxBytes ?? MAX_ANSWER_BYTES)) return;
        reject(new ConsoleError("too-large", `${request.asked}: the answer is too long`));
        sending.abort();
      };
      const abort = () => sending.abort();
      request.signal?.addEventListener("abort", abort);
      sending.onloadend = () => request.signal?.removeEventListener("abort", abort);
      sending.onabort = () => reject(new DOMException("aborted", "AbortError"));
      sending.onerror = () => reject(new TypeError("the connection broke off"));
      sending.onload = () => {
        const lines = sending.getAllResponseHeaders().trim().split("\r\n");
        const named = lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]);
        const said = new Headers(/** @type {[string, string][]} */ (named.filter(([name]) => name)));
        resolve({ status: sending.status, headers: said, body: new Uint8Array(sending.response), asked: request.asked });
      };
      if (request.signal?.aborted) reject(new DOMException("aborted", "AbortError"));
      else sending.send(request.body);
    })
  );
}

/**
 * Send a request. A 503 means that nothing was done, so it is retried with a fresh token.
 * @param {Request} request @returns {Promise<Answer>} the answer, even if it is a refusal
 */
export async function exchange(request) {
  for (let left = (request.tries ?? TRIES) - 1; ; left--) {
    const headers = { ...request.headers };
    if (request.mint) headers.Authorization = await request.mint();
    try {
      const answer = await (request.onProgress ? uploaded : fetched)(request, headers);
      if (answer.status !== 503 || left <= 0) return answer;
    } catch (cause) {
      if (cause instanceof ConsoleError) throw cause;
      if (request.signal?.aborted) throw new ConsoleError("aborted", `${request.asked}: cancelled`);
      if (left <= 0 || !request.repeatable) {
        const hint = "check that the node runs and that you are connected, then try again";
        throw new ConsoleError("node-unreachable", `${request.asked}: no answer from the node`, { hint, cause });
      }
    }
    await new Promise((resume) => setTimeout(resume, BACKOFF_MS * 2 ** (TRIES - 1 - left)));
  }
}

/** @param {Answer} answer @returns {Answer} the same answer; throws if it is a refusal */
export function requireSuccess(answer) {
  if (answer.status >= 200 && answer.status < 300) return answer;
  throw refusalOf(answer.status, answer.headers, new TextDecoder().decode(answer.body), answer.asked);
}

/** @param {Answer} answer @returns {any} its JSON value, untrusted */
export function jsonOf(answer) {
  try {
    return strictJson(text(answer.body));
  } catch {
    throw malformed(answer.asked, "it is no JSON");
  }
}

/** @param {string} asked @param {string} why */
export const malformed = (asked, why) =>
  new ConsoleError("malformed-answer", `${asked}: the node's answer cannot be used: ${why}`);
