// Sorts and filters the table of results, and lays the suspect over its re-synthesis. The page is complete without it.
"use strict";

const table = document.getElementById("results-table");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const value = (row, column) => {
    const cell = row.cells[column];
    const key = cell.dataset.key ?? cell.textContent.trim();
    return cell.classList.contains("n") ? (key === "" ? NaN : Number(key)) : key.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b);
    return Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : a - b;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const known = rows.filter((row) => !Number.isNaN(value(row, column)));
      const unknown = rows.filter((row) => Number.isNaN(value(row, column)));
      known.sort((a, b) => compare(value(a, column), value(b, column)) * (descending ? -1 : 1));
      body.append(...known, ...unknown);
    });
  });
  const filters = document.getElementById("filters");
  const verdict = document.getElementById("filter-verdict");
  const name = document.getElementById("filter-name");
  const shown = document.getElementById("filter-shown");
  const filter = () => {
    for (const row of rows) {
      const fits = !verdict.value || row.dataset.verdict === verdict.value;
      row.hidden = !(fits && row.textContent.toLowerCase().includes(name.value.toLowerCase()));
    }
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  };
  verdict.addEventListener("change", filter);
  name.addEventListener("input", filter);
  filters.hidden = false;
  filter();
}

for (const control of document.querySelectorAll(".compare")) {
  const figure = control.closest(".picture");
  const suspect = control.closest(".triptych").querySelector("img");
  const over = suspect.cloneNode();
  over.alt = "";
  figure.querySelector(".frame").append(over);
  const slider = control.querySelector("input");
  const draw = () => { over.style.clipPath = `inset(0 ${slider.value}% 0 0)`; };
  slider.addEventListener("input", draw);
  control.hidden = false;
  draw();
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
