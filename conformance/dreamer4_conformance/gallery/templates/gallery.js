"use strict";
{
  const table = document.getElementById("matrix");
  const form = document.getElementById("filter");
  const rows = [...table.querySelectorAll("tbody tr[data-equation]")];
  const blocks = [...document.querySelectorAll(".block[data-equations]")];
  const count = document.getElementById("count");

  // Filter: rows of an equation in which some implementation has a state; failures of that equation.
  const filter = () => {
    const equation = form.elements.equation.value, status = form.elements.status.value;
    for (const row of rows) {
      row.hidden = (equation && row.dataset.equation !== equation) ||
        (status && !row.querySelector(`td.cell.${status}`));
    }
    for (const body of table.tBodies) body.hidden = ![...body.rows].some(row => row.dataset.equation && !row.hidden);
    for (const block of blocks) block.hidden = equation && !block.dataset.equations.split("|").includes(equation);
    const shown = rows.filter(row => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length} clauses`;
    if (current.closest("tr").hidden && shown) move(rows.find(row => !row.hidden).querySelector("td.cell"), false);
  };

  // Keys: one cell at a time is in the order of Tab; arrows, Home and End move to others.
  const target = cell => cell.querySelector("a") || cell;
  const said = document.getElementById("said");
  let current = table.querySelector("td.cell");
  const move = (cell, focus = true) => {
    target(current).tabIndex = -1;
    current = cell;
    target(current).tabIndex = 0;
    if (focus) target(current).focus();
  };
  const neighbour = (cell, key) => {
    const cells = [...cell.parentElement.querySelectorAll("td.cell")], column = cells.indexOf(cell);
    if (key === "ArrowLeft") return cells[column - 1];
    if (key === "ArrowRight") return cells[column + 1];
    if (key === "Home") return cells[0];
    if (key === "End") return cells[cells.length - 1];
    const visible = rows.filter(row => !row.hidden);
    const row = visible[visible.indexOf(cell.parentElement) + (key === "ArrowDown" ? 1 : -1)];
    return row && row.querySelectorAll("td.cell")[column];
  };
  const describe = cell => {
    const column = [...cell.parentElement.querySelectorAll("td.cell")].indexOf(cell);
    const name = table.querySelectorAll("thead th.implementation a")[column].innerText.replace("\n", " ");
    const clause = cell.parentElement.querySelector("th code").textContent;
    const text = [cell.querySelector(".hidden").textContent, cell.title].filter(Boolean).join(": ");
    said.textContent = `${name}, ${clause}: ${text}`;
  };
  table.setAttribute("role", "grid");
  for (const cell of table.querySelectorAll("td.cell")) target(cell).tabIndex = -1;
  move(current, false);
  table.addEventListener("keydown", event => {
    const cell = event.target.closest("td.cell");
    if (!cell || !["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const next = neighbour(cell, event.key);
    if (next) move(next);
  });
  table.addEventListener("focusin", event => {
    const cell = event.target.closest("td.cell");
    if (cell) { move(cell, false); describe(cell); }
  });
  table.addEventListener("mouseover", event => {
    const cell = event.target.closest("td.cell");
    if (cell) describe(cell);
  });

  // A link to a clause inside closed details opens them.
  const open = () => {
    const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    for (let element = place; element; element = element.parentElement) if (element.tagName === "DETAILS") element.open = true;
    const block = place.closest(".block[hidden]");
    if (block) block.hidden = false;
    place.scrollIntoView();
  };
  addEventListener("hashchange", open);

  form.hidden = false;
  said.hidden = false;
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
  open();
}
