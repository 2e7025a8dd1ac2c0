"use strict";
for (const section of document.querySelectorAll("section")) {
  const table = section.querySelector("table.results"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  // A failed row has one cell for four columns, so cells are found by the column in which they begin.
  const value = (row, column) => {
    let place = 0;
    for (const cell of row.cells) {
      if (place <= column && column < place + cell.colSpan) return cell.dataset.value ?? "";
      place += cell.colSpan;
    }
    return "";
  };
  const compare = (one, other) => {
    const [a, b] = [Number(one), Number(other)];
    return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other) : a - b;
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : column > 0;
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [value(one, column), value(other, column)];
      if (a === "" || b === "") return (a === "") - (b === ""); // what was not measured comes last, either way
      return down ? compare(b, a) : compare(a, b);
    });
    body.append(...rows);
  }));
  const tools = section.querySelector(".tools"), search = tools.querySelector("[type=search]");
  tools.addEventListener("input", () => {
    const off = [...tools.querySelectorAll("[type=checkbox]:not(:checked)")].map((box) => box.value);
    for (const row of body.rows) {
      const named = row.cells[0].dataset.value.toLowerCase().includes(search.value.trim().toLowerCase());
      row.hidden = !named || off.some((kind) => row.classList.contains(kind));
    }
  });
}
const tip = document.getElementById("tip");
const show = (mark) => {
  const box = mark.getBoundingClientRect();
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.top > tip.offsetHeight + 12 ? box.top - tip.offsetHeight - 8 : box.bottom + 8}px`;
};
for (const mark of document.querySelectorAll(".mark")) {
  for (const event of ["pointerenter", "focus", "click"]) mark.addEventListener(event, () => show(mark));
  for (const event of ["pointerleave", "blur"]) mark.addEventListener(event, () => { tip.hidden = true; });
}
const open = () => {
  for (let place = document.getElementById(decodeURIComponent(location.hash.slice(1))); place; place = place.parentElement)
    if (place.tagName === "DETAILS") place.open = true;
};
addEventListener("hashchange", open);
open();
