"""What the walk writes: rows, the edges between them, buffers and who uses them; and the region that a row works on.

row = new_row(out, stage, unit, LOAD, stream, hop)
edge(out, made, row, DATA, ZERO)               it waits for row ``made``
a = allocate(tables, out, state, stage, stream, hop, row)
use(out, row, a, ONE)                          and writes buffer ``a``
"""

from __future__ import annotations

from typing import Any

from numba import njit

from xaisim.mapping import tables as w

# The tables outlive the walk, so arrays need no reference counts; and what only the walk calls needs no entry from
# Python. Without either it compiles in half the time.
COMPILED: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
_INSIDE: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
part_of_walk: Any = njit(**COMPILED, **_INSIDE)


# --- rows and edges ---------------------------------------------------------------------------------------------------


@part_of_walk
def edge(out, source, target, kind, distance):  # type: ignore[no-untyped-def] # numba
    """Let one row wait for another."""
    e = out.counter[w.N_EDGES]
    out.counter[w.N_EDGES] = e + 1
    out.edge[e, 0], out.edge[e, 1], out.edge[e, 2], out.edge[e, 3] = source, target, kind, distance


@part_of_walk
def new_row(out, stage, unit, kind, stream, hop):  # type: ignore[no-untyped-def] # numba
    """Append a row; its region is not known yet."""
    i = out.counter[w.N_ROWS]
    out.counter[w.N_ROWS] = i + 1
    for column in range(w.ROW_COLUMNS):
        out.row[i, column] = 0
    out.row[i, w.O_STAGE], out.row[i, w.O_UNIT], out.row[i, w.O_KIND] = stage, unit, kind
    out.row[i, w.O_STREAM], out.row[i, w.O_HOP] = stream, hop
    return i


@part_of_walk
def made_index(tables, tensor, t, k, p, q):  # type: ignore[no-untyped-def] # numba
    """Return where the maker of a tile of a tensor stands in ``Out.made``."""
    index = t
    index = index * tables.maker[tensor, w.M_COUNT + 1] + k
    index = index * tables.maker[tensor, w.M_COUNT + 2] + p
    index = index * tables.maker[tensor, w.M_COUNT + 3] + q
    return tables.maker[tensor, w.M_AT] + index


@part_of_walk
def made(tables, out, tensor, row):  # type: ignore[no-untyped-def] # numba
    """Note that a row makes its part of a tensor."""
    t = out.row[row, w.O_T0] // tables.maker[tensor, w.M_STEP]
    k = out.row[row, w.O_REGION] // tables.maker[tensor, w.M_STEP + 1]
    p = out.row[row, w.O_REGION + 2] // tables.maker[tensor, w.M_STEP + 2]
    q = out.row[row, w.O_REGION + 4] // tables.maker[tensor, w.M_STEP + 3]
    out.made[made_index(tables, tensor, t, k, p, q)] = row


@part_of_walk
def wait_for_makers(tables, out, s, stream, region, row, distance):  # type: ignore[no-untyped-def] # numba
    """Let a row wait for the last row that makes any of what it reads (makers end in order)."""
    point = (tables.stream[stream, w.R_DIMS] >> w.T) & 1
    first = tables.stream[stream, w.R_SOURCE]
    for v in range(first, first + tables.stream[stream, w.R_SOURCES]):
        tensor, start, stop = tables.source[v, w.V_TENSOR], tables.source[v, w.V_START], tables.source[v, w.V_STOP]
        anywhere = tables.source[v, w.V_WHOLE] or tables.stream[stream, w.R_ROLE] == w.WEIGHT
        if not anywhere and (out.row[region, w.O_REGION + 1] <= start or stop <= out.row[region, w.O_REGION]):
            continue
        t = tables.maker[tensor, w.M_COUNT] - 1
        if point:
            t = (out.row[row, w.O_T1] - 1) // tables.maker[tensor, w.M_STEP]
        k, p = tables.maker[tensor, w.M_COUNT + 1] - 1, tables.maker[tensor, w.M_COUNT + 2] - 1
        q = tables.maker[tensor, w.M_COUNT + 3] - 1
        if not (anywhere or tables.stage[s, w.S_LINEAR]):
            if (
                out.row[region, w.O_REGION + 3] <= out.row[region, w.O_REGION + 2]
                or out.row[region, w.O_REGION + 5] <= out.row[region, w.O_REGION + 4]
            ):
                continue  # it lies in the padding alone
            # Loops nest, so of the tiles that a part touches the last one made is the last along every dimension.
            last = min(out.row[region, w.O_REGION + 1], stop) + tables.source[v, w.V_OFFSET] - start
            k = (last - 1) // tables.maker[tensor, w.M_STEP + 1]
            p = (out.row[region, w.O_REGION + 3] - 1) // tables.maker[tensor, w.M_STEP + 2]
            q = (out.row[region, w.O_REGION + 5] - 1) // tables.maker[tensor, w.M_STEP + 3]
        maker = out.made[made_index(tables, tensor, t, k, p, q)]
        if maker >= 0:  # else it is a running sum, which comes from the trip before
            edge(out, maker, row, w.DATA, distance)


