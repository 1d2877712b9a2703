"""Where the cycles of a program go: to launches, to layers, along the critical path.

analysis = analyse(timed_launch)
path_part([analysis, ...], arch).spent        what the whole run spends its cycles on; they sum to it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Array
from xaisim.mapping.price import array_terms
from xaisim.mapping.schedule import stage_graph
from xaisim.mapping.tiles import TileGraph, Unit
from xaisim.report.report import CriticalPath, Gain, LaunchRow, LayerRow, PathCycles, PathPeriod, Report
from xaisim.simulate.clock import CAUSE_NAMES, Cause, Trace
from xaisim.simulate.critical import SPENT, Steps, critical_path, trip_traces
from xaisim.simulate.critical import CriticalPath as TilePath
from xaisim.simulate.program import TimedLaunch, decision_cycles
from xaisim.simulate.sensitivity import sensitivity
from xaisim.simulate.slack import slack

START, READ_BACK, DECIDE = "start a kernel", "read back", "decide"
"""What the host does between kernels, in place of a stage."""


class Analysis(NamedTuple):
    """A launch with the traces of the trips that ran, its critical path and the slack of its tiles."""

    launch: TimedLaunch
    traces: list[Trace]
    path: TilePath
    slack: dict[int, Array]
    prologue: Analysis | None = None
    """The same of what goes ahead of the first trip."""
    ahead: bool = False
    """This is that of a prologue."""

    @property
    def parts(self) -> tuple[Analysis, ...]:
        """The prologue, if there is one, and the trips."""
        return (self,) if self.prologue is None else (self.prologue, self)


def analyse(t: TimedLaunch) -> Analysis:
    """Find out what decided how long a launch takes."""
    schedule, timing, prologue = t.schedule, t.timing, None
    if schedule.prologue is not None and timing.prologue is not None:
        prologue = analyse(replace(t, schedule=schedule.prologue, timing=timing.prologue))._replace(ahead=True)
    traces = trip_traces(schedule.tiles, timing)
    path = critical_path(schedule.tiles, timing, traces)
    return Analysis(t, traces, path, slack(schedule.tiles, timing, traces), prologue)


def launch_row(t: TimedLaunch) -> LaunchRow:
    """Return a launch's line of the report."""
    return LaunchRow(
        kernel=t.launch.kernel,
        count=t.count,
        trips=t.timing.trips,
        points_in_flight=t.schedule.plan.choice.points,
        keep_on_chip=t.schedule.plan.choice.keep,
        keep_over_trips=t.schedule.plan.choice.stay,
        prologue_cycles=t.timing.begin,
        start_cycle=t.start_cycle,
        cycles=t.cycles,
        host_cycles=t.host_cycles,
        period_cycles=t.timing.period_cycles,
        tiles=t.schedule.tiles.rows,
    )


# --- critical path ----------------------------------------------------------------------------------------------------


def path_part(analyses: Sequence[Analysis], arch: Architecture) -> CriticalPath:
    """Join the launches' paths to that of the program; between them the host decides."""
    spent, periods = [], []
    for analysis in analyses:
        t, path = analysis.launch, analysis.path
        spent += _host_cycles(t, arch)
        spent += [part for a in analysis.parts for part in _spent(a.launch, a.path.whole, t.count)]
        if path.circuit is not None:
            own = tuple(_largest_first(_spent(t, path.circuit)))
            period = t.timing.period_cycles
            periods.append(PathPeriod(kernel=t.launch.kernel, cycles=period, trips=path.circuit_trips, spent=own))
    longest = max(analyses, key=lambda a: a.launch.timing.cycles * a.launch.count)
    return CriticalPath(
        cycles=sum(part.cycles for part in spent),
        spent=tuple(_largest_first(spent)),
        periods=tuple(periods),
        kernel=longest.launch.launch.kernel,
        stages=_chain(longest),
    )


def _largest_first(parts: list[PathCycles]) -> list[PathCycles]:
    return sorted(parts, key=lambda part: -part.cycles)


