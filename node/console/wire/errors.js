/** The error class of all modules of `wire`, and the meanings of the node's refusals. */

/** @typedef {{[name: string]: any}} Details data about an error; the members depend on its code */

/**
 * An error with a stable `code`: wallet-absent, wallet-failed, wallet-rejected, wallet-other-chain,
 * wallet-account-changed, session-expired, spaces-not-hosted, node-unreachable, node-changed, node-failure,
 * malformed-answer, not-found, not-modified, space-not-found, not-authorised, revoked, conflict, duplicate, too-large,
 * quota-exceeded, rate-limited, aborted, transfer-broken, batch-incomplete, envelope-broken, label-mismatch,
 * place-mismatch, unbound-value, runner-unreachable, runner-unusable, runner-refused, runner-changed, payload-broken, network-not-found,
 * network-not-active, network-key-changed, descriptor-unsigned, decrypt-refused,
 * answer-untrusted, receipt-invalid, manifest-invalid, phrase-invalid, passkey-unavailable, browser-too-old,
 * storage-unavailable, contacts-invalid, invalid-input, refused.
 */
export class ConsoleError extends Error {
  /** @param {string} code @param {string} message @param {{ hint?: string, details?: Details, cause?: unknown }} [more] */
  constructor(code, message, { hint = "", details = {}, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ConsoleError";
    /** Stable name of the error. */
    this.code = code;
    /** Advice for the user. */
    this.hint = hint;
    /** @type {Details} */
    this.details = details;
  }
}

const MAX_TEXT_CHARS = 2000;
/** @type {{[status: number]: string}} */
const BY_STATUS = {
  304: "not-modified",
  402: "quota-exceeded",
  404: "not-found",
  409: "duplicate",
  412: "conflict",
  413: "too-large",
  429: "rate-limited",
};

/** @param {string} text of a 401 or 403 @returns {[string, Details]} */
function unauthorised(text) {
  // Match up to the last `/` before an ability. Spaces are trimmed afterwards, so long runs of them are not slow.
  const action = /^Unauthorized Action:(.*)\/\s*((?:tinycloud|sealspace)\.\S+)\s*$/m.exec(text);
  if (action) return ["not-authorised", { missing: [{ resource: action[1].trim(), ability: action[2] }] }];
  const revoked = /^delegation-(?:parent-|ancestor-)?revoked: (?:ancestor=)?(\w+)/.exec(text);
  if (revoked) return ["revoked", { cid: revoked[1] }];
  const release = /^release refused: ([\w-]+)/.exec(text);
  if (release) return ["decrypt-refused", { reason: release[1] }];
  if (/expired or not yet valid|lifetime exceeds|^invocation (expired|not yet valid)|^Child delegation /.test(text)) {
    return ["session-expired", {}];
  }
  return ["not-authorised", {}];
}

/** @param {number} status @param {string} text @returns {[string, Details]} */
function meaning(status, text) {
  if (status === 401 || status === 403) return unauthorised(text);
  if (status === 404 && text === "Space not found") return ["space-not-found", {}];
  const quota = status === 402 ? /Used: (\d+) bytes, Limit: (\d+) bytes/.exec(text) : null;
  if (quota) return ["quota-exceeded", { usedBytes: Number(quota[1]), limitBytes: Number(quota[2]) }];
  return [BY_STATUS[status] ?? (status >= 500 ? "node-failure" : "refused"), {}];
}

/**
 * @param {number} status @param {Headers} headers @param {string} body of a failed answer
 * @param {string} asked description of the request
 * @returns {ConsoleError} for any body; `details` has status, text, requestId, retryAfterS and problem
 */
export function refusalOf(status, headers, body, asked) {
  const kind = (headers.get("Content-Type") ?? "").split(";", 1)[0].trim().toLowerCase();
  /** @type {{[name: string]: unknown}} */
  let problem = {};
  const isProblem = kind === "application/problem+json";
  // A write that does not fit into its space is answered with JSON, and by older nodes with a text.
  const isOfStorage = kind === "application/json" && (status === 402 || status === 413);
  if (isProblem || isOfStorage) {
    try {
      const read = JSON.parse(body);
      if (read !== null && typeof read === "object") problem = read;
    } catch {
      // Without a readable body, the status decides.
    }
  }
  /** @param {unknown} one */
  const short = (one) => (typeof one === "string" ? one.slice(0, MAX_TEXT_CHARS).trim() : "");
  const isText = kind !== "text/html" && !isProblem; // an HTML page has no usable message
  let text = isText ? short(body) : short(problem.detail) || short(problem.title) || short(problem.code);
  if (isOfStorage) text = short(problem.message) || text;
  const [code, details] = meaning(status, text);
  const after = headers.get("Retry-After") ?? "";
  return new ConsoleError(code, `${asked}: ${text || `the node answered ${status}`}`, {
    hint: short(problem.hint),
    details: {
      ...details,
      status,
      text,
      problem: short(problem.code),
      requestId: headers.get("TinyCloud-Trace-Id"),
      retryAfterS: /^[0-9]{1,9}$/.test(after) ? Number(after) : null,
    },
  });
}
