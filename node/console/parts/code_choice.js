// A choice of the code that may open secrets under a grant: the code that the node saw, code that the owner states, or no code.
import { fill, h } from "../elements.js";
import { rights } from "../texts_rights.js";
import { code as codeWords } from "../texts_code.js";
import { requests as words } from "../texts_requests.js";
import { strictJson } from "../wire/canonical_json.js";
import { codeFilesIn, isSameCode } from "../wire/code_files.js";
import { principalOf } from "../wire/did.js";
import { isSame, parseApproved, parseClaimed, policyOf } from "../wire/policies.js";
import { changes, codeNames, composeChoice } from "./approved_code.js";
import { textField } from "./form.js";
import { policyFacts } from "./policy_facts.js";
import { banner } from "./states.js";
import { copyField, facts, shortened, time } from "./values.js";

/**
 * @import { Approval } from "../wire/approvals.js"
 * @import { CodeFiles } from "../wire/code_files.js"
 * @import { Policy } from "../wire/policies.js"
 * @typedef {{ seen: {[field: string]: any} | null, mode: string, isSufficing: boolean, trustRoots: string[], claimed?: unknown, isRequired?: boolean, former?: () => Approval | null }} Known facts from the
 *   node: evidence of the last release, who has to prove code, whether the operator's list may suffice, roots other than Intel's;
 *   `claimed`: the policy in the backend's own description, unproven; undefined: none; `isRequired`: the grant has to name code;
 *   `former`: the code that was approved for the recipient before
 */

const MAX_BYTES = 256 * 1024;

/** @param {{[field: string]: any}} seen @param {Known} known */
function seenFacts(seen, { trustRoots }) {
  const { policy, refusals } = policyOf(seen);
  const isOther = trustRoots.includes(seen.root_ca_sha256);
  const when = time(seen.attested_at);
  return h("div", { class: "stack tight" }, h("p", { class: "small dim" }, words.seenBy(when.textContent)), refusals.length > 0 && banner({ kind: "warn", title: words.refused,
    text: `${rights.listed(refusals.map((one) => words.refusals[one]))}. ${words.refusedNext}` }), policyFacts(policy), facts([
    [words.evidence.status, h("span", { class: `chip ${seen.tcb_status === "UpToDate" ? "good" : "warn"}` }, seen.tcb_status)],
    [words.evidence.level, time(seen.tcb_date)],
    [words.evidence.foundAdvisories, seen.advisories.length ? seen.advisories.join(", ") : words.none],
    [words.evidence.root, h("span", { class: `chip ${isOther ? "bad" : "good"}` }, isOther ? words.isNotIntel : words.isIntel)],
    [words.evidence.verified, when],
  ]));
}

/** The code that a backend states about itself. @param {Policy} policy */
function claimedFacts(policy) {
  const [program, image] = [policy.composeHashes?.[0] ?? "", policy.measurements[0].mrtd].map((one) => shortened(one, 12, 6));
  return h("div", { class: "stack tight" }, h("p", { class: "small" }, words.claimed), h("details", {}, h("summary", {}, words.claimedCode(program, image)), policyFacts(policy)),
    // Unfolded: whoever runs the key provider can read the data of published code too.
    policy.keyProviders && policyFacts({ keyProviders: policy.keyProviders }),
    h("p", { class: "small" }, words.claimedRisk), copyField(words.showCommand));
}

/** What a grant without code means. @param {boolean} isSufficing as in `Known` @param {{ label: string, run: () => void }} [action] */
export const noCode = (isSufficing, action) => banner(isSufficing ? { kind: "warn", title: words.noneSuffices, text: words.noneSufficesText, action }
  : { kind: "bad", title: words.noneOpens, text: words.noneOpensText, action });

/**
 * The choice, as a field of a form.
 * @param {Known} known @param {() => string} didOf the recipient of the grant
 * @returns {import("./form.js").Field & { policy: () => Policy | undefined, files: () => CodeFiles | undefined, draw: () => void }} the policy that the
 *   grant states; undefined if no code is allowed; `files`: the names of this code
 */
