// Who may open a secret, according to the grants in force.
import { add, fill, h } from "../elements.js";
import { grants as words } from "../texts_grants.js";
import * as backends from "../wire/backends.js";
import { networkId, spaceId } from "../wire/did.js";
import { appNames, approvesCode, DECRYPT, GET, gives, list, machineOf, readersOfCopies, runOf } from "../wire/grants.js";
import { networkOf } from "../wire/secrets.js";
import { rootOf } from "../wire/session.js";
import { buildLabels } from "./builds.js";
import { contactNames } from "./contact_names.js";
import { nameBefore, quoted } from "./quoted.js";
import { failure } from "./states.js";
import { shortened, time } from "./values.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { Grant, Reader, Stated } from "../wire/grants.js"
 * @import { Rule } from "../wire/builds.js"
 * @typedef {{ did: string, name: string | undefined, from: string | undefined, until: string | null, mayOpen: boolean, mayRead: boolean, code: boolean | null, programs: Rule[], machine?: Stated["machine"] }} Holder `name`: what it calls itself; `from`: the recipient that passed a grant on to it; `mayOpen`: may use the network's
 *   key, if its code proves what the grant demands; `mayRead`: may read the sealed value; `code`: whether a grant approves code, null: not known; `programs` of run grants
 */

const MOST_PROVED = 10; // each costs a request

/** The owner's sign-ins, in this browser or elsewhere. @param {Grant[]} all @param {string} owner @returns {{ dids: Set<string>, has: (grant: Grant) => boolean }} */
export function signIns(all, owner) {
  const signed = (/** @type {Grant} */ one) => one.direction === "granted" && one.delegator === owner;
  // A grant that a session makes is like any other, even if the grant includes every right.
  const dids = new Set(all.filter((one) => one.isSession && signed(one)).map((one) => one.delegate));
  return { dids, has: (one) => signed(one) && dids.has(one.delegate) };
}

/**
 * Return who may open a secret now. The right to decrypt on its network is enough, because the holder may have a copy (CN7).
 * @param {Client} client @param {string} path of the secret
 * @returns {Promise<{ found: Holder[], copies: Reader[], sessions: number, network: string | null }>} the other holders; the people with a copy; the number of the owner's sign-ins; null: not known
 */
export async function holdersOf(client, path) {
  const { owner, did } = client.session;
  const [active, pending, network] = await Promise.all([list(client, { direction: "granted", status: "active", derived: true }), list(client, { direction: "granted", status: "pending", derived: true }), networkOf(client, path)]);
  const all = [...active, ...pending];
  const own = signIns(all, owner);
  const names = await appNames(client, all);
  const opens = (/** @type {Grant} */ one) => gives(one, DECRYPT, network ?? networkId(owner));
  /** @type {Map<string, Holder>} */
  const found = new Map();
  const sessions = new Set();
  for (const grant of all) {
    const [mayOpen, mayRead] = [opens(grant), gives(grant, GET, `${spaceId(owner, "secrets")}/kv/${path}`)];
    if (own.has(grant)) {
      if (mayOpen && grant.delegate !== did) sessions.add(grant.delegate);
    } else if (mayOpen || mayRead) {
      const before = found.get(grant.delegate) ?? { name: undefined, from: undefined, until: "", mayOpen: false, mayRead: false, code: false, programs: /** @type {Rule[]} */ ([]), machine: undefined };
      const until = before.until === null || grant.expiresAt === null ? null : before.until > grant.expiresAt ? before.until : grant.expiresAt;
      const code = mayOpen ? approvesCode(all, grant) : false;
      found.set(grant.delegate, { did: grant.delegate, name: names.get(grant.cid) ?? before.name, from: own.dids.has(grant.delegator) || grant.delegator === owner ? before.from : grant.delegator, machine: machineOf(grant) ?? before.machine, until, mayOpen: before.mayOpen || mayOpen, mayRead: before.mayRead || mayRead,
        programs: before.programs.concat(runOf(client, grant)?.programs ?? []), code: before.code || code || (before.code === null ? null : code) });
    }
  }
  return { found: [...found.values()], copies: readersOfCopies(all, owner, path), sessions: sessions.size, network };
}

/** Show beside each holder the code that it proved last. A holder that never received a key has no known code. @param {Client} client @param {HTMLElement} body @param {Set<string>} dids */
async function addCode(client, body, dids) {
  const found = await backends.list(client).catch(() => []); // the list of grants is useful without it
  const proved = found.filter(({ did }) => dids.has(did)).slice(0, MOST_PROVED);
  await Promise.all(proved.map(async (backend) => {
    const evidence = await backends.evidenceOf(client, backend).catch(() => null);
    const code = evidence?.compose_hash ?? evidence?.mrtd;
    const item = [...body.querySelectorAll("li")].find((one) => one.dataset.did === backend.did);
    if (item && code) add(item, h("div", { class: "dim small" }, words.proved(evidence?.compose_hash ? words.program : words.image), h("code", { title: String(code) }, shortened(String(code), 12, 6))));
  }));
}

/** @param {Holder} holder */
function means({ mayOpen, mayRead, code, machine }) {
  if (!mayOpen) return words.maySee;
  if (machine) return words.machines[machine];
  if (code === false) return words.noCode;
  if (!mayRead) return words.mayKey;
  return code ? words.mayOpen : words.hasGrant;
}

/** @param {{ did: string, name?: string, from?: string, until: string | null, programs?: Rule[] }} holder @param {string} says by what the holder may open it @param {import("./contact_names.js").ContactNames} contacts */
const item = ({ did, name, from, until, programs = [] }, says, contacts) => h("li", { data: { did } }, nameBefore(name), h("a", { href: `#/grants?find=${encodeURIComponent(did)}`, title: did, class: "mono" }, contacts.label(did)),
  h("span", { class: "dim small" }, ` ${says}`, from ? [", ", words.passedOn, " ", contacts.label(from)] : null, until ? [", ", words.ends, " ", time(until)] : null, buildLabels({ programs })));

/** A short list of those who may open a secret, with links to the grants. @param {Client} client @param {string} path */
export function holders(client, path) {
  const body = h("div", { "aria-live": "polite" }, words.holdersLoading);
  const contacts = contactNames(client);
  const load = async () => {
    try {
      const { found, copies, sessions, network } = await holdersOf(client, path);
      const isForeign = network !== null && rootOf(network) !== client.session.owner;
      const items = [...copies.map((one) => item(one, words.hasCopy(one.team), contacts)), ...found.map((one) => item(one, means(one), contacts))];
      const place = isForeign ? [words.otherNetwork, quoted(network, { mono: true })] : network === null ? words.noNetwork : !items.length && words.noHolders;
      fill(body, items.length > 0 && h("ul", { class: "holders", role: "list" }, items), h("p", { class: "dim small" }, words.notListed), place && h("p", { class: "dim small" }, place),
        sessions > 0 && h("p", { class: "dim small" }, client.session.member ? words.teamKeyToo(sessions) : words.ownToo(sessions)));
      if (found.length) await addCode(client, body, new Set(found.map(({ did }) => did)));
    } catch (error) {
      fill(body, h("p", {}, words.notKnown), failure(error, load));
    }
  };
  load();
  return h("section", { class: "stack tight", "aria-label": words.holders }, h("h3", {}, words.holders), body, contacts.problem);
}
