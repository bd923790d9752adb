/** The owner's spaces. */

import { ownerOfSpace, principalOf, spaceId } from "./did.js";
import { rows } from "./session.js";
import { jsonOf, malformed } from "./transport.js";

/**
 * @import { Client } from "./client.js"
 * @typedef {{ id: string, name: string, createdAt: string | null, usageBytes: number | null, limitBytes: number | null, databases: [string, number][] }} Space
 *     usage and limit are null unless `get` fetched them; the limit is also null if there is no limit. The databases, by name
 *     with their sizes in bytes, are empty unless `get` fetched them
 */

const ID = /^tinycloud:[a-z0-9]+:[!-~]+:[A-Za-z0-9\-._~]+$/;

/** @param {Client} client @param {any} entry @param {string} asked @returns {Space} checked to be the owner's, because a wallet may be asked to sign its id */
function spaceOf({ session }, entry, asked) {
  const isOwn = typeof entry?.id === "string" && ID.test(entry.id) && principalOf(ownerOfSpace(entry.id)) === principalOf(session.owner);
  if (!isOwn) throw malformed(asked, "it names no space of the owner");
  const createdAt = typeof entry.createdAt === "string" ? entry.createdAt : null;
  const [usageBytes, limitBytes] = [entry.usageBytes, entry.limitBytes].map((one) => (Number.isSafeInteger(one) ? one : null));
  const databases = /** @type {[string, number][]} */ (Object.entries(entry.databases ?? {}));
  if (!databases.every(([, bytes]) => Number.isSafeInteger(bytes))) throw malformed(asked, "a database has no size");
  return { id: entry.id, name: entry.id.slice(entry.id.lastIndexOf(":") + 1), createdAt, usageBytes, limitBytes, databases };
}

/** @param {Client} client @param {string} path @param {string} word */
const invoke = (client, path, word) =>
  client.invoke(rows(`${client.session.space}/space/${path}`, [`tinycloud.space/${word}`]), { repeatable: true });

/** @param {Client} client @returns {Promise<Space[]>} the spaces that the node hosts for the owner */
export async function list(client) {
  const answer = await invoke(client, "", "list");
  const entries = jsonOf(answer);
  if (!Array.isArray(entries)) throw malformed(answer.asked, "it is no list");
  return entries.map((entry) => spaceOf(client, entry, answer.asked));
}

/** @param {Client} client @param {string} name @returns {Promise<Space>} */
export async function get(client, name) {
  const answer = await invoke(client, spaceId(client.session.owner, name), "info");
  return spaceOf(client, jsonOf(answer), answer.asked);
}
