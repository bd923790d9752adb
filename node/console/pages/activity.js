import { fill, h, icon, pageHead } from "../elements.js";
import { openDialog } from "../parts/dialog.js";
import { emptyState, failure, loading } from "../parts/states.js";
import { nameBefore, quoted } from "../parts/quoted.js";
import { copyField, download, facts, say, shortened, time } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { activity as words } from "../texts_activity.js";
import { hex, sha256, utf8 } from "../wire/bytes.js";
import { canonicalBytes } from "../wire/canonical_json.js";
import { networkId } from "../wire/did.js";
import * as grants from "../wire/grants.js";
import * as wire from "../wire/receipts.js";

export const title = words.title;
export const needsSession = true;

const MOST_RECEIPTS = 20_000;
const MOST_POLICIES = 100; // different policies; each costs a request. Beyond this number the list does not name the secret
const IN_PERSON = ["owner", "owner_session"];
const SECRET = /\/kv\/vault\/secrets\/(?:scoped\/)?([^/]+(?:\/[^/]+)?)$/;

/**
 * @import { Client } from "../wire/client.js"
 * @import { Receipt } from "../wire/receipts.js"
 * @typedef {{ receipt: Receipt, secrets: string[], name: string | undefined }} Row `name`: what the app calls itself
 */

/** @param {import("../app.js").Context} context */
export function render({ client, signal }) {
  const body = h("div", { class: "stack" });
  const save = h("button", { disabled: true }, words.downloadAll);
  const none = { rows: [], isAll: true };
  const load = () => releases(client, signal).catch((error) => {
    if (error.code !== "not-found" && error.code !== "network-not-found") throw error;
    return none; // the network is created with the owner's first secret
  });
  loading(body, load, ({ rows, isAll }) => {
    if (!rows.length) return h("section", { class: "panel" }, emptyState({ icon: "clock", title: words.emptyTitle, text: words.empty }));
    save.disabled = false;
    save.addEventListener("click", () => download(utf8(JSON.stringify(rows.map(({ receipt }) => receipt), null, 1)), words.allFile));
    return content(client, rows, isAll);
  }, { signal });
  return h("div", { class: "page" }, pageHead(words, save), body);
}

/** @param {Client} client @param {AbortSignal} signal @returns {Promise<{ rows: Row[], isAll: boolean }>} the latest first */
async function releases(client, signal) {
  /** @type {Receipt[]} */
  const found = [];
  let after = null;
  do {
    const page = await wire.list(client, { after });
    found.push(...page.receipts);
    after = page.after;
  } while (after !== null && found.length < MOST_RECEIPTS && !signal.aborted);
  const digests = [...new Set(found.filter(isOthers).flatMap((one) => one.policies))].slice(-MOST_POLICIES);
  const confined = new Map(await Promise.all(digests.map(async (digest) => /** @type {const} */ ([digest, await pathsOf(client, digest)]))));
  const names = await namesOf(client);
  return { rows: found.reverse().map((receipt) => ({ receipt, secrets: secretsOf(receipt, confined), name: receipt.chain.map((cid) => names.get(cid)).find(Boolean) })),
    isAll: after === null };
}

/** The names of apps by the grants that they used. @param {Client} client @returns {Promise<Map<string, string>>} */
const namesOf = (client) => grants.list(client, { direction: "granted" }).then((all) => grants.appNames(client, all))
  .catch(() => new Map()); // the receipts are useful without names

/** @param {Receipt} receipt */
const isOthers = (receipt) => !IN_PERSON.includes(receipt.ground);

/** The name of the machine token that asked, after its ground. @param {Receipt} receipt */
const machineOf = ({ machine }) => machine && [" ", quoted(machine)];

/** The paths to which a policy confines releases; null if it lists no paths, or is no longer stored. @param {Client} client @param {string} digest */
async function pathsOf(client, digest) {
  try {
    const { paths } = JSON.parse(new TextDecoder().decode(await wire.readDocument(client, digest)));
    return Array.isArray(paths) && paths.length ? paths.map(String) : null;
  } catch {
    return null;
  }
}

/** The secrets that all policies of a release allow. @param {Receipt} receipt @param {Map<string, string[] | null>} confined */
function secretsOf(receipt, confined) {
  const named = receipt.policies.flatMap((digest) => (confined.get(digest) ? [/** @type {string[]} */ (confined.get(digest))] : []));
  const left = (named[0] ?? []).filter((path) => named.every((paths) => paths.includes(path)));
  return left.map((path) => SECRET.exec(path)?.[1] ?? path).sort();
}

/** @param {Row} row */
const toWhom = ({ receipt }) => (isOthers(receipt) ? shortened(receipt.invoker, 18, 6) : words.you);

/** @param {Row} row */
const whatFor = ({ receipt, secrets }) => (secrets.length ? secrets.join(", ") : isOthers(receipt) ? words.notNamed : "–");