export function codeChoice(known, didOf) {
  const file = h("input", { type: "file", hidden: true, "aria-label": words.upload, on: { change: async () => {
    const [chosen] = file.files;
    if (chosen && chosen.size <= MAX_BYTES) pasted.input.value = await chosen.text();
    file.value = "";
    draw();
  } } });
  const pasted = textField({ name: "approved", label: words.approved, hint: words.approvedHint, rows: 4, mono: true, check: faultIn,
    beside: h("button", { type: "button", on: { click: () => file.click() } }, words.upload) });
  pasted.input.addEventListener("input", () => draw());
  const read = h("div", {});

  /** @param {string} text */
  function faultIn(text) {
    if (!text.trim()) return words.approvedMissing;
    try {
      const document = strictJson(text);
      const { policy, did } = parseApproved(document);
      codeFilesIn(document, policy);
      return did && didOf() && principalOf(did) !== principalOf(didOf()) ? words.approvedOther : "";
    } catch (error) {
      const member = /** @type {any} */ (error).details?.member;
      return member ? words.approvedBad(member) : words.notJson;
    }
  }

  const ways = /** @type {[string, string, Element][]} */ ([
    ["paste", words.codePaste, h("div", { class: "stack tight" }, !known.seen && h("p", { class: "small dim" }, words.neverSeen), copyField(words.showCommand), pasted.element, file, read)],
  ]);
  if (!known.isRequired) ways.push(["none", words.codeNone, noCode(known.isSufficing)]);
  const claimed = known.claimed === undefined ? undefined : parseClaimed(known.claimed);
  if (claimed && !(known.seen && isSame(claimed, policyOf(known.seen).policy))) ways.unshift(["claimed", words.codeClaimed, claimedFacts(claimed)]);
  if (known.seen) ways.unshift(["seen", words.codeSeen, seenFacts(known.seen, known)]);
  const radios = ways.map(([value, label]) => ({ value, label, input: h("input", { type: "radio", name: "code", value, checked: value === (known.seen ? "seen" : "paste"), on: { change: () => draw() } }) })); // never what nothing proves
  const way = () => /** @type {string} */ (radios.find(({ input }) => input.checked)?.value);
  const isOff = known.mode === "off" && !known.isRequired;
  const about = h("div", { class: "stack tight", "aria-live": "polite" });
  const element = h("fieldset", { class: "stack tight" }, h("legend", {}, words.code), isOff ? h("p", {}, words.codeOff) : [
    h("p", { class: "dim" }, words.codeLead), claimed === null && banner({ kind: "warn", title: words.claimedBad, text: words.claimedBadText }),
    radios.map(({ value, label, input }, at) => h("div", { class: "stack tight" }, h("label", { class: "tick" }, input, h("span", {}, label)), h("div", { class: "under", data: { way: value } }, ways[at][2]))), about]);
  /** @returns {Policy | undefined} the chosen code, if it can be read */
  function policy() {
    if (element.hidden || isOff || way() === "none") return undefined;
    if (claimed && way() === "claimed") return claimed;
    if (known.seen && way() === "seen") return policyOf(known.seen).policy;
    return faultIn(pasted.input.value) ? undefined : parseApproved(strictJson(pasted.input.value)).policy;
  }
  /** The names of the chosen code: those of the pasted text, or those that were approved with the same code. @returns {[CodeFiles | null | undefined, string]} */
  function namesOf(/** @type {Policy} */ chosen, /** @type {Approval | null | undefined} */ former) {
    const found = way() === "paste" ? codeFilesIn(strictJson(pasted.input.value), chosen) : undefined;
    return found === undefined && former?.files && isSameCode(former.policy, chosen) ? [former.files, codeWords.fromGrant] : [found, codeWords.fromFiles];
  }
  function draw() {
    for (const one of element.querySelectorAll("[data-way]")) /** @type {HTMLElement} */ (one).hidden = /** @type {HTMLElement} */ (one).dataset.way !== way();
    const chosen = policy();
    compose.draw();
    const former = known.former?.();
    const [files, note] = chosen ? namesOf(chosen, former) : [undefined, ""];
    fill(read, chosen && way() === "paste" && policyFacts(chosen, files?.sources));
    fill(about, chosen && [files !== undefined && codeNames(files, note), former !== undefined && changes(former, chosen, files)]);
  }
  const compose = composeChoice(() => policy()?.composeHashes ?? []);
  element.append(compose.element);
  draw();
  return { name: "code", input: pasted.input, element, refuse: pasted.refuse,
    judge: () => (element.hidden || isOff || way() !== "paste" ? "" : pasted.judge()),
    policy, draw,
    files: () => {
      const chosen = policy();
      return (chosen && namesOf(chosen, known.former?.())[0]) ?? undefined;
    } };
}
