// What somebody who cannot see the page would miss, one sentence each.
const wrong = [];
const shown = (element) => element.checkVisibility();
const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
const nameOf = (element) => {
  const by = element.getAttribute("aria-labelledby");
  const labels = by ? by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ") : "";
  const title = element.querySelector(":scope > title")?.textContent ?? "";
  const own = element.labels?.length ? [...element.labels].map((label) => label.textContent).join(" ") : element.textContent;
  return (element.getAttribute("aria-label") || labels || own || title || "").trim();
};
if (document.documentElement.lang !== "en") wrong.push("the language is not said");
if (all("h1").length !== 1) wrong.push(`${all("h1").length} first headings`);
for (const landmark of ["header", "nav", "main", "footer"]) {
  if (all(landmark).length !== 1) wrong.push(`${all(landmark).length} of ${landmark}`);
}
for (const element of all("a, button, select, input, summary, [tabindex='0'], nav, [role=region], [role=group], [role=img], section")) {
  if (nameOf(element) === "") wrong.push(`no name: ${element.outerHTML.slice(0, 120)}`);
}
for (const table of all("table")) {
  if (!table.caption?.textContent) wrong.push("a table without a caption");
  if ([...table.tHead.rows[0].cells].some((cell) => cell.scope !== "col")) wrong.push("a column without a heading");
  if ([...table.tBodies[0].rows].some((row) => row.cells[0].scope !== "row")) wrong.push("a row without a heading");
}
let level = 1;
for (const heading of all("h1, h2, h3, h4")) {
  const own = Number(heading.localName[1]);
  // Charts have the third level wherever they are.
  if (own > level + 2) wrong.push(`heading ${heading.textContent} skips levels`);
  level = own;
}
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of new Set(ids.filter((one, index) => ids.indexOf(one) !== index))) wrong.push(`two of #${id}`);
if (document.querySelector("[tabindex]:not([tabindex='0']):not([tabindex='-1'])")) wrong.push("an order of its own");
const live = document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]");
if (live.length !== 1) wrong.push(`${live.length} places that are read aloud when they change`);
if (document.querySelectorAll("nav [aria-current]").length !== 1 && !document.querySelector("main").textContent.includes("There is no such page")) wrong.push("the present page is not said");
for (const image of all("svg")) {
  const said = image.getAttribute("role") === "img" || image.getAttribute("aria-hidden") === "true" || image.closest("[role=group]");
  if (!said) wrong.push(`a picture that says nothing: ${image.outerHTML.slice(0, 100)}`);
}
return wrong;
