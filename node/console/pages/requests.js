import { fill, h, icon, pageHead } from "../elements.js";
import { form, textField } from "../parts/form.js";
import { quoted } from "../parts/quoted.js";
import { rightWords } from "../parts/rights.js";
import { emptyState, loading } from "../parts/states.js";
import { copyButton, copyField, download, facts, say, time } from "../parts/values.js";
import { signedByOwner } from "../parts/wallet_choices.js";
import { whyNot } from "../parts/why_not.js";
import { requests as words } from "../texts_requests.js";
import { formerApproval } from "../wire/approvals.js";
import * as backends from "../wire/backends.js";
import { base64url, fromBase64url, text as textOfBytes, utf8 } from "../wire/bytes.js";
import { strictJson } from "../wire/canonical_json.js";
import { isDid, networkId, principalOf } from "../wire/did.js";
import * as grants from "../wire/grants.js";
import { DECRYPT, GET, finalRights, isFolder, joined, readsSecret, requestedRight, rightOf, secretOf } from "../wire/grants.js";
import { parseManifest } from "../wire/manifest.js";
import { MOST_PATHS } from "../wire/policies.js";
import { nowS } from "../wire/session.js";
import * as secrets from "../wire/secrets.js";

export const title = words.title;
export const needsSession = true;

const MAX_REQUEST_BYTES = 512 * 1024; // limit of a published request, which includes a quote
const MOST_FAULTS = 8;
const MOST_HELD = 20;
const MAX_TTL_S = 10 * 365 * 86400;
const MARGIN_S = 60;
const DEFAULT_S = 30 * 86400;
const SPANS_S = [3600, 86400, 7 * 86400, DEFAULT_S, 90 * 86400, 365 * 86400];

/**
 * @import { Context } from "../app.js"
 * @typedef {import("../wire/manifest.js").Manifest & { claimed?: unknown }} Manifest `claimed`: the policy in a backend's description
 * @import { Resource } from "../wire/manifest.js"
 * @import { Right, Grant } from "../wire/grants.js"
 * @import { Field } from "../parts/form.js"
 * @typedef {{ held: Grant[], stored: Set<string>, seen: {[field: string]: any} | null, isSufficing: boolean, grants: import("../wire/approvals.js").Grants,
 *   parts: typeof import("../parts/code_choice.js") }} Known `parts`: loaded with a request
 */

/** @param {Context} context */
export function render(context) {
  const given = context.parameters.get("manifest");
  const body = h("div", { class: "stack" });
  const text = given === null ? "" : given.startsWith("{") ? given : linked(given);
  /** @type {Manifest | null} */
  let asked = null;
  try {
    if (text) asked = readRequest(text);
    if (!asked) fill(body, intake(context, "", given === null ? "" : words.notLink));
  } catch (error) {
    fill(body, intake(context, text, error));
  }
  if (asked) showRequest(context, asked, text, body);
  return h("div", { class: "page" }, pageHead(words), body);
}

// --- reading the request ---------------------------------------------------------------------------------------------

/** @param {string} given @returns {string} the JSON in a link; empty if the link is damaged */
function linked(given) {
  try {
    return textOfBytes(/** @type {any} */ (fromBase64url(given)));
  } catch {
    return "";
  }
}

/** @param {string} text a manifest, or a backend's published request @returns {Manifest} throws a message for people, or `manifest-invalid` */
function readRequest(text) {
  if (text.length > MAX_REQUEST_BYTES) throw words.tooLarge(MAX_REQUEST_BYTES / 1024);
  let value;
  try {
    value = /** @type {any} */ (strictJson(text));
  } catch {
    throw words.notJson;
  }
  const isDescription = value?.type === "sealspace.backend-description/v1";
  if (!isDescription && value?.type !== "sealspace.backend/v1") return parseManifest(value);
  const { did, manifest, policy } = (isDescription ? value : value.statement) ?? {};
  const read = parseManifest(manifest && typeof manifest === "object" && manifest.did === undefined ? { ...manifest, did } : manifest);
  if (read.did === null || principalOf(read.did) !== principalOf(String(did))) throw words.otherDid;
  return { ...read, claimed: policy };
}

