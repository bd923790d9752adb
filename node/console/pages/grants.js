import { fill, h, icon, pageHead } from "../elements.js";
import { backendsPanel } from "../parts/backends.js";
import { buildLabels } from "../parts/builds.js";
import { contactNames } from "../parts/contact_names.js";
import { openDialog } from "../parts/dialog.js";
import { codeName } from "../parts/grant_code.js";
import { checkField, form } from "../parts/form.js";
import { signIns } from "../parts/holders.js";
import { nameBefore, quoted } from "../parts/quoted.js";
import { grantWords } from "../parts/rights.js";
import { isFound } from "../parts/search.js";
import { emptyState, loading } from "../parts/states.js";
import { copyField, facts, say, shortened, time } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { builds } from "../texts.js";
import { grants as words } from "../texts_grants.js";
import { canonicalText } from "../wire/canonical_json.js";
import * as wire from "../wire/grants.js";
import { signOut } from "../wire/session.js";

export const title = words.title;
export const needsSession = true;

const REFRESH_MS = 15_000;
const ALL = "*";
const CHIPS = /** @type {Record<string, string>} */ ({ active: "good", revoked: "bad", ancestor_revoked: "bad" });

/**
 * @import { Client } from "../wire/client.js"
 * @import { Grant } from "../wire/grants.js"
 */

/** @param {import("../app.js").Context} context */
export function render(context) {
  const { client, signal } = context;
  const body = h("div", { class: "stack" });
  const contacts = contactNames(client);
  const load = async () => {
    const all = await wire.list(client);
    return { all, names: await wire.appNames(client, all) };
  };
  loading(body, load, ({ all, names }) => grantsPanel(context, all, names, contacts), { signal });
  return h("div", { class: "page" },
    pageHead(words),
    body, contacts.problem, backendsPanel(context, contacts));
}

/** The ids of all grants that depend on a grant, directly or indirectly. @param {Grant[]} all @param {Grant} grant */
function restingOn(all, { cid }) {
  const found = new Set([cid]);
  for (let before = 0; before !== found.size;) {
    before = found.size;
    for (const one of all) if (one.parents.some((parent) => found.has(parent))) found.add(one.cid);
  }
  found.delete(cid);
  return found;
}

/** @param {Grant} grant */
const chip = ({ standing }) => h("span", { class: `chip ${CHIPS[standing] ?? ""}` }, Object.hasOwn(words.words, standing) ? words.words[standing] : standing);

