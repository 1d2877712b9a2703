// The state of the page, what follows from it, and how it is kept in the address.
const $ = (id) => document.getElementById(id);
const safe = (text) => String(text).replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c]);
let state = null; // what the reader chose; see startState
let shown = new Uint8Array(0), shownRows = []; // the points that pass all filters

function startState() {
  const columns = [...store.columns.values()], known = (name) => store.columns.get(name)?.known;
  const goals = store.objectives.map((o) => o.name).filter(known);
  const numbers = [...goals, ...columns.filter((c) => c.known && !c.words && c.kind === "output").map((c) => c.name), ...columns.filter((c) => c.known).map((c) => c.name), "status"];
  const [x, second] = [...new Set(numbers)].concat("rung"), y = goals.length > 1 ? rivalOf(x, goals) : second;
  const third = goals.find((name) => name !== x && name !== y);
  const varied = columns.find((c) => c.kind === "input" && c.known && !c.constant);
  return { x, y, colour: third ?? varied?.name ?? "", size: "", lx: Boolean(store.columns.get(x)?.wide), ly: Boolean(store.columns.get(y)?.wide),
    front: "axes", where: "", hidden: [], ranges: {}, cells: {}, sort: goals[0] ?? "", down: false, page: 0, a: null, b: null, axes: defaultAxes(), time: "seconds" };
}

// The objective that conflicts most with x: whose front with it has the most points.
function rivalOf(x, goals) {
  const sizes = goals.map((name) => (name === x ? 0 : frontOfAxes(store.columns.get(x), store.columns.get(name)).length));
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
  const { start } = store, out = new URLSearchParams();
  for (const name of Object.keys(start)) {
    const value = name === "a" || name === "b" ? (state[name] === null ? null : store.hashes[state[name]].slice(0, 16)) : state[name];
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
      else if (found[name] === null || typeof value === typeof found[name]) found[name] = value;
    } catch { /* an address that was cut: what is left of it counts */ }
  }
  for (const name of ["x", "y"]) if (!store.columns.get(found[name])) found[name] = store.start[name];
  for (const name of Object.keys(found.ranges)) if (!store.columns.has(name)) delete found.ranges[name];
  found.page = Math.max(0, Math.floor(found.page) || 0);
  return found;
}

const rowWith = (start) => { const row = start ? store.hashes.findIndex((hash) => hash.startsWith(start)) : -1; return row < 0 ? null : row; };

// --- what follows ----------------------------------------------------------------------------------------------------

function filterRows() {
  const tests = [], status = store.columns.get("status"), hidden = new Set(state.hidden);
  $("where-error").textContent = "";
  $("where").removeAttribute("aria-invalid");
  try { const test = testOf(state.where); if (test) tests.push(test); } catch (error) {
    $("where-error").textContent = error.message;
    $("where").setAttribute("aria-invalid", "true");
  }
  if (hidden.size) tests.push((row) => !hidden.has(status.text(row)));
  for (const [name, [low, high]] of Object.entries(state.ranges)) {
    const values = store.columns.get(name)?.values;
    if (values) tests.push((row) => values[row] >= low && values[row] <= high);
  }
  for (const [name, text] of Object.entries(state.cells)) {
    const column = store.columns.get(name), test = column && cellTest(column, text);
    if (test) tests.push(test);
  }
  shown = new Uint8Array(store.size);
  shownRows = [];
  for (let row = 0; row < store.size; row++) if (tests.every((test) => test(row))) { shown[row] = 1; shownRows.push(row); }
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
  drawScatter(); drawParallel(); drawTable(); drawPoint(); drawCompare(); drawProgress();
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
}

function select(row) {
  update({ a: row });
  const said = [shortHash(row), store.columns.get("status").text(row), ...[state.x, state.y].map((name) => { const c = store.columns.get(name); return `${c.title} ${c.text(row) || "none"}`; })];
  $("said").textContent = said.join(", ");
}
function pin(row) {
  update(state.a === null && row !== null ? { a: row, b: row } : { b: row });
  $("said").textContent = row === null ? "nothing pinned" : `pinned ${shortHash(row)}`;
}
function setWhere(text) { $("where").value = text; update({ where: text, page: 0 }); }

