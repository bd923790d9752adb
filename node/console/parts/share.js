// Sharing secrets with people: what it takes is shown first, then the owner signs.
import { fill, h } from "../elements.js";
import { sharing as words } from "../texts_sharing.js";
import { principalOf } from "../wire/did.js";
import { folderOf, shares } from "../wire/shares.js";
import { boundValues, isTeam, plan, share, unshare } from "../wire/sharing.js";
import { contactNames } from "./contact_names.js";
import { personOf } from "./copies.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { loading } from "./states.js";
import { copyField, facts, say, shortened, time } from "./values.js";
import { signedByOwner } from "./wallet_choices.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { ContactNames } from "./contact_names.js"
 * @import { SecretName } from "../wire/secrets.js"
 * @import { Share } from "../wire/shares.js"
 */

const DAY_S = 86_400;
const MAX_DAYS = 365;

/** @param {Client} client @param {ContactNames} contacts @param {string} said a DID, or the name of a contact @returns {string} the error; empty: it is a person */
function wrongPerson({ session }, contacts, said) {
  const did = contacts.didOf(said);
  if (/^[a-z][a-z0-9_-]*$/.test(did)) return words.noContact;
  if (!folderOf(null, did)) return words.personBad;
  return principalOf(did) === session.owner ? words.personYou : "";
}

/** A field for a person: a DID, or the name of a contact. @param {Client} client @param {ContactNames} contacts */
export async function personField(client, contacts) {
  return textField({ name: "did", label: words.person, hint: words.personHint, mono: true, suggestions: await contacts.ready(), check: (said) => wrongPerson(client, contacts, said) });
}

/** A field for the number of days that a new right lasts. */
export const daysField = () => textField({ name: "days", label: words.days, hint: words.daysHint, value: String(MAX_DAYS),
  check: (said) => (/^[1-9][0-9]{0,2}$/.test(said.trim()) && Number(said) <= MAX_DAYS ? "" : words.daysBad) });

/**
 * Show what sharing takes, and share once the owner agrees. A wallet signs once for each new right.
 * @param {Client} client @param {ContactNames} contacts @param {{ secrets: SecretName[], dids: string[], team: string | null, days: string }} asked `dids`, or names of contacts
 * @returns {Promise<{ agreed: Promise<boolean> }>} once the dialog is open; `agreed`: whether it is shared
 */
export async function confirmShare(client, contacts, { secrets, dids, team, days }) {
  const asked = dids.map((did) => ({ secrets, did: principalOf(contacts.didOf(did)), team, expiresS: Number(days) * DAY_S }));
  /** @type {import("../wire/sharing.js").Plan[]} */
  const plans = [];
  for (const one of asked) plans.push(await plan(client, one));
  await boundValues(client, [...new Map(plans.flatMap((one) => one.secrets.map((secret) => [secret.path, secret]))).values()]);
  const signatures = plans.reduce((sum, { unsigned }) => sum + unsigned.length, 0);
  let isDone = false;
  const work = async (/** @type {import("../wire/wallets.js").Owner | null} */ owner) => {
    for (const one of asked) await share(client, owner, one);
    isDone = true;
  };
  const closed = openDialog(words.confirmTitle, (close) => form({ action: words.share, cancel: close, fields: [], intro: [
    h("p", {}, words.compare), plans.map((one) => facts([
      [words.person, contacts.whole(one.folder.did, words.person)],
      [words.fingerprint, copyField(one.fingerprint, words.fingerprint)],
      [words.gets, one.secrets.length ? one.secrets.map(({ label }) => label).join(", ") : words.nothingYet],
      one.isNew && [words.ends, time(one.endsAt)],
    ])),
    h("p", { class: "dim small" }, words.staysKnown, signatures > 0 && client.session.kind === "wallet" && ` ${words.signatures(signatures)}`),
  ], submit: async () => {
    if (!signatures) await work(null);
    else await signedByOwner(client.session, words.signWhy, work);
    if (isDone) close();
  } }).element);
  return { agreed: closed.then(() => isDone) };
}

/**
 * Ask before sharing ends.
 * @param {string} title @param {() => Promise<unknown>} run @returns {Promise<boolean>} whether `run` succeeded
 */
export async function confirmEnd(title, run) {
  let isDone = false;
  await openDialog(title, (close) => form({ intro: h("p", {}, words.endText), fields: [], action: words.end, isDanger: true, cancel: close, submit: async () => {
    await run();
    isDone = true;
    close();
    say(words.ended);
  } }).element);
  return isDone;
}

/** The dialog that shares one secret, and ends its sharing. @param {Client} client @param {SecretName} secret */
export async function shareSecret(client, secret) {
  const body = h("div", { class: "stack tight" });
  const contacts = contactNames(client);
  /** @type {Share[]} */
  let all = [];
  const has = (/** @type {Share} */ { secrets }) => secrets.some(({ path }) => path === secret.path);
  const reload = () => loading(body, async () => (all = await shares(client)), (found) => {
    const some = found.filter(has);
    return [h("h3", {}, words.has), some.length ? h("ul", { class: "versions", role: "list" }, some.map((one) => row(one))) : h("p", { class: "dim" }, words.nobody)];
  }, { lines: 2 });

  /** @param {Share} share */
  function row({ folder, expiresAt }) {
    const { did, team } = folder;
    const whom = team === null ? shortened(did, 18, 6) : words.theTeam(team);
    const end = async () => { if (await confirmEnd(words.endTitle(secret.label, whom), () => unshare(client, { secrets: [secret], did: team === null ? did : null, team }))) reload(); };
    return h("li", { class: "row spread", data: { did } }, h("div", {}, personOf(folder, contacts), h("span", { class: "dim small" }, ` ${words.until} `, expiresAt === null ? words.noEnd : time(expiresAt))),
      h("button", { type: "button", class: "danger", "aria-label": words.endTitle(secret.label, whom), on: { click: end } }, words.end));
  }

  const whom = textField({ name: "whom", label: words.whom, hint: words.whomHint, mono: true, suggestions: await contacts.ready(), check: (said) => {
    const team = teamIn(said);
    if (team !== null) return isTeam(team) && all.some(({ folder }) => folder.team === team) ? "" : words.noTeam;
    return wrongPerson(client, contacts, said);
  } });
  const days = daysField();
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(words.shareTitle(secret.label), (close) => {
    made = form({ fields: [whom, days], action: words.next, cancel: close, submit: async (said) => {
      const team = teamIn(said.whom);
      const dids = team === null ? [said.whom] : all.filter(({ folder }) => folder.team === team).map(({ folder }) => folder.did);
      const { agreed } = await confirmShare(client, contacts, { secrets: [secret], dids, team, days: said.days });
      agreed.then((isDone) => {
        if (!isDone) return;
        whom.input.value = "";
        say(words.shared(secret.label));
        reload();
      });
    } });
    reload();
    return h("div", { class: "stack" }, body, contacts.problem, h("p", { class: "dim small" }, words.lead, " ", h("a", { href: "#/people" }, words.toPeople)), made.element);
  }, { mayClose: () => made.mayClose() });
}

/** @param {string} said `team:NAME`, or a DID @returns {string | null} the name of the team */
const teamIn = (said) => /^team:(.*)$/.exec(said.trim())?.[1] ?? null;
