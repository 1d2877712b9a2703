"""Ports of banked memories: rows of different units that need the same bank's port take turns, in program order.

    edges, hold = port_edges(out, prices, arch)

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
from xaisim.mapping.tiles import Edge

Array = np.ndarray
_PORT = int(Edge.PORT)


def port_edges(out: w.Out, reads: Array, writes: Array, arch: Architecture) -> tuple[Array, Array]:
    """Return (4, edges) from, to, kind, distance and the cycles that each edge holds a port.

    ``reads``, ``writes``: (rows, memories) bytes.
    """
    edges, holds = [np.zeros((4, 0), np.int64)], [np.zeros(0, np.int64)]
    for index, memory in enumerate(arch.memories):
        if isinstance(memory, Sram) and memory.banks is not None:
            mine = out.access[out.allocation[out.access[:, 1], w.A_MEMORY] == index]
            a = out.allocation[mine[:, 1]]
            first = a[:, w.A_ADDRESS] * memory.banks // memory.size
            last = (a[:, w.A_ADDRESS] + a[:, w.A_SIZE] - 1) * memory.banks // memory.size
            cycles = np.stack([reads[:, index], writes[:, index]], axis=1) / memory.bytes_per_cycle
            order = np.argsort(mine[:, 0], kind="stable")
            found = _take_turns(
                mine[order, 0], first[order], last[order], mine[order, 2], cycles, memory.banks, memory.ports,
                out.row[:, w.O_UNIT],
            )  # fmt: skip
            edges.append(found[:, :4].T)
            holds.append(found[:, 4])
    return np.concatenate(edges, axis=1), np.concatenate(holds)


@njit(cache=True, nogil=True)
def _take_turns(rows, first, last, writes, cycles, banks, ports, unit):  # type: ignore[no-untyped-def] # numba
    """Chain the users of every port over two trips; the second one's edges are those of all trips but the first."""
    holder = np.full((banks, 2), -1, np.int64)  # the row that had the port last
    held = np.zeros((banks, 2), np.int64)
    trip_of = np.zeros((banks, 2), np.int64)
    touched = np.zeros((banks, 2), np.bool_)
    edges = np.empty((4 * len(rows) * banks + 4, 5), np.int64)
    found = 0
    for trip in range(2):
        i = 0
        while i < len(rows):
            row, end = rows[i], i
            touched[:] = False
            while end < len(rows) and rows[end] == row:
                for bank in range(first[end], last[end] + 1):
                    touched[bank, writes[end]] = True
                end += 1
            need = np.zeros((banks, 2), np.int64)
            for way in range(2):
                spread = touched[:, way].sum()
                for bank in range(banks):
                    if touched[bank, way]:  # one port serves reads and writes where there is only one
                        need[bank, way if ports == 2 else 0] += np.int64(np.ceil(cycles[row, way] / spread))
            for bank in range(banks):
                for port in range(2):
                    if need[bank, port] == 0:
                        continue
                    before = holder[bank, port]
                    if trip == 1 and before >= 0 and unit[before] != unit[row]:
                        edges[found, 0], edges[found, 1], edges[found, 2] = before, row, _PORT
                        edges[found, 3], edges[found, 4] = 1 - trip_of[bank, port], held[bank, port]
                        found += 1
                    holder[bank, port], held[bank, port] = row, need[bank, port]
                    trip_of[bank, port] = trip
            i = end
    return edges[:found]
