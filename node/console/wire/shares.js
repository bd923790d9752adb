// @ts-check
/** Copies of secrets for other people, as the owner's grants name them (SH1, SH3). */

import { principalOf, spaceId } from "./did.js";
import { GET, rightOf } from "./grants.js";

/**
 * @typedef {import("./grants.js").Grant} Grant
 * @typedef {{ did: string, team: string | null, until: string | null }} Reader a person who has a copy; `team`: the team for which it was made
 */

const OWN_FOLDER = "vault/secrets/";
const SHARED_FOLDER = `${OWN_FOLDER}shared/`;
/** The folder of a person's copies: team if any, DID, and the public key of the person's network. */
const FOLDER = /^vault\/secrets\/shared\/(?:([a-z0-9-]{1,64})\/)?(did:[^/]+)\/[\w-]{43}\/$/;

/** @param {Grant} grant @param {string} owner @returns {string[]} the paths below the folder of copies that a grant of this owner has */
function sharedPaths(grant, owner) {
  if (grant.direction !== "granted" || grant.delegator !== owner) return [];
  const rights = grant.rights.filter((one) => one.abilities.includes(GET)).map((one) => rightOf(one.resource));
  const own = rights.filter((one) => one.service === "tinycloud.kv" && one.space === spaceId(owner, "secrets"));
  return own.map((one) => one.path).filter((path) => path.startsWith(SHARED_FOLDER));
}

/**
 * Return the people who have a copy of a secret. A grant of the folder lets a person read copies; a grant to the owner names each
 * secret that the person or the team has.
 * @param {Grant[]} all live grants of the owner's account @param {string} owner DID @param {string} path of the secret
 * @returns {Reader[]}
 */
export function readersOfCopies(all, owner, path) {
  const shared = all.flatMap((grant) => sharedPaths(grant, owner).map((held) => ({ grant, held })));
  const named = new Set(shared.filter(({ grant }) => grant.delegate === owner).map(({ held }) => held));
  /** @type {Reader[]} */
  const readers = [];
  for (const { grant, held } of shared) {
    const [, team, did] = FOLDER.exec(held) ?? [];
    const isRead = did !== undefined && principalOf(grant.delegate) === principalOf(did);
    if (isRead && named.has(`${SHARED_FOLDER}${team ?? did}/${path.slice(OWN_FOLDER.length)}`)) {
      readers.push({ did, team: team ?? null, until: grant.expiresAt });
    }
  }
  return readers;
}
