"""Is the store of a sweep read as it is, the front right, and the page one file that fetches nothing?"""

from __future__ import annotations

import base64
import gzip
import json
import re
import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sweep_stores import OBJECTIVES, write_store

from xaisim.cli import main
from xaisim.config import UserError
from xaisim.explore.labels import label_of, short_names
from xaisim.explore.page import page_of
from xaisim.explore.payload import payload
from xaisim.explore.server import ExploreServer, open_server
from xaisim.ir.graph import Array
from xaisim.sweep.front import costs_of, hypervolumes, nondominated
from xaisim.sweep.rules import Objective
from xaisim.sweep.store import Row, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "sweep.sqlite", 60)


def payload_of(path: Path) -> dict[str, Any]:
    with Store.read(path) as store:
        return payload(store)


def page_with(path: Path, maps: int) -> str:
    with Store.read(path) as store:
        return page_of(store, maps=maps)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# --- reading ----------------------------------------------------------------------------------------------------------


def test_every_row_of_the_store_is_read(store: Path) -> None:
    with Store.read(store) as read:
        points, objectives = read.points(), read.objectives()
    rows = dict(sqlite3.connect(store).execute("SELECT hash, inputs FROM points").fetchall())
    assert {p.hash: p.inputs for p in points} == {hash: json.loads(text) for hash, text in rows.items()}
    assert [{"name": o.name, "direction": o.direction} for o in objectives] == OBJECTIVES
    assert {p.status for p in points} >= {"done", "pruned"}
    ended = [p.finished for p in points if p.finished is not None]
    assert ended == sorted(ended)
    assert all(p.finished is None for p in points[len(ended) :])


def test_a_point_has_its_command_and_breakdown(store: Path) -> None:
    with Store.read(store) as read:
        point = next(p for p in read.points() if p.status == "done")
        details = read.details(point.hash)
        assert list(details) == [point.hash]
        assert details[point.hash]["command"].startswith("xaisim explain ")
        assert set(details[point.hash]["breakdown"]) == {"cycles", "energy_uj", "phases", "timeline"}
        assert read.details()[point.hash] == details[point.hash]
        assert point.maps is not None
        found = read.map(point.maps)
        assert found is not None
        assert len(found["float"]) == len(found["fixed"]) == found["shape"][0] * found["shape"][1]
        assert read.map("none") is None
        assert read.details("none") == {}


def test_reading_leaves_the_store_as_it_was_and_sees_what_is_written_later(tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 12)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    with Store.read(path) as read:
        before, stamp = len(read.points()), read.stamp()
        assert read.stamp() == stamp
        writer.execute("INSERT INTO points (hash, inputs, status) VALUES ('new', '{}', 'running')")
        writer.commit()  # still open: the row lies in the log
        assert read.stamp() != stamp
        assert len(read.points()) == before + 1
        stamp = read.stamp()
        writer.execute("UPDATE points SET status = 'failed', error = 'no', finished = 1.0 WHERE hash = 'new'")
        writer.commit()
        assert read.stamp() != stamp
    writer.close()


def test_what_is_not_a_number_is_nothing(tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 3, statuses={"done": 1})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE points SET outputs = ?", (json.dumps({"latency_ms": float("nan"), "energy_mj": 1.0}),))
    data = payload_of(path)
    assert column(data, "latency_ms")["values"] == [None] * 3
    assert data["front"] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("PRAGMA user_version = 2", "was made by a newer version of xaisim (store version 2, this one is 1)"),
        ("PRAGMA user_version = 0", "is a database, but no store of a sweep"),
        ("DROP TABLE points", "is a database, but no store of a sweep"),
        ("UPDATE points SET hash = 'abc' || rowid, inputs = '{'", "inputs of point abc1 is no JSON object"),
        ("UPDATE points SET hash = 'abc' || rowid, outputs = '[1]'", "outputs of point abc1 is no JSON object"),
        ("UPDATE meta SET value = '{' WHERE key = 'objectives'", "meta.objectives: is no list of names and directions"),
        ("UPDATE meta SET value = '[1]' WHERE key = 'objectives'", "meta.objectives: is no list of names and"),
        (
            "UPDATE meta SET value = replace(value, 'min', 'up')",
            "meta.objectives: the direction of 'latency_ms' must be min or max",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, change: str, told: str) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 3, statuses={"done": 1})
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    for more in (("--html", tmp_path / "page.html"), ("--port", 0, "--no-open")):
        result = run("explore", path, *more)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {path}: {told}")
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE points SET breakdown = '{'", "breakdown of point"),
        ("UPDATE maps SET data = '{'", "map guided_backprop-4 is no JSON object"),
    ],
)
def test_what_belongs_to_a_point_is_told_where_it_is_read(tmp_path: Path, change: str, told: str) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 3, statuses={"done": 1})
    with sqlite3.connect(path) as db:
        db.execute(change)
        db.execute("UPDATE points SET maps = 'guided_backprop-4'")
    db.close()
    result = run("explore", path, "--html", tmp_path / "page.html")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: {told}")
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_no_store_is_told_in_one_line(tmp_path: Path, store: Path) -> None:
    (tmp_path / "text.sqlite").write_text("not a database " * 100)
    (tmp_path / "empty.sqlite").touch()
    page = tmp_path / "page.html"
    page.touch()
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none.sqlite",), "none.sqlite: no such store"),
        ((tmp_path,), f"{tmp_path.name}: is a folder"),
        ((tmp_path / "text.sqlite",), "text.sqlite: is no store: not an SQLite file"),
        ((tmp_path / "empty.sqlite",), "empty.sqlite: is a database, but no store of a sweep"),
        ((store, "--html", page), "page.html: exists already; choose another name or use --force"),
        ((store, "--html", store, "--force"), "sweep.sqlite: is the store itself"),
        ((store, "--html", tmp_path / "no" / "page.html"), "page.html: there is no folder"),
    ]
    for arguments, told in cases:
        result = run("explore", *arguments)
        assert result.exit_code == 2
        assert told in result.stderr
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


