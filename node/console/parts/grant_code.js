// A short name of the code that a grant approves.
import { readable } from "../wire/approvals.js";
import { policiesOf } from "../wire/grants.js";

/** @import { Grant } from "../wire/grants.js" */

/** A short name of the approved code: its compose file, or else its image. @param {Grant[]} all @param {Grant} grant @returns {string} empty: none is approved */
export function codeName(all, grant) {
  const { own, above } = policiesOf(all, grant);
  const [policy] = readable([...own, ...above]);
  return policy ? (policy.composeHashes?.[0] ?? policy.measurements[0].mrtd).slice(0, 12) : "";
}
