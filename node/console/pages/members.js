// The members of a team: who they are, and for admins the changes.
import { h, icon, pageHead } from "../elements.js";
import { contactNames } from "../parts/contact_names.js";
import { confirmByWord, openDialog } from "../parts/dialog.js";
import { form, textField } from "../parts/form.js";
import { openInvitation } from "../parts/invite.js";
import { quoted } from "../parts/quoted.js";
import { banner, failure, loading } from "../parts/states.js";
import { copyButton, facts, say, shortened, split, time } from "../parts/values.js";
import { signedByOwner } from "../parts/wallet_choices.js";
import { invitation as invitationWords, members as words, noWallet, roles, secretsText } from "../texts_team.js";
import { principalOf } from "../wire/did.js";
import { endsAt, invite, parseLine, waitingInvitations, withdraw } from "../wire/invitations.js";
import { isMemberName, isWallet, MOST_SECRETS } from "../wire/memberships.js";
import { secretName } from "../wire/secrets.js";
import * as wire from "../wire/teams.js";

export const title = words.title;
export const needsSession = true;

const DAY_S = 86_400;
const [MOST_DAYS, MOST_LASTS] = [1830, 30];

/**
 * @import { Context } from "../app.js"
 * @import { Field } from "../parts/form.js"
 * @import { Inviting } from "../wire/invitations.js"
 * @import { Membership, Role } from "../wire/memberships.js"
 * @typedef {{ listed: wire.Listed, waiting: Inviting[] }} Loaded
 */

/** @param {Context} context */
export function render(context) {
  return context.session?.member?.role === "admin" ? adminsPage(context) : membersPage(context);
}

/** What a member who is no admin sees. @param {Context} context */
function membersPage(context) {
  const { client, signal } = context;
  const contacts = contactNames(client);
  const body = h("div", { class: "stack" });
  const team = client.session.owner;
  loading(body, async () => (await wire.memberships(client.own, team)).find(({ cid }) => cid === client.session.member?.cid), (mine) => h("section", { class: "panel stack", "aria-label": words.mine }, h("h2", {}, words.mine),
    mine && facts([[words.role, roles[mine.role]], [words.secrets, secretsText(mine.secrets)], [words.ends, time(mine.endsAt)], [words.admittedBy, contacts.whole(mine.admittedBy, words.admittedBy)]]),
    h("p", { class: "dim" }, words.notAdmin), h("div", { class: "actions" }, leaveButton(context, () => wire.leave(client.own, team)))), { signal, lines: 4 });
  return h("div", { class: "page" }, pageHead(words), body, contacts.problem);
}

/** @param {Context} context @param {() => Promise<unknown>} run */
function leaveButton({ act, go }, run) {
  const leave = async () => {
    if (!(await confirmByWord({ title: words.leave, text: words.leaveText, word: words.leaveWord, action: words.leave, run }))) return;
    act(null);
    say(words.left);
    go("teams");
  };
  return h("button", { class: "danger", on: { click: leave } }, words.leave);
}

