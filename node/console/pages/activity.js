import { fill, h, icon, pageHead } from "../elements.js";
import { contactNames } from "../parts/contact_names.js";
import { openDialog } from "../parts/dialog.js";
import { emptyState, failure, loading } from "../parts/states.js";
import { nameBefore, quoted } from "../parts/quoted.js";
import { allOf, labelsOfKeys, MOST_ROWS, releases } from "../parts/released.js";
import { isFound } from "../parts/search.js";
import { copyField, download, facts, say, time } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { activity as words } from "../texts_activity.js";
import { hex, sha256, utf8 } from "../wire/bytes.js";
import { canonicalBytes } from "../wire/canonical_json.js";
import { networkId } from "../wire/did.js";
import * as grants from "../wire/grants.js";
import * as wire from "../wire/receipts.js";

export const title = words.title;
export const needsSession = true;

const MOST_POLICIES = 100; // different policies; each costs a request. Beyond this number the list does not name the secret
const IN_PERSON = ["owner", "owner_session"];
const SECRET = /\/kv\/vault\/secrets\/(?:scoped\/)?([^/]+(?:\/[^/]+)?)$/;
const COPY = /^vault\/secrets\/shared\/(?:[^/]+\/){1,2}[\w-]{43}(?:\.[0-9]{1,2})?\/(?:scoped\/(?=[^/]+\/))?([^/]+(?:\/[^/]+)?)$/;

/**
 * @import { Client } from "../wire/client.js"
 * @import { ContactNames } from "../parts/contact_names.js"
 * @import { Fetch, Receipt } from "../wire/receipts.js"
 * @typedef {{ id: string, atMicros: number, ground: string, who: string, secrets: string[], name: string | undefined, receipt: Receipt | null, fetch: Fetch | null, isOwn: boolean }} Row a release,
 *   or a fetch of a copy; `isOwn`: the reader is the person who looks; `secrets`: those that it can be about; `name`: what the app calls itself
 */

/** @param {import("../app.js").Context} context */
export function render({ client, signal }) {
  const contacts = contactNames(client);
  const body = h("div", { class: "stack" });
  const save = h("button", { disabled: true }, words.downloadAll);
  loading(body, () => rowsOf(client, signal), ({ rows, isAll }) => {
    if (!rows.length) return h("section", { class: "panel" }, emptyState({ icon: "clock", title: words.emptyTitle, text: words.empty }));
    const receipts = rows.flatMap(({ receipt }) => receipt ?? []);
    save.disabled = !receipts.length;
    save.addEventListener("click", () => download(utf8(JSON.stringify(receipts, null, 1)), words.allFile));
    return content(client, rows, isAll, contacts);
  }, { signal });
  return h("div", { class: "page" }, pageHead(words, save), body, contacts.problem);
}

/** @param {Client} client @param {AbortSignal} signal @returns {Promise<{ rows: Row[], isAll: boolean }>} the latest first */
async function rowsOf(client, signal) {
  const [released, fetched] = await Promise.all([
    releases(client, signal),
    allOf((after) => wire.fetches(client, { after }).then((page) => ({ found: page.fetches, after: page.after })), signal)]);
  const digests = [...new Set(released.found.filter(({ receipt }) => !isInPerson(receipt)).flatMap(({ receipt }) => receipt.policies))].slice(-MOST_POLICIES);
  const [confined, granted, ofKeys] = await Promise.all([
    Promise.all(digests.map(async (digest) => /** @type {const} */ ([digest, await pathsOf(client, digest)]))).then((all) => new Map(all)),
    grantedTo(client), released.found.some(({ key }) => key) ? labelsOfKeys(client).catch(() => new Map()) : new Map()]); // the receipts are useful without names
  /** @type {Row[]} */
  const rows = released.found.map(({ receipt, key }) => ({ id: receipt.invocation, atMicros: receipt.atMicros, ground: receipt.ground, who: receipt.member ?? receipt.invoker, receipt, fetch: null,
    isOwn: isInPerson(receipt) && !client.session.member, secrets: ofKeys.get(key) ?? secretsOf(receipt, confined, granted), name: receipt.chain.map((cid) => granted.get(cid)?.name).find(Boolean) }));
  for (const one of fetched.found) {
    rows.push({ id: `${one.reader} ${one.path} ${one.version} ${one.etag} ${one.hour}`, atMicros: one.atMicros, ground: "fetched", who: one.reader, receipt: null, fetch: one, isOwn: false,
      secrets: [COPY.exec(one.path)?.[1] ?? one.path], name: undefined });
  }
  return { rows: rows.sort((one, other) => other.atMicros - one.atMicros), isAll: released.isAll && fetched.isAll };
}

