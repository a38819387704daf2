// The map: who is on it, and the lines between them, from what the control plane tells. Pure.

import { hrefOf, parts } from "./words.js";

/**
 * Nodes and links. A service with the pods of one workload only is that workload on the map; other services have a place of
 * their own, with lines to what they send to. Traffic is told from caller to backend: where a route leads from a service to
 * a backend, the line goes by way of the service, in the shares in which that backend was called. `lately` has edges and
 * backends of a longer time: what was silent since then stays on the map, and so do connections that were set up before.
 */
export function graph({ edges, services, backends, routes, lately }) {
  const map = new Map();
  const links = new Map();
  const byService = new Map(services.services.map((one) => [`${one.namespace}/${one.name}`, one]));

  const workload = ({ namespace, kind, name }) => {
    const id = `workload ${namespace}/${kind}/${name}`;
    if (!map.has(id)) {
      map.set(id, { id, kind, namespace, name, services: [], href: hrefOf("workloads", namespace, kind, name) });
    }
    return map.get(id);
  };
  const service = (title) => {
    const known = byService.get(title);
    if (known && known.workloads.length === 1) {
      const node = workload(known.workloads[0]);
      if (!node.services.includes(title)) node.services.push(title);
      node.href = hrefOf("services", node.services[0]);
      return node;
    }
    const id = `service ${title}`;
    if (!map.has(id)) {
      const { namespace, rest } = parts(title);
      map.set(id, { id, kind: "Service", namespace, name: rest, services: [title], href: hrefOf("services", title) });
    }
    return map.get(id);
  };
  const other = (kind, name, namespace = "") => {
    const id = `${kind} ${namespace}/${name}`;
    if (!map.has(id)) map.set(id, { id, kind, namespace, name, services: [], href: null });
    return map.get(id);
  };
  const source = ({ source: end, plaintext }) => {
    if (end === null) return plaintext > 0 ? other("Unmeshed", "without a proxy") : other("Unknown", "not told");
    return end.kind === "ServiceAccount" ? other("ServiceAccount", end.name, end.namespace) : workload(end);
  };
  const link = (from, to, type) => {
    const id = `${from.id} → ${to.id}`;
    if (!links.has(id)) {
      const empty = { requests: 0, failures: 0, connections: 0, plaintext: 0, reasons: [], share: null, wanted: null };
      empty.isSecured = null;
      empty.isTcp = false;
      links.set(id, { id, from: from.id, to: to.id, type, ...empty });
    }
    return links.get(id);
  };

  const rows = backends.rows.filter((row) => row.backend !== "");
  const earlier = lately.backends.rows.filter((row) => row.backend !== "");
  for (const edge of lately.edges.edges.filter((edge) => !isToldTwice(edge, lately.edges.edges, byService))) {
    const before = { ...edge, requests: 0, failures: 0, connections: 0, plaintext: 0, isTcp: edge.requests === 0 };
    addEdge(before, { rows: earlier, source: () => source(edge), service, workload, other, link });
  }
  for (const edge of edges.edges.filter((edge) => !isToldTwice(edge, edges.edges, byService))) addEdge(edge, { rows, source, service, workload, other, link });
  addShares(rows, { service, link, wanted: wantedShares(routes, byService) });
  addServing(rows, { byService, service, workload, link });
  const seconds = Math.max(edges.covered_seconds, 1);
  const shareSeconds = Math.max(backends.covered_seconds, 1);
  for (const one of links.values()) {
    one.perSecond = one.requests / (one.type === "share" ? shareSeconds : seconds);
    one.success = one.requests > 0 ? 1 - one.failures / one.requests : null;
    const all = one.requests + one.connections;
    one.secured = all > 0 ? one.plaintext === 0 : one.isSecured;
  }
  secureShares(links, edges, service);
  return { nodes: [...map.values()], links: [...links.values()] };
}

/** Who is called over mutual TLS by somebody without a name: a client with a proxy, which has told of it by itself. */
function isToldTwice(edge, all, byService) {
  if (edge.source !== null || edge.plaintext > 0) return false;
  return all.some(({ source, destination }) => {
    const known = source === null ? undefined : byService.get(`${destination.namespace}/${destination.name}`);
    return known?.workloads.some((one) => one.namespace === edge.destination.namespace && one.name === edge.destination.name) ?? false;
  });
}

