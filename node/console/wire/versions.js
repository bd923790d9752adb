/** Former values of secrets that the node keeps. */

import { MAX_ENVELOPE_BYTES } from "./envelope.js";
import * as kv from "./kv.js";
import { opened, requireOwn, spaceOf } from "./secrets.js";
import { renewCopies, shares, unbound } from "./shares.js";

/**
 * @import { Client } from "./client.js"
 * @import { Secret, SecretName } from "./secrets.js"
 */

/** @param {Client} client @param {SecretName} secret @returns {Promise<kv.Version[]>} the newest first; of a deleted secret none is current */
export const versions = (client, secret) => kv.versions(client, spaceOf(client), secret.path);

/** @param {Client} client @param {SecretName} secret @param {number} version @returns {Promise<Secret>} opened in person */
export const revealVersion = (client, secret, version) => opened(client, secret, version);

/**
 * Store a former value again, as its envelope is; then renew the copies of a shared secret (SH6). Fails if another program writes meanwhile.
 * @param {Client} client @param {SecretName} secret @param {number | null} version null: the last one of a deleted secret
 * @returns {Promise<void>} ConsoleError `conflict`: it was changed, or is not deleted; `not-found`: the version is not kept; `place-mismatch`: it is another secret's;
 *   `unbound-value`: people have copies of the secret, and the former value does not state its place
 */
export async function rollback(client, secret, version) {
  const [newest] = await versions(client, secret);
  const conditions = version !== null && newest.isCurrent ? { ifMatch: newest.etag } : { ifAbsent: true };
  const former = await kv.get(client, spaceOf(client), secret.path, { maxBytes: MAX_ENVELOPE_BYTES, version: version ?? newest.version });
  await requireOwn(client, secret, former.body);
  const isShared = (await shares(client)).some(({ secrets }) => secrets.some(({ path }) => path === secret.path));
  const value = await opened(client, secret, version ?? newest.version).catch((error) => {
    // A value that opens only for attested code is stored again unopened. Whoever reads it compares its place.
    if (error.code === "decrypt-refused" && !isShared) return null;
    throw error;
  });
  if (isShared && !value?.isBound) throw unbound(secret);
  await kv.put(client, spaceOf(client), secret.path, former.body, { type: former.contentType ?? undefined, ...conditions });
  if (isShared) await renewCopies(client, [{ secret, value: (await opened(client, secret)).value }]);
}
