// The controls: filled from the columns, kept in step with the state, and heard.

let filled = ""; // for which columns
function fillControls() {
  const now = JSON.stringify([...store.columns.values()].map((c) => [c.name, c.title, c.known]));
  if (now === filled) return; // what a reader is just using stays
  filled = now;
  const groups = [
    ["objectives", (c) => directionOf(c.name)],
    ["outputs", (c) => c.kind === "output" && !directionOf(c.name)],
    ["inputs", (c) => c.kind === "input"],
    ["evaluation", (c) => c.kind === "state"],
  ];
  const options = groups
    .map(([title, mine]) => {
      const found = [...store.columns.values()].filter((c) => c.known && mine(c));
      return found.length
        ? `<optgroup label="${title}">${found.map((c) => `<option value="${safe(c.name)}">${safe(c.title)}</option>`).join("")}</optgroup>`
        : "";
    })
    .join("");
  for (const name of ["x", "y"]) $(`pick-${name}`).innerHTML = options;
  for (const name of ["colour", "size"]) $(`pick-${name}`).innerHTML = `<option value="">none</option>${options}`;
  $("names").innerHTML = [...store.columns.keys()].map((name) => `<option value="${safe(name)}">`).join("");
  $("where-example").textContent = store.objectives.length
    ? `front and ${store.objectives[0].name} ${store.objectives[0].direction === "min" ? "<" : ">"} ${exampleValue()}`
    : "status == done";
  listParallelAxes();
  drawHead();
}

// How many points have each status; new whenever points are.
function fillCounts() {
  const status = store.columns.get("status"),
    counts = new Map();
  for (let row = 0; row < store.size; row++) counts.set(status.text(row), (counts.get(status.text(row)) ?? 0) + 1);
  const ticks = store.statuses.map((name) => {
    const count = (counts.get(name) ?? 0).toLocaleString("en-US");
    return `<label class="tick"><input type="checkbox" id="status-${name}" value="${name}"> ${name}
      <span class="quiet">${count}</span></label>`;
  });
  refill($("statuses"), `<legend class="hidden">Status</legend>${ticks.join("")}`);
  for (const tick of $("statuses").querySelectorAll("input"))
    tick.addEventListener("change", () =>
      update({ hidden: [...$("statuses").querySelectorAll("input:not(:checked)")].map((each) => each.value), page: 0 }),
    );
  drawReasons();
}

const exampleValue = () => {
  const column = store.columns.get(store.objectives[0].name);
  return column?.known ? Number(((column.low + column.high) / 2).toPrecision(2)) : 1;
};

function syncControls() {
  for (const name of ["x", "y", "colour", "size"]) $(`pick-${name}`).value = state[name];
  for (const name of ["x", "y"]) {
    const log = $(`log-${name}`);
    log.checked = state[`l${name}`];
    log.disabled = !store.columns.get(state[name]).canLog;
  }
  $("pick-front").value = state.front;
  $("pick-time").value = state.time;
  for (const tick of $("statuses").querySelectorAll("input")) tick.checked = !state.hidden.includes(tick.value);
  $("count").textContent =
    `${shownRows.length.toLocaleString("en-US")} of ${store.size.toLocaleString("en-US")} points`;
  const chips = Object.entries(state.ranges)
    .map(([name, [low, high]]) => {
      const column = store.columns.get(name);
      const span = column.words
        ? column.words.filter((_, i) => i >= low && i <= high).join(", ") || "none"
        : `${numberText(low, 3)} … ${numberText(high, 3)}`;
      return `<li><button type="button" data-name="${safe(name)}"
        aria-label="clear the range of ${safe(column.title)}">${safe(column.title)}: ${safe(span)} <span aria-hidden="true">×</span></button></li>`;
    })
    .join("");
  if ($("chips").innerHTML !== chips) $("chips").innerHTML = chips;
}

function listenToPicks() {
  for (const name of ["x", "y"]) {
    $(`pick-${name}`).addEventListener("change", (event) =>
      update({ [name]: event.target.value, [`l${name}`]: store.columns.get(event.target.value).wide }),
    );
    $(`log-${name}`).addEventListener("change", (event) => update({ [`l${name}`]: event.target.checked }));
  }
  for (const name of ["colour", "size", "front", "time"])
    $(`pick-${name}`).addEventListener("change", (event) => update({ [name]: event.target.value }));
}

function listen() {
  listenToPicks();
  $("where").addEventListener("input", (event) => update({ where: event.target.value, page: 0 }));
  $("reset").addEventListener("click", () => {
    $("where").value = "";
    update({ where: "", hidden: [], ranges: {}, cells: {}, page: 0 });
    drawHead();
  });
  $("chips").addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (!chip) return;
    const { [chip.dataset.name]: _, ...ranges } = state.ranges;
    update({ ranges, page: 0 });
    $("where").focus();
  });
  $("save-svg").addEventListener("click", () => save("svg"));
  $("save-png").addEventListener("click", () => save("png"));
  listenToScatter();
  listenToParallel();
  listenToTable();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update({}));
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) {
      width = document.body.clientWidth;
      update({});
    }
  }).observe(document.body);
  addEventListener("hashchange", () => {
    if (!state) return;
    state = stateOfAddress();
    $("where").value = state.where;
    drawHead();
    update({});
  });
}

// As on paper: dark on white, without the marks of selection.
async function save(kind) {
  const { scene } = scatterScene(760, 520, PAPER, true);
  const blob =
    kind === "svg"
      ? new Blob([svgOf(scene)], { type: "image/svg+xml" })
      : await new Promise((done) => paint(document.createElement("canvas"), scene, 3).toBlob(done));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${store.source.replace(/\.[^.]*$/, "")}-${state.x}-${state.y}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
