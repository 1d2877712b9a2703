"""The clock: when every tile starts and ends, and why each unit stood still before it.

    trace = run_trip(tiles, previous=None)      one trip of the body
    timing = run_loop(tiles, trips=50)          many, extrapolated exactly once they repeat
    timing = time_schedule(schedule, trips=50)  with what goes ahead of the first trip

Units take their rows in program order; a row starts when its unit is free and all it waits for is there. Every wait
has the form ``start[to] >= start[from] + cycles``, so a trip is one pass over the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.mapping.schedule import Schedule
from xaisim.mapping.tiles import Edge, Kind, TileGraph

Array = np.ndarray


class Cause(IntEnum):
    """Why a unit is idle: what it waited for last."""

    NONE = 0
    LOAD = 1  # a tile that is still on its way from DRAM
    ARRAY = 2  # sums that the array has not finished
    VECTOR = 3  # results that the vector unit has not finished
    STORE = 4  # a tile of an earlier layer that is not in DRAM yet
    BUFFER = 5  # a buffer that is still in use
    FINISHED = 6  # nothing left to do in this launch
    HOST = 7  # the host starts a kernel or reads a result back
    BUS = 8  # another DMA engine holds the DRAM bus
    PORT = 9  # another unit holds the port of a memory


CAUSE_NAMES = {
    Cause.LOAD: "waiting_for_load",
    Cause.ARRAY: "waiting_for_array",
    Cause.VECTOR: "waiting_for_vector",
    Cause.STORE: "waiting_for_store",
    Cause.BUFFER: "buffer_in_use",
    Cause.FINISHED: "finished",
    Cause.HOST: "host",
    Cause.BUS: "bus_in_use",
    Cause.PORT: "port_in_use",
}

_EDGE_CAUSE = {Edge.BUFFER: Cause.BUFFER, Edge.BUS: Cause.BUS, Edge.PORT: Cause.PORT}
_DATA_CAUSE = {
    Kind.LOAD: Cause.LOAD,
    Kind.COMPUTE: Cause.ARRAY,
    Kind.VECTOR: Cause.VECTOR,
    Kind.STORE: Cause.STORE,
    Kind.SYNC: Cause.HOST,
}


class Trace(NamedTuple):
    """Start, end and stall of every row of one trip, in cycles."""

    start: Array
    end: Array
    """When the result is there; the unit is free ``latency_cycles`` earlier."""
    stall: Array
    """Cycles the unit stood idle before this row."""
    cause: Array
    """``Cause`` of that stall."""
    unit_free: Array
    """When each unit is free after the trip."""


def edge_causes(tiles: TileGraph) -> Array:
    """Return the ``Cause`` that waiting on each edge is charged to."""
    by_row = np.array([_DATA_CAUSE[kind] for kind in Kind])[tiles.kind[tiles.edge_from]]
    by_edge = np.array([_EDGE_CAUSE.get(edge, Cause.NONE) for edge in Edge])[tiles.edge_kind]
    return np.where(tiles.edge_kind == Edge.DATA, by_row, by_edge)


def edge_waits(tiles: TileGraph) -> Array:
    """Return the cycles from the start of the row that an edge comes from until it opens."""
    done = (tiles.occupy_cycles + tiles.latency_cycles)[tiles.edge_from]
    return np.where(tiles.edge_kind <= Edge.BUFFER, done, tiles.edge_hold)


@njit(cache=True, nogil=True)
def _trip(  # type: ignore[no-untyped-def] # numba
    unit,
    occupy,
    latency,
    first_edge,
    edge_from,
    edge_distance,
    edge_wait,
    edge_cause,
    has_previous,
    previous,
    unit_free,
):
    rows = len(unit)
    start = np.empty(rows, np.int64)
    end = np.empty(rows, np.int64)
    stall = np.zeros(rows, np.int64)
    cause = np.zeros(rows, np.int64)
    for i in range(rows):
        gate = np.int64(-1)
        why = 0
        for e in range(first_edge[i], first_edge[i + 1]):
            if edge_distance[e] == 0:
                ready = start[edge_from[e]] + edge_wait[e]
            elif has_previous:
                ready = previous[edge_from[e]] + edge_wait[e]
            else:
                continue
            if ready > gate:
                gate = ready
                why = edge_cause[e]
        free = unit_free[unit[i]]
        begin = free
        if gate > free:
            begin = gate
            stall[i] = gate - free
            cause[i] = why
        start[i] = begin
        unit_free[unit[i]] = begin + occupy[i]
        end[i] = begin + occupy[i] + latency[i]
    return start, end, stall, cause


@dataclass(slots=True)
class _Body:
    """A trip's columns as the kernel wants them."""

    tiles: TileGraph
    first_edge: Array
    wait: Array
    cause: Array

    def run(self, previous: Trace | None, begin: int = 0) -> Trace:
        tiles = self.tiles
        unit_free = np.full(len(tiles.units), begin, np.int64) if previous is None else previous.unit_free.copy()
        before = np.empty(0, np.int64) if previous is None else previous.start
        start, end, stall, cause = _trip(
            tiles.unit, tiles.occupy_cycles, tiles.latency_cycles, self.first_edge, tiles.edge_from,
            tiles.edge_distance, self.wait, self.cause, previous is not None, before, unit_free,
        )  # fmt: skip
        return Trace(start, end, stall, cause, unit_free)


