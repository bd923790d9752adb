// @ts-check
// The wallets of this browser, to choose one that signs.
import { fill, h, icon } from "../elements.js";
import { connect as words, owner as ownerWords } from "../texts.js";
import { ConsoleError } from "../wire/errors.js";
import { connect, discover } from "../wire/wallets.js";
import { openDialog } from "./dialog.js";
import { failure, skeleton } from "./states.js";

/** @typedef {import("../wire/wallets.js").Owner} Owner */

/**
 * A list of the wallets, and what went wrong with the one that was chosen.
 * @param {(owner: Owner) => Promise<unknown>} enter with the wallet's account; what it throws is shown
 * @param {AbortSignal} [signal] nothing is drawn after it
 * @param {string} [noneText] what to do without a wallet
 */
export function walletChoices(enter, signal, noneText = words.noneText) {
  const list = h("ul", { class: "choices", role: "list" });
  const failed = h("div", { role: "alert" });

  /** @param {import("../wire/wallets.js").WalletInfo} info */
  function walletButton(info) {
    const note = h("small", { "aria-live": "polite" }, info.rdns);
    const use = async () => {
      if (button.getAttribute("aria-busy") === "true") return;
      button.setAttribute("aria-busy", "true");
      note.textContent = words.waiting;
      fill(failed);
      try {
        await enter(await connect(info));
      } catch (error) {
        if (!signal?.aborted) fill(failed, failure(error, use));
      } finally {
        button.removeAttribute("aria-busy");
        note.textContent = info.rdns;
      }
    };
    const button = h("button", { type: "button", on: { click: use } }, icon("key"), h("span", {}, info.name, note));
    return h("li", {}, button);
  }

  async function search() {
    fill(list, h("li", {}, skeleton(2)));
    const found = await discover();
    if (signal?.aborted) return;
    const again = h("button", { type: "button", on: { click: search } }, icon("search"), words.again);
    fill(list, found.length ? found.map(walletButton) : [h("li", {}, h("strong", {}, words.none), h("p", { class: "small dim" }, noneText)), h("li", {}, again)]);
  }
  search();
  return h("div", { class: "stack" }, list, failed);
}

/**
 * Have the owner of the session sign something that the session alone may not do.
 * @param {import("../wire/session.js").Session} session
 * @param {string} why what is signed, in words
 * @param {(owner: Owner) => Promise<unknown>} work with the owner; what it throws is shown, and the wallet can be asked again
 * @returns {Promise<boolean>} whether `work` was done
 */
export async function signedByOwner(session, why, work) {
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
  })));
  return isDone;
}
