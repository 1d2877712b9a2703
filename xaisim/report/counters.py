"""Counters of the timeline: bytes in use of every on-chip memory, and bytes per cycle on the DRAM bus.

    counters(analysis, arch, points=1000)["activations"]        Counter(cycle, {"bytes": values})

They cover the trips that are drawn, and what the trips before and after have in the memories meanwhile. Cycles count
from the launch's first; a counter falls to zero where nothing is drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.mapping.prologue import OVER_TRIPS
from xaisim.report.cycles import Analysis
from xaisim.simulate.critical import repeats


class Counter(NamedTuple):
    """Values from a cycle on, by series; ``window_cycles`` is 1 where every change is there."""

    cycle: Array
    series: dict[str, Array]
    window_cycles: int


def counters(analysis: Analysis, arch: Architecture, points: int) -> dict[str, Counter]:
    """Return the counters of a launch by name, each of at most ``points`` values for every trip that is drawn."""
    found = {}
    for index, memory in enumerate(arch.memories):
        parts = [
            _bus(part, arch, trip, points) if index == 0 else _occupied(part, index, trip, points)
            for part in analysis.parts
            for trip in drawn_trips(part)
        ]
        found[memory.name] = _joined(parts)
    return found


def drawn_trips(analysis: Analysis) -> list[int]:
    """Return the trips that the timeline shows, counted from 1: the first, and the one that all later ones repeat.

    Where they repeat the first, that is one trip.
    """
    count = len(analysis.traces)
    return [1] if count == 1 or (count == 2 and repeats(analysis.traces)) else [1, count]


def span_of(analysis: Analysis, trip: int) -> tuple[int, int]:
    """Return the cycles of a trip: from the end of the trip before to its own."""
    first = analysis.launch.timing.begin if trip == 1 else int(analysis.traces[trip - 2].end.max())
    return first, int(analysis.traces[trip - 1].end.max())


def _around(analysis: Analysis, trip: int) -> list[Array]:
    """Return the starts of the rows of a trip and of its neighbours, in order; what was not run repeats the last."""
    traces, timing = analysis.traces, analysis.launch.timing
    near = [number for number in (trip - 1, trip, trip + 1) if 1 <= number <= timing.trips]
    beyond = [max(0, number - len(traces)) for number in near]
    return [traces[n - b - 1].start + b * timing.period_cycles for n, b in zip(near, beyond, strict=True)]


def _occupied(analysis: Analysis, memory: int, trip: int, points: int) -> Counter:
    """Add up what lies in a memory, from the start of the row that fills it to the end of the last that uses it.

    What stays over all trips is there from the prologue on.
    """
    schedule = analysis.launch.schedule
    tiles, allocations = schedule.tiles, schedule.tiles.allocations
    mine, stays = allocations.memory == memory, allocations.slot == OVER_TRIPS
    always = 0 if analysis.ahead else int(allocations.size_bytes[mine & stays].sum())
    mine &= analysis.ahead | ~stays
    size = allocations.size_bytes[mine]
    length = tiles.occupy_cycles + tiles.latency_cycles
    low, high = span_of(analysis, trip)
    begin, end = [], []
    for start in _around(analysis, trip):
        begin.append(start[allocations.filled_by[mine]])
        last = (start + length)[allocations.released_by[mine]]
        end.append(np.full(len(last), high) if analysis.ahead else last)
    begins, ends = np.clip(np.concatenate(begin), low, high), np.clip(np.concatenate(end), low, high)
    sizes = np.tile(size, len(begin))
    cycle, at = np.unique(np.concatenate([[low, high], begins, ends]), return_inverse=True)
    change = np.zeros(len(cycle), np.int64)
    np.add.at(change, at, np.concatenate([[0, 0], sizes, -sizes]))
    held = always + np.cumsum(change)
    held[-1] = 0  # nothing is drawn behind
    return _thinned(cycle, held, points)


def _thinned(cycle: Array, value: Array, points: int) -> Counter:
    """Drop what changes nothing; where there are still too many points, keep the largest value of each window."""
    changed = np.concatenate([[True], value[1:] != value[:-1]])
    cycle, value = cycle[changed], value[changed]
    if len(cycle) <= points:
        return Counter(cycle, {"bytes": value}, 1)
    edges, window = _windows(int(cycle[0]), int(cycle[-1]), points)
    into = np.searchsorted(cycle, edges, side="right") - 1  # what holds when a window begins
    first = np.searchsorted(cycle, edges[:-1])
    most = np.array([value[a:b].max(initial=0) for a, b in zip(first, [*first[1:], len(cycle)], strict=True)])
    held = np.append(np.maximum(most, value[into[:-1]]), value[-1])
    changed = np.concatenate([[True], held[1:] != held[:-1]])
    changed[-1] = True  # where the part ends
    return Counter(edges[changed], {"bytes": held[changed]}, window)


def _bus(analysis: Analysis, arch: Architecture, trip: int, points: int) -> Counter:
    """Return the mean bytes per cycle that cross the DRAM bus in windows of equal length."""
    tiles = analysis.launch.schedule.tiles
    low, high = span_of(analysis, trip)
    edges, window = _windows(low, high, points)
    starts = _around(analysis, trip)
    series = {}
    for name, moved in (("read", tiles.read_bytes[:, 0]), ("written", tiles.write_bytes[:, 0])):
        total = np.zeros(len(edges))
        for unit in range(len(tiles.units)):
            rows = np.flatnonzero((tiles.unit == unit) & (moved > 0))
            if not len(rows):
                continue
            busy = tiles.occupy_cycles[rows]
            begin = np.concatenate([start[rows] + np.minimum(arch.dma.issue_cycles, busy) for start in starts])
            end = np.concatenate([start[rows] + busy for start in starts])
            done = np.cumsum(np.tile(moved[rows], len(starts)))
            at = np.stack([begin, end], axis=1).reshape(-1)
            total += np.interp(
                edges, at, np.stack([done - np.tile(moved[rows], len(starts)), done], axis=1).reshape(-1)
            )
        series[name] = np.append(np.diff(total) / np.maximum(1, np.diff(edges)), 0.0)
    return Counter(edges, series, window)


def _windows(low: int, high: int, points: int) -> tuple[Array, int]:
    """Cut [low, high) into fewer than ``points`` windows of a power of two of cycles; return their edges."""
    window = 16
    while -(-(high - low) // window) >= max(2, points):
        window *= 2
    return np.append(np.arange(low, high, window), high).astype(np.int64), window


def _joined(parts: list[Counter]) -> Counter:
    """Put the trips behind one another; where one ends as the next begins, the next has the word."""
    kept = []
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        cut = after is not None and part.cycle[-1] == after.cycle[0]
        kept.append(slice(0, len(part.cycle) - 1) if cut else slice(None))
    return Counter(
        np.concatenate([part.cycle[s] for part, s in zip(parts, kept, strict=True)]),
        {name: np.concatenate([part.series[name][s] for part, s in zip(parts, kept, strict=True)])
         for name in parts[0].series},
        max(part.window_cycles for part in parts),
    )  # fmt: skip
