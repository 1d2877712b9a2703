"""Does the critical path account for every cycle, and is slack exactly what a row can be late without consequence?"""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import dry_program
from test_clock import replaced, tile_graph, tile_graphs

from xaisim.config import shipped_names
from xaisim.hardware import load_architecture
from xaisim.mapping.schedule import map_kernel
from xaisim.mapping.tiles import Edge, Kind, Seat, TileGraph, Unit
from xaisim.models import load_model
from xaisim.simulate.clock import edge_waits, run_loop
from xaisim.simulate.critical import critical_path, repeats, trip_traces
from xaisim.simulate.slack import slack


def unrolled(tiles: TileGraph, trips: int) -> TileGraph:
    """Return one trip that is all trips of a body, edge by edge."""
    n, columns = tiles.rows, {}
    for name in ("stage", "unit", "kind", "occupy_cycles", "latency_cycles", "macs"):
        columns[name] = np.tile(getattr(tiles, name), trips)
    for name in ("read_bytes", "write_bytes", "region"):
        columns[name] = np.tile(getattr(tiles, name), (trips, 1))
    parts = []
    for trip in range(trips):
        kept = tiles.edge_distance <= trip
        parts.append((tiles.edge_from[kept] + (trip - tiles.edge_distance[kept]) * n, tiles.edge_to[kept] + trip * n,
                      tiles.edge_kind[kept], tiles.edge_hold[kept]))  # fmt: skip
    source, target, kind, hold = (np.concatenate(column) for column in zip(*parts, strict=True))
    columns |= {"edge_from": source, "edge_to": target, "edge_kind": kind, "edge_hold": hold}
    return replaced(tiles, edge_distance=0 * source, **columns)


def late(tiles: TileGraph, row: int, cycle: int) -> TileGraph:
    """Return the tiles of one trip with a row that may not start before ``cycle``: a probe on a unit of its own."""
    columns = {
        name: np.concatenate([getattr(tiles, name)[:1], getattr(tiles, name)])
        for name in ("stage", "macs", "read_bytes", "write_bytes", "region")
    }
    columns |= {
        "unit": np.append(len(tiles.units), tiles.unit),
        "kind": np.append(int(Kind.SYNC), tiles.kind),
        "occupy_cycles": np.append(cycle, tiles.occupy_cycles),
        "latency_cycles": np.append(0, tiles.latency_cycles),
    }
    at = np.searchsorted(tiles.edge_to, row)
    edges = {"edge_from": 0, "edge_to": row + 1, "edge_kind": int(Edge.DATA), "edge_distance": 0, "edge_hold": 0}
    for name, value in edges.items():
        moved = getattr(tiles, name) + (name in ("edge_from", "edge_to"))
        columns[name] = np.insert(moved, at, value)
    return replaced(tiles, **columns)._replace(units=(*tiles.units, Seat(Unit.HOST, "probe")))


def longest_path(tiles: TileGraph, trips: int) -> int:
    """Return the length of a loop as networkx finds it: nodes are starts, edges are waits."""
    graph, wait = nx.DiGraph(), edge_waits(tiles)

    def link(source: object, target: object, cycles: int) -> None:
        known = graph.get_edge_data(source, target, {"weight": -1})["weight"]
        graph.add_edge(source, target, weight=max(known, int(cycles)))

    busy_until: dict[int, tuple[int, int]] = {}
    for trip in range(trips):
        for row in range(tiles.rows):
            here, unit = (trip, row), int(tiles.unit[row])
            link("begin", here, 0)
            link(here, "end", tiles.occupy_cycles[row] + tiles.latency_cycles[row])
            if unit in busy_until:
                link(busy_until[unit], here, tiles.occupy_cycles[busy_until[unit][1]])
            busy_until[unit] = here
        for e, (source, target, distance) in enumerate(
            zip(tiles.edge_from.tolist(), tiles.edge_to.tolist(), tiles.edge_distance.tolist(), strict=True)
        ):
            if distance <= trip:
                link((trip - distance, source), (trip, target), wait[e])
    return int(nx.dag_longest_path_length(graph))


# The path -------------------------------------------------------------------------------------------------------------


@given(tiles=tile_graphs(), trips=st.integers(1, 5))
def test_a_launch_takes_the_longest_path_through_its_tiles(tiles: TileGraph, trips: int) -> None:
    assert run_loop(tiles, trips).cycles == longest_path(tiles, trips)


@given(tiles=tile_graphs(), trips=st.integers(1, 40))
def test_the_cycles_of_the_path_sum_to_those_of_the_launch(tiles: TileGraph, trips: int) -> None:
    timing = run_loop(tiles, trips)
    path = critical_path(tiles, timing)
    assert path.whole.cycles(tiles) == timing.cycles
    assert int(path.whole.spent(tiles).sum()) == timing.cycles
    assert path.whole.spent(tiles).min() >= 0


@given(tiles=tile_graphs(), trips=st.integers(1, 12))
def test_an_extrapolated_path_is_that_of_the_unrolled_loop(tiles: TileGraph, trips: int) -> None:
    short, long = (run_loop(tiles, trips, extrapolate=extrapolate) for extrapolate in (True, False))
    for ours, whole in zip(critical_path(tiles, short).whole, critical_path(tiles, long).whole, strict=True):
        assert ours.tolist() == whole.tolist()


