/** The code that an owner approved, and approved before. */

import { parseCodeFiles } from "./code_files.js";
import { principalOf } from "./did.js";
import { policiesOf, statedCode } from "./grants.js";
import { parseApproved } from "./policies.js";

/**
 * @import { CodeFiles } from "./code_files.js"
 * @import { Grant } from "./grants.js"
 * @import { Policy } from "./policies.js"
 * @typedef {{ all: Grant[], own: Grant[], names: Map<string, string> }} Grants as `list`, `ownGrants` and `appNames` return them
 * @typedef {{ grant: Grant, policy: Policy, files: CodeFiles | null, isByName: boolean }} Approval `files`: the names that the owner signed;
 *   `isByName`: the grant is to another DID, and the app called itself the same
 */

/** @param {unknown[]} stated untrusted @returns {Policy[]} those that name code and can be read */
export const readable = (stated) => stated.flatMap((one) => {
  try {
    return [parseApproved(one).policy];
  } catch {
    return [];
  }
});

/**
 * Return the newest approval of code for a recipient, among grants of the owner, whether they are in force or have ended. An app that
 * changed may have a new DID, so without a grant to this DID, one to an app of the same name counts.
 * @param {Grants} grants the newest first @param {{ did: string, name: string, before?: Grant }} asked `before`: only grants that are not newer than this one
 * @returns {Approval | null} null: there is none
 */
export function formerApproval({ all, own, names }, { did, name, before }) {
  // Times are in seconds. Of two grants of the same second, each counts as older than the other.
  const isOlder = (/** @type {Grant} */ { cid, issuedAt }) => !before || (cid !== before.cid && (issuedAt ?? "") <= (before.issuedAt ?? ""));
  const approvals = own.filter(isOlder).flatMap((grant) => {
    const stated = policiesOf(all, grant);
    const [policy] = readable([...stated.own, ...stated.above]);
    return policy ? [{ grant, policy }] : [];
  });
  const isTo = (/** @type {{ grant: Grant }} */ { grant }) => principalOf(grant.delegate) === principalOf(did);
  const found = approvals.find(isTo) ?? approvals.find(({ grant }) => name !== "" && names.get(grant.cid) === name);
  return found ? { ...found, files: parseCodeFiles(statedCode(found.grant)), isByName: !isTo(found) } : null;
}
