"""Reuse of addresses: whoever fills a range of a memory waits for everyone who still uses what lay there.

edges = reuse_edges(out)          (4, edges) from, to, kind, distance
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xaisim.mapping import tables as w
from xaisim.mapping.prologue import OVER_TRIPS
from xaisim.mapping.tiles import Edge, Kind

Array = np.ndarray
_BUFFER, _COMPUTE = int(Edge.BUFFER), int(Kind.COMPUTE)


def reuse_edges(out: w.Out) -> Array:
    """Return the edges between stages that use the same bytes, and from the end of a trip to the next one's begin.

    Within a stage the walk itself lets a buffer's next tile wait for the last.
    """
    uses, users = _uses(out)
    edges = _beside(out, _walk_ranges(uses, users))
    # All are of one kind, so a number tells an edge: unique numbers are found faster than unique lines.
    rows = max(1, len(out.row))
    pair, distance = np.divmod(np.unique((edges[:, 0] * rows + edges[:, 1]) * 2 + edges[:, 3]), 2)
    return np.stack([pair // rows, pair % rows, np.full(len(pair), _BUFFER), distance])


def _beside(out: w.Out, edges: Array) -> Array:
    """Let the other arrays that begin sums in the same buffer wait like the one that comes first in the program."""
    row = out.row
    begins = (row[:, w.O_KIND] == _COMPUTE) & (row[:, w.O_C0] == 0)
    target = edges[:, 1]
    more = [edges]
    for n in range(1, int(row[:, w.O_UNIT].max(initial=0)) + 1):
        at = np.minimum(target + n, len(row) - 1)
        same = begins[target] & begins[at] & (at == target + n) & (row[at, w.O_UNIT] == row[target, w.O_UNIT] + n)
        found = edges[same].copy()
        if not len(found):
            break
        found[:, 1] += n
        more.append(found)
    return np.concatenate(more)


def _uses(out: w.Out) -> tuple[Array, Array]:
    """Return (memory, start, stop, row that fills it first) of every slot and the rows that use it last, by unit."""
    a = out.allocation[out.allocation[:, w.A_SLOT] != OVER_TRIPS]
    key = np.where(a[:, w.A_HOP] >= 0, a[:, w.A_HOP] * (1 << 32) + a[:, w.A_SLOT], -1 - np.arange(len(a)))
    by_slot = np.argsort(key, kind="stable")
    begins = np.flatnonzero(np.diff(key[by_slot], prepend=np.iinfo(np.int64).min))
    first, last = by_slot[begins], by_slot[np.append(begins, len(a))[1:] - 1]
    order = np.lexsort((a[first, w.A_SLOT], a[first, w.A_STREAM], a[first, w.A_STAGE]))
    first, last = first[order], last[order]
    start = a[first, w.A_ADDRESS]
    uses = np.stack([a[first, w.A_MEMORY], start, start + a[first, w.A_SIZE], a[first, w.A_FILLED]], axis=1)
    return uses, a[last, w.A_USER :]


# Loops over elements: to assign whole lines of a table takes numba seconds to compile.


@njit(cache=True, nogil=True)
def _copy(table, source, target):  # type: ignore[no-untyped-def] # numba
    for column in range(table.shape[1]):
        table[target, column] = table[source, column]


@njit(cache=True, nogil=True)
def _twice(table):  # type: ignore[no-untyped-def] # numba
    """Return the table with as much room again behind it."""
    larger = np.empty((2 * len(table), table.shape[1]), np.int64)
    for line in range(len(table)):
        for column in range(table.shape[1]):
            larger[line, column] = table[line, column]
    return larger


@njit(cache=True, nogil=True)
def _walk_ranges(uses, users):  # type: ignore[no-untyped-def] # numba
    """Go over two trips; the second one knows what the trip before left in every range."""
    count, units = users.shape
    block = np.empty((4 * count + 4, 5), np.int64)  # memory, start, stop, use, distance
    edges = np.empty((1024, 4), np.int64)
    blocks = found = 0
    for trip in range(2):
        for b in range(blocks):
            block[b, 4] = 1
        for u in range(count):
            memory, start, stop, fills = uses[u, 0], uses[u, 1], uses[u, 2], uses[u, 3]
            b, end = 0, blocks
            while b < end:
                old = block[b]
                if old[0] != memory or old[2] <= start or stop <= old[1]:
                    b += 1
                    continue
                if trip == 1:
                    if found + units >= len(edges):
                        edges = _twice(edges)
                    for unit in range(units):
                        if users[old[3], unit] >= 0:
                            edges[found, 0], edges[found, 1] = users[old[3], unit], fills
                            edges[found, 2], edges[found, 3] = _BUFFER, old[4]
                            found += 1
                head, tail = old[1] < start, stop < old[2]
                if blocks + 2 >= len(block):
                    block = _twice(block)
                    old = block[b]
                if head and tail:
                    _copy(block, b, blocks)
                    block[blocks, 1] = stop
                    blocks += 1
                    block[b, 2] = start
                    b += 1
                elif head:
                    block[b, 2] = start
                    b += 1
                elif tail:
                    block[b, 1] = stop
                    b += 1
                else:  # gone: the last block takes its place
                    blocks -= 1
                    _copy(block, blocks, b)
                    if end > blocks:
                        end = blocks
            block[blocks, 0], block[blocks, 1], block[blocks, 2], block[blocks, 3] = memory, start, stop, u
            block[blocks, 4] = 0
            blocks += 1
    return edges[:found]
