// The map of who calls whom, drawn as a picture and told as a table.

import { h } from "../dom.js";
import { graph } from "../graph.js";
import { layout } from "../layout.js";
import { flow } from "../motion.js";
import { badge, table } from "../table.js";
import { health, percent, plural, rate, share } from "../words.js";

export const title = () => "Map";

export async function load(ask, _names, { window, namespace }) {
  const [edges, backends, services, routes] = await Promise.all([
    ask("edges", { window, namespace }),
    ask("stat", { by: "backend", window, namespace }),
    ask("services"),
    ask("routes"),
  ]);
  return { edges, backends, services, routes, namespace, lately: await latelyOf(ask, namespace) };
}

/** How long what was asked of the last hour is good enough: it only says what there is at all. */
const LATELY_MILLIS = 20000;
const LATELY_WINDOW = "3600";
const earlier = { namespace: null, asked: 0, answer: null };

/** Who called whom in the last hour. */
async function latelyOf(ask, namespace) {
  if (earlier.namespace !== namespace || Date.now() - earlier.asked > LATELY_MILLIS) {
    const [edges, backends] = await Promise.all([
      ask("edges", { window: LATELY_WINDOW, namespace }),
      ask("stat", { by: "backend", window: LATELY_WINDOW, namespace }),
    ]);
    Object.assign(earlier, { namespace, asked: Date.now(), answer: { edges, backends } });
  }
  return earlier.answer;
}

export function view(data, ui) {
  const drawn = graph(within(data));
  if (drawn.nodes.length === 0) {
    return [
      h("div", { class: "panel welcome" }, h("p", {}, `No traffic was seen in the last ${ui.windowName}.`),
        h("p", { class: "muted" }, "A proxy tells of its first request within ten seconds. A longer window, above, looks further back; ",
          h("a", { href: "#/config" }, "Configuration"), " shows which proxies are connected.")),
    ];
  }
  flow();
  const names = new Map(drawn.nodes.map((node) => [node.id, node]));
  const busy = drawn.links.filter((link) => link.type !== "serves");
  return [
    h("section", { class: "panel map", "aria-labelledby": "picture", key: "picture" },
      h("h2", { id: "picture", class: "unseen" }, "Picture"), picture(drawn, names, ui), legend()),
    h("section", { class: "panel", "aria-labelledby": "lines", key: "lines" },
      h("h2", { id: "lines" }, "Who calls whom"), lines(busy, names)),
  ];
}

/** Routes and shares of other namespaces are not of the map of one. */
function within({ edges, backends, services, routes, namespace, lately }) {
  if (namespace === "") return { edges, backends, services, routes, lately };
  const own = routes.routes.filter((route) => route.parents.some((parent) => parent.service.startsWith(`${namespace}/`)));
  return { edges, backends, services, routes: { routes: own }, lately };
}

const KINDS = {
  Service: "service", Outside: "outside", ServiceAccount: "account", Unmeshed: "no proxy", Unknown: "unknown caller", Pod: "pod",
};
const kindOf = (node) => {
  const kind = KINDS[node.kind] ?? node.kind.toLowerCase();
  const ports = node.kind === "Service" ? [] : node.services.map((service) => service.slice(service.lastIndexOf(":")));
  return [kind, ...new Set(ports)].join(" ");
};
const titleOf = (node) => node.name;

function picture(drawn, names, ui) {
  const along = ui.width >= 720 ? "x" : "y";
  const node = along === "x" ? { width: 148, height: 50 } : { width: 138, height: 50 };
  const layers = layout(drawn.nodes, drawn.links, { along, width: 0, node, gap: { along: 0, across: 0, edge: 0 } }).layers;
  const room = (ui.width - 24 - layers * node.width) / Math.max(1, layers - 1);
  const gap = along === "x" ? { along: Math.max(96, Math.min(170, room)), across: 58, edge: 12 } : { along: 88, across: 16, edge: 10 };
  const placed = layout(drawn.nodes, drawn.links, { along, width: ui.width, node, gap });
  // Labels are where lines are apart: near the ends of those that spread, and near the beginnings of those that meet.
  const count = (end, id) => drawn.links.filter((link) => link[end] === id).length;
  for (const link of drawn.links) link.spreads = count("from", link.from) > count("to", link.to);
  const height = Math.max(placed.height, along === "x" ? 180 : 0) + 12;
  const down = (height - placed.height) / 2;
  return h(
    "div",
    { class: "canvas", tabindex: placed.width > ui.width ? "0" : null, role: "group", "aria-label": `Service map: ${plural(drawn.nodes.length, "place")}, ${plural(drawn.links.length, "line")}. The table below says the same.` },
    h(
      "svg",
      { viewBox: `0 0 ${placed.width} ${height}`, width: placed.width, height, class: "graph" },
      h("g", { transform: `translate(0 ${down})` },
        drawn.links.map((link) => line(link, placed.places, node, along)),
        h("g", { class: "flows", key: "flows" }, drawn.links.map((link) => flowing(link, placed.places, node, along))),
        drawn.links.map((link) => label(link, placed.places, node, along, names)),
        drawn.nodes.map((one) => place(one, placed.places.get(one.id), node, drawn.links))),
    ),
  );
}

