// The data: columns of all points, details and maps of single ones; from this file, or from the server.
const source = JSON.parse(document.getElementById("source").textContent);
let store = null; // what payload.py made, with columns ready for use

async function unpacked(id) {
  const block = document.getElementById(id);
  if (!block) return null;
  const bytes = Uint8Array.from(atob(block.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

async function fetched(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

const kept = new Map(); // details and maps that were asked for before
async function once(key, load) {
  if (!kept.has(key)) kept.set(key, load());
  try {
    return await kept.get(key);
  } catch (error) {
    kept.delete(key);
    throw error;
  }
}

const loadData = () => (source.live ? fetched("data") : unpacked("data"));
const loadMap = (key) =>
  once(`map-${key}`, () => (source.live ? fetched(`map?key=${encodeURIComponent(key)}`) : unpacked(`map-${key}`)));
async function loadDetails(row) {
  const hash = store.hashes[row];
  if (source.live)
    return store.columns.get("status").text(row) === "running" ? {} : once(hash, () => fetched(`details?hash=${hash}`));
  const number = Math.floor(row / source.chunk);
  return (await once(`details${number}`, () => unpacked(`details${number}`)))[hash];
}

// --- columns ---------------------------------------------------------------------------------------------------------

function columnOf(raw) {
  const values = Float64Array.from(raw.values, (v) => (v === null || (raw.words && v < 0) ? NaN : v));
  let low = Infinity,
    high = -Infinity,
    missing = 0;
  for (const v of values)
    if (Number.isNaN(v)) missing++;
    else {
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
  const known = missing < values.length,
    words = raw.words || null,
    several = raw.kind === "input" && !words ? fewValues(values) : null;
  const positive = known && !words && low > 0;
  return {
    ...raw,
    values,
    words,
    low,
    high,
    known,
    constant: known && low === high && !missing,
    several,
    canLog: positive,
    wide: positive && high / low >= (several ? 8 : 30),
    title: raw.unit ? `${raw.label} (${raw.unit})` : raw.label,
    text: (row) => (Number.isNaN(values[row]) ? "" : words ? words[values[row]] : numberText(values[row])),
  };
}

// The values of a column that has few of them, in order: they are its ticks. Null where there are many.
function fewValues(values) {
  const found = new Set();
  for (const v of values) {
    if (!Number.isNaN(v)) found.add(v);
    if (found.size > 8) return null;
  }
  return [...found].sort((a, b) => a - b);
}

function takeData(data) {
  const columns = new Map(data.columns.map((raw) => [raw.name, columnOf(raw)]));
  const front = new Uint8Array(data.hashes.length);
  for (const row of data.front) front[row] = 1;
  const rowOf = new Map(data.hashes.map((hash, row) => [hash, row]));
  const status = columns.get("status"),
    done = status.words.indexOf("done");
  store = {
    ...data,
    columns,
    front,
    done: Uint8Array.from(status.values, (v) => (v === done ? 1 : 0)),
    rowOf,
    size: data.hashes.length,
  };
}

const directionOf = (name) => store.objectives.find((o) => o.name === name)?.direction ?? null;
const isDone = (row) => store.done[row] === 1;
const shortHash = (row) => store.hashes[row].slice(0, 8);

function numberText(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US").replace("-", "−");
  if (size >= 1e7 || size < 1e-4)
    return value
      .toExponential(digits - 1)
      .replace("e+", "e")
      .replace("-", "−");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-US", { maximumFractionDigits: decimals }).replace("-", "−");
}

// --- Pareto ----------------------------------------------------------------------------------------------------------

// Rows of done points that no other one beats in x and y; each axis' direction is its objective's, else the smaller is better.
function frontOfAxes(x, y) {
  const signX = directionOf(x.name) === "max" ? -1 : 1,
    signY = directionOf(y.name) === "max" ? -1 : 1;
  const rows = [];
  for (let row = 0; row < store.size; row++)
    if (isDone(row) && !Number.isNaN(x.values[row]) && !Number.isNaN(y.values[row])) rows.push(row);
  rows.sort((a, b) => signX * (x.values[a] - x.values[b]) || signY * (y.values[a] - y.values[b]));
  const found = [];
  let best = Infinity,
    bestX = NaN;
  for (const row of rows) {
    const cost = signY * y.values[row];
    if (cost < best || (cost === best && x.values[row] === bestX)) {
      found.push(row);
      best = cost;
      bestX = x.values[row];
    }
  }
  return found;
}
