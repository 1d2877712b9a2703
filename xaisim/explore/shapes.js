// Drawing: a scene is a list of shapes; it is painted on a canvas or written as SVG. Scales, ticks, colours.

// Of Okabe and Ito, distinct also for colour-blind readers.
const CATEGORY_COLOURS = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #7F3C8D #8A8A8A".split(" ");
const COLOURS_ON_DARK = "#56B4E9 #FF8A4C #2FC49A #E59CC3 #F0C040 #8AA8FF #C08AD8 #A8A8A8".split(" ");
const VIRIDIS = "#440154 #482878 #3e4a89 #31688e #26838f #1f9d8a #6cce5a #b6de2b #fee825".split(" ");
const PAPER = {
  ink: "#1b1e24",
  quiet: "#5b626d",
  line: "#d9dde3",
  paper: "#ffffff",
  accent: "#0060a0",
  faint: "#c3c8d0",
  ramp: [0, 0.9],
  dark: false,
};
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

function theme() {
  const style = getComputedStyle(document.documentElement),
    get = (name) => style.getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return {
    ink: get("--ink"),
    quiet: get("--quiet"),
    line: get("--line"),
    paper: get("--paper"),
    accent: get("--accent"),
    faint: get("--faint"),
    ramp: dark ? [0.22, 1] : [0, 0.9],
    dark,
  };
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
function ramp(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1),
    low = Math.min(Math.floor(at), stops.length - 2),
    part = at - low;
  const a = channels(stops[low]),
    b = channels(stops[low + 1]);
  return a.map((v, i) => Math.round(v + (b[i] - v) * part));
}
const rgb = (three) => `rgb(${three.join(",")})`;

// What colour a row has: {of: row => text, shares for the legend}. Without a column all have the accent.
function colouring(column, look) {
  if (!column || !column.known) return { of: () => look.accent, column: null };
  const names = look.dark ? COLOURS_ON_DARK : CATEGORY_COLOURS;
  if (column.words)
    return {
      column,
      names,
      of: (row) => (Number.isNaN(column.values[row]) ? look.faint : names[Math.min(column.values[row], 7)]),
    };
  const log = column.wide,
    from = log ? Math.log(column.low) : column.low,
    to = log ? Math.log(column.high) : column.high;
  const steps = Array.from({ length: 64 }, (_, i) =>
    rgb(ramp(VIRIDIS, look.ramp[0] + (look.ramp[1] - look.ramp[0]) * (i / 63))),
  );
  const share = (v) => (to > from ? ((log ? Math.log(v) : v) - from) / (to - from) : 0.5);
  return {
    column,
    steps,
    log,
    of: (row) => (Number.isNaN(column.values[row]) ? look.faint : steps[Math.round(share(column.values[row]) * 63)]),
  };
}

// --- scales ----------------------------------------------------------------------------------------------------------

// Maps values of a column to pixels from → to, with a little room at both ends; back() is the inverse.
function scaleOf(column, log, from, to) {
  if (!column.known) return { at: () => (from + to) / 2, back: () => NaN, ticks: [], log: false };
  let low = column.low,
    high = column.high;
  if (column.words) {
    low -= 0.5;
    high += 0.5;
  }
  const useLog = log && column.canLog,
    warp = useLog ? Math.log10 : (v) => v,
    unwarp = useLog ? (v) => 10 ** v : (v) => v;
  let a = warp(low),
    b = warp(high);
  if (a === b) {
    const half = useLog ? 0.1 : Math.abs(a) * 0.1 || 1;
    a -= half;
    b += half;
  }
  const room = column.words ? 0 : (b - a) * 0.035;
  a -= room;
  b += room;
  const at = (v) => from + ((warp(v) - a) / (b - a)) * (to - from);
  const back = (pixel) => unwarp(a + ((pixel - from) / (to - from)) * (b - a));
  const most = Math.max(2, Math.floor(Math.abs(to - from) / (column.words ? 18 : to < from ? 44 : 62)));
  const few = column.several?.map((value) => ({ value, text: numberText(value) }));
  const ticks = column.words
    ? wordTicks(column, most)
    : (few ?? (useLog ? logTicks(a, b, most) : linearTicks(a, b, most)));
  return {
    at,
    back,
    ticks: apart(
      ticks.map((tick) => ({ ...tick, at: at(tick.value) })),
      few ? 15 : 0,
    ),
    log: useLog,
  };
}

