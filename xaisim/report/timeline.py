"""The timeline: what every unit did when, as a Chrome trace that Perfetto and chrome://tracing open.

write_timeline(report.run.timing, report.run.arch, "timeline.json")

A track per unit: phases, and in them tiles and stalls, or layers where there are too many tiles; one for the critical
path; counters of memories and of the DRAM bus. Of a loop the first trip is shown and the one that repeats. ``ts`` and
``dur`` are microseconds of simulated time; ``args`` holds the exact cycles, counted from the start of the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from xaisim.hardware.architecture import Architecture
from xaisim.mapping.tiles import seats_of
from xaisim.report.counters import counters, drawn_trips
from xaisim.report.cycles import Analysis, analyse
from xaisim.report.detail import Part, choose
from xaisim.report.events import (
    HOST,
    PATH,
    PROCESS,
    PROGRAM,
    Event,
    counter_events,
    event,
    layer_events,
    path_events,
    phase_events,
    tile_events,
    track_of,
)
from xaisim.simulate.program import ProgramTiming, decision_cycles

MOST_EVENTS = 50_000
_COUNTER_SHARE, _PATH_SHARE = 10, 10
"""At most a tenth of all events are counters, at most a tenth the critical path."""
_MOST_POINTS = 1000
"""Of a counter, for every trip."""


def timeline_events(timing: ProgramTiming, arch: Architecture, *, most: int = MOST_EVENTS) -> list[Event]:
    """Return the events of a program: names of tracks, launches and trips, counters, critical path, phases, then tiles.

    Where there would be more than ``most``, counters and the critical path get coarser, then layers stand for the tiles
    that come last in each; of a program of very many launches not all are drawn.
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
        "args": "what is 0 is left out; so is trip 1",
        "left_out": left_out or ["nothing"],
    }
    trace = {"displayTimeUnit": "ns", "otherData": notes, "traceEvents": events}
    text = json.dumps(trace, ensure_ascii=False, separators=(",", ":"), check_circular=False)
    # One event per line, readable with a pager; inside a text the quotes would be escaped.
    Path(path).write_text(text.replace('},{"ph":', '},\n{"ph":'), encoding="utf-8")


