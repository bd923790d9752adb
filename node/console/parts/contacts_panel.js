// The names that the owner gives to DIDs: add, rename and remove.
import { fill, h } from "../elements.js";
import { contactsPanel as words } from "../texts_contacts.js";
import { principalOf } from "../wire/did.js";
import { add, isContactDid, isName, read, remove, rename } from "../wire/contacts.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { loading } from "./states.js";
import { copyField, facts, say, shortened } from "./values.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { Contact } from "../wire/contacts.js"
 */

const nameField = (value = "") => textField({ name: "name", label: words.name, hint: words.nameHint, value, mono: true, check: (said) => (isName(said.trim()) ? "" : words.nameBad) });

/**
 * The list of contacts, with forms that change it.
 * @param {Client} client @param {AbortSignal} signal @param {() => void} changed called after a change
 */
export function contactsPanel(client, signal, changed) {
  const body = h("div", {});
  const reload = () => loading(body, () => read(client), ({ contacts }) => list(contacts), { signal, lines: 2 });

  /** @param {Contact[]} contacts */
  const list = (contacts) => contacts.length > 0 ? h("ul", { class: "versions", role: "list" }, contacts.map(row)) : h("p", { class: "dim" }, words.none);

  /** @param {Contact} contact */
  const row = (contact) => h("li", { class: "row spread wraps", data: { did: contact.did } },
    h("span", { class: "mono", title: contact.did }, h("strong", {}, contact.name), ` (${shortened(contact.did, 18, 6)})`),
    h("div", { class: "row" }, h("button", { "aria-label": words.renameTitle(contact.name), on: { click: () => renamed(contact) } }, words.rename),
      h("button", { class: "danger", "aria-label": words.removeTitle(contact.name), on: { click: () => removed(contact) } }, words.remove)));

  /**
   * Ask, change the list, and show it.
   * @param {string} title @param {{ fields: import("./form.js").Field[], intro?: import("../elements.js").Child, action: string, isDanger?: boolean }} asked
   * @param {(said: Record<string, string>) => Promise<unknown>} work @param {string} done
   */
  function asking(title, asked, work, done) {
    return openDialog(title, (close) => form({ ...asked, cancel: close, submit: async (said) => {
      const stored = await work(said);
      close();
      say(done);
      fill(body, list(/** @type {{ contacts: Contact[] }} */ (stored).contacts));
      changed();
    } }).element);
  }

  const added = () => {
    const did = textField({ name: "did", label: words.did, hint: words.didHint, mono: true, check: (said) => (isContactDid(principalOf(said.trim())) ? "" : words.didBad) });
    return asking(words.add, { fields: [nameField(), did], action: words.save }, (said) => add(client, said.name.trim(), said.did.trim()), words.saved);
  };
  const renamed = (/** @type {Contact} */ { name, did }) => asking(words.renameTitle(name), { intro: facts([[words.did, copyField(did, words.did)]]), fields: [nameField(name)], action: words.save },
    (said) => rename(client, name, said.name.trim()), words.saved);
  const removed = (/** @type {Contact} */ { name, did }) => asking(words.removeTitle(name), { intro: [facts([[words.did, copyField(did, words.did)]]), h("p", {}, words.removeText)], fields: [], action: words.remove, isDanger: true },
    () => remove(client, name), words.removed);

  reload();
  return h("section", { class: "panel stack tight", "aria-label": words.title }, h("div", { class: "row spread" }, h("h2", {}, words.title), h("button", { on: { click: added } }, words.add)),
    h("p", { class: "dim small" }, words.lead), body);
}
