// Search and the notation table. The pages can be read without this file.
"use strict";

const query = document.getElementById("query");
const results = document.getElementById("results");
const shown = 12;

// Search: every word of the query must occur in an entry; matches in the name count most.
function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = INDEX.map(entry => ({entry, score: score(entry, words)}))
    .filter(({score}) => score > 0);
  return found.sort((a, b) => b.score - a.score).map(({entry}) => entry);
}

function score(entry, words) {
  const name = entry.name.toLowerCase(), text = entry.text.toLowerCase();
  const each = words.map(word => name === word ? 8 : name.startsWith(word) ? 4 :
    name.includes(word) ? 3 : text.includes(word) ? 1 : 0);
  return each.includes(0) ? 0 : each.reduce((a, b) => a + b, 0);
}

function render() {
  const text = query.value.trim(), found = text ? search(text) : [];
  results.hidden = !text;
  results.querySelector("p").textContent = !text ? "" : found.length === 0 ? "Nothing found." :
    found.length > shown ? `${found.length} found, the first ${shown}:` : `${found.length} found:`;
  results.querySelector("ul").replaceChildren(...found.slice(0, shown).map(entry => {
    const item = document.createElement("li"), link = document.createElement("a");
    const name = document.createElement("b"), says = document.createElement("span");
    name.textContent = entry.name;
    says.textContent = entry.text;
    link.href = entry.address;
    link.append(name, says);
    item.append(link);
    return item;
  }));
}

const links = () => [...results.querySelectorAll("a")];

function close() {
  query.value = "";
  render();
}

query.addEventListener("input", render);
results.addEventListener("click", event => event.target.closest("a") && close());
document.getElementById("search").addEventListener("submit", event => {
  event.preventDefault();
  links()[0]?.click();
});
document.getElementById("search").addEventListener("keydown", event => {
  const all = links(), at = all.indexOf(document.activeElement);
  if (event.key === "Escape") {
    query.focus();
    close();
  } else if (event.key === "ArrowDown" && at + 1 < all.length) {
    event.preventDefault();
    all[at + 1].focus();
  } else if (event.key === "ArrowUp" && at >= 0) {
    event.preventDefault();
    (all[at - 1] ?? query).focus();
  }
});
document.addEventListener("keydown", event => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && event.target !== query) {
    event.preventDefault();
    query.focus();
  }
});

// The notation table: one symbol at a time is highlighted.
const buttons = [...document.querySelectorAll("[data-choose]")];
const uses = symbol => [...document.querySelectorAll(`[data-symbol="${CSS.escape(symbol)}"]`)];

function choose(symbol) {
  document.querySelectorAll(".lit").forEach(use => use.classList.remove("lit"));
  const lit = symbol ? uses(symbol) : [];
  lit.forEach(use => use.classList.add("lit"));
  buttons.forEach(b => b.setAttribute("aria-pressed", b.dataset.choose === symbol));
  const inCode = lit.filter(use => use.closest("pre")).length;
  document.querySelector(".chosen").textContent =
    symbol ? `${symbol}: ${lit.length - inCode} in formulas, ${inCode} in code` : "";
}

buttons.forEach(b => b.addEventListener("click", () => {
  choose(b.getAttribute("aria-pressed") === "true" ? null : b.dataset.choose);
  const table = b.closest("details");
  table.open = false;  // it would cover the highlighted uses
  table.querySelector("summary").focus();
}));

// Whatever scrolls sideways should be reachable by keyboard in every browser.
function reachable() {
  document.querySelectorAll(".formula, pre, .wide").forEach(box => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}
reachable();
window.addEventListener("resize", reachable);
