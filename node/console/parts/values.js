// Elements for single values: times, texts to copy, secrets, progress.
import { fill, h, icon } from "../elements.js";
import { app, secrets } from "../texts.js";

const UNITS = /** @type {[Intl.RelativeTimeFormatUnit, number][]} */ (
  [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]]);
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** "in 7 days", "3 minutes ago". @param {number} epochS */
export function distance(epochS) {
  const s = epochS - Date.now() / 1000;
  const [unit, size] = UNITS.find(([, one]) => Math.abs(s) >= one) ?? UNITS[5];
  return RELATIVE.format(Math.round(s / size), unit);
}

/** A relative time; the exact time is in the tooltip and the `datetime` attribute. @param {number | string} when epoch seconds, or RFC 3339 */
export function time(when) {
  const date = typeof when === "number" ? new Date(when * 1000) : new Date(when);
  if (Number.isNaN(date.getTime())) return h("span", {}, String(when));
  return h("time", { datetime: date.toISOString(), title: date.toISOString() }, distance(date.getTime() / 1000));
}

/** A long identifier without its middle. @param {string} text */
export const shortened = (text, head = 16, tail = 6) => (text.length > head + tail + 2 ? `${text.slice(0, head)}…${text.slice(-tail)}` : text);

/** @param {string} text @param {string} [label] name for screen readers @param {boolean} [isNamed] whether the word *Copy* is visible */
export function copyButton(text, label = "", isNamed) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(app.copied);
    } catch {
      say(app.copyFailed);
    }
  };
  const name = `${app.copy} ${label}`.trim();
  return h("button", { type: "button", class: isNamed ? null : "plain iconic", "aria-label": name, title: name, on: { click: copy } }, icon("copy"), isNamed && app.copy);
}

/** A text with a button that copies it. @param {string} text @param {string} [label] */
export const copyField = (text, label) => h("span", { class: "copy" }, h("code", {}, text), copyButton(text, label));

/** Rows of name and value. @param {([string, import("../elements.js").Child] | false | "" | null | undefined)[]} rows */
export const facts = (rows) => h("dl", { class: "facts" }, rows.map((row) => row && h("div", {}, h("dt", {}, row[0]), h("dd", {}, row[1]))));

const SHOWN_S = 30;

/**
 * A secret's value, hidden at first. Once opened it is visible for 30 s, or until the user leaves or hides the page.
 * @param {() => Promise<{ text: string, shown?: import("../elements.js").Child, note?: string | false, action?: Element }>} open
 *   `shown` is displayed in place of the text, which is copied; `action` is shown beside the value
 * @param {(error: unknown) => Element} failed shown if the value cannot be opened
 */
export function secretField(open, failed) {
  const element = h("div", { class: "secret" });
  /** @type {number | undefined} */
  let timer;
  const close = () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", onHidden);
    fill(element, h("div", { class: "row" }, h("output", { "aria-hidden": "true" }, "••••••••••••••••"), reveal));
  };
  const onHidden = () => { if (document.hidden) close(); };
  const show = async () => {
    reveal.setAttribute("aria-busy", "true");
    try {
      const { text, shown = text, note, action } = await open();
      if (!element.isConnected) return;
      const left = h("span", { class: "dim small" }, secrets.hidesIn(SHOWN_S));
      const hide = h("button", { type: "button", on: { click: () => { close(); reveal.focus(); say(secrets.hidden); } } }, secrets.hide);
      fill(element, h("output", {}, shown), note && h("p", { class: "dim small" }, note),
        h("div", { class: "row spread" }, left, h("div", { class: "row" }, action, copyButton(text, secrets.value, true), hide)));
      say(secrets.revealed);
      hide.focus();
      const until = Date.now() + SHOWN_S * 1000;
      document.addEventListener("visibilitychange", onHidden);
      clearInterval(timer);
      timer = setInterval(() => {
        const leftS = Math.ceil((until - Date.now()) / 1000);
        left.textContent = secrets.hidesIn(leftS);
        if (leftS <= 0 || !element.isConnected) close();
      }, 500);
    } catch (error) {
      fill(element, failed(error), h("div", { class: "row" }, reveal));
    } finally {
      reveal.removeAttribute("aria-busy");
    }
  };
  const reveal = h("button", { type: "button", class: "primary", on: { click: show } }, secrets.reveal);
  close();
  return element;
}

/** @param {string} label @returns {{ element: HTMLElement, moved: (bytes: number, sizeBytes: number) => void }} */
export function progressBar(label) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": label });
  return { element: bar, moved: (bytes, sizeBytes) => { bar.value = sizeBytes ? bytes / sizeBytes : 1; } };
}

/** @param {string} said parts with commas or blanks between them */
export const split = (said) => said.split(/[\s,]+/).filter(Boolean);

/** Save bytes as a file. @param {Uint8Array<ArrayBuffer>} bytes @param {string} name */
export function download(bytes, name) {
  // A type that no browser displays: a stored value must never become a page of this origin.
  const url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const SHOWN_MS = 5000;
const MOST_AT_ONCE = 2;
const region = h("div", { class: "toasts", role: "status", "aria-live": "polite" });

/**
 * Show a message that needs no answer; screen readers announce it. On a page it is a toast. In a dialog it is a line under
 * the buttons, because a toast would cover part of the dialog.
 * @param {string} text
 */
export function say(text) {
  // A modal dialog makes everything outside it inert, including this region.
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  const place = dialog ? ([...dialog.querySelectorAll(".actions")].at(-1) ?? dialog.firstElementChild) : document.body;
  if (region.parentElement !== place) hush();
  place?.append(region);
  const toast = h("div", { class: "toast" }, text);
  if (region.childElementCount >= (dialog ? 1 : MOST_AT_ONCE)) region.firstElementChild?.remove();
  region.append(toast);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

/** Remove all messages. A dialog that opens would otherwise have a toast beside or behind it. */
export const hush = () => region.replaceChildren();