/** @param {Context} context */
function adminsPage(context) {
  const { client, signal } = context;
  const contacts = contactNames(client);
  const me = client.session.member?.did ?? "";
  const own = client.own.session;
  const body = h("div", { class: "stack" });
  const load = async () => {
    const [listed, waiting] = await Promise.all([wire.members(client), waitingInvitations(client), contacts.ready()]);
    return { listed, waiting };
  };
  const reload = () => loading(body, load, content, { signal });
  const nameOf = (/** @type {string} */ did) => contacts.nameOf(did) || shortened(did, 18, 6);

  /** @param {Loaded} loaded */
  function content({ listed, waiting }) {
    return [
      listed.unreadCount > 0 && banner({ kind: "bad", title: words.unreadTitle, text: words.unreadText(listed.unreadCount) }),
      wire.adminsOf(listed).size === 1 && banner({ kind: "warn", title: words.oneAdmin, text: words.oneAdminText }),
      h("section", { class: "panel stack", "aria-label": words.title }, h("ul", { class: "versions", role: "list" }, listed.members.map((one) => memberRow(listed, one)))),
      h("section", { class: "panel stack", "aria-label": words.waiting }, h("h2", {}, words.waiting),
        waiting.length ? h("ul", { class: "versions", role: "list" }, waiting.map(invitationRow)) : h("p", { class: "dim" }, words.noWaiting)),
    ];
  }

  /** @param {wire.Listed} listed @param {Membership} member */
  function memberRow(listed, member) {
    const { did, name, role, secrets, endsAt, admittedBy, team } = member;
    const whom = nameOf(did);
    return h("li", { class: "row spread wraps", data: { did, cid: member.cid } },
      h("div", {}, contacts.label(did), " ", did === me && h("span", { class: "chip" }, words.you), name && [` ${words.called} `, quoted(name)], " ", h("span", { class: "chip" }, roles[role]),
        h("p", { class: "small" }, secretsText(secrets)),
        h("p", { class: "dim small" }, `${words.until} `, time(endsAt), `, ${words.admittedBy.toLowerCase()} `, admittedBy === team ? words.byTeam : contacts.label(admittedBy))),
      did === me ? leaveButton(context, () => wire.changeMember(client, { did: me, kind: "wallet" }, me, null))
        : h("div", { class: "row" }, h("button", { "aria-label": words.changeTitle(whom), on: { click: () => change(listed, member) } }, words.change),
          h("button", { class: "danger", "aria-label": words.removeTitle(whom), on: { click: () => remove(listed, member) } }, words.remove)));
  }

  /** @param {Inviting} side */
  function invitationRow(side) {
    const terms = parseLine(side.line);
    const { role, secrets = [] } = terms;
    const end = async () => {
      await withdraw(client, side);
      say(words.withdrawn);
      reload();
    };
    const failed = h("div", { role: "alert" });
    return h("li", { class: "row spread wraps" }, h("div", {}, roles[role], ", ", secretsText(secrets), h("p", { class: "dim small" }, `${words.answerBy} `, time(endsAt(terms))), failed),
      h("div", { class: "row" }, h("button", { on: { click: () => openInvitation(client, side, contacts, reload) } }, words.open),
        h("button", { class: "danger", on: { click: () => end().catch((error) => failed.replaceChildren(failure(error))) } }, words.withdraw)));
  }

  async function add() {
    const names = await contacts.ready();
    const did = textField({ name: "did", label: words.did, hint: words.didHint, mono: true, suggestions: names, check: (said) => (isWallet(principalOf(contacts.didOf(said))) ? "" : words.didBad) });
    const [role, which, name, days] = termsFields();
    return asking(words.add, { fields: [did, role, which, name, days], action: words.add, done: words.added }, (said) => signedByOwner(own, words.addWhy(said.role),
      (owner) => wire.admit(client, owner, { did: contacts.didOf(said.did), ...termsOf(said), name: said.name.trim(), lifeS: Number(said.days) * DAY_S }), noWallet));
  }

  /** @param {wire.Listed} listed @param {Membership} member */
  function change(listed, member) {
    const [role, which] = termsFields(member);
    const anew = depending(listed, member.did, "reader");
    const intro = [h("p", {}, words.changeText), anewList(anew)];
    return asking(words.changeTitle(nameOf(member.did)), { intro, fields: [role, which], action: words.change, done: words.changed },
      (said) => signedByOwner(own, words.changeWhy, (owner) => wire.changeMember(client, owner, member.did, termsOf(said), anew.map(({ cid }) => cid)), noWallet));
  }

  /** @param {wire.Listed} listed @param {string} did @param {Role | null} role @returns {Membership[]} of others, which are signed anew; empty if it cannot be done, which the form then says */
  function depending(listed, did, role) {
    try {
      return wire.endingWith(listed, me, did, role);
    } catch {
      return [];
    }
  }

  /** Whose memberships the wallet signs anew. @param {Membership[]} anew */
  const anewList = (anew) => anew.length > 0 && h("div", { class: "stack tight" }, h("p", {}, words.signs(anew.length)),
    h("ul", { class: "rights", role: "list" }, anew.map(({ did, role, secrets }) => h("li", {}, contacts.label(did), ` ${roles[role]}, ${secretsText(secrets)}`))));

  /** @param {wire.Listed} listed @param {Membership} member */
  async function remove(listed, member) {
    const anew = depending(listed, member.did, null);
    const work = async () => {
      if (anew.length) return signedByOwner(own, words.removeWhy, (owner) => wire.changeMember(client, owner, member.did, null, anew.map(({ cid }) => cid)), noWallet);
      await wire.changeMember(client, { did: me, kind: "wallet" }, member.did, null);
      return true;
    };
    const intro = [h("p", {}, words.removeText), anewList(anew)];
    let isRemoved = false;
    await asking(words.removeTitle(nameOf(member.did)), { intro, fields: [], action: words.remove, done: "", isDanger: true }, async () => (isRemoved = await work()));
    if (isRemoved) await showKnown(listed.members.filter(({ did }) => did === member.did));
  }

  /** Which values a removed member knows, by the receipts and the versions (CN22). @param {Membership[]} ended all memberships of the person */
  function showKnown(ended) {
    const whom = nameOf(ended[0].did);
    const body = h("div", { class: "stack" });
    loading(body, async () => (await import("../parts/released.js")).knownBy(client, ended), ({ labels, unnamedCount, unreadCount, isAll }) => [
      h("p", {}, labels.length ? words.knownText : words.noneKnown),
      labels.length > 0 && h("ul", { class: "rights", role: "list", "aria-label": words.known }, labels.map((label) => h("li", { class: "mono" }, label))),
      unnamedCount > 0 && h("p", {}, words.unnamedKnown(unnamedCount)),
      !isAll && h("p", {}, words.notAllKnown),
      unreadCount > 0 && h("p", {}, words.unreadKnown(unreadCount)),
      labels.length > 0 && h("div", { class: "actions" }, copyButton(labels.join("\n"), words.known, true))], { lines: 3 });
    return openDialog(words.knownTitle(whom), () => h("div", { class: "stack" }, h("p", {}, h("strong", {}, words.removed)), body));
  }

  async function invitePerson() {
    const [role, which, name, days] = termsFields();
    const lasts = textField({ name: "lasts", label: invitationWords.lasts, hint: invitationWords.lastsHint, value: "2", check: (said) => (isCount(said, MOST_LASTS) ? "" : invitationWords.lastsBad) });
    /** @type {Inviting | null} */
    let made = null;
    await asking(invitationWords.title, { intro: h("p", {}, invitationWords.text), fields: [role, which, name, days, lasts], action: invitationWords.make, done: "" }, async (said) => {
      made = await invite(client, { ...termsOf(said), name: said.name.trim(), lifeS: Number(said.days) * DAY_S, ttlS: Number(said.lasts) * DAY_S });
      return true;
    });
    if (made) await openInvitation(client, made, contacts, reload);
  }

  /**
   * Ask, do, and load the list again.
   * @param {string} what
   * @param {{ fields: Field[], intro?: import("../elements.js").Child, action: string, done: string, isDanger?: boolean }} asked
   * @param {(said: Record<string, string>) => Promise<boolean>} work returns false if it was cancelled
   */
  function asking(what, { done, ...asked }, work) {
    /** @type {ReturnType<typeof form>} */
    let made;
    return openDialog(what, (close) => {
      made = form({ ...asked, cancel: close, submit: async (said) => {
        if (!(await work(said))) return;
        close();
        if (done) say(done);
        reload();
      } });
      return made.element;
    }, { mayClose: () => made.mayClose() });
  }

  reload();
  return h("div", { class: "page" }, pageHead(words, h("div", { class: "row" }, h("button", { class: "primary", on: { click: add } }, icon("plus"), words.add),
    h("button", { on: { click: invitePerson } }, words.invite))), body, contacts.problem);
}

