// The admin's side of an invitation: the link, the words, and the question whether they are the same.
import { fill, h } from "../elements.js";
import { invitation as words, noWallet, roles, secretsText } from "../texts_team.js";
import { advanceInviting, confirm, endsAt, linkOf, parseLine, withdraw } from "../wire/invitations.js";
import { openDialog } from "./dialog.js";
import { failure, onceBack } from "./states.js";
import { copyButton, facts, say, shortened, time } from "./values.js";
import { signedByOwner } from "./wallet_choices.js";

const POLL_MS = 1500;

/**
 * @import { Client } from "../wire/client.js"
 * @import { Inviting } from "../wire/invitations.js"
 */

/**
 * Show an invitation until the person has answered, then the words.
 * @param {Client} client of the admin's session for the team @param {Inviting} first @param {import("./contact_names.js").ContactNames} contacts @param {() => void} reload called after a change
 * @returns {Promise<void>} resolved when the dialog is closed
 */
export function openInvitation(client, first, contacts, reload) {
  const invitation = parseLine(first.line);
  const { role, secrets = [], end } = invitation;
  const link = linkOf(invitation);
  let side = first;
  const state = h("div", { class: "stack", "aria-live": "polite" }, h("p", { class: "dim" }, words.waits));
  const failed = h("div", { role: "alert" });

  return openDialog(words.openTitle(role), (close) => {
    const step = async () => {
      if (!state.isConnected) return;
      try {
        const advanced = await advanceInviting(client, side);
        side = advanced.side;
        if (advanced.words) return ask(advanced.joiner, advanced.words);
      } catch (error) {
        fill(failed, failure(error, again));
        onceBack(error, () => { if (state.isConnected) again(); });
        return;
      }
      setTimeout(step, POLL_MS);
    };
    const again = () => { fill(failed); step(); };

    /** @param {string} joiner DID @param {string[]} compared */
    function ask(joiner, compared) {
      sent.hidden = true;
      /** @param {() => Promise<unknown>} work @param {string} done */
      const attempt = (work, done) => async () => {
        fill(failed);
        try {
          if ((await work()) === false) return;
          close();
          say(done);
          reload();
        } catch (error) {
          fill(failed, failure(error));
        }
      };
      // Only a person can compare the words, so nothing else answers this question (TM13).
      const admit = attempt(() => signedByOwner(client.own.session, words.why(role), (owner) => confirm(client, owner, side, joiner), noWallet), words.admitted);
      const refuse = attempt(() => withdraw(client, side), words.differ);
      fill(state, h("p", {}, words.compare), h("p", { class: "code", "aria-label": words.words }, compared.join(" ")), facts([[words.person, contacts.whole(joiner, words.person)]]),
        h("p", {}, h("strong", {}, words.question)), h("div", { class: "actions" }, h("button", { type: "button", class: "danger", on: { click: refuse } }, words.no),
          h("button", { type: "button", class: "primary", on: { click: admit } }, words.yes)));
    }

    const sent = h("div", { class: "stack" }, h("p", {}, words.send), facts([
      [words.link, h("span", { class: "row" }, h("code", {}, shortened(link, 40, 6)), copyButton(link, words.link, true))],
      [words.line, h("span", { class: "row" }, h("code", {}, shortened(first.line, 24, 6)), copyButton(first.line, words.line, true))],
      [words.answerBy, time(endsAt(invitation))],
    ]));
    setTimeout(step);
    return h("div", { class: "stack" }, facts([[roles[role], secretsText(secrets)], [words.ends, time(end)]]), sent, state, failed);
  });
}
