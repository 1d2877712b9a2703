"""Allot the tables that the walk writes to: at most so many rows, edges, buffers and accesses, as the loops have it.

    sizes.add_stage(problem, mapping, streams, hops, seats, arrays)      stage after stage
    out, state = allot(tables, sizes, depth=2, units=6)

The walk does not look where tables end, so these are bounds; all of them are in proportion to the tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xaisim.mapping import tables as w
from xaisim.mapping.nest import Mapping
from xaisim.mapping.streams import Problem


@dataclass(slots=True)
class Sizes:
    """Upper bounds of what the walk writes; ``tiles``, ``slots`` and ``made`` are exact."""

    rows: int = 1  # one more, which is never used but as scratch
    edges: int = 0
    allocations: int = 0
    accesses: int = 0
    queue: int = 0
    tiles: int = 0
    slots: int = 0
    made: int = 0

    def add_stage(
        self, problem: Problem, mapping: Mapping, streams: Sequence[Sequence[int]], hops: Sequence[Sequence[int]],
        units: int, arrays: int,
    ) -> None:  # fmt: skip
        """Make room for one stage: ``streams`` are its lines of ``Tables.stream``, ``hops`` all of ``Tables.hop``."""
        loops = _loops(problem, mapping)
        steps = math.prod(count for _, _, count in loops)
        done = steps // math.prod(count for dim, _, count in loops if dim == w.C)  # sums begun, and sums completed
        computed = steps * arrays if problem.on_array else 0
        self.rows += computed + done + 1  # the host's
        self.edges += 1
        outputs = 0
        for stream in streams:
            role, ways = stream[w.R_ROLE], hops[stream[w.R_HOP] : stream[w.R_HOP] + stream[w.R_HOPS]]
            if role == w.PSUM:
                self.allocations += done
                self.edges += done * arrays * (units + 1)
                self.accesses += computed + done
            elif role == w.OUTPUT:
                outputs += 1
                self._add_moves(done * len(ways), 2 * units)
                self.allocations += stream[w.R_KEPT]
                self.accesses += done * stream[w.R_KEPT]
            else:
                sources = stream[w.R_SOURCES]
                readers = computed if problem.on_array and role != w.TAIL else done
                self.edges += readers * max(1, sources)
                self.accesses += readers * max(1, sources)
                for hop in ways:
                    loads = _loads(loops, stream, hop)
                    self._add_moves(loads, units + 2 + 2 * sources)
                    self.accesses += loads * sources * stream[w.R_KEPT]  # of the tensors that are passed on
        self.queue = max(self.queue, done * outputs)

    def _add_moves(self, moves: int, edges: int) -> None:
        """Make room for transfers, each with a buffer that it or its source fills and one that it reads."""
        self.rows += moves
        self.allocations += moves
        self.accesses += 2 * moves
        self.edges += edges * moves


def _loops(problem: Problem, mapping: Mapping) -> list[tuple[int, int, int]]:
    """Return (dimension, level, iterations of a full tile) of every loop, outer first."""
    levels = [level for level, loops in enumerate(mapping.levels) for _ in loops]
    counts = mapping.counts(problem.nest)
    return [("TKCPQ".index(dim), level, count) for level, (dim, count) in zip(levels, counts, strict=True)]


def _loads(loops: list[tuple[int, int, int]], stream: Sequence[int], hop: Sequence[int]) -> int:
    """Return how often another tile is asked for: whenever a loop that selects tiles, or one around it, goes on."""
    asked, passed = 1, 1
    for dim, level, count in loops:
        passed *= count
        if level <= hop[w.H_LEVEL] and (stream[w.R_DIMS] >> dim) & 1:
            asked = passed
    return min(asked, hop[w.H_DISTINCT]) if hop[w.H_SLOTS] >= hop[w.H_DISTINCT] else asked


def allot(tables: w.Tables, sizes: Sizes, depth: int, units: int) -> tuple[w.Out, w.State]:
    """Return empty tables; memory that is not written is never touched."""
    hops, tensors = len(tables.hop), len(tables.maker)
    counter, hop = np.zeros(8, np.int64), np.zeros((hops, 4), np.int64)
    counter[w.N_CHOICE] = -1
    hop[:, [w.AT_LAST, w.AT_CURRENT]] = -1
    out = w.Out(
        row=np.empty((sizes.rows, w.ROW_COLUMNS), np.int64),
        edge=np.empty((sizes.edges, 4), np.int64),
        allocation=np.empty((sizes.allocations, w.A_USER + units), np.int64),
        access=np.empty((sizes.accesses, 3), np.int64),
        made=np.full(sizes.made, -1, np.int64),
        tensor_allocation=np.full(tensors, -1, np.int64),
        counter=counter,
    )
    state = w.State(
        iteration=np.zeros(int(tables.stage[:, w.S_LOOPS].max()), np.int64),
        low=np.zeros((depth, 5), np.int64),
        high=np.zeros((depth, 5), np.int64),
        hop=hop,
        tile=np.full(sizes.tiles, -1, np.int64),
        slot=np.full(sizes.slots, -1, np.int64),
        queue=np.empty((sizes.queue, w.QUEUE_COLUMNS), np.int64),
    )
    return out, state


def written(out: w.Out) -> w.Out:
    """Return what the walk wrote, without the room that is left."""
    used = out.counter[[w.N_ROWS, w.N_EDGES, w.N_ALLOCATIONS, w.N_ACCESSES]].tolist()
    tables = out.row, out.edge, out.allocation, out.access
    assert all(n <= len(table) for n, table in zip(used, tables, strict=True)), "a bound of allot.py is too low"
    row, edge, allocation, access = (table[:n] for n, table in zip(used, tables, strict=True))
    return out._replace(row=row, edge=edge, allocation=allocation, access=access)
