import { h, icon } from "../elements.js";
import { app, typeWord } from "../texts.js";
import { form, textField } from "./form.js";
import { hush } from "./values.js";

let count = 0;

/**
 * Open a dialog; the browser keeps the focus in it and gives it back afterwards.
 * @param {string} title
 * @param {(close: () => void) => Element} content makes the content; it gets a function that closes the dialog
 * @param {{ mayClose?: () => boolean | Promise<boolean> }} [options] `mayClose` is called before Escape or the close button closes it
 * @returns {Promise<void>} resolved when the dialog is closed
 */
export function openDialog(title, content, { mayClose = () => true } = {}) {
  const dialog = /** @type {HTMLDialogElement} */ (h("dialog", { "aria-labelledby": `dialog-title-${++count}` }));
  const close = () => dialog.close();
  const leave = async () => { if (await mayClose()) close(); };
  dialog.append(h("div", {},
    h("header", {}, h("h2", { id: `dialog-title-${count}` }, title),
      h("button", { type: "button", class: "plain iconic", "aria-label": app.close, on: { click: leave } }, icon("close"))),
    content(close)));
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
  // Chromium closes the dialog at the second Escape even if the `cancel` event was prevented.
  dialog.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); leave(); } });
  hush();
  document.body.append(dialog);
  dialog.showModal();
  /** @type {HTMLElement | null} */ (dialog.querySelector(".field > input, .field > textarea, .field > select, .check > input"))?.focus();
  const navigated = () => close();
  addEventListener("hashchange", navigated);
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    removeEventListener("hashchange", navigated);
    dialog.remove();
    resolve();
  }));
}

/**
 * Ask the user to type a word before an action that cannot be undone.
 * @param {{ title: string, text: string, word: string, action: string, run: () => Promise<unknown> }} options
 * @returns {Promise<boolean>} whether `run` succeeded
 */
export async function confirmByWord({ title, text, word, action, run }) {
  let isDone = false;
  await openDialog(title, (close) => {
    const typed = textField({ name: "word", label: typeWord(word), mono: true,
      check: (value) => (value.trim() === word ? "" : typeWord(word)) });
    return form({ intro: h("p", {}, text), fields: [typed], action, isDanger: true, cancel: close, submit: async () => {
      await run();
      isDone = true;
      close();
    } }).element;
  });
  return isDone;
}
