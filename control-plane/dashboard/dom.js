// Draws what is said of a page: changes what differs and leaves the rest as it is, so that focus, selection and scroll
// stay. Text becomes text nodes only, never markup: names come from the cluster.

const SVG = "http://www.w3.org/2000/svg";
/** Set as properties: as attributes they would say what an element began with. */
const PROPERTIES = new Set(["value", "checked", "selected", "open"]);

/** An element: its attributes (`on...` are handlers, `key` tells it from its siblings) and what is in it. */
export function h(tag, attributes = {}, ...children) {
  const inside = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  return { tag, attributes, children: inside };
}

/** Makes the children of an element these. */
export function patch(parent, wanted, namespace = null) {
  const known = new Map();
  for (const child of parent.childNodes) {
    if (child.heddleKey !== undefined) known.set(child.heddleKey, child);
  }
  let place = parent.firstChild;
  wanted.forEach((want, index) => {
    const key = keyOf(want, index);
    let found = known.get(key);
    known.delete(key);
    if (found && !isSame(found, want)) {
      const stale = found;
      if (place === stale) place = stale.nextSibling;
      stale.remove();
      found = undefined;
    }
    if (!found) {
      found = make(want, namespace);
      found.heddleKey = key;
    }
    if (found === place) place = found.nextSibling;
    else parent.insertBefore(found, place);
    update(found, want, namespace);
  });
  const kept = new Set();
  let child = parent.firstChild;
  for (let index = 0; index < wanted.length; index += 1) {
    kept.add(child);
    child = child.nextSibling;
  }
  for (const extra of [...parent.childNodes]) {
    if (!kept.has(extra)) extra.remove();
  }
}

function keyOf(want, index) {
  if (typeof want !== "object") return `text ${index}`;
  return want.attributes.key !== undefined ? `${want.tag} ${want.attributes.key}` : `${want.tag} at ${index}`;
}

function isSame(found, want) {
  if (typeof want !== "object") return found.nodeType === Node.TEXT_NODE;
  return found.nodeType === Node.ELEMENT_NODE && found.localName === want.tag;
}

function make(want, namespace) {
  if (typeof want !== "object") return document.createTextNode("");
  const inside = want.tag === "svg" ? SVG : namespace;
  return inside ? document.createElementNS(inside, want.tag) : document.createElement(want.tag);
}

function update(found, want, namespace) {
  if (typeof want !== "object") {
    const text = String(want);
    if (found.nodeValue !== text) found.nodeValue = text;
    return;
  }
  const before = found.heddleAttributes ?? {};
  for (const name of Object.keys(before)) {
    if (!(name in want.attributes)) clear(found, name);
  }
  for (const [name, value] of Object.entries(want.attributes)) set(found, name, value, before[name]);
  found.heddleAttributes = want.attributes;
  patch(found, want.children, want.tag === "svg" ? SVG : namespace);
  // A select has its options by now.
  if (want.tag === "select" && found.value !== want.attributes.value) found.value = want.attributes.value;
}

function set(found, name, value, before) {
  if (name === "key") return;
  if (name.startsWith("on")) {
    if (before !== value) found[name] = value;
  } else if (PROPERTIES.has(name)) {
    if (before !== value || name === "value") found[name] = value;
  } else if (value === null || value === undefined || value === false) {
    found.removeAttribute(name);
  } else if (before !== value) {
    found.setAttribute(name, value === true ? "" : String(value));
  }
}

function clear(found, name) {
  if (name === "key") return;
  if (name.startsWith("on")) found[name] = null;
  else if (!PROPERTIES.has(name)) found.removeAttribute(name);
}
