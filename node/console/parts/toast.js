// @ts-check
import { h } from "../elements.js";

const SHOWN_MS = 5000;
const MOST_AT_ONCE = 2;
const region = h("div", { class: "toasts", role: "status", "aria-live": "polite" });

/** Say something that needs no answer, to eyes and ears. @param {string} text */
export function say(text) {
  // A modal dialog makes everything outside it inert, this region too.
  (document.querySelector("dialog[open]") ?? document.body).append(region);
  const toast = h("div", { class: "toast" }, text);
  if (region.childElementCount >= MOST_AT_ONCE) region.firstElementChild?.remove();
  region.append(toast);
  setTimeout(() => toast.remove(), SHOWN_MS);
}
