/** Grants that let a runner give an owner's secrets to programs (spec/run-grants.md). */

import { parseRunStatement } from "./builds.js";
import { OWNER, parseCondition } from "./call_conditions.js";
import { networkId, spaceId } from "./did.js";
import { ConsoleError } from "./errors.js";
import { DECRYPT, GET, grantAsOwner } from "./grants.js";
import { GRANTS_PATH, send } from "./runner.js";
import { PROTECTED } from "./secrets.js";
import { rows, SECRETS_SPACE } from "./session.js";

/**
 * @import { Client } from "./client.js"
 * @import { Rule } from "./builds.js"
 * @import { SecretName } from "./secrets.js"
 */

export const MAX_SECRETS = 32;

/**
 * Sign a run grant as the owner, register it, and send it to the runner.
 * @param {Client} client @param {import("./wallets.js").Owner} owner @param {import("./runner.js").Runner} runner
 * @param {{ rule: Rule, secrets: SecretName[], hosts: string[], callers?: import("./call_conditions.js").Condition,
 *   policy: import("./canonical_json.js").Json, expiresS: number }} wanted `callers`: absent: only the owner
 * @returns {Promise<import("./builds.js").RunStatement>} the terms that were granted
 */
export async function grantRun(client, owner, runner, { rule, secrets, hosts, callers = OWNER, policy, expiresS }) {
  const { session } = client;
  const refuse = (/** @type {string} */ message, hint = "") => { throw new ConsoleError("invalid-input", message, { hint }); };
  const kinds = new Set(secrets.map(({ name }) => name.startsWith(PROTECTED)));
  if (!secrets.length || secrets.length > MAX_SECRETS) refuse(`a grant names 1 to ${MAX_SECRETS} secrets`);
  if (kinds.size > 1) refuse(`${PROTECTED} secrets need a grant of their own`); // RN146
  if (hosts.length && !rule.project) refuse("a program without a project contacts no hosts", "write the program as DID/NAME"); // RN176
  if (!policy) refuse("a grant to a runner names the runner's code"); // RN46
  const run = parseRunStatement({ programs: [rule], callers: parseCondition(callers), ...(hosts.length ? { hosts } : {}) });
  await client.checkNode();
  const paths = secrets.map(({ path }) => `${spaceId(session.owner, SECRETS_SPACE)}/kv/${path}`);
  const wanted = [...paths.flatMap((one) => rows(one, [GET])), ...rows(networkId(session.owner, kinds.has(true) ? "protected" : "default"), [DECRYPT])];
  const granted = await grantAsOwner(client, owner, runner.did, wanted, { expiresS, run, policy: { ...policy, receiver: "attested", paths } });
  await send(runner, GRANTS_PATH, granted);
  return run;
}

