/** Builds of programs and the rules of run grants, read as strictly as `sealspace/documents/builds.py` and `run_grants.py` do. */

import { isObject } from "./canonical_json.js";
import { projectOf } from "./api_keys.js";
import { isSpaceId } from "./did.js";
import { ConsoleError } from "./errors.js";

/**
 * @typedef {{ repository: string, repositoryId: string, ref: string, commit: string, workflow: string }} Build
 * @typedef {{ wasmSha256?: string, project?: string, build?: Build }} Rule
 * @typedef {{ programs: Rule[], [member: string]: any }} RunStatement
 */

const REPOSITORY = "github\\.com/[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\\.\\.?(?:/|$))[A-Za-z0-9._-]{1,100}";
export const SHA256 = /^[0-9a-f]{64}$/;
export const REF = /^refs\/[A-Za-z0-9._/@#%+=,-]{1,250}$/;
/** @type {{[member: string]: RegExp}} */
const BUILD = {
  repository: new RegExp(`^${REPOSITORY}$`),
  repositoryId: /^[1-9][0-9]{0,19}$/,
  ref: REF,
  commit: /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/,
  workflow: new RegExp(`^${REPOSITORY}/\\.github/workflows/[A-Za-z0-9._-]{1,250}$`),
};
/** @type {{[limit: string]: number}} */
const MOST = { maxInstructions: 500_000_000_000, maxMemoryMb: 512, maxExecutionSeconds: 180 };
const [MAX_PROGRAMS, MAX_HOSTS] = [64, 64];
const HOST = /^(?=.{1,253}$)(?!(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;


/** @param {string} what */
const refused = (what) => new ConsoleError("invalid-input", `${what} is malformed`);

/** @param {unknown} value @param {string[]} members @param {string} what @returns {{[name: string]: any}} */
export function known(value, members, what) {
  if (!isObject(value) || !Object.keys(value).every((name) => members.includes(name))) throw refused(what);
  return value;
}

/** @param {unknown} text @returns {text is string} */
export const isHost = (text) => typeof text === "string" && HOST.test(text);

/** @param {unknown} text @returns {text is string} whether it is `<did>/<name>` in its one spelling */
export const isProject = (text) => typeof text === "string" && projectOf(text, "") === text && isSpaceId(`tinycloud:${text.slice(4, text.lastIndexOf("/"))}:x`);

/** @param {unknown} value untrusted JSON @returns {Build | undefined} undefined: nothing is stated; ConsoleError `invalid-input` if it is malformed */
export function parseBuild(value) {
  if (value === undefined || value === null) return undefined;
  const stated = known(value, Object.keys(BUILD), "the build");
  for (const [name, pattern] of Object.entries(BUILD)) {
    if (typeof stated[name] !== "string" || !pattern.test(stated[name])) throw refused(`the build's ${name}`);
  }
  return /** @type {Build} */ (stated);
}

/** @param {unknown} value untrusted JSON @returns {Rule} the rule unchanged */
function parseRule(value) {
  const rule = known(value, ["wasmSha256", "project", "build"], "a rule");
  const build = parseBuild(rule.build);
  const { wasmSha256, project } = rule;
  const isHash = wasmSha256 === undefined ? project !== undefined && !build : typeof wasmSha256 === "string" && SHA256.test(wasmSha256);
  if (!isHash || !(project === undefined || isProject(project))) throw refused("a rule");
  return rule;
}

/**
 * Parse the terms of a run grant. The condition on callers is not read: the runner judges it.
 * @param {unknown} value untrusted JSON @returns {RunStatement} the terms unchanged, so that a copy of them has every member; ConsoleError `invalid-input`
 */
export function parseRunStatement(value) {
  const stated = known(value, ["programs", "callers", "hosts", "limits", "unbound"], "the run statement");
  const { programs, callers = "AllowAll", hosts = [], limits = {}, unbound = false } = stated;
  if (!Array.isArray(programs) || !programs.length || programs.length > MAX_PROGRAMS) throw refused("the list of programs");
  programs.forEach(parseRule);
  if (callers !== "AllowAll" && !isObject(callers)) throw refused("the condition on callers");
  if (!Array.isArray(hosts) || hosts.length > MAX_HOSTS || !hosts.every(isHost)) throw refused("the list of hosts");
  for (const [name, most] of Object.entries(known(limits, Object.keys(MOST), "a limit"))) {
    if (!Number.isSafeInteger(most) || most < 1 || most > MOST[name]) throw refused("a limit");
  }
  if (typeof unbound !== "boolean") throw refused("the member unbound");
  return /** @type {RunStatement} */ (stated);
}

/** @param {string} text URL, address for SSH or `OWNER/NAME` @returns {string | null} `github.com/OWNER/NAME`; null: not a repository on GitHub */
export function repositoryOf(text) {
  const name = text.replace(/^(?:(?:https?:\/\/|(?:ssh:\/\/)?git@)?github\.com[/:])?/, "").replace(/\/$/, "").replace(/\.git$/, "");
  return BUILD.repository.test(`github.com/${name}`) ? `github.com/${name}` : null;
}

/**
 * The command that verifies a build and grants. Refs may have characters that a shell would interpret.
 * @param {string} url of the runner @param {{ repository: string, ref: string, project: string, secrets: string[], callers?: string[] }} asked `callers`: options @returns {string} for a POSIX shell
 */
export function verifyingCommand(url, { repository, ref, project, secrets, callers = [] }) {
  const words = ["sealspace", "runner", "grant", url, "--repository", repository, "--ref", ref, "--program", project, ...(secrets.length ? secrets : ["NAME"]).flatMap((one) => ["--secret", one]), ...callers];
  return words.map((one) => (/^[\w@%+=:,./-]+$/.test(one) ? one : `'${one.replaceAll("'", `'"'"'`)}'`)).join(" ");
}
