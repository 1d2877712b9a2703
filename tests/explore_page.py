"""A page of the explorer in headless Chromium, as its tests drive it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from oracles import oracle
from sweep_stores import write_store

from xaisim.explore.page import page_of
from xaisim.sweep.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def opened_browser() -> Iterator[Any]:
    """Yield a browser; skips where Playwright is not installed."""
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
    return path, drawn(path)


def drawn(path: Path) -> str:
    """Write the page of a store beside it and return its address."""
    with Store.read(path) as store:
        path.with_name("page.html").write_text(page_of(store, maps=200), encoding="utf-8")
    return f"file://{quote(str(path.parent))}/page.html"
