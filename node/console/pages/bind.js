// Grants secrets to the operator's runner, for a repository, a program's hash or a project.
import { fill, h, pageHead } from "../elements.js";
import { buildFacts } from "../parts/builds.js";
import { callersField, callersOf } from "../parts/callers.js";
import { form, textField } from "../parts/form.js";
import { runnerUrl } from "../parts/known_node.js";
import { known } from "../parts/known_runner.js";
import { banner, emptyState, loading } from "../parts/states.js";
import { copyField, facts, say, split } from "../parts/values.js";
import { signedByOwner } from "../parts/wallet_choices.js";
import { runner as texts } from "../texts_runner.js";
import { projectOf } from "../wire/api_keys.js";
import * as backends from "../wire/backends.js";
import { isHost, isProject, REF, repositoryOf, SHA256, verifyingCommand } from "../wire/builds.js";
import { canonicalText } from "../wire/canonical_json.js";
import { principalOf } from "../wire/did.js";
import { readActive } from "../wire/published.js";
import { grantRun, MAX_SECRETS } from "../wire/run_grants.js";
import * as secrets from "../wire/secrets.js";

const words = texts.bind;
export const title = words.title;
export const needsSession = true;

const MAX_DAYS = 366;
const KINDS = /** @type {const} */ (["repository", "hash", "project"]);

/**
 * @import { Context } from "../app.js"
 * @import { Field } from "../parts/form.js"
 * @import { Version } from "../wire/published.js"
 */

/** @param {Context} context */
export function render(context) {
  const { client, signal } = context;
  const body = h("div", { class: "stack" });
  if (runnerUrl) loading(body, () => knownOf(context), (found) => h("section", { class: "panel" }, decision(context, found, body)), { signal });
  else fill(body, h("section", { class: "panel" }, emptyState({ icon: "code", title: words.noRunner, text: words.noRunnerText, actions: [copyField(words.command)] })));
  return h("div", { class: "page" }, pageHead(words), body);
}

/** @param {Context} context */
async function knownOf({ client, node }) {
  const none = (/** @type {any} */ error) => {
    if (!["not-found", "network-not-found", "space-not-found"].includes(error.code)) throw error;
    return [];
  };
  const [found, stored, released, { codeChoice }] = await Promise.all([known(), secrets.list(client).catch(none), backends.list(client).catch(none), import("../parts/code_choice.js")]);
  const backend = released.find((/** @type {import("../wire/backends.js").Backend} */ { did }) => principalOf(did) === principalOf(found.did));
  const seen = backend && node.attestation !== "off" ? await backends.evidenceOf(client, backend) : null;
  return { found, stored: new Map(stored.map((/** @type {secrets.SecretName} */ one) => [one.label, one])), seen, codeChoice };
}

