// A choice among the wallets of this browser.
import { fill, h, icon } from "../elements.js";
import { owner as ownerWords, wallets as words } from "../texts.js";
import { ConsoleError } from "../wire/errors.js";
import { connect, discover } from "../wire/wallets.js";
import { openDialog } from "./dialog.js";
import { failure, skeleton } from "./states.js";

/** @import { Owner } from "../wire/wallets.js" */

/**
 * A list of the wallets, and the error of the chosen one, if any.
 * @param {(owner: Owner) => Promise<unknown>} enter called with the wallet's account; its errors are shown
 * @param {AbortSignal} [signal] nothing is drawn after it
 * @param {string} [noneText] what to do without a wallet
 */
export function walletChoices(enter, signal, noneText = words.noneText) {
  const list = h("ul", { class: "choices", role: "list" });
  const failed = h("div", { role: "alert" });

  /** @param {import("../wire/wallets.js").WalletInfo} info */
  function walletButton(info) {
    const note = h("small", { "aria-live": "polite" }, info.rdns);
    // After a success the button stays busy until what follows replaces it: a second click would repeat what is done.
    const use = async () => {
      if (button.getAttribute("aria-busy") === "true") return;
      button.setAttribute("aria-busy", "true");
      note.textContent = words.waiting;
      fill(failed);
      try {
        const owner = await connect(info);
        note.textContent = words.waitingOn(owner.chainId);
        await enter(owner);
      } catch (error) {
        button.removeAttribute("aria-busy");
        note.textContent = info.rdns;
        if (!signal?.aborted) fill(failed, failure(error, use));
      }
    };
    const button = h("button", { type: "button", on: { click: use } }, icon("wallet"), h("span", {}, info.name, note));
    return h("li", {}, button);
  }

  async function search() {
    fill(list, h("li", {}, skeleton(2)));
    const found = await discover();
    if (signal?.aborted) return;
    const again = h("button", { type: "button", on: { click: search } }, icon("again"), words.again);
    fill(list, found.length ? found.map(walletButton) : [h("li", {}, h("strong", {}, words.none), h("p", { class: "small dim" }, noneText)), h("li", {}, again)]);
  }
  search();
  return h("div", { class: "stack" }, list, failed);
}

/**
 * Ask the owner to sign for an action that the session alone may not take.
 * @param {import("../wire/session.js").Session} session
 * @param {string} why what is signed, in words
 * @param {(owner: Owner) => Promise<unknown>} work called with the owner; its errors are shown, and the user can try again
 * @param {string} [noneText] what to do without a wallet
 * @returns {Promise<boolean>} whether `work` succeeded
 */
export async function signedByOwner(session, why, work, noneText) {
  if (session.kind === "phrase") {
    await work({ did: session.owner, kind: "phrase", keys: session.keys });
    return true;
  }
  let isDone = false;
  await openDialog(ownerWords.title, (close) => h("div", { class: "stack" }, h("p", {}, why), walletChoices(async (owner) => {
    if (owner.did !== session.owner) {
      throw new ConsoleError("wallet-account-changed", ownerWords.other(owner.did), { hint: ownerWords.otherHint(session.owner) });
    }
    await work(owner);
    isDone = true;
    close();
  }, undefined, noneText)));
  return isDone;
}
