// Routes and splits: what they are for, in which shares they send, and how far proxies are with them.

import { h } from "../dom.js";
import { badge, table } from "../table.js";
import { hrefOf, parts, plural, share } from "../words.js";
import { charts, sharesChart } from "./traffic.js";

const refusals = (route) => route.conditions.filter((condition) => condition.status === "False");

/** In a word, how a route is. */
function verdict(route) {
  if (refusals(route).length > 0 || route.refused > 0) return badge("poor", "refused");
  if (route.shadows.length > 0) return badge("fair", "shadowed");
  if (route.acknowledged < route.proxies) return badge("fair", "under way");
  return badge("good", "accepted");
}

const progress = (route) => (route.proxies === 0 ? "no proxy needs it" : `${route.acknowledged} of ${plural(route.proxies, "proxy", "proxies")}`);

export const routes = {
  title: () => "Routes",
  load: async (ask, _names, { namespace }) => ({ ...(await ask("routes")), namespace }),
  view({ routes: all, namespace }) {
    const rows = all.filter((route) => namespace === "" || route.namespace === namespace);
    return [
      h("section", { class: "panel" },
        table({
          caption: "Routes", rows, keyOf: (route) => `${route.kind} ${route.namespace}/${route.name}`,
          empty: "There is no route and no split: requests to a service go to its own pods. An HTTPRoute, GRPCRoute, TLSRoute, TCPRoute or TrafficSplit changes that.",
          columns: [
            { title: "Route", head: true, cell: (route) => h("a", { href: hrefOf("routes", route.kind, route.namespace, route.name) }, route.name) },
            { title: "Kind", cell: (route) => route.kind },
            { title: "Namespace", cell: (route) => route.namespace },
            { title: "Of", cell: (route) => route.parents.map((parent) => parts(parent.service).name).join(", ") },
            { title: "Sends to", cell: (route) => route.rules.map((rule) => shares(rule.backends)).join("; ") || "–" },
            { title: "State", cell: verdict },
            { title: "Proxies", cell: progress },
          ],
        })),
    ];
  },
};

const shares = (backends) => backends.map((one) => `${parts(one.backend).rest} ${one.share}`).join(", ");

export const route = {
  title: ([kind, , name]) => `${name} (${kind})`,
  load: async (ask, [kind, namespace, name], { span }) => {
    const [all, services] = await Promise.all([ask("routes"), ask("services")]);
    const found = all.routes.find((one) => one.kind === kind && one.namespace === namespace && one.name === name) ?? null;
    const parent = found?.parents[0];
    const port = services.services.find((one) => parent && `${one.namespace}/${parts(`/${one.name}`).name}` === parent.service && (parent.port === null || one.name.endsWith(`:${parent.port}`)));
    const called = port ? `${port.namespace}/${port.name}` : null;
    const [own, backends] = called === null ? [null, null] : await Promise.all([
      ask("timeline", { by: "route", name: called, ...span }),
      ask("timeline", { by: "backend", name: called, ...span }),
    ]);
    return { name, found, called, own, backends };
  },
  view({ name, found, called, own, backends }, ui) {
    if (found === null) return [h("p", { class: "panel" }, "There is no such route any more. ", h("a", { href: "#/routes" }, "All routes"))];
    const series = own?.series.find((one) => one.name === name) ?? null;
    return [
      h("p", { class: "lead" }, verdict(found), found.proxies === 0 ? " No proxy needs it so far." : ` Acknowledged by ${progress(found)}.`, called !== null && [" It is for ", h("a", { href: hrefOf("services", called) }, called), "."]),
      conditions(found),
      own !== null && ui.spans(),
      own !== null && charts(own, series, ui, "Requests by this route: it"),
      backends !== null && sharesChart(backends, ui),
      found.rules.map((rule) => h("section", { class: "panel", key: rule.field, "aria-label": `Rule ${rule.field}` },
        h("h2", {}, h("code", {}, rule.field)),
        h("p", {}, "For ", rule.conditions.length === 0 ? "everything" : rule.conditions.map((one) => [h("code", {}, one === "*" ? "everything" : one), " "]),
          rule.filters.map((one) => [h("br"), one])),
        table({
          caption: `Backends of ${rule.field}`, rows: rule.backends, keyOf: (one) => one.backend,
          empty: "It sends to no backend.",
          columns: [
            { title: "Backend", head: true, cell: (one) => one.backend || "none" },
            { title: "Set to", number: true, cell: (one) => one.share },
            { title: "Proxies have", cell: (one) => held(rule, one) },
            { title: "Trouble", cell: (one) => (one.problem === null ? "–" : [badge("poor", "yes"), ` ${one.problem}`]) },
          ],
        }))),
    ];
  },
};

/** In which shares proxies send to a backend now. */
function held(rule, backend) {
  if (rule.held.length === 0) return "–";
  return rule.held
    .map(({ proxies, shares: all }) => {
      const own = all.find((one) => one.backend === backend.backend || one.backend.startsWith(`${backend.backend}:`));
      return `${plural(proxies, "proxy", "proxies")}: ${own ? own.share : share(0)}`;
    })
    .join(", ");
}

function conditions(found) {
  const all = [
    ...refusals(found).map((one) => `${one.type}: ${one.message || one.reason}`),
    ...found.shadows.map((one) => `${one.field ?? "The whole route"} never gets a request${one.callers === null ? "" : ` of ${one.callers}`} at ${one.service}: ${one.by} does${one.by_field === null ? "" : ` by ${one.by_field}`}`),
  ];
  return all.length > 0 && h("ul", { class: "panel troubles" }, all.map((text) => h("li", { key: text }, text)));
}