/** The form in which a request is pasted, or chosen as a file. @param {Context} context @param {string} text @param {unknown} fault found in the text */
function intake(context, text, fault) {
  const file = h("input", { type: "file", hidden: true, "aria-label": words.upload, on: { change: async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    if (chosen.size > MAX_REQUEST_BYTES) return field.refuse(words.tooLarge(MAX_REQUEST_BYTES / 1024));
    field.input.value = await chosen.text();
    field.refuse("");
  } } });
  const field = textField({ name: "manifest", label: words.manifest, hint: words.manifestHint, rows: 10, mono: true, value: text,
    check: (said) => (said.trim() ? "" : words.empty), beside: h("button", { type: "button", on: { click: () => file.click() } }, words.upload) });
  const faults = h("div", { role: "alert" });
  /** @param {any} error */
  const refuse = (error) => {
    if (typeof error === "string") field.refuse(error);
    else fill(faults, faultList(error.details?.faults ?? [{ path: "", text: error.message }]));
  };
  if (fault) refuse(fault);
  const { element } = form({ fields: [field], action: words.read, submit: async (said) => {
    fill(faults);
    try {
      readRequest(said.manifest);
    } catch (error) {
      refuse(error);
      field.input.focus();
      return;
    }
    context.go(`requests?manifest=${base64url(utf8(said.manifest))}`);
  } });
  return h("section", { class: "panel stack", "aria-label": words.intakeTitle }, h("h2", {}, words.intakeTitle), element, file, faults);
}

/** @param {import("../wire/manifest.js").Fault[]} faults */
const faultList = (faults) => h("div", { class: "banner bad" }, icon("warning"), h("div", {}, h("strong", {}, words.unusable), h("p", {}, words.unusableNext),
  h("ul", {}, faults.slice(0, MOST_FAULTS).map(({ path, text }) => h("li", {}, path ? quoted(path, { mono: true, most: 80 }) : words.wholeFile, " ", quoted(text)))),
  faults.length > MOST_FAULTS && h("p", {}, words.moreFaults(faults.length - MOST_FAULTS))));

// --- the request -----------------------------------------------------------------------------------------------------

/** @param {Context} context @param {Manifest} asked @param {string} text @param {Element} body */
function showRequest(context, asked, text, body) {
  const { client, signal } = context;
  const change = h("button", { type: "button", on: { click: () => fill(body, intake(context, text, "")) } }, words.change);
  const did = asked.did ? null : textField({ name: "did", label: words.did, hint: words.didHint, mono: true, check: (said) => (isDid(said.trim()) ? "" : words.didBad) });
  const app = h("section", { class: "panel stack", "aria-label": words.app }, h("div", { class: "row spread" }, h("h2", {}, words.app), change), facts([
    [words.name, [quoted(asked.name, { most: 60 }), h("p", { class: "small dim" }, words.nameIsTheirs)]], [words.appId, quoted(asked.appId, { most: 60 })],
    [words.about, asked.description ? quoted(asked.description) : words.nothingSaid], asked.did && [words.did, copyField(asked.did, words.did)]]));
  const rest = h("div", { class: "stack" });
  fill(body, app, rest);
  loading(rest, () => knownOf(context, asked), (known) => [asked.did && heldPanel(known.held, client.session.owner),
    decision(context, asked, known, did, (made, policy) => {
      change.remove();
      const anew = () => { showRequest(context, asked, text, body); document.querySelector("h1")?.focus(); };
      const warning = !policy && context.node.attestation !== "off" && known.parts.noCode(known.isSufficing, { label: words.stateCode, run: anew });
      fill(rest, grantedPanel(made, policy, warning, context, asked));
    })], { signal });
}

