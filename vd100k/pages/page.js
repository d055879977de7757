"use strict";
const tip = document.getElementById("tip");

function showTip(text, event) {
  tip.textContent = text;
  tip.hidden = false;
  const width = tip.offsetWidth;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
  tip.style.top = Math.max(8, event.clientY - 40) + "px";
}

document.addEventListener("pointermove", (event) => {
  const target = event.target.closest ? event.target.closest("[data-tip]") : null;
  if (target) showTip(target.dataset.tip, event);
  else if (!event.target.closest || !event.target.closest("[data-points]")) tip.hidden = true;
});

for (const chart of document.querySelectorAll("[data-points]")) {
  const points = chart.dataset.points.split("|").map((point) => point.split(";"));
  const mark = chart.querySelector(".at");
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    const near = points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    mark.setAttribute("x1", near[0]);
    mark.setAttribute("x2", near[0]);
    mark.removeAttribute("hidden");
    showTip(near[1], event);
  });
  chart.addEventListener("pointerleave", () => { mark.setAttribute("hidden", ""); tip.hidden = true; });
}

for (const gallery of document.querySelectorAll("[data-gallery]")) {
  const tools = gallery.querySelector(".tools");
  if (!tools) continue;
  tools.hidden = false;
  const grid = gallery.querySelector(".gallery");
  const cards = [...grid.children];
  const words = cards.map((card) => card.textContent.toLowerCase());
  const [search, group, sort] = ["search", "group", "sort"].map((name) => tools.querySelector(`[name=${name}]`));
  const orders = {
    worst: (a, b) => a.dataset.rank - b.dataset.rank,
    longest: (a, b) => b.dataset.length - a.dataset.length,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
    given: () => 0,
  };
  function filter() {
    const text = search.value.trim().toLowerCase();
    let shown = 0;
    cards.forEach((card, k) => {
      card.hidden = !words[k].includes(text) || (group && group.value && card.dataset.group !== group.value);
      shown += !card.hidden;
    });
    gallery.querySelector(".shown").textContent = shown.toLocaleString("en");
  }
  search.addEventListener("input", filter);
  if (group) group.addEventListener("change", filter);
  sort.addEventListener("change", () => grid.append(...[...cards].sort(orders[sort.value])));
}

const dialog = document.querySelector("dialog");
document.addEventListener("click", (event) => {
  const frame = event.target.closest("button.frame");
  if (frame) {
    const card = frame.closest("article");
    const picture = frame.cloneNode(true);
    const image = picture.querySelector("img");
    image.src = image.dataset.large || image.src;
    const place = document.createElement("div");
    place.className = frame.className;
    place.append(...picture.childNodes);
    dialog.querySelector(".inside").replaceChildren(place, card.querySelector(".words").cloneNode(true));
    dialog.showModal();
  } else if (event.target === dialog || event.target.closest("dialog .frame")) dialog.close();
});

for (const table of document.querySelectorAll(".runs")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = document.querySelector("[data-runs]");
  search.parentElement.hidden = false;
  search.addEventListener("input", () => {
    const text = search.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(text);
  });
  const key = (row, column) => row.cells[column].dataset.sort || row.cells[column].textContent;
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.querySelector("button").addEventListener("click", () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      body.append(...[...rows].sort((a, b) => sign * key(a, column).localeCompare(key(b, column), "en", { numeric: true })));
    });
  });
}
