// Services and workloads: lists of what is asked how much, and a page with charts for each.

import { chart } from "../chart.js";
import { h } from "../dom.js";
import { badge, table } from "../table.js";
import { bytes, health, hrefOf, latency, parts, percent, rate, share } from "../words.js";

const isBusy = (row) => row.requests > 0 || row.tcp.connections > 0 || row.tcp.open_connections > 0;

const COLUMNS = [
  { title: "Meshed", number: true, cell: (row) => (row.pods === null ? "–" : `${row.meshed}/${row.pods}`) },
  { title: "Good", number: true, cell: (row) => (row.success_rate === null ? "–" : badge(health(row.success_rate), percent(row.success_rate, 2))) },
  { title: "Requests", number: true, cell: (row) => (row.requests > 0 ? rate(row.requests_per_second) : "–") },
  { title: "p50", number: true, cell: (row) => latency(row.latency_seconds?.p50) },
  { title: "p95", number: true, cell: (row) => latency(row.latency_seconds?.p95) },
  { title: "p99", number: true, cell: (row) => latency(row.latency_seconds?.p99) },
  { title: "TCP", number: true, cell: (row) => (row.tcp.open_connections > 0 ? `${row.tcp.open_connections} open` : row.tcp.connections > 0 ? `${row.tcp.connections} new` : "–") },
  { title: "mTLS", number: true, cell: (row) => share(row.mtls_share) },
];

function list(by, page, titles) {
  const href = (row) => (by === "service" ? hrefOf(page, `${row.namespace}/${row.name}`) : hrefOf(page, row.namespace, row.kind, row.name));
  return {
    title: () => titles.many,
    load: async (ask, _names, { window, namespace }) => ask("stat", { by, window, namespace }),
    view(data, ui) {
      const rows = [...data.rows].sort((one, other) => Number(isBusy(other)) - Number(isBusy(one)));
      const silent = rows.length > 0 && !rows.some(isBusy);
      return [
        h("section", { class: "panel" },
          silent && h("p", { class: "muted" }, `Nothing was sent to any ${titles.one} in the last ${ui.windowName}.`),
          table({
            caption: titles.many,
            rows,
            keyOf: (row) => `${row.namespace}/${row.kind}/${row.name}`,
            empty: `There is no ${titles.one} here. A namespace that was chosen above hides those of others.`,
            columns: [
              { title: titles.head, head: true, cell: (row) => [h("a", { href: href(row) }, row.name), row.kind !== "" && h("small", {}, ` ${row.kind.toLowerCase()}`)] },
              { title: "Namespace", cell: (row) => row.namespace },
              ...COLUMNS,
            ],
          })),
      ];
    },
  };
}

export const services = list("service", "services", { many: "Services", one: "service", head: "Service" });
export const workloads = list("workload", "workloads", { many: "Workloads", one: "workload", head: "Workload" });

/** Charts of one thing: how well, how much, how fast. */
export function charts(data, series, ui, name) {
  const width = ui.columns(3, 300);
  const of = (read) => (series ? series.points.map(read) : data.steps.map(() => null));
  const common = { steps: data.steps, width, ui, empty: `${name} was asked nothing in this time.` };
  const success = of((point) => point.success_rate);
  const least = Math.min(1, ...success.filter((value) => value !== null));
  const tcp = series?.points.some((point) => point.bytes_per_second > 0);
  const asked = series?.points.some((point) => point.requests > 0);
  return h("div", { class: "charts" },
    chart({ ...common, id: "success", title: "Good answers", lines: [{ name: "good", values: success }], format: (value) => percent(value), top: 1, bottom: least < 0.9 ? 0 : least < 0.99 ? 0.9 : 0.98 }),
    chart({ ...common, id: "rate", title: "Requests", lines: [{ name: "requests", values: of((point) => (asked ? point.requests_per_second : null)) }], format: (value) => (value === null ? "–" : rate(value)) }),
    chart({ ...common, id: "latency", title: "Latency", lines: ["p50", "p95", "p99"].map((key) => ({ name: key, values: of((point) => point.latency_seconds?.[key] ?? null) })), format: latency }),
    tcp && chart({ ...common, id: "bytes", title: "TCP", lines: [{ name: "bytes", values: of((point) => point.bytes_per_second) }], format: (value) => (value === null ? "–" : `${bytes(value)}/s`) }));
}

/** How requests to a service were shared among its backends, over time. */
export function sharesChart(data, ui) {
  const backends = data.series.filter((series) => series.points.some((point) => point.requests > 0));
  if (backends.length < 2) return null;
  const totals = data.steps.map((_, index) => backends.reduce((sum, series) => sum + series.points[index].requests, 0));
  const lines = backends.map((series) => ({
    name: series.name,
    values: series.points.map((point, index) => (totals[index] > 0 ? point.requests / totals[index] : null)),
  }));
  return chart({ id: "shares", title: "Shares", steps: data.steps, width: ui.columns(1, 300), ui, lines, format: share, top: 1 });
}

