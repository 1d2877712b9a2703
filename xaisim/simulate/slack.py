"""Slack: how many cycles later a row may start without making its launch longer.

    slack(tiles, timing)[1][row]            in the first trip

One pass over the rows from the bottom up gives the longest way from every start to the end of the launch; slack is what
start and way leave of its cycles. From the end of a loop, trips repeat as they do from its beginning.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xaisim.mapping.tiles import TileGraph
from xaisim.simulate.clock import LoopTiming, Trace, edge_waits
from xaisim.simulate.critical import Before, rows_before, trip_traces

Array = np.ndarray


@njit(cache=True, nogil=True)
def _trip_backwards(  # type: ignore[no-untyped-def] # numba
    carried, occupy, latency, unit_row, unit_distance, first_edge, edge_from, edge_distance, edge_wait
):  # fmt: skip
    """Return every row's longest way to the end, at least ``carried``, and what the trip before has to carry."""
    rows = len(occupy)
    way = np.maximum(carried, occupy + latency)
    before = np.zeros(rows, np.int64)
    for i in range(rows - 1, -1, -1):
        source = unit_row[i]
        reach = occupy[source] + way[i]
        if unit_distance[i] == 0:
            way[source] = max(way[source], reach)
        else:
            before[source] = max(before[source], reach)
        for e in range(first_edge[i], first_edge[i + 1]):
            source = edge_from[e]
            reach = edge_wait[e] + way[i]
            if edge_distance[e] == 0:
                way[source] = max(way[source], reach)
            else:
                before[source] = max(before[source], reach)
    return way, before


def slack(tiles: TileGraph, timing: LoopTiming, traces: list[Trace] | None = None) -> dict[int, Array]:
    """Return the slack of every row in the first and in the last trip that the clock ran (counted from 1)."""
    traces = trip_traces(tiles, timing) if traces is None else traces
    wanted = {1, len(traces)}
    ways = _ways(tiles, timing.trips, wanted)
    return {trip: timing.cycles - traces[trip - 1].start - ways[trip] for trip in sorted(wanted)}


def _ways(tiles: TileGraph, trips: int, wanted: set[int]) -> dict[int, Array]:
    """Return the longest way from every row's start to the end of the loop, in the trips wanted."""
    before, wait = rows_before(tiles), edge_waits(tiles)
    first_edge = np.searchsorted(tiles.edge_to, np.arange(tiles.rows + 1)).astype(np.int64)
    found: dict[int, Array] = {}
    asked = np.zeros(tiles.rows, np.int64)
    way = growth = np.full(tiles.rows, -1)
    for trip in range(trips, 0, -1):
        later = way
        way, asked = _trip_backwards(
            asked, tiles.occupy_cycles, tiles.latency_cycles, *before, first_edge, tiles.edge_from,
            tiles.edge_distance, wait,
        )  # fmt: skip
        if trip in wanted:
            found[trip] = way
        grew = way - later
        if trip < trips - 1 and np.array_equal(grew, growth) and _for_good(tiles, before, growth):
            return found | {t: way + (trip - t) * growth for t in wanted if t < trip}
        growth = grew
    return found


def _for_good(tiles: TileGraph, before: Before, growth: Array) -> bool:
    """Return whether ways that grew alike for two trips grow so in all earlier ones.

    They do where no row follows on another that grows faster: then what decides a way now decides it always.
    """
    by_edge = growth[tiles.edge_to] <= growth[tiles.edge_from]
    by_unit = growth <= growth[before.row]
    return bool(by_edge.all() and by_unit.all())
