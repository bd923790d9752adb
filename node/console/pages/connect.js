import { fill, h, icon, pageHead } from "../elements.js";
import { confirmByWord } from "../parts/dialog.js";
import { failure } from "../parts/states.js";
import { say } from "../parts/values.js";
import { walletChoices } from "../parts/wallet_choices.js";
import { connect as words } from "../texts_connect.js";
import { signIn } from "../wire/session.js";

export const title = words.title;

/** @param {import("../app.js").Context} context */
export function render(context) {
  /** @param {import("../wire/wallets.js").Owner} owner */
  const enter = async (owner) => {
    context.signedIn(await signIn(owner, { nodeId: context.node.nodeId }));
    say(words.done(owner.chainId));
    context.go(context.parameters.get("to") || "secrets");
  };

  const failed = h("div", { role: "alert" });
  let isOpen = false;
  /** Open a dialog, one at a time; they are loaded on demand, since few owners need them. @param {"askPhrase" | "showPhrase"} name */
  const open = (name) => async () => {
    if (isOpen) return;
    isOpen = true;
    fill(failed);
    try {
      const dialogs = await import("./connect_phrase.js");
      if (!context.signal.aborted) await dialogs[name](enter, hasPasskeys);
    } catch (error) {
      if (!context.signal.aborted) fill(failed, failure(error, open(name)));
    } finally {
      isOpen = false;
    }
  };
  const kept = h("ul", { class: "choices", role: "list" });
  if (hasPasskeys) showKept(kept, enter, context.signal);
  return h("div", { class: "page welcome" },
    pageHead(words),
    h("section", { class: "panel stack", "aria-label": words.wallets }, h("h2", {}, words.wallets), walletChoices(enter, context.signal)),
    h("section", { class: "panel stack", "aria-label": words.phrases }, h("h2", {}, words.phrases), kept, h("ul", { class: "choices", role: "list" },
      choice("paper", words.phrase, words.phraseHint, open("askPhrase")),
      choice("plus", words.make, words.makeHint, open("showPhrase"))), failed),
    h("p", { class: "small dim" }, words.terms),
    h("details", {}, h("summary", {}, words.noWallet), h("p", { class: "dim" }, words.noWalletText)));
}

/** @param {any} drawing @param {string} name @param {string} hint @param {() => void} run */
const choice = (drawing, name, hint, run) =>
  h("li", {}, h("button", { on: { click: run } }, icon(drawing), h("span", {}, name, h("small", {}, hint))));

/** Whether passkeys work on this page. Browsers bind them to a host name, so not at an IP address. */
const hasPasskeys = "PublicKeyCredential" in globalThis && isSecureContext && !/^[\d.]+$|:/.test(location.hostname);

/** Show the choices for a stored recovery phrase, if there is one. @param {HTMLElement} list @param {Enter} enter @param {AbortSignal} signal */
async function showKept(list, enter, signal) {
  const { forgetPhrase, isKept, keptPhrase } = await import("../wire/passkey.js");
  if (!(await isKept()) || signal.aborted) return;
  const failed = h("li", { role: "alert" });
  const use = async () => {
    fill(failed);
    try {
      await enter(await (await import("../wire/recovery_phrase.js")).ownerFromPhrase(await keptPhrase()));
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

/** @typedef {(owner: import("../wire/wallets.js").Owner) => Promise<void>} Enter */
