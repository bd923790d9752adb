import { fill, h, icon } from "../elements.js";
import { nav } from "../texts.js";

/** @typedef {{ path: string, group: keyof typeof nav.groups, icon: any, team?: "all" | "admin" | "only", load: () => Promise<any> }} Place */

/**
 * Draw the navigation once, and mark the current page. The link elements are reused: replacing one between press and
 * release would lose the click.
 * @param {HTMLElement} element @param {Place[]} places @param {string} current path
 */
export function navigation(element, places, current) {
  if (!element.childElementCount) {
    fill(element, Object.entries(nav.groups).map(([group, title]) => {
      const items = places.filter((place) => place.group === group);
      return items.length > 0 && h("section", { "aria-label": title }, h("h2", { "aria-hidden": "true" }, title), h("ul", {}, items.map((place) =>
        h("li", {}, h("a", { href: `#/${place.path}` }, icon(place.icon), /** @type {any} */ (nav)[place.path])))));
    }));
  }
  for (const link of element.querySelectorAll("a")) {
    if (link.getAttribute("href") === `#/${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
