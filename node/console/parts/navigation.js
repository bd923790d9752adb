// @ts-check
import { fill, h, icon } from "../elements.js";
import { nav } from "../texts.js";

/** @typedef {{ path: string, group: keyof typeof nav.groups, icon: any, load: () => Promise<any> }} Place */

/**
 * Draw the places, the current one marked.
 * @param {HTMLElement} element @param {Place[]} places @param {string} current path
 */
export function navigation(element, places, current) {
  const groups = Object.entries(nav.groups).map(([group, title]) => {
    const items = places.filter((place) => place.group === group);
    return items.length > 0 && h("div", {}, h("h2", { "aria-hidden": "true" }, title), h("ul", { "aria-label": title }, items.map((place) =>
      h("li", {}, h("a", { href: `#/${place.path}`, "aria-current": place.path === current ? "page" : null },
        icon(place.icon), /** @type {any} */ (nav)[place.path])))));
  });
  fill(element, groups);
}
