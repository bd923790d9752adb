// A table of a policy on code.
import { h } from "../elements.js";
import { requests as words } from "../texts_requests.js";
import { REGISTERS } from "../wire/policies.js";
import { quoted } from "./quoted.js";
import { copyField, facts } from "./values.js";

/** @import { Policy } from "../wire/policies.js" */

/** The names of values on the command line, by the members of a policy. @type {{[member: string]: string}} */
const VALUES = { composeHashes: "composeHash", appIds: "appId", keyProviders: "keyProvider" };

/** Where a value comes from. @param {string | undefined} source untrusted */
const sourceOf = (source) => source && h("div", { class: "small dim" }, quoted(source));

/** A table of a policy, one fact per row. @param {Policy} policy @param {{[value: string]: string}} [sources] by the name of the value */
export const policyFacts = (policy, sources = {}) => facts(Object.entries(policy).map(([member, value]) => [
  /** @type {any} */ (words.evidence)[member] ?? member,
  member === "measurements" ? value.map((/** @type {any} */ one) => registersOf(one, sources))
    : Array.isArray(value) ? [value.map((one) => h("div", {}, quoted(one, { mono: true }))), sourceOf(sources[VALUES[member]])]
    : Object.hasOwn(words.terms, member) ? words.terms[member](value) : String(value),
]));

/** @param {{[register: string]: string}} measured @param {{[value: string]: string}} sources */
const registersOf = (measured, sources) => h("div", { class: "registers" }, REGISTERS.filter((name) => measured[name]).map((name) =>
  h("div", {}, h("small", { class: "dim" }, name.toUpperCase()), copyField(measured[name], name.toUpperCase()), sourceOf(sources[name]))));
