// @ts-check
import { fill, h, icon } from "../elements.js";
import { confirmByWord, openDialog } from "../parts/dialog.js";
import { checkField, form, textField } from "../parts/form.js";
import { failure } from "../parts/states.js";
import { copyButton, say } from "../parts/values.js";
import { walletChoices } from "../parts/wallet_choices.js";
import { connect as words } from "../texts.js";
import { signIn } from "../wire/session.js";

export const title = words.title;

const PHRASE_CHARS = 36;
const ASKED_GROUPS = 3;

/** @param {import("../app.js").Context} context */
export function render(context) {
  /** @param {import("../wire/wallets.js").Owner} owner */
  const enter = async (owner) => {
    context.signedIn(await signIn(owner, { nodeId: context.node.nodeId }));
    say(words.done(owner.chainId));
    context.go(context.parameters.get("to") || "secrets");
  };

  const kept = h("ul", { class: "choices", role: "list" });
  if (hasPasskeys) showKept(kept, enter, context.signal);
  return h("div", { class: "page welcome" },
    h("header", {}, h("div", {}, h("h1", {}, words.title), h("p", {}, words.lead))),
    h("section", { class: "panel stack", "aria-label": words.wallets }, h("h2", {}, words.wallets), walletChoices(enter, context.signal)),
    h("section", { class: "panel stack", "aria-label": words.phrases }, h("h2", {}, words.phrases), kept, h("ul", { class: "choices", role: "list" },
      choice("paper", words.phrase, words.phraseHint, () => askPhrase(enter)),
      choice("plus", words.make, words.makeHint, () => showPhrase(enter)))),
    h("p", { class: "small dim" }, words.terms),
    h("details", {}, h("summary", {}, words.noWallet), h("p", { class: "dim" }, words.noWalletText)));
}

/** @param {any} drawing @param {string} name @param {string} hint @param {() => void} run */
const choice = (drawing, name, hint, run) =>
  h("li", {}, h("button", { on: { click: run } }, icon(drawing), h("span", {}, name, h("small", {}, hint))));

const phrases = () => import("../wire/recovery_phrase.js"); // loaded on demand: few owners need it

const passkeys = () => import("../wire/passkey.js");

/** Whether passkeys work on this page. Browsers bind them to a host name, so not at an IP address. */
const hasPasskeys = "PublicKeyCredential" in globalThis && isSecureContext && !/^[\d.]+$|:/.test(location.hostname);

/** Show the choices for a stored recovery phrase, if there is one. @param {HTMLElement} list @param {Enter} enter @param {AbortSignal} signal */
async function showKept(list, enter, signal) {
  const { forgetPhrase, isKept, keptPhrase } = await passkeys();
  if (!(await isKept()) || signal.aborted) return;
  const failed = h("li", { role: "alert" });
  const use = async () => {
    fill(failed);
    try {
      await enter(await (await phrases()).ownerFromPhrase(await keptPhrase()));
    } catch (error) {
      if (!signal.aborted) fill(failed, failure(error));
    }
  };
  const forget = async () => {
    if (!(await confirmByWord({ title: words.forget, text: words.forgetText, word: words.forgetWord, action: words.forget, run: forgetPhrase }))) return;
    fill(list);
    say(words.forgotten);
  };
  fill(list, choice("lock", words.passkey, words.passkeyHint, use), choice("trash", words.forget, words.forgetHint, forget), failed);
}

/** The box that offers to keep the phrase; shown only if this browser can keep it. @returns {import("../parts/form.js").Field[]} */
const keepFields = () => (hasPasskeys ? [checkField({ name: "keep", label: words.keep, hint: words.keepHint })] : []);

/** Keep the phrase if the owner chose to, then sign in with it. @param {Enter} enter @param {string} phrase @param {import("../parts/form.js").Field[]} fields of `keepFields` */
async function enterWith(enter, phrase, [keep]) {
  const owner = await (await phrases()).ownerFromPhrase(phrase);
  if (keep?.input.checked) await (await passkeys()).keepPhrase(phrase, owner.did);
  await enter(owner);
}

/** @typedef {(owner: import("../wire/wallets.js").Owner) => Promise<void>} Enter */

/** @param {Enter} enter */
function askPhrase(enter) {
  const phrase = textField({ name: "phrase", label: words.phraseLabel, hint: words.phraseHint, rows: 3, mono: true, secret: true,
    check: (value) => { const { length } = value.replace(/[\s-]/g, ""); return length === PHRASE_CHARS ? "" : words.phraseBad(length); } });
  const keep = keepFields();
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(words.phrase, (close) => {
    made = form({ fields: [phrase, ...keep], action: words.title, cancel: close, submit: async ({ phrase: said }) => {
      await enterWith(enter, said, keep);
      close();
    } });
    return made.element;
  }, { mayClose: () => made.mayClose() });
}

/**
 * Show a new phrase, then ask for some of its groups. The owner is made only after these were typed correctly.
 * @param {Enter} enter
 */
async function showPhrase(enter) {
  const { makePhrase, spelled } = await phrases();
  const phrase = await makePhrase();
  const groups = phrase.split(" ");
  const order = groups.map((_, at) => ({ at, drawn: crypto.getRandomValues(new Uint32Array(1))[0] })).sort((one, other) => one.drawn - other.drawn);
  const asked = order.slice(0, ASKED_GROUPS).map(({ at }) => at).sort((one, other) => one - other);
  const keep = keepFields();
  const typed = textField({ name: "groups", label: words.groups(asked.map((at) => at + 1)), hint: words.groupsHint, mono: true, secret: true,
    check: (said) => (spelled(said) === asked.map((at) => groups[at]).join("") ? "" : words.groupsBad) });
  const list = () => h("ol", { class: "phrase" }, groups.map((group) => h("li", {}, group)));
  // Print styles show this element alone; on the screen it is hidden.
  const sheet = h("section", { class: "printable" }, h("h1", {}, words.sheetTitle), h("p", {}, words.sheetText), list(), h("p", {}, words.sheetUse),
    h("p", {}, words.sheetNode, " ", h("code", {}, `${location.origin}/console/`)), h("p", {}, words.sheetDate, " ", new Date().toISOString().slice(0, 10)));
  let mayClose = () => /** @type {boolean | Promise<boolean>} */ (true);
  document.body.append(sheet);
  return openDialog(words.makeTitle, (close) => {
    const body = h("div");
    const show = () => {
      mayClose = () => true;
      fill(body, form({ action: words.written, cancel: close, fields: [], submit: async () => ask(), intro: [h("p", {}, words.makeText), list(),
        h("div", { class: "row" }, copyButton(phrase, words.phraseLabel, true), h("button", { type: "button", on: { click: () => print() } }, words.print))] }).element);
    };
    const ask = () => {
      const made = form({ intro: h("p", {}, words.confirmText), fields: [typed, ...keep], action: words.confirm, cancel: close,
        submit: async () => { await enterWith(enter, phrase, keep); close(); } });
      ({ mayClose } = made);
      made.element.querySelector(".actions")?.prepend(h("button", { type: "button", on: { click: show } }, words.showAgain));
      fill(body, made.element);
      typed.input.focus();
    };
    show();
    return body;
  }, { mayClose: () => mayClose() }).finally(() => sheet.remove());
}