# --- buffers ----------------------------------------------------------------------------------------------------------


@part_of_walk
def use(out, row, allocation, writes):  # type: ignore[no-untyped-def] # numba
    """Note that a row reads or writes a buffer."""
    a = out.counter[w.N_ACCESSES]
    out.counter[w.N_ACCESSES] = a + 1
    out.access[a, 0], out.access[a, 1], out.access[a, 2] = row, allocation, writes
    out.allocation[allocation, w.A_USER + out.row[row, w.O_UNIT]] = row
    out.allocation[allocation, w.A_RELEASED] = row
    if out.allocation[allocation, w.A_FILLED] < 0:
        out.allocation[allocation, w.A_FILLED] = row


@part_of_walk
def wait_for_users(out, allocation, row, kind):  # type: ignore[no-untyped-def] # numba
    """Let a row wait for the last row of every unit that used a buffer."""
    if allocation >= 0:
        for column in range(w.A_USER, out.allocation.shape[1]):
            user = out.allocation[allocation, column]
            if user >= 0:
                edge(out, user, row, kind, w.ZERO)


@part_of_walk
def _new_allocation(out, memory, stage, stream, address, size):  # type: ignore[no-untyped-def] # numba
    a = out.counter[w.N_ALLOCATIONS]
    out.counter[w.N_ALLOCATIONS] = a + 1
    for column in range(out.allocation.shape[1]):
        out.allocation[a, column] = -1
    out.allocation[a, w.A_MEMORY], out.allocation[a, w.A_STAGE], out.allocation[a, w.A_STREAM] = memory, stage, stream
    out.allocation[a, w.A_ADDRESS], out.allocation[a, w.A_SIZE] = address, size
    return a


@part_of_walk
def allocate(tables, out, state, stage, stream, hop, row):  # type: ignore[no-untyped-def] # numba
    """Give a tile the next slot; ``row``, which fills it, waits for everyone who still uses what lay there."""
    slot = state.hop[hop, w.AT_VERSION] % tables.hop[hop, w.H_SLOTS]
    state.hop[hop, w.AT_VERSION] += 1
    at = tables.hop[hop, w.H_SLOT] + slot
    before = state.slot[at]
    wait_for_users(out, before, row, w.BUFFER)
    address = tables.hop[hop, w.H_ADDRESS] + slot * tables.hop[hop, w.H_STEP]
    a = _new_allocation(out, tables.hop[hop, w.H_MEMORY], stage, stream, address, tables.hop[hop, w.H_SIZE])
    out.allocation[a, w.A_HOP], out.allocation[a, w.A_SLOT], out.allocation[a, w.A_BEFORE] = hop, slot, before
    state.slot[at] = a
    return a


@part_of_walk
def keep(tables, out, stage, stream):  # type: ignore[no-untyped-def] # numba
    """Take the place of a tensor that stays on the chip."""
    return _new_allocation(
        out, tables.stream[stream, w.R_MEMORY], stage, stream, tables.stream[stream, w.R_ADDRESS],
        tables.stream[stream, w.R_SIZE],
    )  # fmt: skip


# --- regions ----------------------------------------------------------------------------------------------------------