/** @param {Context} context @param {Manifest} asked @returns {Promise<Known>} what the node knows about the requester */
async function knownOf({ client, node }, asked) {
  /** @template T @param {Promise<T>} found @param {T} none @returns {Promise<T>} */
  const orNone = (found, none) => found.catch((error) => {
    if (!["not-found", "network-not-found", "space-not-found"].includes(error.code)) throw error;
    return none;
  });
  const isOne = (/** @type {string} */ did) => asked.did !== null && principalOf(did) === principalOf(asked.did);
  const [all, stored, terms, known, parts] = await Promise.all([
    orNone(grants.list(client, { direction: "granted", tokens: true }), []), orNone(secrets.list(client), []),
    orNone(backends.terms(), /** @type {any} */ ({})), orNone(backends.list(client), []), import("../parts/code_choice.js")]);
  const backend = known.find((one) => isOne(one.did));
  const seen = backend && node.attestation !== "off" ? await orNone(backends.evidenceOf(client, backend), null) : null;
  const own = grants.ownGrants(client, all);
  return { held: all.filter((one) => isOne(one.delegate) && !one.isSession && one.standing === "active"), grants: { all, own, names: await grants.appNames(client, all) }, parts, stored: new Set(stored.map(({ label }) => label)), seen,
    isSufficing: terms.nodePolicySuffices === true };
}

/** @param {Grant[]} held @param {string} owner */
const heldPanel = (held, owner) => h("section", { class: "panel stack tight", "aria-label": words.has }, h("h2", {}, words.has), held.length
  ? h("ul", { class: "plainlist" }, held.slice(0, MOST_HELD).flatMap((one) => one.rights.map(({ resource, abilities }) => h("li", {},
    rightWords(rightOf(resource, abilities), owner), one.expiresAt && h("span", { class: "dim" }, ", ", words.until, time(one.expiresAt))))))
  : h("p", { class: "dim" }, words.hasNothing), held.length > MOST_HELD && h("p", {}, words.moreGrants(held.length - MOST_HELD)));

/**
 * @param {Context} context @param {Manifest} asked @param {Known} known @param {Field | null} did typed in, if the manifest has no DID
 * @param {(made: import("../wire/grants.js").Granted, policy: any) => void} done
 */
function decision(context, asked, known, did, done) {
  const { client, node } = context;
  const { session } = client;
  const didOf = () => asked.did ?? did?.input.value.trim() ?? "";
  const code = known.parts.codeChoice({ seen: known.seen, mode: node.attestation, isSufficing: known.isSufficing, trustRoots: node.trustRoots, claimed: asked.claimed,
    former: () => formerApproval(known.grants, { did: didOf(), name: asked.name }) }, didOf);
  did?.input.addEventListener("input", () => code.draw());
  const rights = rightsField(asked, known, session.owner, node.features, () => redraw());
  if (!rights) return h("section", { class: "panel" }, emptyState({ icon: "inbox", title: words.rights, text: words.asksNothing }));
  if (!rights.canGrant) return h("section", { class: "panel stack" }, rights.field.element, h("p", {}, words.asksNothing));
  const shortestS = () => Math.min(asked.expiryMs, MAX_TTL_S * 1000, ...rights.chosen().map(({ expiryMs }) => expiryMs ?? Infinity)) / 1000;
  const isStated = () => asked.isEndStated || rights.chosen().some(({ expiryMs }) => expiryMs !== null && expiryMs <= asked.expiryMs);
  const end = endField(session, shortestS, isStated);
  const redraw = () => {
    code.element.hidden = !rights.final().some(({ actions }) => actions.includes(DECRYPT)); // CN8
    code.draw();
    end.draw();
  };
  redraw();
  const { element } = form({ fields: [...(did ? [did] : []), rights.field, code, end], action: words.approve, submit: async () => {
    const chosen = rights.chosen().map(({ right }) => right);
    const how = { expiresS: end.expiresS(), name: asked.name, code: code.files(), policy: confined(code.policy(), chosen, session.owner) };
    const approve = (/** @type {import("../wire/wallets.js").Owner | null} */ owner) => grants.approve(client, owner, didOf(), chosen, how);
    const lacks = (/** @type {any} */ error) => error.code === "not-authorised" && error.details.missing && error.details.status === undefined;
    let made = await approve(null).catch((error) => {
      if (!lacks(error)) throw hinted(error);
      return null;
    });
    if (!made) await signedByOwner(session, words.sign, async (owner) => { made = await approve(owner).catch((error) => { throw hinted(error); }); });
    if (made) done(made, how.policy);
  } });
  return h("section", { class: "panel", "aria-label": words.rights }, element);
}

/** Add a hint to an error: if no answer arrived, the grant may be in force. @param {any} error */
function hinted(error) {
  if (error.details?.status !== undefined || error.code === "node-unreachable") error.details.text = words.partly;
  return error;
}

