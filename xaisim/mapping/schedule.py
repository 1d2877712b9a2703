"""The static schedule of a kernel: its tiles in program order, with the buffer address of every one.

schedule = map_kernel(graph, arch)
verify(schedule, arch)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.dram_service import Service, service
from xaisim.ir.graph import Graph
from xaisim.mapping import tables as w
from xaisim.mapping.choice import Choice
from xaisim.mapping.hazards import check_buffers
from xaisim.mapping.layout import Layout, Pieces, layout_of, pieces_of
from xaisim.mapping.lower import run_walk
from xaisim.mapping.nest import Mapping
from xaisim.mapping.placement import Placement
from xaisim.mapping.plan import DEFAULT, Plan, plan_kernel
from xaisim.mapping.ports import port_edges
from xaisim.mapping.price import Prices, price
from xaisim.mapping.prologue import prologue_rows
from xaisim.mapping.remat import STORED_OPS
from xaisim.mapping.reuse import reuse_edges
from xaisim.mapping.stages import Nest, Stage, views_of
from xaisim.mapping.tiles import Accesses, Allocations, Edge, Kind, TileGraph, Unit, by_user, seats_of

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray


class Fates(NamedTuple):
    """Bits of ReLU masks and pool indices by what becomes of them between forward and backward."""

    on_chip: int
    spilled: int
    """They wait in DRAM."""
    recomputed: int
    """Backward makes them again; nothing is kept."""


@dataclass(frozen=True)
class Schedule:
    """A mapped kernel: the plan with its stages and mappings, and all tiles in program order."""

    graph: Graph
    plan: Plan
    tiles: TileGraph
    layout: Layout
    """Where tensors lie in DRAM."""
    dram: Service | None = None
    """What each row costs of a DRAM with a timing, banks and rows; None for one that is a bus and no more."""
    prologue: Schedule | None = None
    """The loads of what stays on the chip over all trips; the first trip begins when all of it is there."""

    @cached_property
    def pieces(self) -> Pieces:
        """What every transfer over the bus copies."""
        return pieces_of(self.tiles, self.graph, self.plan, self.layout)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in program order."""
        return self.plan.stages

    @property
    def nests(self) -> tuple[Nest, ...]:
        """The loop bounds of every stage."""
        return tuple(problem.nest for problem in self.plan.problems)

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """The loops of every stage."""
        return self.plan.mappings

    @property
    def placement(self) -> Placement:
        """Where tensors live."""
        return self.plan.placement

    @cached_property
    def peak_bytes(self) -> dict[str, int]:
        """Return the most bytes in use in each on-chip memory, resident tensors included."""
        a = self.tiles.allocations
        names = list(self.placement.free[0])
        used = np.zeros((len(self.stages), 1 + len(names)), np.int64)
        tile = np.flatnonzero(a.slot >= 0)
        stage = self.tiles.stage[a.filled_by[tile]]
        place = np.ravel_multi_index(
            (stage, a.memory[tile], a.address[tile]),
            (len(self.stages), 1 + len(names), 1 + int(a.address.max(initial=0))),
        )
        _, first = np.unique(place, return_index=True)
        np.add.at(used, (stage[first], a.memory[tile][first]), a.size_bytes[tile][first])
        for kept in self.placement.resident.values():
            used[max(0, kept.first) : kept.last + 1, 1 + names.index(kept.memory)] += kept.size
        return dict(zip(names, used[:, 1:].max(axis=0).tolist(), strict=True))

    def stored_bits(self, op: str) -> int:
        """Return the bits kept from forward to backward by ``positive`` (masks) or ``pool_index`` nodes."""
        return sum(node.type.size_bits for node in self.graph.nodes if node.op == op and not node.backward)

    @property
    def fates(self) -> Fates:
        """What becomes of ReLU masks and pool indices, in bits of one path point."""
        found = [node for node in self.graph.nodes if node.op in STORED_OPS]
        kept = sum(node.type.size_bits for node in found if not node.backward and node.name in self.placement.resident)
        again = sum(node.type.size_bits for node in found if node.backward)
        return Fates(kept, sum(node.type.size_bits for node in found) - kept - again, again)


def stage_graph(schedule: Schedule) -> nx.DiGraph:
    """Return which stage needs which: an edge where one reads what the other stores, nodes by stage index."""
    import networkx as nx  # 0.5 s that only reports pay

    views = views_of(schedule.graph)
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


