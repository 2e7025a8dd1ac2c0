"use strict";
for (const section of document.querySelectorAll("section")) {
  const table = section.querySelector("table.results"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  // A failed method has one cell that spans four columns, so a cell is found by the column at which it begins.
  const value = (row, column) => {
    let first = 0;
    for (const cell of row.cells) {
      if (first <= column && column < first + cell.colSpan) return cell.dataset.value ?? "";
      first += cell.colSpan;
    }
    return "";
  };
  const compare = (left, right) => {
    const [a, b] = [Number(left), Number(right)];
    return Number.isNaN(a) || Number.isNaN(b) ? left.localeCompare(right) : a - b;
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : column > 0;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].sort((left, right) => {
      const [a, b] = [value(left, column), value(right, column)];
      if (a === "" || b === "") return (a === "") - (b === ""); // Values that were not measured come last in both orders.
      return descending ? compare(b, a) : compare(a, b);
    });
    body.append(...rows);
  }));
  const tools = section.querySelector(".tools"), search = tools.querySelector("[type=search]");
  tools.addEventListener("input", () => {
    const hiddenKinds = [...tools.querySelectorAll("[type=checkbox]:not(:checked)")].map((box) => box.value);
    for (const row of body.rows) {
      const matches = row.cells[0].dataset.value.toLowerCase().includes(search.value.trim().toLowerCase());
      row.hidden = !matches || hiddenKinds.some((kind) => row.classList.contains(kind));
    }
  });
}
const tip = document.getElementById("tip");
const showTip = (mark) => {
  const box = mark.getBoundingClientRect();
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.top > tip.offsetHeight + 12 ? box.top - tip.offsetHeight - 8 : box.bottom + 8}px`;
};
for (const mark of document.querySelectorAll(".mark")) {
  for (const event of ["pointerenter", "focus", "click"]) mark.addEventListener(event, () => showTip(mark));
  for (const event of ["pointerleave", "blur"]) mark.addEventListener(event, () => { tip.hidden = true; });
}
// A link to the runs of a method opens the details that hold them.
const openTarget = () => {
  for (let node = document.getElementById(decodeURIComponent(location.hash.slice(1))); node; node = node.parentElement)
    if (node.tagName === "DETAILS") node.open = true;
};
addEventListener("hashchange", openTarget);
openTarget();
