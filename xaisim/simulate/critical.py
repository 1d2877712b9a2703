"""The critical path of a launch's trips: the rows that decide how long it takes, over all its trips.

    path = critical_path(tiles, timing)
    path.whole.cycles(tiles)                timing.cycles − timing.begin, exactly
    path.circuit.cycles(tiles)              the period, times the trips that the circuit takes

Followed from the last end back to the begin of the first trip: a row that its unit kept waiting leads to the unit's row
before, a row that stalled to the edge that opened last, as in the clock's accounts. What repeats is walked once and
counted.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.mapping.tiles import Edge, TileGraph
from xaisim.simulate.clock import LoopTiming, Trace, edge_waits, run_trip

Array = np.ndarray

SPENT = ("busy", "latency", "hold")
"""What a path spends cycles on: a unit that works, a result that is on its way, a bus or a port that another holds."""


class Steps(NamedTuple):
    """How often a path runs through the parts of every row and edge."""

    busy: Array
    """(rows,): over the whole time that the row occupies its unit."""
    latency: Array
    """(rows,): and until its result is there."""
    hold: Array
    """(edges,): over the time that the row holds a bus or a port."""

    def cycles(self, tiles: TileGraph) -> int:
        """Return the length of the path; with other durations than those it was found for, a bound from below."""
        return int(self.busy @ tiles.occupy_cycles + self.latency @ tiles.latency_cycles + self.hold @ tiles.edge_hold)

    def spent(self, tiles: TileGraph) -> Array:
        """Return the path's cycles as (rows, 3), by ``SPENT``; they sum to its length."""
        table = np.zeros((tiles.rows, len(SPENT)), np.int64)
        table[:, 0] = self.busy * tiles.occupy_cycles
        table[:, 1] = self.latency * tiles.latency_cycles
        np.add.at(table[:, 2], tiles.edge_from, self.hold * tiles.edge_hold)
        return table


class CriticalPath(NamedTuple):
    """The path of a whole launch, and the circuit that decides how often a trip of it can start."""

    whole: Steps
    circuit: Steps | None
    """What the path repeats once the loop does; None where it never does."""
    circuit_trips: int
    """Trips that one turn of the circuit takes."""
    rows: dict[int, Array]
    """For the first and the last trip that the clock ran (counted from 1): whether each row is on the path."""


def trip_traces(tiles: TileGraph, timing: LoopTiming) -> list[Trace]:
    """Return the traces of all trips that the clock ran, the first one first."""
    traces = [timing.first]
    while len(traces) < timing.simulated_trips:
        traces.append(run_trip(tiles, traces[-1]))
    return traces


def repeats(traces: list[Trace]) -> bool:
    """Return whether the last trip is the one before, moved; then all later ones are, too."""
    if len(traces) < 2:
        return False
    shift = traces[-1].start - traces[-2].start
    return bool((shift == shift[0]).all())


class Before(NamedTuple):
    """The row that runs before each on its unit: in the same trip, or in the trip before."""

    row: Array
    distance: Array


def rows_before(tiles: TileGraph) -> Before:
    """Return the row before every row on its unit; the first one of a trip follows the last one of the trip before."""
    order = np.argsort(tiles.unit, kind="stable")
    unit = tiles.unit[order]
    first = np.concatenate([[True], unit[1:] != unit[:-1]])
    last = np.append(np.flatnonzero(first)[1:], len(order)) - 1
    row, distance = np.empty_like(order), np.zeros(len(order), np.int64)
    row[order[1:]] = order[:-1]
    row[order[first]] = order[last]
    distance[order[first]] = 1
    return Before(row, distance)


@njit(cache=True, nogil=True)
def _walk(  # type: ignore[no-untyped-def] # numba
    row, begin, start, before, has_before, unit_row, unit_distance, stall, first_edge, edge_from, edge_distance,
    edge_wait, edge_done, busy, latency, hold, visited,
):  # fmt: skip
    """Follow the path back from ``row`` through one trip; return the row it comes from in the trip before, or -1."""
    while row >= 0:
        visited[row] = True
        if start[row] == begin and not has_before:
            return -1
        if stall[row] == 0:
            source, distance = unit_row[row], unit_distance[row]
            if distance and not has_before:
                return -1
            busy[source] += 1
        else:
            best = -1
            gate = np.int64(-1)
            for e in range(first_edge[row], first_edge[row + 1]):
                if edge_distance[e] == 0:
                    ready = start[edge_from[e]] + edge_wait[e]
                elif has_before:
                    ready = before[edge_from[e]] + edge_wait[e]
                else:
                    continue
                if ready > gate:
                    gate, best = ready, e
            source, distance = edge_from[best], edge_distance[best]
            if edge_done[best]:
                busy[source] += 1
                latency[source] += 1
            else:
                hold[best] += 1
        if distance:
            return source
        row = source
    return -1


