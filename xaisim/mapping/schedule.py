"""The static schedule of a kernel: its tiles in program order, with the buffer address of every one.

schedule = map_kernel(graph, arch)
verify(schedule, arch)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from xaisim.config import UserError, format_bytes
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.lower import Lowering
from xaisim.mapping.placement import Placement, place
from xaisim.mapping.rows import Rows
from xaisim.mapping.stages import Nest, Stage, Views, nest_of, stages
from xaisim.mapping.tiles import Allocations, Edge, Kind, TileGraph, Unit, seats_of
from xaisim.mapping.tiling import Tiling, choose_tiling, problem_of

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray


@dataclass(frozen=True)
class Schedule:
    """A mapped kernel: stages with their tilings, and all tiles in program order."""

    graph: Graph
    stages: tuple[Stage, ...]
    nests: tuple[Nest, ...]
    tilings: tuple[Tiling, ...]
    placement: Placement
    tiles: TileGraph
    dram_bytes: int
    """Largest number of bytes alive in DRAM at once, weights included."""

    @cached_property
    def peak_bytes(self) -> dict[str, int]:
        """Return the most bytes in use in each on-chip memory, resident tensors included."""
        allocations = self.tiles.allocations
        peaks = {}
        for index, name in enumerate(self.placement.free, start=1):
            mine = allocations.memory == index
            stage = self.tiles.stage[allocations.filled_by[mine]]
            ends = (allocations.address + allocations.size_bytes)[mine]
            starts = allocations.address[mine]
            used = 0
            for number in np.unique(stage):
                pairs = {(int(a), int(b)) for a, b in zip(starts[stage == number], ends[stage == number], strict=True)}
                used = max(used, sum(b - a for a, b in pairs))
            kept = sum(
                -(-self.graph.type_of(tensor).size_bits // 64) * 8
                for tensor, (memory, _) in self.placement.resident.items()
                if memory == name
            )
            peaks[name] = used + kept
        return peaks

    def stored_bits(self, op: str) -> int:
        """Return the bits kept from forward to backward by ``positive`` (masks) or ``pool_index`` nodes."""
        return sum(node.type.size_bits for node in self.graph.nodes if node.op == op)


def stage_graph(schedule: Schedule) -> nx.DiGraph:
    """Return which stage needs which: an edge where one reads what the other stores, nodes by stage index."""
    import networkx as nx  # 0.5 s that only reports pay

    views = Views(schedule.graph)
    maker = {node.name: stage.index for stage in schedule.stages for node in stage.nodes}
    graph = nx.DiGraph()
    graph.add_nodes_from(stage.index for stage in schedule.stages)
    for stage in schedule.stages:
        for operand in stage.operands:
            needed = {maker[source.name] for source in views.sources(operand.name) if source.name in maker}
            graph.add_edges_from((index, stage.index) for index in needed - {stage.index})
    return graph


def decides_inside(graph: Graph) -> bool:
    """Return whether the host has to choose something while the kernel runs."""
    return any(constant.chosen for constant in graph.constants.values())


def map_kernel(
    graph: Graph, arch: Architecture, *, sync: bool = False, tilings: Sequence[Tiling] | None = None
) -> Schedule:
    """Tile, lower and schedule a fixed-point kernel; raise ``UserError`` where it does not fit.

    With ``sync`` the host reads the first output (the logits) before anything that it chooses is loaded. Tilings are
    chosen unless they are given, one per stage.
    """
    parts = stages(graph)
    placement = place(graph, parts, arch)
    views = Views(graph)
    lowering = Lowering(arch, placement, views)
    nests, used = [], []
    free = tuple(placement.free.items())
    for stage in parts:
        nest = nest_of(stage)
        problem = problem_of(stage, nest, placement.streams[stage.index])
        tiling = choose_tiling(problem, arch, free, stage.name) if tilings is None else tilings[stage.index]
        lowering.stage(stage, problem, tiling)
        if sync and decides_inside(graph) and graph.outputs[0] in {o.name for o in stage.outputs}:
            lowering.sync(stage, graph.outputs[0])
        nests.append(nest)
        used.append(tiling)
    dram_bytes = _dram_bytes(graph, parts, placement, views)
    if dram_bytes > arch.dram.size:
        raise UserError(
            f"{arch.name}: the kernel needs {format_bytes(dram_bytes)} of {arch.dram.name}, "
            f"which has {format_bytes(arch.dram.size)}"
        )
    tiles = _assemble(lowering.rows, placement, arch)
    return Schedule(graph, tuple(parts), tuple(nests), tuple(used), placement, tiles, dram_bytes)


def map_again(schedule: Schedule, arch: Architecture, *, sync: bool = False) -> Schedule:
    """Lower the mapping of a schedule for another machine: one that differs in speed alone has the same tiles."""
    return map_kernel(schedule.graph, arch, sync=sync, tilings=schedule.tilings)


def _assemble(rows: Rows, placement: Placement, arch: Architecture) -> TileGraph:
    """Sort rows into program order, give every buffer an address, and turn reuse of addresses into edges."""
    key = np.concatenate(rows.key)
    order = np.argsort(key, kind="stable")
    place_of = np.empty_like(order)
    place_of[order] = np.arange(len(order))
    columns = {name: np.concatenate(parts)[order] for name, parts in rows.columns.items()}
    edges = np.concatenate(rows.edges, axis=1)
    edges[:2] = place_of[edges[:2]]
    allocations = np.concatenate(rows.allocations, axis=1)
    allocations[5:] = place_of[allocations[5:]]
    address, reuse = _addresses(allocations, placement)
    columns["unit"] = _seats(columns["unit"], columns["kind"], arch)
    edges = np.concatenate([edges, reuse, _bus_edges(columns["unit"], arch)], axis=1)
    edges = edges[:, np.lexsort((edges[2], edges[0], edges[1]))]
    memory, _, _, _, size, filled, released = allocations
    return TileGraph(
        **columns,
        edge_from=edges[0],
        edge_to=edges[1],
        edge_kind=edges[2],
        edge_distance=edges[3],
        edge_hold=np.where(edges[2] == Edge.BUS, columns["occupy_cycles"][edges[0]] - arch.dma.issue_cycles, 0),
        allocations=Allocations(memory, address, size, filled, released),
        units=seats_of(arch),
    )


def _seats(unit: Array, kind: Array, arch: Architecture) -> Array:
    """Return which unit of its kind every row runs on: of several engines the last stores, the others take turns."""
    engines = arch.dma.engines
    loads = kind == Kind.LOAD
    seat = np.where(unit == Unit.DMA, engines - 1, unit + engines - 1)
    seat[loads] = np.arange(int(loads.sum())) % max(1, engines - 1)
    return seat


def _bus_edges(seat: Array, arch: Architecture) -> Array:
    """Return the edges of a bus that engines share: it is granted in program order, trip after trip."""
    rows = np.flatnonzero(seat < arch.dma.engines)
    if arch.dma.engines == 1 or len(rows) == 0:
        return np.zeros((4, 0), np.int64)
    before, distance = np.roll(rows, 1), np.zeros(len(rows), np.int64)
    distance[0] = 1
    other = seat[before] != seat[rows]
    return np.stack([before, rows, np.full(len(rows), int(Edge.BUS)), distance])[:, other]


@dataclass(slots=True)
class _Block:
    """A range of a memory and the row that last used it (negative: in the trip before)."""

    start: int
    stop: int
    row: int
    distance: int


def _addresses(allocations: Array, placement: Placement) -> tuple[Array, Array]:
    """Return the address of every allocation and the edges that reuse of a range by another stage needs.

    Stages take turns at filling a memory from its low and its high end, so that the first tiles of a stage
    seldom wait for the last ones of the stage before.
    """
    memory, stage, stream, slot, size, filled, released = allocations
    groups = stage * 64 + stream
    starts = np.concatenate([[0], np.flatnonzero(groups[1:] != groups[:-1]) + 1, [len(groups)]])
    free = dict(enumerate(placement.free.values(), start=1))
    address = np.zeros(len(memory), np.int64)
    uses: list[tuple[int, int, int, int, int]] = []
    offset: dict[tuple[int, int], int] = {}
    for a, b in pairwise(starts):
        where, s = int(memory[a]), int(stage[a])
        slots, bytes_each = int(slot[a:b].max()) + 1, int(size[a])
        first = offset.get((s, where), 0)
        offset[s, where] = first + slots * bytes_each
        low = first + slot[a:b] * bytes_each
        address[a:b] = low if s % 2 == 0 else free[where] - low - bytes_each
        for i in range(slots):
            mine = a + np.flatnonzero(slot[a:b] == i)
            uses.append((where, int(address[mine[0]]), bytes_each, int(filled[mine[0]]), int(released[mine[-1]])))
    return address, _reuse_edges(uses)


def _reuse_edges(uses: list[tuple[int, int, int, int, int]]) -> Array:
    """Walk two trips over the ranges: who fills a range waits for its last user, in this trip or the one before."""
    blocks: dict[int, list[_Block]] = {}
    edges: list[tuple[int, int, int, int]] = []
    for trip in range(2):
        for memory_blocks in blocks.values():
            for block in memory_blocks:
                block.distance = 1
        for where, start, size, fills, releases in uses:
            stop, kept = start + size, []
            for block in blocks.get(where, []):
                if block.stop <= start or stop <= block.start:
                    kept.append(block)
                    continue
                if trip == 1:
                    edges.append((block.row, fills, int(Edge.BUFFER), block.distance))
                if block.start < start:
                    kept.append(_Block(block.start, start, block.row, block.distance))
                if stop < block.stop:
                    kept.append(_Block(stop, block.stop, block.row, block.distance))
            kept.append(_Block(start, stop, releases, 0))
            blocks[where] = kept
    unique = sorted(set(edges))
    return np.array(unique, np.int64).reshape(-1, 4).T


def _dram_bytes(graph: Graph, parts: list[Stage], placement: Placement, views: Views) -> int:
    """Return the peak of live tensors in DRAM over the stages, with all constants."""
    last: dict[str, int] = {}
    for stage in parts:
        for operand in stage.operands:
            for source in views.sources(operand.name):
                last[source.name] = stage.index
    for output in graph.outputs:
        for source in views.sources(output):
            last[source.name] = len(parts)
    types = graph.types()
    constants = sum(-(-c.type.size_bits // 8) for c in graph.constants.values())
    live = sum(-(-graph.inputs[name].size_bits // 8) for name in graph.inputs)
    peak = live
    dying: dict[int, list[str]] = {}
    for name, stage_index in last.items():
        dying.setdefault(stage_index, []).append(name)
    born: set[str] = set()
    for stage in parts:
        for made in stage.outputs:
            if made.name not in placement.resident:
                live += -(-made.type.size_bits // 8)
                born.add(made.name)
        peak = max(peak, live)
        for name in dying.get(stage.index, ()):
            if name in born:
                live -= -(-types[name].size_bits // 8)
    return constants + peak


def verify(schedule: Schedule, arch: Architecture) -> None:
    """Raise ``ValueError`` unless dependencies precede their users, footprints fit and every output is made once."""
    tiles = schedule.tiles
    within = tiles.edge_distance == 0
    if not (tiles.edge_from[within] < tiles.edge_to[within]).all():
        bad = np.flatnonzero(within & (tiles.edge_from >= tiles.edge_to))[0]
        raise ValueError(f"row {tiles.edge_to[bad]} waits for row {tiles.edge_from[bad]}, which comes later")
    sizes = np.array([memory.size for memory in arch.memories])
    allocations = tiles.allocations
    ends = allocations.address + allocations.size_bytes
    if (allocations.address < 0).any() or (ends > sizes[allocations.memory]).any():
        raise ValueError("an allocation lies outside its memory")
    for stage, nest in zip(schedule.stages, schedule.nests, strict=True):
        mine = (tiles.stage == stage.index) & (tiles.kind == 2)
        k, p, q = (tiles.region[mine, 1::2] - tiles.region[mine, 0::2]).T
        if int((k * p * q).sum()) != nest.K * nest.P * nest.Q:
            raise ValueError(f"{stage.name}: tiles make {int((k * p * q).sum())} of {nest.K * nest.P * nest.Q} outputs")
