"""Does every row that uses a buffer wait for the rows before it that do? From accesses and edges, without a clock.

check_buffers(tiles)        raises ``ValueError`` with the two rows

It sees buffers one by one. What lies in DRAM, and buffers of different stages at one address, only the executor
follows (``simulate/executor.py``), because there the bus and other rows in between may give the order, too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xaisim.mapping.tiles import Edge, TileGraph

Array = np.ndarray


_FINE, _TOO_EARLY, _EMPTY, _IN_USE = range(4)


def check_buffers(tiles: TileGraph) -> None:
    """Raise ``ValueError`` where a row reads a buffer before it is filled, or fills one that is still in use."""
    edges = np.flatnonzero((tiles.edge_distance == 0) & (tiles.edge_kind <= Edge.BUFFER))
    target, source = tiles.edge_to[edges], tiles.edge_from[edges]
    if (np.diff(target) < 0).any():  # a lowered schedule has them sorted
        order = np.argsort(target, kind="stable")
        target, source = target[order], source[order]
    waits = np.searchsorted(target, np.arange(tiles.rows + 1)), source
    use = tiles.accesses
    turn = np.argsort(use.row, kind="stable")
    accesses = use.row[turn], use.allocation[turn], use.writes[turn] == 1
    a, units = tiles.allocations, len(tiles.units)
    last = np.full((len(a.memory), units), -1, np.int64)
    fault, row, before = _reads(*accesses, a.slot >= 0, tiles.unit, *waits, last, last.copy())
    if fault == _FINE:
        fault, row, before = _reuses(*_successors(tiles), a.filled_by, last, tiles.unit, *waits)
    if fault == _TOO_EARLY:
        raise ValueError(f"row {row} reads a buffer without waiting for row {before}, which fills it")
    if fault == _EMPTY:
        raise ValueError(f"row {row} reads a buffer that nothing has filled")
    if fault == _IN_USE:
        raise ValueError(f"row {row} fills a buffer without waiting for row {before}, which uses it")


def _successors(tiles: TileGraph) -> tuple[Array, Array]:
    """Return pairs of allocations of which the second fills the buffer that the first had."""
    a = tiles.allocations
    order = np.lexsort((a.filled_by, a.slot, a.stream, a.address, a.memory))
    order = order[a.slot[order] >= 0]
    before, after = order[:-1], order[1:]
    same = np.ones(len(before), bool)
    for column in (a.memory, a.address, a.stream, a.slot):
        same &= column[before] == column[after]
    return before[same], after[same]


@njit(cache=True, nogil=True)
def _waits(row, before, unit, first, source):  # type: ignore[no-untyped-def] # numba
    """Return whether a row has an edge from the one ``before`` it, or stands behind it on the same unit."""
    if unit[row] == unit[before]:
        return True
    for edge in range(first[row], first[row + 1]):  # noqa: SIM110 # numba
        if source[edge] == before:
            return True
    return False


@njit(cache=True, nogil=True)
def _reads(rows, allocation, writes, buffers, unit, first, source, used, written):  # type: ignore[no-untyped-def] # numba
    """Return the first row that reads a buffer without waiting for the last one of every unit that wrote it.

    Accesses stand in the order of their rows; whole tensors, which are no ``buffers``, are made part by part. Writes
    into ``used`` which row of every unit is the last to use each allocation.
    """
    begin = 0
    while begin < len(rows):
        row, end = rows[begin], begin
        while end < len(rows) and rows[end] == row:
            end += 1
        for i in range(begin, end):
            if writes[i] or not buffers[allocation[i]]:
                continue
            filled = False
            for before in written[allocation[i]]:
                if before >= 0:
                    filled = True
                    if not _waits(row, before, unit, first, source):
                        return _TOO_EARLY, row, before
            if not filled:
                return _EMPTY, row, row
        for i in range(begin, end):
            used[allocation[i], unit[row]] = row
            if writes[i]:
                written[allocation[i], unit[row]] = row
        begin = end
    return _FINE, -1, -1


@njit(cache=True, nogil=True)
def _reuses(before, after, filled_by, used, unit, first, source):  # type: ignore[no-untyped-def] # numba
    """Return the first row that fills a buffer anew without waiting for the last row of every unit that used it."""
    for i in range(len(before)):
        row = filled_by[after[i]]
        for user in used[before[i]]:
            if user >= 0 and (user >= row or not _waits(row, user, unit, first, source)):
                return _IN_USE, row, user
    return _FINE, -1, -1