export const service = {
  title: ([name]) => name,
  load: async (ask, [name], { window, span }) => {
    const namespace = parts(name).namespace;
    const [own, backends, stat, edges, routes] = await Promise.all([
      ask("timeline", { by: "service", name, ...span }),
      ask("timeline", { by: "backend", name, ...span }),
      ask("stat", { by: "backend", window, namespace }),
      ask("edges", { window }),
      ask("routes"),
    ]);
    return { name, own, backends, stat, edges, routes };
  },
  view({ name, own, backends, stat, edges, routes }, ui) {
    const { namespace, name: bare, port } = parts(name);
    const rows = stat.rows.filter((row) => row.service === name);
    const attached = routes.routes.filter((route) => route.parents.some((parent) => parent.service === `${namespace}/${bare}` && (parent.port === null || String(parent.port) === port)));
    const targets = new Set([name, ...rows.map((row) => row.backend)]);
    const callers = edges.edges.filter(({ destination }) => destination.kind === "Service" && targets.has(`${destination.namespace}/${destination.name}`));
    const title = ({ namespace: place, kind, name: called }) => (kind === "Service" || kind === "Outside" || kind === "ServiceAccount" ? called : h("a", { href: hrefOf("workloads", place, kind, called) }, called));
    return [
      ui.spans(),
      charts(own, own.series[0], ui, "This service"),
      sharesChart(backends, ui),
      h("section", { class: "panel", "aria-labelledby": "backends", key: "backends" }, h("h2", { id: "backends" }, "Backends"),
        table({
          caption: "Backends", rows, keyOf: (row) => row.backend,
          empty: `Nothing was sent to this service in the last ${ui.windowName}.`,
          columns: [
            { title: "Backend", head: true, cell: (row) => (row.backend === name || parts(row.backend).rest === "" ? row.name : h("a", { href: hrefOf("services", row.backend) }, row.name)) },
            ...COLUMNS,
          ],
        })),
      h("section", { class: "panel", "aria-labelledby": "routes", key: "routes" }, h("h2", { id: "routes" }, "Routes and splits"),
        attached.length === 0
          ? h("p", { class: "empty" }, "None: requests go to the service's own pods.")
          : h("ul", { class: "plain" }, attached.map((route) => h("li", { key: `${route.kind} ${route.name}` }, h("a", { href: hrefOf("routes", route.kind, route.namespace, route.name) }, route.name), " ", h("small", {}, route.kind))))),
      h("section", { class: "panel", "aria-labelledby": "callers", key: "callers" }, h("h2", { id: "callers" }, "Callers"),
        table({
          caption: "Callers", rows: callers, keyOf: (edge) => `${edge.client_identity} ${edge.source?.name} ${edge.destination.name}`,
          empty: `Nobody called it in the last ${ui.windowName}.`,
          columns: [
            { title: "From", head: true, cell: (edge) => (edge.source === null ? "without a proxy" : title(edge.source)) },
            { title: "To", cell: (edge) => edge.destination.name },
            { title: "Requests", number: true, cell: (edge) => edge.requests },
            { title: "Failed", number: true, cell: (edge) => edge.failures },
            { title: "Connections", number: true, cell: (edge) => edge.connections },
            { title: "Secured", cell: (edge) => (edge.secured ? badge("good", "mutual TLS") : [badge("poor", "no"), ` ${edge.reason}`]) },
            { title: "As", cell: (edge) => (edge.client_identity === "" ? "–" : h("code", {}, edge.client_identity)) },
          ],
        })),
    ];
  },
};

export const workload = {
  title: ([namespace, , name]) => `${namespace}/${name}`,
  load: async (ask, [namespace, kind, name], { window, span }) => {
    const [own, pods, edges] = await Promise.all([
      ask("timeline", { by: "workload", name: `${namespace}/${name}`, ...span }),
      ask("stat", { by: "pod", window, namespace }),
      ask("edges", { window, namespace }),
    ]);
    return { namespace, kind, name, own, pods, edges };
  },
  view({ namespace, kind, name, own, edges }, ui) {
    const series = own.series.find((one) => one.kind === kind);
    const called = edges.edges.filter(({ source }) => source !== null && source.namespace === namespace && source.kind === kind && source.name === name);
    return [
      ui.spans(),
      h("p", { class: "muted" }, `${kind}: what it was asked, as its own proxies tell.`),
      charts(own, series, ui, "This workload"),
      h("section", { class: "panel", "aria-labelledby": "calls", key: "calls" }, h("h2", { id: "calls" }, "What it calls"),
        table({
          caption: "What it calls", rows: called, keyOf: (edge) => `${edge.destination.namespace}/${edge.destination.name}`,
          empty: `It called nobody in the last ${ui.windowName}.`,
          columns: [
            { title: "To", head: true, cell: ({ destination }) => (destination.kind === "Service" ? h("a", { href: hrefOf("services", `${destination.namespace}/${destination.name}`) }, destination.name) : destination.name) },
            { title: "Requests", number: true, cell: (edge) => edge.requests },
            { title: "Failed", number: true, cell: (edge) => edge.failures },
            { title: "Connections", number: true, cell: (edge) => edge.connections },
            { title: "Secured", cell: (edge) => (edge.secured ? badge("good", "mutual TLS") : [badge("poor", "no"), ` ${edge.reason}`]) },
          ],
        })),
    ];
  },
};