// Leaves out ticks that come closer than `room` pixels to the one before.
function apart(ticks, room) {
  const kept = [];
  for (const tick of ticks)
    if (
      !kept.length ||
      Math.abs(tick.at - kept[kept.length - 1].at) >= Math.max(room, 8 * (tick.text.length > 3 && room ? 3 : 0))
    )
      kept.push(tick);
  return kept;
}

function linearTicks(low, high, most) {
  const rough = (high - low) / most,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    const value = Number((i * step).toPrecision(12));
    ticks.push({ value, text: numberText(value) });
  }
  return ticks;
}

function logTicks(low, high, most) {
  const first = Math.floor(low),
    last = Math.ceil(high),
    decades = high - low;
  const steps = decades * 3 <= most ? [1, 2, 5] : [1],
    every = Math.max(1, Math.ceil(decades / most)),
    ticks = [];
  for (let power = first; power <= last; power++)
    for (const step of steps) {
      const value = Number((step * 10 ** power).toPrecision(6)),
        at = Math.log10(value);
      if (at >= low && at <= high && (step > 1 || power % every === 0))
        ticks.push({ value, text: value >= 1e5 || value < 1e-3 ? powerText(step, power) : numberText(value) });
    }
  return ticks.length > 1 ? ticks : linearTicks(10 ** low, 10 ** high, most).filter((tick) => tick.value > 0);
}
const powerText = (step, power) =>
  `${step === 1 ? "" : `${step}·`}10${[...String(power)].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("")}`;

function wordTicks(column, most) {
  const every = Math.ceil(column.words.length / most);
  return column.words
    .map((text, value) => ({ value, text: text.length > 18 ? `${text.slice(0, 17)}…` : text }))
    .filter((_, i) => i % every === 0);
}

// --- scenes ----------------------------------------------------------------------------------------------------------

const line = (points, stroke, width = 1, more = {}) => ({ kind: "line", points, stroke, width, alpha: 1, ...more });
const segment = (x1, y1, x2, y2, stroke, width = 1) =>
  line(
    [
      [x1, y1],
      [x2, y2],
    ],
    stroke,
    width,
  );
const dot = (x, y, r, fill, more = {}) => ({ kind: "dot", x, y, r, fill, stroke: null, width: 1, alpha: 1, ...more });
const box = (x, y, w, h, fill, more = {}) => ({ kind: "box", x, y, w, h, fill, alpha: 1, ...more });
const words = (x, y, text, fill, more = {}) => ({
  kind: "text",
  x,
  y,
  text,
  fill,
  size: 12,
  align: "left",
  weight: 400,
  turn: 0,
  ...more,
});

const measure = document.createElement("canvas").getContext("2d");
function widthOf(text, size = 12, weight = 400) {
  measure.font = `${weight} ${size}px ${FONT}`;
  return measure.measureText(text).width;
}
function fitted(text, room, size = 12, weight = 400) {
  if (widthOf(text, size, weight) <= room) return text;
  while (text.length > 1 && widthOf(`${text}…`, size, weight) > room) text = text.slice(0, -1);
  return `${text}…`;
}

function paint(canvas, scene, density = devicePixelRatio || 1) {
  canvas.width = Math.round(scene.width * density);
  canvas.height = Math.round(scene.height * density);
  canvas.style.height = `${scene.height}px`;
  const pen = canvas.getContext("2d", { willReadFrequently: true }); // painted by the CPU: many small shapes
  pen.scale(density, density);
  if (scene.paper) {
    pen.fillStyle = scene.paper;
    pen.fillRect(0, 0, scene.width, scene.height);
  }
  for (const shape of scene.shapes) paintShape(pen, shape);
  return canvas;
}

