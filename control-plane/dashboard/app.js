// The page as a whole: which page is shown, how often the control plane is asked, and what is said when it is gone.

import { ask } from "./ask.js";
import { h, patch } from "./dom.js";
import * as certificates from "./pages/certificates.js";
import * as config from "./pages/config.js";
import * as map from "./pages/map.js";
import { route, routes } from "./pages/routes.js";
import * as tap from "./pages/tap.js";
import { service, services, workload, workloads } from "./pages/traffic.js";

/** Counts are in steps of ten seconds; what is set and acknowledged is newer. */
const EVERY_MILLIS = 2000;
const WINDOWS = [["10", "10 seconds"], ["30", "30 seconds"], ["60", "minute"], ["300", "5 minutes"], ["900", "15 minutes"], ["3600", "hour"]];
/** Proxies tell every ten seconds, sometimes a little later: in steps of ten, one would be empty and the next twice as high. */
const SPANS = [["10 minutes", { window: "600", step: "20" }], ["30 minutes", { window: "1800", step: "30" }], ["hour", { window: "3600", step: "60" }]];
const THEMES = [["", "System"], ["light", "Light"], ["dark", "Dark"]];
const NAV = [["", "Map"], ["services", "Services"], ["workloads", "Workloads"], ["routes", "Routes"], ["tap", "Tap"], ["config", "Configuration"], ["certificates", "Certificates"]];
/** By the first part of the address, and how many names follow it. */
const PAGES = new Map([
  [" 0", map], ["services 0", services], ["services 1", service], ["workloads 0", workloads], ["workloads 3", workload],
  ["routes 0", routes], ["routes 3", route], ["tap 0", tap], ["config 0", config], ["certificates 0", certificates],
]);

const element = (id) => document.getElementById(id);

/** What the browser keeps; nothing, where it may not. */
const kept = {
  get(name, fallback) {
    try {
      return localStorage.getItem(`heddle ${name}`) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`heddle ${name}`, value);
    } catch {
      // It holds until the page is left.
    }
  },
};

const known = (value, all, fallback) => (all.some(([one]) => one === value) ? value : fallback);

const state = {
  window: known(kept.get("window", "30"), WINDOWS, "30"),
  theme: known(kept.get("theme", ""), THEMES, ""),
  span: 0,
  namespace: kept.get("namespace", ""),
  namespaces: [],
  moment: null,
  data: null,
  dataOf: null,
  seen: null,
  trouble: null,
  silent: [],
  asked: 0,
};

