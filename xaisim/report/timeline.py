"""The timeline: what every unit did when, as a Chrome trace that Perfetto and chrome://tracing open.

write_timeline(report.run.timing, report.run.arch, "timeline.json")

Of a loop the first trip is shown and one that stands for all later ones. ``ts`` and ``dur`` are microseconds of
simulated time; ``args`` holds the exact cycles, counted from the start of the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.mapping.stages import Stage
from xaisim.mapping.tiles import Kind, Seat, Unit, seats_of
from xaisim.simulate.clock import CAUSE_NAMES, Cause, Trace
from xaisim.simulate.critical import trip_traces
from xaisim.simulate.program import ProgramTiming, TimedLaunch

Event = dict[str, Any]

MOST_EVENTS = 200_000
_PROCESS = 1
_PROGRAM, _HOST = 0, 1
_COLOURS = {"forward": "rail_response", "backward": "rail_load", "path": "rail_animation", "map": "rail_animation"}


def phase_of(stage: Stage) -> str:
    """Return what a stage is there for: ``forward``, ``backward``, ``path`` (points and sums) or ``map`` (the end)."""
    if stage.anchor.layer in ("path", "gradcam", "attribution"):
        return "path" if stage.anchor.layer == "path" else "map"
    return "backward" if stage.anchor.backward else "forward"


def timeline_events(timing: ProgramTiming, arch: Architecture, *, most: int = MOST_EVENTS) -> list[Event]:
    """Return the events of a program: names of tracks, launches and trips, then the tiles of the trips shown.

    Where there would be more than ``most``, later trips are left out first, then the last tiles of first trips.
    """
    return _record(timing, arch, most)[0]


def write_timeline(timing: ProgramTiming, arch: Architecture, path: str | Path, *, most: int = MOST_EVENTS) -> None:
    """Write the trace as JSON, with a note of what it leaves out."""
    events, left_out = _record(timing, arch, most)
    notes = {
        "architecture": arch.name,
        "clock_mhz": arch.clock_mhz,
        "total_cycles": timing.cycles,
        "time": "ts and dur are microseconds of simulated time, rounded to nanoseconds; args hold the exact cycles",
        "left_out": left_out or ["nothing"],
    }
    trace = {"displayTimeUnit": "ns", "otherData": notes, "traceEvents": events}
    text = json.dumps(trace, ensure_ascii=False, separators=(",", ":"), check_circular=False)
    # One event per line, readable with a pager; inside a text the quotes would be escaped.
    Path(path).write_text(text.replace('},{"ph":', '},\n{"ph":'), encoding="utf-8")


def _record(timing: ProgramTiming, arch: Architecture, most: int) -> tuple[list[Event], list[str]]:
    """Return the events and, in words, what was left out."""
    events = list(_track_names(arch))
    notes: list[str] = []
    shown: list[tuple[TimedLaunch, int, Trace]] = []
    for t in timing.launches:
        traces = trip_traces(t.schedule.tiles, t.timing)
        events += _launch_events(t, arch, traces)
        shown.append((t, 1, traces[0]))
        if len(traces) > 1:
            shown.append((t, len(traces), traces[-1]))
        notes += [f"{t.launch.kernel}: {text}" for text in _undrawn(t)]
    for t, trip, trace in sorted(shown, key=lambda item: min(item[1], 2)):  # stable: all first trips, then the others
        rows = _rows_that_fit(trace, most - len(events))
        if rows < len(trace.start):
            rows = rows if trip == 1 else 0
            some = f" beyond its first {rows:,} of {len(trace.start):,} tiles" if rows else ""
            notes.append(f"{t.launch.kernel}: trip {trip}{some}, as {most:,} events are the most that is written")
        events += _trip_events(t, arch, trip, trace, rows)
    return events, notes


def _undrawn(t: TimedLaunch) -> Iterator[str]:
    steady, trips = t.timing.simulated_trips, t.launch.trips
    if steady > 2:
        yield f"trips 2 to {steady - 1}, before the loop repeats"
    if steady < trips:
        yield f"trips {steady + 1} to {trips}, which repeat trip {steady} every {t.timing.period_cycles:,} cycles"


def _rows_that_fit(trace: Trace, room: int) -> int:
    """Return how many leading rows, with their stalls, take at most ``room`` events."""
    return int(np.searchsorted(np.cumsum(1 + (trace.stall > 0)), room, side="right"))


def _busy_track(unit: int, seat: Seat) -> int:
    return _HOST if seat.kind is Unit.HOST else 10 + 2 * unit


def _idle_track(unit: int, seat: Seat) -> int:
    return _busy_track(unit, seat) + 1


# --- events -----------------------------------------------------------------------------------------------------------


def _track_names(arch: Architecture) -> Iterator[Event]:
    names = {_PROGRAM: "program", _HOST: "host"}
    for unit, seat in enumerate(seats_of(arch)):
        names |= {_busy_track(unit, seat): seat.name, _idle_track(unit, seat): f"{seat.name} idle"}
    yield {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": f"{arch.name}, {arch.clock_mhz:g} MHz"}}
    for track, name in sorted(names.items()):
        yield {"ph": "M", "pid": _PROCESS, "tid": track, "name": "thread_name", "args": {"name": name}}
        yield {"ph": "M", "pid": _PROCESS, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}


def _launch_events(t: TimedLaunch, arch: Architecture, traces: list[Trace]) -> Iterator[Event]:
    """Say on the tracks of program and host which kernel runs, and which of its trips are drawn."""
    launch, steady, period = t.launch, t.timing.simulated_trips, t.timing.period_cycles
    start = t.start_cycle + arch.control.launch_cycles
    sync = t.host_cycles - arch.control.launch_cycles
    args = {"trips": launch.trips, "period_cycles": period, "host_cycles": t.host_cycles}
    yield _event(arch, _PROGRAM, launch.kernel, "launch", t.start_cycle, t.cycles, args)
    if arch.control.launch_cycles:
        yield _event(arch, _HOST, "start a kernel", "host", t.start_cycle, arch.control.launch_cycles, {})
    if sync:
        yield _event(arch, _HOST, "read back", "host", start + t.timing.cycles, sync, {})
    if launch.trips == 1:
        return
    ends = [0, *(int(trace.end.max()) for trace in traces)]
    for trip, (first, last) in enumerate(pairwise(ends), start=1):
        drawn = "" if trip in (1, steady) else ", not drawn"
        yield _event(arch, _PROGRAM, f"trip {trip}{drawn}", "trip", start + first, last - first, {"trip": trip})
    if steady < launch.trips:
        name = f"trips {steady + 1}-{launch.trips} repeat every {period:,} cycles, not drawn"
        yield _event(arch, _PROGRAM, name, "trip", start + ends[-1], t.timing.cycles - ends[-1], {})


def _trip_events(t: TimedLaunch, arch: Architecture, trip: int, trace: Trace, rows: int) -> Iterator[Event]:
    """Yield the first ``rows`` tiles of a trip, each behind the stall that held it up."""
    tiles, stages = t.schedule.tiles, t.schedule.stages
    busy_track = [_busy_track(unit, seat) for unit, seat in enumerate(tiles.units)]
    idle_track = [_idle_track(unit, seat) for unit, seat in enumerate(tiles.units)]
    offset = t.start_cycle + arch.control.launch_cycles
    start, stall = trace.start[:rows] + offset, trace.stall[:rows]
    ts, dur = _span(start, tiles.occupy_cycles[:rows], arch.clock_mhz)
    stall_ts, stall_dur = _span(start - stall, stall, arch.clock_mhz)
    phases = [phase_of(stage) for stage in stages]
    columns = zip(
        tiles.unit[:rows].tolist(), tiles.stage[:rows].tolist(), tiles.kind[:rows].tolist(), ts, dur,
        start.tolist(), tiles.occupy_cycles[:rows].tolist(), (trace.end[:rows] + offset).tolist(),
        tiles.macs[:rows].tolist(), tiles.read_bytes[:rows].sum(axis=1).tolist(),
        tiles.write_bytes[:rows].sum(axis=1).tolist(), tiles.region[:rows].tolist(),
        stall.tolist(), trace.cause[:rows].tolist(), stall_ts, stall_dur, strict=True,
    )  # fmt: skip
    for (
        unit, stage, kind, at, length, first, cycles, ready, macs, read, written, region, held, cause, held_at, held_for
    ) in columns:  # fmt: skip
        name = stages[stage].name
        if held:
            yield {
                "ph": "X", "pid": _PROCESS, "tid": idle_track[unit], "name": CAUSE_NAMES[Cause(cause)], "cat": "idle",
                "ts": held_at, "dur": held_for, "cname": "grey",
                "args": {"start_cycle": first - held, "cycles": held, "before": name, "trip": trip},
            }  # fmt: skip
        yield {
            "ph": "X", "pid": _PROCESS, "tid": busy_track[unit], "name": name, "cat": phases[stage],
            "ts": at, "dur": length, "cname": _COLOURS[phases[stage]],
            "args": {
                "start_cycle": first, "cycles": cycles, "ready_cycle": ready, "kind": _KINDS[kind], "macs": macs,
                "bytes_read": read, "bytes_written": written, "region": region_text(region), "trip": trip,
            },
        }  # fmt: skip


_KINDS = {kind.value: kind.name.lower() for kind in Kind}


def region_text(region: list[int]) -> str:
    """Return ``k0:16 p0:8 q0:56``: channels, rows and columns of a tile, of the input for loads."""
    k0, k1, p0, p1, q0, q1 = region
    return f"k{k0}:{k1} p{p0}:{p1} q{q0}:{q1}"


def _event(arch: Architecture, track: int, name: str, category: str, start: int, cycles: int, args: Event) -> Event:
    ts, dur = _span(np.array([start]), np.array([cycles]), arch.clock_mhz)
    exact = {"start_cycle": start, "cycles": cycles, **args}
    return {
        "ph": "X", "pid": _PROCESS, "tid": track, "name": name, "cat": category,
        "ts": ts[0], "dur": dur[0], "args": exact,
    }  # fmt: skip


def _span(start: Array, cycles: Array, mhz: float) -> tuple[list[float], list[float]]:
    """Return ``ts`` and ``dur`` in microseconds. Both ends are rounded to nanoseconds, so neighbours still touch."""
    begin, end = (np.rint(c * (1e3 / mhz)).astype(np.int64) for c in (start, start + cycles))
    return _microseconds(begin).tolist(), _microseconds(end - begin).tolist()


def _microseconds(ns: Array) -> Array:
    """Return floats of which a reader that truncates ``value * 1000``, as Perfetto does, gets ``ns`` back."""
    value = ns / 1e3
    short = (value * 1e3).astype(np.int64) < ns
    return np.where(short, np.nextafter(value, np.inf), value)