/** From the side of one node to the side of the other, and where its label is: nearer to the end that shares differ by. */
function course(link, places, node, along) {
  const from = places.get(link.from);
  const to = places.get(link.to);
  const isAcross = along === "x";
  const a = isAcross ? { x: from.x + node.width / 2, y: from.y } : { x: from.x, y: from.y + node.height / 2 };
  const d = isAcross ? { x: to.x - node.width / 2, y: to.y } : { x: to.x, y: to.y - node.height / 2 };
  const bend = isAcross ? Math.max(40, (d.x - a.x) / 2) : Math.max(26, (d.y - a.y) / 2);
  const b = isAcross ? { x: a.x + bend, y: a.y } : { x: a.x, y: a.y + bend };
  const c = isAcross ? { x: d.x - bend, y: d.y } : { x: d.x, y: d.y - bend };
  const isSlanted = Math.abs(a.x - d.x) > 8;
  const t = link.type === "share" ? 0.62 : isAcross ? 0.5 : isSlanted && link.spreads ? 0.7 : 0.36;
  const on = (axis) => (1 - t) ** 3 * a[axis] + 3 * (1 - t) ** 2 * t * b[axis] + 3 * (1 - t) * t ** 2 * c[axis] + t ** 3 * d[axis];
  return { path: `M${a.x} ${a.y}C${b.x} ${b.y} ${c.x} ${c.y} ${d.x} ${d.y}`, label: { x: on("x"), y: on("y") } };
}

const isIdle = (link) => link.requests + link.connections === 0;
const stateOf = (link) => (isIdle(link) ? "idle" : link.requests > 0 ? health(link.success) : "good");

const widthOf = (link) => (isIdle(link) ? 1.25 : 1.5 + Math.min(4, Math.log10(1 + link.perSecond) * 1.6));

function line(link, places, node, along) {
  const { path } = course(link, places, node, along);
  return h("g", { key: `line ${link.id}`, class: `link ${link.type} ${stateOf(link)}${link.secured === false ? " open" : ""}` },
    h("path", { class: "way", d: path, "stroke-width": widthOf(link).toFixed(2) }));
}

/** What moves on a line with traffic. */
function flowing(link, places, node, along) {
  if (isIdle(link) || link.type === "serves") return null;
  const { path } = course(link, places, node, along);
  return h("path", { key: `flow ${link.id}`, class: `flow ${stateOf(link)}`, d: path, "stroke-width": Math.max(2.2, widthOf(link) * 0.8).toFixed(2) });
}

const LOCK = "M-3.5 -0.5v-2a3.5 3.5 0 0 1 7 0v2M-4.5 -0.5h9v6h-9z";
const OPEN_LOCK = "M-3.5 -0.5v-3a3.5 3.5 0 0 1 6.7 -1.4M-4.5 -0.5h9v6h-9z";

function label(link, places, node, along, names) {
  if (link.type === "serves") return null;
  const { label: at } = course(link, places, node, along);
  const said = amount(link);
  const told = link.type === "share" ? share(link.share ?? link.wanted) : said;
  const moving = link.type === "share" && link.share !== null && link.wanted !== null && Math.abs(link.share - link.wanted) > 0.02;
  const trouble = link.requests > 0 && link.success < 0.995 ? percent(link.success) : "";
  const width = (link.secured === null ? 18 : 32) + 7.4 * told.length;
  return h(
    "g",
    { key: `label ${link.id}`, class: `label ${link.type} ${stateOf(link)}${link.secured === false ? " open" : ""}`, transform: `translate(${at.x.toFixed(1)} ${at.y.toFixed(1)})`, "data-link": link.id },
    h("title", {}, sentence(link, names)),
    h("rect", { class: "plate", x: -width / 2, y: -11, width, height: 22, rx: 11 }),
    link.secured !== null && h("path", { class: `lock ${link.secured ? "secured" : "unsecured"}`, d: link.secured ? LOCK : OPEN_LOCK, transform: `translate(${-width / 2 + 12} 0)` }),
    h("text", { x: link.secured === null ? 0 : 9, y: 4, "text-anchor": "middle", class: "amount" }, told),
    moving && h("text", { y: 25, "text-anchor": "middle", class: "aside" }, `set to ${share(link.wanted)}`),
    !moving && trouble !== "" && h("text", { y: 25, "text-anchor": "middle", class: `aside ${stateOf(link)}` }, `${trouble} good`),
  );
}