/**
 * The names of apps and the secrets of their grants, by the ids of the grants.
 * @param {Client} client @returns {Promise<Map<string, { name: string | undefined, labels: string[], isToken: boolean }>>}
 */
async function grantedTo(client) {
  try {
    const all = await grants.list(client, { direction: "granted" });
    const names = await grants.appNames(client, all);
    const labelsIn = (/** @type {grants.Grant} */ { rights }) => rights.flatMap(({ resource, abilities }) => {
      const label = grants.secretOf(grants.rightOf(resource, abilities));
      return label === null || grants.isFolder(label) ? [] : [label];
    });
    return new Map(all.map((one) => [one.cid, { name: names.get(one.cid), labels: labelsIn(one), isToken: grants.machineOf(one) === "token" }]));
  } catch {
    return new Map(); // the receipts are useful without names
  }
}

/** @param {{ ground: string }} one @returns {boolean} whether the owner's own key asked. A team's own key is not that of the member who looks */
const isInPerson = ({ ground }) => IN_PERSON.includes(ground);

/** @param {{ isOwn: boolean }} row */
const isOthers = ({ isOwn }) => !isOwn;

/** @param {Row} row @returns {boolean} whether it is a team's, and the team's own key asked */
const isTeamKey = (row) => isInPerson(row) && !row.isOwn;

/** The name of the machine token that asked, after its ground. @param {Row} row */
const machineOf = ({ receipt }) => receipt?.machine && [" ", quoted(receipt.machine)];

/** The paths to which a policy confines releases; null if it lists no paths, or is no longer stored. @param {Client} client @param {string} digest */
async function pathsOf(client, digest) {
  try {
    const { paths } = JSON.parse(new TextDecoder().decode(await wire.readDocument(client, digest)));
    return Array.isArray(paths) && paths.length ? paths.map((path) => SECRET.exec(String(path))?.[1] ?? String(path)) : null;
  } catch {
    return null;
  }
}

/**
 * The secrets that a release by another can be about: what all policies and the machine token allow, or else the cited grants (RC37).
 * @param {Receipt} receipt @param {Map<string, string[] | null>} confined @param {Map<string, { labels: string[], isToken: boolean }>} granted
 */
function secretsOf(receipt, confined, granted) {
  if (isInPerson(receipt)) return [];
  const cited = receipt.chain.flatMap((cid) => granted.get(cid) ?? []);
  const limits = [...receipt.policies.flatMap((digest) => [confined.get(digest) ?? []]), ...cited.flatMap(({ isToken, labels }) => (isToken ? [labels] : []))].filter((one) => one.length);
  const left = limits.length ? limits[0].filter((label) => limits.every((labels) => labels.includes(label))) : cited.flatMap(({ labels }) => labels);
  return [...new Set(left)].sort();
}

/** @param {ContactNames} contacts @param {Row} row */
const toWhom = (contacts, row) => (isOthers(row) ? contacts.label(row.who) : h("span", { class: "mono", title: row.who }, words.you));

/** @param {Row} row */
const whatFor = (row) => (row.secrets.length ? row.secrets.join(words.or) : isOthers(row) ? words.notNamed : "–");

