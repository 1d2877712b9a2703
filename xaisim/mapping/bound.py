"""The cost bound of a tile size, compiled: does it fit, and what do its cycles and its traffic amount to at least?

    cheapest(sizes, array_cycles, table, orders, CYCLES, …)     which order of loops, which size, and its cost

Array, vector unit and transfers overlap perfectly in the bound; half of what overlaps with nothing counts too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.costs import EnergyModel
from xaisim.mapping.nest import LOOPS
from xaisim.mapping.streams import Problem, hops_at, link_bytes_per_cycle, relevant

Array = np.ndarray
_T, _K, _C, _P, _Q = range(5)

CYCLES, ENERGY, PRODUCT = range(3)
"""What of a cost is to be least."""

# Columns of Table.stream
(_WEIGHT, _HALO, _PSUM, _BITS, _BIAS, _POINT, _DIMS, _MEMORY, _BUFFERS, _MOVED, _FROM_DRAM) = range(11)


class Table(NamedTuple):
    """A stage and a machine as the kernel reads them."""

    stream: Array
    rate: Array
    """(streams, 2): bytes per cycle and picojoules per byte of the way into the memory."""
    extent: Array
    """T K C P Q."""
    window: Array
    """(2, 4): size, stride, dilation and input extent along rows and columns."""
    free: Array
    """Bytes left in each memory."""
    outside: Array
    """Iterations of the loops of outer levels, T K C P Q."""
    facts: Array
    """Taps of a filter, 1 if channel-wise, 1 if weights are read turned, vector operations per output, lanes,
    vector pipeline, DMA issue cycles, burst bytes."""


def table_of(
    problem: Problem, level: int, arch: Architecture, free: dict[str, int], outside: tuple[int, ...], *, energy: bool
) -> Table:
    """Fill the table for one level of loops; ``outside`` counts the iterations around it."""
    names, srams, dram = list(free), {memory.name: memory for memory in arch.on_chip}, arch.dram
    rows, rates = [], []
    model = EnergyModel(arch) if energy else None
    for stream in problem.streams:
        for memory in hops_at(stream, level):
            at = stream.memories.index(memory)
            source = stream.memories[at - 1] if at else dram.name
            dims = sum(1 << LOOPS.index(dim) for dim in relevant(stream, problem))
            rows.append((
                stream.role == "weight", stream.halo, stream.role == "psum", stream.bits, stream.extra_bits_per_k,
                stream.point, dims, names.index(memory), srams[memory].buffers, stream.role != "psum", at == 0,
            ))  # fmt: skip
            rate = link_bytes_per_cycle(arch, source, memory) if at else dram.bytes_per_cycle
            rates.append((rate, model.memory_pj_per_byte(source, "read") if model else 0.0))
    nest, dma, vector = problem.nest, arch.dma, arch.vector
    numbers = np.array([
        nest.T, nest.K, nest.C, nest.P, nest.Q, *outside,
        *(n for w in (nest.rows, nest.columns) for n in (w.size, w.stride, w.dilation, w.extent)),
        nest.R * nest.S, problem.channelwise, problem.transposed, problem.work_per_output, vector.lanes,
        vector.pipeline_cycles, dma.issue_cycles, dram.burst_bytes,
        *free.values(),
    ], np.int64)  # fmt: skip
    return Table(
        stream=np.array(rows, np.int64).reshape(-1, 11),
        rate=np.array(rates, np.float64).reshape(-1, 2),
        extent=numbers[:5],
        outside=numbers[5:10],
        window=numbers[10:18].reshape(2, 4),
        facts=numbers[18:26],
        free=numbers[26:],
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _reach(window, outputs):  # type: ignore[no-untyped-def] # numba
    """Return the most input elements along one axis that neighbouring outputs read."""
    return min(((outputs - 1) * window[1] + window[0] - 1) // window[2] + 1, window[3])


@njit(cache=True, nogil=True, error_model="numpy")
def _tile(stream, table, size):  # type: ignore[no-untyped-def] # numba
    """Return (bits of a full tile, contiguous pieces of it in DRAM)."""
    k, c, p, q = size[_K], size[_C], size[_P], size[_Q]
    points = size[_T] if stream[_POINT] else 1
    if stream[_WEIGHT]:
        outer, whole = (c, k == table.extent[_K]) if table.facts[2] else (k, c == table.extent[_C])
        return points * (k * c * table.facts[0] * stream[_BITS] + k * stream[_BIAS]), 1 if whole else outer
    channels, rows, columns = k, p, q
    height, width = table.extent[_P], table.extent[_Q]
    if stream[_HALO]:
        channels = k if table.facts[1] else c
        rows, columns = _reach(table.window[0], p), _reach(table.window[1], q)
        height, width = table.window[0, 3], table.window[1, 3]
    pieces = channels * rows if columns < width else (channels if rows < height else 1)
    return points * channels * rows * columns * stream[_BITS], pieces


@njit(cache=True, nogil=True, error_model="numpy")
def _way(stream, rate, facts, bits, pieces):  # type: ignore[no-untyped-def] # numba
    """Return (cycles, bytes) of one transfer of a tile."""
    payload = bits / 8
    if stream[_FROM_DRAM]:
        payload = np.ceil(payload / pieces / facts[7]) * facts[7] * pieces
        return facts[6] + payload / rate, payload
    return np.ceil(payload / rate), payload


@njit(cache=True, nogil=True, error_model="numpy")
def _lay(table, size, count, used, tile, way):  # type: ignore[no-untyped-def] # numba
    """Write what does not depend on the order of loops; return whether all fits, and the least cycles of transfers.

    ``tile``: bytes of a buffer, buffers, different tiles, those of all levels; ``way``: cycles and bytes of a transfer.
    """
    for m in range(len(used)):
        used[m] = 0
    least = 0.0
    for s in range(len(table.stream)):
        stream = table.stream[s]
        distinct, everywhere = 1, 1
        for d in range(5):
            if (stream[_DIMS] >> d) & 1:
                distinct *= count[d]
                everywhere *= count[d] * table.outside[d]
        bits, pieces = _tile(stream, table, size)
        room, held = (bits + 63) // 64 * 8, min(everywhere, stream[_BUFFERS])
        used[stream[_MEMORY]] += room * held
        if used[stream[_MEMORY]] > table.free[stream[_MEMORY]]:
            return False, least
        tile[s, 0], tile[s, 1], tile[s, 2], tile[s, 3] = room, held, distinct, everywhere
        if stream[_MOVED]:
            way[s, 0], way[s, 1] = _way(stream, table.rate[s, 0], table.facts, bits, pieces)
            least += distinct * way[s, 0]
    return True, least


@njit(cache=True, nogil=True, error_model="numpy")
def _open(stream, count, order, outside):  # type: ignore[no-untyped-def] # numba
    """Return (changes of the tile while the loops run, sums open at once)."""
    inside, moves, open_sums = 1, 1, 1
    summing = outside[_C] > 1
    for d in order:
        inside *= count[d]
        if (stream[_DIMS] >> d) & 1:
            if count[d] > 1:
                moves = inside
            if summing:
                open_sums *= count[d]
        if d == _C and count[d] > 1:
            summing = True
    return moves, open_sums


@njit(cache=True, nogil=True, error_model="numpy")
def _fits(table, order, count, used, tile, moves):  # type: ignore[no-untyped-def] # numba
    """Write how often every stream's tile changes, and add the sums that are open; return whether they fit."""
    for s in range(len(table.stream)):
        stream = table.stream[s]
        moves[s], open_sums = _open(stream, count, order, table.outside)
        if stream[_PSUM]:
            used[stream[_MEMORY]] += tile[s, 0] * (min(tile[s, 3], tile[s, 1] * open_sums) - tile[s, 1])
            if used[stream[_MEMORY]] > table.free[stream[_MEMORY]]:
                return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _transfers(table, used, tile, way, moves):  # type: ignore[no-untyped-def] # numba
    """Return (cycles, bytes, picojoules) of all transfers: a tile once if all of a stream fit, else as it changes."""
    cycles, traffic, picojoules = 0.0, 0.0, 0.0
    for s in range(len(table.stream)):
        stream = table.stream[s]
        if not stream[_MOVED]:
            continue
        distinct, times = tile[s, 2], moves[s]
        more = tile[s, 0] * (distinct - min(distinct, stream[_BUFFERS]))
        if more <= table.free[stream[_MEMORY]] - used[stream[_MEMORY]]:
            times = min(times, distinct)
        cycles += times * way[s, 0]
        traffic += times * way[s, 1]
        picojoules += times * way[s, 1] * table.rate[s, 1]
    return cycles, traffic, picojoules


