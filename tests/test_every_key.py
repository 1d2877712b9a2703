"""Does every key of an architecture and of the numerics change some output? One that does not is decoration."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ruamel.yaml import YAML

from xaisim.config import UserError, find_named, load_data
from xaisim.experiment import Experiment
from xaisim.flow import explain, profile
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.costs import EnergyModel
from xaisim.report.report import Report

# One change per key, each legal on its own; a board is taken away so that sizes are free.
UNROLLED = {
    "clock_mhz": 200,
    "memories.0.size": "1MiB",
    "memories.0.bytes_per_cycle": 4,
    "memories.0.latency_cycles": 400,
    "memories.0.burst_bytes": 256,
    "memories.0.energy": "lpddr4",
    "memories.1.size": "64KiB",
    "memories.1.bytes_per_cycle": 4,
    "memories.1.buffers": 1,
    "memories.1.banks": 2,
    "memories.1.word_bits": 24,
    "memories.1.holds": ["activation", "gradient", "mask"],
    "array.spatial": {"K": 8, "C": 16},
    "array.pipeline_cycles": 80,
    "array.initiation_interval": 3,
    "array.count": 2,
    "array.multiplier_bits": 12,
    "array.accumulator_bits": 56,
    "array.psum_bits": 40,
    "vector.lanes": 2,
    "vector.pipeline_cycles": 40,
    "dma.issue_cycles": 200,
    "dma.engines": 2,
    "control.launch_cycles": 999,
    "control.sync_cycles": 99_999,
    "technology.node_nm": 16,
    "technology.voltage_v": 0.8,
}
SYSTOLIC = {
    "array.rows": 8,
    "array.cols": 8,
    "array.dataflow": "ws",
    "array.drain": True,
    "array.count": 3,
    "array.multiplier_bits": 12,
    "array.accumulator_bits": 56,
    "array.psum_bits": 40,
}
GRID = {
    "array.rows": 9,
    "array.cols": 7,
    "array.spatial": {"rows": ["R", "K"], "cols": ["P", "C"]},
    "array.registers.input": 6,
    "array.registers.weight": 48,
    "array.registers.psum": 8,
    "array.words_per_cycle.input": 2,
    "array.words_per_cycle.weight": 1,
    "array.words_per_cycle.psum": 1,
    "array.pipeline_cycles": 30,
    "array.count": 2,
    "array.multiplier_bits": 12,
    "array.accumulator_bits": 56,
    "array.psum_bits": 40,
}
NUMERICS: dict[str, Any] = {
    "weights": 10,
    "activations": 10,
    "gradients": 10,
    "attributions": 10,
    "path": 6,
    "running_sum": 16,
    "per_channel": True,
    "uniform": "q16.8",
    "calibration": "percentile",
    "headroom_bits": 3,
    "rounding": "trn",
    "overrides": {"relu2": "u8.4"},
}


def architecture(name: str, changes: dict[str, Any]) -> Architecture:
    """Return a preset with some keys changed, free of its board."""
    data: Any = YAML(typ="safe").load(find_named("arch_configs", name).read_text())
    data = copy.deepcopy(data)
    data.pop("board", None)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = data
        for part in parents:
            node = node[int(part)] if part.isdigit() else node[part]
        node[last] = value
    if changes.get("memories.1.holds"):
        data["memories"] = [m for m in data["memories"] if m.get("holds") != ["mask"]]
    return load_data(Architecture, data)


def outcome(arch: Architecture, tmp_path: Any) -> dict[str, Any] | str:
    """Return all measured figures of a profile, or the refusal."""
    path = tmp_path / "arch.yaml"
    path.write_text(arch.model_dump_json(exclude_none=True))  # JSON is YAML
    try:
        report = profile(Experiment(model="cifar_cnn", method="saliency", arch=str(path)))
    except UserError as error:
        return str(error)
    figures = report.model_dump(mode="json")
    return {key: value for key, value in figures.items() if key not in ("meta", "architecture")}


@pytest.mark.parametrize("key", UNROLLED)
def test_key_of_an_unrolled_architecture_changes_an_output(key: str, tmp_path: Any) -> None:
    assert outcome(architecture("pynq_z2", {key: UNROLLED[key]}), tmp_path) != outcome(
        architecture("pynq_z2", {}), tmp_path
    )


@pytest.mark.parametrize("key", SYSTOLIC)
def test_key_of_a_systolic_architecture_changes_an_output(key: str, tmp_path: Any) -> None:
    assert outcome(architecture("edge_systolic_16", {key: SYSTOLIC[key]}), tmp_path) != outcome(
        architecture("edge_systolic_16", {}), tmp_path
    )


@pytest.mark.parametrize("key", GRID)
def test_key_of_a_grid_changes_an_output(key: str, tmp_path: Any) -> None:
    assert outcome(architecture("eyeriss", {key: GRID[key]}), tmp_path) != outcome(
        architecture("eyeriss", {}), tmp_path
    )


def test_pipelined_folds_change_the_cycles_of_a_weight_stationary_array(tmp_path: Any) -> None:
    serialised = outcome(architecture("edge_systolic_16_ws", {"array.folds": "serialised"}), tmp_path)
    pipelined = outcome(architecture("edge_systolic_16_ws", {"array.folds": "pipelined"}), tmp_path)
    assert isinstance(serialised, dict)
    assert isinstance(pipelined, dict)
    assert pipelined["cycles"]["total"] < serialised["cycles"]["total"]


def test_what_is_divided_among_arrays_changes_their_cycles(tmp_path: Any) -> None:
    filters, points = (
        outcome(architecture("edge_systolic_16", {"array.count": 2, "array.divide": divide}), tmp_path)
        for divide in "KT"
    )
    assert filters != points


def test_one_port_for_both_ways_changes_the_cycles_of_a_bank(tmp_path: Any) -> None:
    one, two = (
        outcome(architecture("pynq_z2", {"memories.1.banks": 1, "memories.1.ports": ports}), tmp_path)
        for ports in (1, 2)
    )
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert one["cycles"]["total"] > two["cycles"]["total"]


def test_what_an_accumulator_does_changes_the_attribution(tmp_path: Any) -> None:
    """Sums of 26 bits overflow here; proven, they are refused."""
    maps = []
    for policy in ("proven", "wrap", "saturate"):
        arch = architecture("pynq_z2", {"array.accumulator": policy, "array.accumulator_bits": 26})
        path = tmp_path / "arch.yaml"
        path.write_text(arch.model_dump_json(exclude_none=True))
        run = Experiment(model="cifar_cnn", method="saliency", arch=str(path))
        if policy == "proven":
            with pytest.raises(UserError, match="accumulator"):
                explain(run)
        else:
            maps.append(explain(run).attribution)
    assert (maps[0] != maps[1]).any()


def test_the_dram_row_changes_energy_and_nothing_else() -> None:
    ddr3, lpddr4 = (architecture("pynq_z2", {"memories.0.energy": row}) for row in ("ddr3", "lpddr4"))
    assert EnergyModel(lpddr4).memory_pj_per_byte("dram", "read") < EnergyModel(ddr3).memory_pj_per_byte("dram", "read")


def explained(changes: dict[str, Any]) -> Report:
    """Return a short explanation in the given numerics."""
    options = {"n_steps": 3}
    return explain(load_data(Experiment, {"model": "cifar_cnn", "options": options, "numerics": changes}))


@pytest.fixture(scope="module")
def plain() -> Report:
    return explained({})


@pytest.mark.parametrize("key", NUMERICS)
def test_key_of_the_numerics_changes_the_attribution(key: str, plain: Report) -> None:
    changed = explained({key: NUMERICS[key]})
    assert (changed.attribution != plain.attribution).any()


def test_the_percentile_changes_the_attribution() -> None:
    low, high = (explained({"calibration": "percentile", "percentile": p}) for p in (99.0, 99.9))
    assert (low.attribution != high.attribution).any()


def test_overflow_changes_what_saturates() -> None:
    sat, wrap = (explained({"uniform": "q16.13", "overflow": mode}) for mode in ("sat", "wrap"))
    assert (sat.attribution != wrap.attribution).any()