def _spent(t: TimedLaunch, steps: Steps, times: int = 1) -> list[PathCycles]:
    """Sum the cycles of a path that is taken so often by unit, stage and what they are spent on."""
    tiles = t.schedule.tiles
    table = np.zeros((len(tiles.units), len(t.schedule.stages), len(SPENT)), np.int64)
    np.add.at(table, (tiles.unit, tiles.stage), steps.spent(tiles) * times)
    return [
        PathCycles(
            kernel=t.launch.kernel, stage=t.schedule.stages[stage].name, unit=tiles.units[unit].name,
            what=SPENT[what], cycles=int(table[unit, stage, what]),
        )
        for unit, stage, what in zip(*np.nonzero(table), strict=True)
    ]  # fmt: skip


def _host_cycles(t: TimedLaunch, arch: Architecture) -> list[PathCycles]:
    decide = decision_cycles(t.launch, arch)
    read_back = t.host_cycles - arch.control.launch_cycles - decide
    host = {START: arch.control.launch_cycles, READ_BACK: read_back, DECIDE: decide}
    return [
        PathCycles(kernel=t.launch.kernel, stage=name, unit="host", what="busy", cycles=cycles * t.count)
        for name, cycles in host.items()
        if cycles
    ]


def _stage_cycles(analysis: Analysis) -> Array:
    """Return the cycles of the launches' path on each stage."""
    cycles = np.zeros(len(analysis.launch.schedule.stages), np.int64)
    for part in analysis.parts:
        tiles = part.launch.schedule.tiles
        np.add.at(cycles, tiles.stage, part.path.whole.spent(tiles).sum(axis=1) * part.launch.count)
    return cycles


def _chain(analysis: Analysis) -> tuple[str, ...]:
    """Return the chain of stages that depend on each other with most of the path's cycles."""
    import networkx as nx

    schedule, cycles = analysis.launch.schedule, _stage_cycles(analysis)
    graph = stage_graph(schedule)
    for _, reader, edge in graph.edges(data=True):
        edge["weight"] = int(cycles[reader])
    start = "start"  # gives the first stage of a chain its own cycles
    graph.add_weighted_edges_from((start, index, int(cycles[index])) for index in range(len(cycles)))
    chain = nx.dag_longest_path(graph)[1:]
    return tuple(schedule.stages[index].name for index in chain if cycles[index])


def with_sensitivity(report: Report, *, remap: bool = False) -> Report:
    """Return a report, made in this process, that says what more of each resource would buy."""
    gains = sensitivity(report.run.timing, report.run.arch, remap=remap)
    return report.model_copy(update={"sensitivity": tuple(Gain(**gain._asdict()) for gain in gains)})


# --- layers -----------------------------------------------------------------------------------------------------------


def _tile_text(t: TimedLaunch, index: int) -> str:
    """Return a stage's tile and the loops around it: ``K16 C64 P14 Q56; P by 14, K by 16``."""
    mapping, nest = t.schedule.mappings[index], t.schedule.nests[index]
    tile = " ".join(f"{dim}{extent}" for dim, extent in mapping.tile(nest).items() if dim != "T" or extent > 1)
    return f"{tile}; {mapping}"