def _record(timing: ProgramTiming, arch: Architecture, most: int) -> tuple[list[Event], list[str]]:
    """Return the events and, in words, what was left out."""
    analyses = [analyse(t) for t in timing.launches]
    names = list(_track_names(arch))
    counted, coarse = _counted(analyses, arch, most // _COUNTER_SHARE)
    path, joined = _critical(analyses, arch, most // _PATH_SHARE)
    # What a launch and its trips are called says what is drawn of them, but how many they are does not depend on it.
    program = sum(len(list(_launch_events(a, arch, [Part(p, 0, 1) for p in a.parts]))) for a in analyses)
    parts = choose(analyses, most - len(names) - program - len(counted) - len(path))
    events, notes = names, [*coarse, *joined]
    for number, analysis in enumerate(analyses):
        mine = [part for part in parts if part.launch == number]
        events += _launch_events(analysis, arch, mine)
        notes += [f"{analysis.launch.launch.kernel}: {text}" for text in _undrawn(analysis, mine, most)]
    events = events + counted + path
    for part in parts:
        if part.drawn is not None:
            events += phase_events(part.analysis, arch, part.trip)
            events += layer_events(part.analysis, arch, part.trip, part.drawn)
            events += tile_events(part.analysis, arch, part.trip, part.drawn)
    return events, notes


def _undrawn(analysis: Analysis, parts: Sequence[Part], most: int) -> Iterator[str]:
    """Say which trips of a launch are not shown, and of which not all tiles are."""
    t, last, count = analysis.launch.timing, drawn_trips(analysis)[-1], analysis.launch.count
    if count > 1:
        yield f"launches 2 to {count:,}, which are like the first"
    if last > 2:
        yield f"trips 2 to {last - 1}, before the loop repeats"
    if last < t.trips:
        yield f"trips {last + 1} to {t.trips}, which repeat trip {last} every {t.period_cycles:,} cycles"
    for part in parts:
        which = "prologue" if part.analysis.ahead else f"trip {part.trip}" if t.trips > 1 else "all of it"
        if part.drawn is None:
            yield f"{which}, as {most:,} events are the most that is written"
        elif not part.drawn.all():
            left = int((~part.drawn).sum())
            some = f"{left:,} of {len(part.drawn):,} tiles, which are in slices of their layers"
            yield f"{some}, in {which}, as {most:,} events are the most that is written"


def _critical(analyses: Sequence[Analysis], arch: Architecture, most: int) -> tuple[list[Event], list[str]]:
    """Return the track of the critical path, by unit or, in fewer events, by layer."""
    by_unit = [e for analysis in analyses for e in path_events(analysis, arch)]
    if len(by_unit) <= most:
        return by_unit, []
    found = [e for analysis in analyses for e in path_events(analysis, arch, by_layer=True)]
    if len(found) <= most:
        return found, [f"units on the critical path, which would take {len(by_unit):,} events: a slice for each layer"]
    return [], [f"the track of the critical path, which would take {len(found):,} events; tiles on it say so"]


def _counted(analyses: Sequence[Analysis], arch: Architecture, most: int) -> tuple[list[Event], list[str]]:
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


def _launch_events(analysis: Analysis, arch: Architecture, parts: Sequence[Part]) -> Iterator[Event]:
    """Say on the tracks of program and host which kernel runs, and what is drawn of its trips."""
    t = analysis.launch
    trips, period = t.timing.trips, t.timing.period_cycles
    start = t.start_cycle + arch.control.launch_cycles
    decide = decision_cycles(t.launch, arch)
    sync = t.host_cycles - arch.control.launch_cycles - decide
    told = {0 if part.analysis.ahead else part.trip: part.told for part in parts}
    args = {"trips": trips, "period_cycles": period, "host_cycles": t.host_cycles, "launches": t.count}
    name = t.launch.kernel + (told[1] if trips == 1 else "")
    yield event(arch, PROGRAM, name, "launch", t.start_cycle, t.cycles, args)
    if arch.control.launch_cycles:
        yield event(arch, HOST, "start a kernel", "host", t.start_cycle, arch.control.launch_cycles, {})
    if sync:
        yield event(arch, HOST, "read back", "host", start + t.timing.cycles, sync, {})
    if decide:
        yield event(arch, HOST, "decide", "host", start + t.timing.cycles + sync, decide, {})
    if t.timing.begin:
        yield event(arch, PROGRAM, f"prologue{told[0]}", "trip", start, t.timing.begin, {"trip": 0})
    if trips > 1:
        yield from _trip_events(analysis, arch, told)


def _trip_events(analysis: Analysis, arch: Architecture, told: dict[int, str]) -> Iterator[Event]:
    """Yield a slice for every trip that ran until the loop repeats, and one for all that repeat."""
    t, repeated = analysis.launch, drawn_trips(analysis)[-1]
    start, trips = t.start_cycle + arch.control.launch_cycles, t.timing.trips
    ends = [t.timing.begin, *(int(trace.end.max()) for trace in analysis.traces[:repeated])]
    for trip, (first, last) in enumerate(pairwise(ends), start=1):
        name = f"trip {trip}{told.get(trip, ', not drawn')}"
        yield event(arch, PROGRAM, name, "trip", start + first, last - first, {"trip": trip})
    if repeated < trips:
        every = f"every {t.timing.period_cycles:,} cycles"
        which = f"trips {repeated + 1}-{trips} repeat" if repeated + 1 < trips else f"trip {trips} repeats"
        name = f"{which} trip {repeated} {every}, not drawn"
        yield event(arch, PROGRAM, name, "trip", start + ends[-1], t.timing.cycles - ends[-1], {})
