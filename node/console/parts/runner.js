// The runner that the node's operator configured: its identity and API keys.
import { fill, h } from "../elements.js";
import { failed, state } from "../texts.js";
import { runner as words } from "../texts_runner.js";
import * as keys from "../wire/api_keys.js";
import * as wire from "../wire/runner.js";
import { confirmByWord, openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { quoted } from "./quoted.js";
import { runnerUrl } from "./known_node.js";
import { known, RUNNER } from "./known_runner.js";
import { banner, failure, loading } from "./states.js";
import { copyField, facts, say, split, time } from "./values.js";
import { signedByOwner } from "./wallet_choices.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { Runner } from "../wire/runner.js"
 * @import { ApiKey } from "../wire/api_keys.js"
 */

// --- API keys --------------------------------------------------------------------------------------------------------

/** @param {import("../app.js").Context} context */
export function runnerPanel({ client, signal }) {
  const body = h("div", { class: "stack" });
  const { session } = client;

  async function load() {
    try {
      const found = await known();
      return { found, listed: wire.mayCall(session) ? await keys.list(session, found) : null };
    } catch (error) {
      const { change } = /** @type {any} */ (error).details ?? {};
      if (!change) throw error;
      return { change };
    }
  }
  const reload = () => loading(body, load, ({ found, listed, change }) => (found ? content(found, listed ?? null) : changed(change, reload)), { signal, lines: 3 });

  /** @param {Runner} found @param {Awaited<ReturnType<typeof keys.list>> | null} listed */
  function content(found, listed) {
    const who = /** @type {[string, import("../elements.js").Child][]} */ ([[words.did, copyField(found.did, words.did)], [words.address, h("code", {}, found.url)]]);
    const bind = h("div", { class: "row" }, h("a", { class: "button", href: "#/bind" }, words.bind.title));
    if (!listed) return [facts(who), bind, askForCalls(client, reload)];
    const { account, keys: held } = listed;
    const amounts = /** @type {["balance" | "reserved" | "charged", string][]} */ (Object.entries(words.account)).map(([name, label]) => /** @type {[string, string]} */ ([label, words.micro(Number(account[name]))]));
    return [facts([...who, ...amounts]), bind, h("div", { class: "row spread" }, h("h3", {}, words.keys), h("button", { class: "primary", on: { click: () => create(client, found, reload) } }, words.create)),
      held.length ? h("ul", { class: "versions", role: "list" }, held.map((one) => keyRow(one, () => revoke(client, found, one, reload)))) : h("p", { class: "dim" }, words.noKeys)];
  }

  reload();
  return h("section", { class: "panel stack", "aria-label": words.title }, h("div", {}, h("h2", {}, words.title), h("p", { class: "dim small" }, words.lead)), body,
    h("p", { class: "dim small" }, words.noCalls, " ", h("code", {}, words.call(runnerUrl))));
}

/** The warning that is shown while the runner's identity differs from the last visit. @param {import("./known_node.js").Change} change @param {() => void} accepted */
function changed({ before, now }, accepted) {
  const accept = async () => {
    const run = async () => localStorage.setItem(RUNNER, now);
    if (await confirmByWord({ title: state.acceptTitle, text: words.acceptText, word: state.acceptWord, action: words.accept, run })) accepted();
  };
  return h("div", { class: "stack", role: "alert" }, banner({ kind: "bad", title: words.changedTitle, text: words.changed }),
    facts([[state.before, copyField(before)], [state.now, copyField(now)]]), h("p", {}, h("strong", {}, `${failed.next}: `), words.changedNext),
    h("div", { class: "row" }, h("button", { class: "danger", on: { click: accept } }, words.accept)));
}

/** @param {Client} client @param {() => void} allowed */
function askForCalls({ session }, allowed) {
  const wrong = h("div", { role: "alert" });
  const allow = async () => {
    fill(wrong);
    try {
      if (await signedByOwner(session, words.allowText, (owner) => wire.allowCalls(session, owner))) allowed();
    } catch (error) {
      fill(wrong, failure(error));
    }
  };
  return h("div", { class: "stack" }, banner({ title: words.allowTitle, text: words.allowWhy, action: { label: words.allow, run: allow } }), wrong);
}

/** @param {ApiKey} key @param {() => void} end */
function keyRow({ nonce, projects, profiles, maxPerCall, expires }, end) {
  const listed = (/** @type {string[]} */ some, /** @type {string} */ none) => (some.length ? some.map((one) => [quoted(one, { mono: true }), " "]) : none);
  const named = projects[0] === keys.ANY_PROJECT ? words.anyProject : listed(projects, words.anyProject);
  return h("li", { class: "row spread" }, h("div", {}, h("code", {}, nonce), h("span", { class: "dim small" }, ` ${words.ends} `, time(expires), ` · ${words.perCall(Number(maxPerCall))}`),
    h("p", { class: "small" }, words.calls, " ", named), h("p", { class: "small dim" }, words.mayAsk, " ", listed(profiles, words.noSecrets))),
    h("button", { class: "danger", "aria-label": words.revokeOf(nonce), on: { click: end } }, words.revoke));
}

/** @param {Client} client @param {Runner} found @param {ApiKey} key @param {() => void} reload */
async function revoke({ session }, found, { nonce }, reload) {
  const run = () => keys.revokeKey(session, found, nonce);
  if (!(await confirmByWord({ title: words.revokeTitle(nonce), text: words.revokeText, word: words.revokeWord, action: words.revoke, run }))) return;
  say(words.revoked);
  reload();
}

/** @param {Client} client @param {Runner} found @param {() => void} reload */
function create({ session }, found, reload) {
  const whole = (/** @type {string} */ said, /** @type {number} */ least, /** @type {number} */ most) => /^[0-9]{1,16}$/.test(said.trim()) && Number(said) >= least && Number(said) <= most;
  const projectsOf = (/** @type {string} */ said) => split(said).map((one) => (one === keys.ANY_PROJECT ? one : keys.projectOf(one, session.owner)));
  const projects = textField({ name: "projects", label: words.projects, hint: words.projectsHint, rows: 3, mono: true, check: (said) => {
    const named = projectsOf(said);
    return named.length === 0 || named.length > 64 || named.includes(null) || new Set(named).size < named.length || (named.includes(keys.ANY_PROJECT) && named.length > 1) ? words.projectsBad : "";
  } });
  const profiles = textField({ name: "profiles", label: words.profiles, hint: words.profilesHint, mono: true,
    check: (said) => (new Set(split(said)).size === split(said).length && split(said).every(keys.isProfile) ? "" : words.profilesBad) });
  const most = textField({ name: "most", label: words.most, hint: words.mostHint, value: "10000", check: (said) => (whole(said, 0, keys.MAX_AMOUNT) ? "" : words.mostBad) });
  const days = textField({ name: "days", label: words.days, hint: words.daysHint, value: "30", check: (said) => (whole(said, 1, keys.MAX_LIFE_DAYS) ? "" : words.daysBad) });
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(words.createTitle, (close) => {
    made = form({ intro: h("p", {}, words.createText), fields: [projects, profiles, most, days], action: words.create, cancel: close, submit: async (said) => {
      const stated = { projects: /** @type {string[]} */ (projectsOf(said.projects)), profiles: split(said.profiles), maxPerCall: Number(said.most), expiresS: Number(said.days) * 86400 };
      let key = "";
      if (!(await signedByOwner(session, words.createWhy, async (owner) => { key = await keys.createKey(owner, found, stated); }))) return;
      close();
      await openDialog(words.keyTitle, (seen) => h("div", { class: "stack" }, h("p", {}, words.keyText), copyField(key, words.key),
        h("div", { class: "actions" }, h("button", { class: "primary", on: { click: seen } }, words.keySeen))));
      reload();
    } });
    return made.element;
  }, { mayClose: () => made.mayClose() });
}
