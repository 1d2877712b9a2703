"use strict";
// Draws the figures in the reader's colours, keeps the maps' zoom in step, switches launches, sorts tables.
const figures = JSON.parse(document.getElementById("figures").textContent);
const config = { responsive: true, displaylogo: false, displayModeBar: false };

function template() {
  const style = getComputedStyle(document.documentElement);
  const [ink, line, card] = ["--ink", "--line", "--card"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line };
  return { layout: {
    font: { color: ink, size: 12.5, family: getComputedStyle(document.body).fontFamily },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
    hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink } },
  } };
}

function draw(place, name) {
  const figure = figures[name];
  const narrow = place.clientWidth < 520;
  const layout = { ...figure.layout, template: template() };
  if (narrow && layout.legend) layout.legend = { ...layout.legend, font: { size: 11 } };
  const shown = layout.xaxis && layout.xaxis.tickvals;
  if (narrow && shown && shown.length > 12) {
    const step = Math.ceil(shown.length / 12), few = (list) => list.filter((_, index) => index % step === 0);
    layout.xaxis = { ...layout.xaxis, tickvals: few(shown), ticktext: few(layout.xaxis.ticktext) };
  }
  return Plotly.react(place, figure.data, layout, config);
}

const places = [...document.querySelectorAll("[data-figure]")];
const drawAll = () => places.forEach((place) => draw(place, place.dataset.figure));
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

const maps = places.filter((place) => place.closest(".maps"));
let following = false;
for (const source of maps) source.on("plotly_relayout", (change) => {
  if (following || !("xaxis.range[0]" in change || "xaxis.range" in change || "xaxis.autorange" in change)) return;
  following = true;
  const { xaxis, yaxis } = source._fullLayout;
  const ranges = { "xaxis.range": [...xaxis.range], "yaxis.range": [...yaxis.range] };
  Promise.all(maps.filter((m) => m !== source).map((m) => Plotly.relayout(m, ranges))).then(() => { following = false; });
});

const choices = [...document.querySelectorAll("select.launch")];
for (const choice of choices) choice.addEventListener("change", () => {
  for (const other of choices) other.value = choice.value;
  for (const place of places.filter((p) => p.dataset.perLaunch)) {
    place.dataset.figure = place.dataset.perLaunch + choice.value;
    draw(place, place.dataset.figure);
  }
});

for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const header = button.parentElement, table = header.closest("table"), body = table.tBodies[0];
  const column = [...header.parentElement.children].indexOf(header);
  const down = header.getAttribute("aria-sort") !== "descending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => { const cell = row.cells[column]; return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent; };
  const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const rows = [...body.rows].sort((a, b) => order(key(a), key(b)) * (down ? -1 : 1));
  body.append(...rows);
});