@part_of_walk
def _span(tables, s, window, first, last):  # type: ignore[no-untyped-def] # numba
    """Return the input [start, stop) of outputs [first, last) along one axis, clipped to what exists."""
    size, stride, padding = tables.stage[s, window], tables.stage[s, window + 1], tables.stage[s, window + 2]
    dilation, extent = tables.stage[s, window + 3], tables.stage[s, window + 4]
    start = -((padding - first * stride) // dilation)
    stop = ((last - 1) * stride + size - 1 - padding) // dilation + 1
    start = min(max(start, 0), extent)
    return start, max(start, min(max(stop, 0), extent))


@part_of_walk
def operand_region(tables, out, state, s, stream, level, row):  # type: ignore[no-untyped-def] # numba
    """Write the region of a tensor that belongs to a tile: k0 k1 c0 c1 0 1 of weights, else c0 c1 h0 h1 w0 w1."""
    low, high = state.low, state.high
    out.row[row, w.O_REGION], out.row[row, w.O_REGION + 1] = low[level, w.K], high[level, w.K]
    if tables.stream[stream, w.R_ROLE] == w.WEIGHT:
        out.row[row, w.O_REGION + 2], out.row[row, w.O_REGION + 3] = low[level, w.C], high[level, w.C]
        out.row[row, w.O_REGION + 4], out.row[row, w.O_REGION + 5] = 0, 1
    elif tables.stream[stream, w.R_HALO]:
        if not tables.stage[s, w.S_CHANNELWISE]:
            out.row[row, w.O_REGION], out.row[row, w.O_REGION + 1] = low[level, w.C], high[level, w.C]
        out.row[row, w.O_REGION + 2], out.row[row, w.O_REGION + 3] = _span(
            tables, s, w.S_ROWS, low[level, w.P], high[level, w.P]
        )
        out.row[row, w.O_REGION + 4], out.row[row, w.O_REGION + 5] = _span(
            tables, s, w.S_COLUMNS, low[level, w.Q], high[level, w.Q]
        )
    else:
        out.row[row, w.O_REGION + 2], out.row[row, w.O_REGION + 3] = low[level, w.P], high[level, w.P]
        out.row[row, w.O_REGION + 4], out.row[row, w.O_REGION + 5] = low[level, w.Q], high[level, w.Q]


@part_of_walk
def transfer(tables, out, s, stream, row):  # type: ignore[no-untyped-def] # numba
    """Write how many bits a transfer moves and in how many pieces they lie in DRAM: [C][H][W] and [K][C][R][S].

    Whole rows join into one piece per channel, whole maps into one piece; turned weights are read where they lie.
    """
    a = out.row[row, w.O_REGION + 1] - out.row[row, w.O_REGION]
    b = out.row[row, w.O_REGION + 3] - out.row[row, w.O_REGION + 2]
    c = out.row[row, w.O_REGION + 5] - out.row[row, w.O_REGION + 4]
    bits = tables.stream[stream, w.R_BITS]
    if tables.stream[stream, w.R_ROLE] == w.WEIGHT:
        # The bias comes with the first channels.
        bias = a * tables.stream[stream, w.R_BIAS_BITS] if out.row[row, w.O_REGION + 2] == 0 else 0
        out.row[row, w.O_BITS] = a * b * tables.stage[s, w.S_TAPS] * bits + bias
        outer, inner, whole = a, b, tables.stage[s, w.S_EXTENT + w.C]
        if tables.stream[stream, w.R_TRANSPOSED]:
            outer, inner, whole = b, a, tables.stage[s, w.S_EXTENT + w.K]
        out.row[row, w.O_PIECES] = 1 if inner == whole else outer
        return
    points = 1
    if (tables.stream[stream, w.R_DIMS] >> w.T) & 1:
        points = out.row[row, w.O_T1] - out.row[row, w.O_T0]
    height, width = tables.stage[s, w.S_EXTENT + w.P], tables.stage[s, w.S_EXTENT + w.Q]
    if tables.stream[stream, w.R_HALO]:
        height, width = tables.stage[s, w.S_ROWS + 4], tables.stage[s, w.S_COLUMNS + 4]
    out.row[row, w.O_BITS] = a * b * c * bits * points
    out.row[row, w.O_PIECES] = max(1, a * b if c < width else (a if b < height else 1)) * points
