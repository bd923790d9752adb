import { add, fill, h } from "../elements.js";

const OVERSCAN = 6;
const PHONE = matchMedia("(max-width: 34rem)"); // as in style.css

/**
 * A table of rows of equal height that renders only the visible ones.
 * @template T
 * @param {object} options
 * @param {string} options.label for screen readers
 * @param {{ title: string, cell: (row: T) => import("../elements.js").Child, wide?: boolean, below?: boolean, quiet?: boolean }[]} options.columns
 *     `wide`: left out on a phone; `below`: in several lines, on a phone below the other columns; `quiet`: its title is for screen readers
 * @param {string} options.widths as `grid-template-columns`
 * @param {string} options.narrowWidths likewise, on a phone
 * @param {(row: T) => string} options.key id of a row; the focus stays on it when rows change
 * @param {number} [options.rowHeightPx]
 * @param {number} [options.narrowRowHeightPx] on a phone
 */
export function virtualTable({ label, columns, widths, narrowWidths, key, rowHeightPx = 46, narrowRowHeightPx = rowHeightPx }) {
  /** @type {T[]} */
  let rows = [];
  /** @type {Map<string, { row: T, element: HTMLElement }>} */
  let shown = new Map();
  const body = h("div", { class: "rows", role: "rowgroup" });
  const head = h("div", { role: "rowgroup" }, h("div", { role: "row", class: "head", "aria-rowindex": 1 }, columns.map(({ title, wide, quiet }) =>
    h("div", { role: "columnheader", class: wide ? "wide" : null }, h("span", { class: quiet ? "sr" : null }, title)))));
  const element = h("div", { class: "table", role: "table", "aria-label": label, tabIndex: 0, on: { scroll: () => draw() } }, head, body);
  element.style.setProperty("--columns", widths);
  element.style.setProperty("--narrow-columns", narrowWidths);
  new ResizeObserver(() => draw()).observe(element);
  const heightPx = () => (PHONE.matches ? narrowRowHeightPx : rowHeightPx);

  /** @param {T} row @param {number} index */
  function made(row, index) {
    const line = h("div", { role: "row", "aria-rowindex": index + 2 }, columns.map(({ cell, wide, below }) =>
      h("div", { role: "cell", class: wide ? "wide" : below ? "below" : null }, cell(row))));
    line.addEventListener("click", (/** @type {any} */ { target }) => { // a mouse click anywhere in the row presses its button
      const button = line.querySelector("button");
      if (!button || target.closest("a, button, summary, input") || String(getSelection())) return;
      button.focus();
      button.click();
    });
    return line;
  }

  function draw() {
    const hadFocus = body.contains(document.activeElement);
    const rowPx = heightPx();
    const first = Math.max(0, Math.floor(element.scrollTop / rowPx) - OVERSCAN);
    const count = Math.ceil((element.clientHeight || 600) / rowPx) + 2 * OVERSCAN;
    body.style.height = `${rows.length * rowPx}px`;
    /** @type {Map<string, { row: T, element: HTMLElement }>} */
    const next = new Map();
    rows.slice(first, first + count).forEach((row, offset) => {
      const known = shown.get(key(row));
      const one = known?.row === row ? known : { row, element: made(row, first + offset) };
      one.element.style.height = `${rowPx}px`;
      one.element.style.top = `${(first + offset) * rowPx}px`;
      one.element.setAttribute("aria-rowindex", String(first + offset + 2));
      next.set(key(row), one);
    });
    for (const [id, { element: old }] of shown) if (next.get(id)?.element !== old) old.remove();
    for (const { element: line } of next.values()) if (!line.isConnected) add(body, line);
    const inOrder = [...next.values()].map((one) => one.element);
    if (inOrder.some((line, at) => body.children[at] !== line)) fill(body, inOrder);
    shown = next;
    if (hadFocus && !body.contains(document.activeElement)) element.focus({ preventScroll: true });
  }

  return {
    element,
    /** @param {T[]} all */
    show(all) {
      rows = all;
      element.setAttribute("aria-rowcount", String(all.length + 1));
      draw();
    },
  };
}
