/** Secrets that a runner generates, encrypted to a network that the owner cannot open in person. */

import { networkId, spaceId } from "./did.js";
import { ensureNetwork, networkPath } from "./encryption.js";
import { canonicalHash } from "./canonical_json.js";
import { ConsoleError } from "./errors.js";
import { grantAsOwner } from "./grants.js";
import { allowCalls, askSigned, GRANTS_PATH, send, unusable } from "./runner.js";
import { PROTECTED, secretName } from "./secrets.js";
import { addRights, proofsFor, rows, SECRETS_SPACE } from "./session.js";
import { jsonOf } from "./transport.js";

/** @import { Client } from "./client.js" */

const NETWORK = "protected";
const [GRANT_S, RIGHTS_S] = [600, 3600];
const MAX_NAME_CHARS = 128;
const POLICY = "sealspace.encryption/policy";
/** Types of values; `password:N` has N characters, 8 to 256. */
export const TYPES = ["hex32", "hex16", "hex64", "ed25519", "ed25519_seed", "password"];

/** @param {string} name @returns {boolean} whether a runner may generate a secret with this name */
export const isGeneratedName = (name) => name.startsWith(PROTECTED) && name.length > PROTECTED.length && name.length <= MAX_NAME_CHARS && /^[A-Z0-9_]*$/.test(name);

/** @param {Client} client @param {import("./wallets.js").Owner} owner */
async function ensureProtected(client, owner) {
  const { session } = client;
  const network = networkId(session.owner, NETWORK);
  const rights = rows(network, ["tinycloud.encryption/network.create", POLICY]);
  try {
    proofsFor(session, rights);
  } catch {
    await addRights(session, owner, rights, RIGHTS_S);
  }
  await ensureNetwork(client, NETWORK);
  const [path, wanted] = [networkPath(network, "policy"), rows(network, [POLICY])];
  const { policy } = jsonOf(await client.invoke(wanted, { method: "GET", path, repeatable: true })) ?? {};
  if (policy === null) {
    const closed = { inPerson: false };
    const fact = { type: "sealspace.encryption.policy/v1", targetNode: session.node, networkId: network, bodyHash: await canonicalHash(closed) };
    await client.sendJson(wanted, "PUT", path, closed, { facts: [fact] });
  } else if (policy?.inPerson !== false) {
    const hint = `set "inPerson" to false in the policy: sealspace network policy ${NETWORK} --set FILE`;
    throw new ConsoleError("invalid-input", `generated secrets must be readable by code only, but the policy of your network ${NETWORK} also lets people decrypt them`, { hint });
  }
}

/**
 * Ask a runner to generate a secret. The owner's network `protected` is created if missing, with a policy against opening
 * in person. A wallet signs once, and up to twice more for rights that the session lacks.
 * @param {Client} client @param {import("./wallets.js").Owner} owner @param {import("./runner.js").Runner} runner
 * @param {{ scope: string | null, name: string, type: string }} wanted
 * @returns {Promise<boolean>} true if it was generated, false if it existed already. The generating code is not verified
 */
export async function generateAt(client, owner, runner, { scope, name, type }) {
  const secret = secretName(scope, name);
  if (!isGeneratedName(secret.name)) throw new ConsoleError("invalid-input", `the name of a generated secret begins with ${PROTECTED}`);
  const { session } = client;
  await client.checkNode();
  await allowCalls(session, owner);
  await ensureProtected(client, owner);
  // The runner may write this one secret and nothing else, for ten minutes.
  const write = rows(`${spaceId(session.owner, SECRETS_SPACE)}/kv/${secret.path}`, ["tinycloud.kv/put"]);
  await send(runner, GRANTS_PATH, await grantAsOwner(client, owner, runner.did, write, { expiresS: GRANT_S }));
  const json = { owner: session.owner, profile: secret.scope ?? "default", new_secrets: [{ name: secret.name, generation_type: type }] };
  const said = await askSigned(session, runner, "secrets/generate", { method: "POST", path: "/secrets/generate", json });
  const [made, there] = [said?.generated, said?.existing].map((some) => Array.isArray(some) && some.length === 1 && some[0] === secret.name);
  if (made === there) throw unusable("it names other secrets");
  return made;
}