/** The page that the address names, and the names that follow. */
function here() {
  const words = location.hash.replace(/^#\/?/, "").split("/").filter((word) => word !== "");
  let names;
  try {
    names = words.map(decodeURIComponent);
  } catch {
    names = ["?"];
  }
  const [first = "", ...rest] = names;
  return { page: PAGES.get(`${first} ${rest.length}`) ?? null, first, names: rest, hash: location.hash };
}

async function refresh() {
  const at = here();
  state.asked += 1;
  const turn = state.asked;
  try {
    const choice = { window: state.window, namespace: state.namespace, span: SPANS[state.span][1] };
    const [data, about, all] = at.page
      ? await Promise.all([at.page.load(ask, at.names, choice), ask("about"), ask("services")])
      : [null, await ask("about"), await ask("services")];
    if (turn !== state.asked) return;
    Object.assign(state, { data, dataOf: at.hash, seen: about.now, trouble: null });
    state.namespaces = [...new Set(all.services.map((one) => one.namespace))].sort();
    state.silent = silentIn(data);
  } catch (error) {
    if (turn !== state.asked) return;
    state.trouble = error;
    if (state.dataOf !== at.hash) state.data = null;
  }
  draw();
}

/** Control planes that did not answer one of the questions. */
function silentIn(data) {
  const all = data && typeof data === "object" ? [data, ...Object.values(data)] : [];
  return [...new Set(all.flatMap((one) => one?.silent_replicas ?? []))];
}

function draw() {
  const at = here();
  drawHead(at);
  const title = at.page ? at.page.title(at.names) : "Nothing here";
  document.title = `${title} · Heddle`;
  const main = element("main");
  const style = getComputedStyle(main);
  const width = Math.floor(main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
  const ready = at.page && state.data !== null && state.dataOf === at.hash;
  const content = !at.page
    ? [h("p", { class: "panel" }, "There is no such page. ", h("a", { href: "#/" }, "The map"))]
    : ready
      ? at.page.view(state.data, interaction(width))
      : [h("p", { class: "panel muted" }, state.trouble ? whatFailed() : "Asking the control plane…")];
  patch(main, [h("h1", { tabindex: "-1", id: "title", key: "title" }, title), h("div", { class: "page", key: at.hash }, content)]);
  drawState();
}

function interaction(width) {
  return {
    // Inside of a panel's padding and border.
    width: width - 34,
    windowName: WINDOWS.find(([value]) => value === state.window)[1],
    moment: state.moment,
    redraw: draw,
    look(moment) {
      if (state.moment === moment) return;
      state.moment = moment;
      draw();
    },
    /** How wide a chart is where up to so many stand beside one another. */
    columns(most, least) {
      const gap = 16;
      const count = Math.max(1, Math.min(most, Math.floor((width + gap) / (least + 34 + gap))));
      return Math.floor((width - (count - 1) * gap) / count) - 34;
    },
    spans: () =>
      h("p", { class: "choices", role: "group", "aria-label": "Time of the charts", key: "spans" }, "Charts: the last ",
        SPANS.map(([name], index) => h("button", { type: "button", "aria-pressed": String(index === state.span), onclick: () => choose({ span: index, moment: null }) }, name))),
  };
}

function choose(changed) {
  Object.assign(state, changed);
  for (const name of ["window", "theme", "namespace"]) {
    if (name in changed) kept.set(name, state[name]);
  }
  applyTheme();
  draw();
  refresh();
}

function applyTheme() {
  if (state.theme === "") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = state.theme;
}

function drawHead(at) {
  patch(element("nav"), [
    h("ul", {}, NAV.map(([name, text]) =>
      h("li", { key: name }, h("a", { href: name === "" ? "#/" : `#/${name}`, "aria-current": at.first === name ? (at.names.length === 0 ? "page" : "true") : null }, text)))),
  ]);
  const namespaces = state.namespaces.includes(state.namespace) || state.namespace === "" ? state.namespaces : [state.namespace, ...state.namespaces];
  patch(element("tools"), [
    select("Namespace", state.namespace, [["", "All"], ...namespaces.map((name) => [name, name])], (namespace) => choose({ namespace })),
    select("Last", state.window, WINDOWS, (window) => choose({ window })),
    select("Colours", state.theme, THEMES, (theme) => choose({ theme })),
  ]);
}

function select(label, value, all, chosen) {
  const id = `choose-${label.toLowerCase()}`;
  return h("span", { class: "choice", key: label }, h("label", { for: id }, label),
    h("select", { id, value, onchange: (event) => chosen(event.target.value) }, all.map(([one, text]) => h("option", { value: one, key: one }, text))));
}

const seenAt = () => new Date(state.seen * 1000).toLocaleTimeString();

const whatFailed = () => `The control plane cannot be asked: ${state.trouble.message}.`;

/** Said once when it changes: a reader of the screen is not told again and again. */
function drawState() {
  const place = element("state");
  const { trouble } = state;
  const kind = trouble ? "gone" : state.silent.length > 0 ? "partial" : "live";
  place.className = `state ${kind}`;
  const gone = trouble && (trouble.gone
    ? `The control plane is gone: ${trouble.message}. ${state.seen === null ? "It was not seen so far." : `Last seen ${seenAt()}; what is shown is from then.`} It is asked again every two seconds.`
    : `The control plane refuses: ${trouble.message}.`);
  const note = here().page?.said?.() ?? "";
  const partial = state.silent.length > 0 && `What proxies told the control plane at ${state.silent.join(", ")} is missing: it did not answer.`;
  // What a page itself says is seen on it already.
  if (!gone && !partial && note !== "") place.className = "unseen";
  patch(place, gone ? [gone] : partial ? [partial] : note === "" ? [] : [note]);
  patch(element("foot"), [h("span", { class: `pulse ${kind}`, "aria-hidden": "true" }), h("span", {}, trouble ? "Not connected" : state.seen === null ? "Connecting" : `Live, as of ${seenAt()}`)]);
}

let shown = here().page;

function moved() {
  const { page } = here();
  if (shown !== page) shown?.leave?.();
  shown = page;
  state.moment = null;
  draw();
  element("title").focus({ preventScroll: true });
  scrollTo(0, 0);
  refresh();
}

async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, EVERY_MILLIS);
}

applyTheme();
addEventListener("hashchange", moved);
addEventListener("resize", draw);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  element("main").focus();
});
draw();
follow();
