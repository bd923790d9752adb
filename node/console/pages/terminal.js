// @ts-check
import { h } from "../elements.js";
import { copyField } from "../parts/values.js";
import { terminal as words } from "../texts.js";

export const title = words.title;

/** @param {import("../app.js").Context} context */
export function render({ session }) {
  const isPhrase = session?.kind === "phrase";
  const login = `sealspace login ${location.origin} --${isPhrase ? "phrase" : "browser"}`;
  const steps = [[words.install, "pip install ."], [isPhrase ? words.signInPhrase : words.signIn, login], [words.store, "sealspace secret put API_KEY"],
    [words.use, "sealspace run -- env"], [words.back, "sealspace console"]];
  return h("div", { class: "page" }, h("header", {}, h("div", {}, h("h1", {}, words.title), h("p", {}, words.lead))),
    h("section", { class: "panel" }, h("ol", { class: "steps" }, steps.map(([what, command]) => h("li", {}, h("p", {}, what), copyField(command))))),
    h("p", { class: "dim" }, isPhrase ? words.ownKey : words.ownPage));
}
