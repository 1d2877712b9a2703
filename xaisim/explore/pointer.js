// What pointer and keys do on the scatter.

function nearestPlaced(px, py, reach = 14) {
  let best = null,
    least = reach * reach;
  for (const point of placed) {
    const distance = (point.px - px) ** 2 + (point.py - py) ** 2;
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

function listenToScatter() {
  const pad = document.getElementById("scatter-pad"),
    tip = document.getElementById("tip");
  let start = null,
    dragged = false;
  const at = (event) => {
    const r = pad.getBoundingClientRect();
    return [event.clientX - r.left, event.clientY - r.top];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    start = at(event);
    dragged = false;
    pad.setPointerCapture(event.pointerId);
  });
  pad.addEventListener("pointermove", (event) => {
    const [px, py] = at(event);
    if (start && (dragged || Math.hypot(px - start[0], py - start[1]) > 5)) {
      dragged = true;
      tip.hidden = true;
      brushTo(start, [px, py]);
      return;
    }
    showTip(tip, start ? null : nearestPlaced(px, py));
  });
  pad.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  pad.addEventListener("pointercancel", () => {
    start = null;
  });
  pad.addEventListener("pointerup", (event) => {
    if (!start) return;
    const hit = dragged ? null : nearestPlaced(...at(event));
    start = null;
    if (hit) event.shiftKey ? pin(hit.row) : select(hit.row);
    else if (!dragged) clearPlane();
  });
  pad.addEventListener("keydown", scatterKey);
}

function brushTo([ax, ay], [bx, by]) {
  const ranges = { ...state.ranges };
  ranges[state.x] = [plane.x.back(Math.min(ax, bx)), plane.x.back(Math.max(ax, bx))];
  ranges[state.y] = [plane.y.back(Math.max(ay, by)), plane.y.back(Math.min(ay, by))];
  update({ ranges, page: 0 });
}

function clearPlane() {
  if (!state.ranges[state.x] && !state.ranges[state.y]) return;
  const { [state.x]: _x, [state.y]: _y, ...ranges } = state.ranges;
  update({ ranges, page: 0 });
}

function scatterKey(event) {
  const across = { ArrowRight: 1, ArrowLeft: -1 }[event.key],
    along = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (event.key === "Escape") clearPlane();
  else if (event.key === "p" && state.a !== null) pin(state.b === state.a ? null : state.a);
  else if ((across || along || event.key === "Home" || event.key === "End") && placed.length) {
    const by = along ? (p, q) => p.py - q.py || p.px - q.px : (p, q) => p.px - q.px || p.py - q.py;
    const order = [...placed].sort(by),
      now = order.findIndex((p) => p.row === state.a);
    const next =
      event.key === "Home" ? 0 : event.key === "End" ? order.length - 1 : now < 0 ? 0 : now + (across || along);
    select(order[Math.min(Math.max(next, 0), order.length - 1)].row);
  } else return;
  event.preventDefault();
}

function showTip(tip, hit) {
  tip.hidden = !hit;
  if (!hit) return;
  const names = [
    ...new Set([state.x, state.y, state.colour, state.size, ...store.objectives.map((o) => o.name)]),
  ].filter((n) => store.columns.has(n));
  tip.innerHTML =
    `<b>${shortHash(hit.row)}</b>` +
    names
      .map((n) => {
        const c = store.columns.get(n);
        return `<span>${safe(c.title)}</span><span>${safe(c.text(hit.row))}</span>`;
      })
      .join("");
  const stage = tip.parentElement,
    left = hit.px + 14 + tip.offsetWidth > stage.clientWidth ? hit.px - 14 - tip.offsetWidth : hit.px + 14;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, Math.min(hit.py - 10, stage.clientHeight - tip.offsetHeight))}px`;
}
