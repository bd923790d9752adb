// The code that a grant approves, as its owner signed it.
import { h } from "../elements.js";
import { grants as words } from "../texts_grants.js";
import { machineOf, policiesOf } from "../wire/grants.js";
import { parseApproved } from "../wire/policies.js";
import { policyFacts } from "./code_choice.js";
import { time } from "./values.js";

/**
 * @import { Grant } from "../wire/grants.js"
 * @import { Policy } from "../wire/policies.js"
 */

/** @param {unknown[]} stated untrusted @returns {Policy[]} those that name code and can be read */
const readable = (stated) => stated.flatMap((one) => {
  try {
    return [parseApproved(one).policy];
  } catch {
    return [];
  }
});

/** A short name of the approved code: its compose file, or else its image. @param {Grant[]} all @param {Grant} grant @returns {string} empty: none is approved */
export function codeName(all, grant) {
  const { own, above } = policiesOf(all, grant);
  const [policy] = readable([...own, ...above]);
  return policy ? (policy.composeHashes?.[0] ?? policy.measurements[0].mrtd).slice(0, 12) : "";
}

/**
 * The code in full, and until when it is approved. Not for sign-ins and grants to the owner, who open without code.
 * @param {Grant[]} all @param {Grant} grant
 */
export function codeOf(all, grant) {
  const { own, above, isWhole } = policiesOf(all, grant);
  const parts = [[own, words.codeHere], [above, words.codeAbove]].map(([stated, title]) => ({ policies: readable(/** @type {unknown[]} */ (stated)), title: String(title) }));
  const ends = [grant, ...all.filter(({ cid }) => grant.parents.includes(cid))].flatMap(({ expiresAt }) => expiresAt ?? []).sort();
  const until = h("p", {}, ends.length ? [words.codeUntil, time(ends[0])] : words.codeNoEnd);
  const shown = parts.flatMap(({ policies, title }) => policies.map((one) => h("div", { class: "stack tight" }, h("p", { class: "dim small" }, title), policyFacts(one))));
  if (shown.length) return h("div", { class: "stack tight" }, shown, until);
  return h("p", {}, machineOf(grant) ? words.codeMachine : isWhole ? words.codeNone : words.codeUnknown);
}
