// Sorts and filters the results, opens one image at a time, compares and zooms pictures. The page is complete without it.
"use strict";

document.documentElement.classList.add("js");

// The table: sorting and filtering. Unknown values stay at the end.
const table = document.getElementById("results-table");
const rows = [...table.tBodies[0].rows];

function sortKey(row, column) {
  const cell = row.cells[column];
  const key = cell.dataset.key ?? cell.textContent.trim();
  return cell.classList.contains("n") ? (key === "" ? NaN : Number(key)) : key;
}

function sortBy(head, column) {
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const order = new Intl.Collator("en", { numeric: true }).compare;
  const keyed = rows.map((row) => [sortKey(row, column), row]);
  const known = keyed.filter(([key]) => !Number.isNaN(key));
  known.sort(([a], [b]) => (typeof a === "string" ? order(a, b) : a - b) * (descending ? -1 : 1));
  const unknown = keyed.filter(([key]) => Number.isNaN(key));
  table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
}

[...table.tHead.rows[0].cells].forEach((head, column) => {
  if (head.tagName !== "TH") return;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sortBy(head, column));
});

const verdict = document.getElementById("filter-verdict");
const text = document.getElementById("filter-text");

function filter() {
  const wanted = text.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    row.hidden = !((!verdict.value || row.dataset.verdict === verdict.value) && row.textContent.toLowerCase().includes(wanted));
    count += !row.hidden;
  }
  document.getElementById("filter-shown").textContent = `${count} of ${rows.length} shown`;
}
verdict.addEventListener("change", filter);
text.addEventListener("input", filter);
document.getElementById("filters").hidden = false;
filter();

// The page's states: the overview, one image (its address is #image-N), or all images. Of many images each waits as the
// text of a noscript element until it is asked for; previous and next follow the table as sorted and filtered.
const root = document.documentElement;
const title = document.title;
let overviewScroll = 0;

function build(waiting) {
  waiting.outerHTML = waiting.textContent;
}

function buildAll() {
  document.querySelectorAll("#images > noscript").forEach(build);
}

function findImage(id) {
  if (!/^image-[1-9][0-9]*$/.test(id)) return null;
  const waiting = document.querySelector(`noscript[data-image="${id}"]`);
  if (waiting) build(waiting);
  return document.getElementById(id);
}

function linkNeighbours(image) {
  const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.id.replace("result", "image"));
  const place = shown.indexOf(image.id);
  if (place < 0) return;
  for (const [kind, id] of [["previous", shown[place - 1]], ["next", shown[place + 1]]]) {
    const link = image.querySelector(`.pager .${kind}`);
    link.hidden = !id;
    link.href = `#${id}`;
  }
}

function show() {
  const id = location.hash.slice(1);
  const image = findImage(id);
  const state = image ? "image" : id === "images" ? "images" : "overview";
  const before = root.dataset.state;
  document.querySelector(".image.open")?.classList.remove("open");
  if (state === "images") buildAll();
  root.dataset.state = state;
  document.title = image ? `${image.querySelector(".file b").textContent} · ${title}` : title;
  if (image) {
    image.classList.add("open");
    linkNeighbours(image);
    scrollTo(0, 0);
    image.querySelector(".verdict").focus({ preventScroll: true });
  } else if (before && before !== state) {
    if (!id) scrollTo(0, overviewScroll);
    const place = document.getElementById(id);
    place?.scrollIntoView({ block: id.startsWith("result-") ? "center" : "start" });
    if (id.startsWith("result-")) place?.querySelector("a").focus({ preventScroll: true });
  }
}
addEventListener("scroll", () => { if (root.dataset.state === "overview") overviewScroll = scrollY; });
addEventListener("hashchange", show);
show();

addEventListener("keydown", (event) => {
  const image = document.querySelector(".image.open");
  if (!image || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("input, select, .scroll, .zoomed")) return;
  const links = { ArrowLeft: ".previous", ArrowRight: ".next", Escape: ".back" };
  if (links[event.key]) image.querySelector(`.pager ${links[event.key]}:not([hidden])`)?.click();
});

// Suspect over re-synthesis: the slider moves their border, the button swaps them; zoom to the pixel for all three.
function overlay(exhibit) {
  const [suspect, resynthesis] = exhibit.querySelectorAll(".frame");
  if (resynthesis.children.length === 1) {
    const over = suspect.firstElementChild.cloneNode();
    over.alt = "";
    resynthesis.append(over);
  }
  return resynthesis.lastElementChild;
}

function draw(exhibit) {
  overlay(exhibit).style.clipPath = `inset(0 ${exhibit.querySelector(".compare input").value}% 0 0)`;
}

function zoom(exhibit, select) {
  overlay(exhibit);
  draw(exhibit);
  const frames = [...exhibit.querySelectorAll(".frame")];
  const height = `${frames[0].clientHeight}px`;
  for (const frame of frames) {
    frame.classList.toggle("zoomed", select.value !== "");
    frame.style.height = select.value && (frame.style.height || height);
    if (select.value) {
      frame.tabIndex = 0;
      frame.role = "group";
      frame.ariaLabel = select.dataset.zoomed;
    } else for (const name of ["tabindex", "role", "aria-label"]) frame.removeAttribute(name);
    for (const image of frame.children) image.style.width = select.value && `${image.naturalWidth * select.value}px`;
    frame.onscroll = () => {
      for (const other of frames) if (other !== frame) other.scrollTo(frame.scrollLeft, frame.scrollTop);
    };
  }
}

document.addEventListener("input", ({ target }) => {
  const exhibit = target.closest(".exhibit");
  if (exhibit && target.type === "range") draw(exhibit);
  if (exhibit && target.tagName === "SELECT") zoom(exhibit, target);
});
document.addEventListener("click", ({ target }) => {
  if (!target.matches(".compare button")) return;
  const exhibit = target.closest(".exhibit");
  const slider = exhibit.querySelector(".compare input");
  slider.value = slider.value > 50 ? 0 : 100;
  draw(exhibit);
});

// On paper nothing is folded up.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
