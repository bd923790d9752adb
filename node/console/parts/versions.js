// Former values of a secret: shown, stored again, and restored after a deletion.
import { h } from "../elements.js";
import { secrets as texts } from "../texts.js";
import { versions as words } from "../texts_versions.js";
import { base64 } from "../wire/bytes.js";
import { isScope, NAME_PATTERN, secretName } from "../wire/secrets.js";
import { revealVersion, rollback, versions } from "../wire/versions.js";
import { contactNames } from "./contact_names.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { hasUnseen, shownText } from "./quoted.js";
import { failure, loading } from "./states.js";
import { facts, say, secretField, time } from "./values.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { ContactNames } from "./contact_names.js"
 * @import { Version } from "../wire/kv.js"
 * @import { SecretName } from "../wire/secrets.js"
 */

/** @param {number | null} when */
const timeOr = (when) => (when === null ? words.notStated : time(when));

/** Who stored a version, as the node states it (M62); the own wallet is "you". @param {Client} client @param {ContactNames} contacts @param {Version} one */
const storerOf = (client, contacts, { storedBy }) => {
  if (storedBy === null) return words.notStated;
  return storedBy === client.own.session.owner ? h("span", { class: "mono", title: storedBy }, words.you) : contacts.label(storedBy);
};

/** The dialog of a secret's versions. @param {Client} client @param {SecretName} secret @param {() => void} reload */
export function showVersions(client, secret, reload) {
  return openDialog(words.title(secret.label), (close) => {
    const body = h("div", {});
    const contacts = contactNames(client);
    const row = (/** @type {Version} */ one) => h("li", { class: "row spread" }, h("div", {}, words.version(one.version), " ", one.isCurrent && h("span", { class: "chip good" }, words.current),
      h("p", { class: "dim small" }, `${words.stored} `, timeOr(one.storedAt), one.storedBy !== null && [` ${words.by} `, storerOf(client, contacts, one)], !one.isCurrent && [`, ${words.replaced} `, timeOr(one.replacedAt)])),
    h("button", { type: "button", "aria-label": words.openOf(one.version), on: { click: () => openVersion(client, contacts, secret, one, () => { close(); reload(); }) } }, words.open));
    loading(body, () => versions(client, secret), (found) => [h("ul", { class: "versions", role: "list" }, found.map(row)), found.length === 1 && h("p", { class: "dim" }, words.only)], { lines: 3 });
    return h("div", { class: "stack" }, h("p", { class: "dim small" }, words.lead), contacts.problem, body);
  });
}

/** One version, with its value on demand. @param {Client} client @param {ContactNames} contacts @param {SecretName} secret @param {Version} one @param {() => void} done */
function openVersion(client, contacts, secret, one, done) {
  const { version, storedAt, replacedAt, isCurrent } = one;
  return openDialog(`${secret.label}, ${words.version(version)}`, (close) => {
    const field = secretField(async () => {
      const { value, isBound } = await revealVersion(client, secret, version);
      const note = isBound ? "" : `${texts.unbound}. `;
      return typeof value === "string" ? { text: value, shown: shownText(value), note: note + (hasUnseen(value) ? texts.unseen : "") } : { text: base64(value), note: note + texts.bytes };
    }, (error) => failure(error));
    const intro = [field, facts([[words.storedAt, timeOr(storedAt)], [words.storedBy, storerOf(client, contacts, one)], !isCurrent && [words.replacedAt, timeOr(replacedAt)]])];
    if (isCurrent) return h("div", { class: "stack" }, intro);
    return form({ intro: [...intro, h("p", { class: "dim small" }, words.againText)], fields: [], action: words.again, cancel: close, submit: async () => {
      await rollback(client, secret, version);
      close();
      done();
      say(words.rolledBack(version, secret.label));
    } }).element;
  });
}

/** The dialog that restores a deleted secret by its name. @param {Client} client @param {() => void} reload */
export function restoreDeleted(client, reload) {
  const name = textField({ name: "name", label: texts.name, hint: texts.nameHint, mono: true, check: (said) => (NAME_PATTERN.test(said.trim()) ? "" : texts.nameBad) });
  const scope = textField({ name: "scope", label: texts.scope, hint: texts.scopeHint, mono: true, check: (said) => (isScope(said.trim()) ? "" : texts.scopeBad) });
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(words.restoreTitle, (close) => {
    made = form({ intro: h("p", { class: "dim small" }, words.restoreText), fields: [name, scope], action: words.restore, cancel: close, submit: async (said) => {
      const secret = secretName(said.scope.trim() || null, said.name);
      try {
        await rollback(client, secret, null);
      } catch (error) {
        const { code } = /** @type {any} */ (error);
        if (code !== "conflict" && code !== "not-found") throw error;
        return name.refuse(code === "conflict" ? words.notDeleted : words.notKept);
      }
      close();
      say(words.restored(secret.label));
      reload();
    } });
    return made.element;
  }, { mayClose: () => made.mayClose() });
}