def map_kernel(graph: Graph, arch: Architecture, choice: Choice = DEFAULT, *, sync: bool = False) -> Schedule:
    """Tile, lower and schedule a fixed-point kernel; raise ``UserError`` where it does not fit.

    With ``sync`` the host reads the first output (the logits) before anything that it chooses is loaded.
    """
    return schedule_of(plan_kernel(graph, arch, choice), arch, sync=sync)


def map_again(schedule: Schedule, arch: Architecture, *, sync: bool = False) -> Schedule:
    """Lower the plan of a schedule for another machine: one that differs in speed alone has the same tiles."""
    return schedule_of(schedule.plan, arch, sync=sync)


def schedule_of(plan: Plan, arch: Architecture, *, sync: bool = False) -> Schedule:
    """Lower a plan to tiles in program order."""
    graph = plan.graph
    layout = layout_of(graph, plan)
    check_dram(layout, arch, 1)
    logits = -1
    if sync and decides_inside(graph):
        logits = next(s.index for s in plan.stages if graph.outputs[0] in {o.name for o in s.outputs})
    tiles, dram = _with_dram(_tile_graph(run_walk(plan, arch, logits), plan, arch), graph, plan, layout, arch)
    prologue = _prologue(graph, plan, layout, arch) if plan.placement.over_trips else None
    return Schedule(graph, plan, tiles, layout, dram, prologue)


def _prologue(graph: Graph, plan: Plan, layout: Layout, arch: Architecture) -> Schedule:
    """Lower the loads that go ahead of the first trip."""
    rows, allocations = prologue_rows(plan, arch)
    number = np.arange(len(rows))
    accesses = Accesses(number, number, np.ones(len(rows), np.int64))
    none = np.zeros((4, 0), np.int64)
    tiles = _columns(rows, price(rows, plan, arch), none, np.zeros(0, np.int64), allocations, accesses, arch)
    tiles, dram = _with_dram(tiles, graph, plan, layout, arch)
    return Schedule(graph, plan, tiles, layout, dram)


def _with_dram(
    tiles: TileGraph, graph: Graph, plan: Plan, layout: Layout, arch: Architecture
) -> tuple[TileGraph, Service | None]:
    """Return tiles with the time of a DRAM that has banks and rows, and what each row costs of it."""
    if arch.dram.timing is None:
        return tiles, None
    # A single engine issues a transfer while the bus is idle; of several, one issues while another moves data.
    gap = arch.dma.issue_cycles if arch.dma.engines == 1 else 0
    dram = service(arch.dram, pieces_of(tiles, graph, plan, layout), tiles.kind == Kind.STORE, gap_cycles=gap)
    return _with_dram_time(tiles, dram, arch), dram


def _with_dram_time(tiles: TileGraph, dram: Service, arch: Architecture) -> TileGraph:
    """Put the DRAM's own cycles and bytes in the place of those of a bus; the memory on the chip may take longer."""
    moves = np.array([seat.kind is Unit.DMA for seat in tiles.units])[tiles.unit]
    loads, stores = moves & (tiles.kind == Kind.LOAD), moves & (tiles.kind == Kind.STORE)
    busy = np.maximum(dram.occupancy_cycles, tiles.port_cycles)
    occupy = np.where(moves, arch.dma.issue_cycles + busy, tiles.occupy_cycles)
    read, write = tiles.read_bytes.copy(), tiles.write_bytes.copy()
    read[loads, 0], write[stores, 0] = dram.bus_bytes[loads], dram.bus_bytes[stores]
    hold = np.where(tiles.edge_kind == Edge.BUS, busy[tiles.edge_from], tiles.edge_hold)
    return tiles._replace(occupy_cycles=occupy, read_bytes=read, write_bytes=write, edge_hold=hold)


def _tile_graph(out: w.Out, plan: Plan, arch: Architecture) -> TileGraph:
    """Price the rows and add the edges of what they share: addresses, the bus and ports."""
    prices, a = price(out.row, plan, arch), out.allocation
    ports, hold, own = port_edges(out, prices, arch)
    prices.port_cycles = np.maximum(prices.port_cycles, own)
    prices.occupy_cycles = np.maximum(prices.occupy_cycles, own)
    others = np.concatenate([out.edge.T, reuse_edges(out)], axis=1)
    hold = np.concatenate([np.zeros(others.shape[1], np.int64), hold])
    allocations = Allocations(
        a[:, w.A_MEMORY], a[:, w.A_ADDRESS], a[:, w.A_SIZE], a[:, w.A_FILLED], a[:, w.A_RELEASED],
        a[:, w.A_STREAM], a[:, w.A_SLOT],
    )  # fmt: skip
    edges = np.concatenate([others, ports], axis=1)
    return _columns(out.row, prices, edges, hold, allocations, Accesses(*out.access.T), arch)


