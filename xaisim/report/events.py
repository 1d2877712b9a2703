"""Trace events of a launch: tiles and stalls inside phases, the critical path, counters.

    tile_events(analysis, arch, trip=1, rows=100)       events of the first hundred tiles of the first trip

Perfetto gives slices the colour of their name, so phases and causes of stalls are names of slices; chrome://tracing
takes ``cname`` from its own list. A slice comes before those inside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.mapping.stages import Stage
from xaisim.mapping.tiles import Kind, Seat, Unit
from xaisim.report.counters import Counter, drawn_trips
from xaisim.report.cycles import Analysis
from xaisim.simulate.clock import CAUSE_NAMES, Cause

Event = dict[str, Any]

PROCESS = 1
PROGRAM, PATH, HOST = 1, 2, 3
_COLOURS = {"forward": "rail_response", "backward": "rail_load", "path": "rail_animation", "map": "rail_idle",
            "prologue": "thread_state_uninterruptible"}  # fmt: skip
_STALL_COLOURS = {
    Cause.LOAD: "thread_state_iowait", Cause.ARRAY: "thread_state_runnable", Cause.VECTOR: "thread_state_running",
    Cause.STORE: "bad", Cause.BUFFER: "terrible", Cause.HOST: "white", Cause.BUS: "olive", Cause.PORT: "yellow",
}  # fmt: skip
_KINDS = {kind.value: kind.name.lower() for kind in Kind}


def phase_of(stage: Stage) -> str:
    """Return what a stage is there for: ``forward``, ``backward``, ``path`` (points and sums) or ``map`` (the end)."""
    if stage.anchor.layer in ("path", "gradcam", "attribution"):
        return "path" if stage.anchor.layer == "path" else "map"
    return "backward" if stage.anchor.backward else "forward"


def track_of(unit: int, seat: Seat) -> int:
    """Return the track of a unit."""
    return HOST if seat.kind is Unit.HOST else 10 + unit


def event(arch: Architecture, track: int, name: str, category: str, start: int, cycles: int, args: Event) -> Event:
    """Return a slice on a track; cycles count from the start of the program."""
    ts, dur = span(np.array([start]), np.array([cycles]), arch.clock_mhz)
    exact = {"start_cycle": start, "cycles": cycles, **args}
    return {
        "ph": "X", "pid": PROCESS, "tid": track, "name": name, "cat": category,
        "ts": ts[0], "dur": dur[0], "args": exact,
    }  # fmt: skip


def span(start: Array, cycles: Array, mhz: float) -> tuple[list[float], list[float]]:
    """Return ``ts`` and ``dur`` in microseconds. Both ends are rounded to nanoseconds, so neighbours still touch."""
    begin, end = (np.rint(c * (1e3 / mhz)).astype(np.int64) for c in (start, start + cycles))
    return _microseconds(begin).tolist(), _microseconds(end - begin).tolist()


def _microseconds(ns: Array) -> Array:
    """Return floats of which a reader that truncates ``value * 1000``, as Perfetto does, gets ``ns`` back."""
    value = ns / 1e3
    short = (value * 1e3).astype(np.int64) < ns
    return np.where(short, np.nextafter(value, np.inf), value)


def region_text(region: list[int]) -> str:
    """Return ``k0:16 p0:8 q0:56``: channels, rows and columns of a tile, of the input for loads."""
    k0, k1, p0, p1, q0, q1 = region
    return f"k{k0}:{k1} p{p0}:{p1} q{q0}:{q1}"


# --- tiles ------------------------------------------------------------------------------------------------------------


class _Phases(NamedTuple):
    """Runs of neighbouring rows of one phase on one unit."""

    first: Array
    """(rows,): the row with which the run of each row begins."""
    names: list[str]
    """The phase of every stage."""


def _phases(analysis: Analysis) -> _Phases:
    schedule = analysis.launch.schedule
    tiles, names = schedule.tiles, [phase_of(stage) for stage in schedule.stages]
    if analysis.ahead:
        names = ["prologue"] * len(names)
    order = np.argsort(tiles.unit, kind="stable")
    number = np.array([sorted(set(names)).index(name) for name in names])[tiles.stage[order]]
    unit = tiles.unit[order]
    new = np.concatenate([[True], (unit[1:] != unit[:-1]) | (number[1:] != number[:-1])])
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return _Phases(first, names)


def tiles_that_fit(analysis: Analysis, trip: int, room: int) -> int:
    """Return how many leading rows, with their stalls and phases, take at most ``room`` events."""
    stall = analysis.traces[trip - 1].stall
    begins = _phases(analysis).first == np.arange(len(stall))
    return int(np.searchsorted(np.cumsum(1 + (stall > 0) + begins), room, side="right"))


class _Drawn(NamedTuple):
    """The rows of a trip that are drawn, column by column as plain lists; cycles count from the program's start."""

    track: list[int]
    stage: list[int]
    run: list[int]
    """The row with which its run of one phase begins."""
    start: list[int]
    cycles: list[int]
    stall: list[int]
    cause: list[int]
    run_cycles: list[int]
    """From the stall before a row to the end of the run that begins with it."""
    at: tuple[list[float], list[float]]
    """``ts`` and ``dur`` of the row; below, of the stall before it and of the run."""
    stall_at: tuple[list[float], list[float]]
    run_at: tuple[list[float], list[float]]