def layer_rows(analysis: Analysis, arch: Architecture) -> list[LayerRow]:
    """Sum the tiles of every stage over all trips of all launches, and what is loaded for it before them."""
    t, count = analysis.launch, len(analysis.launch.schedule.stages)
    trips, busy = t.timing.trips, np.zeros((len(Unit), count), np.int64)
    macs, traffic = np.zeros(count, np.int64), np.zeros(count)
    spare = np.full(count, np.iinfo(np.int64).max)
    for part in analysis.parts:
        tiles, times = part.launch.schedule.tiles, part.launch.timing.trips * t.count
        kind = np.array([seat.kind for seat in tiles.units])[tiles.unit]
        np.add.at(busy, (kind, tiles.stage), tiles.occupy_cycles * times)
        np.add.at(macs, tiles.stage, tiles.macs * times)
        np.add.at(traffic, tiles.stage, (tiles.read_bytes[:, 0] + tiles.write_bytes[:, 0]) * times)
        for slacks in part.slack.values():
            np.minimum.at(spare, tiles.stage, slacks)
    on_path, stalls, spans = _stage_cycles(analysis), stage_stalls(analysis), stage_spans(analysis)
    terms = array_terms(t.schedule.tiles, t.schedule.plan, arch)
    return [
        LayerRow(
            kernel=t.launch.kernel,
            stage=stage.name,
            op="+".join([stage.anchor.op, *dict.fromkeys(node.op for node in stage.tail)]),
            backward=stage.anchor.backward,
            trips=trips,
            tiling=_tile_text(t, stage.index),
            macs=int(macs[stage.index]),
            array_cycles=int(busy[Unit.ARRAY, stage.index]),
            array_terms=_times_trips(terms[stage.index], trips * t.count),
            vector_cycles=int(busy[Unit.VECTOR, stage.index]),
            dma_cycles=int(busy[Unit.DMA, stage.index]),
            dram_bytes=float(traffic[stage.index]),
            span_cycles=int(spans[stage.index]),
            bound_cycles=_bound(arch, int(macs[stage.index]), float(traffic[stage.index])),
            path_cycles=int(on_path[stage.index]),
            slack_cycles=int(spare[stage.index]),
            stall_cycles=_named_stalls(t, stalls[:, stage.index]),
        )
        for stage in t.schedule.stages
    ]


def _times_trips(terms: dict[str, int] | None, trips: int) -> dict[str, int] | None:
    return terms and {name: cycles * trips for name, cycles in terms.items()}


def _bound(arch: Architecture, macs: int, dram_bytes: float) -> int:
    return int(max(-(-macs // arch.peak_macs_per_cycle), np.ceil(dram_bytes / arch.dram.bytes_per_cycle)))


def _times(analysis: Analysis) -> list[tuple[TileGraph, Trace, int]]:
    """Return tiles and traces and how many trips each stands for: the last one for all that repeat it."""
    found, count = [], analysis.launch.count
    for part in analysis.parts:
        tiles, traces, trips = part.launch.schedule.tiles, part.traces, part.launch.timing.trips
        found += [(tiles, trace, count) for trace in traces[:-1]]
        found.append((tiles, traces[-1], (trips - len(traces) + 1) * count))
    return found


def stage_spans(analysis: Analysis) -> Array:
    """Return the cycles from the first start to the last end of every stage, summed over all trips."""
    count = len(analysis.launch.schedule.stages)
    spans = np.zeros(count, np.int64)
    for tiles, trace, times in _times(analysis):
        first, last = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        np.minimum.at(first, tiles.stage, trace.start)
        np.maximum.at(last, tiles.stage, trace.end)
        spans += times * np.maximum(last - first, 0)
    return spans


def stage_stalls(analysis: Analysis) -> Array:
    """Return (units, stages, causes): how long each unit stood idle before the tiles of a stage, over all trips."""
    schedule = analysis.launch.schedule
    table = np.zeros((len(schedule.tiles.units), len(schedule.stages), len(Cause)), np.int64)
    for tiles, trace, times in _times(analysis):
        np.add.at(table, (tiles.unit, tiles.stage, trace.cause), times * trace.stall)
    prologue = analysis.launch.timing.prologue
    if prologue is not None:  # every unit waits for the end of it before its first tile
        unit, first = np.unique(schedule.tiles.unit, return_index=True)
        table[unit, schedule.tiles.stage[first], Cause.LOAD] += (
            prologue.idle[unit, Cause.FINISHED] * analysis.launch.count
        )
    return table


def _named_stalls(t: TimedLaunch, table: Array) -> dict[str, dict[str, int]]:
    """Return the stalls of a stage, (units, causes), by name; what is 0 is left out."""
    named = {
        seat.name: {name: int(row[cause]) for cause, name in CAUSE_NAMES.items() if row[cause]}
        for seat, row in zip(t.schedule.tiles.units, table, strict=True)
    }
    return {unit: causes for unit, causes in named.items() if causes}