/** @param {Context} context @param {Awaited<ReturnType<typeof knownOf>>} known_ @param {Element} body */
function decision({ client, node }, { found, stored, seen, codeChoice }, body) {
  const { session } = client;
  const isDistinct = (/** @type {string[]} */ some) => new Set(some).size === some.length;

  const radios = KINDS.map((kind) => h("input", { type: "radio", name: "kind", value: kind, checked: kind === "repository", on: { change: () => draw() } }));
  const kind = () => /** @type {typeof KINDS[number]} */ (radios.find(({ checked }) => checked).value);
  /** A field that is only there for some kinds. @template {Field} T @param {readonly string[]} kinds @param {T} field @returns {T & { kinds: readonly string[] }} */
  const only = (kinds, field) => ({ ...field, kinds, judge: () => (kinds.includes(kind()) ? field.judge() : "") });

  const project = only(["repository", "project"], textField({ name: "project", label: words.project, hint: words.projectHint, mono: true, check: (said) => (projectIn(said) ? "" : words.projectBad) }));
  const repository = only(["repository"], textField({ name: "repository", label: words.repository, hint: words.repositoryHint, mono: true, check: (said) => (repositoryOf(said.trim()) ? "" : words.repositoryBad) }));
  const ref = only(["repository"], textField({ name: "ref", label: words.ref, hint: words.refHint, mono: true, check: (said) => (REF.test(said.trim()) ? "" : words.refBad) }));
  const hash = only(["hash"], textField({ name: "hash", label: words.hash, hint: words.hashHint, mono: true, check: (said) => (SHA256.test(said.trim()) ? "" : words.hashBad) }));
  const projectIn = (/** @type {string} */ said) => {
    const name = projectOf(said.trim(), session.owner);
    return isProject(name) ? name : null;
  };

  // --- the version that its developer signed ---
  /** @type {Version | null} what was read for the fields as they are */
  let version = null;
  const shown = h("div", { "aria-live": "polite" });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const command = h("div", {});
  const fits = () => version?.build !== undefined && version.build.repository === repositoryOf(repository.input.value.trim()) && version.build.ref === ref.input.value.trim();
  const readButton = h("button", { type: "button", on: { click: read } }, words.read);
  const reading = only(["repository"], { name: "read", input: readButton, element: h("div", { class: "stack tight" }, h("div", { class: "row" }, readButton), shown, wrong),
    judge: () => refuse(version === null ? words.readFirst : fits() ? "" : words.doesNotFit), refuse });
  /** @param {string} said */
  function refuse(said) {
    wrong.textContent = said;
    return said;
  }
  let turn = 0;
  function forget() {
    turn++;
    version = null;
    refuse("");
    fill(shown);
  }
  async function read() {
    const faulty = [project, repository, ref].filter((one) => one.judge());
    if (faulty.length) return faulty[0].input.focus();
    forget();
    const mine = turn;
    await loading(shown, () => readActive(String(projectIn(project.input.value))), (active) => {
      if (mine !== turn) return null; // the fields changed meanwhile
      version = active;
      return stated(active);
    }, { lines: 3 });
  }
  /** @param {Version} active */
  function stated({ sha256, build }) {
    const rows = facts([[words.hash, copyField(sha256, words.hash)], ...buildFacts(build)]);
    const verdict = fits() ? [banner({ kind: "warn", title: words.unverified, text: words.unverifiedText }), command]
      : build ? banner({ kind: "bad", title: words.other, text: words.otherText }) : banner({ kind: "bad", title: words.nothingStated, text: words.nothingStatedText });
    drawCommand();
    return h("div", { class: "stack tight", role: "region", "aria-label": words.states }, h("h2", {}, words.states), rows, verdict);
  }
  function drawCommand() {
    if (version === null || !fits()) return;
    fill(command, copyField(verifyingCommand(found.url, { repository: String(repositoryOf(repository.input.value.trim())), ref: ref.input.value.trim(), project: version.project,
      secrets: split(named.input.value).filter((one) => stored.has(one)), callers: callers.options() })));
  }

  // --- what is granted ---
  const named = textField({ name: "secrets", label: words.secrets, hint: words.secretsHint, rows: 3, mono: true, check: (said) => {
    const some = split(said);
    const missing = some.find((one) => !stored.has(one));
    if (missing !== undefined && some.length <= MAX_SECRETS) return words.secretMissing(missing.slice(0, 200));
    const isMixed = new Set(some.map((one) => stored.get(one)?.name.startsWith(secrets.PROTECTED))).size > 1;
    return !some.length || some.length > MAX_SECRETS || !isDistinct(some) || isMixed ? words.secretsBad : "";
  } });
  const hosts = only(["repository", "project"], textField({ name: "hosts", label: words.hosts, hint: words.hostsHint, rows: 2, mono: true,
    check: (said) => (isDistinct(split(said)) && split(said).length <= 64 && split(said).every(isHost) ? "" : words.hostsBad) }));
  const callers = callersField();
  const days = textField({ name: "days", label: words.days, hint: words.daysHint, value: "7", check: (said) => (/^[1-9][0-9]{0,2}$/.test(said.trim()) && Number(said) <= MAX_DAYS ? "" : words.daysBad) });
  const code = codeChoice({ seen, mode: node.attestation, isSufficing: false, trustRoots: node.trustRoots, isRequired: true }, () => found.did);

  const choice = h("fieldset", { class: "stack tight" }, h("legend", {}, words.kind), radios.map((input, at) => h("div", {}, h("label", { class: "tick" }, input, h("span", {}, words.kinds[KINDS[at]])),
    h("p", { class: "under small dim" }, words.kindHints[KINDS[at]]))));
  const dependent = [project, repository, ref, hash, reading, hosts];
  for (const one of [project, repository, ref]) one.input.addEventListener("input", forget);
  for (const element of [named.input, callers.element]) for (const event of ["input", "change"]) element.addEventListener(event, drawCommand);
  function draw() {
    for (const { element, kinds } of dependent) element.hidden = !kinds.includes(kind());
  }
  draw();

  const intro = h("div", { class: "stack" }, facts([[words.runner, copyField(found.did, words.runner)]]), choice);
  return form({ intro, fields: [project, repository, ref, reading, hash, named, hosts, callers, days, code], action: words.grant, submit: async (said) => {
    const of = projectIn(said.project) ?? undefined;
    const rule = kind() === "hash" ? { wasmSha256: said.hash.trim() } : kind() === "project" ? { project: of } : { wasmSha256: version?.sha256, project: version?.project };
    const wanted = { rule, secrets: split(said.secrets).flatMap((one) => stored.get(one) ?? []), hosts: kind() === "hash" ? [] : split(said.hosts), callers: callers.condition(), policy: code.policy(), expiresS: Number(said.days) * 86_400 };
    /** @type {import("../wire/builds.js").RunStatement | undefined} */
    let granted;
    if (!(await signedByOwner(session, words.why, async (owner) => { granted = await grantRun(client, owner, found, wanted); })) || !granted) return;
    say(words.done);
    fill(body, h("section", { class: "panel stack", "aria-label": words.done }, h("h2", {}, words.done), facts([
      [words.runner, copyField(found.did, words.runner)], [words.program, [rule.wasmSha256, rule.project].map((text) => text && h("div", {}, h("code", {}, text)))],
      [words.secrets, wanted.secrets.map(({ label }) => label).join(", ")], [texts.callers.title, callersOf(granted.callers)], [words.terms, copyField(canonicalText(granted), words.terms)],
    ]), h("div", { class: "row" }, h("a", { class: "button", href: "#/grants" }, words.toGrants))));
  } }).element;
}
