"""Does a schedule pay what its transfers' addresses cost on a DRAM with rows, and never more on a faster one?"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import dram_reference as reference
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import architectures, dry_program, networks

from xaisim import profile
from xaisim.cli import main
from xaisim.config import UserError, find_named, load_data
from xaisim.hardware import Architecture, Dram, DramTiming, describe, load_architecture
from xaisim.hardware.dram_service import Pieces, service
from xaisim.ir.graph import Graph
from xaisim.mapping.schedule import Schedule, map_again, map_kernel
from xaisim.mapping.tiles import Edge, Kind, Unit
from xaisim.models import load_model
from xaisim.report.report import Report
from xaisim.simulate.clock import run_loop
from xaisim.simulate.program import time_program
from xaisim.simulate.sensitivity import sensitivity

PRESET = "zcu104_ddr4"


def machine(name: str = PRESET, *, engines: int = 1, issue_cycles: int = 20, **dram: Any) -> Architecture:
    """Return a preset with other keys of its DRAM (None: without) and of its DMA engines."""
    data = load_architecture(name).model_dump(mode="json", exclude_none=True) | {"board": None}
    data["dma"] |= {"engines": engines, "issue_cycles": issue_cycles}
    data["memories"][0] = {k: v for k, v in (data["memories"][0] | dram).items() if v is not None}
    return load_data(Architecture, data)


def timed(name: str, **changes: Any) -> Architecture:
    """Return the preset with a named timing, some keys of it changed, and no port that hides it."""
    return machine(timing={"like": name, **changes}, port_bytes_per_cycle=None)


@cache
def gradient(model: str = "cifar_cnn") -> Graph:
    (launch,) = dry_program(load_model(model, values=False).graph, "saliency")
    return launch.graph


def transfers_of(mapped: Schedule) -> np.ndarray:
    tiles = mapped.tiles
    return np.flatnonzero(np.array([seat.kind is Unit.DMA for seat in tiles.units])[tiles.unit])


# What a schedule pays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddr3_1600k", "lpddr5_6400"])
def test_a_transfer_takes_the_cycles_of_the_definition(name: str) -> None:
    arch = timed(name)
    mapped = map_kernel(gradient(), arch)
    rows = transfers_of(mapped)[:20]  # the definition keeps every command and looks at all of them
    own = mapped.pieces.row <= rows[-1]
    pieces = Pieces(np.searchsorted(rows, mapped.pieces.row[own]), *(column[own] for column in mapped.pieces[1:]))
    small = pieces._replace(inner=np.minimum(pieces.inner, 3), outer=np.minimum(pieces.outer, 3))
    write = (mapped.tiles.kind[rows] == Kind.STORE).tolist()
    served = service(arch.dram, small, np.array(write), gap_cycles=20)
    timing = arch.dram.timing
    assert timing is not None
    gap = int(20 / timing.cycles_per_clock(arch.clock_mhz))
    walk = reference.walk(arch.dram, small, write, gap)
    expected = [reference.occupancy_cycles(timing, arch.clock_mhz, columns[0]) for columns in walk.columns]
    assert served.occupancy_cycles.tolist() == expected


def test_a_row_holds_its_engine_for_issue_and_dram_and_the_bus_for_the_dram() -> None:
    mapped = map_kernel(gradient(), machine(engines=2))
    tiles, dram = mapped.tiles, mapped.dram
    assert dram is not None
    rows = transfers_of(mapped)
    assert tiles.occupy_cycles[rows].tolist() == (20 + dram.occupancy_cycles[rows]).tolist()
    bus = tiles.edge_kind == Edge.BUS
    assert bus.any()
    assert tiles.edge_hold[bus].tolist() == dram.occupancy_cycles[tiles.edge_from[bus]].tolist()
    others = np.delete(np.arange(tiles.rows), rows)
    assert dram.bursts[others].sum() == 0


def test_the_dram_of_a_schedule_moves_whole_bursts_of_its_pieces() -> None:
    arch = machine()
    mapped = map_kernel(gradient(), arch)
    tiles, dram, p = mapped.tiles, mapped.dram, mapped.pieces
    assert dram is not None
    payload = np.bincount(p.row, p.outer * p.inner * p.bits, tiles.rows) / 8
    assert (dram.bus_bytes >= payload).all()
    assert (dram.bus_bytes % 64 == 0).all()
    moved = tiles.read_bytes[:, 0] + tiles.write_bytes[:, 0]
    assert moved.tolist() == dram.bus_bytes.tolist()
    assert (dram.occupancy_cycles * arch.dram.bytes_per_cycle >= dram.bus_bytes).all()


def test_a_single_engine_hides_recovery_behind_the_next_issue_and_several_do_not() -> None:
    mapped = map_kernel(gradient(), machine(port_bytes_per_cycle=None))

    def busy(engines: int, issue: int) -> int:
        again = map_again(mapped, machine(engines=engines, issue_cycles=issue, port_bytes_per_cycle=None))
        assert again.dram is not None
        return int(again.dram.occupancy_cycles.sum())

    assert busy(1, 20) < busy(1, 0)
    assert busy(2, 20) == busy(2, 0)


# Faster is never slower -----------------------------------------------------------------------------------------------


def faster(timing: DramTiming, key: str, share: float) -> DramTiming | None:
    """Return a timing with one key at a share of what it is, or None where no DRAM can be that."""
    data = timing.model_dump(mode="json")
    value = data[key] * share
    data[key] = max(1, int(value)) if isinstance(data[key], int) else round(value, 3)
    data["RC"] = data["RAS"] + data["RP"]
    try:
        return load_data(DramTiming, data)
    except UserError:
        return None


KEYS = ["tck_ns", "CL", "CWL", "RCD", "RP", "RAS", "CCD_L", "RRD_L", "FAW", "RTP", "WR", "RTW", "WTR", "refresh_ns"]


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["ddr3_1600k", "ddr4_2400r", "lpddr5_6400"]), key=st.sampled_from(KEYS),
    share=st.floats(0.3, 1), engines=st.sampled_from([1, 2]), issue=st.sampled_from([0, 20]),
)  # fmt: skip
def test_a_faster_dram_never_makes_a_schedule_slower(
    name: str, key: str, share: float, engines: int, issue: int
) -> None:
    arch = machine(engines=engines, issue_cycles=issue, timing=name, port_bytes_per_cycle=None)
    memory = arch.memories[0]
    assert isinstance(memory, Dram)
    assert memory.timing is not None
    timing = faster(memory.timing, key, share)
    assume(timing is not None)
    quick = memory.model_copy(update={"timing": timing})
    slow = map_kernel(gradient(), arch)
    fast = map_again(slow, arch.model_copy(update={"memories": (quick, *arch.memories[1:])}))
    assert (fast.tiles.occupy_cycles <= slow.tiles.occupy_cycles).all()
    assert run_loop(fast.tiles, 3).cycles <= run_loop(slow.tiles, 3).cycles


@settings(max_examples=25, deadline=None)
@given(graph=networks(), arch=architectures(least=512), name=st.sampled_from(["ddr4_2400r", "hbm2_2000"]))
def test_rows_and_refresh_only_add_to_a_bus_of_the_peak_rate(graph: Graph, arch: Architecture, name: str) -> None:
    data = arch.model_dump(mode="json", exclude_none=True)
    data["memories"][0] = {"name": "dram", "kind": "dram", "size": "64MiB", "timing": name, "energy": "ddr3"}
    banks = load_data(Architecture, data)
    (launch,) = dry_program(graph, "saliency")
    try:
        mapped = map_kernel(launch.graph, banks)
    except UserError:
        assume(False)
    assert mapped.dram is not None
    peak = banks.dram.bytes_per_cycle
    assert (mapped.dram.occupancy_cycles * peak * (1 + 1e-12) >= mapped.dram.bus_bytes).all()
    assert (mapped.dram.row_hits + mapped.dram.activates == mapped.dram.bursts).all()
    timing = time_program([launch], banks)
    assert timing.cycles >= timing.lower_bound_cycles(banks)


def test_more_of_a_timed_dram_is_a_machine_that_has_it() -> None:
    arch = machine()
    (launch,) = dry_program(load_model("cifar_cnn", values=False).graph, "saliency")
    timing = time_program([launch], arch)
    gains = {gain.resource: gain for gain in sensitivity(timing, arch, more=Fraction(2))}
    assert gains["DRAM clock"].change == "0.833 -> 0.4165 ns"
    assert gains["DRAM controller"].change == "286 -> 143 ns"
    assert gains["DRAM port"].change == "64 -> 128 B/cycle"
    changes = {
        "DRAM clock": {"timing": {"like": "ddr4_2400r", "controller_ns": 286, "tck_ns": 0.4165}},
        "DRAM controller": {"timing": {"like": "ddr4_2400r", "controller_ns": 143}},
        "DRAM port": {"port_bytes_per_cycle": 128},
    }
    for resource, change in changes.items():
        again = map_again(timing.launches[0].schedule, machine(**change), sync=launch.sync)
        cycles = run_loop(again.tiles, 1).cycles + timing.launches[0].host_cycles
        gain = gains[resource]
        assert gain.cycles == cycles
        assert gain.predicted_cycles is not None
        assert gain.predicted_cycles <= cycles <= timing.cycles


# What a user sees -----------------------------------------------------------------------------------------------------


@cache
def profiled(arch: str) -> Report:
    return profile(model="cifar_cnn", method="integrated_gradients", n_steps=3, arch=arch)


def test_the_report_counts_rows_over_all_trips() -> None:
    report = profiled(PRESET)
    rows, traffic = report.dram, report.traffic_bytes["dram"]
    assert rows is not None
    assert 64 * (rows.row_hits + rows.row_misses + rows.row_conflicts) == traffic.read + traffic.write
    assert min(rows.row_hits, rows.row_misses, rows.row_conflicts, rows.turn_rounds) > 0
    assert max(launch.trips * launch.points_in_flight for launch in report.launches) == 3
    assert profiled("zcu104").dram is None


def test_the_preset_is_zcu104_but_for_its_dram() -> None:
    plain, banks = (load_architecture(name).model_dump(mode="json") for name in ("zcu104", PRESET))
    same = {"name": plain["name"], "description": plain["description"]}
    assert {**banks, **same, "memories": [plain["memories"][0], *banks["memories"][1:]]} == plain
    assert load_architecture(PRESET).dram.latency_cycles == load_architecture("zcu104").dram.latency_cycles == 60


def test_show_arch_prints_the_timing_in_a_line() -> None:
    line = (
        "  dram: generic 2GiB, ddr4_2400r (DDR4-2400R, 8 Gb x8), 1 channel of 64 bits, 19.21 GB/s, 16 banks in 4 groups"
        ", rows of 8KiB, CL-RCD-RP-RAS 16-16-16-39 at 0.833 ns, RoBaCoBg, open rows, port 64 B/cycle"
    )
    assert line in describe(load_architecture(PRESET)).splitlines()


def test_an_impossible_dram_is_refused_on_the_command_line(tmp_path: Path) -> None:
    text = (
        find_named("arch_configs", PRESET)
        .read_text(encoding="utf-8")
        .replace("like: ddr4_2400r", "like: ddr4_2400r, RP: 20")
    )
    path = tmp_path / "arch.yaml"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(main, ["show", "arch", "--arch", str(path)])
    assert result.exit_code == 2
    assert "memories[0].timing.RC: must be RAS + RP, 59 clocks (got 55)" in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"timing": "ddr4_2400r"},
        {"timing": "lpddr4_3200"},
        {"port_bytes_per_cycle": 32},
        {"port_bytes_per_cycle": None},
        {"timing": {"like": "ddr4_2400r", "address_map": "BaBgRoCo"}, "port_bytes_per_cycle": None},
    ],
)
def test_every_choice_of_a_timed_dram_changes_the_cycles(change: dict[str, Any]) -> None:
    base = machine()
    (launch,) = dry_program(load_model("cifar_cnn", values=False).graph, "saliency")
    assert time_program([launch], machine(**change)).cycles != time_program([launch], base).cycles
