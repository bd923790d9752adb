import { fill, h, icon, pageHead } from "../elements.js";
import { confirmByWord, openDialog } from "../parts/dialog.js";
import { form, textField } from "../parts/form.js";
import { holders } from "../parts/holders.js";
import { runnerUrl } from "../parts/known_node.js";
import { noteSection } from "../parts/note.js";
import { hasUnseen, shownText } from "../parts/quoted.js";
import { banner, emptyState, failure, loading } from "../parts/states.js";
import { download, facts, say, secretField, time } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { secrets as words } from "../texts.js";
import { base64 } from "../wire/bytes.js";
import { ALPHABETS, generate } from "../wire/generated_values.js";
import * as wire from "../wire/secrets.js";

export const title = words.title;
export const needsSession = true;

const ALL = "*";

/**
 * @typedef {import("../wire/secrets.js").SecretName} Row
 * @import { Client } from "../wire/client.js"
 */

const ORDER = new Intl.Collator("en", { numeric: true });
/** @param {Row} one @param {Row} other */
const byScope = (one, other) => ORDER.compare(one.scope ?? "", other.scope ?? "") || ORDER.compare(one.name, other.name);

/**
 * What a person may do with the listed secrets; an owner may do everything.
 * @typedef {{ write: boolean, all: boolean, own: boolean, holders: boolean, words: typeof import("../texts_team_secrets.js").teamSecrets | null }} May `all`: use secrets that are not listed; `holders`: see who may open one
 * @param {Client} client @returns {Promise<May>}
 */
async function mayOf({ session: { member } }) {
  if (!member) return { write: true, all: true, own: true, holders: true, words: null };
  const { role, secrets } = member;
  return { write: role !== "reader", all: !secrets.length, own: false, holders: role === "admin", words: (await import("../texts_team_secrets.js")).teamSecrets };
}

