// One point: its maps, breakdowns, inputs and outputs, and the command that makes it again.
const RDBU = "#053061 #2166ac #4393c3 #92c5de #d1e5f0 #f7f7f7 #fddbc7 #f4a582 #d6604d #b2182b #67001f".split(" ");
const PUOR = "#2d004b #542788 #8073ac #b2abd2 #d8daeb #f7f7f7 #fee0b6 #fdb863 #e08214 #b35806 #7f3b08".split(" ");
const PARTS = { cycles: "Cycles by cause", phases: "Cycles by phase", energy_uj: "Energy by component" };
let asked = 0; // counts selections: an answer to an earlier one is dropped
let pointShown = ""; // what the panel shows: nothing is drawn twice

async function drawPoint() {
  const place = document.getElementById("point-body"),
    row = state.a;
  const now = row === null ? "" : JSON.stringify([pointKey(row), state.b === null ? null : store.hashes[state.b]]);
  if (now === pointShown && place.innerHTML) return;
  pointShown = now;
  if (row === null) {
    place.innerHTML = '<p class="quiet">Click a point in the plot or a row of the table.</p>';
    return;
  }
  const number = ++asked;
  refill(place, pointHead(row) + `<div class="loaded"></div>` + valueTables(row));
  listenToPoint(place, row);
  const loaded = await loadedParts(row);
  if (number !== asked || state.a !== row) return;
  place.querySelector(".loaded").innerHTML = loaded.maps
    ? mapsHtml(loaded.maps, loaded.note)
    : `<p class="quiet small">${safe(loaded.note)}</p>`;
  place.insertAdjacentHTML(
    "beforeend",
    breakdownHtml(loaded.breakdown) + timelineHtml(loaded.breakdown) + commandHtml(loaded.command, row),
  );
  paintMaps(place.querySelector(".loaded"), loaded.maps);
  listenToCopies(place);
}

// Changes when something of the point has.
const pointKey = (row) => [store.hashes[row], store.columns.get("status").text(row), store.front[row]];

// Returns {maps, note, command, breakdown}; what cannot be had becomes a note.
async function loadedParts(row) {
  const key = store.maps[row];
  try {
    const [details, maps] = await Promise.all([loadDetails(row), key ? loadMap(key) : null]);
    let note = "";
    if (!key) note = isDone(row) ? "No maps were kept for this point." : "";
    else if (!maps)
      note = source.live
        ? "The store has no map under this point's key."
        : `This file carries ${source.maps} of ${source.maps_in_store} maps, and not this one.`;
    return { maps, note, command: details?.command ?? "", breakdown: details?.breakdown ?? {} };
  } catch (error) {
    return { maps: null, note: `Cannot be loaded: ${error.message}`, command: "", breakdown: {} };
  }
}

function pointHead(row) {
  const star = store.front[row] ? '<span class="badge front">★ on the front</span>' : "";
  const rung = store.columns.get("rung").text(row),
    reason = store.errors[row];
  const pinned = state.b === row;
  return `<p class="row"><code class="name" title="${safe(store.hashes[row])}">${shortHash(row)}</code> ${badge(row)} ${star}
    ${rung ? `<span class="quiet small">rung ${safe(rung)}</span>` : ""}<span class="grow"></span>
    <button type="button" id="pin" class="pin" aria-pressed="${pinned}">${pinned ? "Unpin" : "Pin to compare"}</button></p>
    ${state.b !== null && !pinned ? `<p class="quiet small">A here, compared with B <code>${shortHash(state.b)}</code> below.</p>` : ""}
    ${pinned ? '<p class="quiet small">Pinned as B. Choose another point to compare it with.</p>' : ""}
    ${reason ? `<p class="wrong">${safe(reason)}</p>` : ""}`;
}

function listenToPoint(place, row) {
  place.querySelector(".pin").addEventListener("click", () => {
    pin(state.b === row ? null : row);
  });
}

function valueTables(row) {
  const table = (title, kind) => {
    const rows = [...store.columns.values()].filter((c) => c.kind === kind && c.text(row) !== "");
    if (!rows.length) return "";
    const units = rows.some((c) => c.unit);
    const lines = rows
      .map((c) => {
        const value = c.words
          ? `<td class="word">${breakable(c.text(row))}</td>`
          : `<td class="n">${safe(c.text(row))}</td>`;
        return `<tr><th scope="row">${breakable(c.label)}</th>${value}${units ? `<td class="unit">${safe(c.unit)}</td>` : ""}</tr>`;
      })
      .join("");
    return `<div><h3>${title}</h3><table class="values"><tbody>${lines}</tbody></table></div>`;
  };
  return `<div class="pair">${table("Outputs", "output")}${table("Inputs", "input")}</div>`;
}

// --- breakdown and command -------------------------------------------------------------------------------------------

function breakdownHtml(breakdown) {
  const parts = Object.entries(PARTS).filter(([name]) => breakdown[name] && Object.keys(breakdown[name]).length);
  return parts.length
    ? `<div class="pair two-bars">${parts.map(([name, title]) => barsHtml(title, breakdown[name], name === "energy_uj" ? "µJ" : "cycles")).join("")}</div>`
    : "";
}

