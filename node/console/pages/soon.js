// @ts-check
import { h } from "../elements.js";
import { emptyState } from "../parts/states.js";
import { copyField } from "../parts/values.js";
import { pages } from "../texts.js";

export const title = "";

/** What stands where a page is not made yet. */
export function render() {
  const path = location.hash.replace(/^#\/?/, "").split("?")[0];
  const { title: name, lead, command } = pages.all[path];
  return h("div", { class: "page" }, h("header", {}, h("div", {}, h("h1", {}, name), h("p", {}, lead))),
    h("section", { class: "panel" }, emptyState({ icon: "terminal", title: pages.soonTitle, text: pages.soon, actions: [copyField(command)] })));
}