function addEdge(edge, { rows, source, service, workload, other, link }) {
  const from = source(edge);
  const { destination } = edge;
  const add = (to, part) => {
    if (from.id === to.id && part === 0) return;
    const found = link(from, to, "call");
    found.requests += edge.requests * part;
    found.failures += edge.failures * part;
    found.connections += edge.connections * part;
    found.plaintext += edge.plaintext * part;
    found.isSecured = edge.secured && found.isSecured !== false;
    found.isTcp ||= edge.isTcp;
    if (edge.reason !== "" && !found.reasons.includes(edge.reason)) found.reasons.push(edge.reason);
  };
  if (destination.kind === "Outside") return add(other("Outside", destination.name), 1);
  if (destination.kind !== "Service") return add(workload(destination), 1);
  const title = `${destination.namespace}/${destination.name}`;
  const ways = rows.filter((row) => row.backend === title);
  const called = (row) => row.requests + row.tcp.connections;
  const all = ways.reduce((sum, row) => sum + called(row), 0);
  if (all === 0) return add(service(title), 1);
  for (const row of ways) {
    if (called(row) > 0) add(service(`${row.namespace}/${serviceName(row)}`), called(row) / all);
  }
}

/** Of a row of `stat backend`: the service that was called, with its port. */
const serviceName = (row) => parts(row.service).rest;

function addShares(rows, { service, link, wanted }) {
  const totals = new Map();
  for (const row of rows) totals.set(row.service, (totals.get(row.service) ?? 0) + row.requests);
  for (const row of rows.filter((row) => row.backend !== row.service)) {
    const from = service(row.service);
    const to = service(row.backend);
    if (from.id === to.id) continue;
    const found = link(from, to, "share");
    found.requests += row.requests;
    found.failures += row.failures;
    found.connections += row.tcp.connections;
    found.share = totals.get(row.service) > 0 ? found.requests / totals.get(row.service) : null;
  }
  for (const { root, backend, share } of wanted) {
    const from = service(root);
    const to = service(backend);
    if (from.id === to.id) continue;
    const found = link(from, to, "share");
    found.wanted = share;
    found.share ??= totals.get(root) > 0 ? 0 : null;
  }
}

/** What routes with several backends say: only those of one rule, since of several each is for other requests. */
function wantedShares(routes, byService) {
  const found = [];
  for (const route of routes.routes) {
    const [rule, ...more] = route.rules.filter((rule) => rule.backends.length > 0);
    const whole = rule ? rule.backends.reduce((sum, backend) => sum + backend.weight, 0) : 0;
    if (more.length > 0 || whole === 0 || rule.backends.length < 2) continue;
    for (const parent of route.parents) {
      for (const root of byService.keys()) {
        const { namespace, name, port } = parts(root);
        if (`${namespace}/${name}` !== parent.service || (parent.port !== null && String(parent.port) !== port)) continue;
        for (const one of rule.backends.filter((one) => one.backend !== "")) {
          const backend = parts(one.backend).port === "" ? `${one.backend}:${port}` : one.backend;
          if (byService.has(backend)) found.push({ root, backend, share: one.weight / whole });
        }
      }
    }
  }
  return found;
}

/** From a service that sends to its own pods to those of its workloads, where they are several. */
function addServing(rows, { byService, service, workload, link }) {
  for (const row of rows.filter((row) => row.backend === row.service && row.requests + row.tcp.connections > 0)) {
    const known = byService.get(row.service);
    if (!known || known.workloads.length < 2) continue;
    for (const end of known.workloads) link(service(row.service), workload(end), "serves");
  }
}

/** A share is secured as what goes to its backend is. */
function secureShares(links, edges, service) {
  for (const one of [...links.values()].filter((one) => one.type === "share" && one.requests + one.connections > 0)) {
    const to = edges.edges.filter(
      ({ destination }) =>
        destination.kind === "Service" && service(`${destination.namespace}/${destination.name}`).id === one.to,
    );
    const isSecured = to.length > 0 && to.every((edge) => edge.secured);
    one.secured = to.length > 0 ? isSecured : null;
    one.reasons = [...new Set(to.map((edge) => edge.reason).filter((reason) => reason !== ""))];
  }
}
