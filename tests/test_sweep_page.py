"""Does the page show what a sweep has left, from one end to the other?"""

from __future__ import annotations

from pathlib import Path

from sweeps import space_of

from xaisim.explore.page import page_of
from xaisim.explore.payload import payload
from xaisim.sweep.run import sweep
from xaisim.sweep.store import Store


def test_a_sweep_opens_as_a_page(tmp_path: Path) -> None:
    swept = sweep(space_of(tmp_path), tmp_path / "s.sqlite")
    assert len(swept.rows) > 1
    with Store.read(tmp_path / "s.sqlite") as store:
        data, details = payload(store), store.details()
        assert "twelve points" in page_of(store, maps=10)
    assert set(data["hashes"]) == {row.hash for row in swept.rows}
    assert {data["hashes"][row] for row in data["front"]} == {row.hash for row in swept.front}
    assert {row.hash: row.command for row in swept.rows} == {hash: d["command"] for hash, d in details.items()}
    assert swept.hypervolume is not None
    assert data["progress"]["volume"][-1] == round(swept.hypervolume[-1], 6)
