// Single requests, as they happen: whose and which are chosen here, and what comes is a table with the newest first.

import { h } from "../dom.js";
import { badge, table } from "../table.js";
import { ROWS_LIMIT, Tap, isFailure } from "../tap.js";
import { bytes, latency } from "../words.js";

export const title = () => "Tap";

/** Not oftener: a busy mesh would keep the page drawing. */
const DRAW_MILLIS = 250;
/** How long what can be chosen is good enough. */
const CHOICE_MILLIS = 20000;
/** What owns pods, as a tap names it. */
const OWNERS = new Set(["Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet", "Rollout", "Pod"]);

const form = {
  subject: "", direction: "", method: "", path: "", status: "", route: "", peer: "", to: "", grpc_status: "", rate: "100", headers: false,
};
let chosen = null;
let redraw = () => {};
let drawing = null;

const tap = new Tap(() => {
  drawing ??= setTimeout(() => {
    drawing = null;
    redraw();
  }, DRAW_MILLIS);
});

/** Nobody looks any more. */
export function leave() {
  tap.stop();
  redraw = () => {};
}

/** What is read aloud. */
export const said = () => tap.said;

const known = { namespace: null, asked: 0, answer: null };

export async function load(ask, _names, { namespace }) {
  if (known.namespace !== namespace || Date.now() - known.asked > CHOICE_MILLIS) {
    const [services, edges, proxies, routes] = await Promise.all([
      ask("services"), ask("edges", { window: "3600", namespace }), ask("proxies"), ask("routes"),
    ]);
    Object.assign(known, { namespace, asked: Date.now(), answer: { namespace, ...choices(namespace, { services, edges, proxies, routes }) } });
  }
  return known.answer;
}

/** What can be tapped: `[value, text]`, where a value is a namespace and what is in it. */
function choices(namespace, { services, edges, proxies, routes }) {
  const own = (one) => one !== null && one.namespace !== "" && (namespace === "" || one.namespace === namespace);
  const named = (all) => [...new Map(all.filter(own).map((one) => [`${one.namespace} ${one.resource}`, `${one.namespace}/${one.name}${one.kind ? ` (${one.kind})` : ""}`]))].sort(([, a], [, b]) => (a < b ? -1 : 1));
  const resource = (kind, name) => `${kind.toLowerCase()}/${name}`;
  const ends = [...services.services.flatMap((one) => one.workloads), ...edges.edges.flatMap((edge) => [edge.source, edge.destination])];
  const workloads = ends.filter((end) => end !== null && OWNERS.has(end.kind) && end.kind !== "Pod");
  const pods = [
    ...ends.filter((end) => end?.kind === "Pod"),
    ...proxies.filter((proxy) => proxy.connected && proxy.name !== ""),
  ];
  return {
    workloads: named(workloads.map((end) => ({ ...end, resource: resource(end.kind, end.name) }))),
    services: named(services.services.map((one) => {
      const name = one.name.slice(0, one.name.lastIndexOf(":"));
      return { namespace: one.namespace, name, resource: resource("svc", name) };
    })),
    pods: named(pods.map((pod) => ({ namespace: pod.namespace, name: pod.name, resource: resource("pod", pod.name) }))),
    routes: [...new Set(routes.routes.filter(own).map((route) => route.name))].sort(),
  };
}

/** The words of the question that the form says. */
function words(namespace) {
  const { subject, headers, ...rest } = form;
  const [within = namespace, resource = ""] = subject === "" ? [] : subject.split(" ");
  const trimmed = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, value.trim()]));
  return { ...trimmed, namespace: within, resource, headers: headers ? "true" : "" };
}

const isFiltered = () => ["direction", "method", "path", "status", "route", "peer", "to", "grpc_status"].some((name) => form[name].trim() !== "");

export function view(data, ui) {
  redraw = ui.redraw;
  const detail = tap.rows.find((row) => row.id === chosen?.id) ?? chosen;
  return [
    h("section", { class: "panel", "aria-labelledby": "which", key: "which" }, h("h2", { id: "which", class: "unseen" }, "Which requests"), asking(data)),
    h("p", { class: tap.refusal === null ? "lead" : "notice", key: "standing", id: "standing" }, live(), ` ${tap.standing()}`),
    detail !== null && details(detail),
    h("section", { class: "panel log", "aria-labelledby": "requests", key: "requests" }, h("h2", { id: "requests" }, "Requests"), requests(),
      h("p", { class: "muted" }, `The newest ${ROWS_LIMIT} are kept, here and nowhere else. Between workloads of the mesh a request is seen twice: by the proxy of who sends it, and by that of who gets it.`)),
  ];
}

