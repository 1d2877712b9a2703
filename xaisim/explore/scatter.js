// The scatter: what it shows, as a scene. What pointer and keys do on it: pointer.js.
let placed = []; // {row, px, py} of the points drawn in colour
let plane = null; // {x, y, left, top, right, bottom} of the last scene

function scatterScene(width, height, look, exported = false) {
  const x = store.columns.get(state.x),
    y = store.columns.get(state.y);
  const colours = colouring(store.columns.get(state.colour), look),
    size = store.columns.get(state.size);
  const legend = scatterLegend(width, look, colours, size);
  const area = { left: 78, right: width - 18, top: legend.height + 12, bottom: height - 54 };
  const sx = scaleOf(x, state.lx, area.left, area.right),
    sy = scaleOf(y, state.ly, area.bottom, area.top);
  const scene = { width, height, paper: exported ? look.paper : null, shapes: [...legend.shapes] };
  scene.shapes.push(...axesShapes(area, sx, sy, titleOf(x), titleOf(y), look));
  const points = pointShapes(x, y, sx, sy, colours, size, look);
  scene.shapes.push(...points.shapes, ...frontShapes(x, y, sx, sy, colours, size, look));
  if (!exported) scene.shapes.push(...brushShapes(x, y, sx, sy, area, look), ...ringShapes(x, y, sx, sy, look));
  return { scene, placed: points.placed, plane: { ...area, x: sx, y: sy } };
}

function titleOf(column) {
  const direction = directionOf(column.name);
  return column.title + (direction ? (direction === "min" ? " – less is better" : " – more is better") : "");
}

function axesShapes(area, sx, sy, xTitle, yTitle, look) {
  const { left, right, top, bottom } = area,
    middle = { align: "center", size: 13 };
  const across = sx.ticks.flatMap((tick) => [
    segment(tick.at, top, tick.at, bottom, look.line),
    words(tick.at, bottom + 15, tick.text, look.quiet, { align: "center" }),
  ]);
  const along = sy.ticks.flatMap((tick) => [
    segment(left, tick.at, right, tick.at, look.line),
    words(left - 8, tick.at, tick.text, look.quiet, { align: "right" }),
  ]);
  return [
    ...across,
    ...along,
    segment(left, top, left, bottom, look.quiet),
    segment(left, bottom, right, bottom, look.quiet),
    words((left + right) / 2, bottom + 38, fitted(xTitle, right - left, 13), look.ink, middle),
    words(14, (top + bottom) / 2, fitted(yTitle, bottom - top, 13), look.ink, { ...middle, turn: -90 }),
  ];
}

const radiusOf = (size, row) => {
  if (!size || !size.known) return store.size > 3000 ? 2.4 : 3.6;
  const share = size.high > size.low ? (size.values[row] - size.low) / (size.high - size.low) : 0.5;
  return Number.isNaN(share) ? 2 : 2 + 6 * Math.sqrt(share);
};

function pointShapes(x, y, sx, sy, colours, size, look) {
  const behind = [],
    front = [],
    found = [],
    alpha = store.size > 2000 ? 0.75 : 0.9;
  for (let row = 0; row < store.size; row++) {
    const a = x.values[row],
      b = y.values[row];
    if (Number.isNaN(a) || Number.isNaN(b)) continue;
    const px = sx.at(a),
      py = sy.at(b);
    if (!Number.isFinite(px) || !Number.isFinite(py)) continue;
    if (!shown[row]) {
      behind.push(dot(px, py, 1.8, look.faint, { alpha: 0.6 }));
      continue;
    }
    const colour = colours.of(row),
      r = radiusOf(size, row);
    front.push(
      isDone(row) ? dot(px, py, r, colour, { alpha }) : dot(px, py, r, null, { stroke: look.quiet, width: 1.2 }),
    );
    found.push({ row, px, py });
  }
  return { shapes: [...behind, ...front], placed: found };
}

function frontRows(x, y) {
  if (state.front === "axes") return frontOfAxes(x, y);
  return state.front === "all" ? [...store.front.keys()].filter((row) => store.front[row]) : [];
}

function frontShapes(x, y, sx, sy, colours, size, look) {
  const rows = frontRows(x, y),
    shapes = [];
  const at = (row) => [sx.at(x.values[row]), sy.at(y.values[row])];
  if (state.front === "axes" && rows.length > 1) {
    const steps = rows.flatMap((row, i) => (i ? [[at(row)[0], at(rows[i - 1])[1]], at(row)] : [at(row)]));
    shapes.push(line(steps, look.ink, 1.4, { alpha: 0.75 }));
  }
  for (const row of rows) {
    const [px, py] = at(row);
    if (shown[row] && Number.isFinite(px) && Number.isFinite(py))
      shapes.push(dot(px, py, radiusOf(size, row) + 0.8, colours.of(row), { stroke: look.ink, width: 1.3 }));
  }
  return shapes;
}

