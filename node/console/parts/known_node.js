import { h } from "../elements.js";
import { failed, state } from "../texts.js";
import { confirmByWord } from "./dialog.js";
import { copyField, facts } from "./values.js";

const KEY = "sealspace.node";
/** Origin of the runner that the node's operator chose, or empty. The page's Content-Security-Policy allows requests to it. */
export const runnerUrl = document.documentElement.dataset.runner ?? "";

/** @typedef {{ before: string, now: string }} Change of the node behind this address */

/**
 * Remember the identity of the node at this address, or of its runner, at the first visit.
 * @param {string} did @param {string} [key] @returns {Change | null} set if the identity differs from the last visit
 */
export function knownNode(did, key = KEY) {
  const before = localStorage.getItem(key);
  if (before === null) localStorage.setItem(key, did);
  return before === null || before === did ? null : { before, now: did };
}

/** The warning that replaces the page while the node has another identity than before. @param {Change} change @param {() => Promise<void>} accepted */
export function stopped({ before, now }, accepted) {
  const accept = async () => {
    await confirmByWord({ title: state.acceptTitle, text: state.acceptText, word: state.acceptWord, action: state.accept, run: async () => {
      localStorage.setItem(KEY, now);
      await accepted();
    } });
  };
  return h("main", { class: "stopped", role: "alert" }, h("h1", {}, state.changedTitle), h("p", {}, state.changed),
    h("div", { class: "panel" }, facts([[state.before, copyField(before)], [state.now, copyField(now)]])),
    h("p", {}, h("strong", {}, `${failed.next}: `), state.changedNext),
    h("div", { class: "row" }, h("button", { class: "danger", on: { click: accept } }, state.accept)));
}
