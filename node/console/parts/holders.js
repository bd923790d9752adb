// @ts-check
// Who may open a secret, by the grants that are in force.
import { add, fill, h } from "../elements.js";
import { grants as words } from "../texts.js";
import * as backends from "../wire/backends.js";
import { networkId, spaceId } from "../wire/did.js";
import { list } from "../wire/grants.js";
import { failure } from "./states.js";
import { shortened, time } from "./values.js";

/**
 * @typedef {import("../wire/client.js").Client} Client
 * @typedef {import("../wire/grants.js").Grant} Grant
 * @typedef {{ did: string, until: string | null, cids: string[], mayOpen: boolean }} Holder `mayOpen`: the key too, where
 *   the code proves what the grant demands; else the sealed value alone
 */

const MOST_PROVED = 10; // each a request
const GET = "tinycloud.kv/get";
const DECRYPT = "tinycloud.encryption/decrypt";

/** What the owner's own key signed for sessions, in this browser or elsewhere. @param {Grant[]} all @param {string} owner @returns {{ dids: Set<string>, has: (grant: Grant) => boolean }} */
export function signIns(all, owner) {
  const signed = (/** @type {Grant} */ one) => one.direction === "granted" && one.delegator === owner;
  // What a session passes on is a grant like any other, whatever it holds.
  const dids = new Set(all.filter((one) => one.isSession && signed(one)).map((one) => one.delegate));
  return { dids, has: (one) => signed(one) && dids.has(one.delegate) };
}

/** @param {Grant} grant @param {string} ability @param {string} resource */
const gives = (grant, ability, resource) => grant.rights.some((right) => {
  const isThere = right.resource === resource || resource.startsWith(right.resource.endsWith("/") ? right.resource : `${right.resource}/`);
  return isThere && (right.abilities.includes(ability) || right.abilities.includes(ability.replace(/\/.*/, "/*")));
});

/**
 * @param {Client} client @param {string} path of the secret, as `wire/secrets.js` has it
 * @returns {Promise<Holder[]>} who was granted it beside the owner's own sign-ins
 */
export async function holdersOf(client, path) {
  const { owner } = client.session;
  const all = await list(client, { status: "active" });
  const own = signIns(all, owner);
  const others = all.filter((one) => one.direction === "granted" && !own.has(one));
  /** @type {Map<string, Holder>} */
  const found = new Map();
  for (const grant of others) {
    if (!gives(grant, GET, `${spaceId(owner, "secrets")}/kv/${path}`)) continue;
    const { until = "", cids = [] } = found.get(grant.delegate) ?? {};
    const mayOpen = others.some((one) => one.delegate === grant.delegate && gives(one, DECRYPT, networkId(owner)));
    const longest = until === null || grant.expiresAt === null ? null : until > grant.expiresAt ? until : grant.expiresAt;
    found.set(grant.delegate, { did: grant.delegate, until: longest, cids: [...cids, grant.cid], mayOpen });
  }
  return [...found.values()];
}

/** Say beside each which code it proved last; who received no key has proved none that is known here. @param {Client} client @param {HTMLElement} body @param {Set<string>} dids */
async function addCode(client, body, dids) {
  const found = await backends.list(client).catch(() => []); // the list of grants stands without
  const proved = found.filter(({ did }) => dids.has(did)).slice(0, MOST_PROVED);
  await Promise.all(proved.map(async (backend) => {
    const evidence = await backends.evidenceOf(client, backend).catch(() => null);
    const code = evidence?.compose_hash ?? evidence?.mrtd;
    const item = [...body.querySelectorAll("li")].find((one) => one.dataset.did === backend.did);
    if (item && code) add(item, h("div", { class: "dim small" }, words.proved(evidence?.compose_hash ? words.program : words.image), h("code", { title: String(code) }, shortened(String(code), 12, 6))));
  }));
}

/** Who may open a secret, as a short list with links to the grants. @param {Client} client @param {string} path */
export function holders(client, path) {
  const body = h("div", { "aria-live": "polite" }, words.holdersLoading);
  const load = async () => {
    try {
      const found = await holdersOf(client, path);
      fill(body, !found.length ? h("p", { class: "dim small" }, words.noHolders) : h("ul", { class: "holders", role: "list" }, found.map(({ did, until, mayOpen }) =>
        h("li", { data: { did } }, h("a", { href: `#/grants?find=${encodeURIComponent(did)}`, title: did, class: "mono" }, shortened(did, 18, 6)),
          h("span", { class: "dim small" }, ` ${mayOpen ? words.mayOpen : words.maySee}`, until ? [", ", words.ends, " ", time(until)] : null)))));
      if (found.length) await addCode(client, body, new Set(found.map(({ did }) => did)));
    } catch (error) {
      fill(body, failure(error, load));
    }
  };
  load();
  return h("section", { class: "stack tight", "aria-label": words.holders }, h("h3", {}, words.holders), body);
}
