// Charts of a timeline: lines over time, with a readout of one moment, and the same numbers as a table.

import { h } from "./dom.js";
import { clockTime } from "./words.js";

const HEIGHT = 168;
const MARGIN = { top: 10, right: 10, bottom: 22, left: 52 };

/** Numbers that an axis ends at: 1, 2 or 5 times a power of ten. */
function niceAbove(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

/**
 * `lines`: `{ name, values }`, a value for each step; null: there was none. `format` writes a value. `top`: where the axis
 * ends, if not by what is drawn; `bottom` likewise. `ui` has the moment that is looked at.
 */
export function chart({ id, title, steps, lines, format, top, bottom = 0, width, ui, empty }) {
  const known = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const end = top ?? niceAbove(Math.max(0, ...known));
  const inner = { width: Math.max(40, width - MARGIN.left - MARGIN.right), height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const x = (index) => MARGIN.left + (steps.length < 2 ? inner.width / 2 : (index / (steps.length - 1)) * inner.width);
  const y = (value) => MARGIN.top + inner.height * (1 - (Math.min(value, end) - bottom) / (end - bottom || 1));
  const last = steps.length - 1;
  const at = ui.moment !== null && ui.moment <= last ? ui.moment : null;
  const shown = at ?? last;
  const look = (index) => ui.look(Math.max(0, Math.min(last, index)));
  const pointed = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const scale = width / Math.max(1, box.width);
    look(Math.round((((event.clientX - box.left) * scale - MARGIN.left) / inner.width) * last));
  };
  const pressed = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move === undefined && event.key !== "Escape") return;
    event.preventDefault();
    if (move === undefined) ui.look(null);
    else look(shown + move);
  };
  const readout = lines.map((line, index) =>
    h("span", { class: "key" }, h("span", { class: `swatch line-${index}`, "aria-hidden": "true" }), `${line.name} `, h("b", {}, shown >= 0 ? format(line.values[shown]) : "–")),
  );
  const moment = at === null ? "" : ` at ${clockTime(steps[at])}`;
  const summary = lines.map((line) => describe(line, format)).join("; ");
  const ticks = [bottom, bottom + (end - bottom) / 2, end];
  const body =
    known.length === 0
      ? h("p", { class: "empty" }, empty ?? "Nothing was measured in this time.")
      : h(
          "svg",
          {
            class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", tabindex: "0",
            "aria-label": `${title}. ${summary}. Arrow keys move through time.`,
            onpointermove: pointed, onpointerleave: () => ui.look(null), onkeydown: pressed, onblur: () => ui.look(null),
          },
          ticks.map((tick) =>
            h("g", { class: "tick" }, h("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }), h("text", { x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, format(tick))),
          ),
          steps.length > 0 && [0, last].map((index) =>
            h("text", { class: "time", x: x(index), y: HEIGHT - 4, "text-anchor": index === 0 ? "start" : "end" }, clockTime(steps[index]).slice(0, 5)),
          ),
          lines.map((line, index) => h("path", { class: `line line-${index}`, d: pathOf(line.values, x, y) })),
          at !== null && h("line", { class: "moment", x1: x(at), x2: x(at), y1: MARGIN.top, y2: MARGIN.top + inner.height }),
          shown >= 0 && lines.map((line, index) =>
            line.values[shown] !== null && h("circle", { class: `dot line-${index}`, cx: x(shown), cy: y(line.values[shown]), r: 3.5 }),
          ),
        );
  return h(
    "figure",
    { class: "panel", key: id },
    h("figcaption", {}, h("h3", {}, title), h("p", { class: "readout" }, readout, h("span", { class: "muted" }, moment))),
    body,
    known.length > 0 && numbers(title, steps, lines, format),
  );
}

/** Where a value is missing, the line is broken; a single one is a dot. */
function pathOf(values, x, y) {
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const alone = !pen && (values[index + 1] ?? null) === null;
    path += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}${alone ? "h0.01" : ""}`;
    pen = true;
  });
  return path;
}

function describe({ name, values }, format) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return `${name}: none`;
  const newest = values.at(-1);
  return `${name}: now ${format(newest ?? null)}, between ${format(Math.min(...known))} and ${format(Math.max(...known))}`;
}

function numbers(title, steps, lines, format) {
  const rows = steps.map((step, index) => ({ step, index })).reverse();
  return h(
    "details",
    {},
    h("summary", {}, "Numbers", h("span", { class: "unseen" }, ` of ${title}`)),
    h(
      "div",
      { class: "scroll low", tabindex: "0", role: "region", "aria-label": `Numbers of ${title}` },
      h(
        "table",
        {},
        h("caption", { class: "unseen" }, title),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), lines.map((line) => h("th", { scope: "col", class: "number" }, line.name)))),
        h("tbody", {}, rows.map(({ step, index }) => h("tr", { key: step }, h("th", { scope: "row" }, clockTime(step)), lines.map((line) => h("td", { class: "number" }, format(line.values[index])))))),
      ),
    ),
  );
}
