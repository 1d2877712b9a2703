"""Walk the loop nests of a kernel, stage after stage, and write down every tile that is moved or computed.

    out = walk(tables, out)          rows in program order, with edges, buffers and the accesses to them

A step is one iteration of all loops of a stage. At each step the tiles that are new are loaded, the arrays compute, and
where a sum is complete the vector unit finishes the output tile. Stores stand behind the loads that run ahead of them.
Everything is an integer table; the columns of each are listed here. ``lower.py`` fills the inputs and prices the rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.mapping.tiles import Edge, Kind

Array = np.ndarray
_DATA, _BUFFER = int(Edge.DATA), int(Edge.BUFFER)
_LOAD, _COMPUTE, _VECTOR, _STORE, _SYNC = (int(kind) for kind in Kind)

# Loop dimensions in tables
T, K, C, P, Q = range(5)

# Columns of Tables.stage
(S_ON_ARRAY, S_CHANNELWISE, S_LOOP, S_LOOPS, S_STREAM, S_STREAMS, S_EXTENT) = range(7)  # five extents: T K C P Q
S_ROWS = S_EXTENT + 5  # window along rows: size, stride, padding, dilation, extent
S_COLUMNS = S_ROWS + 5
(S_DEPTH, S_RUN, S_LINEAR, S_SYNC, S_TAPS) = range(S_COLUMNS + 5, S_COLUMNS + 10)
STAGE_COLUMNS = S_TAPS + 1

# Columns of Tables.loop
(L_DIM, L_STEP, L_LEVEL, L_COUNT) = range(4)

# Columns of Tables.stream
(R_ROLE, R_DIMS, R_HOP, R_HOPS, R_SOURCE, R_SOURCES, R_TENSOR, R_KEPT, R_HALO) = range(9)
(R_CHOSEN, R_PREFETCH, R_OWN, R_BITS, R_BIAS_BITS, R_TRANSPOSED, R_ADDRESS, R_MEMORY, R_SIZE) = range(9, 18)
STREAM_COLUMNS = 18
INPUT, INDEX, WEIGHT, TAIL, PSUM, OUTPUT = range(6)
ROLES = {"input": INPUT, "index": INDEX, "weight": WEIGHT, "tail": TAIL, "psum": PSUM, "output": OUTPUT}

# Columns of Tables.hop: a memory that a stream's tiles pass through
(H_MEMORY, H_LEVEL, H_SLOTS, H_SIZE, H_ADDRESS, H_STEP, H_TABLE, H_SLOT, H_UNIT, H_DISTINCT) = range(10)

# Columns of Tables.source: channels [start, stop) of an operand are tensor ``tensor`` from its channel ``offset`` on
(V_TENSOR, V_START, V_STOP, V_OFFSET, V_WHOLE) = range(5)

# Columns of Tables.maker: four tile counts and four tile sizes, along T K P Q
(M_AT, M_COUNT, M_STEP) = (0, 1, 5)
MAKER_COLUMNS = 9

# Columns of Out.row
(O_STAGE, O_UNIT, O_KIND, O_STREAM, O_REGION) = range(5)  # six ends: k0 k1 p0 p1 q0 q1, of the tensor for transfers
(O_C0, O_C1, O_T0, O_T1, O_BITS, O_PIECES, O_HOP) = range(O_REGION + 6, O_REGION + 13)
ROW_COLUMNS = O_HOP + 1

# Columns of Out.allocation
(A_MEMORY, A_STAGE, A_STREAM, A_HOP, A_SLOT, A_ADDRESS, A_SIZE, A_FILLED, A_RELEASED, A_BEFORE) = range(10)
ALLOCATION_COLUMNS = A_BEFORE + 1


class Tables(NamedTuple):
    """What the walk reads."""

    stage: Array
    loop: Array
    stream: Array
    hop: Array
    source: Array
    maker: Array
    """Of each tensor: where its rows begin in ``Out.made``, tile counts along T K P Q, and tile sizes along them."""
    seats: Array
    """First DMA engine, engines, first array, arrays, vector unit, host, and 1 if arrays divide path points."""


class Out(NamedTuple):
    """What the walk writes; all tables are large enough beforehand."""

    row: Array
    edge: Array
    """from, to, kind, distance."""
    allocation: Array
    user: Array
    """(allocations, units): the last row of every unit that used it, or −1."""
    access: Array
    """row, allocation, 1 for a write."""
    made: Array
    """Rows that make tensors, tile by tile: stores, or vector rows for what stays on the chip."""
    tensor_allocation: Array
    counter: Array
    """Rows, edges, allocations, accesses so far; the host's row that chooses the class; loads so far."""