function ringShapes(x, y, sx, sy, look) {
  const shapes = [];
  for (const [row, name] of [
    [state.a, "A"],
    [state.b, "B"],
  ]) {
    if (row === null || Number.isNaN(x.values[row]) || Number.isNaN(y.values[row])) continue;
    const px = sx.at(x.values[row]),
      py = sy.at(y.values[row]);
    shapes.push(
      dot(px, py, 9, null, { stroke: look.paper, width: 5 }),
      dot(px, py, 9, null, { stroke: look.accent, width: 2.4 }),
    );
    if (state.b !== null)
      shapes.push(words(px + 13, py - 11, name, look.accent, { weight: 700, size: 13, halo: look.paper }));
  }
  return shapes;
}

function brushShapes(x, y, sx, sy, area, look) {
  const rx = state.ranges[x.name],
    ry = state.ranges[y.name];
  if (!rx && !ry) return [];
  const [left, right] = rx ? rx.map((v) => clampTo(sx.at(v), area.left, area.right)) : [area.left, area.right];
  const [bottom, top] = ry ? ry.map((v) => clampTo(sy.at(v), area.top, area.bottom)) : [area.bottom, area.top];
  const shape = [left, top, right - left, bottom - top];
  return [
    box(...shape, look.accent, { alpha: 0.09 }),
    line(
      [
        [left, top],
        [right, top],
        [right, bottom],
        [left, bottom],
        [left, top],
      ],
      look.accent,
      1.2,
      { dash: [4, 3] },
    ),
  ];
}
const clampTo = (v, low, high) => (Number.isFinite(v) ? Math.min(Math.max(v, low), high) : v > 0 ? high : low);

// Above the plot: what the colours and sizes mean, in as many lines as they need.
function scatterLegend(width, look, colours, size) {
  const shapes = [],
    column = colours.column;
  let x = 78,
    y = 12;
  const put = (room) => {
    if (x + room > width - 18 && x > 78) {
      x = 78;
      y += 19;
    }
    const at = x;
    x += room;
    return at;
  };
  if (column) {
    shapes.push(words(put(widthOf(column.title) + 12), y, column.title, look.quiet));
    if (column.words)
      column.words.slice(0, 8).forEach((word, i) => {
        const text = i === 7 && column.words.length > 8 ? "others" : fitted(word, 150),
          at = put(widthOf(text) + 28);
        shapes.push(dot(at + 5, y, 4.5, colours.names[i]), words(at + 14, y, text, look.ink));
      });
    else {
      const low = numberText(column.low, 3),
        high = numberText(column.high, 3),
        lowWide = widthOf(low);
      const at = put(lowWide + widthOf(high) + 165);
      shapes.push(
        words(at, y, low, look.ink),
        words(at + lowWide + 144, y, high + (colours.log ? " (log)" : ""), look.ink),
      );
      colours.steps.forEach((fill, i) => shapes.push(box(Math.round(at + lowWide) + 8 + i * 2, y - 5, 2, 10, fill)));
    }
  }
  if (size && size.known) {
    const text = `size: ${size.title} ${size.words ? "" : `${numberText(size.low, 3)} … ${numberText(size.high, 3)}`}`;
    shapes.push(words(put(widthOf(text) + 12), y, text, look.quiet));
  }
  return { shapes, height: column || size ? y + 12 : 8 };
}

function drawScatter() {
  const stage = document.getElementById("scatter-stage"),
    width = stage.clientWidth,
    height = width < 520 ? 400 : 520;
  const drawn = scatterScene(width, height, theme());
  ({ placed, plane } = drawn);
  paint(document.getElementById("scatter-canvas"), drawn.scene);
  const x = store.columns.get(state.x),
    y = store.columns.get(state.y),
    marked = frontRows(x, y).length;
  const lacking = shownRows.length - placed.length;
  const label =
    `${x.title} against ${y.title}: ${placed.length} points` +
    (state.front === "none" ? "" : `, ${marked} on the front`);
  document.getElementById("scatter-canvas").setAttribute("aria-label", label);
  document.getElementById("scatter-pad").setAttribute("aria-label", label);
  document.getElementById("scatter-note").textContent =
    (state.front === "none"
      ? ""
      : `${marked.toLocaleString("en-US")} ${state.front === "all" ? "on the front of all objectives" : "on the front of x and y"}, outlined. `) +
    (lacking ? `${lacking.toLocaleString("en-US")} points shown in the table have no such values.` : "");
}