/** Limit a policy to the chosen secrets, if each right names one secret exactly. @param {any} policy @param {Right[]} chosen @param {string} owner */
function confined(policy, chosen, owner) {
  const opened = chosen.filter((one) => readsSecret(one, owner));
  const isExact = opened.every((one) => !isFolder(secretOf(one) ?? "-")) && !chosen.some(({ actions }) => actions.includes(DECRYPT));
  return !policy || policy.paths || !isExact || !opened.length ? policy : { ...policy, paths: [...new Set(opened.map(({ resource }) => resource))] };
}

// --- the rights ------------------------------------------------------------------------------------------------------

/**
 * A checkbox for each right, and a line for the right that they imply. A disabled right says why it cannot be granted.
 * @param {Manifest} asked @param {Known} known @param {string} owner @param {string[]} features @param {() => void} changed
 */
function rightsField(asked, known, owner, features, changed) {
  const resources = asked.resources.filter((one) => one.origin !== "capabilities");
  if (!resources.length) return null;
  const rows = resources.map((resource, at) => {
    const right = requestedRight(owner, resource);
    const why = whyNot(right, owner, features);
    const box = h("input", { type: "checkbox", checked: !why, disabled: Boolean(why), "aria-describedby": `right-${at}`, on: { change: () => redraw() } });
    return { right, why, box, expiryMs: resource.expiryMs, element: h("li", {}, h("label", { class: "tick", title: titleOf(right) }, box, rightWords(right, owner)),
      h("div", { id: `right-${at}`, class: "under small dim" }, notesOf(resource, right, why, known))) };
  });
  const chosen = () => rows.filter(({ box }) => box.checked);
  const final = () => finalRights(owner, chosen().map(({ right }) => right));
  const key = rightOf(networkId(owner), [DECRYPT]);
  const withKey = h("li", { class: "under", title: titleOf(key) }, words.withIt, rightWords(key, owner));
  const wrong = h("p", { class: "wrong", role: "alert" });
  const judge = () => {
    const some = chosen();
    const opened = some.filter(({ right }) => secretOf(right) !== null).length;
    wrong.textContent = !some.length ? words.chooseSome : opened > MOST_PATHS ? words.tooManySecrets(MOST_PATHS) : "";
    return wrong.textContent;
  };
  const draw = () => { withKey.hidden = !final().some(({ resource }) => resource === key.resource) || chosen().some(({ right }) => right.resource === key.resource); };
  const redraw = () => { if (wrong.textContent) judge(); draw(); changed(); };
  draw();
  const element = h("fieldset", { class: "field" }, h("legend", {}, words.rights), h("p", { class: "dim" }, words.choose), h("ul", { class: "plainlist" }, rows.map((row) => row.element), withKey), wrong);
  const input = (rows.find(({ why }) => !why) ?? rows[0]).box;
  return { chosen, final, canGrant: rows.some(({ why }) => !why), field: /** @type {Field} */ ({ name: "rights", input, element, judge, refuse: (said) => { wrong.textContent = said; } }) };
}

/** @param {Right} right in the form that a token uses */
const titleOf = ({ resource, actions }) => `${actions.join(" ")} ${resource}`;

/** @param {Resource} asked @param {Right} right @param {string} why @param {Known} known */
function notesOf(asked, right, why, known) {
  const secret = secretOf(right);
  const has = known.held.find(({ rights }) => rights.some((one) => rightOf(one.resource).resource === right.resource && right.actions.every((action) => one.abilities.includes(action))));
  return [why && h("p", { class: "why" }, why),
    asked.origin === "defaults" && h("p", {}, words.asDefault),
    asked.expiryMs !== null && h("p", {}, words.ownEnd(span(asked.expiryMs / 1000))),
    has?.expiresAt && h("p", {}, words.hasIt, time(has.expiresAt)),
    !why && secret !== null && !isFolder(secret) && right.actions.includes(GET) && !known.stored.has(secret) && h("p", {}, words.notStored),
    asked.description && h("p", {}, words.because, quoted(asked.description))];
}

// --- the expiry ------------------------------------------------------------------------------------------------------