class State(NamedTuple):
    """Where the walk stands, by hop."""

    last: Array
    version: Array
    current: Array
    table: Array
    """Allocation of every tile, by ``H_TABLE`` and tile number."""
    slot: Array
    """Allocation in every slot, by ``H_SLOT`` and slot."""
    filled: Array
    """Elements of an output tile that are in their buffer."""
    queue: Array
    """Stores that wait: stream, hop, allocation, due step, t0, t1 and the region."""
    ends: Array
    """Head and tail of the queue."""


QUEUE_COLUMNS = 11


@njit(cache=True, nogil=True)
def _edge(out, source, target, kind, distance):  # type: ignore[no-untyped-def] # numba
    e = out.counter[1]
    out.edge[e, 0], out.edge[e, 1], out.edge[e, 2], out.edge[e, 3] = source, target, kind, distance
    out.counter[1] = e + 1


@njit(cache=True, nogil=True)
def _use(out, row, allocation, writes):  # type: ignore[no-untyped-def] # numba
    """Note that a row reads or writes a buffer."""
    a = out.counter[3]
    out.access[a, 0], out.access[a, 1], out.access[a, 2] = row, allocation, writes
    out.counter[3] = a + 1
    out.user[allocation, out.row[row, O_UNIT]] = row
    out.allocation[allocation, A_RELEASED] = row
    if out.allocation[allocation, A_FILLED] < 0:
        out.allocation[allocation, A_FILLED] = row


@njit(cache=True, nogil=True)
def _row(out, stage, unit, kind, stream, hop):  # type: ignore[no-untyped-def] # numba
    i = out.counter[0]
    out.counter[0] = i + 1
    for column in range(ROW_COLUMNS):
        out.row[i, column] = 0
    out.row[i, O_STAGE], out.row[i, O_UNIT], out.row[i, O_KIND] = stage, unit, kind
    out.row[i, O_STREAM], out.row[i, O_HOP] = stream, hop
    return i


@njit(cache=True, nogil=True)
def _wait_for_users(out, allocation, row, kind):  # type: ignore[no-untyped-def] # numba
    """Let a row wait for the last row of every unit that used a buffer."""
    if allocation >= 0:
        for unit in range(out.user.shape[1]):
            if out.user[allocation, unit] >= 0:
                _edge(out, out.user[allocation, unit], row, kind, 0)


@njit(cache=True, nogil=True)
def _allocate(tables, out, state, stage, stream, hop, slot, row):  # type: ignore[no-untyped-def] # numba
    """Give a tile a slot; ``row``, which fills it, waits for everyone who still uses what lay there."""
    h = tables.hop[hop]
    a = out.counter[2]
    out.counter[2] = a + 1
    before = state.slot[h[H_SLOT] + slot]
    _wait_for_users(out, before, row, _BUFFER)
    state.slot[h[H_SLOT] + slot] = a
    for unit in range(out.user.shape[1]):
        out.user[a, unit] = -1
    allocation = out.allocation[a]
    allocation[A_MEMORY], allocation[A_STAGE], allocation[A_STREAM] = h[H_MEMORY], stage, stream
    allocation[A_HOP], allocation[A_SLOT], allocation[A_SIZE] = hop, slot, h[H_SIZE]
    allocation[A_ADDRESS] = h[H_ADDRESS] + slot * h[H_STEP]
    allocation[A_FILLED] = allocation[A_RELEASED] = -1
    allocation[A_BEFORE] = before
    return a