/** @param {import("../app.js").Context} context */
export async function render(context) {
  const { client, signal, parameters } = context;
  const may = await mayOf(client);
  /** @type {Row[]} */
  let all = [];
  const body = h("div", { class: "stack" });
  const reload = () => loading(body, () => wire.list(client), content, { signal });

  const find = h("input", { type: "search", placeholder: words.find, "aria-label": words.find, on: { input: () => draw() } });
  const scope = h("select", { "aria-label": words.scopeFilter, on: { change: () => draw() } });
  const count = h("p", { class: "dim small", "aria-live": "polite" });
  const changes = lastChanges(client);
  /** Paths of the rows that are ticked. @type {Set<string>} */
  const ticked = new Set();
  const tick = (/** @type {Row} */ row) => {
    const box = h("input", { type: "checkbox", "aria-label": words.select(row.label), checked: ticked.has(row.path), data: { tick: row.path }, on: { change: () => {
      box.checked ? ticked.add(row.path) : ticked.delete(row.path);
      showTicked();
    } } });
    return box;
  };
  const ticks = may.write ? "1.2rem" : "";
  const table = virtualTable({ label: words.title, widths: `${ticks} minmax(0, 3fr) minmax(0, 1.2fr) minmax(0, 1fr) 5.5rem`, narrowWidths: `${ticks} minmax(0, 1fr) auto`,
    key: (row) => row.label, columns: [
      ...(may.write ? [{ title: words.columns.select, quiet: true, cell: tick }] : []),
      { title: words.columns.name, cell: (row) => [h("span", { class: "mono", title: row.name }, row.name), h("span", { class: "narrow" }, row.scope ?? words.global, " · ", changes.cell(row))] },
      { title: words.columns.scope, wide: true, cell: (row) => h("span", { class: "chip" }, row.scope ?? words.global) },
      { title: words.columns.changed, wide: true, cell: changes.cell },
      { title: words.columns.actions, quiet: true, cell: (row) => h("button", { "aria-label": words.openOf(row.label), on: { click: () => open(row) } }, words.open) },
    ] });
  const none = emptyState({ icon: "search", title: words.noneFound, text: words.noneFoundText, actions: [
    h("button", { on: { click: () => { find.value = ""; scope.value = ALL; draw(); find.focus(); } } }, words.clear)] });
  const all_ = h("input", { type: "checkbox", id: "tick-all", on: { change: () => {
    for (const { path } of shown) all_.checked ? ticked.add(path) : ticked.delete(path);
    showTicked();
  } } });
  const removeTicked = h("button", { class: "danger", on: { click: async () =>
    (await import("./secrets_delete.js")).deleteMany(client, all.filter(({ path }) => ticked.has(path)), reload) } });
  const listed = h("div", { class: "stack" }, h("div", { class: "row spread" }, h("div", { class: "searching" }, icon("search"), find), h("div", {}, scope)),
    h("section", { class: "panel flush" }, table.element, none),
    h("div", { class: "row spread" }, h("div", { class: "row" }, may.write && h("div", { class: "check" }, all_, h("label", { for: "tick-all" }, words.selectAll)), count), removeTicked));
  /** @type {Row[]} the rows that fit the search and the scope */
  let shown = [];
  function showTicked() {
    for (const box of table.element.querySelectorAll("[data-tick]")) box.checked = ticked.has(box.dataset.tick);
    const some = shown.filter(({ path }) => ticked.has(path)).length;
    [all_.checked, all_.indeterminate] = [some > 0 && some === shown.length, some > 0 && some < shown.length];
    removeTicked.hidden = ticked.size === 0;
    removeTicked.textContent = words.removeMany(ticked.size);
  }

  function draw() {
    const asked = find.value.trim().toUpperCase();
    const rows = all.filter((row) => row.name.includes(asked) && (scope.value === ALL || (row.scope ?? "") === scope.value));
    shown = rows;
    table.element.hidden = rows.length === 0;
    none.hidden = rows.length > 0;
    table.show(rows);
    showTicked();
    count.textContent = words.count(rows.length, all.length);
  }

  /** The list; it keeps the current search and selection. @param {Row[]} rows */
  function content(rows) {
    const known = new Map(all.map((one) => [one.path, one]));
    all = rows.map((one) => Object.assign(known.get(one.path) ?? one, one)).sort(byScope);
    const paths = new Set(all.map(({ path }) => path));
    for (const path of ticked) if (!paths.has(path)) ticked.delete(path);
    changes.again();
    const [, chain] = /^did:pkh:eip155:(\d+):/.exec(client.session.owner) ?? [];
    if (!all.length) return h("section", { class: "panel" }, emptyState({ icon: "key", title: words.emptyTitle, text: may.words?.empty ?? words.empty + (chain ? words.emptyChain(chain) : "") }));
    const scopes = [...new Set(all.map((one) => one.scope ?? ""))].sort();
    const before = known.size ? scope.value : parameters.get("scope") ?? ALL;
    fill(scope, h("option", { value: ALL }, words.allScopes), scopes.map((one) => h("option", { value: one, selected: before === one }, one || words.global)));
    draw();
    return listed;
  }

  const add = () => edit(client, may, all, null, reload);
  const restore = async () => (await import("../parts/versions.js")).restoreDeleted(client, reload);
  const addMany = async () => (await import("./secrets_many.js")).addMany(client, all, reload);
  /** @param {Row} row */
  const open = (row) => openSecret(client, may, all, row, changes.of(row), reload);
  reload();
  const below = may.write && h("div", {}, h("button", { class: "plain small", on: { click: restore } }, words.restore), " ", may.own && h("a", { class: "small", href: "#/unbound" }, words.findUnbound));
  const lead = may.words ? `${may.words[client.session.member?.role ?? ""]} ${may.all ? "" : may.words.listed}` : words.lead;
  return h("div", { class: "page" },
    pageHead({ ...words, lead },
      may.write && h("div", { class: "row" }, h("button", { class: "primary", on: { click: add } }, icon("plus"), words.add), may.all && h("button", { on: { click: addMany } }, words.many.add))), body, below);
}

/**
 * The last changes of listed secrets. The rows that are drawn at one time are asked for together.
 * @param {Client} client
 */
