// The only way in which the console makes elements: names, properties and text, never markup.

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */
/** @typedef {Record<string, any>} Props what each means: see `set` */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 * @param {string} tag
 * @param {Props} [props] `class`, `on` (listeners by event), `data` (data-* members), true/false for attributes without
 *     a value, properties of form fields by their name; anything else is an attribute. undefined and null set nothing.
 * @param {...Child} children texts become text nodes; null, undefined and false nothing
 * @returns {any} the element; of the tag's own type
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  return add(element, ...children);
}

/**
 * Append children.
 * @template {Element} T
 * @param {T} element
 * @param {...Child} children
 */
export function add(element, ...children) {
  for (const child of /** @type {any[]} */ (children.flat(9))) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/**
 * Replace all children.
 * @template {Element} T
 * @param {T} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, ...children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "textContent", "readOnly", "tabIndex", "hidden", "selected"]);

/** @param {HTMLElement} element @param {string} name @param {any} value */
function set(element, name, value) {
  if (value === undefined || value === null) return;
  if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
  else if (name === "data") Object.assign(element.dataset, value);
  else if (PROPERTIES.has(name)) /** @type {any} */ (element)[name] = value;
  else if (typeof value === "boolean" && !name.startsWith("aria-")) element.toggleAttribute(name, value);
  else element.setAttribute(name, String(value));
}

/** The head of a page. @param {{ title: string, lead: string }} words @param {Child[]} beside its title */
export const pageHead = ({ title, lead }, ...beside) => h("header", {}, h("div", {}, h("h1", {}, title), h("p", {}, lead)), beside);

/**
 * Make one of our drawings; they say nothing that a text beside them does not.
 * @param {keyof typeof PATHS} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

const PATHS = {
  key: "M12.5 3a4.5 4.5 0 0 0-4.3 5.8L3 14v3h3v-2h2v-2l1.2-1.2A4.5 4.5 0 1 0 12.5 3Zm1.3 3.2h.01",
  inbox: "M3 11l2-7h10l2 7v5H3v-5h4l1 2h4l1-2h4",
  share: "M14 3.5a2 2 0 1 1 0 4 2 2 0 0 1 0-4ZM6 8a2 2 0 1 1 0 4 2 2 0 0 1 0-4Zm8 4.5a2 2 0 1 1 0 4 2 2 0 0 1 0-4ZM8 9l4-2.5M8 11l4 2.5",
  clock: "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14Zm0 3.5V10l2.5 2",
  data: "M4 5.5C4 4 16 4 16 5.5v9c0 1.5-12 1.5-12 0v-9Zm0 0C4 7 16 7 16 5.5M4 10c0 1.5 12 1.5 12 0",
  terminal: "M3 4h14v12H3V4Zm3 4 2 2-2 2m4 0h4",
  code: "m7 6-4 4 4 4m6-8 4 4-4 4",
  node: "M10 3l6 3.5v7L10 17l-6-3.5v-7L10 3Zm0 7v7m0-7 6-3.5M10 10 4 6.5",
  menu: "M3 6h14M3 10h14M3 14h14",
  sun: "M10 7a3 3 0 1 1 0 6 3 3 0 0 1 0-6Zm0-5v2m0 12v2M2 10h2m12 0h2M4.3 4.3l1.4 1.4m8.6 8.6 1.4 1.4M4.3 15.7l1.4-1.4m8.6-8.6 1.4-1.4",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4V7Z",
  plus: "M10 4v12M4 10h12",
  warning: "M10 3.5 17.5 16h-15L10 3.5ZM10 8v4m0 2v.01",
  close: "m5 5 10 10M15 5 5 15",
  again: "M16 10a6 6 0 1 1-2-4.5M16 3v3.5h-3.5",
  backend: "M6 6h8v8H6V6Zm2-3v3m4-3v3m-4 8v3m4-3v3M3 8h3m-3 4h3m8-4h3m-3 4h3",
  info: "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14Zm0 6.5V14m0-7.5v.01",
  lock: "M6 9V7a4 4 0 0 1 8 0v2M4 9h12v8H4V9Zm6 3v2",
  paper: "M6 3h6l3 3v11H6V3Zm6 0v3h3M8.5 10h4m-4 3h4",
  person: "M10 4a3 3 0 1 1 0 6 3 3 0 0 1 0-6ZM4 17c0-6 12-6 12 0",
  people: "M7.5 4.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5ZM2.5 16c0-5 10-5 10 0m0-11a2.5 2.5 0 0 1 0 4.4m1.7 2.4c2 .5 3.3 2 3.3 4.2",
  trash: "M4 6h12M8 6V4h4v2m-6.5 0 .7 11h7.6l.7-11M8.5 9v5m3-5v5",
  upload: "M10 13V4m0 0L6.5 7.5M10 4l3.5 3.5M4 13v3h12v-3",
  wallet: "M4 6h12v10H4V6Zm0 0 9-2v2m3 4h-3v2h3",
  search: "M9 4a5 5 0 1 1 0 10A5 5 0 0 1 9 4Zm3.7 8.7L16.5 16.5",
};
