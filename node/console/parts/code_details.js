// The code that a grant approves, in full: as its owner signed it, by its names, and what differs from the approval before.
import { h } from "../elements.js";
import { code as codeWords } from "../texts_code.js";
import { grants as words } from "../texts_grants.js";
import { formerApproval, readable } from "../wire/approvals.js";
import { parseCodeFiles } from "../wire/code_files.js";
import { machineOf, policiesOf, statedCode } from "../wire/grants.js";
import { changes, codeNames, composeChoice } from "./approved_code.js";
import { policyFacts } from "./policy_facts.js";
import { time } from "./values.js";

/**
 * @import { Grants } from "../wire/approvals.js"
 * @import { Grant } from "../wire/grants.js"
 */

/**
 * The code in full, and until when it is approved. Not for sign-ins and grants to the owner, who open without code.
 * @param {Grants} grants @param {Grant} grant
 */
export function codeOf(grants, grant) {
  const { all, own: approved, names } = grants;
  const { own, above, isWhole } = policiesOf(all, grant);
  const parts = [[own, words.codeHere], [above, words.codeAbove]].map(([stated, title]) => ({ policies: readable(/** @type {unknown[]} */ (stated)), title: String(title) }));
  const ends = [grant, ...all.filter(({ cid }) => grant.parents.includes(cid))].flatMap(({ expiresAt }) => expiresAt ?? []).sort();
  const until = h("p", {}, ends.length ? [words.codeUntil, time(ends[0])] : words.codeNoEnd);
  const isOwn = approved.some(({ cid }) => cid === grant.cid);
  const stated = isOwn ? statedCode(grant) : undefined;
  const files = stated === undefined ? undefined : parseCodeFiles(stated);
  const shown = parts.flatMap(({ policies, title }) => policies.map((one) => h("div", { class: "stack tight" }, h("p", { class: "dim small" }, title), policyFacts(one, files?.sources))));
  if (!shown.length) return h("p", {}, machineOf(grant) ? words.codeMachine : isWhole ? words.codeNone : words.codeUnknown);
  const [policy] = readable([...own, ...above]);
  const hashes = readable([...own, ...above]).flatMap(({ composeHashes = [] }) => composeHashes);
  const former = isOwn && formerApproval(grants, { did: grant.delegate, name: names.get(grant.cid) ?? "", before: grant });
  return h("div", { class: "stack tight" }, files !== undefined && codeNames(files, codeWords.fromGrant), shown, composeChoice(() => hashes).element, until, former !== false && changes(former, policy, files));
}
