// How the sweep came along: hypervolume over time, and why points are not done.

function progressScene(width, height, look) {
  const { progress } = store,
    x = progress[state.time],
    y = progress.volume;
  const area = { left: 62, right: width - 18, top: 14, bottom: height - 48 };
  const unit = state.time === "ended" ? ["points ended", 1] : timeUnit(x[x.length - 1] ?? 0);
  const column = (values) => ({
    known: values.length > 0,
    low: Math.min(...values),
    high: Math.max(...values),
    words: null,
    several: null,
    canLog: false,
  });
  const sx = scaleOf(column([0, ...x.map((v) => v / unit[1])]), false, area.left, area.right);
  const sy = scaleOf(column(y.filter((v) => v > 0).concat(y[y.length - 1])), false, area.bottom, area.top);
  const shapes = axesShapes(area, sx, sy, unit[0], "hypervolume (share of the box)", look);
  const steps = x.flatMap((v, i) => {
    const px = sx.at(v / unit[1]);
    return i
      ? [
          [px, sy.at(y[i - 1])],
          [px, sy.at(y[i])],
        ]
      : [[px, sy.at(y[0])]];
  });
  shapes.push(line(steps, look.accent, 2));
  return { width, height, paper: null, shapes };
}

const timeUnit = (seconds) =>
  seconds > 2 * 86400
    ? ["days", 86400]
    : seconds > 7200
      ? ["hours", 3600]
      : seconds > 120
        ? ["minutes", 60]
        : ["seconds", 1];

function progressNote(progress) {
  if (!store.objectives.length) return "The store names no objectives, so there is no hypervolume.";
  if (!progress.done.at(-1)) return "No point is done yet.";
  if (!progress.volume) return "The hypervolume needs moocore where this page is made: pip install 'xaisim[dse]'.";
  return (
    `The share of a box that the points dominate, ${(100 * progress.volume.at(-1)).toFixed(1)} % now: it reaches from ` +
    `the best value of ${store.objectives.length} objectives to a tenth beyond the worst. ` +
    `${numberText(progress.seconds.at(-1), 3)} s from the first start to the last end.`
  );
}

function drawProgress() {
  const stage = document.getElementById("progress-stage"),
    { progress } = store;
  stage.hidden = !store.objectives.length || !progress.done.at(-1) || !progress.volume;
  document.getElementById("progress-note").textContent = progressNote(progress);
  if (stage.hidden) return;
  const canvas = document.getElementById("progress-canvas");
  paint(canvas, progressScene(stage.clientWidth, 280, theme()));
  canvas.setAttribute(
    "aria-label",
    `Hypervolume over ${state.time === "ended" ? "points" : "time"}, now ${(100 * progress.volume.at(-1)).toFixed(1)} %`,
  );
}

// Reasons that differ in numbers alone are one.
function drawReasons() {
  const groups = new Map(),
    place = document.getElementById("reasons-body");
  for (let row = 0; row < store.size; row++) {
    const status = store.columns.get("status").text(row),
      text = store.errors[row];
    if (status === "done" || (status === "running" && !text)) continue;
    const key = `${status} ${(text ?? "").replace(/[\d.]+/g, "#")}`;
    const group = groups.get(key) ?? { status, text: text || "no reason given", rows: [] };
    group.rows.push(row);
    groups.set(key, group);
  }
  const sorted = [...groups.values()].sort((a, b) => b.rows.length - a.rows.length);
  if (!sorted.length) {
    place.innerHTML = '<p class="quiet">No point failed or was pruned.</p>';
    return;
  }
  const rows = sorted
    .slice(0, 12)
    .map(
      (g, i) =>
        `<tr><td>${badge(g.rows[0])}</td><td>${safe(g.text)}</td>
          <td class="n">${g.rows.length.toLocaleString("en-US")}</td><td><button type="button" id="reason-${i}" data-group="${i}"
          aria-label="show the ${g.rows.length} points: ${safe(g.text)}">Show</button></td></tr>`,
    )
    .join("");
  const rest =
    sorted.length > 12
      ? `<p class="quiet small">${sorted.length - 12} more reasons; the table has all of them.</p>`
      : "";
  refill(
    place,
    `<div class="scroll" tabindex="0" role="region" aria-label="reasons"><table><thead><tr>
    <th scope="col">status</th><th scope="col">reason, e.g.</th><th scope="col" class="n">points</th>
    <th scope="col"><span class="hidden">show</span></th></tr></thead><tbody>${rows}</tbody></table></div>${rest}`,
  );
  for (const button of place.querySelectorAll("button"))
    button.addEventListener("click", () => showGroup(sorted[Number(button.dataset.group)]));
}

function showGroup(group) {
  const stem = group.text.split(/[\d."]/)[0].trim(); // up to the first number
  setWhere(`status == ${group.status}${stem && group.text !== "no reason given" ? ` and error ~ "${stem}"` : ""}`);
  select(group.rows[0]);
  document.getElementById("points").scrollIntoView();
}
