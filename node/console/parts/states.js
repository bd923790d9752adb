import { fill, h, icon } from "../elements.js";
import { app, failed, session } from "../texts.js";

/**
 * A banner with the situation and the next step.
 * @param {{ kind?: "bad" | "warn" | "", title: string, text?: string, action?: { label: string, run: () => void } }} options
 */
export function banner({ kind = "", title, text, action }) {
  return h("div", { class: `banner ${kind}` }, icon(kind ? "warning" : "info"), h("div", {}, h("strong", {}, title), text && h("p", {}, text),
    action && h("button", { type: "button", on: { click: action.run } }, action.label)));
}

/** The placeholder that is shown while content is loading. @param {number} [lines] */
export const skeleton = (lines = 6) =>
  h("div", { class: "skeleton", role: "status" }, h("span", { class: "sr" }, app.loading), Array.from({ length: lines }, () => h("i")));

/**
 * The text that is shown instead of an empty list.
 * @param {{ icon: any, title: string, text: import("../elements.js").Child, actions?: Element[] }} options
 */
export const emptyState = ({ icon: name, title, text, actions = [] }) =>
  h("div", { class: "state" }, icon(name), h("h2", {}, title), h("p", {}, text), actions.length > 0 && h("div", { class: "row" }, actions));

/**
 * A description of a failure: what happened, what to do, and the request's id for support.
 * @param {any} error a ConsoleError, or anything
 * @param {() => void} [retry]
 */
export function failure(error, retry) {
  const code = String(error?.code ?? "");
  if (code === "revoked") dispatchEvent(new Event(REVOKED));
  const hint = failed.hints[code] ?? error?.hint;
  const { requestId, reason, text } = error?.details ?? {};
  const needsSignIn = code === "session-expired" || code === "not-signed-in";
  return h("div", { class: "banner bad" }, icon("warning"), h("div", {},
    h("strong", {}, failed.words[code] ?? failed.other),
    hint && h("p", {}, hint[0].toUpperCase() + hint.slice(1)),
    (reason || text || !failed.words[code]) && h("p", { class: "small dim" }, reason || text || String(error?.message ?? error)),
    requestId && h("p", { class: "small dim" }, `${failed.requestId} `, h("code", {}, requestId)),
    needsSignIn ? h("a", { class: "button", href: "#/connect" }, session.signIn)
      : retry && h("button", { type: "button", on: { click: retry } }, app.retry)));
}

/** Events of the window: a request found no node; the node answers again after it did not; a request was refused because a grant behind it was revoked. */
export const [LOST, BACK, REVOKED] = ["node-lost", "node-back", "grant-revoked"];

/**
 * After a failure because the node did not answer: have the connection checked, and call a function when the node answers again.
 * @param {any} error @param {() => void} again @param {AbortSignal} [signal] @returns {boolean} whether that was the failure
 */
export function onceBack(error, again, signal) {
  if (error?.code !== "node-unreachable") return false;
  addEventListener(BACK, again, { once: true, signal });
  dispatchEvent(new Event(LOST));
  return true;
}

/**
 * Fill an element with content that takes time to load: first a skeleton, then the content, or an error with a retry
 * button. During a reload the old content and the focus stay. An element that `render` returns again is not moved.
 * @template T
 * @param {Element} element
 * @param {() => Promise<T>} load
 * @param {(value: T) => import("../elements.js").Child} render
 * @param {{ signal?: AbortSignal, lines?: number }} [options] nothing is drawn after `signal`
 */
export async function loading(element, load, render, { signal, lines } = {}) {
  element.setAttribute("aria-busy", "true");
  if (!element.childElementCount) fill(element, skeleton(lines));
  try {
    const value = await load();
    if (signal?.aborted) return;
    const hadFocus = element.contains(document.activeElement);
    const shown = render(value);
    if (!(shown instanceof Element) || shown.parentElement !== element) fill(element, shown);
    if (hadFocus && !element.contains(document.activeElement)) /** @type {HTMLElement | null} */ (document.querySelector("main h1"))?.focus();
  } catch (error) {
    if (signal?.aborted) return;
    const again = () => { fill(element); loading(element, load, render, { signal, lines }); };
    const shown = h("div", { role: "alert" }, failure(error, again));
    fill(element, shown);
    onceBack(error, () => { if (shown.isConnected) again(); }, signal);
  } finally {
    element.setAttribute("aria-busy", "false");
  }
}