// --- controls --------------------------------------------------------------------------------------------------------

function fillControls() {
  const groups = [["objectives", (c) => directionOf(c.name)], ["outputs", (c) => c.kind === "output" && !directionOf(c.name)], ["inputs", (c) => c.kind === "input"], ["evaluation", (c) => c.kind === "state"]];
  const options = groups.map(([title, mine]) => {
    const found = [...store.columns.values()].filter((c) => c.known && mine(c));
    return found.length ? `<optgroup label="${title}">${found.map((c) => `<option value="${safe(c.name)}">${safe(c.title)}</option>`).join("")}</optgroup>` : "";
  }).join("");
  for (const name of ["x", "y"]) $(`pick-${name}`).innerHTML = options;
  for (const name of ["colour", "size"]) $(`pick-${name}`).innerHTML = `<option value="">none</option>${options}`;
  const status = store.columns.get("status"), counts = new Map();
  for (let row = 0; row < store.size; row++) counts.set(status.text(row), (counts.get(status.text(row)) ?? 0) + 1);
  $("statuses").innerHTML = '<legend class="hidden">Status</legend>' + store.statuses.map((name) => `<label class="tick"><input type="checkbox" value="${name}"> ${name} <span class="quiet">${(counts.get(name) ?? 0).toLocaleString("en-US")}</span></label>`).join("");
  for (const tick of $("statuses").querySelectorAll("input")) tick.addEventListener("change", () => update({ hidden: [...$("statuses").querySelectorAll("input:not(:checked)")].map((each) => each.value), page: 0 }));
  $("names").innerHTML = [...store.columns.keys()].map((name) => `<option value="${safe(name)}">`).join("");
  $("where-example").textContent = store.objectives.length ? `front and ${store.objectives[0].name} ${store.objectives[0].direction === "min" ? "<" : ">"} ${exampleValue()}` : "status == done";
  listParallelAxes();
  drawHead();
  drawReasons();
}
const exampleValue = () => { const column = store.columns.get(store.objectives[0].name); return column?.known ? Number(((column.low + column.high) / 2).toPrecision(2)) : 1; };

function syncControls() {
  for (const name of ["x", "y", "colour", "size"]) $(`pick-${name}`).value = state[name];
  for (const name of ["x", "y"]) { const log = $(`log-${name}`); log.checked = state[`l${name}`]; log.disabled = !store.columns.get(state[name]).canLog; }
  $("pick-front").value = state.front;
  $("pick-time").value = state.time;
  for (const tick of $("statuses").querySelectorAll("input")) tick.checked = !state.hidden.includes(tick.value);
  $("count").textContent = `${shownRows.length.toLocaleString("en-US")} of ${store.size.toLocaleString("en-US")} points`;
  const chips = Object.entries(state.ranges).map(([name, [low, high]]) => {
    const column = store.columns.get(name);
    const span = column.words ? column.words.filter((_, i) => i >= low && i <= high).join(", ") || "none" : `${numberText(low, 3)} … ${numberText(high, 3)}`;
    return `<li><button type="button" data-name="${safe(name)}" aria-label="clear the range of ${safe(column.title)}">${safe(column.title)}: ${safe(span)} <span aria-hidden="true">×</span></button></li>`;
  }).join("");
  if ($("chips").innerHTML !== chips) $("chips").innerHTML = chips;
}