/** @param {import("../app.js").Context} context @param {Grant[]} first @param {Map<string, string>} names @param {import("../parts/contact_names.js").ContactNames} contacts */
function grantsPanel({ client, signal, parameters }, first, names, contacts) {
  const { owner, grants: held } = client.session;
  const isHere = (/** @type {Grant} */ { cid }) => held.some((one) => one.cid === cid);
  let all = first;
  let refreshedAt = Date.now() / 1000;
  /** @type {{ cid: string, draw: () => void } | null} */
  let opened = null;
  /** @type {WeakMap<Grant, string>} */
  const texts = new WeakMap();
  const what = (/** @type {Grant} */ one) => h("span", {}, grantWords(one.rights, owner).map(({ said }, at) => [at > 0 && "; ", said]), buildLabels(wire.runOf(client, one)));
  const codeLabel = (/** @type {Grant} */ one) => { const code = codeName(all, one); return code && h("span", { class: "build" }, ` ${words.codeNamed(code)}`); };
  const textOf = (/** @type {Grant} */ one) => {
    const known = texts.get(one) ?? what(one).textContent;
    texts.set(one, known);
    return known;
  };
  const otherSide = (/** @type {Grant} */ one) => (one.direction === "received" ? one.delegator : one.delegate);
  const whoIs = (/** @type {Grant} */ one) => {
    const did = otherSide(one);
    if (isHere(one) || did === owner) return h("span", { class: "mono", title: did }, isHere(one) ? words.thisBrowser : words.you);
    return contacts.label(did, shortened(did, 14, 6));
  };

  const find = h("input", { type: "search", placeholder: words.find, "aria-label": words.find, value: parameters.get("find") ?? "", on: { input: () => search() } });
  const options = (/** @type {[string, string][]} */ named) => named.map(([value, name]) => h("option", { value }, name));
  const kind = h("select", { "aria-label": words.whose, on: { change: () => draw() } }, options(words.kinds));
  const standing = h("select", { "aria-label": words.standing, on: { change: () => draw() } }, options(words.standings));
  const count = h("p", { class: "dim small", "aria-live": "polite" });
  const stale = h("p", { class: "dim small", role: "status" });
  /** Updated in place, so that no element loses the focus. @type {WeakMap<Grant, HTMLElement>} */
  const chips = new WeakMap();
  const cell = (/** @type {Grant} */ one) => {
    const element = chip(one);
    chips.set(one, element);
    return element;
  };
  const table = virtualTable({ label: words.title, widths: "minmax(0, 1fr) minmax(0, 2.2fr) 7rem 6.5rem 5.5rem", narrowWidths: "minmax(0, 1fr) auto auto", rowHeightPx: 56, narrowRowHeightPx: 134,
    key: (one) => `${one.direction} ${one.cid}`, columns: [
      { title: words.columns.who, cell: (one) => [nameBefore(names.get(one.cid)), whoIs(one), codeLabel(one), wire.allowsUnbound(one) && h("span", { class: "build" }, ` ${words.unbound}`)] },
      { title: words.columns.what, below: true, cell: (one) => [h("span", { title: textOf(one) }, what(one)), one.expiresAt && h("span", { class: "narrow" }, words.ends, " ", time(one.expiresAt))] },
      { title: words.columns.until, wide: true, cell: (one) => (one.expiresAt ? time(one.expiresAt) : words.noEnd) },
      { title: words.columns.standing, cell },
      { title: words.details, quiet: true, cell: (one) => h("button", { "aria-label": words.detailsOf(shortened(otherSide(one)), shortened(one.cid, 8, 6)), on: { click: () => open(one.cid) } }, words.details) },
    ] });
  const isAsked = (/** @type {Grant} */ one) => isFound(find.value, [names.get(one.cid) ?? "", contacts.nameOf(otherSide(one)), textOf(one)], [otherSide(one), one.cid]);
  const clear = () => { if (!all.some(isAsked)) find.value = ""; standing.value = ALL; draw(); find.focus(); };
  const none = h("div", {});

  function draw() {
    const own = signIns(all, owner);
    const kindOf = (/** @type {Grant} */ one) => (one.direction === "received" ? "received" : own.has(one) || isHere(one) ? "own" : "others");
    const ofKind = all.filter((one) => kindOf(one) === kind.value);
    const matches = (/** @type {Grant} */ one) => [ALL, one.standing.replace("ancestor_", "")].includes(standing.value);
    const shown = ofKind.filter((one) => matches(one) && isAsked(one));
    table.element.hidden = shown.length === 0;
    none.hidden = shown.length > 0;
    if (!shown.length && kind.value === "others" && !ofKind.length) fill(none, emptyState({ icon: "share", title: words.emptyTitle, text: words.empty, actions: [h("a", { class: "button", href: "#/requests" }, words.toRequests)] }));
    else if (!shown.length) fill(none, emptyState({ icon: "search", title: words.noneTitle, text: words.none, actions: [h("button", { on: { click: clear } }, words.clear)] }));
    table.show(shown);
    const said = words.count(shown.length, ofKind.length);
    if (count.textContent !== said) count.textContent = said;
    opened?.draw();
  }

  /** Show the grants that the owner looks for. They may be found by a name, and the names may still be on their way. */
  function search() {
    draw();
    if (find.value) contacts.ready().then(() => signal.aborted || draw());
  }

  /** Update the list from the node's latest answer; unchanged rows keep their objects. @param {Grant[]} now */
  function take(now) {
    const before = new Map(all.map((one) => [`${one.direction} ${one.cid}`, one]));
    all = now.map((one) => {
      const known = before.get(`${one.direction} ${one.cid}`);
      if (!known) return one;
      if (known.standing !== one.standing) {
        Object.assign(known, one);
        const shown = chips.get(known);
        const now = chip(known);
        if (shown) shown.className = now.className, shown.textContent = now.textContent;
      }
      return known;
    });
    refreshedAt = Date.now() / 1000;
    fill(stale);
    draw();
  }

  let isAsking = false;
  async function refresh() {
    if (document.hidden || isAsking) return;
    isAsking = true;
    try {
      const now = await wire.list(client);
      names = await wire.appNames(client, now);
      if (!signal.aborted) take(now);
    } catch {
      fill(stale, words.stale(new Date(refreshedAt * 1000).toISOString())); // keep the list: the next refresh may succeed
    } finally {
      isAsking = false;
    }
  }
  const timer = setInterval(refresh, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  document.addEventListener("visibilitychange", refresh, { signal });

  /** The code that a grant approves, loaded when it is looked at. @param {Grant} one */
  function code(one) {
    const body = h("div", {});
    const load = async () => (await import("../parts/code_details.js")).codeOf({ all, own: wire.ownGrants(client, all), names }, one);
    loading(body, load, (element) => element, { signal, lines: 2 });
    return body;
  }

  /** @param {string} cid */
  async function open(cid) {
    let last = /** @type {Grant} */ (all.find((one) => one.cid === cid));
    const grant = () => (last = all.find((one) => one.cid === cid) ?? last); // the node removes old grants; show the last state
    await openDialog(words.grantTitle, () => {
      const now = h("div", { class: "row", "aria-live": "polite", tabIndex: -1 });
      const one = grant();
      const name = names.get(cid);
      const run = wire.runOf(client, one);
      const mine = signIns(all, owner);
      const button = h("button", { class: "danger", on: { click: () => revoke(grant()) } }, words.revoke);
      const below = restingOn(all, one).size;
      let said = "";
      const update = () => {
        const { standing: stands, revokedAt } = grant();
        if (said === stands) return;
        said = stands;
        fill(now, chip(grant()), revokedAt && time(revokedAt));
        if (one.direction === "granted" && ["active", "pending"].includes(stands)) return;
        if (document.activeElement === button) now.focus();
        button.hidden = true;
      };
      opened = { cid, draw: update };
      update();
      return h("div", { class: "stack" }, facts([
        [words.columns.standing, now],
        [words.columns.who, isHere(one) ? words.thisBrowser : contacts.whole(one.delegate, words.columns.who)],
        name && [words.calls, quoted(name)],
        [words.from, one.delegator === owner ? words.you : [mine.dids.has(one.delegator) && h("div", {}, words.yourSignIn), contacts.whole(one.delegator, words.from)]],
        [words.columns.what, h("ul", { class: "rights", role: "list" }, grantWords(one.rights, owner).map(({ resources, said }) => h("li", { title: resources }, said)))],
        run && [builds.programs, run.programs.map((rule) => h("div", {}, [rule.wasmSha256, rule.project].map((text) => text && h("div", {}, quoted(text, { mono: true, most: 200 }))), buildLabels({ programs: [rule] })))],
        run && [builds.terms, copyField(canonicalText(run), builds.terms)],
        one.issuedAt && [words.issued, time(one.issuedAt)],
        [words.columns.until, one.expiresAt ? time(one.expiresAt) : words.noEnd],
        one.direction === "granted" && !one.isSession && one.delegate !== owner && [words.code, code(one)],
        wire.allowsUnbound(one) && [words.unbound, words.unboundText],
        [words.parents, one.parents.length ? one.parents.map((parent) => h("div", {}, h("code", {}, parent))) : words.noParents],
        [words.below_, words.restOn(below)],
        [words.cid, copyField(cid, words.cid)],
      ]), h("div", { class: "actions" }, button));
    });
    opened = null;
    // The row that opened the dialog may have left the list.
    if (document.activeElement === document.body) (table.element.hidden ? find : table.element).focus();
  }

  /** @param {Grant} grant */
  function revoke(grant) {
    const isOwn = kind.value === "own";
    const [first, ...others] = isOwn ? [grant] : wire.endingWith(client, all, grant);
    const also = checkField({ name: "also", label: words.also(others.length), hint: words.alsoHint });
    also.input.checked = true;
    const ended = () => (also.input.checked ? [first, ...others] : [first]);
    const below = () => new Set(ended().flatMap((one) => [...restingOn(all, one)]));
    const isOurs = () => ended().some(isHere);
    const named = (/** @type {Grant} */ one) => h("li", {}, signIns(all, owner).has(one) ? words.itsSignIn : what(one), one.expiresAt && [", ", words.ends, " ", time(one.expiresAt)]);
    const text = isOwn ? words.ownText(below().size) : first === grant ? words.revokeText(shortened(grant.delegate), below().size) : words.signInText(below().size);
    return openDialog(words.revokeTitle, (close) => form({ intro: [h("p", {}, text, isOurs() && ` ${words.thisText}`), others.length > 0 && h("ul", { class: "rights", role: "list" }, others.map(named))],
      fields: others.length ? [also] : [], action: words.revoke, isDanger: true, cancel: close, submit: async () => {
        await wire.revoke(client, ended());
        close();
        say(words.revoked);
        if (isOurs()) {
          await signOut();
          location.hash = "#/connect";
          location.reload();
          return;
        }
        const revokedAt = new Date().toISOString();
        const [cids, rest] = [new Set(ended().map(({ cid }) => cid)), below()];
        take(all.map((one) => (cids.has(one.cid) ? { ...one, standing: "revoked", revokedAt }
          : rest.has(one.cid) && one.standing !== "revoked" ? { ...one, standing: "ancestor_revoked" } : one)));
      } }).element);
  }

  search();
  return [h("div", { class: "row" }, h("div", { class: "searching" }, icon("search"), find), h("div", {}, kind), h("div", {}, standing)),
    h("section", { class: "panel flush", "aria-label": words.title }, table.element, none), count, stale];
}