# --- the front --------------------------------------------------------------------------------------------------------

COSTS = st.integers(1, 4).flatmap(
    lambda k: arrays(float, st.tuples(st.integers(0, 30), st.just(k)), elements=st.sampled_from([0, 1, 2, 3, np.nan]))
)


def dominated(costs: Array, row: int) -> bool:
    return any(
        np.isfinite(other).all() and (other <= costs[row]).all() and (other < costs[row]).any() for other in costs
    )


@given(COSTS)
def test_the_front_is_what_no_other_point_dominates(costs: Array) -> None:
    expected = [bool(np.isfinite(costs[row]).all()) and not dominated(costs, row) for row in range(len(costs))]
    assert nondominated(costs).tolist() == expected


@given(arrays(float, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(0, 1, width=16)))
def test_the_hypervolume_is_that_of_the_staircase(costs: Array) -> None:
    pytest.importorskip("moocore")
    low, high = costs.min(axis=0), costs.max(axis=0)
    wide = np.where(high > low, 1.1 * (high - low), 1.0)
    scaled = (costs - low) / wide
    area, edge = 0.0, 1.0
    for x, y in sorted(map(tuple, scaled[nondominated(costs)])):
        area += (1 - x) * max(0.0, edge - y)
        edge = min(edge, y)
    rows = [Row("", {}, "done", "all", {"x": x, "y": y}, None, None, None, 1.0, 1.0) for x, y in costs.tolist()]
    volume = hypervolumes(rows, [Objective("x", "min"), Objective("y", "min")])
    assert volume[-1] == pytest.approx(area)
    assert (np.diff(volume) >= -1e-12).all()


def test_maxima_count_the_other_way_and_only_done_points_do(store: Path) -> None:
    with Store.read(store) as read:
        points, objectives = read.points(), read.objectives()
    for point, cost in zip(points, costs_of(points, objectives), strict=True):
        if point.status == "done":
            assert cost[3] == -point.outputs["fidelity.spearman"]
        else:
            assert np.isinf(cost).all()


def test_without_objectives_nothing_is_on_the_front(store: Path) -> None:
    with Store.read(store) as read:
        points = read.points()
    assert not nondominated(costs_of(points, [])).any()
    assert hypervolumes(points, []) == [0.0] * len(points)


# --- what the page gets -----------------------------------------------------------------------------------------------


def column(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in data["columns"] if c["name"] == name)


def test_columns_hold_what_the_points_hold(store: Path) -> None:
    with Store.read(store) as read:
        data, points = payload(read), read.points()
    latency, buffer = column(data, "latency_ms"), column(data, "arch.memories.buffer.size")
    assert latency["values"] == [p.outputs.get("latency_ms") for p in points]
    assert buffer["words"] == ["16KiB", "64KiB", "256KiB"]  # by size, not by letter
    assert [buffer["words"][i] for i in buffer["values"]] == [p.inputs["arch.memories.buffer.size"] for p in points]
    assert (latency["label"], latency["unit"]) == ("latency", "ms")
    assert data["progress"]["ended"][-1] == sum(p.finished is not None for p in points)
    assert data["progress"]["done"][-1] == sum(p.status == "done" for p in points)
    assert data["progress"]["volume"] == sorted(data["progress"]["volume"])
    assert 0 < data["progress"]["volume"][-1] < 1


def test_without_moocore_the_hypervolume_alone_is_missing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = payload_of(store)
    monkeypatch.setitem(sys.modules, "moocore", None)
    data = payload_of(store)
    assert data["progress"].pop("volume") is None
    assert len(whole["progress"].pop("volume")) == len(whole["progress"]["done"])
    assert data == whole


