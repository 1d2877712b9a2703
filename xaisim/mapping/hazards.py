"""Does every row that uses a buffer wait for the rows before it that do? From accesses and edges, without a clock.

check_buffers(tiles)        raises ``ValueError`` with the two rows

It sees buffers one by one. What lies in DRAM, and buffers of different stages at one address, only the executor
follows (``simulate/executor.py``), because there the bus and other rows in between may give the order, too.
"""

from __future__ import annotations

import numpy as np

from xaisim.mapping.tiles import Edge, TileGraph

Array = np.ndarray


def check_buffers(tiles: TileGraph) -> None:
    """Raise ``ValueError`` where a row reads a buffer before it is filled, or fills one that is still in use."""
    within = (tiles.edge_distance == 0) & (tiles.edge_kind <= Edge.BUFFER)
    edges = tiles.edge_to[within] * tiles.rows + tiles.edge_from[within]
    if (edges[1:] < edges[:-1]).any():  # a lowered schedule has them sorted
        edges = np.sort(edges)
    _check_reads(tiles, edges)
    _check_reuse(tiles, edges)


def _waits(tiles: TileGraph, edges: Array, before: Array, row: Array) -> Array:
    """Return whether each ``row`` has an edge from the one ``before`` it, or stands behind it on the same unit."""
    waits = tiles.unit[before] == tiles.unit[row]
    open_ = np.flatnonzero(~waits)
    if len(edges) and len(open_):
        key = row[open_] * tiles.rows + before[open_]
        waits[open_] = edges[np.minimum(np.searchsorted(edges, key), len(edges) - 1)] == key
    return waits


def _check_reads(tiles: TileGraph, edges: Array) -> None:
    """A tile is read behind the last row of every unit that wrote it. (Whole tensors are made part by part.)"""
    use, units = tiles.accesses, len(tiles.units)
    writes = np.flatnonzero(use.writes == 1)
    reads = np.flatnonzero((use.writes == 0) & (tiles.allocations.slot[use.allocation] >= 0))
    slot = use.allocation[writes] * units + tiles.unit[use.row[writes]]
    written = np.sort(slot * tiles.rows + use.row[writes])
    row, allocation = use.row[reads], use.allocation[reads]
    filled = np.zeros(len(reads), bool)
    for unit in np.unique(tiles.unit[use.row[writes]]).tolist():
        key = (allocation * units + unit) * tiles.rows
        last = written[np.maximum(np.searchsorted(written, key + row) - 1, 0)] if len(written) else key - 1
        some = (last >= key) & (last < key + row)
        before = np.where(some, last - key, row)
        bad = np.flatnonzero(some & ~_waits(tiles, edges, before, row))
        if len(bad):
            raise ValueError(
                f"row {row[bad[0]]} reads a buffer without waiting for row {before[bad[0]]}, which fills it"
            )
        filled |= some
    if not filled.all():
        raise ValueError(f"row {row[np.flatnonzero(~filled)[0]]} reads a buffer that nothing has filled")


def _check_reuse(tiles: TileGraph, edges: Array) -> None:
    """The row that fills a buffer anew waits for the last row of every unit that used what lay there."""
    use, a, units = tiles.accesses, tiles.allocations, len(tiles.units)
    last = np.full((len(a.memory), units), -1, np.int64)
    np.maximum.at(last, (use.allocation, tiles.unit[use.row]), use.row)
    order = np.lexsort((a.filled_by, a.slot, a.stream, a.address, a.memory))
    order = order[a.slot[order] >= 0]
    before, after = order[:-1], order[1:]
    same = np.ones(len(before), bool)
    for column in (a.memory, a.address, a.stream, a.slot):
        same &= column[before] == column[after]
    before, after = before[same], after[same]
    pair, unit = np.nonzero(last[before] >= 0)
    user, row = last[before[pair], unit], a.filled_by[after[pair]]
    bad = np.flatnonzero((user >= row) | ~_waits(tiles, edges, np.minimum(user, row), row))
    if len(bad):
        raise ValueError(f"row {row[bad[0]]} fills a buffer without waiting for row {user[bad[0]]}, which uses it")
