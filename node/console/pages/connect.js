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

/** @param {import("../app.js").Context} context */
export function render(context) {
  /** @param {import("../wire/wallets.js").Owner} owner */
  const enter = async (owner) => {
    context.signedIn(await signIn(owner, { nodeId: context.node.nodeId }));
    say(words.done);
    context.go(context.parameters.get("to") || "secrets");
  };

  const kept = h("ul", { class: "choices", role: "list" });
  if (hasPasskeys) showKept(kept, enter, context.signal);
  return h("div", { class: "page welcome" },
    h("header", {}, h("div", {}, h("h1", {}, words.title), h("p", {}, words.lead))),
    h("section", { class: "panel stack", "aria-label": words.wallets }, h("h2", {}, words.wallets), walletChoices(enter, context.signal)),
    h("section", { class: "panel stack", "aria-label": words.phrases }, h("h2", {}, words.phrases), kept, h("ul", { class: "choices", role: "list" },
      choice("inbox", words.phrase, words.phraseHint, () => askPhrase(enter)),
      choice("plus", words.make, words.makeHint, () => showPhrase(enter)))),
    h("p", { class: "small dim" }, words.terms),
    h("details", {}, h("summary", {}, words.noWallet), h("p", { class: "dim" }, words.noWalletText)));
}

/** @param {any} drawing @param {string} name @param {string} hint @param {() => void} run */
const choice = (drawing, name, hint, run) =>
  h("li", {}, h("button", { on: { click: run } }, icon(drawing), h("span", {}, name, h("small", {}, hint))));

const phrases = () => import("../wire/recovery_phrase.js"); // its list of words is needed by few

const passkeys = () => import("../wire/passkey.js");

/** A passkey belongs to a name; at a bare address there is none. */
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
  fill(list, choice("key", words.passkey, words.passkeyHint, use), choice("close", words.forget, words.forgetHint, forget), failed);
}

/** Whether the phrase is to be kept; asked only where it can be. @returns {import("../parts/form.js").Field[]} */
const keepFields = () => (hasPasskeys ? [checkField({ name: "keep", label: words.keep, hint: words.keepHint })] : []);

/** Sign in with a phrase, after it is kept if that was chosen. @param {Enter} enter @param {string} phrase @param {import("../parts/form.js").Field[]} fields of `keepFields` */
async function enterWith(enter, phrase, [keep]) {
  const owner = await (await phrases()).ownerFromPhrase(phrase);
  if (keep?.input.checked) await (await passkeys()).keepPhrase(phrase, owner.did);
  await enter(owner);
}

/** @typedef {(owner: import("../wire/wallets.js").Owner) => Promise<void>} Enter */

/** @param {Enter} enter */
function askPhrase(enter) {
  const phrase = textField({ name: "phrase", label: words.phraseLabel, hint: words.phraseHint, rows: 3, mono: true,
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

/** @param {Enter} enter */
async function showPhrase(enter) {
  const phrase = await (await phrases()).makePhrase();
  const keep = keepFields();
  return openDialog(words.makeTitle, (close) => form({
    intro: [h("p", {}, words.makeText), h("ol", { class: "phrase" }, phrase.split(" ").map((/** @type {string} */ word) => h("li", {}, word))), h("div", { class: "row" }, copyButton(phrase, words.phraseLabel, true))],
    fields: keep, action: words.written, cancel: close,
    submit: async () => { await enterWith(enter, phrase, keep); close(); },
  }).element);
}
