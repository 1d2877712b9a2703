"""Is what stays on the chip over all trips loaded once, ahead of the first, and is everything accounted for?"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from faults import recorded
from random_graphs import dry_program
from test_clock import assert_clocks_agree

from xaisim.attribution.device import Launch
from xaisim.config import load_data
from xaisim.experiment import Experiment, Options, prepare
from xaisim.flow import profile
from xaisim.hardware import Architecture, load_architecture
from xaisim.mapping.choice import Choice
from xaisim.mapping.schedule import Schedule, map_kernel, verify
from xaisim.mapping.tiles import Kind
from xaisim.models import load_model
from xaisim.numerics.formats import Numerics
from xaisim.report.cycles import analyse, launch_row, layer_rows, path_part
from xaisim.simulate.clock import Cause, run_loop, time_schedule
from xaisim.simulate.energy import Repeated, traffic
from xaisim.simulate.executor import MemoryFaultError
from xaisim.simulate.mapper import Wish
from xaisim.simulate.memory_check import Run, check
from xaisim.simulate.program import TimedLaunch, time_program
from xaisim.simulate.sensitivity import sensitivity


@lru_cache(maxsize=1)
def path_launch() -> Launch:
    """IG's loop of a network whose weights fit the machine: 20 path points."""
    graph = load_model("cifar_cnn", values=False).graph
    return dry_program(graph, "integrated_gradients", n_steps=20)[1]


@lru_cache(maxsize=1)
def roomy() -> Architecture:
    """pynq_z2 with memories in which everything fits."""
    data = load_architecture("pynq_z2").model_dump(mode="json") | {"board": None}
    for memory in data["memories"][1:]:
        memory["size"] = "2MiB"
    return load_data(Architecture, data)


def mapped(stay: float, **choice: Any) -> Schedule:
    return map_kernel(path_launch().graph, roomy(), Choice(stay=stay, **choice))


def timed(schedule: Schedule, trips: int) -> TimedLaunch:
    launch = replace(path_launch(), trips=trips)
    return TimedLaunch(launch, schedule, time_schedule(schedule, trips), 0, roomy().control.launch_cycles)


def moved(schedule: Schedule, name: str) -> int:
    """Return how many rows of a trip move a tensor over the bus."""
    operands = [operand for own in schedule.placement.operands for operand in own]
    tiles = schedule.tiles
    rows = tiles.stream[(tiles.kind == Kind.LOAD) | (tiles.kind == Kind.STORE)]
    return sum(operand is not None and operand.name == name for operand in (operands[s] for s in rows))


def test_all_weights_and_inputs_that_fit_are_loaded_once_and_never_again() -> None:
    schedule = mapped(0.9)
    graph = schedule.graph
    weights = {o.name for stage in schedule.stages for o in stage.operands if o.role == "weight" and not o.chosen}
    stay = weights | {name for name, type in graph.inputs.items() if type.shape}
    assert set(schedule.placement.over_trips) == stay
    assert schedule.prologue is not None
    assert schedule.prologue.tiles.rows == len(stay)
    assert [moved(schedule, name) for name in sorted(stay)] == [0] * len(stay)
    assert all(moved(mapped(0.0), name) > 0 for name in stay)


