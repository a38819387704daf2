// The state of the configuration: what was read, what was refused, and which proxy has what.

import { h } from "../dom.js";
import { badge, table } from "../table.js";
import { plural } from "../words.js";

export const title = () => "Configuration";

export async function load(ask, _names, { namespace }) {
  const [about, status, proxies] = await Promise.all([ask("about"), ask("status"), ask("proxies")]);
  return { about, status, proxies, namespace };
}

export function view({ about, status, proxies, namespace }) {
  const own = (one) => namespace === "" || one.namespace === namespace;
  const refusals = new Map(status.proxies.map((proxy) => [proxy.pod_uid, proxy.refusals]));
  const connected = proxies.filter((proxy) => proxy.connected);
  const waiting = connected.filter((proxy) => proxy.pending_updates > 0).length;
  const verdict = status.refused
    ? [badge("poor", "refused"), " Something is refused: what, where and why is below."]
    : waiting > 0
      ? [badge("fair", "under way"), ` ${plural(waiting, "proxy has", "proxies have")} updates to acknowledge.`]
      : [badge("good", "in force"), connected.length > 0 ? " Everything is accepted, and every connected proxy has acknowledged it." : " Everything is accepted; no proxy is connected."];
  return [
    h("p", { class: "lead" }, verdict),
    h("dl", { class: "facts" },
      fact("Version", about.config_version ?? "none yet"), fact("Objects", status.objects.length),
      fact("Proxies", `${connected.length} connected`), fact("Control plane", about.version)),
    about.other_control_planes > 0 && h("p", { class: "notice" },
      `${plural(about.other_control_planes, "other control plane runs", "other control planes run")} beside this one: proxies that are connected there are not listed. `, h("code", {}, "meshctl proxy status"), " asks them all."),
    status.source_errors.length > 0 && h("section", { class: "panel", "aria-labelledby": "unread", key: "unread" }, h("h2", { id: "unread" }, "What cannot be read"),
      h("ul", { class: "troubles" }, status.source_errors.map((error) => h("li", { key: `${error.file} ${error.message}` }, h("code", {}, error.file), ` ${error.message}`)))),
    h("section", { class: "panel", "aria-labelledby": "proxies", key: "proxies" }, h("h2", { id: "proxies" }, "Proxies"), proxyTable(proxies.filter(own), about, refusals)),
    h("section", { class: "panel", "aria-labelledby": "objects", key: "objects" }, h("h2", { id: "objects" }, "Objects"), objects(status.objects.filter(own))),
  ];
}

const fact = (name, value) => h("div", { key: name }, h("dt", {}, name), h("dd", {}, value));

function objects(all) {
  const saysNo = (object) => object.conditions.filter((condition) => condition.status === "False");
  const waits = (object) => object.conditions.filter((condition) => condition.status === "Unknown" && condition.reason !== "NoProxies");
  const rank = (object) => (saysNo(object).length > 0 ? 0 : waits(object).length > 0 ? 1 : 2);
  return table({
    caption: "Objects", rows: [...all].sort((one, other) => rank(one) - rank(other)),
    keyOf: (object) => `${object.kind} ${object.namespace}/${object.name}`,
    empty: "No object was read so far.",
    columns: [
      { title: "Object", head: true, cell: (object) => object.name },
      { title: "Kind", cell: (object) => object.kind },
      { title: "Namespace", cell: (object) => object.namespace },
      {
        title: "State",
        cell: (object) => [badge("poor", "refused"), badge("fair", "under way"), badge("good", "accepted")][rank(object)],
      },
      { title: "Why", cell: (object) => [...saysNo(object), ...waits(object)].map((one) => `${one.type}: ${one.message || one.reason}`).join("; ") || "–" },
    ],
  });
}

function proxyTable(all, about, refusals) {
  const state = (proxy) => {
    if (proxy.refused > 0) return badge("poor", "refuses");
    if (!proxy.connected) return badge("idle", "disconnected");
    return proxy.pending_updates > 0 ? badge("fair", "under way") : badge("good", "acknowledged");
  };
  const why = (proxy) => (refusals.get(proxy.pod_uid) ?? []).map((one) => `${one.resource}: ${one.reason}${one.object === "" ? "" : ` (${one.object} ${one.field})`}`);
  return table({
    caption: "Proxies", rows: all, keyOf: (proxy) => proxy.pod_uid,
    empty: "No proxy has connected so far. A pod needs a proxy: see meshctl inject, or the namespace's label.",
    columns: [
      { title: "Proxy of", head: true, cell: (proxy) => proxy.name || proxy.pod_uid },
      { title: "Namespace", cell: (proxy) => proxy.namespace },
      { title: "State", cell: state },
      { title: "Version", number: true, cell: (proxy) => proxy.acknowledged_version },
      { title: "Outstanding", number: true, cell: (proxy) => proxy.pending_updates },
      { title: "Resources", number: true, cell: (proxy) => proxy.resources },
      { title: "Program", cell: (proxy) => (proxy.proxy_version === about.version ? proxy.proxy_version : [proxy.proxy_version, " ", badge("fair", "another")]) },
      { title: "Refuses", cell: (proxy) => why(proxy).join("; ") || "–" },
    ],
  });
}