function live() {
  if (tap.refusal !== null) return badge("poor", "refused");
  if (!tap.runs) return badge("idle", tap.phase === "idle" ? "not started" : "over");
  return tap.isPaused ? badge("fair", `paused, ${tap.held.length === ROWS_LIMIT ? `${ROWS_LIMIT} or more` : tap.held.length} held back`) : badge("good", "live");
}

function asking(data) {
  const begin = (event) => {
    event.preventDefault();
    chosen = null;
    tap.start(words(data.namespace), isFiltered());
  };
  const whole = data.namespace === "" ? "All workloads" : `All of ${data.namespace}`;
  const groups = [["Workloads", data.workloads], ["Services", data.services], ["Pods", data.pods]];
  const options = groups.filter(([, all]) => all.length > 0).map(([label, all]) => h("optgroup", { label, key: label }, all.map(([value, text]) => h("option", { value, key: value }, text))));
  // What was chosen stays chosen, though it may be gone.
  const isThere = form.subject === "" || groups.some(([, all]) => all.some(([value]) => value === form.subject));
  return h("form", { class: "asking", onsubmit: begin, "aria-labelledby": "which" },
    choice("subject", "Whose", [h("option", { value: "", key: "" }, whole), !isThere && h("option", { value: form.subject, key: form.subject }, form.subject), options]),
    choice("direction", "Direction", [["", "Sent and received"], ["outbound", "Sent"], ["inbound", "Received"]].map(([value, text]) => h("option", { value, key: value }, text))),
    word("method", "Method", "such as GET"), word("path", "Path begins with", "such as /items"), word("status", "Status", "such as 503 or 5xx"),
    word("route", "Route", "its name", data.routes), word("peer", "Identity at the other end", "NAMESPACE/ACCOUNT"), word("to", "Sent to", "svc/NAME.NAMESPACE"),
    word("grpc_status", "gRPC status", "such as UNAVAILABLE"),
    h("div", { class: "field", key: "rate" }, h("label", { for: "tap-rate" }, "Most a second, of each proxy"),
      h("input", { id: "tap-rate", type: "number", min: "1", max: "1000", required: true, value: form.rate, oninput: (event) => { form.rate = event.target.value; } })),
    h("div", { class: "field tick", key: "headers" },
      h("input", { id: "tap-headers", type: "checkbox", checked: form.headers, onchange: (event) => { form.headers = event.target.checked; } }), h("label", { for: "tap-headers" }, "Headers, but for secrets")),
    h("div", { class: "choices", key: "buttons" },
      h("button", { type: "submit", key: "start" }, tap.runs ? "Start anew" : "Start"),
      h("button", { type: "button", key: "stop", "aria-disabled": tap.runs ? null : "true", onclick: () => tap.stop() }, "Stop"),
      h("button", { type: "button", key: "pause", "aria-pressed": String(tap.isPaused), onclick: () => tap.pause(!tap.isPaused) }, "Pause"),
      h("button", { type: "button", key: "clear", "aria-disabled": tap.rows.length > 0 ? null : "true", onclick: clear }, "Clear")));
}

function clear() {
  chosen = null;
  tap.clear();
}

const choice = (name, text, options) =>
  h("div", { class: "field", key: name }, h("label", { for: `tap-${name}` }, text),
    h("select", { id: `tap-${name}`, value: form[name], onchange: (event) => { form[name] = event.target.value; } }, options));

const word = (name, text, placeholder, all = []) =>
  h("div", { class: "field", key: name }, h("label", { for: `tap-${name}` }, text),
    h("input", { id: `tap-${name}`, type: "text", placeholder, autocomplete: "off", spellcheck: "false", maxlength: "512", list: all.length > 0 ? `tap-${name}-known` : null, value: form[name], oninput: (event) => { form[name] = event.target.value; } }),
    all.length > 0 && h("datalist", { id: `tap-${name}-known` }, all.map((one) => h("option", { value: one, key: one }))));

function requests() {
  return table({
    caption: "Requests, the newest first", rows: tap.rows, keyOf: (row) => row.id,
    empty: tap.runs ? "None so far." : "None.",
    columns: [
      { title: "Request", head: true, cell: opener },
      { title: "Status", cell: (row) => badge(stateOf(row), statusOf(row)) },
      { title: "Took", number: true, cell: (row) => latency(row.seconds.total) },
      { title: "From", cell: from },
      { title: "To", cell: to },
      { title: "Seen as", cell: (row) => (row.direction === "outbound" ? "sent" : "received") },
      { title: "Identity", cell: (row) => (row.tls === "mtls" ? badge("good", "mutual TLS") : badge("poor", "not secured")) },
      { title: "At", cell: (row) => atOf(row.time) },
    ],
  });
}

