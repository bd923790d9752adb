// The note that an owner writes about a secret.
import { fill, h } from "../elements.js";
import { secrets as words } from "../texts.js";
import * as wire from "../wire/secrets.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { hasUnseen, shownText } from "./quoted.js";
import { loading } from "./states.js";
import { say } from "./values.js";

const MOST_CHARS = 2000;

/**
 * @import { Client } from "../wire/client.js"
 * @import { SecretName } from "../wire/secrets.js"
 * @typedef {{ text: string, etag: string, isBound: boolean }} Note
 */

/**
 * The note of a secret, with a button that changes it.
 * @param {Client} client @param {SecretName} secret @param {() => void} changed
 * @param {Record<string, any>} [texts] with `noteField` and `noteHint`, which say who reads it; default: those for the owner
 */
export function noteSection(client, secret, changed, texts = words) {
  const body = h("div", { class: "stack tight" });
  const mayWrite = client.session.member?.role !== "reader";
  const load = () => loading(body, async () => (secret.hasNote ? wire.noteOf(client, secret) : null), (note) => [
    note && h("p", { class: "note" }, shownText(note.text)), note && !note.isBound && h("p", { class: "small" }, words.noteUnbound), note && hasUnseen(note.text) && h("p", { class: "dim small" }, words.unseen),
    mayWrite && h("div", { class: "row" }, h("button", { type: "button", on: { click: () => edit(note) } }, note ? words.editNote : words.addNote))], { lines: 1 });

  /** @param {Note | null} note */
  function edit(note) {
    const text = textField({ name: "note", label: texts.noteField, hint: texts.noteHint, rows: 4, value: note?.text,
      check: (said) => (said.length > MOST_CHARS ? words.noteLong(said.length, MOST_CHARS) : "") });
    /** @type {ReturnType<typeof form>} */
    let made;
    return openDialog(note ? words.editNote : words.addNote, (close) => {
      made = form({ fields: [text], action: words.saveNote, cancel: close, resends: true, submit: async (said) => {
        await wire.putNote(client, secret, said.note.trim(), note?.etag ?? null);
        secret.hasNote = Boolean(said.note.trim());
        close();
        say(words.noteSaved);
        fill(body);
        load();
        changed();
      } });
      return made.element;
    }, { mayClose: () => made.mayClose() });
  }

  load();
  return h("section", { class: "stack tight", "aria-label": words.note }, h("h3", {}, words.note), body);
}