function lastChanges(client) {
  /** @type {Map<string, string>} */
  const known = new Map();
  /** @type {Set<string>} */
  let waiting = new Set();
  const shown = (/** @type {string} */ path) => { const when = known.get(path); return when === undefined ? "" : when ? time(when) : words.notStated; };
  const draw = (/** @type {Set<string>} */ paths) => {
    for (const cell of document.querySelectorAll("[data-changed]")) {
      const { changed = "" } = /** @type {HTMLElement} */ (cell).dataset;
      if (paths.has(changed)) fill(cell, shown(changed));
    }
  };
  const ask = async () => {
    const asked = waiting;
    waiting = new Set();
    const found = await wire.lastChanges(client, [...asked]).catch(() => null);
    if (!found) return; // the list is useful without it
    for (const path of asked) known.set(path, found.get(path) ?? "");
    draw(asked);
  };
  const want = (/** @type {string} */ path) => {
    if (!waiting.size) setTimeout(ask);
    waiting.add(path);
  };
  return {
    /** @param {Row} row */
    of: (row) => known.get(row.path),
    /** @param {Row} row */
    cell(row) {
      if (!known.has(row.path)) want(row.path);
      return h("span", { class: "dim", data: { changed: row.path } }, shown(row.path));
    },
    /** Ask anew for what is drawn, after a change. */
    again() {
      known.clear();
      for (const cell of document.querySelectorAll("[data-changed]")) want(/** @type {HTMLElement} */ (cell).dataset.changed ?? "");
    },
  };
}

/** @param {Client} client @param {May} may @param {Row[]} all @param {Row} row @param {string | undefined} when it was changed last, if that is known @param {() => void} reload */
function openSecret(client, may, all, row, when, reload) {
  return openDialog(row.label, (close) => {
    const unbound = h("div", { "aria-live": "polite" });
    const changed = h("span", { class: "dim" }, when ? time(when) : words.updatedLater);
    const field = secretField(async () => {
      const opened = await wire.reveal(client, row.scope, row.name);
      fill(changed, time(opened.updatedAt));
      fill(unbound, !opened.isBound && banner({ kind: "warn", title: words.unbound, text: words.unboundText, action: may.own ? { label: words.bind, run: () => { location.hash = `#/unbound?name=${row.label}`; } } : undefined }));
      const { value } = opened;
      return typeof value === "string" ? { text: value, shown: shownText(value), note: hasUnseen(value) && words.unseen } : { text: base64(value), note: words.bytes,
        action: h("button", { type: "button", on: { click: () => download(value, row.name) } }, words.download) };
    }, (error) => failure(error));
    const versions = async () => { close(); (await import("../parts/versions.js")).showVersions(client, row, reload); };
    const share = async () => { close(); (await import("../parts/share.js")).shareSecret(client, row); };
    const replace = () => { close(); edit(client, may, all, row, reload); };
    const remove = async () => {
      close();
      const isDone = await confirmByWord({ title: words.removeTitle(row.label), text: words.removeText, word: row.name, action: words.remove,
        run: async () => (await import("../wire/sharing.js")).removeWithCopies(client, row) });
      if (!isDone) return;
      say(words.removed(row.label));
      reload();
    };
    const isProtected = row.name.startsWith(wire.PROTECTED);
    return h("div", { class: "stack" }, isProtected ? h("p", {}, words.isProtected) : [field, unbound], facts([[words.scope, row.scope ?? words.global], [words.updated, changed]]),
      may.all && noteSection(client, row, reload, may.words ?? undefined), may.holders ? holders(client, row.path) : h("p", { class: "dim small" }, may.words?.holders),
      may.write && h("div", { class: "actions" }, h("button", { class: "danger", on: { click: remove } }, words.remove), !isProtected && [h("button", { on: { click: versions } }, words.versions), may.own && h("button", { on: { click: share } }, words.share), h("button", { on: { click: replace } }, words.replace)]));
  });
}

