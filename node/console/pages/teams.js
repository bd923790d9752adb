// Whose secrets this tab shows: the owner's own, or those of a team.
import { fill, h, icon, pageHead } from "../elements.js";
import { contactNames } from "../parts/contact_names.js";
import { form, textField } from "../parts/form.js";
import { failure, loading } from "../parts/states.js";
import { chooseTeam } from "../parts/team_choice.js";
import { say, shortened, time } from "../parts/values.js";
import { roles, secretsText, teams as words } from "../texts_team.js";
import { PREFIX, waitingJoins } from "../wire/invitations.js";
import { memberships } from "../wire/teams.js";

export const title = words.title;
export const needsSession = true;
export const isOwn = true;

/** @import { Membership } from "../wire/memberships.js" */

/** @param {import("../app.js").Context} context */
export function render(context) {
  const { client, session, signal, act, go } = context;
  const own = client.own.session;
  const contacts = contactNames(client);
  const shown = session?.member ? session.owner : null;
  const body = h("div", { class: "stack" });
  const failed = h("div", { role: "alert" });

  const useOwn = () => {
    act(null);
    say(words.back);
    go("secrets");
  };
  /** @param {Membership} membership */
  const use = async (membership) => {
    fill(failed);
    try {
      if (await chooseTeam(context, membership, { isAnew: membership.team === shown })) go("secrets");
    } catch (error) {
      fill(failed, failure(error));
    }
  };

  async function load() {
    const [found, waiting] = await Promise.all([own.kind === "phrase" ? [] : memberships(client.own), waitingJoins(own), contacts.ready()]);
    // The latest membership of each team is the one that counts, as for commands.
    const latest = new Map(found.toReversed().map((one) => [one.team, one]));
    return { latest: [...latest.values()].reverse(), waiting };
  }

  /** @param {Membership} membership */
  function teamRow(membership) {
    const { team, role, secrets, endsAt, admittedBy } = membership;
    const name = contacts.nameOf(team) || shortened(team, 18, 6);
    const label = team === shown ? words.anew : words.use;
    return h("li", { class: "row spread wraps", data: { did: team } },
      h("div", {}, contacts.label(team), " ", !contacts.nameOf(team) && h("span", { class: "chip warn" }, words.notNamed), " ", team === shown && h("span", { class: "chip good" }, words.shown),
        h("p", { class: "small" }, `${roles[role]}, ${secretsText(secrets)}`),
        h("p", { class: "dim small" }, `${words.until} `, time(endsAt), `, ${words.admittedBy} `, contacts.label(admittedBy))),
      h("button", { "aria-label": team === shown ? `${label}: ${name}` : words.useOf(name), on: { click: () => use(membership) } }, label));
  }

  /** @param {Awaited<ReturnType<typeof load>>} loaded */
  const content = ({ latest, waiting }) => [
    waiting.length > 0 && h("div", { class: "banner" }, icon("info"), h("div", {}, h("strong", {}, words.waiting), h("a", { class: "button", href: "#/join" }, words.goOn))),
    h("section", { class: "panel stack", "aria-label": words.list }, h("h2", {}, words.list),
      latest.length ? h("ul", { class: "versions", role: "list" }, latest.map(teamRow)) : h("p", { class: "dim" }, own.kind === "phrase" ? words.needsWallet : words.none))];

  loading(body, load, content, { signal, lines: 3 });
  const line = textField({ name: "line", label: words.line, hint: words.lineHint, mono: true, check: (said) => (said.trim().startsWith(PREFIX) ? "" : words.lineBad) });
  return h("div", { class: "page" }, pageHead(words),
    h("section", { class: "panel row spread", "aria-label": words.own }, h("div", {}, h("h2", {}, words.own), h("p", { class: "dim small" }, words.ownText)),
      shown === null ? h("span", { class: "chip good" }, words.shown) : h("button", { "aria-label": words.useOf(words.own), on: { click: useOwn } }, words.use)),
    body, failed, contacts.problem,
    h("section", { class: "panel stack", "aria-label": words.joinTitle }, h("h2", {}, words.joinTitle),
      form({ intro: h("p", { class: "dim small" }, words.joinText), fields: [line], action: words.join, submit: async (said) => go(`join/${said.line.trim()}`) }).element));
}
