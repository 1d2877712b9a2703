"""The timeline: what every unit did when, as a Chrome trace that Perfetto and chrome://tracing open.

write_timeline(report.run.timing, report.run.arch, "timeline.json")

A track per unit: phases, and in them tiles and stalls; one for the critical path; counters of memories and of the DRAM
bus. Of a loop the first trip is shown and one that stands for all later ones. ``ts`` and ``dur`` are microseconds of
simulated time; ``args`` holds the exact cycles, counted from the start of the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from xaisim.hardware.architecture import Architecture
from xaisim.mapping.tiles import seats_of
from xaisim.report.counters import counters, drawn_trips
from xaisim.report.cycles import Analysis, analyse
from xaisim.report.events import (
    HOST,
    PATH,
    PROCESS,
    PROGRAM,
    Event,
    counter_events,
    event,
    path_events,
    tile_events,
    tiles_that_fit,
    track_of,
)
from xaisim.simulate.program import ProgramTiming, TimedLaunch, decision_cycles

MOST_EVENTS = 200_000
_COUNTER_SHARE, _PATH_SHARE = 5, 10
"""At most a fifth of all events are counters, at most a tenth the critical path."""
_MOST_POINTS = 1000
"""Of a counter, for every trip."""


def timeline_events(timing: ProgramTiming, arch: Architecture, *, most: int = MOST_EVENTS) -> list[Event]:
    """Return the events of a program: names of tracks, launches and trips, counters, then the tiles of the trips shown.

    Where there would be more than ``most``, counters get coarser and the track of the critical path goes, then later
    trips are left out, then the last tiles of first trips.
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
    events, notes = list(_track_names(arch)), []
    analyses = [analyse(t) for t in timing.launches]
    for analysis in analyses:
        events += _launch_events(analysis, arch)
        notes += [f"{analysis.launch.launch.kernel}: {text}" for text in _undrawn(analysis.launch)]
    drawn, told = _counted(analyses, arch, most // _COUNTER_SHARE)
    events, notes = events + drawn, notes + told
    drawn = [e for analysis in analyses for e in path_events(analysis, arch)]
    if len(drawn) <= most // _PATH_SHARE:
        events += drawn
    else:
        notes.append(f"the track of the critical path, which would take {len(drawn):,} events; tiles on it say so")
    shown = [(trip, part) for analysis in analyses for part in analysis.parts for trip in drawn_trips(part)]
    for trip, analysis in sorted(shown, key=lambda item: min(item[0], 2)):  # stable: all first trips, then the others
        count = analysis.launch.schedule.tiles.rows
        rows = tiles_that_fit(analysis, trip, most - len(events))
        if rows < count:
            rows = rows if trip == 1 else 0
            some = f" beyond its first {rows:,} of {count:,} tiles" if rows else ""
            kernel = analysis.launch.launch.kernel
            which = "prologue" if analysis.ahead else f"trip {trip}"
            notes.append(f"{kernel}: {which}{some}, as {most:,} events are the most that is written")
        events += tile_events(analysis, arch, trip, rows)
    return events, notes


def _undrawn(t: TimedLaunch) -> Iterator[str]:
    steady, trips = t.timing.simulated_trips, t.timing.trips
    if t.count > 1:
        yield f"launches 2 to {t.count:,}, which are like the first"
    if steady > 2:
        yield f"trips 2 to {steady - 1}, before the loop repeats"
    if steady < trips:
        yield f"trips {steady + 1} to {trips}, which repeat trip {steady} every {t.timing.period_cycles:,} cycles"


def _counted(analyses: list[Analysis], arch: Architecture, most: int) -> tuple[list[Event], list[str]]:
    """Return the counters, coarse enough that there are at most ``most`` events, and how coarse they are."""
    tracks = len(arch.memories) * sum(len(drawn_trips(part)) for analysis in analyses for part in analysis.parts)
    points = min(_MOST_POINTS, most // tracks - 1)
    if points < 3:
        return [], [f"counters, as they may take {most:,} events"]
    events: list[Event] = []
    windows = {1}
    for analysis in analyses:
        found = counters(analysis, arch, points)
        events += counter_events(analysis, arch, found)
        windows |= {counter.window_cycles for name, counter in found.items() if name != arch.dram.name}
    coarse = f"single changes of full memories: counters show the most in windows of up to {max(windows):,} cycles"
    return events, [coarse] if max(windows) > 1 else []


def _track_names(arch: Architecture) -> Iterator[Event]:
    names = {PROGRAM: "program", PATH: "critical path"}
    for unit, seat in enumerate(seats_of(arch)):
        names[track_of(unit, seat)] = seat.name
    title = f"{arch.name}, {arch.clock_mhz:g} MHz"
    yield {"ph": "M", "pid": PROCESS, "tid": 0, "name": "process_name", "args": {"name": title}}
    for track, name in sorted(names.items()):
        yield {"ph": "M", "pid": PROCESS, "tid": track, "name": "thread_name", "args": {"name": name}}
        yield {"ph": "M", "pid": PROCESS, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}


def _launch_events(analysis: Analysis, arch: Architecture) -> Iterator[Event]:
    """Say on the tracks of program and host which kernel runs, and which of its trips are drawn."""
    t = analysis.launch
    trips, steady, period = t.timing.trips, t.timing.simulated_trips, t.timing.period_cycles
    start = t.start_cycle + arch.control.launch_cycles
    decide = decision_cycles(t.launch, arch)
    sync = t.host_cycles - arch.control.launch_cycles - decide
    args = {"trips": trips, "period_cycles": period, "host_cycles": t.host_cycles, "launches": t.count}
    yield event(arch, PROGRAM, t.launch.kernel, "launch", t.start_cycle, t.cycles, args)
    if arch.control.launch_cycles:
        yield event(arch, HOST, "start a kernel", "host", t.start_cycle, arch.control.launch_cycles, {})
    if sync:
        yield event(arch, HOST, "read back", "host", start + t.timing.cycles, sync, {})
    if decide:
        yield event(arch, HOST, "decide", "host", start + t.timing.cycles + sync, decide, {})
    if t.timing.begin:
        yield event(arch, PROGRAM, "prologue", "trip", start, t.timing.begin, {"trip": 0})
    if trips == 1:
        return
    ends = [t.timing.begin, *(int(trace.end.max()) for trace in analysis.traces)]
    for trip, (first, last) in enumerate(pairwise(ends), start=1):
        drawn = "" if trip in (1, steady) else ", not drawn"
        yield event(arch, PROGRAM, f"trip {trip}{drawn}", "trip", start + first, last - first, {"trip": trip})
    if steady < trips:
        name = f"trips {steady + 1}-{trips} repeat every {period:,} cycles, not drawn"
        yield event(arch, PROGRAM, name, "trip", start + ends[-1], t.timing.cycles - ends[-1], {})