def _drawn(analysis: Analysis, arch: Architecture, trip: int, rows: int, runs: Array) -> _Drawn:
    t, trace, tiles = analysis.launch, analysis.traces[trip - 1], analysis.launch.schedule.tiles
    start, stall = trace.start[:rows] + t.start_cycle + arch.control.launch_cycles, trace.stall[:rows]
    cycles = tiles.occupy_cycles[:rows]
    free = np.zeros(tiles.rows, np.int64)  # by the first row of a run: when its last one is done
    np.maximum.at(free, runs[:rows], start + cycles)
    run_cycles = np.maximum(free[:rows] - (start - stall), 0)
    tracks = np.array([track_of(unit, seat) for unit, seat in enumerate(tiles.units)])
    return _Drawn(
        tracks[tiles.unit[:rows]].tolist(), tiles.stage[:rows].tolist(), runs[:rows].tolist(), start.tolist(),
        cycles.tolist(), stall.tolist(), trace.cause[:rows].tolist(), run_cycles.tolist(),
        span(start, cycles, arch.clock_mhz), span(start - stall, stall, arch.clock_mhz),
        span(start - stall, run_cycles, arch.clock_mhz),
    )  # fmt: skip


def tile_events(analysis: Analysis, arch: Architecture, trip: int, rows: int) -> Iterator[Event]:
    """Yield the first ``rows`` tiles of a trip, each behind the stall that held it up, in slices of one phase.

    The prologue is trip 0.
    """
    stages, phases = analysis.launch.schedule.stages, _phases(analysis)
    number = 0 if analysis.ahead else trip
    drawn, details = _drawn(analysis, arch, trip, rows, phases.first), _details(analysis, arch, trip, rows)
    for row, (stage, track) in enumerate(zip(drawn.stage, drawn.track, strict=True)):
        name, phase, start, held = stages[stage].name, phases.names[stage], drawn.start[row], drawn.stall[row]
        before: Event = {"start_cycle": start - held, "trip": number}
        if drawn.run[row] == row:
            args = {**before, "cycles": drawn.run_cycles[row]}
            yield _slice(track, phase, "phase", _COLOURS[phase], drawn.run_at, row, args)
        if held:
            cause = Cause(drawn.cause[row])
            args = {**before, "cycles": held, "before": name, "tile": row}
            yield _slice(track, CAUSE_NAMES[cause], "idle", _STALL_COLOURS[cause], drawn.stall_at, row, args)
        args = {"start_cycle": start, "cycles": drawn.cycles[row], "trip": number, "tile": row, **details[row]}
        yield _slice(track, name, phase, _COLOURS[phase], drawn.at, row, args)