// --- the terms of a membership ---------------------------------------------------------------------------------------

/** @param {string} said @param {number} most */
const isCount = (said, most) => /^[0-9]{1,4}$/.test(said.trim()) && Number(said) >= 1 && Number(said) <= most;

/** @param {string} label @returns {string | null} in canonical spelling; null: it is no secret */
function labelOf(label) {
  const parts = label.split("/");
  try {
    return parts.length < 3 ? secretName(parts.length > 1 ? parts[0] : null, String(parts.at(-1))).label : null;
  } catch {
    return null;
  }
}

/** @param {Membership} [former] @returns {Field[]} role, secrets, name and days */
function termsFields(former) {
  const input = h("select", { id: "member-role", name: "role", "aria-describedby": "member-role-hint" }, ["reader", "writer", "admin"].map((one) => h("option", { value: one, selected: one === former?.role }, roles[one])));
  const role = { name: "role", input, element: h("div", { class: "field" }, h("label", { for: "member-role" }, words.role), input, h("p", { class: "hint", id: "member-role-hint" }, words.roleHints)), judge: () => "", refuse: () => {} };
  const which = textField({ name: "which", label: words.which, hint: words.whichHint, rows: 2, mono: true, value: former?.secrets.join("\n") ?? "", check: (said) => {
    const labels = split(said).map(labelOf);
    return labels.includes(null) || new Set(labels).size < labels.length || labels.length > MOST_SECRETS || (labels.length > 0 && input.value === "admin") ? words.whichBad : "";
  } });
  const name = textField({ name: "name", label: words.name, hint: words.nameHint, mono: true, check: (said) => (!said.trim() || isMemberName(said.trim()) ? "" : words.nameBad) });
  const days = textField({ name: "days", label: words.days, hint: words.daysHint, value: "365", check: (said) => (isCount(said, MOST_DAYS) ? "" : words.daysBad) });
  return [role, which, name, days];
}

/** @param {Record<string, string>} said @returns {{ role: Role, secrets: string[] }} */
const termsOf = (said) => ({ role: /** @type {Role} */ (said.role), secrets: split(said.which).flatMap((one) => labelOf(one) ?? []) });
