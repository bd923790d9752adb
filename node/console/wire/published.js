/** The active version of a published program, as its developer signed it (RN50 to RN53, RN177). */

import { fromBase64url, hex, sha256, text, utf8 } from "./bytes.js";
import { isProject, known, parseBuild, SHA256 } from "./builds.js";
import { canonicalText, strictJson } from "./canonical_json.js";
import { addressOf, ed25519Key, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { recoverAddress } from "./secp256k1.js";
import { exchange, pathSegment, requireSuccess } from "./transport.js";

/**
 * @import { Build } from "./builds.js"
 * @typedef {{ project: string, sha256: string, build?: Build }} Version `build` as its developer states it, not verified
 */

const MAX_STATEMENT_BYTES = 128 * 1024;
const MAX_PROGRAM_BYTES = 33_554_432;
const VERSION_TYPE = "sealspace.program.version/v1";
const ACTIVE_TYPE = "sealspace.program.active/v1";

/** @param {string} what @param {unknown} [cause] */
const unusable = (what, cause) => new ConsoleError("version-unusable", what, { details: { text: what }, cause });

/**
 * @param {Uint8Array} body untrusted @param {string} type @param {string} signer DID
 * @returns {Promise<{[member: string]: any}>} the statement, whose signature is verified
 */
export async function readStatement(body, type, signer) {
  const document = known(strictJson(text(body)), ["type", "signer", "statement", "signature"], "the signed statement");
  const { statement, signature } = document;
  const bytes = fromBase64url(signature);
  if (document.type !== type || document.signer !== signer || bytes === null || statement === null || typeof statement !== "object" || Array.isArray(statement)) {
    throw unusable("the statement has another type or signer");
  }
  const signed = `sealspace statement ${type}\n${canonicalText(statement)}`;
  const [key, address] = [ed25519Key(signer), addressOf(signer)];
  const isValid = key ? await crypto.subtle.verify("Ed25519", await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]), bytes, utf8(signed))
    : address !== null && recoverAddress(signed, bytes) === address.toLowerCase();
  if (!isValid) throw unusable("the developer's signature is not valid");
  return statement;
}

/** @param {any} stated @param {string} project @param {string} hash @returns {Version} */
function versionOf(stated, project, hash) {
  known(stated, ["project", "sha256", "bytes", "target", "publishedAt", "source", "build", "manifest"], "the version");
  const { bytes, target, publishedAt, source = "", manifest = {} } = stated;
  const isSized = Number.isSafeInteger(bytes) && bytes >= 1 && bytes <= MAX_PROGRAM_BYTES && typeof publishedAt === "string" && (source === null || typeof source === "string");
  known(manifest, ["secrets", "hosts", "developer"], "the manifest");
  if (stated.project !== project || stated.sha256 !== hash || !isSized || !["wasm32-wasip1", "wasm32-wasip2"].includes(target)) throw unusable("the statement is about another version");
  return { project, sha256: hash, build: parseBuild(stated.build) };
}

/**
 * Read a project that is published to everyone. The node could still show an older `active`: only a runner remembers the last one.
 * @param {string} project `<did>/<name>` @returns {Promise<Version>} ConsoleError `version-unusable` if a signature, a member or a hash is wrong
 */
export async function readActive(project) {
  if (!isProject(project)) throw unusable("this is not a project");
  const at = project.lastIndexOf("/");
  const [developer, name] = [project.slice(0, at), project.slice(at + 1)];
  const read = async (/** @type {string} */ key) => {
    const path = `/public/${pathSegment(spaceId(developer, "public"))}/kv/projects/${name}/${key}`;
    return requireSuccess(await exchange({ path, maxBytes: MAX_STATEMENT_BYTES, repeatable: true, asked: "the active version" })).body;
  };
  try {
    const active = known(await readStatement(await read("active"), ACTIVE_TYPE, developer), ["project", "sha256", "sequence", "statementSha256"], "the active version");
    if (active.project !== project || !SHA256.test(active.sha256) || !(Number.isSafeInteger(active.sequence) && active.sequence >= 1)) throw unusable("it names no version of this project");
    const body = await read(`versions/${active.sha256}`);
    if (hex(await sha256(body)) !== active.statementSha256) throw unusable("the version has another statement than the active one");
    return versionOf(await readStatement(body, VERSION_TYPE, developer), project, active.sha256);
  } catch (error) {
    if (error instanceof ConsoleError && error.code !== "invalid-input") throw error;
    throw unusable("its statement is malformed", error);
  }
}
