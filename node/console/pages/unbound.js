// Values that do not state their name: found by opening them, shown, and bound.
import { fill, h, pageHead } from "../elements.js";
import { contactNames } from "../parts/contact_names.js";
import "../parts/copies.js"; // the texts about copies that could not be renewed
import { openDialog } from "../parts/dialog.js";
import { form } from "../parts/form.js";
import { hasUnseen, shownText } from "../parts/quoted.js";
import { banner, emptyState, failure, loading } from "../parts/states.js";
import { facts, progressBar, say, secretField, time } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { secrets as texts } from "../texts.js";
import { unbound as words } from "../texts_unbound.js";
import { base64 } from "../wire/bytes.js";
import { list, opened } from "../wire/secrets.js";
import { bind, check, isNote, isOfRunner } from "../wire/unbound.js";

export const title = words.title;
export const needsSession = true;

const MOST_NAMED = 20;

/**
 * @import { Client } from "../wire/client.js"
 * @import { Checked } from "../wire/unbound.js"
 * @import { ContactNames } from "../parts/contact_names.js"
 */

/** @param {Checked} row */
const nameOf = ({ value }) => (isNote(value) ? words.noteOf(value.label) : value.label);

/** @param {Checked} row @returns {["warn" | "bad" | "good", string]} */
function stateOf({ isBound, problem, twins }) {
  if (problem) return problem.code === "conflict" ? ["warn", words.states.changed] : ["bad", words.states.refused];
  if (isBound) return ["good", words.states.bound];
  return twins.length ? ["bad", words.states.twin] : ["warn", words.states.unbound];
}

/** @param {Checked} row @returns {boolean} whether it can be bound */
const isBindable = ({ isBound, problem, twins }) => !isBound && !problem && !twins.length;

/** @param {import("../app.js").Context} context */
export function render({ client, signal, parameters }) {
  const name = parameters.get("name");
  const contacts = contactNames(client);
  const body = h("div", { class: "stack" });
  const { element: bar, moved } = progressBar(words.checking);
  bar.hidden = true;

  async function checked() {
    bar.hidden = false;
    try {
      const all = await list(client);
      const wanted = name === null ? all : all.filter(({ label }) => label === name);
      return { isThere: name === null || wanted.length > 0, ofRunner: wanted.filter(isOfRunner).length, found: await check(client, all, wanted, moved) };
    } finally {
      bar.hidden = true;
    }
  }
  const start = () => {
    if (body.getAttribute("aria-busy") === "true") return;
    fill(body);
    button.classList.remove("primary"); // the results have one
    loading(body, checked, ({ isThere, ofRunner, found }) => {
      if (!isThere) return h("section", { class: "panel" }, emptyState({ icon: "search", title: words.absent(String(name)), text: words.absentText }));
      return [results(client, found, contacts), ofRunner > 0 && h("p", { class: "dim small" }, words.ofRunner(ofRunner))];
    }, { signal, lines: 3 });
  };
  const button = h("button", { class: "primary", on: { click: start } }, name === null ? words.checkAll : words.checkOne(name));
  return h("div", { class: "page" }, pageHead(words), h("div", { class: "row" }, button, name !== null && h("a", { class: "small", href: "#/unbound" }, words.checkAll)),
    h("p", { class: "dim small" }, words.receipts), bar, body, contacts.problem);
}