/** @param {Client} client @param {Row[]} rows @param {boolean} isAll */
function content(client, rows, isAll) {
  const find = h("input", { type: "search", placeholder: words.find, "aria-label": words.find, on: { input: () => draw() } });
  const who = h("select", { "aria-label": words.who, on: { change: () => draw() } },
    h("option", { value: "others" }, words.others), h("option", { value: "all" }, words.everybody));
  if (!rows.some(({ receipt }) => isOthers(receipt))) who.value = "all"; // rather than an empty list
  const since = h("select", { "aria-label": words.since, on: { change: () => draw() } },
    words.periods.map(([name, s]) => h("option", { value: s }, name)));
  const count = h("p", { class: "dim small", "aria-live": "polite" });
  const table = virtualTable({ label: words.title, widths: "8.5rem minmax(0, 1fr) minmax(0, 1.4fr) minmax(0, 1fr) 5.5rem", narrowWidths: "8.2rem minmax(0, 1fr) auto",
    key: ({ receipt }) => receipt.invocation, columns: [
      { title: words.columns.time, cell: ({ receipt }) => time(receipt.atMicros / 1e6) },
      { title: words.columns.why, wide: true, cell: ({ receipt }) => h("span", { class: `chip ${receipt.ground === "attested" ? "good" : receipt.ground === "off" ? "warn" : ""}` }, words.grounds[receipt.ground] ?? receipt.ground, machineOf(receipt)) },
      { title: words.columns.secret, cell: (row) => [h("span", { title: whatFor(row) }, whatFor(row)), h("span", { class: "narrow" }, nameBefore(row.name), toWhom(row))] },
      { title: words.columns.to, wide: true, cell: (row) => [nameBefore(row.name), h("span", { class: "mono", title: row.receipt.invoker }, toWhom(row))] },
      { title: words.open, quiet: true, cell: (row) => h("button", { "aria-label": words.openOf(new Date(row.receipt.atMicros / 1000).toISOString()), on: { click: () => open(client, row) } }, words.open) },
    ] });
  const clear = h("button", { on: { click: () => { find.value = ""; who.value = "all"; since.value = "0"; draw(); find.focus(); } } }, words.clear);
  const none = emptyState({ icon: "search", title: words.noneTitle, text: words.none, actions: [clear] });
  const draw = () => {
    const asked = find.value.trim().toLowerCase();
    const earliest = since.value === "0" ? 0 : Date.now() / 1000 - Number(since.value);
    const shown = rows.filter((row) => (who.value === "all" || isOthers(row.receipt)) && row.receipt.atMicros / 1e6 >= earliest &&
      `${row.name ?? ""} ${row.receipt.invoker} ${row.secrets.join(" ")}`.toLowerCase().includes(asked));
    table.element.hidden = shown.length === 0;
    none.hidden = shown.length > 0;
    table.show(shown);
    count.textContent = isAll ? words.count(shown.length, rows.length) : words.tooMany(MOST_RECEIPTS);
  };
  draw();
  return [h("div", { class: "row" }, h("div", { class: "searching" }, icon("search"), find), h("div", {}, who), h("div", {}, since)),
    h("section", { class: "panel flush" }, table.element, none), count];
}

/** @param {Client} client @param {Row} row */
function open(client, row) {
  const { receipt } = row;
  return openDialog(words.release, () => {
    const verdict = h("div", { "aria-live": "polite" });
    const check = async () => {
      button.setAttribute("aria-busy", "true");
      try {
        fill(verdict, await verified(client, receipt));
        say(words.holds);
      } catch (error) {
        fill(verdict, failure(error));
      } finally {
        button.removeAttribute("aria-busy");
      }
    };
    const button = h("button", { class: "primary", on: { click: check } }, words.verify);
    return h("div", { class: "stack" }, facts([
      [words.columns.time, time(receipt.atMicros / 1e6)],
      [words.columns.why, [words.groundTexts[receipt.ground] ?? receipt.ground, machineOf(receipt)]],
      [words.columns.secret, isOthers(receipt) && !row.secrets.length ? words.notNamedText : whatFor(row)],
      [words.columns.to, isOthers(receipt) ? [nameBefore(row.name), copyField(receipt.invoker, words.columns.to)] : words.you],
      [words.grants, receipt.chain.length ? receipt.chain.map((cid) => h("div", {}, copyField(cid))) : words.ownRight],
    ]), verdict, h("div", { class: "actions" },
      h("button", { on: { click: async () => download(canonicalBytes(/** @type {any} */ (receipt)), `${await digestOf(receipt)}.json`) } }, words.download), button));
  });
}

/** @param {Receipt} receipt */
const digestOf = async (receipt) => hex(await sha256(canonicalBytes(/** @type {any} */ (receipt))));

/** Verify the signature again, and that every document exists and matches its digest. @param {Client} client @param {Receipt} receipt */
async function verified(client, receipt) {
  await wire.verify(receipt, client.session.node, networkId(client.session.owner));
  const { record, quote, eventLog, collateral } = receipt.evidence ?? {};
  const named = [...receipt.policies, record, quote, eventLog, collateral].filter((one) => typeof one === "string");
  for (const digest of new Set(named)) await wire.readDocument(client, /** @type {string} */ (digest));
  return h("div", { class: "banner" }, icon("info"), h("div", {}, h("strong", {}, words.holds),
    h("p", {}, words.proves), h("p", { class: "dim" }, words.provesNot), copyField(words.command(await digestOf(receipt), receipt.node))));
}