@njit(cache=True, nogil=True)
def _bounds(tables, s, index, low, high):  # type: ignore[no-untyped-def] # numba
    """Write [low, high) of every dimension after the loops of each level; return False for an empty tile."""
    stage = tables.stage[s]
    levels = low.shape[0]
    for level in range(levels):
        for d in range(5):
            low[level, d], high[level, d] = 0, stage[S_EXTENT + d]
    for i in range(stage[S_LOOPS]):
        loop = tables.loop[stage[S_LOOP] + i]
        d, first = loop[L_DIM], loop[L_LEVEL]
        start = low[levels - 1, d] + index[i] * loop[L_STEP]
        if start >= high[levels - 1, d]:
            return False
        stop = min(high[levels - 1, d], start + loop[L_STEP])
        for level in range(first, levels):
            low[level, d], high[level, d] = start, stop
    return True


@njit(cache=True, nogil=True)
def _tile_number(tables, s, stream, level, index):  # type: ignore[no-untyped-def] # numba
    """Return which tile of a stream the loops of levels up to ``level`` select."""
    stage, number = tables.stage[s], 0
    for i in range(stage[S_LOOPS]):
        loop = tables.loop[stage[S_LOOP] + i]
        if loop[L_LEVEL] <= level and (tables.stream[stream, R_DIMS] >> loop[L_DIM]) & 1:
            number = number * loop[L_COUNT] + index[i]
    return number