def test_inputs_of_any_kind_become_columns(tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 4, statuses={"done": 1})
    values = [8, "float", True, [1, 2]]
    with sqlite3.connect(path) as db:
        for (hash,), value in zip(db.execute("SELECT hash FROM points").fetchall(), values, strict=True):
            db.execute("UPDATE points SET inputs = ? WHERE hash = ?", (json.dumps({"a": value, "b": None}), hash))
    data = payload_of(path)
    assert column(data, "a")["words"] == ["8", "[1, 2]", "float", "true"]
    assert column(data, "b")["values"] == [None] * 4


@pytest.mark.parametrize(
    ("name", "label", "unit"),
    [("energy_mj", "energy", "mJ"), ("area_mm2", "area", "mm²"), ("fidelity.spearman", "Spearman", ""),
     ("fidelity.sqnr_db", "SQNR", "dB"), ("resnet18_tiny.latency_ms", "resnet18_tiny latency", "ms"),
     ("explanations_per_s", "explanations", "1/s"), ("cycles", "cycles", ""), ("dram_mb", "DRAM", "MB")],
)  # fmt: skip
def test_axes_are_called_by_words_and_units(name: str, label: str, unit: str) -> None:
    assert label_of(name) == (label, unit)


def test_inputs_are_short_where_that_is_unique() -> None:
    names = ["arch.array.rows", "a.w.size", "b.w.size", "method"]
    assert [text for text, _ in short_names(names).values()] == ["array.rows", "a.w.size", "b.w.size", "method"]


# --- the page ---------------------------------------------------------------------------------------------------------


def unpacked(page: str, name: str) -> Any:
    block = re.search(rf'id="{name}">([^<]*)<', page)
    return json.loads(gzip.decompress(base64.b64decode(block[1]))) if block else None


def test_the_page_carries_everything_and_fetches_nothing(store: Path, tmp_path: Path) -> None:
    result = run("explore", store, "--html", tmp_path / "page.html")
    assert result.exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    links = set(re.findall(r'(?:https?:)?//[\w.-]+\.\w+[^\s"\'<)]*', page))
    assert links == {"https://ui.perfetto.dev", "http://www.w3.org/2000/svg"}  # a link to click, and a name
    assert not re.search(r"<(?:link|script|img|iframe)[^>]+(?:src|href)=(?![\"']data:)[\"'](?!data:)", page)
    assert "default-src 'none'" in page
    assert "connect-src" not in page
    with Store.read(store) as read:
        assert unpacked(page, "data")["hashes"] == [p.hash for p in read.points()]
        assert unpacked(page, "details0") == read.details()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_where_maps_are_left_out_those_of_the_front_stay(store: Path) -> None:
    page, data = page_with(store, maps=2), payload_of(store)
    kept = re.findall(r'id="map-([^"]+)"', page)
    assert kept == list(dict.fromkeys(data["maps"][row] for row in data["front"]))[:2]
    with Store.read(store) as read:
        assert unpacked(page, f"map-{kept[0]}") == read.map(kept[0])


def test_a_store_cannot_write_into_the_page(tmp_path: Path) -> None:
    path = write_store(tmp_path / "sweep.sqlite", 3)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '</script><b>' WHERE key = 'title'")
    assert "</script><b>" not in page_with(path, maps=0)


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with open_server(write_store(tmp_path / "sweep.sqlite", 12), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def answer(server: ExploreServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    headers = {"Host": host} if host else {}
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_server_answers_with_page_data_details_and_maps(server: ExploreServer) -> None:
    status, page = answer(server, "/")
    assert status == 200
    assert b"connect-src 'self'" in page
    data = json.loads(answer(server, "/data")[1])
    assert json.loads(answer(server, "/stamp")[1]) == data["stamp"]
    with Store.read(server.store) as read:
        first, details = data["hashes"][0], read.details()
        assert json.loads(answer(server, f"/details?hash={first}")[1]) == details[first]
        assert json.loads(answer(server, "/details?hash=none")[1]) == {}
        key = next(key for key in data["maps"] if key)
        assert json.loads(answer(server, f"/map?key={key}")[1]) == read.map(key)
    assert answer(server, "/else")[0] == 404
    assert answer(server, "/data", host="elsewhere.example:80")[0] == 403


def test_a_store_that_is_gone_is_told_to_the_page(server: ExploreServer) -> None:
    server.store.unlink()
    status, body = answer(server, "/data")
    assert status == 503
    assert "no such store" in json.loads(body)["error"]


def test_a_port_that_is_taken_is_told(server: ExploreServer) -> None:
    with pytest.raises(UserError, match=f"port {server.server_port}: .* choose another with --port"):
        open_server(server.store, server.server_port)
