// Numbers and names as people read them. Pure.

/** A share from 0 to 1; never rounded up to 100 %: one lost request in a million shows. */
export function percent(share, digits = 1) {
  if (share === null || share === undefined) return "–";
  if (share >= 1) return "100 %";
  const scale = 10 ** digits;
  return `${(Math.floor(share * 100 * scale + 1e-9) / scale).toFixed(digits)} %`;
}

/** A share without needless digits. */
export const share = (part) => (part === null || part === undefined ? "–" : `${Math.round(part * 100)} %`);

export function rate(perSecond) {
  if (!perSecond) return "0/s";
  if (perSecond < 0.1) return "<0.1/s";
  return `${perSecond < 10 ? perSecond.toFixed(1) : perSecond < 10000 ? Math.round(perSecond) : `${(perSecond / 1000).toFixed(1)}k`}/s`;
}

export function latency(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 ms";
  const millis = seconds * 1000;
  if (millis < 1) return `${millis.toFixed(2)} ms`;
  if (millis < 10) return `${millis.toFixed(1)} ms`;
  if (millis < 1000) return `${Math.round(millis)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = count;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** How long something lasts, in one unit. */
export function lasting(seconds) {
  if (seconds < 0) return "expired";
  for (const [unit, length, from] of [["days", 86400, 172800], ["h", 3600, 7200], ["min", 60, 120]]) {
    if (seconds >= from) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

export const clockTime = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const date = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** How well something answers: a word beside every colour. */
export function health(success) {
  if (success === null || success === undefined) return "idle";
  if (success >= 0.995) return "good";
  return success >= 0.95 ? "fair" : "poor";
}

/** `namespace/name:port` as its parts. */
export function parts(service) {
  const [namespace, rest = ""] = split(service, "/");
  const colon = rest.lastIndexOf(":");
  return { namespace, name: colon < 0 ? rest : rest.slice(0, colon), port: colon < 0 ? "" : rest.slice(colon + 1), rest };
}

function split(text, at) {
  const place = text.indexOf(at);
  return place < 0 ? [text] : [text.slice(0, place), text.slice(place + 1)];
}

/** Where a thing has its page. */
export const hrefOf = (page, ...names) => `#/${[page, ...names].map(encodeURIComponent).join("/")}`;