def _columns(
    rows: Array, prices: Prices, edges: Array, hold: Array, allocations: Allocations, accesses: Accesses,
    arch: Architecture,
) -> TileGraph:  # fmt: skip
    """Return rows as columns, with the edges of the bus."""
    unit, occupy = rows[:, w.O_UNIT], prices.occupy_cycles
    bus = _bus_edges(unit, arch)
    hold = np.concatenate([hold, occupy[bus[0]] - arch.dma.issue_cycles])
    edges = np.concatenate([edges, bus], axis=1)
    order = by_user(edges, len(rows))
    edges, hold = edges[:, order], hold[order]
    return TileGraph(
        stage=rows[:, w.O_STAGE],
        unit=unit,
        kind=rows[:, w.O_KIND],
        occupy_cycles=occupy,
        port_cycles=prices.port_cycles,
        latency_cycles=prices.latency_cycles,
        macs=prices.macs,
        read_bytes=prices.read_bytes,
        write_bytes=prices.write_bytes,
        stream=rows[:, w.O_STREAM],
        region=rows[:, w.O_REGION : w.O_REGION + 6],
        channels=rows[:, w.O_C0 : w.O_C1 + 1],
        points=rows[:, w.O_T0 : w.O_T1 + 1],
        edge_from=edges[0],
        edge_to=edges[1],
        edge_kind=edges[2],
        edge_distance=edges[3],
        edge_hold=hold,
        allocations=allocations,
        accesses=accesses,
        units=seats_of(arch),
    )


def _bus_edges(unit: Array, arch: Architecture) -> Array:
    """Return the edges of a bus that engines share: it is granted in program order, trip after trip."""
    rows = np.flatnonzero(unit < arch.dma.engines)
    if arch.dma.engines == 1 or len(rows) == 0:
        return np.zeros((4, 0), np.int64)
    before, distance = np.roll(rows, 1), np.zeros(len(rows), np.int64)
    distance[0] = 1
    other = unit[before] != unit[rows]
    return np.stack([before, rows, np.full(len(rows), int(Edge.BUS)), distance])[:, other]


def check_dram(layout: Layout, arch: Architecture, trips: int) -> None:
    """Raise ``UserError`` where a kernel and what each of its trips has of its own do not fit the DRAM."""
    if layout.bytes_for(trips) > arch.dram.size:
        raise UserError(
            f"{arch.name}: the kernel needs {layout.bytes_for(trips)} bytes of {arch.dram.name}, "
            f"which has {arch.dram.size}"
        )


def verify(schedule: Schedule, arch: Architecture) -> None:
    """Raise ``ValueError`` unless dependencies precede their users, footprints fit and every output is made once."""
    tiles = schedule.tiles
    within = tiles.edge_distance == 0
    if not (tiles.edge_from[within] < tiles.edge_to[within]).all():
        bad = np.flatnonzero(within & (tiles.edge_from >= tiles.edge_to))[0]
        raise ValueError(f"row {tiles.edge_to[bad]} waits for row {tiles.edge_from[bad]}, which comes later")
    sizes = np.array([memory.size for memory in arch.memories])
    check_buffers(tiles)
    for allocations in (tiles.allocations, *([schedule.prologue.tiles.allocations] if schedule.prologue else [])):
        ends = allocations.address + allocations.size_bytes
        if (allocations.address < 0).any() or (ends > sizes[allocations.memory]).any():
            raise ValueError("an allocation lies outside its memory")
    finished = np.flatnonzero(tiles.kind == Kind.VECTOR)
    sides = tiles.region[finished, 1::2] - tiles.region[finished, 0::2]
    volume = sides.prod(axis=1) * (tiles.points[finished, 1] - tiles.points[finished, 0])
    made = np.bincount(tiles.stage[finished], volume, len(schedule.stages)).astype(np.int64)
    for stage, nest in zip(schedule.stages, schedule.nests, strict=True):
        whole = nest.T * nest.K * nest.P * nest.Q
        if made[stage.index] != whole:
            raise ValueError(f"{stage.name}: tiles make {made[stage.index]} of {whole} outputs")
