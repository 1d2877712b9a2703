"""Are a point's figures those of its command, and is nothing computed twice?"""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sweeps import SMALL, space_file, space_of

from xaisim.api import experiment_of
from xaisim.cli import main
from xaisim.flow import explain
from xaisim.hardware.architecture import load_architecture
from xaisim.hardware.area import area
from xaisim.simulate.program import time_program
from xaisim.sweep import fidelity, timing
from xaisim.sweep.evaluate import Evaluator, weighed
from xaisim.sweep.front import nondominated
from xaisim.sweep.memo import Memo
from xaisim.sweep.point import Point
from xaisim.sweep.run import sweep
from xaisim.sweep.space import Space
from xaisim.sweep.store import Store
from xaisim.sweep.table import export
from xaisim.sweep.timeline import PARTS
from xaisim.sweep.timing import program_of, wish_of

VALUES = """
base: {model: cifar_cnn, method: saliency, arch: edge_systolic_16, options: {}}
space:
  numerics.weights: [6, 8]
  arch.array.rows: [8, 16]
objectives: {latency_ms: min, fidelity.spearman: max}
images: [1, 2]
"""


def first_point(space: Space) -> Point:
    return space.point({key: values[0] for key, values in space.axes.items()})


def command_json(command: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*shlex.split(command)[1:], "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_command_of_a_point_gives_its_figures(tmp_path: Path) -> None:
    text = SMALL.replace("space:", "space:\n  arch.array.dataflow: [ws]\n  objective: [edp]\n  numerics.weights: [12]")
    space = space_of(tmp_path, text)
    point = first_point(space)
    found, report = Evaluator(Memo(), space.rules)(point).outputs, command_json(point.command)
    assert (found["cycles"], found["latency_ms"]) == (report["cycles"]["total"], report["latency_ms"])
    assert found["energy_mj"] == pytest.approx(report["energy_uj"]["total"] / 1e3, rel=1e-12)
    assert found["utilisation"] == pytest.approx(report["utilisation"], rel=1e-12)


def test_a_path_method_with_a_mapping_key_is_reproduced_too(tmp_path: Path) -> None:
    space = space_of(
        tmp_path,
        "base: {model: cifar_cnn, arch: pynq_z2}\nspace:\n  method.n_steps: [4]\n"
        "  mapping.kernels.path gradient.points_in_flight: [2]\nobjectives: {latency_ms: min}\n",
    )
    point = first_point(space)
    result = Evaluator(Memo(), space.rules)(point)
    assert result.breakdown is not None
    assert sum(result.breakdown["cycles"].values()) == sum(result.breakdown["phases"].values())
    report = command_json(point.command)
    assert result.outputs["cycles"] == report["cycles"]["total"]
    assert [row["points_in_flight"] for row in report["launches"] if row["kernel"].startswith("path gradient")] == [2]


def test_the_timeline_of_a_point_is_its_launches_and_what_units_did(tmp_path: Path) -> None:
    space = space_of(tmp_path, SMALL.replace("method: saliency", "method: integrated_gradients, options: {n_steps: 6}"))
    point = first_point(space)
    result = Evaluator(Memo(), space.rules)(point)
    assert result.breakdown is not None
    line = result.breakdown["timeline"]
    assert sum(row["count"] * (row["cycles"] + row["host"]) for row in line["launches"]) == result.outputs["cycles"]
    longest = line["launches"][line["longest"]]
    assert longest["cycles"] * longest["count"] == max(row["cycles"] * row["count"] for row in line["launches"])

    part, trip = point.parts[0].experiment, line["trip"]
    arch = load_architecture(part.arch)
    launch = next(each for each in program_of(part, arch) if each.trips == longest["trips"])
    (timed,) = time_program([launch], arch, wish_of(part)).launches
    trace, tiles = timed.timing.first, timed.schedule.tiles
    assert trip["cycles"] == trace.end.max() - trace.start.min()
    for name, shares in trip["units"].items():
        unit = [seat.name for seat in tiles.units].index(name)
        busy = int(tiles.occupy_cycles[tiles.unit == unit].sum())
        assert len(shares) == PARTS
        assert min(shares) >= 0
        assert max(shares) <= 100
        assert sum(shares) / (100 * PARTS) * trip["cycles"] == pytest.approx(busy, abs=0.006 * trip["cycles"])
    assert [name for name, _, _ in trip["layers"]] == [stage.name for stage in timed.schedule.stages]
    assert all(0 <= begin <= end <= 1000 for _, begin, end in trip["layers"])
    begins = [begin for _, begin, _ in trip["layers"]]
    assert begins == sorted(begins)


def test_fidelity_is_that_of_an_explanation(tmp_path: Path) -> None:
    space = space_of(tmp_path, VALUES.replace("[1, 2]", "1"))
    point = first_point(space)
    found = Evaluator(Memo(), space.rules)(point)
    part = point.parts[0].experiment
    expected = explain(experiment_of(**part.model_dump(mode="json", exclude={"description"}))).fidelity
    assert expected is not None
    assert found.outputs["fidelity.spearman"] == pytest.approx(expected.spearman, rel=1e-9)
    assert found.outputs["fidelity.sqnr_db"] == pytest.approx(expected.sqnr_db, rel=1e-6)
    assert found.maps is not None
    assert found.maps[1]["shape"] == [32, 32]
    assert len(found.maps[1]["fixed"]) == 32 * 32


def test_values_are_computed_once_for_all_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    explained = fidelity._explained
    monkeypatch.setattr(fidelity, "_explained", lambda *args: calls.append(args) or explained(*args))
    found = sweep(space_of(tmp_path, VALUES), tmp_path / "s.sqlite")
    assert (found.count("done"), len(calls)) == (4, 2 * 2)  # two numerics, two pictures
    with sqlite3.connect(tmp_path / "s.sqlite") as db:
        assert db.execute("SELECT count(DISTINCT maps), count(maps) FROM points").fetchone() == (2, 4)
        assert db.execute("SELECT count(*) FROM maps").fetchone() == (2,)


def test_another_process_finds_what_was_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(tmp_path)
    first = sweep(space, tmp_path / "a.sqlite")
    (tmp_path / "a.sqlite.memo").rename(tmp_path / "b.sqlite.memo")
    monkeypatch.setattr(timing, "time_program", lambda *_: pytest.fail("timed again"))
    again = sweep(space, tmp_path / "b.sqlite")
    assert again.computed == 12
    assert [row.outputs for row in again.rows] == [row.outputs for row in first.rows]


def test_a_memo_that_is_broken_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite.memo").write_bytes(b"no database" * 99)
    assert sweep(space_of(tmp_path), tmp_path / "s.sqlite").count("done") > 0


def test_a_point_ends_at_the_first_rung_that_breaks_a_constraint(tmp_path: Path) -> None:
    def result(constraint: str) -> tuple[str, str | None, str | None]:
        space = space_of(tmp_path, VALUES + f"constraints: [{constraint}]\n")
        found = Evaluator(Memo(), space.rules)(first_point(space))
        return found.status, found.rung, found.error

    assert result("latency_ms < 0.0001") == ("pruned", "bound", "latency_ms < 0.0001: at best 0.781732")
    assert result("area_mm2 < 0.1") == ("pruned", "bound", "area_mm2 < 0.1: got 0.556625")
    assert result("'fits: pynq_z2'")[:2] == ("done", "all")
    assert result("latency_ms < 0.8") == ("pruned", "clock", "latency_ms < 0.8: got 1.05886")
    status, rung, error = result("fidelity.spearman > 0.9999")
    assert (status, rung) == ("pruned", "few")
    assert error is not None
    assert error.startswith("fidelity.spearman > 0.9999: got 0.")


@pytest.mark.parametrize("arch", ["edge_systolic_16_ws", "pynq_z2", "eyeriss"])
@pytest.mark.parametrize("method", ["saliency", "gradcam", "integrated_gradients"])
def test_the_bound_is_below_what_the_clock_says(arch: str, method: str) -> None:
    experiment, machine = experiment_of(model="cifar_cnn", method=method, arch=arch), load_architecture(arch)
    least, found = timing.bound(experiment, machine), timing.timed(experiment, machine, Memo())
    for name in ("cycles", "latency_ms", "energy_mj", "edp"):
        assert 0 < least[f"bound.{name}"] <= found[name]


def test_a_point_that_cannot_be_fails_with_its_reason_and_the_sweep_goes_on(tmp_path: Path) -> None:
    text = SMALL.replace("weights.size: [32KiB, 64KiB]", "activations.size: [256B, 64KiB]")
    found = sweep(space_of(tmp_path, text), tmp_path / "s.sqlite")
    failed = [row for row in found.rows if row.status == "failed"]
    assert len(failed) == 6
    assert all("does not fit" in (row.error or "") for row in failed)
    assert found.count("done") > 0


def test_workloads_are_weighed() -> None:
    rows = [{"latency_ms": 1.0, "energy_mj": 2.0, "cycles": 10}, {"latency_ms": 4.0, "energy_mj": 8.0, "cycles": 40}]
    assert weighed(rows, [2, 1]) == {
        "latency_ms": 2.0, "energy_mj": 4.0, "cycles": 20, "edp": 8.0, "explanations_per_s": 500.0, "power_w": 2.0,
    }  # fmt: skip


def test_several_workloads_have_outputs_of_their_own(tmp_path: Path) -> None:
    text = SMALL.replace("[8, 16, 32]", "[8]").replace("[32KiB, 64KiB]", "[64KiB]").replace("[8, 16]", "[16]")
    text += "workloads: [{name: fast, method: forward, weight: 3}, {name: slow, method: saliency}]\n"
    (row,) = sweep(space_of(tmp_path, text), tmp_path / "s.sqlite").rows
    fast, slow = row.outputs["fast.latency_ms"], row.outputs["slow.latency_ms"]
    assert row.outputs["latency_ms"] == pytest.approx((3 * fast + slow) / 4)
    assert row.command is not None
    assert row.command.count("xaisim profile") == 2


def test_area_is_the_sum_of_what_is_named() -> None:
    arch = load_architecture("edge_systolic_16")
    found = area(arch)
    assert found is not None
    um2 = 3.08203125 * 256 + 10.59375 * 16 + 48 * 4.28125  # a 16-bit multiplier and a 48-bit adder
    registers = (2 * 16 + 48) * 4.522
    assert found.array_mm2 == pytest.approx(256 * (um2 + registers) * 0.46 * 1e-6)  # 28 nm takes the table's 32
    assert found.memory_mm2 == pytest.approx(304 * 8192 * 0.3986 * 0.46 * 1e-6)
    assert area(load_architecture("pynq_z2")) is None


def test_exports_hold_every_point(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "s.sqlite"
    rows = sweep(space_of(tmp_path), path).rows
    assert export(path, tmp_path / "p.csv") == export(path, tmp_path / "p.parquet", hypervolume=True) == 12
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["latency_ms"] == [row.outputs.get("latency_ms") for row in rows]
    assert table["hypervolume"] == sorted(table["hypervolume"])
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert len(lines) == 13
    result = CliRunner().invoke(main, ["sweep", "query", str(path), "SELECT count(*) AS n FROM points", "--json"])
    assert json.loads(result.output) == [{"n": 12}]
    result = CliRunner().invoke(main, ["sweep", "query", str(path), "DELETE FROM points"])
    assert result.output == f"error: {path}: is read-only\n"


def test_the_front_is_shown_with_a_command_for_each_point(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    result = CliRunner().invoke(main, ["sweep", str(space_file(tmp_path)), "-o", str(path)])
    assert result.exit_code == 0, result.output
    with Store.read(path) as store:
        rows = list(store.finished().values())
    best = [row for row in rows if row.command and row.command in result.output]
    assert 0 < len(best) < len(rows)
    shown = CliRunner().invoke(main, ["sweep", "front", str(path), "--json"])
    assert sorted(row["hash"] for row in json.loads(shown.output)) == sorted(row.hash for row in best)


def test_nothing_on_the_front_is_beaten() -> None:
    import numpy as np

    costs = np.random.default_rng(0).integers(0, 6, (200, 3)).astype(float)
    costs[::17] = np.inf
    mask = nondominated(costs)
    for on, row in zip(mask, costs, strict=True):
        beaten = ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
        assert on == (np.isfinite(row).all() and not beaten)


def test_values_follow_a_file_that_was_changed(tmp_path: Path) -> None:
    """The memo keeps what was computed under what stands in the files, not under their names."""
    numerics = tmp_path / "num.yaml"
    text = SMALL.replace("constraints: [area_mm2 < 0.9]\n", "images: 1\n")
    text = text[: text.index("space:")] + f"space:\n  numerics: [{numerics}]\n" + text[text.index("images:") :]
    text = text.replace("area_mm2: min", "fidelity.sqnr_db: max")
    found = []
    for bits in (8, 4):
        numerics.write_text(f"weights: {bits}\n")
        (row,) = sweep(space_of(tmp_path, text), tmp_path / f"{bits}.sqlite").rows
        found.append(row.outputs["fidelity.sqnr_db"])
        if bits == 8:
            shutil.copy(tmp_path / "8.sqlite.memo", tmp_path / "4.sqlite.memo")
    assert found[0] > found[1] + 3


def test_a_grid_goes_on_where_many_combinations_are_one_point(tmp_path: Path) -> None:
    """Methods that do not take an option make one point of all its values; those behind them still have their turn."""
    text = SMALL[: SMALL.index("space:")] + (
        "space:\n  method: [saliency, nuig]\n  method.n_intervals: {range: [1, 110, 1]}\n"
        "  method.exponent: {range: [0, 1, 0.01]}\nobjectives: {latency_ms: min}\npoints: 3\n"
    )
    rows = sweep(space_of(tmp_path, text), tmp_path / "s.sqlite").rows
    assert {row.inputs["method"] for row in rows} == {"saliency", "nuig"}
