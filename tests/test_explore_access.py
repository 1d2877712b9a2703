"""Is the explorer's page there for everyone: by keyboard, at any width, in any colours, for stores of all kinds?"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explore_page import Page, drawn, needs_chromium, opened_browser, written
from sweep_stores import write_store

from xaisim.explore.server import open_server

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from opened_browser()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("explore"), 120)[1]


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = Page(browser, address)
    yield page
    page.context.close()
    assert page.errors == []


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
    order = ["where", "status-done", "reset", "pick-x", "log-x", "pick-y", "pick-colour", "pick-size", "pick-front",
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
  const seen = (text) => {
    const pen = document.createElement("canvas").getContext("2d");
    pen.fillStyle = text;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    if (!element.checkVisibility() || element.disabled) continue;
    if (["SCRIPT", "STYLE", "OPTION", "OPTGROUP"].includes(element.tagName)) continue;
    let behind = element;
    while (behind && seen(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const a = light(seen(getComputedStyle(element).color).slice(0, 3));
    const b = light(seen(behind ? getComputedStyle(behind).backgroundColor : "white").slice(0, 3));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([element.tagName, element.className, element.textContent.slice(0, 20), ratio]);
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
    nameless = """[...document.querySelectorAll("button, input, select, canvas, img, [role], section")]
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


NOTHING_BUT_VALUES = "UPDATE points SET breakdown = NULL, command = NULL, maps = NULL, rung = NULL"


@pytest.mark.parametrize("change", ["DELETE FROM meta", "DELETE FROM maps", NOTHING_BUT_VALUES])  # fmt: skip
def test_a_store_that_lacks_something_is_shown_without_it(browser: Any, tmp_path: Path, change: str) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 40)
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    page = Page(browser, drawn(path))
    page.tab.mouse.click(*page.spot(0))
    page.tab.wait_for_selector("#point-body .values")
    page.settled()
    page.context.close()
    assert page.errors == []


def test_without_moocore_the_page_says_what_it_lacks(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moocore", None)
    page = Page(browser, written(tmp_path, 40)[1])
    assert page.text("#progress-note").endswith("needs moocore where this page is made: pip install 'xaisim[dse]'.")
    assert page.tab.is_hidden("#progress-stage")
    page.tab.select_option("#pick-time", "ended")
    assert page.tab.is_hidden("#progress-stage")
    assert "points done are on the front" in page.text("#verdict")
    page.context.close()
    assert page.errors == []


def test_maps_may_be_large(browser: Any, tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 5, statuses={"done": 1})
    values = [((i * 7919) % 2000 - 1000) / 1000 for i in range(299 * 299)]
    data = {"picture": "", "shape": [299, 299], "float": values, "fixed": [round(v, 1) for v in values]}
    with sqlite3.connect(path) as db:
        db.execute("UPDATE maps SET data = ?", (json.dumps(data),))
    db.close()
    page = Page(browser, drawn(path))
    page.tab.mouse.click(*page.spot(0))
    page.tab.wait_for_selector("#point-body .copier")
    assert page.tab.locator("#point-body .maps canvas").count() == 3
    assert page.tab.locator("#point-body .maps img").count() == 0
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
    once = """async () => {
      const start = performance.now();
      update({ where: "latency_ms < 100" });
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      return performance.now() - start;
    }"""
    filtered = page.tab.evaluate(once)
    page.context.close()
    assert page.errors == []
    record_property("load_seconds", loaded)
    with capsys.disabled():
        print(f"\n10,000 points: {loaded:.2f} s to load, {filtered:.0f} ms to filter and draw all views")


def test_the_served_page_follows_the_sweep(browser: Any, tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 0)
    with open_server(path, 0) as server:
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
        page.tab.fill('#table .filters input[data-name="method"]', "grad")
        with sqlite3.connect(path) as db:
            db.execute(
                "INSERT INTO points (hash, inputs, status, finished, error) VALUES ('0', '{}', 'failed', 1, 'no')"
            )
        db.close()
        page.until("store.size === 31")
        assert page.value("store.hashes[state.a]") == chosen
        assert page.value("document.activeElement.value") == "grad"  # the reader goes on typing
        path.rename(tmp_path / "gone.sqlite")
        page.tab.wait_for_selector("#banner:visible", timeout=15000)
        assert "The page shows what was read before" in page.text("#banner")
        page.context.close()
        server.shutdown()
    assert [
        error for error in page.errors if "503" not in error
    ] == []  # the browser notes the answers of the missing store
    assert all(url.startswith(f"http://127.0.0.1:{server.server_port}/") for url in page.requests)
