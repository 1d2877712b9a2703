"""Seeded faults: schedules that are wrong in one place, and the small kernel that they are made of.

for name, schedule in faults(kernel()): ...          "piece one byte off", …
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from random_graphs import RandomNetwork

from xaisim.attribution import METHODS
from xaisim.config import load_data
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph
from xaisim.ir.types import TensorType
from xaisim.mapping.order import arrange
from xaisim.mapping.schedule import Schedule, map_kernel
from xaisim.mapping.tiles import Edge, Kind, TileGraph
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges
from xaisim.simulate.buffers import Buffers, Tile
from xaisim.simulate.clock import run_trip
from xaisim.simulate.memory_check import RecordingDevice, Run

Array = np.ndarray
EDGES = ("edge_from", "edge_to", "edge_kind", "edge_distance", "edge_hold")


def recorded(graph: Graph, arch: Architecture, method: str, chosen: Numerics, x: Array, **options: Any) -> list[Run]:
    """Run a method in fixed point with the machine's accumulators; return the launches with their integers."""
    ranges = Ranges()
    METHODS[method].run(FloatDevice(observe=ranges.see), graph, x, 0, **options)
    formats = Formats(chosen, ranges.largest)
    device = RecordingDevice(
        formats, arch.array.accumulator_bits, policy=arch.array.accumulator, psum_bits=arch.array.stored_sum_bits,
        arrange=lambda fixed: arrange(fixed, arch),
    )  # fmt: skip
    METHODS[method].run(device, graph, x, 0, **options)
    return device.runs


@lru_cache(maxsize=1)
def kernel() -> tuple[Run, Architecture, Schedule]:
    """A gradient of two convolutions and a pool, on two DMA engines and buffers that hold a few rows."""
    net = RandomNetwork(5)
    x = net.input("input", TensorType((2, 8, 8)))
    x = net.add("relu", "relu", net.window(x, 4, (3, 3), (1, 1), (1, 1, 1, 1), True))
    x = net.add("pool", "maxpool", x, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    x = net.add("relu2", "relu", net.window(x, 6, (3, 3), (1, 1), (1, 1, 1, 1), True))
    graph = net.build(net.head(x, 3, False))
    data = load_architecture("edge_systolic_16").model_dump(mode="json")
    data["dma"]["engines"] = 2
    for memory in data["memories"][1:]:
        memory["size"] = "384B"
    arch = load_data(Architecture, data)
    picture = np.random.default_rng(0).normal(size=(1, 2, 8, 8))
    (run,) = recorded(graph, arch, "input_x_gradient", Numerics(), picture)
    return run, arch, map_kernel(run.graph, arch, sync=run.sync)


def faults(schedule: Schedule) -> Iterator[tuple[str, Schedule]]:
    """Yield the name of each fault and the schedule with it."""
    tiles = schedule.tiles
    for edge, kind in enumerate(tiles.edge_kind.tolist()):
        if kind <= Edge.BUFFER and tiles.edge_distance[edge] == 0:
            fewer = tiles._replace(**{name: np.delete(getattr(tiles, name), edge) for name in EDGES})
            row, before = tiles.edge_to[edge], tiles.edge_from[edge]
            trace = run_trip(fewer)
            if trace.start[row] < trace.end[before]:
                yield f"{Edge(kind).name.lower()} edge {before}→{row} dropped", replace(schedule, tiles=fewer)
    yield from _of_pieces(schedule)
    yield from _of_buffers(schedule)
    for row in np.flatnonzero(tiles.kind != Kind.SYNC).tolist():
        for axis, what in ((0, "channels"), (2, "rows")):
            region = tiles.region.copy()
            region[row, axis : axis + 2] += 1
            yield f"region of row {row} one off in {what}", replace(schedule, tiles=tiles._replace(region=region))


def _of_pieces(schedule: Schedule) -> Iterator[tuple[str, Schedule]]:
    pieces = schedule.pieces
    for i in np.flatnonzero(pieces.bits > 0).tolist():
        row = pieces.row[i]
        address = pieces.address.copy()
        address[i] += 8
        yield f"piece of row {row} one byte off", _with_pieces(schedule, pieces._replace(address=address))
        less = type(pieces)(*(np.delete(column, i) for column in pieces))
        yield f"piece of row {row} dropped", _with_pieces(schedule, less)


def _with_pieces(schedule: Schedule, pieces: Any) -> Schedule:
    faulty = replace(schedule)
    faulty.__dict__["pieces"] = pieces  # where the property keeps them
    return faulty


def _of_buffers(schedule: Schedule) -> Iterator[tuple[str, Schedule]]:
    """One row takes a buffer to be a byte or a whole buffer away; or a tile is put where the one before it still is."""
    tiles, use, a = schedule.tiles, schedule.tiles.accesses, schedule.tiles.allocations
    for number in range(len(use.row)):
        size = int(a.size_bytes[use.allocation[number]])
        for what, step in (("a byte on", 1), ("a byte back", -1), ("a buffer on", size), ("a buffer back", -size)):
            yield f"row {use.row[number]} {what}", _misled(schedule, number, step)
    for stream in np.unique(a.stream).tolist():
        mine = np.flatnonzero((a.stream == stream) & (a.slot >= 0))
        for before, after in zip(mine[:-1].tolist(), mine[1:].tolist(), strict=True):
            if a.slot[before] != a.slot[after]:
                address, slot = a.address.copy(), a.slot.copy()
                address[after], slot[after] = address[before], slot[before]
                reused = tiles._replace(allocations=a._replace(address=address, slot=slot))
                yield f"buffer of row {a.filled_by[before]} reused too early", replace(schedule, tiles=reused)


@dataclass(frozen=True)
class Misled(Schedule):
    """A schedule in which one access goes to a wrong address, and everyone else to the right one."""

    access: int = 0
    step: int = 0


def _misled(schedule: Schedule, access: int, step: int) -> Misled:
    same = {field.name: getattr(schedule, field.name) for field in fields(schedule)}
    return Misled(**same, access=access, step=step)


class WrongBuffers(Buffers):
    """What lies in buffers, as a misled row believes."""

    def used(self, row: int) -> list[tuple[Tile, int]]:
        right, schedule = super().used(row), self.schedule
        if not isinstance(schedule, Misled) or schedule.tiles.accesses.row[schedule.access] != row:
            return right
        wrong = schedule.tiles.accesses.allocation[schedule.access]
        return [(replace(t, bit=t.bit + 8 * schedule.step) if t.number == wrong else t, w) for t, w in right]


def without_edges(tiles: TileGraph, kind: Edge) -> TileGraph:
    """Return the tiles without the edges of a kind."""
    return tiles._replace(**{name: getattr(tiles, name)[tiles.edge_kind != kind] for name in EDGES})
