// Joining a team with an invitation: answer, compare four words, and wait for the admin.
import { fill, h, pageHead } from "../elements.js";
import { contactNames } from "../parts/contact_names.js";
import { quoted } from "../parts/quoted.js";
import { emptyState, failure, loading, onceBack } from "../parts/states.js";
import { chooseTeam } from "../parts/team_choice.js";
import { copyField, facts, time } from "../parts/values.js";
import { invitation as words, roles, secretsText } from "../texts_team.js";
import { advanceJoining, endsAt, forgetJoining, join, joined, parseLine, waitingJoins } from "../wire/invitations.js";

export const title = words.joinTitle;
export const needsSession = true;
export const isOwn = true;

const POLL_MS = 1500;

/**
 * @import { Context } from "../app.js"
 * @import { Joining } from "../wire/invitations.js"
 */

/** @param {Context} context */
export function render(context) {
  const { client, parameters, signal } = context;
  const own = client.own.session;
  const given = parameters.get("line");
  const body = h("div", { class: "stack" });

  async function load() {
    const waiting = await waitingJoins(own);
    const line = given ?? waiting.at(-1)?.line ?? null;
    // One that was answered already goes on by itself.
    return { line, invitation: line === null ? null : parseLine(line), isAnswered: waiting.some((one) => one.line === line) };
  }

  /** @param {Awaited<ReturnType<typeof load>>} loaded */
  function content({ line, invitation, isAnswered }) {
    if (line === null || invitation === null) {
      return h("section", { class: "panel" }, emptyState({ icon: "people", title: words.none, text: words.noneText, actions: [h("a", { class: "button", href: "#/teams" }, words.toTeams)] }));
    }
    const contacts = contactNames(client);
    const { name, team, admin, role, secrets = [] } = invitation;
    const steps = h("div", { class: "stack", "aria-live": "polite" });
    const failed = h("div", { role: "alert" });
    const answer = async () => {
      fill(failed);
      button.setAttribute("aria-busy", "true");
      try {
        follow(await join(own, line), name, steps, failed, context);
      } catch (error) {
        fill(failed, failure(error, answer));
      } finally {
        button.removeAttribute("aria-busy");
      }
    };
    const button = h("button", { class: "primary", on: { click: answer } }, words.answer);
    fill(steps, h("p", { class: "dim small" }, words.answerText), h("div", { class: "row" }, button));
    if (isAnswered) answer();
    return h("section", { class: "panel stack", "aria-label": words.joinTitle }, facts([
      [words.calls, quoted(name)],
      [words.team, copyField(team, words.team)],
      [words.admin, contacts.whole(admin, words.admin)],
      [words.gets, `${roles[role]}, ${secretsText(secrets)}`],
      [words.answerBy, time(endsAt(invitation))],
    ]), contacts.problem, steps, failed);
  }

  loading(body, load, content, { signal, lines: 4 });
  return h("div", { class: "page" }, pageHead({ title: words.joinTitle, lead: words.joinLead }), body);
}

/**
 * Make one step after the other, until the person is a member.
 * @param {Joining} first @param {string} suggested name of the team @param {HTMLElement} steps @param {HTMLElement} failed @param {Context} context
 */
function follow(first, suggested, steps, failed, context) {
  const { client, signal, go } = context;
  const own = client.own;
  let side = first;
  /** @type {string[] | null} */
  let compared = null;
  const shown = h("p", { class: "code" });
  const state = h("p", { class: "dim" }, words.answered);
  fill(steps, state);

  const step = async () => {
    if (signal.aborted) return;
    try {
      if (!compared) {
        const advanced = await advanceJoining(side, own.session.node);
        [side, compared] = [advanced.side, advanced.words];
        if (compared) {
          shown.textContent = compared.join(" ");
          state.textContent = words.confirms;
          fill(steps, h("p", {}, words.read), shown, state);
        }
      }
      const membership = compared && (await joined(own, side));
      if (membership) return isMember(membership);
    } catch (error) {
      if (signal.aborted) return;
      fill(failed, failure(error, again));
      onceBack(error, again, signal);
      return;
    }
    setTimeout(step, POLL_MS);
  };
  const again = () => { fill(failed); step(); };

  /** @param {import("../wire/memberships.js").Membership} membership */
  function isMember(membership) {
    const use = async () => {
      fill(failed);
      try {
        if (!(await chooseTeam(context, membership, { suggested }))) return;
        await forgetJoining(side);
        go("secrets");
      } catch (error) {
        fill(failed, failure(error, use));
      }
    };
    fill(steps, h("p", {}, h("strong", {}, words.isMember)), h("div", { class: "row" }, h("button", { class: "primary", on: { click: use } }, words.show)));
  }
  step();
}
