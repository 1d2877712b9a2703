"""Tiles as columns: one row per transfer or computation of a tile, and the edges between them.

    TileGraph.unit[i], .occupy_cycles[i], .latency_cycles[i]     row i runs on a unit for so long
    TileGraph.edge_from[j] → .edge_to[j]                         and waits for what it reads

Rows stand in program order: every unit takes its rows from top to bottom.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.memory import OPERANDS

Array = np.ndarray


class Unit(IntEnum):
    """What kind of unit a tile occupies. The host starts kernels and reads results back between them."""

    DMA = 0
    ARRAY = 1
    VECTOR = 2
    HOST = 3
    LINK = 4  # moves tiles from one memory on the chip to the next


class Seat(NamedTuple):
    """One unit of a machine: ``Seat(Unit.DMA, "dma1")`` is its second DMA engine."""

    kind: Unit
    name: str


SEATS = tuple(Seat(unit, unit.name.lower()) for unit in list(Unit)[:4])
"""The units of a machine that has one of each."""


def seats_of(arch: Architecture) -> tuple[Seat, ...]:
    """Return the units of a machine, in the order of ``TileGraph.units``: engines, arrays, vector unit, host, links."""
    engines = [Seat(Unit.DMA, name) for name in _numbered("dma", arch.dma.engines)]
    arrays = [Seat(Unit.ARRAY, name) for name in _numbered("array", arch.array.count)]
    inner = {memory.name: set[str]() for operand in OPERANDS for memory in arch.memories_for(operand)[1:]}
    for operand in OPERANDS:
        for memory in arch.memories_for(operand)[1:]:
            inner[memory.name].add(operand)
    names = [memory.name for memory in arch.on_chip if memory.name in inner]
    links = [name for memory in names for name in link_names(memory)[: 1 + bool(inner[memory] - {"weight", "psum"})]]
    return (*engines, *arrays, *SEATS[2:], *(Seat(Unit.LINK, name) for name in links))


def link_names(memory: str) -> tuple[str, str]:
    """Return the units that move tiles into a memory from the one outside it, and back: its ports work at once."""
    return f"link {memory}", f"link {memory} out"


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}{i}" for i in range(count)]


class Kind(IntEnum):
    """What a row does."""

    LOAD = 0
    COMPUTE = 1
    VECTOR = 2
    STORE = 3
    SYNC = 4  # the host reads a result and decides


class Edge(IntEnum):
    """Why a row waits for another."""

    DATA = 0  # it reads what the other makes: from its end on
    BUFFER = 1  # it fills a buffer that the other still uses: from its end on
    BUS = 2  # it needs the DRAM bus that the other engine holds: ``edge_hold`` cycles from its start
    PORT = 3  # it needs a memory port that the other unit holds: ``edge_hold`` cycles from its start


_EDGES = len(Edge)


@njit(cache=True, nogil=True)
def by_user(edges, rows):  # type: ignore[no-untyped-def] # numba
    """Return the order of edges (from, to, kind, …) by the row that waits, then the other one, then kind; stable.

    A radix sort with rows as digits: tens of times faster than to compare.
    """
    order, after = np.arange(edges.shape[1]), np.empty(edges.shape[1], np.int64)
    for column in (2, 0, 1):
        values = _EDGES if column == 2 else rows
        place = np.zeros(values + 1, np.int64)
        for edge in range(edges.shape[1]):
            place[edges[column, edge] + 1] += 1
        for value in range(values):
            place[value + 1] += place[value]
        for edge in order:
            value = edges[column, edge]
            after[place[value]] = edge
            place[value] += 1
        order, after = after, order
    return order


class Allocations(NamedTuple):
    """Which bytes of which on-chip memory hold a tile, from the row that fills it to the row that is last to use it."""

    memory: Array
    address: Array
    size_bytes: Array
    filled_by: Array
    released_by: Array
    stream: Array
    """Which operand's tile it is: an index into all operands of all stages."""
    slot: Array
    """Number of the buffer within its stream; −1 for a tensor that stays on the chip, −2 for one that stays there over
    all trips."""


class Accesses(NamedTuple):
    """Which rows use which allocations."""

    row: Array
    allocation: Array
    writes: Array
    """1 where the row writes it."""


class TileGraph(NamedTuple):
    """All tiles of one kernel body (one trip), in program order."""

    stage: Array
    unit: Array
    """Index into ``units``."""
    kind: Array
    occupy_cycles: Array
    port_cycles: Array
    """The least that a row takes because of the ports of on-chip memories, contained in ``occupy_cycles``."""
    latency_cycles: Array
    """Cycles after the unit is free again until the result is there."""
    macs: Array
    read_bytes: Array
    """(rows, memories): bytes read from each memory of the architecture."""
    write_bytes: Array
    stream: Array
    """Which operand a transfer moves: an index into all operands of all stages; −1 for computations."""
    region: Array
    """(rows, 6): the output region k0 k1 p0 p1 q0 q1 (the tensor's region for loads)."""
    channels: Array
    """(rows, 2): the channels c0 c1 that a computation sums over."""
    points: Array
    """(rows, 2): the path points t0 t1 of a trip that a row works on."""
    edge_from: Array
    edge_to: Array
    edge_kind: Array
    edge_distance: Array
    """0: within a trip; 1: on the row of the trip before."""
    edge_hold: Array
    """Cycles after its start for which a row holds a shared bus or port (0 for edges that wait for its end)."""
    allocations: Allocations
    accesses: Accesses
    units: tuple[Seat, ...] = SEATS

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.stage)
