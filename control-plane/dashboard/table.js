// Tables: they scroll by themselves where a page is narrow, and say so to whoever cannot see it.

import { h } from "./dom.js";

/**
 * `columns`: `{ title, cell(row), number?, head? }`; `head` is the cell that names the row. Rows have a `key`, or are told
 * apart by `keyOf`.
 */
export function table({ caption, columns, rows, keyOf, empty }) {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const cell = (column, row) =>
    h(
      column.head ? "th" : "td",
      { class: column.number ? "number" : null, scope: column.head ? "row" : null },
      column.cell(row),
    );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null }, column.title)))),
      h("tbody", {}, rows.map((row) => h("tr", { key: keyOf(row) }, columns.map((column) => cell(column, row))))),
    ),
  );
}

/** A word with its colour: never the colour alone. */
export const badge = (kind, text, title = null) => h("span", { class: `badge ${kind}`, title }, text);
