"""A launch over time in few numbers: how busy each unit is in every part of a trip, and when each layer computes.

    trip_of(timed_launch)["units"]["array"]         # [0, 12, 100, …]: percent, a number per part

What the page on a store draws beside a point; every tile of it is in the timeline that ``xaisim profile -o`` writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xaisim.ir.graph import Array
from xaisim.mapping.tiles import Kind, TileGraph
from xaisim.simulate.clock import Trace
from xaisim.simulate.program import TimedLaunch

PARTS = 100
"""Into how many equal parts a trip is divided."""


def trip_of(timed: TimedLaunch) -> dict[str, Any]:
    """Return the first trip of a launch as data for JSON.

    ``cycles`` is its length and ``points`` its path points; ``units`` has the percentage of each part in which a unit
    is busy; ``layers`` has (name, begin, end) of what computes, in thousandths of the trip.
    """
    tiles, trace = timed.schedule.tiles, timed.timing.first
    begin, end = int(trace.start.min()), int(trace.end.max())
    edges = np.linspace(begin, end, PARTS + 1)
    busy = {seat.name: _shares(tiles, trace, unit, edges) for unit, seat in enumerate(tiles.units)}
    return {
        "cycles": end - begin,
        "points": timed.schedule.plan.points,
        "units": {name: shares for name, shares in busy.items() if any(shares)},
        "layers": _layers(timed, begin, end),
    }


def _shares(tiles: TileGraph, trace: Trace, unit: int, edges: Array) -> list[int]:
    """Return how many percent of each part between ``edges`` a unit is busy; its rows follow one another."""
    rows = np.flatnonzero(tiles.unit == unit)
    start, busy = trace.start[rows], tiles.occupy_cycles[rows]
    done = np.cumsum(busy)
    times = np.stack([start, start + busy], axis=1).reshape(-1)
    spent = np.stack([done - busy, done], axis=1).reshape(-1)
    if not len(rows):
        return [0] * PARTS
    passed = np.diff(np.interp(edges, times, spent)) / np.maximum(np.diff(edges), 1e-9)
    return [int(share) for share in np.round(100 * passed)]


def _layers(timed: TimedLaunch, begin: int, end: int) -> list[tuple[str, int, int]]:
    tiles, trace = timed.schedule.tiles, timed.timing.first
    rows = np.flatnonzero((tiles.kind == Kind.COMPUTE) | (tiles.kind == Kind.VECTOR))  # layer after layer
    firsts = np.searchsorted(tiles.stage[rows], np.arange(len(timed.schedule.stages)))
    first = np.minimum.reduceat(trace.start[rows], firsts)
    last = np.maximum.reduceat(trace.start[rows] + tiles.occupy_cycles[rows], firsts)
    shares = np.round(1000 * (np.stack([first, last], axis=1) - begin) / max(1, end - begin)).astype(int).tolist()
    return [(stage.name, a, b) for stage, (a, b) in zip(timed.schedule.stages, shares, strict=True)]