/** Connections are told when they are set up: a line without one may carry bytes all the same. */
const amount = (link) => (link.isTcp && isIdle(link) ? "TCP" : link.requests > 0 || link.connections === 0 ? rate(link.perSecond) : `${Math.round(link.connections)} conn.`);

function sentence(link, names) {
  const from = titleOf(names.get(link.from));
  const to = titleOf(names.get(link.to));
  const secured = link.secured === null ? "" : link.secured ? ", over mutual TLS" : `, not secured: ${link.reasons.join("; ")}`;
  const shares = link.type === "share" ? `, a share of ${share(link.share)}${link.wanted === null ? "" : `, set to ${share(link.wanted)}`}` : "";
  const good = link.requests > 0 ? `, ${percent(link.success)} good` : "";
  return `${from} to ${to}: ${amount(link)}${good}${shares}${secured}`;
}

/** What fits into a node; the whole name is its title. */
const fitting = (name) => (name.length > 18 ? `${name.slice(0, 17)}…` : name);

function place(one, at, node, links) {
  const inward = links.filter((link) => link.to === one.id && link.requests > 0);
  const requests = inward.reduce((sum, link) => sum + link.requests, 0);
  const success = requests > 0 ? 1 - inward.reduce((sum, link) => sum + link.failures, 0) / requests : null;
  const isCarried = links.some((link) => link.to === one.id && link.connections > 0);
  const state = success === null && isCarried ? "good" : health(success);
  const name = titleOf(one);
  const inside = [
    h("title", {}, `${one.namespace === "" ? "" : `${one.namespace}/`}${name}`),
    h("rect", { x: -node.width / 2, y: -node.height / 2, width: node.width, height: node.height, rx: one.kind === "Service" ? 25 : 9 }),
    h("circle", { class: `pulse ${state}`, cx: -node.width / 2 + 17, cy: 0, r: 4 }),
    h("text", { class: "name", x: -node.width / 2 + 30, y: -3 }, fitting(name)),
    h("text", { class: "kind", x: -node.width / 2 + 30, y: 13 }, kindOf(one)),
  ];
  const attributes = { key: one.id, class: `node ${state} ${["Outside", "Unmeshed", "Unknown"].includes(one.kind) ? "foreign" : ""}`, transform: `translate(${at.x} ${at.y})`, "data-node": name };
  if (one.href === null) return h("g", attributes, inside);
  const told = success === null ? "" : `, ${percent(success)} good`;
  return h("a", { ...attributes, href: one.href, "aria-label": `${name}, ${kindOf(one)}${told}` }, inside);
}

function legend() {
  const sample = (kind, text) => h("li", {}, h("svg", { viewBox: "0 0 26 10", width: "26", height: "10", "aria-hidden": "true" }, h("path", { class: `sample ${kind}`, d: "M2 5H24" })), text);
  const lock = (kind, path, text) => h("li", {}, h("svg", { viewBox: "-7 -8 14 16", width: "14", height: "16", "aria-hidden": "true" }, h("path", { class: `lock ${kind}`, d: path })), text);
  return h("ul", { class: "legend", "aria-label": "What lines mean" },
    sample("good", "99.5 % good or better"), sample("fair", "95 % or better"), sample("poor", "worse"), sample("idle", "nothing new"),
    lock("secured", LOCK, "mutual TLS"), lock("unsecured", OPEN_LOCK, "not secured"));
}

function lines(links, names) {
  const named = (id) => {
    const node = names.get(id);
    return node.href === null ? node.name : h("a", { href: node.href }, node.name);
  };
  const sorted = [...links].sort((one, other) => (one.id < other.id ? -1 : 1));
  return table({
    caption: "Who calls whom",
    rows: sorted,
    keyOf: (link) => link.id,
    empty: "Nobody calls anybody.",
    columns: [
      { title: "From", head: true, cell: (link) => named(link.from) },
      { title: "To", cell: (link) => named(link.to) },
      { title: "Traffic", number: true, cell: amount },
      { title: "Good", number: true, cell: (link) => (link.requests > 0 ? percent(link.success, 2) : "–") },
      { title: "Share", number: true, cell: (link) => (link.type === "share" ? `${share(link.share)}${link.wanted === null ? "" : ` (set to ${share(link.wanted)})`}` : "–") },
      {
        title: "Secured",
        cell: (link) => (link.secured === null ? "–" : link.secured ? badge("good", "mutual TLS") : [badge("poor", "no"), ` ${link.reasons.join("; ")}`]),
      },
    ],
  });
}
