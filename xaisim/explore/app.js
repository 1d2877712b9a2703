// Begin: read the data, say what they are, and follow the sweep.

function describe() {
  const done = [...Array(store.size).keys()].filter(isDone).length,
    best = store.data_front.length;
  $("title").textContent = store.title;
  $("facts").textContent =
    `${store.source}, ${store.size.toLocaleString("en-US")} points` +
    (store.version ? `, made with xaisim ${store.version}` : "");
  const goals = store.objectives
    .map((o) => `${o.direction === "min" ? "least" : "most"} ${store.columns.get(o.name)?.label ?? o.name}`)
    .join(", ");
  $("verdict").textContent = !store.size
    ? "No points yet."
    : !done
      ? "No point is done: there is nothing to trade off yet."
      : !store.objectives.length
        ? `${done.toLocaleString("en-US")} points are done; the store names no objectives.`
        : `${best.toLocaleString("en-US")} of ${done.toLocaleString("en-US")} points done are on the front: ${goals}.`;
  document.title = `${store.title} - xaisim`;
  $("space-text").textContent = store.space;
  $("space").hidden = !store.space;
  $("footer").textContent = source.live
    ? "served by xaisim explore; follows the store"
    : "one file, written by xaisim explore --html";
}

function show(data) {
  const before = state && {
    ...state,
    a: state.a === null ? null : store.hashes[state.a],
    b: state.b === null ? null : store.hashes[state.b],
  };
  takeData(data);
  store.data_front = data.front;
  describe();
  $("main").hidden = !store.size;
  banner(
    store.size
      ? ""
      : source.live
        ? "The store has no points yet. The page shows them as soon as the sweep writes some."
        : "The store had no points when this file was written.",
  );
  if (!store.size) {
    document.body.dataset.drawn = "0";
    return;
  }
  store.start = startState();
  state = before ? { ...before, a: rowWith(before.a), b: rowWith(before.b) } : stateOfAddress();
  fillControls();
  fillCounts();
  if ($("where").value !== state.where) $("where").value = state.where;
  drawAll();
}

function banner(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}

async function follow(stamp) {
  for (let pause = 2000; ;) {
    await new Promise((done) => setTimeout(done, pause));
    if (document.hidden) continue;
    try {
      const began = performance.now(),
        now = await fetched("stamp");
      if (now !== stamp) {
        const data = await loadData();
        stamp = data.stamp;
        show(data);
      } else if (state) banner("");
      pause = Math.max(2000, 10 * (performance.now() - began)); // a large store is asked less often
    } catch (error) {
      banner(`${error.message}. The page shows what was read before.`);
    }
  }
}

listen();
loadData()
  .then((data) => {
    show(data);
    if (source.live) follow(data.stamp);
  })
  .catch((error) => {
    $("facts").textContent = "";
    banner(`The data cannot be read: ${error.message}`);
  });