/** Add a secret, or replace the value of one. @param {Client} client @param {May} may @param {Row[]} all @param {Row | null} row @param {() => void} reload */
function edit(client, may, all, row, reload) {
  const listed = client.session.member?.secrets ?? [];
  const isListed = (/** @type {string} */ label) => may.all || listed.includes(label);
  const name = textField({ name: "name", label: words.name, hint: words.nameHint, mono: true, check: (said) =>
    !said.trim() ? words.nameMissing : !wire.NAME_PATTERN.test(said.trim()) ? words.nameBad : said.trim().startsWith(wire.PROTECTED) ? words.nameProtected : all.some((one) => one.name === said.trim() && (one.scope ?? "") === scope.input.value.trim()) ? words.nameTaken : isListed([scope.input.value.trim(), said.trim()].filter(Boolean).join("/")) ? "" : may.words?.notListed ?? "" });
  const scope = textField({ name: "scope", label: words.scope, hint: words.scopeHint, mono: true, suggestions: [...new Set(all.flatMap((one) => one.scope ?? []))],
    check: (said) => (wire.isScope(said.trim()) ? "" : words.scopeBad) });
  // Correct the spelling as it is typed: `stripe key` becomes STRIPE_KEY, and the scope `Mail` becomes mail.
  /** @param {HTMLInputElement} input @param {(said: string) => string} written returns a text of the same length */
  const spelled = (input, written) => input.addEventListener("input", () => {
    const { selectionStart: at } = input;
    input.value = written(input.value);
    input.setSelectionRange(at, at);
  }, { capture: true });
  spelled(name.input, (said) => said.replace(/[a-z]/g, (one) => one.toUpperCase()).replace(/[ -]/g, "_"));
  spelled(scope.input, (said) => said.replace(/[A-Z]/g, (one) => one.toLowerCase()).replace(/[ _]/g, "-"));
  const value = textField({ name: "value", label: words.value, hint: words.valueHint, rows: 4, mono: true, secret: true, beside: generator((made) => { value.input.value = made; value.judge(); }),
    check: (said) => (said ? "" : words.valueMissing) });
  /** @type {ReturnType<typeof form>} */
  let made;
  let isSure = false;
  let isUnknown = false; // an earlier try got no answer: it may have been stored
  // Replace only the version that existed when the form was opened.
  const version = row ? wire.version(client, row.scope, row.name) : Promise.resolve("");
  version.catch(() => {}); // the error is reported when the form is sent
  /** What this form has stored already; the copies may be left to do. */
  let stored = { value: "", etag: "" };
  const people = h("div");
  const copies = row && import("../parts/copies.js").then(({ copiesOf }) => copiesOf(client, row));
  copies?.then(({ element }) => fill(people, element)).catch(() => {}); // likewise
  return openDialog(row ? words.replaceTitle(row.label) : words.addTitle, (close) => {
    made = form({ fields: row ? [value] : [name, scope, value], intro: row && people, action: words.save, cancel: close, resends: true, submit: async (said) => {
      const target = row ?? wire.secretName(said.scope.trim() || null, said.name);
      const conditions = row ? { ifMatch: isSure ? undefined : stored.etag || await version } : { ifAbsent: true };
      try {
        if (stored.etag === "" || stored.value !== said.value) stored = { value: said.value, etag: await wire.put(client, target.scope, target.name, said.value, conditions) };
      } catch (error) {
        const { code } = /** @type {any} */ (error);
        isUnknown ||= code === "node-unreachable";
        if (code !== "conflict") throw error;
        isSure = row !== null;
        (row ? value : name).refuse(row ? words.changed : isUnknown ? words.nameOurs : words.nameTaken);
        return;
      }
      const renewed = await (await copies)?.renew(said.value); // SH6: after the write, which has a condition
      close();
      say(renewed || words.saved(target.label));
      reload();
    } });
    const inRunner = async () => {
      const typed = { name: name.input.value, scope: scope.input.value };
      const { generateInRunner } = await import("../parts/generated.js");
      close();
      generateInRunner(client, typed, reload);
    };
    if (!row && runnerUrl && may.own) made.element.querySelector(".generator")?.append(h("button", { type: "button", class: "plain", on: { click: inRunner } }, words.inRunner));
    return made.element;
  }, { mayClose: () => made.mayClose() });
}

/** Fields for length and alphabet, and a button that generates a value. @param {(value: string) => void} use */
function generator(use) {
  const length = h("input", { type: "number", class: "length", min: 16, max: 1024, value: "32", "aria-label": words.length });
  const alphabet = h("select", { "aria-label": words.alphabet }, Object.keys(ALPHABETS).map((one) => h("option", { value: one }, words.alphabets[one])));
  const draw = () => {
    length.value = String(Math.min(1024, Math.max(16, Math.trunc(length.valueAsNumber) || 32)));
    use(generate(Number(length.value), alphabet.value));
    say(words.generated(length.value));
  };
  return h("div", { class: "row generator" }, length, alphabet, h("button", { type: "button", on: { click: draw } }, words.generate));
}