class _Walked(NamedTuple):
    steps: Steps
    visited: Array
    entry: int
    """The row of the trip before that the path comes from; -1 where it begins."""


class _Walker:
    """Walks trips backwards; the last one that ran stands for all later ones and is walked once from each row."""

    def __init__(self, tiles: TileGraph, traces: list[Trace], begin: int) -> None:
        self.tiles, self.traces, self.begin = tiles, traces, begin
        self.before = rows_before(tiles)
        self.first_edge = np.searchsorted(tiles.edge_to, np.arange(tiles.rows + 1)).astype(np.int64)
        self.wait, self.done = edge_waits(tiles), tiles.edge_kind <= Edge.BUFFER
        self.walked: dict[int, _Walked] = {}

    def walk(self, trip: int, row: int) -> _Walked:
        """Walk the trip of that number (from 0) back from ``row``."""
        if trip < len(self.traces) - 1:
            return self._walk(trip, row)
        if row not in self.walked:
            self.walked[row] = self._walk(len(self.traces) - 1, row)
        return self.walked[row]

    def _walk(self, trip: int, row: int) -> _Walked:
        tiles, trace = self.tiles, self.traces[trip]
        earlier = self.traces[trip - 1].start if trip else np.empty(0, np.int64)
        steps, visited = _no_steps(tiles), np.zeros(tiles.rows, np.bool_)
        entry = _walk(
            row, self.begin, trace.start, earlier, trip > 0, *self.before, trace.stall, self.first_edge,
            tiles.edge_from, tiles.edge_distance, self.wait, self.done, *steps, visited,
        )  # fmt: skip
        return _Walked(steps, visited, int(entry))


def _no_steps(tiles: TileGraph) -> Steps:
    return Steps(*(np.zeros(n, np.int64) for n in (tiles.rows, tiles.rows, len(tiles.edge_from))))


def _add(total: Steps, steps: Steps, times: int = 1) -> None:
    for column, more in zip(total, steps, strict=True):
        column += times * more


def critical_path(tiles: TileGraph, timing: LoopTiming, traces: list[Trace] | None = None) -> CriticalPath:
    """Return the critical path of a launch's trips; ``traces`` are those of :func:`trip_traces`, made if not given."""
    traces = trip_traces(tiles, timing) if traces is None else traces
    walker, ran = _Walker(tiles, traces, timing.begin), len(traces)
    whole, later = _no_steps(tiles), Counter[int]()
    rows = {trip: np.zeros(tiles.rows, np.bool_) for trip in (1, ran)}
    row = last = int(np.argmax(traces[-1].end))
    whole.busy[last] = whole.latency[last] = 1
    for trip in range(timing.trips - 1, -1, -1):
        if row < 0:
            break
        walked = walker.walk(trip, row)
        if trip < ran - 1:
            _add(whole, walked.steps)
        else:
            later[row] += 1
        if trip + 1 in rows:
            rows[trip + 1] = walked.visited
        row = walked.entry
    for row, times in later.items():
        _add(whole, walker.walked[row].steps, times)
    if not repeats(traces) or timing.period_cycles == 0:
        return CriticalPath(whole, None, 0, rows)
    turn, circuit = _circuit(walker, ran - 1, last), _no_steps(tiles)
    for row in turn:
        _add(circuit, walker.walked[row].steps)
    return CriticalPath(whole, circuit, len(turn), rows)


def _circuit(walker: _Walker, trip: int, row: int) -> list[int]:
    """Return the last rows of the trips that the path runs round in, once every trip looks like ``trip``."""
    seen: dict[int, int] = {}
    while row not in seen:
        seen[row] = len(seen)
        row = walker.walk(trip, row).entry
    return [r for r, number in seen.items() if number >= seen[row]]