function paintShape(pen, s) {
  pen.globalAlpha = s.alpha ?? 1;
  if (s.kind === "line") {
    pen.beginPath();
    s.points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.strokeStyle = s.stroke;
    pen.lineWidth = s.width;
    pen.setLineDash(s.dash ?? []);
    pen.lineJoin = "round";
    pen.stroke();
  } else if (s.kind === "dot") {
    pen.beginPath();
    pen.arc(s.x, s.y, s.r, 0, 2 * Math.PI);
    if (s.fill) {
      pen.fillStyle = s.fill;
      pen.fill();
    }
    if (s.stroke) {
      pen.setLineDash([]);
      pen.strokeStyle = s.stroke;
      pen.lineWidth = s.width;
      pen.stroke();
    }
  } else if (s.kind === "box") {
    pen.fillStyle = s.fill;
    pen.fillRect(s.x, s.y, s.w, s.h);
    if (s.stroke) {
      pen.strokeStyle = s.stroke;
      pen.lineWidth = 1;
      pen.setLineDash([]);
      pen.strokeRect(s.x, s.y, s.w, s.h);
    }
  } else paintText(pen, s);
}

function paintText(pen, s) {
  pen.save();
  pen.translate(s.x, s.y);
  pen.rotate((s.turn * Math.PI) / 180);
  pen.font = `${s.weight} ${s.size}px ${FONT}`;
  pen.fillStyle = s.fill;
  pen.textAlign = s.align;
  pen.textBaseline = "middle";
  if (s.halo) {
    pen.strokeStyle = s.halo;
    pen.lineWidth = 5;
    pen.lineJoin = "round";
    pen.setLineDash([]);
    pen.strokeText(s.text, 0, 0);
  }
  pen.fillText(s.text, 0, 0);
  pen.restore();
}

function svgOf(scene) {
  const n = (v) => Number(v.toFixed(2)),
    anchor = { left: "start", center: "middle", right: "end" };
  const safe = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const fade = (s) => ((s.alpha ?? 1) < 1 ? ` opacity="${n(s.alpha)}"` : "");
  const edge = (s) => (s.stroke ? ` stroke="${s.stroke}" stroke-width="${s.width ?? 1}"` : "");
  const drawn = scene.shapes.map((s) => {
    if (s.kind === "line")
      return `<polyline points="${s.points.map(([x, y]) => `${n(x)},${n(y)}`).join(" ")}"
        fill="none"${edge(s)}${fade(s)}${s.dash ? ` stroke-dasharray="${s.dash.join(" ")}"` : ""}/>`;
    if (s.kind === "dot")
      return `<circle cx="${n(s.x)}" cy="${n(s.y)}" r="${n(s.r)}" fill="${s.fill ?? "none"}"${edge(s)}${fade(s)}/>`;
    if (s.kind === "box")
      return `<rect x="${n(s.x)}" y="${n(s.y)}" width="${n(s.w)}" height="${n(s.h)}"
        fill="${s.fill}"${edge(s)}${fade(s)}/>`;
    const turn = s.turn ? ` transform="rotate(${s.turn} ${n(s.x)} ${n(s.y)})"` : "";
    return `<text x="${n(s.x)}" y="${n(s.y)}" font-size="${s.size}" font-weight="${s.weight}" fill="${s.fill}"
      text-anchor="${anchor[s.align]}" dominant-baseline="central"${turn}>${safe(s.text)}</text>`;
  });
  const back = scene.paper ? `<rect width="100%" height="100%" fill="${scene.paper}"/>` : "";
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${scene.width}"
    height="${scene.height}" viewBox="0 0 ${scene.width} ${scene.height}"
    font-family="${safe(FONT)}">${back}${drawn.join("\n")}</svg>\n`;
}
