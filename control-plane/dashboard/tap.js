// One tap, as the page has it: what came, how it is, and why it ended. A bounded number of requests is kept.

import { listen } from "./ask.js";
import { plural } from "./words.js";

/** Of a tap, the newest; more are counted only. */
export const ROWS_LIMIT = 200;
/** How long nothing may come before it is said why. */
const PATIENCE_MILLIS = 5000;
/** How often somebody who hears the page is told of requests. */
const TELL_MILLIS = 10000;

/** As it is before the first. */
const fresh = () => ({
  phase: "idle", rows: [], held: [], isPaused: false, seen: 0, failed: 0, looking: { proxies: 0, without_proxy: 0 },
  leftOut: 0, ended: null, refusal: null, isFiltered: false, rate: 0, words: null, isSilent: false,
});

export class Tap {
  /** `changed` is called when there is something new to show. */
  constructor(changed) {
    this.changed = changed;
    this.next = 0;
    this.said = "";
    this.toldAt = 0;
    Object.assign(this, fresh());
  }

  get runs() {
    return this.phase === "asking" || this.phase === "running";
  }

  /** Begins one of these words; what ran ends, and what came of it goes. */
  async start(words, isFiltered) {
    this.stop();
    const controller = new AbortController();
    const { next, changed } = this;
    Object.assign(this, fresh(), { next, changed, controller, words, isFiltered, rate: words.rate, phase: "asking" });
    this.tell("The control plane is asked.");
    const patience = setTimeout(() => {
      if (this.controller !== controller || this.seen > 0) return;
      this.isSilent = true;
      this.tell(this.standing());
    }, PATIENCE_MILLIS);
    try {
      for await (const lines of listen("tap", words, controller.signal)) {
        if (this.controller !== controller) return;
        this.phase = "running";
        for (const line of lines) this.take(line);
        this.count();
        this.changed();
      }
      if (this.controller !== controller) return;
      if (this.ended === null) this.refusal = { message: "The control plane does not tell any more", remedy: "It may have been restarted: start anew." };
    } catch (error) {
      if (this.controller !== controller) return;
      this.refusal = { message: error.message, remedy: remedyOf(error) };
    } finally {
      clearTimeout(patience);
    }
    this.phase = "over";
    this.controller = null;
    this.tell(this.standing());
  }

  /** Ends what runs: nobody listens any more, and the control plane has the proxies stop. */
  stop() {
    if (!this.runs) return;
    const { controller } = this;
    this.controller = null;
    this.phase = "over";
    this.ended = { reason: "it was stopped here" };
    controller.abort();
    this.tell(this.standing());
  }

  /** While it is paused, what comes is held back. */
  pause(isPaused) {
    this.isPaused = isPaused;
    if (!isPaused) {
      this.rows = [...this.held, ...this.rows].slice(0, ROWS_LIMIT);
      this.held = [];
    }
    this.tell(isPaused ? "Paused: requests that come are held back." : "It goes on.");
  }

  /** Forgets what came. */
  clear() {
    Object.assign(this, { rows: [], held: [] });
    this.tell("The list is empty.");
  }

  take(line) {
    if (line.type === "exchange") {
      this.next += 1;
      this.seen += 1;
      if (isFailure(line)) this.failed += 1;
      const rows = this.isPaused ? this.held : this.rows;
      rows.unshift({ id: this.next, ...line });
      if (rows.length > ROWS_LIMIT) rows.pop();
    } else if (line.type === "looking") {
      this.looking = line;
    } else if (line.type === "left_out") {
      this.leftOut = line.left_out;
    } else if (line.type === "end") {
      this.ended = line;
    }
  }

  /** To whoever hears the page: now and again how many, not each. */
  count() {
    const now = Date.now();
    if (this.seen === 0 || now - this.toldAt < TELL_MILLIS) return;
    this.toldAt = now;
    this.said = this.standing();
  }

  tell(text) {
    this.said = text;
    this.toldAt = Date.now();
    this.changed();
  }

  /** How it is, in a sentence or two. */
  standing() {
    if (this.phase === "idle") return "Nothing is tapped. From when it starts, requests show here when they are over.";
    if (this.phase === "asking") return "The control plane is asked.";
    const sum = `${plural(this.seen, "request")} so far, ${this.failed} failed${this.leftOut === 0 ? "" : `, and ${this.leftOut} left out: more than ${this.rate} a second of one proxy, or than was read`}.`;
    if (this.refusal !== null) return `${capital(this.refusal.message)}. ${this.refusal.remedy}`.trim();
    if (this.ended !== null) return `It ended: ${this.ended.reason}. ${sum}`;
    const { proxies, without_proxy: bare, silent_replicas: silent = [] } = this.looking;
    const looks = proxies === 1 ? "1 proxy looks" : `${proxies} proxies look`;
    const unseen = bare === 0 ? "" : ` ${plural(bare, "pod")} of it ${bare === 1 ? "has" : "have"} no proxy, and cannot be seen.`;
    const missing = silent.length === 0 ? "" : ` What proxies tell the control plane at ${silent.join(", ")} is missing: it does not answer.`;
    if (this.seen > 0 || !this.isSilent) return `${looks} for requests; ${sum}${unseen}${missing}`;
    if (proxies === 0) return `No request yet, and no proxy looks for one: Configuration shows those that are connected.${unseen}${missing}`;
    const why = this.isFiltered ? "None that matches has ended so far: fewer words would fit more." : "Nobody asks it or is asked by it, or what it speaks is no HTTP.";
    return `No request yet; ${looks} for one. ${why}${unseen}${missing}`;
  }
}

/** As `meshctl tap` counts them. */
export const isFailure = (line) => line.status >= 500 || line.error !== undefined || (line.grpc_status ?? "OK") !== "OK" || !line.whole;

const REMEDIES = new Map([
  [401, "Open the dashboard with `meshctl dashboard`, which shows the control plane who asks."],
  [403, "Who may tap, and how that is allowed, is in docs/tap.md."],
  [404, "It may be gone: choose another."],
]);
const remedyOf = (error) => REMEDIES.get(error.status) ?? (error.gone ? "Start anew when it is back." : "");
const capital = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