@njit(cache=True, nogil=True, error_model="numpy")
def cheapest(sizes, array_cycles, table, orders, figure, whole, slack, near):  # type: ignore[no-untyped-def] # numba
    """Return (order, size, cycles, picojoules) of the tiling of least ``figure``; order −1 where none fits.

    Within ``near`` times the least, less traffic wins, then the figure itself, then the larger tile, then the earlier
    order. With ``whole`` channels stay uncut where any such tiling fits.
    """
    which, cost, found = bounds(sizes, array_cycles, table, orders, slack)
    least, uncut = np.inf, np.inf  # of all, and of those with whole channels
    for j in range(found):
        value = _figure(cost[j], figure)
        least = min(least, value)
        if sizes[which[j, 1], _C] == table.extent[_C]:
            uncut = min(uncut, value)
    only = whole and np.isfinite(uncut)
    most = near * (uncut if only else least)
    best, traffic, bound, volume = -1, np.inf, np.inf, 0
    for j in range(found):
        value, o, i = _figure(cost[j], figure), which[j, 0], which[j, 1]
        if value > most or (only and sizes[i, _C] != table.extent[_C]):
            continue
        bus, size = cost[j, 1], 1
        for d in range(5):
            size *= sizes[i, d]
        if bus > traffic or (bus == traffic and (value > bound or (value == bound and size < volume))):
            continue
        alike = bus == traffic and value == bound and size == volume
        if best < 0 or not alike or (o, i) < (which[best, 0], which[best, 1]):
            best, traffic, bound, volume = j, bus, value, size
    if best < 0:
        return -1, -1, 0.0, 0.0
    return which[best, 0], which[best, 1], cost[best, 0], cost[best, 2]


