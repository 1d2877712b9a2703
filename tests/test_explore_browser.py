"""Does the explorer's page do in a real browser what a reader asks of it, by pointer and by keyboard?"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import numpy as np
import pytest
from oracles import oracle
from PIL import Image
from sweep_stores import write_store

from xaisim.explore.page import page_of
from xaisim.explore.pareto import front
from xaisim.explore.server import open_server
from xaisim.explore.store import Store, StoreReader

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with oracle("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A page of the explorer, open; every test ends with a look at its errors."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        self.tab = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(address)
        self.tab.wait_for_selector("body[data-drawn]")

    def settled(self) -> None:
        """Wait until what was asked for is drawn."""
        self.tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def value(self, script: str) -> Any:
        self.settled()
        return self.tab.evaluate(script)

    def until(self, script: str, seconds: float = 20) -> None:
        """Wait for a script to be true; the page's policy forbids Playwright's own way."""
        end = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        self.settled()
        return self.tab.inner_text(selector)

    def shown(self) -> list[str]:
        return self.value("shownRows.map((row) => store.hashes[row])")

    def spot(self, index: int) -> tuple[float, float]:
        """Return where on the screen a point of the scatter lies: one that no other hides."""
        script = """(index) => {
          document.getElementById("scatter-pad").scrollIntoView({ block: "center", behavior: "instant" });
          const alone = placed.filter((p) => placed.every((q) => q === p || Math.hypot(p.px - q.px, p.py - q.py) > 8));
          const pad = document.getElementById("scatter-pad").getBoundingClientRect();
          return [pad.left + alone[index].px, pad.top + alone[index].py, alone[index].row];
        }"""
        self.settled()
        x, y, self.aimed = self.tab.evaluate(script, index)
        return x, y

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)
            self.settled()


def written(folder: Path, points: int, **options: Any) -> tuple[Path, str]:
    """Return a synthetic store and the address of its page."""
    path = write_store(folder / "sweep.sqlite", points, **options)
    (folder / "page.html").write_text(page_of(StoreReader(path), maps=200), encoding="utf-8")
    return path, f"file://{quote(str(folder))}/page.html"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("explore"), 120)[1]


@pytest.fixture(scope="module")
def store(address: str) -> Store:
    return StoreReader(Path(address.removeprefix("file://")).with_name("sweep.sqlite")).read()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = Page(browser, address)
    yield page
    page.context.close()
    assert page.errors == []


# --- seeing -----------------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_store_holds(page: Page, store: Store) -> None:
    done = sum(p.status == "done" for p in store.points)
    best = page.value("store.data_front.length")
    assert page.text("h1") == "synthetic sweep"
    assert page.text("#verdict").startswith(f"{best} of {done} points done are on the front: least latency,")
    assert page.text("#count") == "120 of 120 points"
    assert page.requests == [page.tab.url.partition("#")[0]]
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("x", "y"), [("latency_ms", "fidelity.spearman"), ("energy_mj", "area_mm2"), ("cycles", "method.n_steps")]
)
def test_the_front_of_two_axes_is_the_one_of_the_values(page: Page, store: Store, x: str, y: str) -> None:
    signs = {o.name: -1 if o.direction == "max" else 1 for o in store.objectives}
    done = [p for p in store.points if p.status == "done"]
    costs = np.array([[signs.get(n, 1) * {**p.inputs, **p.outputs}[n] for n in (x, y)] for p in done], float)
    expected = {p.hash for p, best in zip(done, front(costs), strict=True) if best}
    page.tab.select_option("#pick-x", x)
    page.tab.select_option("#pick-y", y)
    rows = "frontRows(store.columns.get(state.x), store.columns.get(state.y)).map((row) => store.hashes[row])"
    assert set(page.value(rows)) == expected


def test_every_column_can_be_an_axis_a_colour_and_a_size(page: Page) -> None:
    for name in page.value("[...store.columns.values()].filter((c) => c.known).map((c) => c.name)"):
        for pick in ("x", "y", "colour", "size"):
            page.tab.select_option(f"#pick-{pick}", name)
        page.settled()
        assert page.errors == [], name


def test_a_click_shows_the_point(page: Page, store: Store) -> None:
    page.tab.mouse.click(*page.spot(3))
    page.tab.wait_for_selector("#point-body .copier")
    hash = page.value(f"store.hashes[{page.aimed}]")
    point = next(p for p in store.points if p.hash == hash)
    assert page.text("#point-body .name") == hash[:8]
    assert page.text("#point-body pre >> nth=0").startswith(f"xaisim explain --method {point.inputs['method']}")
    assert "-o point-" + hash[:8] in page.text("#point-body pre >> nth=1")
    assert page.tab.locator("#point-body .maps canvas").count() == 3
    drawn = "(c) => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    assert all(page.tab.locator("#point-body canvas").nth(i).evaluate(drawn) > 10 for i in range(3))
    assert page.tab.locator("#point-body .bars").count() == 3
    assert page.tab.locator("tr[aria-selected=true]").count() <= 1


def test_the_command_can_be_copied(browser: Any, address: str) -> None:
    page = Page(browser, address, permissions=["clipboard-read", "clipboard-write"])
    page.tab.mouse.click(*page.spot(0))
    page.tab.click("#point-body .copier >> nth=0")
    page.tab.wait_for_selector("text=Copied")
    assert page.tab.evaluate("navigator.clipboard.readText()") == page.text("#point-body pre >> nth=0")
    page.context.close()


# --- filtering --------------------------------------------------------------------------------------------------------


def test_an_expression_filters_every_view(page: Page, store: Store) -> None:
    page.tab.fill("#where", 'latency_ms < 50 and not method == "saliency" and arch.array.rows >= 16')
    expected = [p.hash for p in store.points
                if p.outputs.get("latency_ms", 1e9) < 50 and p.inputs["method"] != "saliency"
                and p.inputs["arch.array.rows"] >= 16]  # fmt: skip
    assert sorted(page.shown()) == sorted(expected)
    assert page.text("#count") == f"{len(expected)} of 120 points"
    assert page.tab.locator("#table tbody tr").count() == min(20, len(expected))
    assert page.value("placed.every((p) => shown[p.row])")
    assert page.value("document.getElementById('parallel-canvas').ariaLabel").startswith(
        f"Parallel coordinates of {len(expected)} "
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("latency < 3", "there is no column “latency”; did you mean latency_ms?"),
        ("spearmann > 0", "there is no column “spearmann”"),
        ("latency_ms <", "something is missing at the end"),
        ("(front", "a bracket is not closed"),
        ("latency_ms", "“latency_ms” needs a comparison, e.g. latency_ms < 10"),
        ("front front", "“front” is not expected here; join with and, or"),
        ('"a', 'cannot read “"a”'),
    ],
)
def test_a_wrong_expression_is_told_and_filters_nothing(page: Page, text: str, told: str) -> None:
    page.tab.fill("#where", text)
    assert page.text("#where-error").startswith(told)
    assert page.tab.get_attribute("#where", "aria-invalid") == "true"
    assert page.text("#count") == "120 of 120 points"


@pytest.mark.parametrize(
    ("name", "text", "keeps"),
    [
        ("arch.array.rows", "8, 32", lambda p: p.inputs["arch.array.rows"] in (8, 32)),
        ("method.n_steps", "20 .. 60", lambda p: 20 <= p.inputs["method.n_steps"] <= 60),
        (
            "method.n_steps",
            ">=100, < 10",
            lambda p: p.inputs["method.n_steps"] >= 100 or p.inputs["method.n_steps"] < 10,
        ),
        ("method", "GRAD", lambda p: "grad" in p.inputs["method"]),
        ("status", "pruned", lambda p: p.status == "pruned"),
    ],
)
def test_the_tables_head_filters(page: Page, store: Store, name: str, text: str, keeps: Any) -> None:
    page.tab.fill(f'#table .filters input[data-name="{name}"]', text)
    assert sorted(page.shown()) == sorted(p.hash for p in store.points if keeps(p))
    page.tab.click("#reset")
    assert page.text("#count") == "120 of 120 points"


def test_dragging_over_the_scatter_filters_and_escape_clears(page: Page) -> None:
    box = page.tab.locator("#scatter-pad").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 60, y + 40, steps=3)
    page.tab.mouse.move(x + 160, y + 120, steps=3)
    page.tab.mouse.up()
    inside = "placed.length === shownRows.length && placed.every((p) => p.px > plane.left + 1 && Object.keys(state.ranges).every((n) => store.columns.get(n).values[p.row] >= state.ranges[n][0] && store.columns.get(n).values[p.row] <= state.ranges[n][1]))"
    assert 0 < page.value("shownRows.length") < 120
    assert page.value(inside)
    assert page.tab.locator("#chips button").count() == 2
    page.tab.focus("#scatter-pad")
    page.press("Escape")
    assert page.text("#count") == "120 of 120 points"


def test_dragging_along_an_axis_filters_and_a_click_clears(page: Page) -> None:
    page.tab.locator("#parallel-pad").scroll_into_view_if_needed()
    box = page.tab.locator("#parallel-pad").bounding_box()
    rail = page.value("rails.findIndex((r) => r.column.name === 'numerics.weights')")
    x = box["x"] + page.value(f"rails[{rail}].x")
    page.tab.mouse.move(x, box["y"] + page.value(f"rails[{rail}].scale.at(16)") - 5)
    page.tab.mouse.down()
    page.tab.mouse.move(x, box["y"] + page.value(f"rails[{rail}].scale.at(12)") + 5, steps=4)
    page.tab.mouse.up()
    kept = page.value("[...new Set(shownRows.map((row) => store.columns.get('numerics.weights').values[row]))].sort()")
    assert kept == [12, 16]
    page.tab.mouse.click(x, box["y"] + 200)
    assert page.text("#count") == "120 of 120 points"


def test_the_table_sorts_and_turns_pages(page: Page, store: Store) -> None:
    page.tab.click('#table th[data-name="energy_mj"] button')
    page.tab.click('#table th[data-name="energy_mj"] button')
    assert page.tab.get_attribute('#table th[data-name="energy_mj"]', "aria-sort") == "descending"
    known = sorted((p.outputs["energy_mj"] for p in store.points if "energy_mj" in p.outputs), reverse=True)
    script = "ordered.map((row) => store.columns.get('energy_mj').values[row]).filter((v) => !Number.isNaN(v))"
    assert page.value(script) == known
    assert page.value("Number.isNaN(store.columns.get('energy_mj').values[ordered[ordered.length - 1]])")
    page.tab.click("#page-last")
    assert page.text("#page-text") == "page 6 of 6"
    assert page.tab.is_disabled("#page-next")


# --- comparing, sharing, saving ---------------------------------------------------------------------------------------


def test_two_points_are_compared_and_differences_marked(page: Page, store: Store) -> None:
    page.tab.mouse.click(*page.spot(1))
    a = page.aimed
    page.tab.keyboard.down("Shift")
    page.tab.mouse.click(*page.spot(5))
    page.tab.keyboard.up("Shift")
    b = page.aimed
    page.tab.wait_for_selector("#compare .side-b canvas")
    first, second = (next(p for p in store.points if p.hash == page.value(f"store.hashes[{row}]")) for row in (a, b))
    differing = sum(first.inputs[n] != second.inputs[n] for n in first.inputs)
    marked = page.tab.locator("#compare tr.differs th").all_inner_texts()
    assert len([name for name in marked if "." in name or name == "method"]) == differing
    assert page.tab.locator("#compare .better").count() >= 2
    same = page.tab.locator("#compare tr.same").count()
    page.tab.check("#only-differences")
    assert page.tab.locator("#compare tr.same:visible").count() == 0
    assert page.tab.locator("#compare tr.differs:visible").count() == len(marked)
    assert same + len(marked) == page.tab.locator("#compare .compare tbody tr").count()
    assert page.tab.locator("#compare .breakdowns table").count() == 3
    page.tab.click("#unpin")
    page.settled()
    assert page.tab.is_hidden("#compare")


def test_the_address_brings_the_same_view_back(browser: Any, page: Page) -> None:
    page.tab.select_option("#pick-x", "area_mm2")
    page.tab.fill("#where", "latency_ms < 500")
    page.tab.mouse.click(*page.spot(2))
    page.tab.uncheck('#statuses input[value="failed"]')
    page.until("location.hash.includes('failed')")
    hash = page.tab.url.partition("#")[2]
    assert parse_qs(hash)["x"] == ['"area_mm2"']
    other = Page(browser, page.tab.url)
    for script in ("state.x", "state.where", "state.hidden", "state.a", "shownRows.length"):
        assert other.value(script) == page.value(script)
    assert other.tab.input_value("#where") == "latency_ms < 500"
    other.context.close()
    assert other.errors == []


def test_an_address_that_is_wrong_shows_the_page_all_the_same(browser: Any, address: str) -> None:
    page = Page(
        browser, address + "#x=%22gone%22&a=%22zz%22&ranges={&cells=7&page=-4&colour=%22gone%22&axes=[%22gone%22]"
    )
    assert page.text("#count") == "120 of 120 points"
    assert page.value("[state.a, state.page, state.x]") == [None, 0, "latency_ms"]
    page.context.close()
    assert page.errors == []


def test_the_scatter_is_saved_as_svg_and_png(page: Page, tmp_path: Path) -> None:
    for kind in ("svg", "png"):
        with page.tab.expect_download() as download:
            page.tab.click(f"#save-{kind}")
        download.value.save_as(tmp_path / f"plot.{kind}")
        assert download.value.suggested_filename == f"sweep-{page.value('state.x')}-{page.value('state.y')}.{kind}"
    svg = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert svg.count("<circle") >= page.value("placed.length")
    assert "latency (ms) – less is better" in svg
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size == (2280, 1560)


# --- by keyboard, and for those who cannot see it ---------------------------------------------------------------------


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    reached = []
    for _ in range(80):
        page.tab.keyboard.press("Tab")
        if page.tab.evaluate("document.activeElement === document.body"):
            break  # through
        reached.append(page.tab.evaluate("document.activeElement.id || document.activeElement.closest('[id]')?.id"))
        outlined = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        assert page.tab.evaluate(outlined), f"{reached[-1]} shows no focus"
    order = ["where", "statuses", "reset", "pick-x", "log-x", "pick-y", "pick-colour", "pick-size", "pick-front",
             "scatter-pad", "save-svg", "save-png", "table"]  # fmt: skip
    places = [reached.index(name) for name in order]
    assert places == sorted(places)


def test_arrows_walk_the_scatter_and_p_pins(page: Page) -> None:
    page.tab.focus("#scatter-pad")
    page.press("Home")
    left = page.value("state.a")
    assert page.value("Math.min(...placed.map((p) => p.px)) === placed.find((p) => p.row === state.a).px")
    page.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert page.value("state.a") != left
    assert "latency (ms)" in page.tab.text_content("#said")
    page.press("p", "ArrowRight")
    page.tab.wait_for_selector("#compare .side-b canvas")
    assert page.value("document.activeElement.id") == "scatter-pad"


def test_arrows_walk_the_table_over_pages(page: Page) -> None:
    page.tab.focus("#table tbody tr[tabindex='0']")
    page.press("ArrowDown", "ArrowDown", "Enter")
    assert page.value("state.a === ordered[2]")
    assert page.value("document.activeElement.dataset.row === String(ordered[2])")
    page.press("End", "ArrowDown")
    assert page.value("document.activeElement.dataset.row === String(ordered[20])")
    page.press("p")
    assert page.value("state.b === ordered[20]")
    page.press("PageUp", "Home", "ArrowUp")
    assert page.value("document.activeElement.dataset.row === String(ordered[0])")
    assert page.tab.locator("#table tbody tr[tabindex='0']").count() == 1


CONTRAST = """() => {
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const seen = (text) => { const c = document.createElement("canvas").getContext("2d"); c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !element.checkVisibility() || element.disabled) continue;
    if (["SCRIPT", "STYLE", "OPTION", "OPTGROUP"].includes(element.tagName)) continue;
    let behind = element;
    while (behind && seen(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const a = light(seen(getComputedStyle(element).color).slice(0, 3));
    const b = light(seen(behind ? getComputedStyle(behind).backgroundColor : "white").slice(0, 3));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName} ${element.className} ${element.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: Any, address: str, scheme: str) -> None:
    page = Page(browser, address, color_scheme=scheme)
    page.tab.mouse.click(*page.spot(1))
    page.press("p", "ArrowRight")
    page.tab.wait_for_selector("#compare .side-b canvas")
    assert page.tab.evaluate(CONTRAST) == []
    page.context.close()


def test_everything_that_is_used_has_a_name(page: Page) -> None:
    page.tab.mouse.click(*page.spot(1))
    page.tab.wait_for_selector("#point-body .copier")
    nameless = """[...document.querySelectorAll("button, input, select, canvas, img, [role=application], [role=region], section")]
      .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.alt || e.labels?.length || e.textContent.trim()
        || e.getAttribute("aria-labelledby"))).map((e) => e.outerHTML.slice(0, 80))"""
    assert page.value(nameless) == []


@pytest.mark.parametrize("width", [390, 700, 1000, 1920])
def test_nothing_is_wider_than_the_window(browser: Any, address: str, width: int) -> None:
    page = Page(browser, address, viewport={"width": width, "height": 900})
    page.tab.mouse.click(*page.spot(0))
    page.tab.wait_for_selector("#point-body .copier")
    assert page.value("document.documentElement.scrollWidth") <= width
    page.context.close()
    assert page.errors == []


# --- stores of all kinds ----------------------------------------------------------------------------------------------


def test_an_empty_store_says_so(browser: Any, tmp_path: Path) -> None:
    page = Page(browser, written(tmp_path, 0)[1])
    assert page.text("#verdict") == "No points yet."
    assert "had no points when this file was written" in page.text("#banner")
    assert page.tab.is_hidden("#main")
    page.tab.set_viewport_size({"width": 800, "height": 600})
    page.settled()
    page.context.close()
    assert page.errors == []


def test_a_store_of_failures_alone_shows_why(browser: Any, tmp_path: Path) -> None:
    page = Page(browser, written(tmp_path, 30, statuses={"failed": 1})[1])
    assert page.text("#verdict") == "No point is done: there is nothing to trade off yet."
    assert "no tile of layer3.0.conv1 fits <16 KiB>" in page.text("#reasons")
    page.tab.click("#reasons button >> nth=0")
    assert 0 < len(page.shown()) < 30
    assert page.text("#point-body .wrong") in page.text("#reasons")
    page.context.close()
    assert page.errors == []


@pytest.mark.parametrize("change", ["DELETE FROM meta", "DELETE FROM maps", "UPDATE points SET breakdown = NULL, command = NULL, maps = NULL, rung = NULL"])  # fmt: skip
def test_a_store_that_lacks_something_is_shown_without_it(browser: Any, tmp_path: Path, change: str) -> None:
    path, address = written(tmp_path, 40)
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    (tmp_path / "page.html").write_text(page_of(StoreReader(path), maps=200), encoding="utf-8")
    page = Page(browser, address)
    page.tab.mouse.click(*page.spot(0))
    page.tab.wait_for_selector("#point-body .values")
    page.settled()
    page.context.close()
    assert page.errors == []


def test_ten_thousand_points_load_in_seconds(
    browser: Any, tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = written(tmp_path, 10_000)[1]
    start = time.perf_counter()
    page = Page(browser, address)
    page.settled()
    loaded = time.perf_counter() - start
    once = "async () => { const t = performance.now(); update({ where: 'latency_ms < 100' }); await new Promise((d) => requestAnimationFrame(() => setTimeout(d))); return performance.now() - t; }"
    filtered = page.tab.evaluate(once)
    page.context.close()
    assert page.errors == []
    record_property("load_seconds", loaded)
    with capsys.disabled():
        print(f"\n10,000 points: {loaded:.2f} s to load, {filtered:.0f} ms to filter and draw all views")


def test_the_served_page_follows_the_sweep(browser: Any, tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 0)
    with open_server(StoreReader(path), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = Page(browser, f"http://127.0.0.1:{server.server_port}/")
        assert "as soon as the sweep writes some" in page.text("#banner")
        more = write_store(tmp_path / "more.sqlite", 30)
        with sqlite3.connect(path) as db:
            db.execute("ATTACH ? AS more", (str(more),))
            db.execute("INSERT INTO points SELECT * FROM more.points")
            db.execute("INSERT INTO maps SELECT * FROM more.maps")
        db.close()
        page.until("document.getElementById('count').textContent === '30 of 30 points'")
        assert page.tab.is_hidden("#banner")
        page.tab.mouse.click(*page.spot(0))
        page.tab.wait_for_selector("#point-body .copier")
        assert page.tab.locator("#point-body .maps canvas").count() == 3
        chosen = page.value("store.hashes[state.a]")
        with sqlite3.connect(path) as db:
            db.execute(
                "INSERT INTO points (hash, inputs, status, finished, error) VALUES ('0', '{}', 'failed', 1, 'no')"
            )
        db.close()
        page.until("store.size === 31")
        assert page.value("store.hashes[state.a]") == chosen
        path.rename(tmp_path / "gone.sqlite")
        page.tab.wait_for_selector("#banner:visible", timeout=15000)
        assert "The page shows what was read before" in page.text("#banner")
        page.context.close()
        server.shutdown()
    assert [
        error for error in page.errors if "503" not in error
    ] == []  # the browser notes the answers of the missing store
    assert all(json.dumps(url).startswith(f'"http://127.0.0.1:{server.server_port}/') for url in page.requests)
