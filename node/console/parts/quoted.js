import { h } from "../elements.js";
import { quotedText as words } from "../texts.js";

// Controls, overrides of the direction, unassigned and private characters, and letters that look like spaces.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]/gu;
const PILED_MARKS = /(\p{M}{2})\p{M}+/gu;
const SHORT_CHARS = 160;

const SHORT_NAME_CHARS = 24; // a long name would hide the DID, which alone says who it is

/** The name that an app gave itself, before its DID. @param {string | undefined} name */
export const nameBefore = (name) => {
  const letters = [...(name ?? "")];
  return letters.length > 0 && [quoted(letters.length > SHORT_NAME_CHARS ? `${letters.slice(0, SHORT_NAME_CHARS - 1).join("")}…` : letters.join("")), " "];
};

/**
 * Foreign text in quotation marks on a separate background. It cannot be mistaken for the console's own words.
 * @param {string} text untrusted, of any length; beyond `most` characters the rest is folded
 * @param {{ mono?: boolean, most?: number }} [options]
 */
export function quoted(text, { mono, most = SHORT_CHARS } = {}) {
  const line = text.replace(/\s+/gu, " ").replace(UNSEEN, "\ufffd").replace(PILED_MARKS, "$1");
  const mark = (/** @type {string} */ part) => h("q", { class: mono ? "said mono" : "said", dir: mono ? "ltr" : "auto" }, part);
  const letters = [...line];
  if (letters.length <= most) return mark(line);
  return h("details", { class: "folded" }, h("summary", {}, mark(`${letters.slice(0, most).join("")}…`), " ", words.more(letters.length - most)), mark(line));
}

// In values line feeds and tabs are usual. Other blanks than the space look like it, and direction marks reorder what is read.
const ODD = /([^\P{C}\n\t]|[\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]|(?! )\p{Zs})/u;
const MOST_MARKS = 100;

/** Whether a text has characters that are invisible, look like a space, or change the direction. @param {string} text */
export const hasUnseen = (text) => ODD.test(text);

/** A text in which such characters are visible, by their numbers. @param {string} text untrusted @returns {import("../elements.js").Child} */
export function shownText(text) {
  const parts = text.split(ODD);
  if (parts.length > 2 * MOST_MARKS) return text.replace(new RegExp(ODD, "gu"), "\ufffd");
  return parts.map((part, at) => (at % 2 ? h("mark", {}, `U+${(part.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`) : part));
}