@given(tiles=tile_graphs(), trips=st.integers(2, 30))
def test_the_circuit_takes_a_whole_number_of_periods(tiles: TileGraph, trips: int) -> None:
    timing = run_loop(tiles, trips)
    path = critical_path(tiles, timing)
    if path.circuit is None:
        assert timing.period_cycles == 0 or not repeats(trip_traces(tiles, timing))
    else:
        assert path.circuit_trips >= 1
        assert path.circuit.cycles(tiles) == path.circuit_trips * timing.period_cycles


@given(tiles=tile_graphs(), trips=st.integers(1, 6), data=st.data())
def test_with_other_durations_the_path_is_a_bound_from_below(tiles: TileGraph, trips: int, data: st.DataObject) -> None:
    path = critical_path(tiles, run_loop(tiles, trips))
    changed = {
        name: np.array(data.draw(st.lists(st.integers(0, 30), min_size=size, max_size=size)), np.int64)
        for name, size in (("occupy_cycles", tiles.rows), ("edge_hold", len(tiles.edge_from)))
    }
    other = replaced(tiles, **changed)
    assert path.whole.cycles(other) <= run_loop(other, trips).cycles


def test_a_path_goes_through_bus_latency_and_units_by_name() -> None:
    """A load (busy 10, there 7 later), its computation, and a second load that waits 6 cycles for the bus."""
    rows = [(Kind.LOAD, 10, 7), (Kind.COMPUTE, 5, 0), (Kind.STORE, 30, 0)]
    link = (1, 2, Edge.BUS, 0)
    tiles = tile_graph(rows, [(0, 1, Edge.DATA, 0), link], {link: 4})
    path = critical_path(tiles, run_loop(tiles, 1))
    assert path.whole.spent(tiles).tolist() == [[10, 7, 0], [0, 0, 4], [30, 0, 0]]
    assert path.rows[1].tolist() == [True, True, True]


def test_a_loop_is_as_fast_as_its_slowest_circuit() -> None:
    """Three trips of load 3 and vector 20 with one buffer between: a trip takes 23, all of it on the circuit."""
    rows = [(Kind.LOAD, 3, 0), (Kind.VECTOR, 20, 0)]
    tiles = tile_graph(rows, [(0, 1, Edge.DATA, 0), (1, 0, Edge.BUFFER, 1)])
    path = critical_path(tiles, run_loop(tiles, 100))
    assert path.whole.busy.tolist() == [100, 100]
    assert path.circuit is not None
    assert (path.circuit.busy.tolist(), path.circuit_trips) == ([1, 1], 1)


# Slack ----------------------------------------------------------------------------------------------------------------


@given(tiles=tile_graphs(), trips=st.integers(1, 6), extrapolate=st.booleans())
def test_a_row_may_be_late_by_its_slack_and_not_by_a_cycle_more(
    tiles: TileGraph, trips: int, extrapolate: bool
) -> None:
    timing, flat = run_loop(tiles, trips, extrapolate=extrapolate), unrolled(tiles, trips)
    traces = trip_traces(tiles, timing)
    for trip, slacks in slack(tiles, timing, traces).items():
        for row in range(tiles.rows):
            at, start = row + (trip - 1) * tiles.rows, int(traces[trip - 1].start[row])
            assert run_loop(late(flat, at, start + int(slacks[row])), 1).cycles == timing.cycles
            assert run_loop(late(flat, at, start + int(slacks[row]) + 1), 1).cycles == timing.cycles + 1


@given(tiles=tile_graphs(), trips=st.integers(1, 12))
def test_slack_is_the_same_whether_a_loop_was_extrapolated_or_not(tiles: TileGraph, trips: int) -> None:
    short, long = (run_loop(tiles, trips, extrapolate=extrapolate) for extrapolate in (True, False))
    assert slack(tiles, short)[1].tolist() == slack(tiles, long)[1].tolist()


@given(tiles=tile_graphs(), trips=st.integers(1, 20))
def test_rows_on_the_path_have_no_slack_and_no_slack_is_negative(tiles: TileGraph, trips: int) -> None:
    timing = run_loop(tiles, trips)
    path = critical_path(tiles, timing)
    for trip, slacks in slack(tiles, timing).items():
        assert slacks.min() >= 0
        assert not slacks[path.rows[trip]].any()


# Mapped networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", shipped_names("arch_configs"))
def test_the_path_of_a_shipped_network_sums_to_the_cycles_on_every_preset(preset: str) -> None:
    arch = load_architecture(preset)
    for launch in dry_program(load_model("resnet18_tiny", values=False).graph, "integrated_gradients", n_steps=50):
        tiles = map_kernel(launch.graph, arch, sync=launch.sync).tiles
        timing = run_loop(tiles, launch.trips)
        path, slacks = critical_path(tiles, timing), slack(tiles, timing)
        assert path.whole.cycles(tiles) == timing.cycles
        if path.circuit is not None:
            assert path.circuit.cycles(tiles) == path.circuit_trips * timing.period_cycles
        for trip, on in path.rows.items():
            assert slacks[trip].min() == 0
            assert not slacks[trip][on].any()
