import { h, pageHead } from "../elements.js";
import { copyField } from "../parts/values.js";
import { terminal as words } from "../texts_node.js";

export const title = words.title;

/** @param {import("../app.js").Context} context */
export function render({ session: shown, client }) {
  const session = client?.own.session ?? shown;
  const isPhrase = session?.kind === "phrase";
  const file = session?.login;
  const [signIn, note] = isPhrase ? [words.signInPhrase, words.ownKey] : file ? [words.signInFile, ""] : [words.signIn, words.ownPage];
  const login = `sealspace login ${location.origin} --${file ?? (isPhrase ? "phrase" : "browser")}`;
  const steps = [[words.install, "pip install ."], [signIn, login], ...(shown?.member?.name ? [[words.team, `sealspace use ${shown.member.name}`]] : []), [words.store, "sealspace secret put API_KEY"], [words.use, "sealspace run -- env"]];
  if (!isPhrase) steps.push([words.back, "sealspace console"]);
  return h("div", { class: "page" }, pageHead(words),
    h("section", { class: "panel" }, h("ol", { class: "steps" }, steps.map(([what, command]) => h("li", {}, h("p", {}, what), copyField(command))))),
    h("p", { class: "dim" }, words.same, note));
}
