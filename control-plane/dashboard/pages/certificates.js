// Certificates: trust anchors, the issuer, those of the proxies, and how long each lasts.

import { h } from "../dom.js";
import { badge, table } from "../table.js";
import { date, lasting, plural } from "../words.js";

export const title = () => "Certificates";

export async function load(ask, _names, { namespace }) {
  const [about, identity, proxies] = await Promise.all([ask("about"), ask("identity"), ask("proxies")]);
  return { about, identity, proxies, namespace };
}

/** Trust anchors and issuers are made for months: below this many seconds somebody should look. */
const SOON_SECONDS = 30 * 86400;

/** What lasts less than an eighth of its life is renewed late: proxies renew at half of it. */
const left = (end, now, soon) => {
  const seconds = end - now;
  return badge(seconds <= 0 ? "poor" : seconds < soon ? "fair" : "good", seconds <= 0 ? "expired" : `${lasting(seconds)} left`, date(end));
};

export function view({ about, identity, proxies, namespace }) {
  const { now } = about;
  const connected = proxies.filter((proxy) => proxy.connected && (namespace === "" || proxy.namespace === namespace));
  const soon = identity.leaf_lifetime_seconds / 8;
  return [
    h("dl", { class: "facts" },
      fact("Trust domain", h("code", {}, identity.trust_domain)), fact("Kept in", identity.kept_in),
      fact("A certificate lives", lasting(identity.leaf_lifetime_seconds)), fact("Issued", identity.certificates_issued), fact("Refused", identity.certificates_refused)),
    rotation(identity),
    identity.lacking_anchors.length > 0 && h("ul", { class: "panel troubles" }, identity.lacking_anchors.map((text) => h("li", { key: text }, text))),
    h("section", { class: "panel", "aria-labelledby": "authority", key: "authority" }, h("h2", { id: "authority" }, "Authority"),
      table({
        caption: "Authority",
        rows: [...identity.anchors.map((anchor) => ({ what: `trust anchor, ${anchor.role}`, ...anchor })), { what: "issuer", ...identity.issuer }],
        keyOf: (one) => `${one.what} ${one.fingerprint}`, empty: "There is no authority.",
        columns: [
          { title: "What", head: true, cell: (one) => one.what },
          { title: "Lasts", cell: (one) => left(one.not_after, now, SOON_SECONDS) },
          { title: "Until", cell: (one) => date(one.not_after) },
          { title: "Subject", cell: (one) => one.subject },
          { title: "SHA-256", cell: (one) => h("code", { title: one.fingerprint }, `${one.fingerprint.slice(0, 16)}…`) },
        ],
      })),
    h("section", { class: "panel", "aria-labelledby": "leaves", key: "leaves" }, h("h2", { id: "leaves" }, "Workloads"),
      table({
        caption: "Certificates of workloads",
        rows: [...connected].sort((one, other) => (one.certificate_not_after ?? 0) - (other.certificate_not_after ?? 0) || (one.name < other.name ? -1 : 1)),
        keyOf: (proxy) => proxy.pod_uid, empty: "No proxy is connected.",
        columns: [
          { title: "Proxy of", head: true, cell: (proxy) => proxy.name || proxy.pod_uid },
          { title: "Namespace", cell: (proxy) => proxy.namespace },
          { title: "Lasts", cell: (proxy) => (proxy.certificate_not_after === null ? "not told" : left(proxy.certificate_not_after, now, soon)) },
          { title: "Until", cell: (proxy) => (proxy.certificate_not_after === null ? "–" : date(proxy.certificate_not_after)) },
          { title: "Issuer", cell: (proxy) => (proxy.current_issuer === null ? "not told" : proxy.current_issuer ? "present" : badge("fair", "earlier")) },
        ],
      }),
      about.other_control_planes > 0 && h("p", { class: "muted" }, `Those of proxies that are connected to the ${plural(about.other_control_planes, "other control plane")} are not listed.`)),
  ];
}

const fact = (name, value) => h("div", { key: name }, h("dt", {}, name), h("dd", {}, value));

function rotation({ rotation: current, last_rotation: last, control_planes: planes }) {
  const problems = planes.filter((plane) => plane.problem !== "");
  return [
    problems.map((plane) => h("p", { class: "notice", key: plane.problem }, plane.problem)),
    current !== null && h("p", { class: "notice" }, `The ${current.kind} is being rotated: ${current.step}, since ${date(current.since)}. ${current.waiting_for}`),
    current === null && last !== null && h("p", { class: "muted" }, `The ${last.kind} was rotated last at ${date(last.ended)}.`),
  ];
}