@njit(cache=True, nogil=True, error_model="numpy")
def _figure(cost, figure):  # type: ignore[no-untyped-def] # numba
    if figure == PRODUCT:
        return cost[0] * cost[2]
    return cost[2] if figure == ENERGY else cost[0]


@njit(cache=True, nogil=True, error_model="numpy")
def bounds(sizes, array_cycles, table, orders, slack):  # type: ignore[no-untyped-def] # numba
    """Return (order, size) of what fits, its (cycles, bytes over the bus, picojoules), and how many there are.

    ``array_cycles``: of one tile. ``orders``: loop dimensions, outer to inner. What must take more than ``slack`` times
    the least cycles is left out and costs no time: the largest tiles come first, as they seldom take many.
    """
    least, found = np.inf, 0
    streams = len(table.stream)
    which = np.empty((len(orders) * len(sizes), 2), np.int64)
    cost = np.empty((len(orders) * len(sizes), 3))
    fixed, used, count = np.empty(len(table.free), np.int64), np.empty(len(table.free), np.int64), np.empty(5, np.int64)
    tile, way, moves = np.empty((streams, 4), np.int64), np.empty((streams, 2)), np.empty(streams, np.int64)
    for i in range(len(sizes) - 1, -1, -1):
        for d in range(5):
            count[d] = (table.extent[d] + sizes[i, d] - 1) // sizes[i, d]
        outputs = count[_T] * count[_K] * count[_P] * count[_Q]
        work = table.extent[_T] * table.extent[_K] * table.extent[_P] * table.extent[_Q] * table.facts[3]
        vector = work / table.facts[4] + outputs * table.facts[5]
        array = outputs * count[_C] * array_cycles[i]
        if max(vector, array) > slack * least:
            continue
        fits, transfer = _lay(table, sizes[i], count, fixed, tile, way)
        if not fits or transfer > slack * least:
            continue
        for o in range(len(orders)):
            for m in range(len(used)):
                used[m] = fixed[m]
            if not _fits(table, orders[o], count, used, tile, moves):
                continue
            transfer, traffic, picojoules = _transfers(table, used, tile, way, moves)
            longest = max(transfer, vector, array)
            # Half of the smaller parts counts too: they overlap only where there is a next tile to overlap with.
            rest = transfer + vector + array - longest
            cycles = longest + rest / max(1, outputs * count[_C])
            which[found, 0], which[found, 1] = o, i
            cost[found, 0], cost[found, 1], cost[found, 2] = cycles, traffic, picojoules
            found += 1
            least = min(least, cycles)
    return which, cost, found
