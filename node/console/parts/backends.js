// Backends that received keys, their evidence, and withdrawing their code.
import { h } from "../elements.js";
import { typeWord } from "../texts.js";
import { grants as words } from "../texts_grants.js";
import * as wire from "../wire/backends.js";
import { appNames, list } from "../wire/grants.js";
import { addRights } from "../wire/session.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { nameBefore, quoted } from "./quoted.js";
import { emptyState, loading } from "./states.js";
import { copyField, facts, say, shortened, time } from "./values.js";
import { virtualTable } from "./virtual_table.js";
import { signedByOwner } from "./wallet_choices.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { Backend, Withdrawal } from "../wire/backends.js"
 * @typedef {{ label: string, entry: Withdrawal }} Choice
 */

/** @param {import("../app.js").Context} context @param {import("./contact_names.js").ContactNames} contacts */
export function backendsPanel({ client, signal }, contacts) {
  const body = h("section", { class: "panel flush", "aria-label": words.backends });
  const load = async () => {
    const found = await wire.list(client).catch((error) => {
      if (error.code !== "not-found" && error.code !== "network-not-found") throw error;
      return /** @type {Backend[]} */ ([]); // the network is created with the owner's first secret
    });
    return { found, names: found.length ? await namesOf(client) : new Map() };
  };
  loading(body, load, ({ found, names }) => {
    if (!found.length) return emptyState({ icon: "backend", title: words.noBackends, text: words.noBackendsText });
    const table = virtualTable({ label: words.backends, widths: "minmax(0, 2fr) minmax(0, 1fr) minmax(0, 1fr) 5.5rem", narrowWidths: "minmax(0, 1fr) 6.5rem auto",
      key: (one) => one.did, columns: [
        { title: words.backendColumns.who, cell: (one) => [nameBefore(names.get(one.did)), contacts.label(one.did)] },
        { title: words.backendColumns.last, cell: (one) => time(one.lastAt) },
        { title: words.backendColumns.releases, wide: true, cell: (one) => one.releases },
        { title: words.details, quiet: true, cell: (one) => h("button", { "aria-label": words.backendOf(shortened(one.did)), on: { click: () => open(client, one, names.get(one.did)) } }, words.details) },
      ] });
    table.show(found);
    return table.element;
  }, { signal, lines: 3 });
  const withdrawOther = h("button", { class: "danger", on: { click: () => withdrawal(client) } }, words.withdraw);
  return h("div", { class: "stack" }, h("div", {}, h("div", { class: "row spread" }, h("h2", {}, words.backends), withdrawOther), h("p", { class: "dim small" }, words.backendsLead)), body);
}

/** The names of apps by DID, from the latest grant that has one. @param {Client} client @returns {Promise<Map<string, string>>} */
async function namesOf(client) {
  const all = await list(client, { direction: "granted" });
  const names = await appNames(client, all);
  return new Map(all.filter(({ cid }) => names.has(cid)).reverse().map(({ cid, delegate }) => [delegate, /** @type {string} */ (names.get(cid))]));
}

/** @param {Client} client @param {Backend} backend @param {string | undefined} name */
function open(client, backend, name) {
  return openDialog(words.backendTitle, (close) => {
    const { evidence: judged } = backend;
    const body = h("div", {});
    const load = async () => ({ evidence: await wire.evidenceOf(client, backend), ...(await import("./approved_code.js")) });
    loading(body, load, ({ evidence, composeChoice }) => [
      h("h3", {}, words.evidence),
      facts([
        ...words.fields.map(([name, label]) => /** @type {[string, Element]} */ ([label, shown(evidence?.[name], label)])),
        [words.attested, typeof evidence?.attested_at === "number" ? time(evidence.attested_at) : "–"],
        [words.root, shown(evidence?.root_ca_sha256, words.root)],
      ]),
      typeof evidence?.compose_hash === "string" && composeChoice(() => [evidence.compose_hash]).element,
      h("div", { class: "actions" }, h("button", { class: "danger", on: { click: () => withdrawal(client, choicesOf(backend, evidence ?? {})) } }, words.withdraw)),
    ]);
    return h("div", { class: "stack" }, facts([
      name && [words.calls, quoted(name)],
      [words.did, copyField(backend.did, words.did)],
      [words.backendColumns.last, time(backend.lastAt)],
      [words.backendColumns.releases, backend.releases],
      [words.its, h("a", { href: `#/grants?find=${encodeURIComponent(backend.did)}`, on: { click: close } }, words.showIts)],
    ]), judged && body);
  });
}

