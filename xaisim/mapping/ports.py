"""Ports of banked memories: rows of different units that need the same bank's port take turns, in program order.

    edges, hold, own = port_edges(out, prices, arch)

A memory of ``banks`` lies in them range by range, so its buffers may lie in different banks. A row's accesses to a
memory are spread evenly over the banks that its tiles touch; it holds each bank's port from its start for as many
cycles as those accesses take. Memories without ``banks`` are as many-ported as their users need.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.memory import Sram
from xaisim.mapping import tables as w
from xaisim.mapping.price import Prices
from xaisim.mapping.tiles import Edge

Array = np.ndarray
_PORT = int(Edge.PORT)


def port_edges(out: w.Out, prices: Prices, arch: Architecture) -> tuple[Array, Array, Array]:
    """Return (4, edges) from, to, kind, distance; the cycles that each edge holds a port; and each row's own need.

    A row's own need is the longest that it holds any port: with one port for both ways, its reads and its writes of a
    bank follow each other.
    """
    edges, holds = [np.zeros((4, 0), np.int64)], [np.zeros(0, np.int64)]
    own = np.zeros(len(out.row), np.int64)
    for index, memory in enumerate(arch.memories):
        if isinstance(memory, Sram) and memory.banks is not None:
            mine = out.access[out.allocation[out.access[:, 1], w.A_MEMORY] == index]
            a = out.allocation[mine[:, 1]]
            first = a[:, w.A_ADDRESS] * memory.banks // memory.size
            last = (a[:, w.A_ADDRESS] + a[:, w.A_SIZE] - 1) * memory.banks // memory.size
            moved = np.stack([prices.read_bytes[:, index], prices.write_bytes[:, index]], axis=1)
            order = np.argsort(mine[:, 0], kind="stable")
            found = _take_turns(
                mine[order, 0], first[order], last[order], mine[order, 2], prices.reads_sums,
                moved / memory.bytes_per_cycle, memory.banks, memory.ports, out.row[:, w.O_UNIT], own,
            )  # fmt: skip
            edges.append(found[:, :4].T)
            holds.append(found[:, 4])
    return np.concatenate(edges, axis=1), np.concatenate(holds), own


@njit(cache=True, nogil=True)
def _take_turns(rows, first, last, writes, reads_sums, cycles, banks, ports, unit, own):  # type: ignore[no-untyped-def] # numba
    """Chain the users of every port over two trips; the second one's edges are those of all trips but the first."""
    holder = np.full((banks, 2), -1, np.int64)  # the row that had the port last
    held = np.zeros((banks, 2), np.int64)
    trip_of = np.zeros((banks, 2), np.int64)
    touched = np.zeros((banks, 2), np.bool_)
    need = np.zeros((banks, 2), np.int64)
    edge_of = np.full((2, len(unit)), -1, np.int64)  # by distance and row: the last edge from there
    edges, found = np.empty((2 * len(rows) + 16, 5), np.int64), 0
    for trip in range(2):
        i = 0
        while i < len(rows):
            row, start, low, high, end = rows[i], found, banks, 0, i
            while end < len(rows) and rows[end] == row:
                touched[first[end] : last[end] + 1, writes[end]] = True
                if writes[end] and reads_sums[row]:
                    touched[first[end] : last[end] + 1, 0] = True
                low, high = min(low, first[end]), max(high, last[end] + 1)
                end += 1
            for way in range(2):
                spread = touched[low:high, way].sum()
                for bank in range(low, high):
                    if touched[bank, way]:  # one port serves reads and writes where there is only one
                        need[bank, way if ports == 2 else 0] += np.int64(np.ceil(cycles[row, way] / spread))
            for bank in range(low, high):
                for port in range(2):
                    wanted, before = need[bank, port], holder[bank, port]
                    need[bank, port], touched[bank, port] = 0, False
                    if wanted == 0:
                        continue
                    own[row] = max(own[row], wanted)
                    if trip == 1 and before >= 0 and unit[before] != unit[row]:
                        distance = 1 - trip_of[bank, port]
                        edge = edge_of[distance, before]
                        if edge < start or edges[edge, 1] != row:  # one edge for all banks that both need
                            if found == len(edges):
                                more = np.empty((2 * found, 5), np.int64)
                                more[:found] = edges
                                edges = more
                            edge, found = found, found + 1
                            edge_of[distance, before] = edge
                            edges[edge, 0], edges[edge, 1], edges[edge, 2] = before, row, _PORT
                            edges[edge, 3], edges[edge, 4] = distance, 0
                        edges[edge, 4] = max(edges[edge, 4], held[bank, port])
                    holder[bank, port], held[bank, port], trip_of[bank, port] = row, wanted, trip
            i = end
    return edges[:found]
