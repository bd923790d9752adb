// People and teams: who has copies of which secrets.
import { fill, h, icon, pageHead } from "../elements.js";
import { contactNames } from "../parts/contact_names.js";
import { contactsPanel } from "../parts/contacts_panel.js";
import { personOf } from "../parts/copies.js";
import { openDialog } from "../parts/dialog.js";
import { form, textField } from "../parts/form.js";
import { confirmEnd, confirmShare, daysField, personField } from "../parts/share.js";
import { emptyState, loading } from "../parts/states.js";
import { copyField, facts, say, shortened, split, time } from "../parts/values.js";
import { people, sharing as words } from "../texts_sharing.js";
import { networkId } from "../wire/did.js";
import { descriptor, fingerprint } from "../wire/encryption.js";
import * as secrets from "../wire/secrets.js";
import { shares } from "../wire/shares.js";
import { isShareable, isTeam, unshare } from "../wire/sharing.js";

export const title = people.title;
export const needsSession = true;

/**
 * @import { Client } from "../wire/client.js"
 * @import { SecretName } from "../wire/secrets.js"
 * @import { Share } from "../wire/shares.js"
 */

/** @param {import("../app.js").Context} context */
export function render({ client, signal }) {
  const body = h("div", { class: "stack" });
  let contacts = contactNames(client);
  /** @type {Share[]} */
  let all = [];
  const reload = () => loading(body, async () => (all = await shares(client)), content, { signal });

  function content() {
    const teams = [...new Set(all.flatMap(({ folder }) => folder.team ?? []))].sort();
    const alone = all.filter(({ folder }) => folder.team === null);
    if (!all.length) return h("section", { class: "panel" }, emptyState({ icon: "people", title: people.emptyTitle, text: people.empty }));
    return [teams.map((team) => teamPanel(team, all.filter(({ folder }) => folder.team === team))),
      alone.length > 0 && h("section", { class: "panel stack", "aria-label": people.alone }, h("h2", {}, people.alone), h("ul", { class: "versions", role: "list" }, alone.map(person)))];
  }

  /** @param {Share} share with a person alone */
  const person = ({ folder, expiresAt, secrets: held }) => h("li", { class: "row spread wraps", data: { did: folder.did } },
    h("div", {}, personOf(folder, contacts), h("span", { class: "dim small" }, ` ${words.until} `, expiresAt === null ? words.noEnd : time(expiresAt)),
      h("p", { class: "small" }, held.length ? held.map(({ label }) => label).join(", ") : words.nothingYet)),
    h("div", { class: "row" }, h("button", { "aria-label": people.shareWith(folder.did), on: { click: () => shareMore([folder.did], null) } }, people.shareMore),
      h("button", { class: "danger", "aria-label": people.endAll(shortened(folder.did, 18, 6)), on: { click: () => end(people.endAll(shortened(folder.did, 18, 6)), { secrets: null, did: folder.did, team: null }) } }, words.end)));

  /** @param {string} team @param {Share[]} members */
  function teamPanel(team, members) {
    const held = members[0].secrets;
    const dids = members.map(({ folder }) => folder.did);
    const secretRow = (/** @type {SecretName} */ one) => h("li", { class: "row spread" }, h("code", {}, one.label),
      h("button", { class: "danger", "aria-label": words.endTitle(one.label, words.theTeam(team)), on: { click: () => end(words.endTitle(one.label, words.theTeam(team)), { secrets: [one], did: null, team }) } }, words.end));
    const memberRow = (/** @type {Share} */ { folder, expiresAt }) => h("li", { class: "row spread", data: { did: folder.did } },
      h("div", {}, contacts.label(folder.did), h("span", { class: "dim small" }, ` ${words.until} `, expiresAt === null ? words.noEnd : time(expiresAt))),
      h("button", { class: "danger", "aria-label": people.removeTitle(shortened(folder.did, 18, 6), team), on: { click: () => end(people.removeTitle(shortened(folder.did, 18, 6), team), { secrets: null, did: folder.did, team }) } }, people.remove));
    return h("section", { class: "panel stack", "aria-label": words.theTeam(team) }, h("div", { class: "row spread" }, h("h2", {}, team), h("div", { class: "row" },
      h("button", { on: { click: () => addMember(team) } }, people.addMember), h("button", { on: { click: () => shareMore(dids, team) } }, people.shareMore))),
    h("h3", {}, people.members), h("ul", { class: "versions", role: "list" }, members.map(memberRow)),
    h("h3", {}, people.secrets), held.length ? h("ul", { class: "versions", role: "list" }, held.map(secretRow)) : h("p", { class: "dim" }, words.nothingYet));
  }

  /** @param {string} what @param {Parameters<typeof unshare>[1]} asked */
  async function end(what, asked) {
    if (await confirmEnd(what, () => unshare(client, asked))) reload();
  }

  /** @param {string | null} team null: a new one */
  async function addMember(team) {
    const name = textField({ name: "team", label: people.team, hint: people.teamHint, mono: true, check: (said) => (isTeam(said.trim()) ? "" : people.teamBad) });
    const did = await personField(client, contacts);
    return asking(team === null ? people.newTeam : people.addMember, [...(team === null ? [name] : []), did, daysField()], (said) => ({ secrets: [], dids: [said.did], team: team ?? said.team.trim(), days: said.days }));
  }

  /** Share further secrets with known people, or first ones with a new person. @param {string[] | null} dids null: ask for the person @param {string | null} team */
  async function shareMore(dids, team) {
    const stored = new Map((await secrets.list(client).catch(() => [])).map((one) => [one.label, one]));
    const named = textField({ name: "names", label: people.names, hint: people.namesHint, rows: 3, mono: true, check: (said) => {
      const missing = split(said).find((one) => !stored.has(one));
      if (missing !== undefined) return people.missing(missing.slice(0, 200));
      return split(said).length && split(said).every((one) => isShareable(/** @type {SecretName} */ (stored.get(one)))) ? "" : people.namesBad;
    } });
    return asking(people.shareMore, [...(dids ? [] : [await personField(client, contacts)]), named, daysField()],
      (said) => ({ secrets: split(said.names).flatMap((one) => stored.get(one) ?? []), dids: dids ?? [said.did], team, days: said.days }));
  }

  /** @param {string} what @param {import("../parts/form.js").Field[]} fields @param {(said: Record<string, string>) => Parameters<typeof confirmShare>[2]} asked */
  function asking(what, fields, asked) {
    /** @type {ReturnType<typeof form>} */
    let made;
    return openDialog(what, (close) => {
      made = form({ fields, action: words.next, cancel: close, submit: async (said) => {
        const { agreed } = await confirmShare(client, contacts, asked(said));
        agreed.then((isDone) => {
          if (!isDone) return;
          close();
          say(people.done);
          reload();
        });
      } });
      return made.element;
    }, { mayClose: () => made.mayClose() });
  }

  reload();
  return h("div", { class: "page" }, pageHead(people, h("div", { class: "row" }, h("button", { class: "primary", on: { click: () => shareMore(null, null) } }, icon("plus"), people.shareNew),
    h("button", { on: { click: () => addMember(null) } }, people.newTeam))), body, contactsPanel(client, signal, () => { contacts = contactNames(client); reload(); }), youPanel(client));
}

/** What others need to share with you. @param {Client} client */
function youPanel(client) {
  const print = h("span", {});
  descriptor(client, networkId(client.session.owner)).then(async ({ publicEncryptionKey }) => fill(print, copyField(await fingerprint(publicEncryptionKey), words.fingerprint)))
    .catch(() => fill(print, people.noKey));
  return h("section", { class: "panel stack tight", "aria-label": people.you }, h("h2", {}, people.you), h("p", { class: "dim small" }, people.youText),
    facts([[people.did, copyField(client.session.owner, people.did)], [words.fingerprint, print]]));
}