function opener(row) {
  const isOpen = chosen?.id === row.id;
  const toggle = () => {
    chosen = isOpen ? null : row;
    redraw();
    if (!isOpen) document.getElementById("detail")?.focus();
  };
  return h("button", { type: "button", class: "link-like", "data-row": row.id, "aria-expanded": String(isOpen), onclick: toggle }, `${row.method} ${row.path}`);
}

const statusOf = (row) => (row.grpc_status === undefined ? String(row.status) : `${row.status} ${row.grpc_status}`);
const stateOf = (row) => (isFailure(row) ? "poor" : row.status >= 400 ? "fair" : "good");
const atOf = (seconds) => {
  const time = new Date(seconds * 1000);
  return `${time.toLocaleTimeString([], { hour12: false })}.${String(time.getMilliseconds()).padStart(3, "0")}`;
};
/** A SPIFFE ID of the mesh as `namespace/account`. */
const short = (identity) => identity.replace(/^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/, "$1/$2");
const self = (row) => `${row.workload.namespace}/${row.workload.pod}`;
const from = (row) => (row.direction === "outbound" ? self(row) : row.peer === undefined ? "unknown" : short(row.peer));
const to = (row) => (row.direction === "inbound" ? self(row) : (row.service ?? (row.peer === undefined ? row.authority : short(row.peer))));

function details(row) {
  const close = () => {
    chosen = null;
    redraw();
    const opened = document.querySelector(`[data-row="${row.id}"]`);
    (opened ?? document.getElementById("title")).focus();
  };
  const { seconds, workload, endpoint, trace, headers } = row;
  const facts = [
    ["Status", [badge(stateOf(row), statusOf(row)), row.whole ? null : " broken off"]],
    ["Failed by the proxy", row.error], ["Sent to", row.authority], ["HTTP", row.http_version],
    ["Seen by", `${workload.kind} ${workload.namespace}/${workload.name}, ${workload.kind === "Pod" ? "" : `pod ${workload.pod}, `}which ${row.direction === "outbound" ? "sent" : "received"} it`],
    ["As", workload.identity], ["Identity at the other end", row.peer ?? "none"], ["Secured", row.tls === "mtls" ? "mutual TLS" : "no: plain text"],
    ["Service", row.service], ["Backend", row.backend], ["Route", row.route], ["Answered by", endpoint && `${endpoint.pod === "" ? "" : `${endpoint.pod}, `}${endpoint.address}`],
    ["To the head of the answer", latency(seconds.to_head)], ["To the end of both bodies", latency(seconds.total)], ["Of it the proxy", seconds.proxy === undefined ? undefined : latency(seconds.proxy)],
    ["Body of the request", bytes(row.request_bytes)], ["Of the answer", bytes(row.response_bytes)], ["Attempts", row.attempts],
    ["Trace", trace?.trace_id], ["At", atOf(row.time)],
  ];
  const pressed = (event) => {
    if (event.key === "Escape") close();
  };
  return h("section", { class: "panel detail", "aria-labelledby": "detail", key: "detail", onkeydown: pressed },
    h("h2", { id: "detail", tabindex: "-1" }, `${row.method} ${row.path}`),
    h("dl", { class: "facts" }, facts.filter(([, value]) => value !== undefined && value !== "").map(([name, value]) => h("div", { key: name }, h("dt", {}, name), h("dd", {}, value)))),
    headers && ["request", "response"].map((side) => headersOf(side, headers[side])),
    h("p", { class: "choices" }, h("button", { type: "button", onclick: close }, "Close")));
}

function headersOf(side, headers) {
  const rows = Object.entries(headers);
  const name = side === "request" ? "Headers of the request" : "Headers of the answer";
  return h("details", { key: side, open: true }, h("summary", {}, `${name}: ${rows.length}`),
    table({
      caption: name, rows, keyOf: ([header]) => header, empty: "None.",
      columns: [{ title: "Name", head: true, cell: ([header]) => h("code", {}, header) }, { title: "Value", cell: ([, value]) => (value === null ? h("span", { class: "muted" }, "not shown") : value) }],
    }));
}
