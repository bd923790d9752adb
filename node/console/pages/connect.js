// @ts-check
import { h, icon } from "../elements.js";
import { openDialog } from "../parts/dialog.js";
import { form, textField } from "../parts/form.js";
import { say } from "../parts/toast.js";
import { copyButton } from "../parts/values.js";
import { walletChoices } from "../parts/wallet_choices.js";
import { connect as words } from "../texts.js";
import { signIn } from "../wire/session.js";

export const title = words.title;

const PHRASE_CHARS = 36;

/** @param {import("../app.js").Context} context */
export function render(context) {
  /** @param {import("../wire/wallets.js").Owner} owner */
  const enter = async (owner) => {
    context.signedIn(await signIn(owner));
    say(words.done);
    context.go(context.parameters.get("to") || "secrets");
  };

  return h("div", { class: "page welcome" },
    h("header", {}, h("div", {}, h("h1", {}, words.title), h("p", {}, words.lead))),
    h("section", { class: "panel stack", "aria-label": words.wallets }, h("h2", {}, words.wallets), walletChoices(enter, context.signal), h("p", { class: "small dim" }, words.terms)),
    h("section", { class: "panel", "aria-label": words.phrase }, h("ul", { class: "choices", role: "list" },
      choice("inbox", words.phrase, words.phraseHint, () => askPhrase(enter)),
      choice("plus", words.make, words.makeHint, () => showPhrase(enter)))),
    h("details", {}, h("summary", {}, words.noWallet), h("p", { class: "dim" }, words.noWalletText)));
}

/** @param {any} drawing @param {string} name @param {string} hint @param {() => void} run */
const choice = (drawing, name, hint, run) =>
  h("li", {}, h("button", { on: { click: run } }, icon(drawing), h("span", {}, name, h("small", {}, hint))));

const phrases = () => import("../wire/recovery_phrase.js"); // its list of words is needed by few

/** @typedef {(owner: import("../wire/wallets.js").Owner) => Promise<void>} Enter */

/** @param {Enter} enter */
function askPhrase(enter) {
  const phrase = textField({ name: "phrase", label: words.phraseLabel, hint: words.phraseHint, rows: 3, mono: true,
    check: (value) => (value.replace(/[\s-]/g, "").length === PHRASE_CHARS ? "" : words.phraseBad) });
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(words.phrase, (close) => {
    made = form({ fields: [phrase], action: words.title, cancel: close, submit: async ({ phrase: said }) => {
      await enter(await (await phrases()).ownerFromPhrase(said));
      close();
    } });
    return made.element;
  }, { mayClose: () => made.mayClose() });
}

/** @param {Enter} enter */
async function showPhrase(enter) {
  const phrase = await (await phrases()).makePhrase();
  return openDialog(words.makeTitle, (close) => form({
    intro: [h("p", {}, words.makeText), h("ol", { class: "phrase" }, phrase.split(" ").map((/** @type {string} */ word) => h("li", {}, word))), h("div", { class: "row" }, copyButton(phrase, words.phraseLabel))],
    fields: [], action: words.written, cancel: close,
    submit: async () => { await enter(await (await phrases()).ownerFromPhrase(phrase)); close(); },
  }).element);
}
