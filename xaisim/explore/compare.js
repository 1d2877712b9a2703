// Two points side by side: A is the one chosen, B the one pinned.
let comparing = 0; // as `asked` in details.js
let compareShown = ""; // as `pointShown`
let onlyDifferences = false;

async function drawCompare() {
  const section = document.getElementById("compare"),
    { a, b } = state;
  section.hidden = a === null || b === null || a === b;
  const now = section.hidden ? "" : JSON.stringify([pointKey(a), pointKey(b)]);
  if (now === compareShown) return;
  compareShown = now;
  const number = ++comparing;
  if (section.hidden) return;
  const place = document.getElementById("compare-body");
  refill(
    place,
    `<div class="pair wide"><div class="side-a"></div><div class="side-b"></div></div>
      ${compareTable(a, b)}<div class="breakdowns"></div>`,
  );
  listenToCompare(place);
  const parts = await Promise.all([loadedParts(a), loadedParts(b)]);
  if (number !== comparing) return;
  [
    ["a", a],
    ["b", b],
  ].forEach(([name, row], i) => {
    const side = place.querySelector(`.side-${name}`);
    side.innerHTML =
      `<h3>${name.toUpperCase()} <code>${shortHash(row)}</code> ${badge(row)}</h3>` +
      (parts[i].maps
        ? mapsHtml(parts[i].maps, parts[i].note)
        : `<p class="quiet small">${safe(parts[i].note || store.errors[row] || "")}</p>`);
    paintMaps(side, parts[i].maps);
  });
  place.querySelector(".breakdowns").innerHTML = compareBreakdowns(parts[0].breakdown, parts[1].breakdown);
}

function listenToCompare(place) {
  const tick = place.querySelector("#only-differences");
  tick.addEventListener("change", () => {
    onlyDifferences = tick.checked;
    place.querySelector("table.compare").classList.toggle("only", onlyDifferences);
  });
  place.querySelector("#swap").addEventListener("click", () => {
    update({ a: state.b, b: state.a });
  });
  place.querySelector("#unpin").addEventListener("click", () => {
    pin(null);
    document.getElementById("scatter-pad").focus();
  });
}

function compareTable(a, b) {
  const columns = [...store.columns.values()].filter(
    (c) => (c.kind === "input" || c.kind === "output" || c.name === "rung") && (c.text(a) || c.text(b)),
  );
  const rows = columns
    .map((c) => {
      const differs = c.text(a) !== c.text(b);
      return `<tr class="${differs ? "differs" : "same"}"><th scope="row">${safe(c.title)}</th>
        <td class="n">${safe(c.text(a) || "–")}${better(c, a, b)}</td>
        <td class="n">${safe(c.text(b) || "–")}${better(c, b, a)}</td>
        <td class="n">${differs ? changeText(c, a, b) : '<span class="quiet">=</span>'}</td></tr>`;
    })
    .join("");
  const count = columns.filter((c) => c.text(a) !== c.text(b)).length;
  return `<p class="row"><span>${count} of ${columns.length} values differ.</span>
    <label class="tick"><input type="checkbox"
    id="only-differences"${onlyDifferences ? " checked" : ""}> only these</label>
    <span class="grow"></span><button type="button" id="swap">Swap A and B</button><button type="button" id="unpin">Unpin B</button></p>
    <div class="scroll" tabindex="0" role="region" aria-label="values of both points"><table class="compare${onlyDifferences ? " only" : ""}">
    <thead><tr><th scope="col">value</th><th scope="col" class="n">A ${shortHash(a)}</th><th scope="col"
      class="n">B ${shortHash(b)}</th><th scope="col" class="n">B against A</th></tr></thead>
      <tbody>${rows}</tbody></table></div>`;
}

function better(column, mine, other) {
  const direction = directionOf(column.name),
    difference = column.values[mine] - column.values[other];
  if (!direction || !difference || Number.isNaN(difference)) return "";
  return difference < 0 === (direction === "min") ? ' <span class="better">better</span>' : "";
}

function changeText(column, a, b) {
  const from = column.values[a],
    to = column.values[b];
  if (column.words || Number.isNaN(from) || Number.isNaN(to)) return "differs";
  const change = to - from,
    sign = change > 0 ? "+" : "−";
  if (column.unit === "dB") return `${sign}${numberText(Math.abs(change), 3)} dB`;
  if (from > 0 && to > 0 && (to / from >= 2 || to / from <= 0.5)) return `× ${numberText(to / from, 3)}`;
  return from > 0 && to > 0
    ? `${sign}${numberText((100 * Math.abs(change)) / from, 3)} %`
    : `${sign}${numberText(Math.abs(change), 3)}`;
}

function compareBreakdowns(a, b) {
  const parts = Object.entries(PARTS).filter(([name]) => a[name] || b[name]);
  return `<div class="pair three">${parts.map(([name, title]) => pairedBars(title, a[name] ?? {}, b[name] ?? {}, name === "energy_uj" ? "µJ" : "cycles")).join("")}</div>`;
}

function pairedBars(title, a, b, unit) {
  const most = Math.max(...Object.values(a), ...Object.values(b), 1e-300),
    names = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  const total = (amounts) => Object.values(amounts).reduce((sum, v) => sum + v, 0);
  const one = (who, v) =>
    `<td class="barcell"><span class="bar ${who}" style="width:${((100 * (v ?? 0)) / most).toFixed(1)}%"></span></td>
      <td class="n">${v === undefined ? "–" : numberText(v)}</td>`;
  const rows = names
    .map(
      (name) =>
        `<tr><th scope="row" rowspan="2">${safe(spoken(name))}</th><td class="who">A</td>${one("a", a[name])}</tr><tr>
          <td class="who">B</td>${one("b", b[name])}</tr>`,
    )
    .join("");
  return `<div><h3>${title}</h3><p class="quiet small">A ${numberText(total(a))}, B ${numberText(total(b))} ${unit}</p><table class="values bars paired"><tbody>${rows}</tbody></table></div>`;
}
