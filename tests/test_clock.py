"""Does each gate open exactly on time? Two clocks that must agree, hand-made cases from both sides, and loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import dry_program, machines, networks

from xaisim.config import UserError, load_data, shipped_names
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.choice import Choice
from xaisim.mapping.schedule import map_kernel
from xaisim.mapping.tiles import SEATS, Accesses, Allocations, Edge, Kind, Seat, TileGraph, Unit
from xaisim.models import load_model
from xaisim.simulate.clock import Cause, LoopTiming, Trace, edge_causes, edge_waits, run_loop, run_trip
from xaisim.simulate.mapper import DEFAULT_WISH, Wish
from xaisim.simulate.program import ProgramTiming, time_program
from xaisim.simulate.reference_clock import run_reference

PRESETS = shipped_names("arch_configs")
UNIT_OF = {
    Kind.LOAD: Unit.DMA,
    Kind.COMPUTE: Unit.ARRAY,
    Kind.VECTOR: Unit.VECTOR,
    Kind.STORE: Unit.DMA,
    Kind.SYNC: Unit.HOST,
}
TWO_ENGINES = (Seat(Unit.DMA, "dma0"), Seat(Unit.DMA, "dma1"), *SEATS[1:])
Row = tuple[Kind, int, int]
"""(kind, occupied cycles, latency cycles)"""
Link = tuple[int, int, Edge, int]
"""(from, to, kind, distance)"""


def tile_graph(rows: list[Row], links: list[Link], holds: dict[Link, int] | None = None) -> TileGraph:
    """Build tiles by hand; only what the clock reads means anything."""
    kinds, occupy, latency = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    links = sorted(links, key=lambda link: (link[1], link[0], link[2], link[3]))
    edges = np.array(links, np.int64).reshape(-1, 4).T
    none, n = np.zeros(0, np.int64), len(rows)
    return TileGraph(
        stage=np.zeros(n, np.int64),
        unit=np.array([int(UNIT_OF[Kind(k)]) for k in kinds], np.int64),
        kind=kinds,
        occupy_cycles=occupy,
        port_cycles=np.zeros(n, np.int64),
        latency_cycles=latency,
        macs=np.zeros(n, np.int64),
        read_bytes=np.zeros((n, 2)),
        write_bytes=np.zeros((n, 2)),
        region=np.zeros((n, 6), np.int64),
        edge_from=edges[0],
        edge_to=edges[1],
        edge_kind=edges[2],
        edge_distance=edges[3],
        edge_hold=np.array([(holds or {}).get(link, 0) for link in links], np.int64),
        stream=np.full(n, -1),
        channels=np.zeros((n, 2), np.int64),
        points=np.zeros((n, 2), np.int64),
        allocations=Allocations(none, none, none, none, none, none, none),
        accesses=Accesses(none, none, none),
    )


def replaced(tiles: TileGraph, **columns: np.ndarray) -> TileGraph:
    return tiles._replace(**columns)


@st.composite
def tile_graphs(draw: Any) -> TileGraph:
    """Draw rows of any units, durations and latencies, with edges within a trip and from the trip before."""
    row = st.tuples(st.sampled_from(Kind), st.integers(0, 20), st.sampled_from([0, 0, 1, 7, 40]))
    rows = draw(st.lists(row, min_size=1, max_size=14))
    links = []
    for target in range(len(rows)):
        for source in draw(st.lists(st.integers(0, len(rows) - 1), max_size=3)):
            distance = 1 if source >= target else draw(st.integers(0, 1))
            links.append((source, target, draw(st.sampled_from(Edge)), distance))
    holds = {link: draw(st.integers(0, 15)) for link in links if link[2] > Edge.BUFFER}
    tiles = tile_graph(rows, links, holds)
    if draw(st.booleans()):  # loads and stores on engines of their own
        unit = np.where(tiles.kind == Kind.LOAD, 0, tiles.unit + 1)
        tiles = tiles._replace(unit=unit, units=TWO_ENGINES)
    return tiles


def trips_of(tiles: TileGraph, trips: int, begin: int = 0) -> list[Trace]:
    traces: list[Trace] = []
    for _ in range(trips):
        traces.append(run_trip(tiles, traces[-1] if traces else None, begin=begin))
    return traces


def assert_clocks_agree(tiles: TileGraph, trips: int = 3, *, begin: int = 0) -> None:
    for ours, reference in zip(
        trips_of(tiles, trips, begin), run_reference(tiles, trips, begin=begin), strict=True
    ):  # fmt: skip
        for name in ("start", "end", "stall", "cause"):
            assert getattr(ours, name).tolist() == getattr(reference, name).tolist(), name
        used = np.unique(tiles.unit)
        assert ours.unit_free[used].tolist() == reference.unit_free[used].tolist()


def assert_trace_is_causal(tiles: TileGraph, traces: list[Trace]) -> None:
    """No row starts before what it waits for has ended, units run one row at a time, and never idle without cause."""
    causes, waits = edge_causes(tiles), edge_waits(tiles)
    free = np.zeros(len(tiles.units), np.int64)
    for trip, trace in enumerate(traces):
        assert (trace.end == trace.start + tiles.occupy_cycles + tiles.latency_cycles).all()
        for row in range(tiles.rows):
            gates = {
                int(e): int(traces[trip - tiles.edge_distance[e]].start[tiles.edge_from[e]] + waits[e])
                for e in np.flatnonzero(tiles.edge_to == row)
                if tiles.edge_distance[e] <= trip
            }
            begin = free[tiles.unit[row]]
            assert trace.start[row] == max([begin, *gates.values()])
            assert trace.stall[row] == trace.start[row] - begin >= 0
            if trace.stall[row]:
                assert trace.cause[row] in {causes[e] for e, end in gates.items() if end == trace.start[row]}
            free[tiles.unit[row]] = trace.start[row] + tiles.occupy_cycles[row]


def assert_accounts_balance(tiles: TileGraph, timing: LoopTiming) -> None:
    assert (timing.idle >= 0).all()
    assert (timing.busy + timing.idle.sum(axis=1) == timing.cycles).all()
    per_unit = [int(tiles.occupy_cycles[tiles.unit == unit].sum()) * timing.trips for unit in range(len(tiles.units))]
    assert timing.busy.tolist() == per_unit
    assert (timing.idle[:, Cause.NONE] == 0).all()
    if not (tiles.kind == Kind.SYNC).any():
        assert (timing.idle[:, Cause.HOST] == 0).all()


# Random tiles ---------------------------------------------------------------------------------------------------------


@given(tiles=tile_graphs())
def test_the_compiled_clock_equals_the_reference_clock(tiles: TileGraph) -> None:
    assert_clocks_agree(tiles)


@given(tiles=tile_graphs())
def test_every_row_starts_at_the_first_cycle_it_may(tiles: TileGraph) -> None:
    assert_trace_is_causal(tiles, trips_of(tiles, 3))


@given(tiles=tile_graphs(), trips=st.integers(1, 12))
def test_an_extrapolated_loop_equals_the_unrolled_one(tiles: TileGraph, trips: int) -> None:
    short, long = run_loop(tiles, trips), run_loop(tiles, trips, extrapolate=False)
    assert long.simulated_trips == trips
    assert short.cycles == long.cycles == int(max(trace.end.max() for trace in trips_of(tiles, trips)))
    assert short.idle.tolist() == long.idle.tolist()
    assert short.busy.tolist() == long.busy.tolist()
    assert_accounts_balance(tiles, short)


@given(tiles=tile_graphs())
def test_a_longer_occupation_of_any_row_never_makes_a_loop_shorter(tiles: TileGraph) -> None:
    before = run_loop(tiles, 4).cycles
    for row in range(tiles.rows):
        slower = tiles.occupy_cycles.copy()
        slower[row] += 5
        assert run_loop(replaced(tiles, occupy_cycles=slower), 4).cycles >= before


# Hand-made tiles, from both sides of the gate -------------------------------------------------------------------------


def starts(rows: list[Row], links: list[Link], trips: int = 1) -> list[list[int]]:
    return [trace.start.tolist() for trace in trips_of(tile_graph(rows, links), trips)]


@pytest.mark.parametrize(
    ("load_cycles", "array_cycles", "second_start"),
    [(10, 4, 20), (10, 10, 20), (10, 11, 21), (10, 30, 40)],
)
def test_a_computation_waits_for_its_load_or_its_unit_whichever_is_later(
    load_cycles: int, array_cycles: int, second_start: int
) -> None:
    rows = [(Kind.LOAD, load_cycles, 0), (Kind.COMPUTE, array_cycles, 0)] * 2
    links = [(0, 1, Edge.DATA, 0), (2, 3, Edge.DATA, 0)]
    assert starts(rows, links) == [[0, load_cycles, load_cycles, second_start]]


@pytest.mark.parametrize("latency", [0, 1, 40])
def test_latency_delays_the_result_but_not_the_next_transfer(latency: int) -> None:
    rows = [(Kind.LOAD, 10, latency), (Kind.COMPUTE, 5, 0), (Kind.LOAD, 10, latency)]
    assert starts(rows, [(0, 1, Edge.DATA, 0)]) == [[0, 10 + latency, 10]]


@pytest.mark.parametrize("compute_cycles", [0, 1, 9])
def test_second_load_waits_for_a_free_buffer(compute_cycles: int) -> None:
    rows = [(Kind.LOAD, 10, 0), (Kind.COMPUTE, compute_cycles, 0), (Kind.LOAD, 10, 0)]
    single = [(0, 1, Edge.DATA, 0), (1, 2, Edge.BUFFER, 0)]
    assert starts(rows, single) == [[0, 10, 10 + compute_cycles]]
    assert starts(rows, single[:1]) == [[0, 10, 10]]
    trace = run_trip(tile_graph(rows, single))
    assert trace.cause.tolist() == [Cause.NONE, Cause.LOAD, Cause.BUFFER if compute_cycles else Cause.NONE]
    assert trace.stall.tolist() == [0, 10, compute_cycles]


def test_a_double_buffer_overlaps_load_and_computation_until_the_slower_one_decides() -> None:
    def cycles(load: int, compute: int) -> int:
        rows = [(Kind.LOAD, load, 0), (Kind.COMPUTE, compute, 0)] * 6
        links: list[Link] = [(2 * i, 2 * i + 1, Edge.DATA, 0) for i in range(6)]
        links += [(2 * i + 1, 2 * i + 4, Edge.BUFFER, 0) for i in range(4)]
        return run_loop(tile_graph(rows, links), 1).cycles

    assert cycles(10, 10) == 70
    assert cycles(10, 9) == 69
    assert cycles(9, 10) == 69
    assert cycles(10, 30) == 10 + 6 * 30


def test_an_edge_of_distance_one_waits_for_the_trip_before_and_for_nothing_in_the_first() -> None:
    rows = [(Kind.LOAD, 3, 0), (Kind.VECTOR, 20, 0)]
    assert starts(rows, [(0, 1, Edge.DATA, 0), (1, 0, Edge.BUFFER, 1)], trips=3) == [[0, 3], [23, 26], [46, 49]]
    assert starts(rows, [(0, 1, Edge.DATA, 0)], trips=3) == [[0, 3], [3, 23], [6, 43]]


def test_idle_time_is_charged_to_what_came_last() -> None:
    rows = [(Kind.LOAD, 5, 0), (Kind.COMPUTE, 8, 0), (Kind.VECTOR, 2, 0), (Kind.STORE, 4, 0), (Kind.LOAD, 1, 0)]
    links = [(0, 1, Edge.DATA, 0), (1, 2, Edge.DATA, 0), (2, 3, Edge.DATA, 0)]
    timing = run_loop(tile_graph(rows, links), 1)
    assert timing.cycles == 20
    expected = {
        (Unit.DMA, Cause.VECTOR): 10,
        (Unit.ARRAY, Cause.LOAD): 5,
        (Unit.ARRAY, Cause.FINISHED): 7,
        (Unit.VECTOR, Cause.ARRAY): 13,
        (Unit.VECTOR, Cause.FINISHED): 5,
        (Unit.HOST, Cause.FINISHED): 20,
    }
    assert {
        (Unit(u), Cause(c)): int(timing.idle[u, c]) for u, c in zip(*np.nonzero(timing.idle), strict=True)
    } == expected


# Mapped networks ------------------------------------------------------------------------------------------------------


@given(graph=networks(layers=3, side=7, channels=3), arch=machines())
def test_both_clocks_agree_on_random_networks_and_accelerators(graph: Graph, arch: Architecture) -> None:
    for launch in dry_program(graph, "integrated_gradients", n_steps=2):
        try:
            tiles = map_kernel(launch.graph, arch).tiles
        except UserError:
            assume(False)
        assume(tiles.rows < 600)
        assert_clocks_agree(tiles)
        for trips in (1, 2, 5):
            assert_accounts_balance(tiles, run_loop(tiles, trips))
        assert run_loop(tiles, 9).cycles == run_loop(tiles, 9, extrapolate=False).cycles


@pytest.mark.parametrize("preset", PRESETS)
def test_both_clocks_agree_on_a_shipped_network_on_every_preset(preset: str) -> None:
    (launch,) = dry_program(load_model("cifar_cnn", values=False).graph, "saliency")
    assert_clocks_agree(map_kernel(launch.graph, load_architecture(preset)).tiles)


@pytest.mark.parametrize("preset", PRESETS)
def test_both_clocks_agree_on_a_path_loop_on_every_preset(preset: str) -> None:
    """With maps that stay, and two points in flight."""
    program = dry_program(load_model("resnet18_tiny", values=False).graph, "integrated_gradients", n_steps=4)
    for choice in (Choice(), Choice(keep=0.5, points=2)):
        tiles = map_kernel(program[1].graph, load_architecture(preset), choice).tiles
        assert_clocks_agree(tiles, trips=2)


def test_both_clocks_agree_on_a_path_loop_of_many_branches() -> None:
    program = dry_program(load_model("inception_v3_tiny", values=False).graph, "integrated_gradients", n_steps=4)
    assert_clocks_agree(map_kernel(program[1].graph, load_architecture("pynq_z2")).tiles, trips=2)


@pytest.mark.parametrize("preset", ["pynq_z2", "edge_systolic_16_ws"])
@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny"])
def test_the_loop_of_a_network_is_extrapolated_exactly(name: str, preset: str) -> None:
    program = dry_program(load_model(name, values=False).graph, "integrated_gradients", n_steps=12)
    tiles = map_kernel(program[1].graph, load_architecture(preset)).tiles
    for trips in range(1, 13):
        short, long = run_loop(tiles, trips), run_loop(tiles, trips, extrapolate=False)
        assert (short.cycles, short.idle.tolist()) == (long.cycles, long.idle.tolist())


def timed(name: str, method: str, arch: Architecture, wish: Wish = DEFAULT_WISH, **options: Any) -> ProgramTiming:
    return time_program(dry_program(load_model(name, values=False).graph, method, **options), arch, wish)


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny", "inception_v3_tiny"])
def test_three_hundred_steps_simulate_no_more_trips_than_ten(name: str) -> None:
    arch = load_architecture("pynq_z2")
    ten, many = (timed(name, "integrated_gradients", arch, Wish(search=False), n_steps=n) for n in (10, 300))
    simulated = [[t.timing.simulated_trips for t in timing.launches] for timing in (ten, many)]
    assert simulated[0] == simulated[1]
    assert max(simulated[0]) <= 10
    loops = [timing.launches[1].timing for timing in (ten, many)]
    assert loops[1].cycles - loops[0].cycles == 290 * loops[0].period_cycles


METHODS = [("saliency", {}), ("integrated_gradients", {"n_steps": 5}), ("gradcam", {"layer": None})]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_program_accounts_for_every_cycle_and_respects_the_roofline(
    method: str, options: dict[str, Any], preset: str
) -> None:
    arch, model = load_architecture(preset), load_model("resnet18_tiny", values=False)
    timing = timed(model.name, method, arch, **({"layer": model.features} if "layer" in options else options))
    for account in timing.units.values():
        assert account.busy + sum(account.idle.values()) == timing.cycles
        assert min(account.idle.values()) >= 0
    host = sum(launch.host_cycles for launch in timing.launches)
    seat = [seat.kind for seat in timing.launches[0].schedule.tiles.units].index(Unit.HOST)
    inside = sum(int(launch.timing.busy[seat]) for launch in timing.launches)
    assert timing.units["host"].busy == host + inside
    assert inside == (arch.control.sync_cycles if method not in ("forward", "integrated_gradients") else 0)
    assert timing.cycles == host + sum(launch.timing.cycles for launch in timing.launches)
    assert timing.cycles >= timing.lower_bound_cycles(arch)
    moved = timing.read_bytes["dram"] + timing.write_bytes["dram"]
    assert timing.lower_bound_cycles(arch) == max(
        math.ceil(timing.macs / arch.peak_macs_per_cycle), math.ceil(moved / arch.dram.bytes_per_cycle)
    )
    assert timing.macs == sum(launch.launch.graph.macs() * launch.launch.trips for launch in timing.launches)
    for launch in timing.launches:
        assert launch.timing.cycles >= launch.schedule.tiles.macs.sum() / arch.peak_macs_per_cycle


def test_starts_of_launches_follow_each_other_with_the_host_between() -> None:
    arch = load_architecture("pynq_z2")
    timing = timed("cifar_cnn", "integrated_gradients", arch, n_steps=3)
    assert [t.host_cycles for t in timing.launches] == [1200, 200, 200]
    now = 0
    for launch in timing.launches:
        assert launch.start_cycle == now
        now += launch.cycles
    assert timing.cycles == now


def test_the_same_run_twice_gives_the_same_bytes() -> None:
    arch = load_architecture("edge_systolic_16")
    runs = []
    for _ in range(2):
        (launch,) = dry_program(load_model("resnet18_tiny", values=False).graph, "saliency")
        mapped = map_kernel(launch.graph, arch)
        trace = run_trip(mapped.tiles)
        columns = [*mapped.tiles[:-3], *mapped.tiles.allocations, *mapped.tiles.accesses, *trace]
        runs.append((str(launch.graph), b"".join(np.ascontiguousarray(column).tobytes() for column in columns)))
    assert runs[0] == runs[1]


def changed(arch: Architecture, **dram: Any) -> Architecture:
    data = arch.model_dump(mode="json") | {"board": None}
    data["memories"][0] |= dram
    return load_data(Architecture, data)


@pytest.mark.parametrize("preset", ["pynq_z2", "edge_systolic_32"])
def test_a_faster_dram_is_never_slower_under_a_fixed_schedule(preset: str) -> None:
    """Tiles and their order stay; only the cycles of transfers change with the bandwidth and the latency."""
    arch = load_architecture(preset)
    (launch,) = dry_program(load_model("resnet18_tiny", values=False).graph, "saliency")
    tiles = map_kernel(launch.graph, arch).tiles
    moves = tiles.unit == Unit.DMA
    bus = tiles.read_bytes[:, 0] + tiles.write_bytes[:, 0]
    previous = math.inf
    for rate in sorted({1, 2, 5, arch.dram.bytes_per_cycle, 64, 1000}):
        occupy = np.where(moves, arch.dma.issue_cycles + np.ceil(bus / rate).astype(np.int64), tiles.occupy_cycles)
        if rate == arch.dram.bytes_per_cycle:
            assert occupy.tolist() == tiles.occupy_cycles.tolist()
        cycles = run_loop(replaced(tiles, occupy_cycles=occupy), 3).cycles
        assert cycles <= previous
        previous = cycles
    slower = replaced(tiles, latency_cycles=tiles.latency_cycles * 2)
    assert run_loop(slower, 3).cycles > run_loop(tiles, 3).cycles


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny"])
def test_ten_times_the_bandwidth_pays_although_the_tiling_may_change(name: str) -> None:
    arch = load_architecture("pynq_z2")
    fast = changed(arch, bytes_per_cycle=arch.dram.bytes_per_cycle * 10)
    assert timed(name, "saliency", fast).cycles < timed(name, "saliency", arch).cycles


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny"])
def test_two_engines_share_the_bus_and_overlap_only_what_is_no_transfer(name: str) -> None:
    data = load_architecture("pynq_z2").model_dump(mode="json")
    data["dma"]["engines"] = 2
    arch = load_data(Architecture, data)
    (launch,) = dry_program(load_model(name, values=False).graph, "saliency")
    tiles = map_kernel(launch.graph, arch).tiles
    assert [seat.name for seat in tiles.units] == ["dma0", "dma1", "array", "vector", "host"]
    assert_clocks_agree(tiles)
    trace, moves = run_trip(tiles), np.flatnonzero(tiles.unit < 2)
    begin = trace.start[moves] + arch.dma.issue_cycles
    assert (begin[1:] >= (trace.start + tiles.occupy_cycles)[moves][:-1]).all()  # one transfer at a time
    assert (trace.cause == Cause.BUS).any()
    one = map_kernel(launch.graph, load_architecture("pynq_z2")).tiles
    assert run_loop(tiles, 3).cycles < run_loop(one, 3).cycles
