// @ts-check
// Who may open a secret, by the grants that are in force.
import { add, fill, h } from "../elements.js";
import { grants as words } from "../texts.js";
import * as backends from "../wire/backends.js";
import { networkId, spaceId } from "../wire/did.js";
import { DECRYPT, GET, gives, list } from "../wire/grants.js";
import { networkOf } from "../wire/secrets.js";
import { rootOf } from "../wire/session.js";
import { quoted } from "./quoted.js";
import { failure } from "./states.js";
import { shortened, time } from "./values.js";

/**
 * @typedef {import("../wire/client.js").Client} Client
 * @typedef {import("../wire/grants.js").Grant} Grant
 * @typedef {{ did: string, until: string | null, mayOpen: boolean, mayRead: boolean }} Holder `mayOpen`: the network's key, where
 *   the code proves what the grant demands; `mayRead`: the sealed value
 */

const MOST_PROVED = 10; // each a request

/** What the owner's own key signed for sessions, in this browser or elsewhere. @param {Grant[]} all @param {string} owner @returns {{ dids: Set<string>, has: (grant: Grant) => boolean }} */
export function signIns(all, owner) {
  const signed = (/** @type {Grant} */ one) => one.direction === "granted" && one.delegator === owner;
  // What a session passes on is a grant like any other, whatever it holds.
  const dids = new Set(all.filter((one) => one.isSession && signed(one)).map((one) => one.delegate));
  return { dids, has: (one) => signed(one) && dids.has(one.delegate) };
}

/**
 * Who holds a live right to open a secret: to decrypt on its network is enough, with a copy of it (CN7).
 * @param {Client} client @param {string} path of the secret
 * @returns {Promise<{ found: Holder[], sessions: number, network: string | null }>} others; sign-ins of the owner; null: not known
 */
export async function holdersOf(client, path) {
  const { owner, did } = client.session;
  const [active, pending, network] = await Promise.all([list(client, { direction: "granted", status: "active" }), list(client, { direction: "granted", status: "pending" }), networkOf(client, path)]);
  const all = [...active, ...pending];
  const own = signIns(all, owner);
  const opens = (/** @type {Grant} */ one) => gives(one, DECRYPT, network ?? networkId(owner));
  /** @type {Map<string, Holder>} */
  const found = new Map();
  const sessions = new Set();
  for (const grant of all) {
    const [mayOpen, mayRead] = [opens(grant), gives(grant, GET, `${spaceId(owner, "secrets")}/kv/${path}`)];
    if (own.has(grant)) {
      if (mayOpen && grant.delegate !== did) sessions.add(grant.delegate);
    } else if (mayOpen || mayRead) {
      const before = found.get(grant.delegate) ?? { until: "", mayOpen: false, mayRead: false };
      const until = before.until === null || grant.expiresAt === null ? null : before.until > grant.expiresAt ? before.until : grant.expiresAt;
      found.set(grant.delegate, { did: grant.delegate, until, mayOpen: before.mayOpen || mayOpen, mayRead: before.mayRead || mayRead });
    }
  }
  return { found: [...found.values()], sessions: sessions.size, network };
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
      const { found, sessions, network } = await holdersOf(client, path);
      const isForeign = network !== null && rootOf(network) !== client.session.owner;
      const item = (/** @type {Holder} */ { did, until, mayOpen, mayRead }) => h("li", { data: { did } }, h("a", { href: `#/grants?find=${encodeURIComponent(did)}`, title: did, class: "mono" }, shortened(did, 18, 6)),
        h("span", { class: "dim small" }, ` ${!mayOpen ? words.maySee : mayRead ? words.mayOpen : words.mayKey}`, until ? [", ", words.ends, " ", time(until)] : null));
      fill(body, found.length > 0 && [h("ul", { class: "holders", role: "list" }, found.map(item)), h("p", { class: "dim small" }, words.notListed)],
        h("p", { class: "dim small" }, isForeign ? [words.otherNetwork, quoted(network, { mono: true })] : network === null ? words.noNetwork : !found.length && words.noHolders),
        sessions > 0 && h("p", { class: "dim small" }, words.ownToo(sessions)));
      if (found.length) await addCode(client, body, new Set(found.map(({ did }) => did)));
    } catch (error) {
      fill(body, h("p", {}, words.notKnown), failure(error, load));
    }
  };
  load();
  return h("section", { class: "stack tight", "aria-label": words.holders }, h("h3", {}, words.holders), body);
}