function barsHtml(title, amounts, unit) {
  const total = Object.values(amounts).reduce((sum, v) => sum + v, 0);
  const rows = Object.entries(amounts)
    .sort((a, b) => b[1] - a[1])
    .map(([name, v]) => {
      const share = total ? (100 * v) / total : 0;
      return `<tr><th scope="row">${safe(spoken(name))}</th><td class="barcell"><span class="bar"
        style="width:${share.toFixed(1)}%"></span></td><td class="n">${numberText(v)}</td>
        <td class="n quiet">${share.toFixed(0)} %</td></tr>`;
    })
    .join("");
  return `<div><h3>${title} <span class="quiet">${numberText(total)} ${unit}</span></h3><table class="values bars">
    <tbody>${rows}</tbody></table></div>`;
}

const breakable = (name) => safe(name).replace(/[._]/g, "$&<wbr>"); // long keys break behind dots and underscores
const spoken = (name) => name.replaceAll("_", " ");

function commandHtml(command, row) {
  if (!command) return "";
  const folder = `point-${shortHash(row)}`,
    writes = /\s(-o|--output)\b/.test(command);
  const timeline = /^xaisim (explain|profile)\b/.test(command) && !writes ? `${command} -o ${folder}` : "";
  return (
    `<h3>Make it again</h3>${copyHtml(command)}` +
    (timeline
      ? `<p class="quiet small">Its timeline, tile by tile: this writes <code>${folder}/timeline.json</code> for
      <a href="https://ui.perfetto.dev" rel="noopener noreferrer"
        target="_blank">Perfetto</a> and <code>report.html</code>.</p>${copyHtml(timeline)}`
      : "")
  );
}

const copyHtml = (text) =>
  `<div class="copy"><pre tabindex="0"><code>${safe(text)}</code></pre><button type="button"
    class="copier">Copy</button></div>`;

function listenToCopies(place) {
  for (const button of place.querySelectorAll(".copier"))
    button.addEventListener("click", async () => {
      const text = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch {
        getSelection().selectAllChildren(text); // an old or strict browser: the text is marked, ready to copy
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => {
        button.textContent = "Copy";
      }, 1500);
    });
}

// --- maps ------------------------------------------------------------------------------------------------------------

// Scales as in the report: float and fixed share one, clipped at the 99.5 % quantile of the magnitude; the difference
// is magnified by a power of two.
function panelsOf(maps) {
  const both = [...maps.float, ...maps.fixed];
  const bound = clipBound(both),
    signed = both.some((v) => v < 0);
  const difference = maps.fixed.map((v, i) => v - maps.float[i]),
    largest = clipBound(difference);
  const factor = difference.some((v) => v) ? Math.max(1, 2 ** Math.floor(Math.log2(bound / largest))) : 1;
  const shared = { low: signed ? -bound : 0, high: bound, stops: signed ? RDBU : VIRIDIS };
  const caption = difference.some((v) => v) ? `difference${factor > 1 ? ` × ${factor}` : ""}` : "no difference";
  return [
    { caption: "float", values: maps.float, ...shared },
    { caption: "fixed", values: maps.fixed, ...shared },
    { caption, values: difference, low: -bound / factor, high: bound / factor, stops: PUOR },
  ];
}

function clipBound(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  return sizes[Math.floor((sizes.length - 1) * 0.995)] || sizes[sizes.length - 1] || 1;
}

function mapsHtml(maps, note) {
  const panels = panelsOf(maps),
    figures = panels
      .map(
        (p, i) =>
          `<figure><canvas data-panel="${i}" role="img" aria-label="${safe(p.caption)} heatmap"></canvas>
            <figcaption>${safe(p.caption)}</figcaption></figure>`,
      )
      .join("");
  const image = maps.picture
    ? `<figure><img alt="the picture explained" src="data:image/png;base64,${maps.picture}">
      <figcaption>picture</figcaption></figure>`
    : "";
  const scale =
    panels[0].low < 0
      ? `red is positive, blue negative, ±${numberText(panels[0].high, 2)} at the ends`
      : `0 to ${numberText(panels[0].high, 2)}`;
  return `<div class="maps">${image}${figures}</div>
    <p class="quiet small">${safe(note)} Float and fixed share one scale: ${scale}.</p>`;
}

function paintMaps(place, maps) {
  if (!maps) return;
  const [height, width] = maps.shape;
  panelsOf(maps).forEach((panel, i) => {
    const canvas = place.querySelector(`canvas[data-panel="${i}"]`),
      pen = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = height;
    const image = pen.createImageData(width, height);
    panel.values.forEach((v, at) => {
      const [r, g, b] = ramp(panel.stops, (v - panel.low) / (panel.high - panel.low));
      image.data.set([r, g, b, 255], 4 * at);
    });
    pen.putImageData(image, 0, 0);
  });
}