@njit(cache=True, nogil=True)
def _span(window, first, last):  # type: ignore[no-untyped-def] # numba
    """Return the input [start, stop) of outputs [first, last) along one axis, clipped to what exists."""
    size, stride, padding, dilation, extent = window[0], window[1], window[2], window[3], window[4]
    start = -((padding - first * stride) // dilation)
    stop = ((last - 1) * stride + size - 1 - padding) // dilation + 1
    start = min(max(start, 0), extent)
    return start, max(start, min(max(stop, 0), extent))


@njit(cache=True, nogil=True)
def _operand_region(tables, s, stream, low, high, region):  # type: ignore[no-untyped-def] # numba
    """Write the part of a tensor that belongs to a tile: k0 k1 c0 c1 0 1 of weights, else c0 c1 h0 h1 w0 w1."""
    stage, r = tables.stage[s], tables.stream[stream]
    if r[R_ROLE] == WEIGHT:
        region[0], region[1], region[2], region[3] = low[K], high[K], low[C], high[C]
        region[4], region[5] = 0, 1
        return
    if r[R_HALO]:
        d = K if stage[S_CHANNELWISE] else C
        region[0], region[1] = low[d], high[d]
        region[2], region[3] = _span(stage[S_ROWS : S_ROWS + 5], low[P], high[P])
        region[4], region[5] = _span(stage[S_COLUMNS : S_COLUMNS + 5], low[Q], high[Q])
        return
    region[0], region[1], region[2], region[3] = low[K], high[K], low[P], high[P]
    region[4], region[5] = low[Q], high[Q]


@njit(cache=True, nogil=True)
def _transfer(tables, s, stream, row):  # type: ignore[no-untyped-def] # numba
    """Write how many bits a transfer moves and in how many pieces they lie in DRAM: [C][H][W] and [K][C][R][S].

    Whole rows join into one piece per channel, whole maps into one piece; turned weights are read where they lie.
    """
    stage, r = tables.stage[s], tables.stream[stream]
    region, points = row[O_REGION : O_REGION + 6], 1
    if (r[R_DIMS] >> T) & 1:
        points = row[O_T1] - row[O_T0]
    a, b, c = region[1] - region[0], region[3] - region[2], region[5] - region[4]
    if r[R_ROLE] == WEIGHT:
        bias = a * r[R_BIAS_BITS] if region[2] == 0 else 0  # it comes with the first channels
        row[O_BITS] = a * b * stage[S_TAPS] * r[R_BITS] + bias
        outer, inner, whole = a, b, stage[S_EXTENT + C]
        if r[R_TRANSPOSED]:
            outer, inner, whole = b, a, stage[S_EXTENT + K]
        row[O_PIECES] = 1 if inner == whole else outer
        return
    height, width = stage[S_EXTENT + P], stage[S_EXTENT + Q]
    if r[R_HALO]:
        height, width = stage[S_ROWS + 4], stage[S_COLUMNS + 4]
    row[O_BITS] = a * b * c * r[R_BITS] * points
    row[O_PIECES] = max(1, a * b if c < width else (a if b < height else 1)) * points


@njit(cache=True, nogil=True)
def _made_index(maker, t, k, p, q):  # type: ignore[no-untyped-def] # numba
    counts = maker[M_COUNT : M_COUNT + 4]
    return maker[M_AT] + ((t * counts[1] + k) * counts[2] + p) * counts[3] + q


@njit(cache=True, nogil=True)
def _wait_for_makers(tables, out, s, stream, row, region, distance):  # type: ignore[no-untyped-def] # numba
    """Let a row that reads an operand wait for the last row that makes any of its part (makers end in order)."""
    r, stage = tables.stream[stream], tables.stage[s]
    point = (r[R_DIMS] >> T) & 1
    for v in range(r[R_SOURCE], r[R_SOURCE] + r[R_SOURCES]):
        source = tables.source[v]
        maker = tables.maker[source[V_TENSOR]]
        c0, c1 = region[0], region[1]
        anywhere = source[V_WHOLE] or r[R_ROLE] == WEIGHT
        if not anywhere and (c1 <= source[V_START] or source[V_STOP] <= c0):
            continue
        t = maker[M_COUNT] - 1
        if point:
            t = (out.row[row, O_T1] - 1) // maker[M_STEP]
        k, p, q = maker[M_COUNT + 1] - 1, maker[M_COUNT + 2] - 1, maker[M_COUNT + 3] - 1
        if not (anywhere or stage[S_LINEAR]):
            if region[3] <= region[2] or region[5] <= region[4]:
                continue  # it lies in the padding alone
            # Loops nest, so of the tiles that a part touches the last one made is the last along every dimension.
            last = min(c1, source[V_STOP]) + source[V_OFFSET] - source[V_START]
            k = (last - 1) // maker[M_STEP + 1]
            p, q = (region[3] - 1) // maker[M_STEP + 2], (region[5] - 1) // maker[M_STEP + 3]
        made = out.made[_made_index(maker, t, k, p, q)]
        if made >= 0:  # else it is a running sum, which comes from the trip before
            _edge(out, made, row, _DATA, distance)


@njit(cache=True, nogil=True)
def _load(tables, out, state, s, stream, hop, low, high, number):  # type: ignore[no-untyped-def] # numba
    """Move a tile one memory further in, unless it is still there."""
    h, r = tables.hop[hop], tables.stream[stream]
    if state.last[hop] == number:
        return
    state.last[hop] = number
    if h[H_SLOTS] >= h[H_DISTINCT] and state.table[h[H_TABLE] + number] >= 0:
        state.current[hop] = state.table[h[H_TABLE] + number]
        return
    outermost = hop == r[R_HOP]
    unit = h[H_UNIT]
    if outermost:
        unit += out.counter[5] % max(1, tables.seats[1] - 1)
        out.counter[5] += 1
    row = _row(out, s, unit, _LOAD, stream, hop)
    _operand_region(tables, s, stream, low, high, out.row[row, O_REGION : O_REGION + 6])
    out.row[row, O_C0], out.row[row, O_C1] = low[C], high[C]
    out.row[row, O_T0], out.row[row, O_T1] = low[T], high[T]
    _transfer(tables, s, stream, out.row[row])
    a = _allocate(tables, out, state, s, stream, hop, state.version[hop] % h[H_SLOTS], row)
    state.version[hop] += 1
    state.current[hop] = state.table[h[H_TABLE] + number] = a
    if outermost:
        if r[R_CHOSEN] and out.counter[4] >= 0:
            _edge(out, out.counter[4], row, _DATA, 0)
        _wait_for_makers(tables, out, s, stream, row, out.row[row, O_REGION : O_REGION + 6], 0)
    else:
        outer = state.current[hop - 1]
        _edge(out, out.allocation[outer, A_FILLED], row, _DATA, 0)
        _use(out, row, outer, 0)
    _use(out, row, a, 1)


@njit(cache=True, nogil=True)
def _load_all(tables, out, state, s, index, low, high, only):  # type: ignore[no-untyped-def] # numba
    """Load what the step needs: all streams, or where ``only`` is set the ones that may be fetched ahead."""
    stage = tables.stage[s]
    last_channels = high[high.shape[0] - 1, C] == stage[S_EXTENT + C]
    for stream in range(stage[S_STREAM], stage[S_STREAM] + stage[S_STREAMS]):
        r = tables.stream[stream]
        if r[R_ROLE] > TAIL or r[R_KEPT] or (only and not r[R_PREFETCH]):
            continue
        if r[R_ROLE] == TAIL and not (last_channels or stage[S_RUN] > 1):
            continue  # the loop over channels lies outside, and the sum is not complete yet
        for hop in range(r[R_HOP], r[R_HOP] + r[R_HOPS]):
            level = tables.hop[hop, H_LEVEL]
            number = _tile_number(tables, s, stream, level, index)
            _load(tables, out, state, s, stream, hop, low[level], high[level], number)
            if only:
                break


@njit(cache=True, nogil=True)
def _read(tables, out, state, s, stream, row, low, high, vector):  # type: ignore[no-untyped-def] # numba
    """Let a computation wait for an operand and use it where it lies."""
    r = tables.stream[stream]
    if not r[R_KEPT]:
        a = state.current[r[R_HOP] + r[R_HOPS] - 1]
        _edge(out, out.allocation[a, A_FILLED], row, _DATA, 0)
        _use(out, row, a, 0)
        return
    for v in range(r[R_SOURCE], r[R_SOURCE] + r[R_SOURCES]):
        a = out.tensor_allocation[tables.source[v, V_TENSOR]]
        if a >= 0:
            _use(out, row, a, 0)
    if not vector:  # the vector unit made it and takes its rows in order
        region = np.empty(6, np.int64)
        _operand_region(tables, s, stream, low, high, region)
        _wait_for_makers(tables, out, s, stream, row, region, 0)


@njit(cache=True, nogil=True)
def _compute(tables, out, state, s, index, low, high):  # type: ignore[no-untyped-def] # numba
    """Add the step's products to the sums of its output tile, on every array that has a share of it."""
    stage = tables.stage[s]
    arrays, by_points = tables.seats[3], tables.seats[6]
    d = T if by_points else K
    share = -(-(high[d] - low[d]) // arrays)
    sums = -1
    for stream in range(stage[S_STREAM], stage[S_STREAM] + stage[S_STREAMS]):
        if tables.stream[stream, R_ROLE] == PSUM:
            sums = stream
    hop = tables.stream[sums, R_HOP]
    number = _tile_number(tables, s, sums, tables.hop[hop, H_LEVEL], index)
    for array in range(arrays):
        first, last = low[d] + array * share, min(high[d], low[d] + (array + 1) * share)
        if first >= last:
            continue
        row = _row(out, s, tables.seats[2] + array, _COMPUTE, -1, -1)
        own = out.row[row]
        own[O_REGION], own[O_REGION + 1] = low[K], high[K]
        own[O_T0], own[O_T1], own[O_C0], own[O_C1] = low[T], high[T], low[C], high[C]
        if by_points:
            own[O_T0], own[O_T1] = first, last
        else:
            own[O_REGION], own[O_REGION + 1] = first, last
        own[O_REGION + 2], own[O_REGION + 3] = low[P], high[P]
        own[O_REGION + 4], own[O_REGION + 5] = low[Q], high[Q]
        for stream in range(stage[S_STREAM], stage[S_STREAM] + stage[S_STREAMS]):
            if tables.stream[stream, R_ROLE] == INPUT or tables.stream[stream, R_ROLE] == WEIGHT:
                _read(tables, out, state, s, stream, row, low, high, False)
        if low[C] == 0 and array == 0:
            slot = state.version[hop] % tables.hop[hop, H_SLOTS]
            state.version[hop] += 1
            state.table[tables.hop[hop, H_TABLE] + number] = _allocate(tables, out, state, s, sums, hop, slot, row)
        a = state.table[tables.hop[hop, H_TABLE] + number]
        if low[C] == 0 and array > 0:  # the other arrays wait like the first one
            _wait_for_users(out, out.allocation[a, A_BEFORE], row, _BUFFER)
        state.current[hop] = a
        _use(out, row, a, 1)


@njit(cache=True, nogil=True)
def _finish(tables, out, state, s, index, low, high, step):  # type: ignore[no-untyped-def] # numba
    """Let the vector unit finish an output tile: windows or sums, then the element-wise tail."""
    stage, deep = tables.stage[s], low.shape[0] - 1
    row = _row(out, s, tables.seats[4], _VECTOR, -1, -1)
    _output_region(out, row, low[deep], high[deep])
    streams = range(stage[S_STREAM], stage[S_STREAM] + stage[S_STREAMS])
    for stream in streams:
        r = tables.stream[stream]
        if r[R_ROLE] == PSUM:
            a = state.current[r[R_HOP]]
            for unit in range(tables.seats[2], tables.seats[2] + tables.seats[3]):
                if out.user[a, unit] >= 0:
                    _edge(out, out.user[a, unit], row, _DATA, 0)
            _use(out, row, a, 0)
        elif r[R_ROLE] == TAIL or (r[R_ROLE] < TAIL and not stage[S_ON_ARRAY]):
            _read(tables, out, state, s, stream, row, low[deep], high[deep], True)
    for stream in streams:
        if tables.stream[stream, R_ROLE] == OUTPUT:
            _put(tables, out, state, s, stream, row, index, low, high, step)


@njit(cache=True, nogil=True)
def _output_region(out, row, low, high):  # type: ignore[no-untyped-def] # numba
    own = out.row[row]
    own[O_REGION], own[O_REGION + 1], own[O_REGION + 2] = low[K], high[K], low[P]
    own[O_REGION + 3], own[O_REGION + 4], own[O_REGION + 5] = high[P], low[Q], high[Q]
    own[O_C1], own[O_T0], own[O_T1] = high[C], low[T], high[T]


@njit(cache=True, nogil=True)
def _put(tables, out, state, s, stream, row, index, low, high, step):  # type: ignore[no-untyped-def] # numba
    """Write a result to its buffer, pass it outwards on the chip, and queue its store when its tile is complete."""
    r, deep = tables.stream[stream], low.shape[0] - 1
    if r[R_KEPT]:
        tensor = r[R_TENSOR]
        if out.tensor_allocation[tensor] < 0:
            out.tensor_allocation[tensor] = _keep(tables, out, s, stream)
        _use(out, row, out.tensor_allocation[tensor], 1)
        _made(tables, out, tensor, row)
        return
    hop = r[R_HOP] + r[R_HOPS] - 1
    level = tables.hop[hop, H_LEVEL]
    _into(tables, out, state, s, stream, hop, _tile_number(tables, s, stream, level, index), row)
    if not (r[R_DIMS] >> T) & 1 and high[deep, T] < tables.stage[s, S_EXTENT + T]:
        return  # a sum over path points that is not through
    while hop > r[R_HOP]:  # one memory further out
        inner = state.current[hop]
        link = _row(out, s, tables.hop[hop, H_UNIT], _STORE, stream, hop)
        level = tables.hop[hop, H_LEVEL]
        _output_region(out, link, low[level], high[level])
        _transfer(tables, s, stream, out.row[link])
        _wait_for_users(out, inner, link, _DATA)
        _use(out, link, inner, 0)
        hop -= 1
        level = tables.hop[hop, H_LEVEL]
        _into(tables, out, state, s, stream, hop, _tile_number(tables, s, stream, level, index), link)
        state.filled[hop] += _volume(r, low[deep], high[deep])
        if state.filled[hop] < _volume(r, low[level], high[level]):
            return
        state.filled[hop] = 0
    q = state.queue[state.ends[1]]
    state.ends[1] += 1
    q[0], q[1], q[2] = stream, state.current[hop], step + tables.stage[s, S_DEPTH] * tables.stage[s, S_RUN]
    level = tables.hop[hop, H_LEVEL]
    q[3], q[4], q[5], q[6] = low[level, T], high[level, T], low[level, K], high[level, K]
    q[7], q[8], q[9], q[10] = low[level, P], high[level, P], low[level, Q], high[level, Q]


@njit(cache=True, nogil=True)
def _volume(stream, low, high):  # type: ignore[no-untyped-def] # numba
    volume = (high[K] - low[K]) * (high[P] - low[P]) * (high[Q] - low[Q])
    return volume * (high[T] - low[T]) if (stream[R_DIMS] >> T) & 1 else volume


@njit(cache=True, nogil=True)
def _into(tables, out, state, s, stream, hop, number, row):  # type: ignore[no-untyped-def] # numba
    """Write to the buffer of an output tile, a new one where the tile is new."""
    if state.last[hop] != number:
        state.last[hop] = number
        slot = state.version[hop] % tables.hop[hop, H_SLOTS]
        state.version[hop] += 1
        state.current[hop] = _allocate(tables, out, state, s, stream, hop, slot, row)
    _use(out, row, state.current[hop], 1)


@njit(cache=True, nogil=True)
def _keep(tables, out, s, stream):  # type: ignore[no-untyped-def] # numba
    """Take the place of a tensor that stays on the chip."""
    a, r = out.counter[2], tables.stream[stream]
    out.counter[2] = a + 1
    for unit in range(out.user.shape[1]):
        out.user[a, unit] = -1
    out.allocation[a, A_MEMORY], out.allocation[a, A_STAGE], out.allocation[a, A_STREAM] = r[R_MEMORY], s, stream
    out.allocation[a, A_HOP] = out.allocation[a, A_SLOT] = -1
    out.allocation[a, A_ADDRESS], out.allocation[a, A_SIZE] = r[R_ADDRESS], r[R_SIZE]
    out.allocation[a, A_FILLED] = out.allocation[a, A_RELEASED] = out.allocation[a, A_BEFORE] = -1
    return a


@njit(cache=True, nogil=True)
def _made(tables, out, tensor, row):  # type: ignore[no-untyped-def] # numba
    maker, own = tables.maker[tensor], out.row[row]
    t, k = own[O_T0] // maker[M_STEP], own[O_REGION] // maker[M_STEP + 1]
    p, q = own[O_REGION + 2] // maker[M_STEP + 2], own[O_REGION + 4] // maker[M_STEP + 3]
    out.made[_made_index(maker, t, k, p, q)] = row


@njit(cache=True, nogil=True)
def _flush(tables, out, state, s, until):  # type: ignore[no-untyped-def] # numba
    """Store what is due."""
    while state.ends[0] < state.ends[1] and state.queue[state.ends[0], 2] <= until:
        q = state.queue[state.ends[0]]
        state.ends[0] += 1
        stream, a = q[0], q[1]
        row = _row(out, s, tables.seats[0] + tables.seats[1] - 1, _STORE, stream, tables.stream[stream, R_HOP])
        own = out.row[row]
        own[O_T0], own[O_T1] = q[3], q[4]
        for end in range(6):
            own[O_REGION + end] = q[5 + end]
        _transfer(tables, s, stream, own)
        _wait_for_users(out, a, row, _DATA)
        _use(out, row, a, 0)
        _made(tables, out, tables.stream[stream, R_TENSOR], row)


@njit(cache=True, nogil=True)
def _advance(tables, s, index, low, high):  # type: ignore[no-untyped-def] # numba
    """Go to the next step that has something to do; return False at the end."""
    stage = tables.stage[s]
    while True:
        i = stage[S_LOOPS] - 1
        while i >= 0:
            index[i] += 1
            if index[i] < tables.loop[stage[S_LOOP] + i, L_COUNT]:
                break
            index[i] = 0
            i -= 1
        if i < 0:
            return False
        if _bounds(tables, s, index, low, high):
            return True


@njit(cache=True, nogil=True)
def _read_back(tables, out, s, first):  # type: ignore[no-untyped-def] # numba
    """A running sum is stored by the stage that loads it: loads of the next trip wait for the stores of this one."""
    for row in range(first, out.counter[0]):
        stream = out.row[row, O_STREAM]
        if out.row[row, O_KIND] == _LOAD and out.row[row, O_STAGE] == s and tables.stream[stream, R_OWN]:
            _wait_for_makers(tables, out, s, stream, row, out.row[row, O_REGION : O_REGION + 6], 1)


@njit(cache=True, nogil=True)
def _choose(tables, out, s):  # type: ignore[no-untyped-def] # numba
    """The host reads what the stage stored and picks the class."""
    tensor = tables.stage[s, S_SYNC]
    row = _row(out, s, tables.seats[5], _SYNC, -1, -1)
    maker = tables.maker[tensor]
    counts = maker[M_COUNT : M_COUNT + 4]
    last = out.made[_made_index(maker, counts[0] - 1, counts[1] - 1, counts[2] - 1, counts[3] - 1)]
    for end in range(6):
        out.row[row, O_REGION + end] = out.row[out.made[maker[M_AT]], O_REGION + end]
    _edge(out, last, row, _DATA, 0)
    out.counter[4] = row


@njit(cache=True, nogil=True)
def _reset(index):  # type: ignore[no-untyped-def] # numba
    for i in range(len(index)):
        index[i] = 0


@njit(cache=True, nogil=True)
def walk(tables, out, state, depth):  # type: ignore[no-untyped-def] # numba
    """Fill ``out``, all stages in order; ``depth`` is the number of levels of loops."""
    index = np.zeros(32, np.int64)
    low, high = np.zeros((depth, 5), np.int64), np.zeros((depth, 5), np.int64)
    stages = len(tables.stage)
    for s in range(stages):
        first, step, more = out.counter[0], 0, True
        state.ends[0] = state.ends[1] = 0
        _reset(index)
        _bounds(tables, s, index, low, high)
        while more:
            _load_all(tables, out, state, s, index, low, high, False)
            if tables.stage[s, S_ON_ARRAY]:
                _compute(tables, out, state, s, index, low[depth - 1], high[depth - 1])
            if high[depth - 1, C] == tables.stage[s, S_EXTENT + C]:
                _finish(tables, out, state, s, index, low, high, step)
            more = _advance(tables, s, index, low, high)
            if more:
                _flush(tables, out, state, s, step)
            step += 1
        if s + 1 < stages:  # the next stage's first weights go ahead of this one's last stores
            _reset(index)
            _bounds(tables, s + 1, index, low, high)
            _load_all(tables, out, state, s + 1, index, low, high, True)
        _flush(tables, out, state, s, np.int64(1) << 62)
        if tables.stage[s, S_SYNC] >= 0:
            _choose(tables, out, s)
        _read_back(tables, out, s, first)