def _body(tiles: TileGraph) -> _Body:
    first = np.searchsorted(tiles.edge_to, np.arange(tiles.rows + 1))
    return _Body(tiles, first.astype(np.int64), edge_waits(tiles), edge_causes(tiles).astype(np.int64))


def run_trip(tiles: TileGraph, previous: Trace | None = None, *, begin: int = 0) -> Trace:
    """Time one trip that begins at cycle ``begin``, or right behind ``previous``."""
    return _body(tiles).run(previous, begin)


@dataclass(frozen=True, slots=True)
class LoopTiming:
    """Timing of all trips of a body. Cycles count from the launch's start: that of the prologue, where there is one."""

    trips: int
    cycles: int
    first: Trace
    period_cycles: int
    """Cycles from one trip to the next once they repeat; those of the last trip where they never did."""
    simulated_trips: int
    """Trips that the clock ran; the rest repeat the last one exactly."""
    busy: Array
    """Busy cycles of each unit."""
    idle: Array
    """(units, causes): idle cycles; busy + idle = cycles for every unit."""
    prologue: LoopTiming | None = None
    """What goes ahead of the first trip; the accounts here have it in them."""

    @property
    def begin(self) -> int:
        """The cycle at which the first trip begins."""
        return self.prologue.cycles if self.prologue else 0


def time_schedule(schedule: Schedule, trips: int) -> LoopTiming:
    """Time the prologue of a schedule and ``trips`` trips of its body."""
    prologue = run_loop(schedule.prologue.tiles, 1) if schedule.prologue else None
    return run_loop(schedule.tiles, trips, prologue)


def run_loop(
    tiles: TileGraph, trips: int, prologue: LoopTiming | None = None, *, extrapolate: bool = True
) -> LoopTiming:
    """Time ``trips`` trips of a body; the first one begins when all that the prologue loads is there.

    The next trip follows from the ends of the last one alone, and shifting those shifts it. So once all ends moved
    by the same number of cycles, every later trip repeats the last one and is not run.
    """
    body = _body(tiles)
    begin = prologue.cycles if prologue else 0
    first = trace = body.run(None, begin)
    idle = _idle(tiles, trace)
    used = np.unique(tiles.unit)
    done, period = 1, int(trace.end.max()) - begin
    while done < trips:
        following = body.run(trace)
        shift = following.end - trace.end
        step = _idle(tiles, following)
        idle, done = idle + step, done + 1
        period = int(following.end.max() - trace.end.max())
        moved = (following.unit_free - trace.unit_free)[used]
        steady = bool((shift == shift[0]).all() and (moved == shift[0]).all())
        trace = following
        if steady and extrapolate:
            idle = idle + step * (trips - done)
            break
    left = trips - done
    cycles = int(trace.end.max()) + left * period
    busy = trips * np.bincount(tiles.unit, tiles.occupy_cycles, len(tiles.units)).astype(np.int64)
    if prologue:
        ahead = prologue.idle.copy()
        ahead[used, Cause.LOAD] += ahead[used, Cause.FINISHED]  # all that work wait until the last of it is there
        busy, idle = busy + prologue.busy, idle + ahead
    idle[:, Cause.FINISHED] = 0
    idle[:, Cause.FINISHED] = cycles - busy - idle.sum(axis=1)
    return LoopTiming(trips, cycles, first, period, done, busy, idle, prologue)


def _idle(tiles: TileGraph, trace: Trace) -> Array:
    """Sum stalls by unit and cause."""
    shape = len(tiles.units), len(Cause)
    place = tiles.unit * len(Cause) + trace.cause
    # Weights are added as float64, which is exact below 2^53 cycles.
    return np.bincount(place, trace.stall, shape[0] * shape[1]).astype(np.int64).reshape(shape)
