// The dialogs of a recovery phrase: use one, or make a new one.
import { fill, h } from "../elements.js";
import { openDialog } from "../parts/dialog.js";
import { checkField, form, textField } from "../parts/form.js";
import { copyButton } from "../parts/values.js";
import { connect } from "../texts_connect.js";
import { phrase as words } from "../texts_phrase.js";
import { makePhrase, ownerFromPhrase, spelled } from "../wire/recovery_phrase.js";

/** @import { Enter } from "./connect.js" */

const PHRASE_CHARS = 36;
const ASKED_GROUPS = 3;

/** The box that offers to keep the phrase. @param {boolean} mayKeep whether this browser can @returns {import("../parts/form.js").Field[]} */
const keepFields = (mayKeep) => (mayKeep ? [checkField({ name: "keep", label: words.keep, hint: words.keepHint })] : []);

/** Keep the phrase if the owner chose to, then sign in with it. @param {Enter} enter @param {string} phrase @param {import("../parts/form.js").Field[]} fields of `keepFields` */
async function enterWith(enter, phrase, [keep]) {
  const owner = await ownerFromPhrase(phrase);
  if (keep?.input.checked) await (await import("../wire/passkey.js")).keepPhrase(phrase, owner.did);
  await enter(owner);
}

/** @param {Enter} enter @param {boolean} mayKeep */
export function askPhrase(enter, mayKeep) {
  const phrase = textField({ name: "phrase", label: words.label, hint: connect.phraseHint, rows: 3, mono: true, secret: true,
    check: (value) => { const { length } = value.replace(/[\s-]/g, ""); return length === PHRASE_CHARS ? "" : words.isBad(length); } });
  const keep = keepFields(mayKeep);
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(connect.phrase, (close) => {
    made = form({ fields: [phrase, ...keep], action: connect.title, cancel: close, submit: async ({ phrase: said }) => {
      await enterWith(enter, said, keep);
      close();
    } });
    return made.element;
  }, { mayClose: () => made.mayClose() });
}

/**
 * Show a new phrase, then ask for some of its groups. The owner is made only after these were typed correctly.
 * @param {Enter} enter @param {boolean} mayKeep
 */
export async function showPhrase(enter, mayKeep) {
  const phrase = await makePhrase();
  const groups = phrase.split(" ");
  const order = groups.map((_, at) => ({ at, drawn: crypto.getRandomValues(new Uint32Array(1))[0] })).sort((one, other) => one.drawn - other.drawn);
  const asked = order.slice(0, ASKED_GROUPS).map(({ at }) => at).sort((one, other) => one - other);
  const keep = keepFields(mayKeep);
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
        h("div", { class: "row" }, copyButton(phrase, words.label, true), h("button", { type: "button", on: { click: () => print() } }, words.print))] }).element);
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