def test_the_prologue_moves_every_tensor_with_its_biases_to_the_byte() -> None:
    schedule = mapped(0.9)
    assert schedule.prologue is not None
    types, tiles = schedule.graph.types(), schedule.prologue.tiles
    for row, (name, kept) in enumerate(schedule.placement.over_trips.items()):
        anchor = schedule.stages[kept.loader].anchor
        bits = types[name].size_bits
        if len(anchor.args) > 2 and anchor.args[1] == name:
            bits += types[anchor.args[2]].size_bits
        assert tiles.write_bytes[row].sum() == -(-bits // 8)
        assert tiles.read_bytes[row, 0] == -(-bits // (8 * 64)) * 64  # whole bursts


def test_traffic_counts_the_prologue_once_and_a_trip_as_often_as_it_runs() -> None:
    schedule = mapped(0.9)
    assert schedule.prologue is not None
    once = float(schedule.prologue.tiles.read_bytes[:, 0].sum())
    per_trip = float(schedule.tiles.read_bytes[:, 0].sum())
    assert traffic([Repeated(schedule, 7)], roomy())[0]["dram"] == once + 7 * per_trip


def test_the_first_trip_begins_when_the_last_load_is_there() -> None:
    schedule = mapped(0.9)
    timing = time_schedule(schedule, 20)
    assert schedule.prologue is not None
    alone = run_loop(schedule.prologue.tiles, 1)
    assert timing.begin == alone.cycles
    assert timing.first.start.min() == timing.begin
    assert timing.cycles == timing.begin + run_loop(schedule.tiles, 20).cycles
    assert_clocks_agree(schedule.tiles, 3, begin=timing.begin)
    assert_clocks_agree(schedule.prologue.tiles, 1)


def test_every_idle_cycle_of_the_prologue_is_charged_to_loads() -> None:
    schedule = mapped(0.9)
    with_it, without = time_schedule(schedule, 20), run_loop(schedule.tiles, 20)
    assert schedule.prologue is not None
    busy = schedule.prologue.tiles.occupy_cycles.sum()
    more = with_it.idle - without.idle
    assert (with_it.busy.sum() - without.busy.sum()) == busy
    working = np.unique(schedule.tiles.unit)
    assert more[working, Cause.LOAD].tolist() == [with_it.begin - busy] + [with_it.begin] * (len(working) - 1)
    assert (more[working].sum(axis=1) == more[working, Cause.LOAD]).all()
    assert (with_it.busy + with_it.idle.sum(axis=1) == with_it.cycles).all()


def test_the_report_of_a_launch_has_its_prologue_in_every_sum() -> None:
    t = timed(mapped(0.9), 20)
    analysis = analyse(t)
    assert launch_row(t).prologue_cycles == t.timing.begin > 0
    path = path_part([analysis], roomy())
    assert path.cycles == t.timing.cycles + t.host_cycles
    layers = layer_rows(analysis, roomy())
    reads, writes = traffic([Repeated(t.schedule, 20)], roomy())
    assert sum(layer.dram_bytes for layer in layers) == reads["dram"] + writes["dram"]
    assert sum(layer.dma_cycles for layer in layers) == t.timing.busy[0]
    assert sum(layer.path_cycles for layer in layers) == t.timing.cycles


def test_a_loop_with_a_prologue_is_extrapolated_exactly() -> None:
    schedule = mapped(0.9)
    assert schedule.prologue is not None
    prologue = run_loop(schedule.prologue.tiles, 1)
    short = run_loop(schedule.tiles, 50, prologue)
    long = run_loop(schedule.tiles, 50, prologue, extrapolate=False)
    assert (short.cycles, short.idle.tolist()) == (long.cycles, long.idle.tolist())
    assert short.simulated_trips < 50


def test_the_mapper_loads_weights_once_where_that_saves_energy() -> None:
    launches = [path_launch()]
    once = time_program(launches, roomy(), Wish(objective="energy"))
    assert once.launches[0].schedule.plan.choice.stay > 0
    choice = replace(once.launches[0].schedule.plan.choice, stay=0.0)
    again = map_kernel(path_launch().graph, roomy(), choice)
    trips = path_launch().trips // choice.points
    assert once.read_bytes["dram"] < traffic([Repeated(again, trips)], roomy())[0]["dram"]


def test_sensitivity_times_the_prologue_again() -> None:
    timing = time_program([path_launch()], roomy(), Wish(objective="energy"))
    assert timing.launches[0].schedule.prologue is not None
    for gain in sensitivity(timing, roomy()):
        assert gain.predicted_cycles is not None
        assert gain.cycles is not None
        assert gain.predicted_cycles <= gain.cycles <= timing.cycles


# On modelled memories -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def run() -> tuple[Run, Schedule]:
    p = prepare(Experiment(model="cifar_cnn", arch="pynq_z2", options=Options(n_steps=3)))
    runs = recorded(p.model.graph, roomy(), "integrated_gradients", Numerics(), p.sample.x, n_steps=3)
    path = next(run for run in runs if run.trips > 1)
    return path, map_kernel(path.graph, roomy(), Choice(stay=0.9))


def test_forward_and_backward_read_one_copy_of_the_weights_to_the_bit() -> None:
    path, schedule = run()
    verify(schedule, roomy())
    backward = [stage for stage in schedule.stages if stage.anchor.attrs.get("transposed")]
    assert any(stage.operand("weight").name in schedule.placement.over_trips for stage in backward)  # type: ignore[union-attr]
    assert check(path, roomy(), schedule).equal


@pytest.mark.parametrize("fault", ["missing", "address", "shifted"])
def test_a_wrong_prologue_is_caught(fault: str) -> None:
    path, schedule = run()
    prologue = schedule.prologue
    assert prologue is not None
    tiles, a = prologue.tiles, prologue.tiles.allocations
    if fault == "missing":
        columns = {n: getattr(tiles, n)[:-1] for n in tiles._fields[: tiles._fields.index("edge_from")]}
        fewer = {n: getattr(tiles.accesses, n)[:-1] for n in tiles.accesses._fields}
        tiles = tiles._replace(**columns, accesses=tiles.accesses._replace(**fewer))
    elif fault == "address":
        tiles = tiles._replace(allocations=a._replace(address=a.address + 8 * (np.arange(len(a.address)) == 3)))
    else:
        tiles = tiles._replace(
            region=tiles.region + np.array([1, 1, 0, 0, 0, 0]) * (np.arange(tiles.rows) == 3)[:, None]
        )
    faulty = replace(schedule, prologue=replace(prologue, tiles=tiles))
    try:
        verify(faulty, roomy())
        found = not check(path, roomy(), faulty).equal
    except (MemoryFaultError, ValueError):
        found = True
    assert found


def test_a_report_of_a_whole_run_loads_its_weights_once(tmp_path: Any) -> None:
    (tmp_path / "once.yaml").write_text("kernels:\n  path gradient: {keep_over_trips: 0.9, points_in_flight: 1}\n")
    report = profile(
        Experiment(model="cifar_cnn", arch="pynq_z2", mapping=str(tmp_path / "once.yaml"), options=Options(n_steps=4))
    )
    (row,) = [launch for launch in report.launches if launch.prologue_cycles]
    assert (row.kernel, row.keep_over_trips) == ("path gradient of class 0", 0.9)
    assert report.critical_path.cycles == report.cycles.total
