// Parallel coordinates: a line per point, an axis per column; a range along an axis filters everything.
let rails = []; // {column, x, scale} of the axes drawn
const MOST_LINES = 4000; // more are thinned while they are drawn

function parallelAxes() {
  return state.axes.map((name) => store.columns.get(name)).filter((column) => column && column.known);
}

function defaultAxes() {
  const inputs = [...store.columns.values()].filter((c) => c.kind === "input" && c.known && !c.constant);
  return [
    ...inputs.slice(0, 8).map((c) => c.name),
    ...store.objectives.map((o) => o.name).filter((name) => store.columns.has(name)),
  ];
}

function parallelScene(width, height, look) {
  const columns = parallelAxes(),
    top = 58,
    bottom = height - 18,
    side = Math.min(70, width / 10);
  const gap = columns.length > 1 ? (width - 2 * side) / (columns.length - 1) : 0;
  rails = columns.map((column, i) => ({ column, x: side + i * gap, scale: scaleOf(column, column.wide, bottom, top) }));
  const shapes = [],
    colours = colouring(store.columns.get(state.colour), look),
    active = shownRows.length < store.size;
  const bySteps = (rows, most) =>
    rows.length > most ? rows.filter((_, i) => i % Math.ceil(rows.length / most) === 0) : rows;
  if (active)
    for (const row of bySteps([...Array(store.size).keys()], MOST_LINES / 4))
      if (!shown[row]) shapes.push(...lineOf(row, look.faint, 0.25, 1));
  const alpha = Math.min(0.85, Math.max(0.12, 60 / Math.sqrt(shownRows.length * 60)));
  for (const row of bySteps(shownRows, MOST_LINES))
    shapes.push(...lineOf(row, isDone(row) ? colours.of(row) : look.faint, isDone(row) ? alpha : alpha / 2, 1));
  for (const [row, dash] of [
    [state.b, [6, 3]],
    [state.a, null],
  ])
    if (row !== null) shapes.push(...lineOf(row, look.ink, 1, 2.6, dash));
  rails.forEach((rail, i) => shapes.push(...railShapes(rail, i, gap || width, top, bottom, look)));
  return { width, height, paper: null, shapes };
}

// The line of a row, broken where it has no value.
function lineOf(row, stroke, alpha, width, dash = null) {
  const pieces = [[]];
  for (const { column, x, scale } of rails) {
    const v = column.values[row];
    if (Number.isNaN(v)) pieces.push([]);
    else pieces[pieces.length - 1].push([x, scale.at(v)]);
  }
  return pieces.filter((p) => p.length > 1).map((points) => line(points, stroke, width, { alpha, dash }));
}

function railShapes(rail, index, gap, top, bottom, look) {
  const { column, x, scale } = rail,
    range = state.ranges[column.name];
  const shapes = [segment(x, top, x, bottom, look.quiet, 1.2), ...railTitle(rail, index, gap, top, look)];
  const every = Math.ceil(scale.ticks.length / 7);
  for (const tick of scale.ticks.filter((_, i) => i % every === 0)) {
    const text = fitted(tick.text, Math.max(24, gap - 14), 11);
    shapes.push(
      segment(x - 3, tick.at, x + 3, tick.at, look.quiet),
      box(x + 5, tick.at - 7, widthOf(text, 11) + 4, 14, look.paper, { alpha: 0.78 }),
      words(x + 7, tick.at, text, look.ink, { size: 11 }),
    );
  }
  if (range) {
    const [low, high] = range.map((v) => clampTo(scale.at(v), top, bottom));
    shapes.push(box(x - 7, high, 14, low - high, look.accent, { alpha: 0.35, stroke: look.accent }));
  }
  return shapes;
}

// Titles stand in two or three rows, so that they have room beside each other.
function railTitle({ column, x }, index, gap, top, look) {
  const levels = gap < 110 ? 3 : 2,
    level = top - 20 - 17 * (index % levels) + (levels === 2 ? 0 : 10);
  const room = Math.max(60, levels * gap - 12),
    align = x < room / 2 ? "left" : "center";
  const text = fitted(column.title, room, 12, 600);
  return [
    words(align === "left" ? Math.max(0, x - 40) : x, level, text, look.ink, { align, weight: 600 }),
    segment(x, level + 8, x, top, look.line),
  ];
}

function drawParallel() {
  const stage = document.getElementById("parallel-stage"),
    width = stage.clientWidth;
  const scene = parallelScene(width, 360, theme());
  paint(document.getElementById("parallel-canvas"), scene);
  const names = rails.map((rail) => rail.column.label).join(", ");
  document
    .getElementById("parallel-canvas")
    .setAttribute("aria-label", `Parallel coordinates of ${shownRows.length} points over ${names}`);
}

function listenToParallel() {
  const pad = document.getElementById("parallel-pad");
  let rail = null,
    start = 0,
    moved = false;
  const at = (event) => {
    const r = pad.getBoundingClientRect();
    return [event.clientX - r.left, event.clientY - r.top];
  };
  pad.addEventListener("pointerdown", (event) => {
    const [px, py] = at(event);
    rail = rails.reduce((best, each) => (best && Math.abs(best.x - px) <= Math.abs(each.x - px) ? best : each), null);
    if (!rail || Math.abs(rail.x - px) > 24) {
      rail = null;
      return;
    }
    start = py;
    moved = false;
    pad.setPointerCapture(event.pointerId);
  });
  pad.addEventListener("pointermove", (event) => {
    const [px, py] = at(event);
    pad.style.cursor = rails.some((each) => Math.abs(each.x - px) < 24) ? "ns-resize" : "default";
    if (!rail || (!moved && Math.abs(py - start) < 4)) return;
    moved = true;
    const low = rail.scale.back(Math.max(start, py)),
      high = rail.scale.back(Math.min(start, py));
    update({ ranges: { ...state.ranges, [rail.column.name]: [low, high] }, page: 0 });
  });
  pad.addEventListener("pointerup", () => {
    if (rail && !moved) {
      const { [rail.column.name]: _, ...ranges } = state.ranges;
      update({ ranges, page: 0 });
    }
    rail = null;
  });
  pad.addEventListener("pointercancel", () => {
    rail = null;
  });
}

function listParallelAxes() {
  const place = document.getElementById("parallel-axes");
  place.innerHTML = [...store.columns.values()]
    .filter((c) => c.known)
    .map(
      (c) =>
        `<label class="tick"><input type="checkbox"
          value="${safe(c.name)}"${state.axes.includes(c.name) ? " checked" : ""}> ${safe(c.title)}</label>`,
    )
    .join("");
  for (const choice of place.querySelectorAll("input"))
    choice.addEventListener("change", () => {
      const chosen = new Set([...place.querySelectorAll("input:checked")].map((each) => each.value));
      update({ axes: [...store.columns.keys()].filter((name) => chosen.has(name)) });
    });
}
