"""Run a schedule on modelled memories: every tile is moved and computed where and when the schedule says.

    outputs = execute(schedule, arch, feeds, trips=3)          what then lies in DRAM, bit for bit

DRAM and all on-chip memories are bytes, junk at first; numbers are packed at their real width. Rows run in the order of
the clock: a row reads at its start, and what it writes is there from its end on. Between rows that touch the same bit,
one of them writing, the program's order must hold in time: the later one begins when the earlier one is through.
Anything else is a :class:`MemoryFaultError`, as is reading beyond a tile; wrong addresses show in the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.architecture import Architecture
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.tiles import Kind, TileGraph, Unit
from xaisim.simulate.bits import Runs, overlap, read, write
from xaisim.simulate.clock import Trace, run_trip
from xaisim.simulate.dram_image import DramImage
from xaisim.simulate.tile_rows import Action, Actions

Array = np.ndarray


class MemoryFaultError(ValueError):
    """A row touched what it must not: the schedule is wrong."""


class Span(NamedTuple):
    """One side of a row in a trip: from when it begins to read or write its bits until it is through with them."""

    trip: int
    row: int
    writes: bool


def execute(
    schedule: Schedule, arch: Architecture, feeds: Mapping[str, Array], *, trips: int = 1, seed: int = 0
) -> dict[str, Array]:
    """Return the graph's outputs as they lie in DRAM when all trips are through, int64: (1, *shape), and
    (trips · points, *shape) of what differs from one path point to the next.

    ``feeds`` are the device's integers: tensors of one sample, and what every trip has of its own with one per path
    point. Raises :class:`MemoryFaultError` where rows get into each other's way.
    """
    generator = np.random.default_rng(seed)
    sizes = [schedule.layout.bytes_for(trips), *(memory.size for memory in arch.on_chip)]
    memories = [generator.integers(0, 256, size, np.uint8) for size in sizes]
    dram = DramImage(schedule, feeds)
    dram.fill(memories[0], trips)
    if schedule.prologue is not None:  # it is through when the first trip begins
        _run(schedule.prologue, arch, DramImage(schedule.prologue, feeds), feeds, memories, 1)
    _run(schedule, arch, dram, feeds, memories, trips)
    return {name: dram.tensor(memories[0], name, trips) for name in schedule.graph.outputs}


def _run(
    schedule: Schedule, arch: Architecture, dram: DramImage, feeds: Mapping[str, Array], memories: list[Array],
    trips: int,
) -> None:  # fmt: skip
    """Run all rows of all trips in the order of the clock."""
    actions = every_action(schedule, arch, dram, feeds)
    watch = Watch(schedule, actions, [len(memory) for memory in memories], trips)

    def placed(all_runs: Sequence[Runs], trip: int) -> list[Runs]:
        return [dram.in_trip(runs, trip) for runs in all_runs]

    results: dict[tuple[int, int], list[Array]] = {}
    for span, begins in in_order_of_time(schedule.tiles, clock(schedule.tiles, trips), arch.dma.issue_cycles):
        action = actions[span.row]
        if begins:
            watch.begin(span)
            if not span.writes:
                data = [read(memories[runs.memory], runs) for runs in placed(action.reads, span.trip)]
                results[span.trip, span.row] = action.work(span.trip, data)
            continue
        watch.finish(span)
        if span.writes:
            for runs, result in zip(placed(action.writes, span.trip), results.pop((span.trip, span.row)), strict=True):
                write(memories[runs.memory], runs, result)


def every_action(
    schedule: Schedule, arch: Architecture, dram: DramImage, feeds: Mapping[str, Array]
) -> list[Action]:  # fmt: skip
    """Return what each row does; raise :class:`MemoryFaultError` where its tiles lack what it needs."""
    actions, found = Actions(schedule, arch, dram, feeds), []
    for row in range(schedule.tiles.rows):
        try:
            found.append(actions.of(row))
        except ValueError as error:
            raise MemoryFaultError(f"{row_name(schedule, row)}: {error}") from None
    return found


class Watch:
    """Knows which rows still have to read or write what, and raises where a later one goes ahead of them."""

    def __init__(self, schedule: Schedule, actions: Sequence[Action], sizes: Sequence[int], trips: int) -> None:
        self.schedule, self.rows = schedule, schedule.tiles.rows
        self.runs: list[Runs] = []
        items = []
        for row, action in enumerate(actions):
            for writes, all_runs in enumerate((action.reads, action.writes)):
                for runs in all_runs:
                    if runs.low < 0 or runs.high > 8 * sizes[runs.memory]:
                        raise MemoryFaultError(f"{row_name(schedule, row)} reaches beyond a memory")
                    items.append((row, writes, runs.memory, runs.low, runs.high))
                    self.runs.append(runs)
        self.items = np.array(items, np.int64).reshape(-1, 5)
        self.first = np.searchsorted(self.items[:, 0], np.arange(self.rows + 1))
        self.through = np.zeros((trips * self.rows, 2), np.bool_)
        self.frontier = 0
        self.found = np.empty((4096, 3), np.int64)

    def begin(self, span: Span) -> None:
        """Check that all that goes ahead of this side of a row in the program is through with its bits."""
        order = span.trip * self.rows + span.row
        while self.frontier < order and self.through[self.frontier].all():
            self.frontier += 1
        count = _ahead(self.items, self.first, self.through, self.frontier, order, int(span.writes), self.found)
        for mine, other, theirs in self.found[:count].tolist():
            if overlap(self.runs[mine], self.runs[theirs]):
                name, before = row_name(self.schedule, span.row), row_name(self.schedule, other % self.rows)
                does, must = "writes" if span.writes else "reads", "write" if self.items[theirs, 1] else "read"
                raise MemoryFaultError(f"{name} {does} what {before} still has to {must}")

    def finish(self, span: Span) -> None:
        """This side of a row is through."""
        self.through[span.trip * self.rows + span.row, int(span.writes)] = True


@njit(cache=True, nogil=True)
def _ahead(items, first, through, frontier, order, writes, found):  # type: ignore[no-untyped-def] # numba
    """Write (own item, order and item of another row) for what may overlap and is ahead in the program, not through."""
    rows, count = len(first) - 1, 0
    row = order % rows
    for other in range(frontier, order):
        if through[other, 0] and through[other, 1]:
            continue
        for theirs in range(first[other % rows], first[other % rows + 1]):
            side = items[theirs, 1]
            if through[other, side] or not (writes or side):
                continue
            for mine in range(first[row], first[row + 1]):
                if (
                    items[mine, 1] == writes
                    and items[mine, 2] == items[theirs, 2]
                    and items[mine, 3] < items[theirs, 4]
                    and items[theirs, 3] < items[mine, 4]
                    and count < len(found)
                ):
                    found[count, 0], found[count, 1], found[count, 2] = mine, other, theirs
                    count += 1
    return count


def clock(tiles: TileGraph, trips: int) -> list[Trace]:
    """Return the trace of every trip."""
    traces: list[Trace] = []
    for _ in range(trips):
        traces.append(run_trip(tiles, traces[-1] if traces else None))
    return traces


def in_order_of_time(tiles: TileGraph, traces: Sequence[Trace], issue: int) -> Iterator[tuple[Span, bool]]:
    """Yield (side of a row, whether it begins or is through). In one cycle what ends is through before others begin.

    A row reads and writes from its start to its end, but DRAM only while it has the bus: behind its ``issue``
    cycles, and until its engine is free. The latency of a load is the way of data that have been read.
    """
    count = tiles.rows * len(traces)
    start = np.concatenate([trace.start for trace in traces])
    end = np.concatenate([trace.end for trace in traces])
    by_dma = np.array([seat.kind == Unit.DMA for seat in tiles.units])[tiles.unit]
    loads, stores = (np.tile(by_dma & (tiles.kind == kind), len(traces)) for kind in (Kind.LOAD, Kind.STORE))
    occupy = np.tile(tiles.occupy_cycles, len(traces))
    moving = issue * (occupy > issue)  # what moves nothing never has the bus
    begin = np.concatenate([start + moving * loads, start + moving * stores])
    through = np.concatenate([np.where(loads, np.where(occupy > issue, start + occupy, start), end), end])
    turn = np.concatenate([4 * np.arange(count), 4 * np.arange(count) + 1])  # program order; a row reads first
    at_once = begin == through  # without a duration: through behind its own begin, and before the next row's
    time = np.concatenate([begin, through])
    phase = np.concatenate([np.ones(2 * count, np.int64), at_once.astype(np.int64)])
    for event in np.lexsort((np.concatenate([turn, turn + 2]), phase, time)).tolist():
        side, number = divmod(event % (2 * count), count)
        yield Span(number // tiles.rows, number % tiles.rows, bool(side)), event < 2 * count


def row_name(schedule: Schedule, row: int) -> str:
    """Return ``row 17 (load of conv1)``."""
    kind = Kind(int(schedule.tiles.kind[row])).name.lower()
    return f"row {row} ({kind} of {schedule.stages[schedule.tiles.stage[row]].name})"
