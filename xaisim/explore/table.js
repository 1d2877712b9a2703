// The table: sorted, filtered, in pages; rows are walked with the arrow keys.
const PAGE = 20;
let ordered = []; // rows shown, sorted
let current = 0; // which row of the page has the tab stop

function tableColumns() {
  const all = [...store.columns.values()].filter((c) => c.known && c.name !== "status" && c.name !== "rung");
  return [
    store.columns.get("status"),
    ...all.filter((c) => directionOf(c.name)),
    ...all.filter((c) => !directionOf(c.name)),
    store.columns.get("rung"),
  ];
}

function drawHead() {
  const head = document.querySelector("#table thead"),
    columns = tableColumns();
  const sorted = (name) => (state.sort === name ? ` aria-sort="${state.down ? "descending" : "ascending"}"` : "");
  const flush = (c) => (c.words ? "" : ' class="n"');
  const names = columns
    .map(
      (c) =>
        `<th scope="col"${flush(c)}${sorted(c.name)} data-name="${safe(c.name)}"><button type="button"
          title="${safe(c.name)}">${safe(c.title)}</button></th>`,
    )
    .join("");
  const filters = columns
    .map(
      (c) =>
        `<td><input type="text" data-name="${safe(c.name)}" value="${safe(state.cells[c.name] ?? "")}"
          aria-label="filter ${safe(c.title)}" spellcheck="false" autocomplete="off"></td>`,
    )
    .join("");
  head.innerHTML = `<tr><th scope="col">point</th>${names}<th scope="col">reason</th></tr><tr class="filters">
    <td></td>${filters}<td></td></tr>`;
  for (const button of head.querySelectorAll("button"))
    button.addEventListener("click", () => sortBy(button.parentElement.dataset.name));
  for (const input of head.querySelectorAll("input"))
    input.addEventListener("input", () => {
      update({ cells: { ...state.cells, [input.dataset.name]: input.value }, page: 0 });
    });
}

function sortBy(name) {
  update({ sort: name, down: state.sort === name ? !state.down : false, page: 0 });
  for (const th of document.querySelectorAll("#table thead th")) th.removeAttribute("aria-sort");
  document
    .querySelector(`#table th[data-name="${CSS.escape(name)}"]`)
    .setAttribute("aria-sort", state.down ? "descending" : "ascending");
}

function orderRows() {
  const column = store.columns.get(state.sort),
    sign = state.down ? -1 : 1;
  ordered = [...shownRows];
  if (!column) return;
  const values = column.values; // rows without a value come last, whichever way
  ordered.sort(
    (a, b) =>
      (Number.isNaN(values[a]) ? 1 : 0) - (Number.isNaN(values[b]) ? 1 : 0) || sign * (values[a] - values[b]) || a - b,
  );
}

const pages = () => Math.max(1, Math.ceil(ordered.length / PAGE));
const rowsOfPage = () => ordered.slice(state.page * PAGE, (state.page + 1) * PAGE);

function drawTable() {
  const columns = tableColumns(),
    rows = rowsOfPage(),
    body = document.querySelector("#table tbody");
  const held = body.contains(document.activeElement);
  const chosen = rows.indexOf(state.a);
  if (chosen >= 0) current = chosen;
  current = Math.min(current, Math.max(0, rows.length - 1));
  body.innerHTML =
    rows.map((row, i) => tableRow(row, i, columns)).join("") ||
    `<tr><td colspan="${columns.length + 2}" class="quiet">no point passes the filters</td></tr>`;
  if (held) focusRow();
  document.getElementById("table").setAttribute("aria-rowcount", String(ordered.length));
  document.getElementById("page-text").textContent = `page ${state.page + 1} of ${pages().toLocaleString("en-US")}`;
  for (const [id, off] of [
    ["page-first", !state.page],
    ["page-back", !state.page],
    ["page-next", state.page + 1 >= pages()],
    ["page-last", state.page + 1 >= pages()],
  ])
    document.getElementById(id).disabled = off;
}

function tableRow(row, index, columns) {
  const cells = columns
    .map((c) => {
      if (c.name === "status") return `<td>${badge(row)}</td>`;
      return `<td${c.words ? "" : ' class="n"'}>${safe(c.text(row))}</td>`;
    })
    .join("");
  const marks =
    (store.front[row]
      ? ' <span class="star" title="on the front of all objectives">★<span class="hidden"> on the front</span></span>'
      : "") +
    (row === state.b
      ? ' <span class="tag">B</span>'
      : row === state.a && state.b !== null
        ? ' <span class="tag">A</span>'
        : "");
  return `<tr data-row="${row}" tabindex="${index === current ? 0 : -1}" aria-selected="${row === state.a}"
    aria-rowindex="${state.page * PAGE + index + 1}">
    <th scope="row"><code>${shortHash(row)}</code>${marks}</th>${cells}<td class="reason"
    title="${safe(store.errors[row] ?? "")}">${safe(store.errors[row] ?? "")}</td></tr>`;
}

const badge = (row) => {
  const text = store.columns.get("status").text(row);
  return `<span class="badge ${safe(text)}">${safe(text)}</span>`;
};

function focusRow() {
  const rows = document.querySelectorAll("#table tbody tr[data-row]");
  rows.forEach((each, i) => {
    each.tabIndex = i === current ? 0 : -1;
  });
  rows[current]?.focus();
}

function turnTo(page, at) {
  const next = Math.min(Math.max(page, 0), pages() - 1);
  if (next === state.page) return;
  current = at;
  state.page = next;
  drawTable();
  saveState();
}

function tableKey(event) {
  const tr = event.target.closest("tr[data-row]");
  if (!tr || event.ctrlKey || event.metaKey || event.altKey) return;
  const row = Number(tr.dataset.row),
    count = rowsOfPage().length;
  current = rowsOfPage().indexOf(row);
  if (event.key === "Enter" || event.key === " ") select(row);
  else if (event.key === "p") pin(state.b === row ? null : row);
  else if (event.key === "ArrowDown") current + 1 < count ? current++ : turnTo(state.page + 1, 0);
  else if (event.key === "ArrowUp") current > 0 ? current-- : turnTo(state.page - 1, PAGE - 1);
  else if (event.key === "PageDown") turnTo(state.page + 1, current);
  else if (event.key === "PageUp") turnTo(state.page - 1, current);
  else if (event.key === "Home") current = 0;
  else if (event.key === "End") current = count - 1;
  else return;
  event.preventDefault();
  focusRow();
}

function listenToTable() {
  const body = document.querySelector("#table tbody");
  body.addEventListener("keydown", tableKey);
  body.addEventListener("click", (event) => {
    const tr = event.target.closest("tr[data-row]");
    if (!tr || String(getSelection())) return; // text may be marked and copied
    current = [...body.children].indexOf(tr);
    event.shiftKey ? pin(Number(tr.dataset.row)) : select(Number(tr.dataset.row));
  });
  document.getElementById("page-first").addEventListener("click", () => turnTo(0, 0));
  document.getElementById("page-back").addEventListener("click", () => turnTo(state.page - 1, 0));
  document.getElementById("page-next").addEventListener("click", () => turnTo(state.page + 1, 0));
  document.getElementById("page-last").addEventListener("click", () => turnTo(pages() - 1, 0));
}