function listen() {
  for (const name of ["x", "y"]) {
    $(`pick-${name}`).addEventListener("change", (event) => update({ [name]: event.target.value, [`l${name}`]: store.columns.get(event.target.value).wide }));
    $(`log-${name}`).addEventListener("change", (event) => update({ [`l${name}`]: event.target.checked }));
  }
  for (const name of ["colour", "size", "front", "time"]) $(`pick-${name}`).addEventListener("change", (event) => update({ [name]: event.target.value }));
  $("where").addEventListener("input", (event) => update({ where: event.target.value, page: 0 }));
  $("reset").addEventListener("click", () => { $("where").value = ""; update({ where: "", hidden: [], ranges: {}, cells: {}, page: 0 }); drawHead(); });
  $("chips").addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (!chip) return;
    const { [chip.dataset.name]: _, ...ranges } = state.ranges;
    update({ ranges, page: 0 });
    $("where").focus();
  });
  $("save-svg").addEventListener("click", () => save("svg"));
  $("save-png").addEventListener("click", () => save("png"));
  listenToScatter(); listenToParallel(); listenToTable();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update({}));
  let width = 0;
  new ResizeObserver(() => { if (document.body.clientWidth !== width) { width = document.body.clientWidth; update({}); } }).observe(document.body);
  addEventListener("hashchange", () => { state = stateOfAddress(); $("where").value = state.where; drawHead(); update({}); });
}

// As on paper: dark on white, without the marks of selection.
async function save(kind) {
  const { scene } = scatterScene(760, 520, PAPER, true);
  const blob = kind === "svg" ? new Blob([svgOf(scene)], { type: "image/svg+xml" })
    : await new Promise((done) => paint(document.createElement("canvas"), scene, 3).toBlob(done));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${store.source.replace(/\.[^.]*$/, "")}-${state.x}-${state.y}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- begin, and follow the sweep -------------------------------------------------------------------------------------

function describe() {
  const done = [...Array(store.size).keys()].filter(isDone).length, best = store.data_front.length;
  $("title").textContent = store.title;
  $("facts").textContent = `${store.source}, ${store.size.toLocaleString("en-US")} points` + (store.version ? `, made with xaisim ${store.version}` : "");
  const goals = store.objectives.map((o) => `${o.direction === "min" ? "least" : "most"} ${store.columns.get(o.name)?.label ?? o.name}`).join(", ");
  $("verdict").textContent = !store.size ? "No points yet." : !done ? "No point is done: there is nothing to trade off yet."
    : !store.objectives.length ? `${done.toLocaleString("en-US")} points are done; the store names no objectives.`
      : `${best.toLocaleString("en-US")} of ${done.toLocaleString("en-US")} points done are on the front: ${goals}.`;
  document.title = `${store.title} - xaisim`;
  $("space-text").textContent = store.space;
  $("space").hidden = !store.space;
  $("footer").textContent = source.live ? "served by xaisim explore; follows the store" : "one file, written by xaisim explore --html";
}

function show(data) {
  const before = state && { ...state, a: state.a === null ? null : store.hashes[state.a], b: state.b === null ? null : store.hashes[state.b] };
  takeData(data);
  store.data_front = data.front;
  describe();
  $("main").hidden = !store.size;
  banner(store.size ? "" : source.live ? "The store has no points yet. The page shows them as soon as the sweep writes some." : "The store had no points when this file was written.");
  if (!store.size) { document.body.dataset.drawn = "0"; return; }
  store.start = startState();
  state = before ? { ...before, a: rowWith(before.a), b: rowWith(before.b) } : stateOfAddress();
  fillControls();
  $("where").value = state.where;
  drawAll();
}

function banner(text) { $("banner").textContent = text; $("banner").hidden = !text; }

async function follow(stamp) {
  for (let pause = 2000; ; ) {
    await new Promise((done) => setTimeout(done, pause));
    if (document.hidden) continue;
    try {
      const began = performance.now(), now = await fetched("stamp");
      if (now !== stamp) { const data = await loadData(); stamp = data.stamp; show(data); }
      else if (state) banner("");
      pause = Math.max(2000, 10 * (performance.now() - began)); // a large store is asked less often
    } catch (error) { banner(`${error.message}. The page shows what was read before.`); }
  }
}

listen();
loadData().then((data) => { show(data); if (source.live) follow(data.stamp); })
  .catch((error) => { $("facts").textContent = ""; banner(`The data cannot be read: ${error.message}`); });