/** @param {number} s */
function span(s) {
  const [unit, size] = /** @type {[string, number][]} */ ([["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]).find(([, one]) => s >= one) ?? ["second", 1];
  return words.span(Math.round(s / size), unit);
}

/**
 * @param {import("../wire/session.js").Session} session @param {() => number} askedS seconds requested for the ticked rights
 * @param {() => boolean} isStated whether the app asks for them itself
 * @returns {Field & { expiresS: () => number, draw: () => void }}
 */
function endField(session, askedS, isStated) {
  const leftS = () => session.kind === "phrase" ? Infinity : session.expiresAt - nowS();
  const most = () => Math.min(askedS(), leftS());
  const field = textField({ name: "date", label: words.date, check: (said) => {
    const s = new Date(said).getTime() / 1000 - nowS();
    return s >= MARGIN_S && s <= most() + MARGIN_S ? "" : words.endBad;
  } });
  field.input.type = "datetime-local";
  const show = () => { field.element.hidden = choice.value !== "date"; };
  let picked = ""; // by the user; the default follows the ticked rights
  const choice = h("select", { id: "end", "aria-describedby": "end-hint", on: { change: () => { picked = choice.value; show(); } } });
  const hint = h("p", { class: "hint", id: "end-hint" });
  const draw = () => {
    const spans = SPANS_S.filter((s) => s < most());
    fill(choice, spans.map((s) => h("option", { value: s }, words.after(span(s)))),
      h("option", { value: "most" }, (most() > DEFAULT_S ? words.longest : words.after)(span(most()))), h("option", { value: "date" }, words.onDate));
    const isOffered = ["most", "date"].includes(picked) || spans.includes(Number(picked));
    choice.value = isOffered ? picked : spans.includes(DEFAULT_S) ? String(DEFAULT_S) : "most";
    fill(hint, isStated() ? words.endHint(span(askedS())) : words.noEndStated, leftS() < askedS() && words.endOfSession(span(leftS())));
    show();
  };
  const element = h("div", { class: "stack tight" }, h("div", { class: "field" }, h("label", { for: "end" }, words.end), choice, hint), field.element);
  return { ...field, element, draw, judge: () => (choice.value === "date" ? field.judge() : ""), expiresS: () =>
    choice.value === "date" ? Math.min(new Date(field.input.value).getTime() / 1000 - nowS(), most()) : choice.value === "most" ? askedS() : Number(choice.value) };
}

// --- the result ------------------------------------------------------------------------------------------------------

/** @param {import("../wire/grants.js").Granted} made @param {any} policy @param {Element | false} warning if the grant opens keys without code @param {Context} context @param {Manifest} asked */
function grantedPanel(made, policy, warning, context, asked) {
  const { portable: text, capabilities } = made;
  const { owner } = context.client.session;
  say(words.approvedSay);
  const signed = joined(capabilities.map(({ resource, ability }) => rightOf(resource, [ability])));
  const rows = [...signed.map((right) => h("li", { title: titleOf(right) }, rightWords(right, owner))), h("li", { class: "small dim" }, words.ends, time(made.expiresAt))];
  const heading = h("h2", { tabIndex: -1 }, words.granted);
  queueMicrotask(() => heading.focus());
  const opens = capabilities.some(({ ability }) => ability === DECRYPT);
  return h("section", { class: "panel stack", "aria-label": words.granted }, heading, opens && warning, h("p", {}, words.grantedText), copyField(words.deliver),
    facts([!asked.did && [words.did, copyField(made.did, words.did)], [words.grants, h("ul", { class: "plainlist" }, rows)],
      opens && [words.code_, policy ? words.codeNamed : words.codeFree]]),
    h("div", { class: "row spread" }, h("h3", {}, words.portable), h("div", { class: "row" }, copyButton(text, words.copyOf),
      h("button", { type: "button", on: { click: () => download(utf8(text), words.file) } }, words.download))),
    h("p", { class: "small dim" }, words.onlyHolder), h("details", {}, h("summary", {}, words.showPortable), h("pre", { class: "value", tabIndex: 0, "aria-label": words.portable }, text)),
    h("div", { class: "row spread" }, h("a", { href: "#/grants" }, words.toGrants), h("button", { type: "button", on: { click: () => context.go("requests") } }, words.change)));
}
