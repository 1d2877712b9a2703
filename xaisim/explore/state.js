// The state of the page, what follows from it, and how it is kept in the address.
const $ = (id) => document.getElementById(id);
const safe = (text) =>
  String(text).replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c]);

// Fills a place anew; the element that had the focus has it again, by its id.
function refill(place, html) {
  const held = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.innerHTML = html;
  if (held) $(held)?.focus();
}

let state = null; // what the reader chose; see startState
let shown = new Uint8Array(0),
  shownRows = []; // the points that pass all filters

function startState() {
  const columns = [...store.columns.values()],
    known = (name) => store.columns.get(name)?.known;
  const goals = store.objectives.map((o) => o.name).filter(known);
  const numbers = [
    ...goals,
    ...columns.filter((c) => c.known && !c.words && c.kind === "output").map((c) => c.name),
    ...columns.filter((c) => c.known && c.kind === "input").map((c) => c.name),
    "status",
  ];
  const [x, second] = [...new Set(numbers)].concat("rung"),
    y = goals.length > 1 ? rivalOf(x, goals) : second;
  const third = goals.find((name) => name !== x && name !== y);
  const varied = columns.find((c) => c.kind === "input" && c.known && !c.constant);
  return {
    x,
    y,
    colour: third ?? varied?.name ?? "",
    size: "",
    lx: Boolean(store.columns.get(x)?.wide),
    ly: Boolean(store.columns.get(y)?.wide),
    front: "axes",
    where: "",
    hidden: [],
    ranges: {},
    cells: {},
    sort: goals[0] ?? "",
    down: false,
    page: 0,
    a: null,
    b: null,
    axes: defaultAxes(),
    time: "seconds",
  };
}

// The objective that conflicts most with x: whose front with it has the most points.
function rivalOf(x, goals) {
  const sizes = goals.map((name) =>
    name === x ? 0 : frontOfAxes(store.columns.get(x), store.columns.get(name)).length,
  );
  const best = sizes.indexOf(Math.max(...sizes));
  return goals[best] === x ? goals[1] : goals[best];
}

// --- the address -----------------------------------------------------------------------------------------------------

let saving = 0;
function saveState() {
  clearTimeout(saving);
  saving = setTimeout(() => history.replaceState(null, "", `#${addressOf()}`), 200);
}

function addressOf() {
  const { start } = store,
    out = new URLSearchParams();
  for (const name of Object.keys(start)) {
    const value =
      name === "a" || name === "b"
        ? state[name] === null
          ? null
          : store.hashes[state[name]].slice(0, 16)
        : state[name];
    const always = ["x", "y", "colour"].includes(name); // their defaults may change while a sweep goes on
    if (always || JSON.stringify(value) !== JSON.stringify(start[name])) out.set(name, JSON.stringify(value));
  }
  return out.toString();
}

function stateOfAddress() {
  const found = structuredClone(store.start);
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!(name in found)) continue;
    try {
      const value = JSON.parse(text);
      if (name === "a" || name === "b") found[name] = rowWith(value);
      else if (kindOf(value) === kindOf(found[name])) found[name] = value;
    } catch {
      /* an address that was cut: what is left of it counts */
    }
  }
  for (const name of ["x", "y"]) if (!store.columns.get(found[name])) found[name] = store.start[name];
  for (const [name, range] of Object.entries(found.ranges))
    if (!store.columns.has(name) || !Array.isArray(range) || !range.every(Number.isFinite)) delete found.ranges[name];
  for (const [name, text] of Object.entries(found.cells)) found.cells[name] = String(text);
  found.page = Math.max(0, Math.floor(found.page) || 0);
  return found;
}

const kindOf = (value) => (Array.isArray(value) ? "list" : typeof value);
const rowWith = (start) => {
  const row = start && typeof start === "string" ? store.hashes.findIndex((hash) => hash.startsWith(start)) : -1;
  return row < 0 ? null : row;
};

// --- what follows ----------------------------------------------------------------------------------------------------

function filterRows() {
  const tests = [],
    status = store.columns.get("status"),
    hidden = new Set(state.hidden);
  $("where-error").textContent = "";
  $("where").removeAttribute("aria-invalid");
  try {
    const test = testOf(state.where);
    if (test) tests.push(test);
  } catch (error) {
    $("where-error").textContent = error.message;
    $("where").setAttribute("aria-invalid", "true");
  }
  if (hidden.size) tests.push((row) => !hidden.has(status.text(row)));
  for (const [name, [low, high]] of Object.entries(state.ranges)) {
    const values = store.columns.get(name)?.values;
    if (values) tests.push((row) => values[row] >= low && values[row] <= high);
  }
  for (const [name, text] of Object.entries(state.cells)) {
    const column = store.columns.get(name),
      test = column && cellTest(column, text);
    if (test) tests.push(test);
  }
  shown = new Uint8Array(store.size);
  shownRows = [];
  for (let row = 0; row < store.size; row++)
    if (tests.every((test) => test(row))) {
      shown[row] = 1;
      shownRows.push(row);
    }
}

let drawing = 0;
function update(change) {
  if (!state) return; // there are no points yet
  Object.assign(state, change);
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(drawAll); // many changes, one drawing
  saveState();
}

function drawAll() {
  filterRows();
  orderRows();
  state.page = Math.min(state.page, pages() - 1);
  syncControls();
  drawScatter();
  drawParallel();
  drawTable();
  drawPoint();
  drawCompare();
  drawProgress();
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
}

function select(row) {
  update({ a: row });
  const said = [
    shortHash(row),
    store.columns.get("status").text(row),
    ...[state.x, state.y].map((name) => {
      const c = store.columns.get(name);
      return `${c.title} ${c.text(row) || "none"}`;
    }),
  ];
  $("said").textContent = said.join(", ");
}
function pin(row) {
  update(state.a === null && row !== null ? { a: row, b: row } : { b: row });
  $("said").textContent = row === null ? "nothing pinned" : `pinned ${shortHash(row)}`;
}
function setWhere(text) {
  $("where").value = text;
  update({ where: text, page: 0 });
}
