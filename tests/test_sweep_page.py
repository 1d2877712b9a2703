"""Does the page show what a sweep has left, from one end to the other?"""

from __future__ import annotations

from pathlib import Path

from sweeps import space_of

from xaisim.explore.page import page_of
from xaisim.explore.pareto import costs_of
from xaisim.explore.store import StoreReader
from xaisim.sweep.front import nondominated
from xaisim.sweep.run import sweep


def test_a_sweep_opens_as_a_page(tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    swept = sweep(space_of(tmp_path), store)
    assert len(swept.rows) > 1
    reader = StoreReader(store)
    seen = reader.read()
    assert {point.hash for point in seen.points} == {row.hash for row in swept.rows}
    mask = nondominated(costs_of(seen.points, seen.objectives))
    best = [point.hash for point, on in zip(seen.points, mask, strict=True) if on]
    assert {row.hash for row in swept.front} == set(best)
    assert {row.hash: row.command for row in swept.rows} == {h: d["command"] for h, d in reader.all_details().items()}
    assert "twelve points" in page_of(reader, maps=10)