/** @param {Client} client @param {Checked[]} found @param {ContactNames} contacts */
function results(client, found, contacts) {
  const all = found.filter((one) => !one.isBound);
  if (!all.length) return h("section", { class: "panel" }, emptyState({ icon: "key", title: words.allBoundTitle, text: words.allBound(found.length) }));
  const ticked = new Set(all.filter(isBindable));
  const cells = /** @type {Record<string, (row: Checked) => import("../elements.js").Child>} */ ({
    tick: (row) => isBindable(row) && h("input", { type: "checkbox", "aria-label": words.select(nameOf(row)), checked: ticked.has(row), on: { change: () => {
      ticked.has(row) ? ticked.delete(row) : ticked.add(row);
      draw();
    } } }),
    stored: ({ storedAt }) => (storedAt ? time(storedAt) : words.notStated),
    writers: ({ writers }) => (writers.length ? words.others(writers.length) : words.you),
    state: (row) => h("span", { class: `chip ${stateOf(row)[0]}` }, stateOf(row)[1]),
  });
  const table = virtualTable({ label: words.title, widths: "1.2rem minmax(0, 2.4fr) minmax(0, 1fr) minmax(0, 1fr) 7rem 5.5rem", narrowWidths: "1.2rem minmax(0, 1fr) auto auto",
    key: (/** @type {Checked} */ { value }) => value.path, columns: [
      { title: words.columns.select, quiet: true, cell: cells.tick },
      { title: words.columns.name, cell: (row) => [h("span", { class: "mono", title: nameOf(row) }, nameOf(row)), h("span", { class: "narrow" }, (row.writers.length ? cells.writers : cells.stored)(row))] },
      { title: words.columns.stored, wide: true, cell: cells.stored },
      { title: words.columns.writers, wide: true, cell: cells.writers },
      { title: words.columns.state, cell: cells.state },
      { title: words.columns.actions, quiet: true, cell: (row) => h("button", { "aria-label": words.lookAt(nameOf(row)), on: { click: () => look(client, row, contacts) } }, words.look) },
    ] });
  const button = h("button", { class: "primary", on: { click: () => confirm() } });
  const count = h("p", { class: "dim small", "aria-live": "polite" });
  const draw = () => {
    button.hidden = ticked.size === 0;
    button.textContent = words.bind(ticked.size);
    count.textContent = words.found(found.length, all.filter((one) => !one.isBound && !one.problem).length, all.filter((one) => one.problem).length);
  };
  /** Draw a row anew, and untick it. @param {Checked} row @param {Partial<Checked>} now */
  const changed = (row, now) => {
    ticked.delete(row);
    all[all.indexOf(row)] = { ...row, ...now };
    table.show([...all]);
    draw();
  };
  const confirm = () => openDialog(`${words.bind(ticked.size)}?`, (close) => {
    const chosen = [...ticked];
    const { element: bar, moved } = progressBar(words.binding);
    bar.hidden = true;
    const names = chosen.slice(0, MOST_NAMED).map(nameOf).join(", ");
    const made = form({ fields: [], action: words.bind(chosen.length), cancel: close, intro: [h("p", {}, words.bindText), h("p", { class: "mono small" }, names + (chosen.length > MOST_NAMED ? ", …" : "")),
      h("p", { class: "dim small" }, words.compared), bar], submit: async () => {
      bar.hidden = false;
      let count = 0;
      let problem = null;
      for (const [at, row] of chosen.entries()) {
        if (!ticked.has(row) || !made.element.isConnected) continue; // an earlier try settled it, or the dialog was closed
        moved(at, chosen.length);
        try {
          await bind(client, row);
          changed(row, { isBound: true });
          count++;
        } catch (error) {
          problem = /** @type {import("../wire/errors.js").ConsoleError} */ (error);
          if (!["conflict", "not-found"].includes(problem.code)) throw problem;
          changed(row, { problem });
        }
      }
      if (problem) throw problem;
      close();
      if (count) say(words.done(count));
    } });
    return made.element;
  });
  table.show(all);
  draw();
  return [h("section", { class: "panel flush" }, table.element), h("div", { class: "row spread" }, count, button)];
}

/** One value on demand, with what is known about it. @param {Client} client @param {Checked} row @param {ContactNames} contacts */
function look(client, row, contacts) {
  const { value, problem, twins, storedAt, writers } = row;
  return openDialog(nameOf(row), () => {
    const written = h("span", { class: "dim" }, words.writtenLater);
    const field = secretField(async () => {
      const { value: read, updatedAt } = await opened(client, value);
      fill(written, time(updatedAt));
      return typeof read === "string" ? { text: read, shown: shownText(read), note: hasUnseen(read) && texts.unseen } : { text: base64(read), note: texts.bytes };
    }, (error) => failure(error));
    return h("div", { class: "stack" }, problem ? failure(problem) : field, twins.length > 0 && banner({ kind: "bad", title: words.twinTitle, text: words.twinText(twins.join(", ")) }), facts([
      [words.columns.stored, storedAt ? time(storedAt) : words.notStated],
      !problem && [words.written, written],
      [words.writers, writers.length ? writers.map((did) => h("div", {}, contacts.whole(did, words.writers))) : words.noWriters],
    ]), h("p", { class: "dim small" }, words.whoWrote));
  });
}
