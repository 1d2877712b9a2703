"""The timeline: what every unit did when, as a Chrome trace that Perfetto and chrome://tracing open.

    write_timeline(report.run.timing, report.run.arch, "timeline.json")

Of a loop, the first trip and one that stands for all later ones are shown. ``ts`` and ``dur`` are microseconds of
simulated time; ``args`` holds the exact cycles.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.mapping.stages import Stage
from xaisim.mapping.tiles import Kind
from xaisim.simulate.clock import CAUSE_NAMES, UNITS, Cause, Trace, run_trip
from xaisim.simulate.program import ProgramTiming, TimedLaunch

Event = dict[str, Any]

MOST_EVENTS = 200_000
_CHIP = 1
_PROGRAM_TRACK, _HOST_TRACK = 0, 1
_TRACKS = {_PROGRAM_TRACK: "program", _HOST_TRACK: "host"}
_TRACKS |= {10 + 2 * unit: unit.name.lower() for unit in UNITS}
_TRACKS |= {11 + 2 * unit: f"{unit.name.lower()} idle" for unit in UNITS}
_COLOURS = {"forward": "rail_response", "backward": "rail_load", "path": "rail_animation", "idle": "grey"}


@dataclass(slots=True)
class _Recorder:
    """Collects events until there are enough, and counts what did not fit."""

    mhz: float
    most: int
    events: list[Event] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def room(self) -> int:
        """Events that still fit."""
        return self.most - len(self.events)

    def one(self, track: int, name: str, category: str, start: int, cycles: int, **args: Any) -> None:
        """Add one complete event; start and length in cycles."""
        self.many(track, [name], [category], np.array([start]), np.array([cycles]), [args])

    def many(
        self, track: int, names: list[str], categories: list[str], start: Array, cycles: Array, args: list[dict[str, Any]]
    ) -> None:
        """Add complete events of one track."""
        begin, end = nanoseconds(start, self.mhz), nanoseconds(start + cycles, self.mhz)
        columns = zip(
            names, categories, microseconds(begin).tolist(), microseconds(end - begin).tolist(),
            start.tolist(), cycles.tolist(), args, strict=True,
        )  # fmt: skip
        self.events += [
            {
                "ph": "X", "pid": _CHIP, "tid": track, "name": name, "cat": category, "ts": ts, "dur": dur,
                "cname": _COLOURS.get(category, "generic_work"), "args": {"start_cycle": first, "cycles": length, **rest},
            }
            for name, category, ts, dur, first, length, rest in columns
        ]  # fmt: skip


def nanoseconds(cycles: Array, mhz: float) -> Array:
    """Return cycles as whole nanoseconds, so that neighbours still touch after rounding."""
    return np.rint(cycles * (1e3 / mhz)).astype(np.int64)


def microseconds(ns: Array) -> Array:
    """Return the smallest floats of which a reader that truncates ``value · 1000`` gets the nanoseconds back."""
    value = ns / 1e3
    short = (value * 1e3).astype(np.int64) < ns
    return np.where(short, np.nextafter(value, np.inf), value)


def timeline_events(timing: ProgramTiming, arch: Architecture, *, most: int = MOST_EVENTS) -> list[Event]:
    """Return the events of a program: names of tracks first, then launches in order.

    Where more than ``most`` would be needed, later trips are left out before first ones are cut short.
    """
    return _record(timing, arch, most)[0]


def write_timeline(timing: ProgramTiming, arch: Architecture, path: str | Path, *, most: int = MOST_EVENTS) -> None:
    """Write the trace with a note of what it leaves out."""
    events, left_out = _record(timing, arch, most)
    notes = {
        "architecture": arch.name,
        "clock_mhz": arch.clock_mhz,
        "total_cycles": timing.cycles,
        "time_unit": "ts and dur are microseconds of simulated time, rounded to nanoseconds; args hold exact cycles",
        "left_out": left_out or ["nothing"],
    }
    # One event per line: small, and still readable with a pager.
    lines = ",\n".join(json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in events)
    text = json.dumps(notes, ensure_ascii=False, indent=1)
    Path(path).write_text(
        f'{{"displayTimeUnit":"ns","otherData":{text},\n"traceEvents":[\n{lines}\n]}}\n', encoding="utf-8"
    )


def _record(timing: ProgramTiming, arch: Architecture, most: int) -> tuple[list[Event], list[str]]:
    recorder = _Recorder(arch.clock_mhz, most)
    recorder.events += _track_names(arch)
    for t in timing.launches:
        _launch(recorder, t, arch)
    needed = [_trip_events(t) for t in timing.launches]
    notes: list[str] = []
    # First trips of all launches come before any later trip.
    for number, (t, count) in enumerate(zip(timing.launches, needed, strict=True)):
        start = t.start_cycle + arch.control.launch_cycles
        _trip(recorder, t, arch, t.timing.first, start, 1)
        if count > recorder.room and recorder.room <= 0:
            notes.append(f"{t.launch.kernel}: cut short, {recorder.most:,} events are shown at most")
        if t.timing.simulated_trips > 1:
            notes += _later_trips(recorder, t, arch, start, reserve=sum(needed[number + 1 :]))
    return recorder.events, notes


def _trip_events(t: TimedLaunch) -> int:
    """Return the number of events that one trip takes."""
    return len(t.schedule.tiles) + int((t.timing.first.stall > 0).sum())


def _track_names(arch: Architecture) -> Iterator[Event]:
    yield {"ph": "M", "pid": _CHIP, "name": "process_name", "args": {"name": f"{arch.name}, {arch.clock_mhz:g} MHz"}}
    for track, name in _TRACKS.items():
        yield {"ph": "M", "pid": _CHIP, "tid": track, "name": "thread_name", "args": {"name": name}}
        yield {"ph": "M", "pid": _CHIP, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}
