// A choice of the callers for whom programs get secrets.
import { h } from "../elements.js";
import { runner as texts } from "../texts_runner.js";
import { ANYONE, isTime, onlyThese, OWNER, parseCondition, until } from "../wire/call_conditions.js";
import { strictJson } from "../wire/canonical_json.js";
import { isDid } from "../wire/did.js";
import { textField } from "./form.js";
import { banner } from "./states.js";
import { split } from "./values.js";

const words = texts.callers;
const WAYS = /** @type {const} */ (["owner", "these", "anyone", "condition"]);
const MOST_DIDS = 64;

/** @import { Condition } from "../wire/call_conditions.js" */

/** The callers of a run grant in words. @param {Condition | undefined} condition as signed */
export function callersOf(condition) {
  if (condition === ANYONE) return words.anyoneMay;
  if (condition === undefined || condition?.Owner) return words.onlyYou;
  return condition?.Whitelist ? words.listed(condition.Whitelist.accounts.join(", ")) : words.asStated;
}

/**
 * The choice, as a field of a form.
 * @returns {import("./form.js").Field & { condition: () => Condition, options: () => string[] }} `options` of `sealspace runner grant` that say the same
 */
export function callersField() {
  const radios = WAYS.map((value) => h("input", { type: "radio", name: "callers", value, checked: value === "owner", on: { change: () => draw() } }));
  const way = () => /** @type {typeof WAYS[number]} */ (radios.find(({ checked }) => checked).value);
  const dids = textField({ name: "dids", label: words.dids, hint: words.didsHint, rows: 3, mono: true, check: (said) => {
    const some = split(said);
    return some.length > 0 && some.length <= MOST_DIDS && some.every((one) => isDid(one) && !one.includes("#")) ? "" : words.didsBad;
  } });
  const json = textField({ name: "condition", label: words.json, hint: words.jsonHint, rows: 5, mono: true, check: (said) => {
    try {
      parseCondition(strictJson(said));
      return "";
    } catch (error) {
      return /** @type {any} */ (error).details?.text ?? words.jsonBad;
    }
  } });
  const end = textField({ name: "until", label: words.until, hint: words.untilHint, mono: true, check: (said) => (!said.trim() || isTime(said.trim()) ? "" : words.untilBad) });
  const warning = banner({ kind: "warn", title: words.anyoneTitle, text: words.anyoneText });
  const choice = h("div", { class: "stack tight" }, radios.map((input, at) => h("label", { class: "tick" }, input, h("span", {}, words.ways[WAYS[at]]))));
  const element = h("fieldset", { class: "stack tight" }, h("legend", {}, words.title), choice, dids.element, warning, json.element, end.element);
  function draw() {
    dids.element.hidden = way() !== "these";
    json.element.hidden = way() !== "condition";
    warning.hidden = way() !== "anyone";
  }
  draw();
  const judged = () => [...(way() === "these" ? [dids] : way() === "condition" ? [json] : []), end];
  const condition = () => {
    const chosen = way() === "owner" ? OWNER : way() === "anyone" ? ANYONE : way() === "these" ? onlyThese(split(dids.input.value)) : parseCondition(strictJson(json.input.value));
    return end.input.value.trim() ? parseCondition(until(end.input.value.trim(), chosen)) : chosen;
  };
  const options = () => (way() === "condition" || end.input.value.trim() ? ["--condition", "FILE"] : way() === "these" ? split(dids.input.value).flatMap((one) => ["--caller", one]) : way() === "anyone" ? ["--anybody"] : []);
  return { name: "callers", input: radios[0], element, refuse: json.refuse, condition, options, judge: () => judged().map((one) => one.judge()).find(Boolean) ?? "" };
}
