// Signing in to a team, after the question whether it is the right one.
import { h } from "../elements.js";
import { noWallet, roles, secretsText, teams as words } from "../texts_team.js";
import { add, isName } from "../wire/contacts.js";
import { nowS, restoreTeam } from "../wire/session.js";
import { signInFor } from "../wire/teams.js";
import { contactNames } from "./contact_names.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { copyField, facts, say } from "./values.js";
import { signedByOwner } from "./wallet_choices.js";

/**
 * @import { Context } from "../app.js"
 * @import { Membership } from "../wire/memberships.js"
 */

/**
 * Show the secrets of a team in this tab. Names of teams are those of the person's contacts: anybody can make a person a member of their team (TM14).
 * @param {Context} context @param {Membership} membership
 * @param {{ suggested?: string, isAnew?: boolean }} [how] `suggested`: a name for a team that is no contact yet; `isAnew`: sign in even if a session for it is stored
 * @returns {Promise<boolean>} whether it is shown
 */
export async function chooseTeam({ client, act }, membership, { suggested = "", isAnew } = {}) {
  const own = client.own.session;
  const contacts = contactNames(client);
  await contacts.ready();
  const name = contacts.nameOf(membership.team) || (await named(client.own, membership, suggested));
  if (!name) return false;
  const kept = isAnew ? null : await restoreTeam(own, membership.team);
  let session = kept?.member?.cid === membership.cid && kept.expiresAt > nowS() ? kept : null;
  if (session?.member) session.member.name = name;
  if (!session) await signedByOwner(own, words.why(name), async (owner) => { session = await signInFor(own, owner, membership, name); }, noWallet);
  if (!session) return false;
  act(session);
  say(words.done(name));
  return true;
}

/** Ask whether a team is the right one, and for its name. @param {import("../wire/client.js").Client} own @param {Membership} membership @param {string} suggested @returns {Promise<string>} the new contact; empty: cancelled */
async function named(own, { team, role, secrets, admittedBy }, suggested) {
  let name = "";
  const field = textField({ name: "name", label: words.name, hint: words.nameHint, mono: true, value: isName(suggested) ? suggested : "", check: (said) => (isName(said.trim()) ? "" : words.nameBad) });
  const intro = [h("p", {}, words.newText), facts([[words.team, copyField(team, words.team)], [words.role, [roles[role], ", ", secretsText(secrets)]], [words.admin, copyField(admittedBy, words.admin)]])];
  await openDialog(words.newTitle, (close) => form({ intro, fields: [field], action: words.itIs, cancel: close, submit: async (said) => {
    await add(own, said.name.trim(), team);
    name = said.name.trim();
    close();
  } }).element);
  return name;
}