/** @param {unknown} value a member of evidence @param {string} label */
function shown(value, label) {
  const text = Array.isArray(value) ? value.join(", ") : String(value ?? "");
  return /^[0-9a-f]{32,}$/.test(text) ? copyField(text, label) : h("bdi", {}, text || words.none_);
}

/** @param {Backend} backend @param {{[field: string]: any}} evidence @returns {Choice[]} what can be withdrawn, the narrowest code first */
function choicesOf({ did, evidence: judged }, evidence) {
  const code = ["compose_hash", "rtmr3", "mrtd"].filter((name) => typeof evidence[name] === "string" && !/^0*$/.test(evidence[name]));
  const choices = code.map((name) => ({ label: words.choices[name], entry: /** @type {Withdrawal} */ ({ measurement: evidence[name] }) }));
  choices.push({ label: words.choices.did, entry: { did } });
  if (judged) choices.push({ label: words.choices.evidence, entry: { evidence: judged.record } });
  return choices;
}

/** Withdraw code or a backend after the user types a confirmation. @param {Client} client @param {Choice[]} [choices] if absent, the user types the value */
export function withdrawal(client, choices) {
  const { session } = client;
  const named = choices?.map(({ label }) => label) ?? Object.values(words.kindsOf);
  const what = h("select", { id: "withdraw-what", on: { change: () => show() } }, named.map((label, at) => h("option", { value: at }, label)));
  const value = textField({ name: "value", label: words.value, hint: choices ? "" : words.valueHint, rows: 2, mono: true, check: (said) => (said.trim() ? "" : words.valueBad) });
  const whom = h("span", { "aria-live": "polite" });
  const show = () => {
    if (choices) value.input.value = Object.values(choices[Number(what.value)].entry)[0];
    whom.textContent = words.withdrawWhos[choices ? Object.keys(choices[Number(what.value)].entry)[0] : Object.keys(words.kindsOf)[Number(what.value)]];
  };
  value.input.readOnly = Boolean(choices);
  show();
  const typed = textField({ name: "word", label: typeWord(words.word), mono: true, check: (said) => (said.trim() === words.word ? "" : typeWord(words.word)) });
  const chosen = { name: "what", input: what, element: h("div", { class: "field" }, h("label", { for: "withdraw-what" }, words.what), what), judge: () => "", refuse: () => {} };
  return openDialog(words.withdrawTitle, (close) => {
    const submit = async () => {
      const kind = Object.keys(words.kindsOf)[Number(what.value)];
      const entry = choices ? choices[Number(what.value)].entry : /** @type {Withdrawal} */ ({ [kind]: value.input.value.trim() });
      const rights = wire.withdrawalRights(session.owner);
      const isHeld = session.grants.some(({ capabilities }) => rights.every((right) => capabilities.some((one) => one.resource === right.resource && one.ability === right.ability)));
      const isDone = isHeld || await signedByOwner(session, words.withdrawWhy, (owner) => addRights(session, owner, rights));
      if (!isDone) return;
      await wire.withdraw(client, entry);
      close();
      say(words.withdrawn);
    };
    return form({ intro: facts([[words.withdrawWho, whom], ...words.withdrawTexts]), fields: [chosen, value, typed], action: words.withdraw, isDanger: true, cancel: close, submit }).element;
  });
}
