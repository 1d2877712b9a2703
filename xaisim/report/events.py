"""Trace events of a launch: tiles and stalls inside phases, layers, the critical path, counters.

    tile_events(analysis, arch, 1, drawn)       the tiles of the first trip that ``drawn`` (rows,) says
    layer_events(analysis, arch, 1, drawn)      a slice per layer and unit for all others

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
from xaisim.mapping.tiles import Kind, Seat, TileGraph, Unit
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


class _Blocks(NamedTuple):
    """Runs of neighbouring rows of a unit that have something in common, as columns."""

    first: Array
    """The row with which each block begins."""
    last: Array
    of_row: Array
    """(rows,): the block of every row; -1 for a row that is in none."""


def _blocks(tiles: TileGraph, group: Array, wanted: Array) -> _Blocks:
    """Cut the wanted rows of each unit into blocks of one group each; a row that is not wanted ends a block, too."""
    order = np.argsort(tiles.unit, kind="stable")
    unit, group, wanted = tiles.unit[order], group[order], wanted[order]
    breaks = np.concatenate([[True], (unit[1:] != unit[:-1]) | (group[1:] != group[:-1]) | ~wanted[:-1]])
    begins = wanted & breaks
    of_row = np.empty_like(order)
    of_row[order] = np.where(wanted, np.cumsum(begins) - 1, -1)
    ends = np.append(breaks[1:], True) | ~np.append(wanted[1:], False)
    return _Blocks(order[begins], order[wanted & ends], of_row)


def _phases(analysis: Analysis) -> tuple[Array, list[str]]:
    """Return the phase of every row, as a number and as a name by number."""
    schedule = analysis.launch.schedule
    of_stage = ["prologue"] * len(schedule.stages) if analysis.ahead else [phase_of(stage) for stage in schedule.stages]
    names = sorted(set(of_stage))
    return np.array([names.index(name) for name in of_stage])[schedule.tiles.stage], names


def phase_events(analysis: Analysis, arch: Architecture, trip: int) -> list[Event]:
    """Return the slices of a trip in which a unit works for one phase, from the stall before it on."""
    (phase, names), tiles = _phases(analysis), analysis.launch.schedule.tiles
    blocks = _blocks(tiles, phase, np.ones(tiles.rows, bool))
    titles = [names[number] for number in phase[blocks.first].tolist()]
    return _block_slices(analysis, arch, trip, blocks, titles, "phase", [_COLOURS[title] for title in titles])


def layer_events(analysis: Analysis, arch: Architecture, trip: int, drawn: Array) -> list[Event]:
    """Return a slice for every run of tiles of one layer on one unit that are not drawn, with what they come to."""
    tiles, stages = analysis.launch.schedule.tiles, analysis.launch.schedule.stages
    blocks = _blocks(tiles, tiles.stage, ~drawn)
    phase, names = _phases(analysis)
    titles = [f"{stages[stage].name}, tiles not drawn" for stage in tiles.stage[blocks.first].tolist()]
    colours = [_COLOURS[names[number]] for number in phase[blocks.first].tolist()]
    events = _block_slices(analysis, arch, trip, blocks, titles, "layer", colours)
    mine = blocks.of_row >= 0
    sums = [
        np.bincount(blocks.of_row[mine], column[mine], len(events)).astype(np.int64).tolist()
        for column in (np.ones(tiles.rows), tiles.occupy_cycles, tiles.macs)
    ]
    for each, count, busy, macs in zip(events, *sums, strict=True):
        each["args"] |= {"tiles": count, "busy_cycles": busy, **({"macs": macs} if macs else {})}
    return events


def _block_slices(
    analysis: Analysis, arch: Architecture, trip: int, blocks: _Blocks, titles: list[str], category: str,
    colours: list[str],
) -> list[Event]:  # fmt: skip
    """Return a slice per block, from the stall before its first row until the unit is free behind its last."""
    t, trace, tiles = analysis.launch, analysis.traces[trip - 1], analysis.launch.schedule.tiles
    start = trace.start[blocks.first] - trace.stall[blocks.first]
    cycles = trace.start[blocks.last] + tiles.occupy_cycles[blocks.last] - start
    start = start + t.start_cycle + arch.control.launch_cycles
    at, number = span(start, cycles, arch.clock_mhz), _trip_number(analysis, trip)
    tracks = _tracks(tiles)[blocks.first].tolist()
    return [
        _slice(tracks[n], titles[n], category, colours[n], at, n, {"start_cycle": begin, "cycles": length, **number})
        for n, (begin, length) in enumerate(zip(start.tolist(), cycles.tolist(), strict=True))
    ]


def tile_events(analysis: Analysis, arch: Architecture, trip: int, drawn: Array) -> Iterator[Event]:
    """Yield the tiles of a trip that are ``drawn`` (rows,), each behind the stall that held it up."""
    t, trace, tiles = analysis.launch, analysis.traces[trip - 1], analysis.launch.schedule.tiles
    rows = np.flatnonzero(drawn)
    phase, phases = _phases(analysis)
    start, stall = trace.start[rows] + t.start_cycle + arch.control.launch_cycles, trace.stall[rows]
    cycles = tiles.occupy_cycles[rows]
    at, held_at = span(start, cycles, arch.clock_mhz), span(start - stall, stall, arch.clock_mhz)
    number, details = _trip_number(analysis, trip), _details(analysis, trip, rows)
    columns = (rows, _tracks(tiles)[rows], tiles.stage[rows], phase[rows], start, cycles, stall, trace.cause[rows])
    for n, (row, track, stage, of, begin, length, held, why) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        if held:
            args = {"start_cycle": begin - held, "cycles": held, **number, "tile": row}
            yield _slice(track, CAUSE_NAMES[Cause(why)], "idle", _STALL_COLOURS[Cause(why)], held_at, n, args)
        args = {"start_cycle": begin, "cycles": length, **number, "tile": row, **details[n]}
        name = t.schedule.stages[stage].name
        yield _slice(track, name, phases[of], _COLOURS[phases[of]], at, n, args)


def summary_size(analysis: Analysis) -> int:
    """Return how many events the phases and layers of a trip take when no tile is drawn."""
    tiles = analysis.launch.schedule.tiles
    every = np.ones(tiles.rows, bool)
    return sum(len(_blocks(tiles, group, every).first) for group in (_phases(analysis)[0], tiles.stage))


def tile_sizes(analysis: Analysis, trip: int) -> Array:
    """Return (rows,) how many events each tile takes: itself, and its stall if it has one."""
    return np.asarray(1 + (analysis.traces[trip - 1].stall > 0))


def _trip_number(analysis: Analysis, trip: int) -> Event:
    """Return the argument ``trip``: 0 for the prologue, left out for the first."""
    if analysis.ahead:
        return {"trip": 0}
    return {} if trip == 1 else {"trip": trip}


def _tracks(tiles: TileGraph) -> Array:
    return np.array([track_of(unit, seat) for unit, seat in enumerate(tiles.units)])[tiles.unit]


def _slice(
    track: int, name: str, category: str, colour: str, at: tuple[list[float], list[float]], row: int, args: Event
) -> Event:  # fmt: skip
    return {
        "ph": "X", "pid": PROCESS, "tid": track, "name": name, "cat": category, "ts": at[0][row], "dur": at[1][row],
        "cname": colour, "args": args,
    }  # fmt: skip


def _details(analysis: Analysis, trip: int, rows: Array) -> list[Event]:
    """Return what else there is to say about each row: what it is, what it moves, how critical it is; no zeros."""
    tiles = analysis.launch.schedule.tiles
    details: list[Event] = [{"kind": _KINDS[kind]} for kind in tiles.kind[rows].tolist()]
    columns = {
        "latency_cycles": tiles.latency_cycles[rows],
        "macs": tiles.macs[rows],
        "bytes_read": tiles.read_bytes[rows].sum(axis=1),
        "bytes_written": tiles.write_bytes[rows].sum(axis=1),
        "slack_cycles": analysis.slack[trip][rows],
    }
    for name, column in columns.items():
        for n in np.flatnonzero(column).tolist():
            value = column[n].item()
            details[n][name] = int(value) if value == int(value) else value
    for each, region in zip(details, tiles.region[rows].tolist(), strict=True):
        each["region"] = region_text(region)
    for n in np.flatnonzero(analysis.path.rows[trip][rows]).tolist():
        details[n]["critical"] = True
    return details


# --- critical path and counters ---------------------------------------------------------------------------------------


def path_events(analysis: Analysis, arch: Architecture, *, by_layer: bool = False) -> list[Event]:
    """Return the critical path of the trips that are drawn, named by unit; neighbours of one layer are one slice.

    With ``by_layer`` a slice takes all units of a layer together and is named by the one with most of its cycles.
    """
    t = analysis.launch
    units, stages = t.schedule.tiles.units, t.schedule.stages
    unit, stage, start, until, trip = _path_rows(analysis)
    same = (stage[1:] == stage[:-1]) & (by_layer | (unit[1:] == unit[:-1]))
    first = np.flatnonzero(np.concatenate([[True], ~same | (start[1:] != until[:-1]) | (trip[1:] != trip[:-1])]))
    last = np.append(first[1:], len(unit)) - 1
    offset = t.start_cycle + arch.control.launch_cycles
    events = []
    for a, b in zip(first.tolist(), last.tolist(), strict=True):
        if until[b] > start[a]:
            spent = np.bincount(unit[a : b + 1], (until - start)[a : b + 1], len(units)).astype(np.int64)
            args: Event = {"stage": stages[stage[a]].name, "tiles": b - a + 1, "trip": int(trip[a])}
            if by_layer:
                args |= {units[u].name: int(spent[u]) for u in np.flatnonzero(spent)}
            name, cycles = units[int(spent.argmax())].name, int(until[b] - start[a])
            events.append(event(arch, PATH, name, "critical", int(start[a]) + offset, cycles, args))
    return events


def _path_rows(analysis: Analysis) -> tuple[Array, Array, Array, Array, Array]:
    """Return unit, stage, begin, end and trip of the rows on the path, each until the next takes over."""
    parts = []
    for part in analysis.parts:
        tiles = part.launch.schedule.tiles
        for trip in drawn_trips(part):
            rows, trace = np.flatnonzero(part.path.rows[trip]), part.traces[trip - 1]
            rows = rows[np.lexsort((rows, trace.start[rows]))]
            number = np.full(len(rows), 0 if part.ahead else trip)
            parts.append([tiles.unit[rows], tiles.stage[rows], trace.start[rows], trace.end[rows], number])
    unit, stage, start, end, trips = (np.concatenate(column) for column in zip(*parts, strict=True))
    return unit, stage, start, np.minimum(end, np.append(start[1:], end[-1:])), trips


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