/** @param {Client} client @param {Row[]} rows @param {boolean} isAll @param {ContactNames} contacts */
function content(client, rows, isAll, contacts) {
  const find = h("input", { type: "search", placeholder: words.find, "aria-label": words.find, on: { input: () => draw() } });
  const who = h("select", { "aria-label": words.who, on: { change: () => draw() } },
    h("option", { value: "others" }, words.others), h("option", { value: "all" }, words.everybody));
  if (!rows.some(isOthers)) who.value = "all"; // rather than an empty list
  const since = h("select", { "aria-label": words.since, on: { change: () => draw() } },
    words.periods.map(([name, s]) => h("option", { value: s }, name)));
  const count = h("p", { class: "dim small", "aria-live": "polite" });
  const table = virtualTable({ label: words.title, widths: "8.5rem minmax(0, 1fr) minmax(0, 1.4fr) minmax(0, 1fr) 5.5rem", narrowWidths: "8.2rem minmax(0, 1fr) auto",
    key: ({ id }) => id, columns: [
      { title: words.columns.time, cell: ({ atMicros }) => time(atMicros / 1e6) },
      { title: words.columns.why, wide: true, cell: (row) => h("span", { class: `chip ${row.ground === "attested" ? "good" : row.ground === "off" ? "warn" : ""}` }, isTeamKey(row) ? words.teamKey : words.grounds[row.ground] ?? row.ground, machineOf(row)) },
      { title: words.columns.secret, cell: (row) => [h("span", { title: whatFor(row) }, whatFor(row)), h("span", { class: "narrow" }, row.fetch && `${words.grounds.fetched} · `, nameBefore(row.name), toWhom(contacts, row))] },
      { title: words.columns.to, wide: true, cell: (row) => [nameBefore(row.name), toWhom(contacts, row)] },
      { title: words.open, quiet: true, cell: (row) => h("button", { "aria-label": (row.receipt ? words.openOf : words.openFetch)(new Date(row.atMicros / 1000).toISOString()), on: { click: () => (row.receipt ? open(client, row, row.receipt, contacts) : openFetch(row, /** @type {Fetch} */ (row.fetch), contacts)) } }, words.open) },
    ] });
  const clear = h("button", { on: { click: () => { find.value = ""; who.value = "all"; since.value = "0"; draw(); find.focus(); } } }, words.clear);
  const none = emptyState({ icon: "search", title: words.noneTitle, text: words.none, actions: [clear] });
  const draw = () => {
    const earliest = since.value === "0" ? 0 : Date.now() / 1000 - Number(since.value);
    const shown = rows.filter((row) => (who.value === "all" || isOthers(row)) && row.atMicros / 1e6 >= earliest &&
      isFound(find.value, [row.name ?? "", contacts.nameOf(row.who), ...row.secrets], [row.who]));
    table.element.hidden = shown.length === 0;
    none.hidden = shown.length > 0;
    table.show(shown);
    count.textContent = isAll ? words.count(shown.length, rows.length, rows.every(({ receipt }) => receipt)) : words.tooMany(MOST_ROWS);
  };
  draw();
  return [h("div", { class: "row" }, h("div", { class: "searching" }, icon("search"), find), h("div", {}, who), h("div", {}, since)),
    h("section", { class: "panel flush" }, table.element, none), count];
}

/** @param {Row} row @param {Fetch} fetch @param {ContactNames} contacts */
const openFetch = (row, { reader, path, version, hour, etag }, contacts) => openDialog(words.fetch, () => h("div", { class: "stack" }, facts([
  [words.columns.time, time(row.atMicros / 1e6)],
  [words.hour, time(hour)],
  [words.columns.why, words.groundTexts.fetched],
  [words.columns.secret, whatFor(row)],
  [words.columns.to, contacts.whole(reader, words.columns.to)],
  [words.path, copyField(path, words.path)],
  [words.version, version ? String(version) : words.notKept],
  [words.digest, copyField(etag, words.digest)],
]), h("p", { class: "dim small" }, words.fetchUnsigned)));

/** @param {Client} client @param {Row} row @param {Receipt} receipt @param {ContactNames} contacts */
function open(client, row, receipt, contacts) {
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
      [words.columns.why, isTeamKey(row) ? words.teamKeyText : [words.groundTexts[receipt.ground] ?? receipt.ground, machineOf(row)]],
      [words.columns.secret, isOthers(row) && !row.secrets.length ? words.notNamedText : whatFor(row)],
      receipt.member !== undefined && [words.member, contacts.whole(receipt.member, words.member)],
      [words.columns.to, isOthers(row) ? [nameBefore(row.name), contacts.whole(receipt.invoker, words.columns.to)] : words.you],
      [words.grants, receipt.chain.length ? receipt.chain.map((cid) => h("div", {}, copyField(cid))) : isTeamKey(row) ? words.teamRight : words.ownRight],
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
