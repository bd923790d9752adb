// @ts-check
import { h } from "../elements.js";
import { quotedText as words } from "../texts.js";

// Controls, overrides of the direction, unassigned and private characters, and letters that look like blanks.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]/gu;
const PILED_MARKS = /(\p{M}{2})\p{M}+/gu;
const SHORT_CHARS = 160;

/**
 * What another party wrote, in quotation marks and on a ground of its own, so that it cannot pass for the console's words.
 * @param {string} text untrusted, of any length: beyond `most` characters it is folded
 * @param {{ mono?: boolean, most?: number }} [options]
 */
export function quoted(text, { mono, most = SHORT_CHARS } = {}) {
  const line = text.replace(/\s+/gu, " ").replace(UNSEEN, "\ufffd").replace(PILED_MARKS, "$1");
  const mark = (/** @type {string} */ part) => h("q", { class: mono ? "said mono" : "said", dir: mono ? "ltr" : "auto" }, part);
  const letters = [...line];
  if (letters.length <= most) return mark(line);
  return h("details", { class: "folded" }, h("summary", {}, mark(`${letters.slice(0, most).join("")}…`), " ", words.more(letters.length - most)), mark(line));
}
