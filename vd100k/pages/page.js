"use strict";
const FIRST = 8;  // cards of a gallery before "Show all"

// Before the page is drawn, so that it does not flash. A browser may refuse to remember the choice.
const remembered = { get() { try { return localStorage.getItem("theme"); } catch { return null; } },
  set(theme) { try { localStorage.setItem("theme", theme); } catch { /* for this page only */ } } };
function paint(theme) { document.documentElement.dataset.theme = theme; }
paint(remembered.get() || "system");

document.addEventListener("DOMContentLoaded", () => {
  const theme = document.querySelector("[name=theme]");
  theme.value = document.documentElement.dataset.theme;
  theme.hidden = false;
  theme.addEventListener("change", () => { paint(theme.value); remembered.set(theme.value); });

  // The same page has another address through the link outputs/latest.
  const linked = location.pathname.match(/\/latest\/((?:\d+-\w+\/)?report\.html)$/);
  const back = document.querySelector(".back");
  if (linked && back) back.href = "../".repeat(linked[1].split("/").length) + "index.html";

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
    tools.hidden = false;
    const grid = gallery.querySelector(".gallery");
    const more = gallery.querySelector(".more");
    let cards = [...grid.children];
    const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
    const [search, group, sort] = ["search", "group", "sort"].map((name) => tools.querySelector(`[name=${name}]`));
    const orders = {
      worst: (a, b) => a.dataset.rank - b.dataset.rank,
      longest: (a, b) => b.dataset.length - a.dataset.length,
      name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
      given: () => 0,
    };
    const given = cards;
    let all = cards.length <= FIRST;
    function filter() {
      const text = search.value.trim().toLowerCase();
      const chosen = group ? group.value : "";
      // A search or a filter looks in all cards; otherwise only the first ones are shown. All of them are printed.
      const few = !all && !text && !chosen;
      let shown = 0;
      for (const card of cards) {
        card.hidden = !words.get(card).includes(text) || (chosen && card.dataset.group !== chosen);
        card.classList.toggle("later", few && shown >= FIRST);
        shown += !card.hidden && !card.classList.contains("later");
      }
      gallery.querySelector(".shown").textContent = shown.toLocaleString("en");
      more.hidden = !few;
    }
    search.addEventListener("input", filter);
    if (group) group.addEventListener("change", filter);
    sort.addEventListener("change", () => {
      cards = [...given].sort(orders[sort.value]);
      grid.append(...cards);
      filter();
    });
    more.addEventListener("click", () => { all = true; filter(); });
    filter();
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
});