def _slice(
    track: int, name: str, category: str, colour: str, at: tuple[list[float], list[float]], row: int, args: Event
) -> Event:  # fmt: skip
    return {
        "ph": "X", "pid": PROCESS, "tid": track, "name": name, "cat": category, "ts": at[0][row], "dur": at[1][row],
        "cname": colour, "args": args,
    }  # fmt: skip


def _details(analysis: Analysis, arch: Architecture, trip: int, rows: int) -> list[Event]:
    """Return what else there is to say about each row: what it is, what it moves, how critical it is."""
    t, trace, tiles = analysis.launch, analysis.traces[trip - 1], analysis.launch.schedule.tiles
    ready = trace.end[:rows] + t.start_cycle + arch.control.launch_cycles
    details: list[Event] = [
        {"ready_cycle": end, "kind": _KINDS[kind], "macs": macs, "bytes_read": read, "bytes_written": written,
         "region": region_text(region), "slack_cycles": spare}
        for end, kind, macs, read, written, region, spare in zip(
            ready.tolist(), tiles.kind[:rows].tolist(), tiles.macs[:rows].tolist(),
            tiles.read_bytes[:rows].sum(axis=1).tolist(), tiles.write_bytes[:rows].sum(axis=1).tolist(),
            tiles.region[:rows].tolist(), analysis.slack[trip][:rows].tolist(), strict=True)
    ]  # fmt: skip
    for row in np.flatnonzero(analysis.path.rows[trip][:rows]):
        details[row]["critical"] = True
    return details


# --- critical path and counters ---------------------------------------------------------------------------------------


def path_events(analysis: Analysis, arch: Architecture) -> Iterator[Event]:
    """Yield the critical path of the trips that are drawn, named by unit; neighbours of one layer are one slice."""
    t = analysis.launch
    units, stages = t.schedule.tiles.units, t.schedule.stages
    parts = []
    for part in analysis.parts:
        tiles = part.launch.schedule.tiles
        for trip in drawn_trips(part):
            rows, trace = np.flatnonzero(part.path.rows[trip]), part.traces[trip - 1]
            rows = rows[np.lexsort((rows, trace.start[rows]))]
            number = np.full(len(rows), 0 if part.ahead else trip)
            parts.append([tiles.unit[rows], tiles.stage[rows], trace.start[rows], trace.end[rows], number])
    unit, stage, start, end, trip_of = (np.concatenate(column) for column in zip(*parts, strict=True))
    until = np.minimum(end, np.append(start[1:], end[-1:]))  # the next row takes over when it starts
    same = (unit[1:] == unit[:-1]) & (stage[1:] == stage[:-1])
    first = np.flatnonzero(np.concatenate([[True], ~same | (start[1:] != until[:-1]) | (trip_of[1:] != trip_of[:-1])]))
    last = np.append(first[1:], len(unit)) - 1
    offset = t.start_cycle + arch.control.launch_cycles
    for a, b in zip(first.tolist(), last.tolist(), strict=True):
        if until[b] > start[a]:
            args = {"stage": stages[stage[a]].name, "tiles": b - a + 1, "trip": int(trip_of[a])}
            name = units[unit[a]].name
            yield event(arch, PATH, name, "critical", int(start[a]) + offset, int(until[b] - start[a]), args)


def counter_events(analysis: Analysis, arch: Architecture, found: dict[str, Counter]) -> Iterator[Event]:
    """Yield the values of counters, each of which holds until the next."""
    offset = analysis.launch.start_cycle + arch.control.launch_cycles
    for name, counter in found.items():
        ts, _ = span(counter.cycle + offset, 0 * counter.cycle, arch.clock_mhz)
        unit = "bytes per cycle" if name == arch.dram.name else "in use"
        values = [column.round(3).tolist() for column in counter.series.values()]
        for at, *now in zip(ts, *values, strict=True):
            args = dict(zip(counter.series, now, strict=True))
            yield {"ph": "C", "pid": PROCESS, "name": f"{name} {unit}", "ts": at, "args": args}
