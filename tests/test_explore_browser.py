"""Does the explorer's page do in a real browser what a reader asks of it?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from explore_page import Page, needs_chromium, opened_browser, written
from PIL import Image
from sweep_stores import OBJECTIVES, write_store

from xaisim.explore.page import page_of
from xaisim.sweep.front import nondominated
from xaisim.sweep.store import Row, Store

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from opened_browser()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("explore"), 120)[1]


@pytest.fixture(scope="module")
def points(address: str) -> list[Row]:
    with Store.read(Path(address.removeprefix("file://")).with_name("sweep.sqlite")) as store:
        return store.points()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = Page(browser, address)
    yield page
    page.context.close()
    assert page.errors == []


# --- seeing -----------------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_store_holds(page: Page, points: list[Row]) -> None:
    done = sum(p.status == "done" for p in points)
    best = page.value("store.data_front.length")
    assert page.text("h1") == "synthetic sweep"
    assert page.text("#verdict").startswith(f"{best} of {done} points done are on the front: least latency,")
    assert page.text("#count") == "120 of 120 points"
    assert page.requests == [page.tab.url.partition("#")[0]]
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("x", "y"), [("latency_ms", "fidelity.spearman"), ("energy_mj", "area_mm2"), ("cycles", "method.n_steps")]
)
def test_the_front_of_two_axes_is_the_one_of_the_values(page: Page, points: list[Row], x: str, y: str) -> None:
    signs = {o["name"]: -1 if o["direction"] == "max" else 1 for o in OBJECTIVES}
    done = [p for p in points if p.status == "done"]
    costs = np.array([[signs.get(n, 1) * {**p.inputs, **p.outputs}[n] for n in (x, y)] for p in done], float)
    expected = {p.hash for p, best in zip(done, nondominated(costs), strict=True) if best}
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


def test_a_click_shows_the_point(page: Page, points: list[Row]) -> None:
    page.tab.mouse.click(*page.spot(3))
    page.tab.wait_for_selector("#point-body .copier")
    hash = page.value(f"store.hashes[{page.aimed}]")
    point = next(p for p in points if p.hash == hash)
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


def test_an_expression_filters_every_view(page: Page, points: list[Row]) -> None:
    page.tab.fill("#where", 'latency_ms < 50 and not method == "saliency" and arch.array.rows >= 16')
    expected = [p.hash for p in points
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
def test_the_tables_head_filters(page: Page, points: list[Row], name: str, text: str, keeps: Any) -> None:
    page.tab.fill(f'#table .filters input[data-name="{name}"]', text)
    assert sorted(page.shown()) == sorted(p.hash for p in points if keeps(p))
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
    inside = """placed.length === shownRows.length && placed.every((p) => Object.entries(state.ranges).every(
      ([name, [low, high]]) => { const v = store.columns.get(name).values[p.row]; return v >= low && v <= high; }))"""
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


def test_the_table_sorts_and_turns_pages(page: Page, points: list[Row]) -> None:
    page.tab.click('#table th[data-name="energy_mj"] button')
    page.tab.click('#table th[data-name="energy_mj"] button')
    assert page.tab.get_attribute('#table th[data-name="energy_mj"]', "aria-sort") == "descending"
    known = sorted((p.outputs["energy_mj"] for p in points if "energy_mj" in p.outputs), reverse=True)
    script = "ordered.map((row) => store.columns.get('energy_mj').values[row]).filter((v) => !Number.isNaN(v))"
    assert page.value(script) == known
    assert page.value("Number.isNaN(store.columns.get('energy_mj').values[ordered[ordered.length - 1]])")
    page.tab.click("#page-last")
    assert page.text("#page-text") == "page 6 of 6"
    assert page.tab.is_disabled("#page-next")


# --- comparing, sharing, saving ---------------------------------------------------------------------------------------


def test_two_points_are_compared_and_differences_marked(page: Page, points: list[Row]) -> None:
    page.tab.mouse.click(*page.spot(1))
    a = page.aimed
    page.tab.keyboard.down("Shift")
    page.tab.mouse.click(*page.spot(5))
    page.tab.keyboard.up("Shift")
    b = page.aimed
    page.tab.wait_for_selector("#compare .side-b canvas")
    first, second = (next(p for p in points if p.hash == page.value(f"store.hashes[{row}]")) for row in (a, b))
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


def test_a_point_shows_its_timeline_and_a_file_that_lacks_it_says_so(browser: Any, page: Page, tmp_path: Path) -> None:
    page.tab.mouse.click(*page.spot(3))
    page.tab.wait_for_selector("#point-body .lanes")
    assert (
        page.tab.locator("#point-body .strip .span").count()
        == page.tab.locator("#point-body .launches li").count()
        == 2
    )
    names = page.tab.locator("#point-body .lanes th").all_inner_texts()
    assert names == ["dma", "array", "vector", "layers"]
    assert page.tab.locator("#point-body .lane.two title").count() == 8
    with Store.read(write_store(tmp_path / "s.sqlite", 12)) as store:
        (tmp_path / "page.html").write_text(page_of(store, maps=1), encoding="utf-8")
    few = Page(browser, f"file://{tmp_path}/page.html")
    texts, done = [], few.value("[...store.hashes.keys()].filter(isDone)")
    for row in done:
        few.value(f"select({row})")
        few.tab.wait_for_selector("#point-body .copy")
        texts.append(f"This file carries 1 of {len(done)} timelines" in few.text("#point-body"))
    assert texts.count(False) == 1
    few.context.close()


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


WRONG_ADDRESSES = [
    "x=%22gone%22&colour=%22gone%22&axes=[%22gone%22]&ranges={%22gone%22:[1,2]}",
    "a=%22zz%22&b=%22%22&page=-4&cells=7&ranges={",
    "ranges={%22latency_ms%22:5}&hidden={%22a%22:1}&cells={%22gone%22:3}&axes=%22method%22",
    "&&==&x&y=null&where=3",
]


@pytest.mark.parametrize("wrong", WRONG_ADDRESSES)
def test_an_address_that_is_wrong_shows_the_page_all_the_same(browser: Any, address: str, wrong: str) -> None:
    page = Page(browser, f"{address}#{wrong}")
    assert page.text("#count") == "120 of 120 points"
    assert page.value("[state.a, state.b, state.page, state.x]") == [None, None, 0, "latency_ms"]
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
