import { fill, h } from "../elements.js";
import { app } from "../texts.js";
import { failure, onceBack } from "./states.js";

let count = 0;

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {any} input
 * @property {HTMLElement} element
 * @property {() => string} judge shows the error and returns it; empty if the value is valid
 * @property {(words: string) => void} refuse shows an error
 */

/**
 * A text field with its label, hint and error.
 * @param {object} options
 * @param {string} options.name
 * @param {string} options.label
 * @param {string} [options.hint]
 * @param {string} [options.value]
 * @param {boolean} [options.mono]
 * @param {boolean} [options.secret] shows the text as dots, with a switch to show it
 * @param {number} [options.rows] makes a field of several lines
 * @param {import("../elements.js").Child} [options.beside] right of the label
 * @param {string[]} [options.suggestions]
 * @param {(value: string) => string} [options.check] the error; empty if the value is valid
 * @returns {Field}
 */
export function textField({ name, label, hint, value = "", mono, secret, rows, beside, suggestions, check = () => "" }) {
  const id = `field-${++count}`;
  const input = h(rows ? "textarea" : "input", { id, name, value, rows, class: `${mono ? "mono" : ""} ${secret ? "masked" : ""}`.trim() || null, autocomplete: "off", spellcheck: "false",
    autocapitalize: "off", list: suggestions?.length ? `${id}-list` : null, "aria-describedby": `${id}-hint ${id}-wrong` });
  const wrong = h("p", { class: "wrong", id: `${id}-wrong` });
  /** @param {string} words */
  const refuse = (words) => {
    wrong.textContent = words;
    input.setAttribute("aria-invalid", String(Boolean(words)));
  };
  const judge = () => {
    const words = check(input.value);
    refuse(words);
    return words;
  };
  // An error disappears as soon as it is corrected. A new one appears when the field is left, not while the user types.
  input.addEventListener("input", () => { if (wrong.textContent && !check(input.value)) refuse(""); });
  input.addEventListener("change", () => { if (input.value) judge(); });
  const show = secret && h("button", { type: "button", class: "plain", "aria-pressed": "false", "aria-controls": id, on: { click: () => {
    show.setAttribute("aria-pressed", String(!input.classList.toggle("masked")));
  } } }, app.show);
  const element = h("div", { class: "field" },
    h("div", { class: "row spread" }, h("label", { for: id }, label), h("div", { class: "row beside" }, show, beside)), input,
    suggestions && suggestions.length > 0 && h("datalist", { id: `${id}-list` }, suggestions.map((one) => h("option", { value: one }))),
    h("p", { class: "hint", id: `${id}-hint` }, hint), wrong);
  return { name, input, element, judge, refuse };
}

/**
 * A checkbox.
 * @param {{ name: string, label: string, hint?: string }} options @returns {Field} its input has `checked`
 */
export function checkField({ name, label, hint }) {
  const id = `field-${++count}`;
  const input = h("input", { id, name, type: "checkbox", "aria-describedby": `${id}-hint` });
  const element = h("div", { class: "check" }, input, h("div", {}, h("label", { for: id }, label), h("p", { class: "hint", id: `${id}-hint` }, hint)));
  return { name, input, element, judge: () => "", refuse: () => {} };
}

/**
 * A form that keeps its input. After a failure the fields are unchanged, and the reason is shown above the buttons.
 * @param {object} options
 * @param {Field[]} options.fields
 * @param {string} options.action label of the button
 * @param {(values: Record<string, string>) => Promise<unknown>} options.submit
 * @param {() => void} [options.cancel]
 * @param {import("../elements.js").Child} [options.intro]
 * @param {boolean} [options.isDanger]
 * @param {boolean} [options.resends] whether the form is sent again by itself when the node answers again after it did not. For
 *   requests that may be repeated. A form that was changed meanwhile is not sent
 */
export function form({ fields, action, submit, cancel, intro, isDanger, resends }) {
  const before = fields.map(({ input }) => input.value);
  const failed = h("div", { role: "alert" });
  const button = h("button", { class: isDanger ? "primary danger" : "primary" }, action);
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    const wrong = fields.filter((field) => field.judge());
    if (wrong.length) return wrong[0].input.focus();
    button.setAttribute("aria-busy", "true");
    fill(failed);
    try {
      await submit(Object.fromEntries(fields.map(({ name, input }) => [name, input.value])));
    } catch (error) {
      const shown = failure(error);
      const typed = JSON.stringify(fields.map(({ input }) => input.value));
      fill(failed, shown);
      const again = () => { if (resends && shown.isConnected && typed === JSON.stringify(fields.map(({ input }) => input.value))) element.requestSubmit(); };
      if (onceBack(error, again) && resends) shown.lastElementChild?.append(h("p", {}, app.resends));
    } finally {
      button.removeAttribute("aria-busy");
    }
  };
  const element = h("form", { class: "stack", novalidate: true, on: { submit: send } }, intro, fields.map((field) => field.element), failed,
    h("div", { class: "actions" }, cancel && h("button", { type: "button", on: { click: cancel } }, app.cancel), button));
  /** Whether the form may be closed; asks first if closing would lose input. */
  const mayClose = () => {
    if (fields.every(({ input }, at) => input.value === before[at])) return true;
    return new Promise((/** @type {(answer: boolean) => void} */ resolve) => {
      const answer = (/** @type {boolean} */ said) => () => { fill(failed); resolve(said); };
      const keep = h("button", { type: "button", on: { click: answer(false) } }, app.discardNo);
      fill(failed, h("div", { class: "banner warn" }, h("div", {}, h("strong", {}, app.discard), h("div", { class: "row" }, keep,
        h("button", { type: "button", class: "danger", on: { click: answer(true) } }, app.discardYes)))));
      keep.focus();
    });
  };
  return { element, mayClose };
}
