"""Walk the loop nests of a kernel, stage after stage, and write down every tile that is moved or computed.

    walk(tables, out, state)          rows in program order, with edges, buffers and the accesses to them

A step is one iteration of all loops of a stage. At each step the tiles that are new are loaded, the arrays compute, and
where a sum is complete the vector unit finishes the output tile. Stores stand behind the loads that run ahead of them.
Everything is an integer table (``tables.py``); ``rows.py`` writes to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numba import njit

from xaisim.mapping import rows, tiles
from xaisim.mapping import tables as w
from xaisim.mapping.rows import (
    COMPILED,
    allocate,
    edge,
    keep,
    made,
    made_index,
    new_row,
    operand_region,
    part_of_walk,
    transfer,
    use,
    wait_for_makers,
    wait_for_users,
)

# --- loops ------------------------------------------------------------------------------------------------------------


@part_of_walk
def _bounds(tables, state, s):  # type: ignore[no-untyped-def] # numba
    """Write [low, high) of every dimension after the loops of each level; return False for an empty tile."""
    low, high = state.low, state.high
    levels = low.shape[0]
    for level in range(levels):
        for d in range(5):
            low[level, d], high[level, d] = 0, tables.stage[s, w.S_EXTENT + d]
    for i in range(tables.stage[s, w.S_LOOPS]):
        loop = tables.stage[s, w.S_LOOP] + i
        d = tables.loop[loop, w.L_DIM]
        start = low[levels - 1, d] + state.iteration[i] * tables.loop[loop, w.L_STEP]
        if start >= high[levels - 1, d]:
            return False
        stop = min(high[levels - 1, d], start + tables.loop[loop, w.L_STEP])
        for level in range(tables.loop[loop, w.L_LEVEL], levels):
            low[level, d], high[level, d] = start, stop
    return True


@part_of_walk
def _begin(tables, state, s):  # type: ignore[no-untyped-def] # numba
    """Go to the first step of a stage."""
    for i in range(len(state.iteration)):
        state.iteration[i] = 0
    _bounds(tables, state, s)


@part_of_walk
def _advance(tables, state, s):  # type: ignore[no-untyped-def] # numba
    """Go to the next step that has something to do; return False at the end."""
    while True:
        i = tables.stage[s, w.S_LOOPS] - 1
        while i >= 0:
            state.iteration[i] += 1
            if state.iteration[i] < tables.loop[tables.stage[s, w.S_LOOP] + i, w.L_COUNT]:
                break
            state.iteration[i] = 0
            i -= 1
        if i < 0:
            return False
        if _bounds(tables, state, s):
            return True


@part_of_walk
def _tile_number(tables, state, s, stream, hop):  # type: ignore[no-untyped-def] # numba
    """Return which tile of a stream the loops around one of its memories select."""
    number = 0
    for i in range(tables.stage[s, w.S_LOOPS]):
        loop = tables.stage[s, w.S_LOOP] + i
        around = tables.loop[loop, w.L_LEVEL] <= tables.hop[hop, w.H_LEVEL]
        if around and (tables.stream[stream, w.R_DIMS] >> tables.loop[loop, w.L_DIM]) & 1:
            number = number * tables.loop[loop, w.L_COUNT] + state.iteration[i]
    return number


# --- loads ------------------------------------------------------------------------------------------------------------


@part_of_walk
def _load(tables, out, state, s, stream, hop):  # type: ignore[no-untyped-def] # numba
    """Move a tile one memory further in, unless it is still there."""
    number = _tile_number(tables, state, s, stream, hop)
    if state.hop[hop, w.AT_LAST] == number:
        return
    state.hop[hop, w.AT_LAST] = number
    tile, level = tables.hop[hop, w.H_TABLE] + number, tables.hop[hop, w.H_LEVEL]
    if tables.hop[hop, w.H_SLOTS] >= tables.hop[hop, w.H_DISTINCT] and state.tile[tile] >= 0:
        state.hop[hop, w.AT_CURRENT] = state.tile[tile]
        return
    outermost, kept = hop == tables.stream[stream, w.R_HOP], tables.stream[stream, w.R_KEPT]
    unit = tables.hop[hop, w.H_UNIT]
    if outermost and not kept:
        unit += out.counter[w.N_LOADS] % max(1, tables.seats[1] - 1)
        out.counter[w.N_LOADS] += 1
    row = new_row(out, s, unit, w.LOAD, stream, hop)
    operand_region(tables, out, state, s, stream, level, row)
    out.row[row, w.O_C0], out.row[row, w.O_C1] = state.low[level, w.C], state.high[level, w.C]
    out.row[row, w.O_T0], out.row[row, w.O_T1] = state.low[level, w.T], state.high[level, w.T]
    transfer(tables, out, s, stream, row)
    a = allocate(tables, out, state, s, stream, hop, row)
    state.hop[hop, w.AT_CURRENT] = state.tile[tile] = a
    if outermost:
        if tables.stream[stream, w.R_CHOSEN] and out.counter[w.N_CHOICE] >= 0:
            edge(out, out.counter[w.N_CHOICE], row, w.DATA, w.ZERO)
        wait_for_makers(tables, out, s, stream, row, row, w.ZERO)
        if kept:
            _use_kept(tables, out, stream, row)
    else:
        outer = state.hop[hop - 1, w.AT_CURRENT]
        edge(out, out.allocation[outer, w.A_FILLED], row, w.DATA, w.ZERO)
        use(out, row, outer, w.ZERO)
    use(out, row, a, w.ONE)


@part_of_walk
def _load_all(tables, out, state, s):  # type: ignore[no-untyped-def] # numba
    """Load all that the step needs."""
    complete = state.high[state.high.shape[0] - 1, w.C] == tables.stage[s, w.S_EXTENT + w.C]
    for stream in range(tables.stage[s, w.S_STREAM], tables.stage[s, w.S_STREAM] + tables.stage[s, w.S_STREAMS]):
        role = tables.stream[stream, w.R_ROLE]
        if role > w.TAIL:
            continue
        if role == w.TAIL and not (complete or tables.stage[s, w.S_RUN] > 1):
            continue  # the loop over channels lies outside, and the sum is not complete yet
        first = tables.stream[stream, w.R_HOP]
        for hop in range(first, first + tables.stream[stream, w.R_HOPS]):
            _load(tables, out, state, s, stream, hop)


@part_of_walk
def _load_ahead(tables, out, state, s):  # type: ignore[no-untyped-def] # numba
    """Load the first tiles of a stage that need nothing of the stage before."""
    for stream in range(tables.stage[s, w.S_STREAM], tables.stage[s, w.S_STREAM] + tables.stage[s, w.S_STREAMS]):
        if tables.stream[stream, w.R_PREFETCH] and tables.stream[stream, w.R_HOPS]:
            _load(tables, out, state, s, stream, tables.stream[stream, w.R_HOP])


# --- computations -----------------------------------------------------------------------------------------------------


@part_of_walk
def _use_kept(tables, out, stream, row):  # type: ignore[no-untyped-def] # numba
    """Read a tensor that stays on the chip where it lies."""
    first = tables.stream[stream, w.R_SOURCE]
    for v in range(first, first + tables.stream[stream, w.R_SOURCES]):
        a = out.tensor_allocation[tables.source[v, w.V_TENSOR]]
        if a >= 0:
            use(out, row, a, w.ZERO)


@part_of_walk
def _read(tables, out, state, s, stream, row):  # type: ignore[no-untyped-def] # numba
    """Let a computation wait for an operand and use it where it lies."""
    if tables.stream[stream, w.R_HOPS]:
        a = state.hop[tables.stream[stream, w.R_HOP] + tables.stream[stream, w.R_HOPS] - 1, w.AT_CURRENT]
        edge(out, out.allocation[a, w.A_FILLED], row, w.DATA, w.ZERO)
        use(out, row, a, w.ZERO)
        return
    _use_kept(tables, out, stream, row)
    if out.row[row, w.O_KIND] != w.VECTOR:  # else the vector unit made it and takes its rows in order
        region = out.counter[w.N_ROWS]  # noted in the next row, which is not there yet
        operand_region(tables, out, state, s, stream, state.low.shape[0] - 1, region)
        wait_for_makers(tables, out, s, stream, region, row, w.ZERO)


@part_of_walk
def _compute(tables, out, state, s):  # type: ignore[no-untyped-def] # numba
    """Add the step's products to the sums of its output tile, on every array that has a share of it."""
    deep = state.low.shape[0] - 1
    first_stream, last_stream = tables.stage[s, w.S_STREAM], tables.stage[s, w.S_STREAM] + tables.stage[s, w.S_STREAMS]
    arrays, by_points = tables.seats[3], tables.seats[6]
    d = w.T if by_points else w.K
    low, high = state.low[deep, d], state.high[deep, d]
    share = -(-(high - low) // arrays)
    sums = first_stream
    while tables.stream[sums, w.R_ROLE] != w.PSUM:
        sums += 1
    hop = tables.stream[sums, w.R_HOP]
    tile = tables.hop[hop, w.H_TABLE] + _tile_number(tables, state, s, sums, hop)
    fresh = state.low[deep, w.C] == 0
    for array in range(arrays):
        first, last = low + array * share, min(high, low + (array + 1) * share)
        if first >= last:
            continue
        row = new_row(out, s, tables.seats[2] + array, w.COMPUTE, w.NONE, w.NONE)
        _output_region(out, state, row, deep)
        out.row[row, w.O_C0] = state.low[deep, w.C]
        at = w.O_T0 if by_points else w.O_REGION
        out.row[row, at], out.row[row, at + 1] = first, last
        for stream in range(first_stream, last_stream):
            if tables.stream[stream, w.R_ROLE] == w.INPUT or tables.stream[stream, w.R_ROLE] == w.WEIGHT:
                _read(tables, out, state, s, stream, row)
        if fresh and array == 0:
            state.tile[tile] = allocate(tables, out, state, s, sums, hop, row)
        a = state.tile[tile]
        if fresh and array > 0:  # the other arrays wait like the first one
            wait_for_users(out, out.allocation[a, w.A_BEFORE], row, w.BUFFER)
        state.hop[hop, w.AT_CURRENT] = a
        use(out, row, a, w.ONE)


@part_of_walk
def _output_region(out, state, row, level):  # type: ignore[no-untyped-def] # numba
    low, high = state.low, state.high
    out.row[row, w.O_REGION], out.row[row, w.O_REGION + 1] = low[level, w.K], high[level, w.K]
    out.row[row, w.O_REGION + 2], out.row[row, w.O_REGION + 3] = low[level, w.P], high[level, w.P]
    out.row[row, w.O_REGION + 4], out.row[row, w.O_REGION + 5] = low[level, w.Q], high[level, w.Q]
    out.row[row, w.O_C1], out.row[row, w.O_T0], out.row[row, w.O_T1] = (
        high[level, w.C],
        low[level, w.T],
        high[level, w.T],
    )


@part_of_walk
def _finish(tables, out, state, s, step):  # type: ignore[no-untyped-def] # numba
    """Let the vector unit finish an output tile: windows or sums, then the element-wise tail."""
    row = new_row(out, s, tables.seats[4], w.VECTOR, w.NONE, w.NONE)
    _output_region(out, state, row, state.low.shape[0] - 1)
    first, last = tables.stage[s, w.S_STREAM], tables.stage[s, w.S_STREAM] + tables.stage[s, w.S_STREAMS]
    for stream in range(first, last):
        role = tables.stream[stream, w.R_ROLE]
        if role == w.PSUM:
            a = state.hop[tables.stream[stream, w.R_HOP], w.AT_CURRENT]
            for unit in range(tables.seats[2], tables.seats[2] + tables.seats[3]):
                if out.allocation[a, w.A_USER + unit] >= 0:
                    edge(out, out.allocation[a, w.A_USER + unit], row, w.DATA, w.ZERO)
            use(out, row, a, w.ZERO)
        elif role == w.TAIL or (role < w.TAIL and not tables.stage[s, w.S_ON_ARRAY]):
            _read(tables, out, state, s, stream, row)
    for stream in range(first, last):
        if tables.stream[stream, w.R_ROLE] == w.OUTPUT:
            _put(tables, out, state, s, stream, row, step)


# --- results ----------------------------------------------------------------------------------------------------------


@part_of_walk
def _into(tables, out, state, s, stream, hop, row):  # type: ignore[no-untyped-def] # numba
    """Write to the buffer of an output tile, a new one where the tile is new."""
    number = _tile_number(tables, state, s, stream, hop)
    if state.hop[hop, w.AT_LAST] != number:
        state.hop[hop, w.AT_LAST] = number
        state.hop[hop, w.AT_CURRENT] = allocate(tables, out, state, s, stream, hop, row)
    use(out, row, state.hop[hop, w.AT_CURRENT], w.ONE)


@part_of_walk
def _volume(tables, state, stream, level):  # type: ignore[no-untyped-def] # numba
    """Return the elements of an output tile."""
    low, high = state.low, state.high
    volume = (
        (high[level, w.K] - low[level, w.K])
        * (high[level, w.P] - low[level, w.P])
        * (high[level, w.Q] - low[level, w.Q])
    )
    return volume * (high[level, w.T] - low[level, w.T]) if (tables.stream[stream, w.R_DIMS] >> w.T) & 1 else volume


@part_of_walk
def _put_kept(tables, out, s, stream, row):  # type: ignore[no-untyped-def] # numba
    """Write a part of a tensor that stays on the chip."""
    tensor = tables.stream[stream, w.R_TENSOR]
    if out.tensor_allocation[tensor] < 0:
        out.tensor_allocation[tensor] = keep(tables, out, s, stream)
    use(out, row, out.tensor_allocation[tensor], w.ONE)
    made(tables, out, tensor, row)


@part_of_walk
def _put(tables, out, state, s, stream, row, step):  # type: ignore[no-untyped-def] # numba
    """Write a result to its buffer, pass it outwards on the chip, and queue its store when its tile is complete."""
    deep, first = state.low.shape[0] - 1, tables.stream[stream, w.R_HOP]
    if tables.stream[stream, w.R_HOPS] == 0:
        _put_kept(tables, out, s, stream, row)
        return
    link, hop = row, first + tables.stream[stream, w.R_HOPS] - 1
    _into(tables, out, state, s, stream, hop, row)
    if not (tables.stream[stream, w.R_DIMS] >> w.T) & 1 and state.high[deep, w.T] < tables.stage[s, w.S_EXTENT + w.T]:
        return  # a sum over path points that is not through
    while hop > first:  # one memory further out
        link = new_row(out, s, tables.hop[hop, w.H_UNIT], w.STORE, stream, hop)
        _output_region(out, state, link, tables.hop[hop, w.H_LEVEL])
        transfer(tables, out, s, stream, link)
        wait_for_users(out, state.hop[hop, w.AT_CURRENT], link, w.DATA)
        use(out, link, state.hop[hop, w.AT_CURRENT], w.ZERO)
        hop -= 1
        _into(tables, out, state, s, stream, hop, link)
        state.hop[hop, w.AT_FILLED] += _volume(tables, state, stream, deep)
        if state.hop[hop, w.AT_FILLED] < _volume(tables, state, stream, tables.hop[hop, w.H_LEVEL]):
            return
        state.hop[hop, w.AT_FILLED] = 0
    q, level = out.counter[w.N_QUEUED], tables.hop[hop, w.H_LEVEL]
    out.counter[w.N_QUEUED] += 1
    state.queue[q, w.Q_STREAM], state.queue[q, w.Q_ALLOCATION] = stream, state.hop[hop, w.AT_CURRENT]
    state.queue[q, w.Q_DUE] = step + tables.stage[s, w.S_DEPTH] * tables.stage[s, w.S_RUN]
    at = w.Q_T0
    for d in (w.T, w.K, w.P, w.Q):
        state.queue[q, at], state.queue[q, at + 1] = state.low[level, d], state.high[level, d]
        at += 2


@part_of_walk
def _flush(tables, out, state, s, until):  # type: ignore[no-untyped-def] # numba
    """Store what is due."""
    while out.counter[w.N_DONE] < out.counter[w.N_QUEUED] and state.queue[out.counter[w.N_DONE], w.Q_DUE] <= until:
        q = out.counter[w.N_DONE]
        out.counter[w.N_DONE] += 1
        stream, a = state.queue[q, w.Q_STREAM], state.queue[q, w.Q_ALLOCATION]
        hop, kept = tables.stream[stream, w.R_HOP], tables.stream[stream, w.R_KEPT]
        unit = tables.hop[hop, w.H_UNIT] if kept else tables.seats[0] + tables.seats[1] - 1
        row = new_row(out, s, unit, w.STORE, stream, hop)
        out.row[row, w.O_T0], out.row[row, w.O_T1] = state.queue[q, w.Q_T0], state.queue[q, w.Q_T1]
        for end in range(6):
            out.row[row, w.O_REGION + end] = state.queue[q, w.Q_REGION + end]
        transfer(tables, out, s, stream, row)
        wait_for_users(out, a, row, w.DATA)
        use(out, row, a, w.ZERO)
        if kept:
            _put_kept(tables, out, s, stream, row)
        else:
            made(tables, out, tables.stream[stream, w.R_TENSOR], row)


@part_of_walk
def _read_back(tables, out, s, first):  # type: ignore[no-untyped-def] # numba
    """A running sum is stored by the stage that loads it: loads of the next trip wait for the stores of this one."""
    for row in range(first, out.counter[w.N_ROWS]):
        stream = out.row[row, w.O_STREAM]
        if out.row[row, w.O_KIND] == w.LOAD and out.row[row, w.O_STAGE] == s and tables.stream[stream, w.R_OWN]:
            wait_for_makers(tables, out, s, stream, row, row, w.ONE)


@part_of_walk
def _choose(tables, out, s):  # type: ignore[no-untyped-def] # numba
    """The host reads what the stage stored and picks the class."""
    tensor = tables.stage[s, w.S_SYNC]
    row = new_row(out, s, tables.seats[5], w.SYNC, w.NONE, w.NONE)
    t, k = tables.maker[tensor, w.M_COUNT] - 1, tables.maker[tensor, w.M_COUNT + 1] - 1
    p, q = tables.maker[tensor, w.M_COUNT + 2] - 1, tables.maker[tensor, w.M_COUNT + 3] - 1
    first = out.made[tables.maker[tensor, w.M_AT]]
    for end in range(6):
        out.row[row, w.O_REGION + end] = out.row[first, w.O_REGION + end]
    edge(out, out.made[made_index(tables, tensor, t, k, p, q)], row, w.DATA, w.ZERO)
    out.counter[w.N_CHOICE] = row


def _compiled(others: int) -> Any:
    """Return the walk; numba's cache watches this file and what a function closes over, so that is the other files."""

    @njit(cache=True, **COMPILED)
    def walk(tables, out, state):  # type: ignore[no-untyped-def] # numba
        """Fill ``out``, all stages in order."""
        assert others
        deep, stages = state.low.shape[0] - 1, len(tables.stage)
        for s in range(stages):
            first, step, more = out.counter[w.N_ROWS], w.ZERO, True
            out.counter[w.N_DONE] = out.counter[w.N_QUEUED] = 0
            _begin(tables, state, s)
            while more:
                _load_all(tables, out, state, s)
                if tables.stage[s, w.S_ON_ARRAY]:
                    _compute(tables, out, state, s)
                if state.high[deep, w.C] == tables.stage[s, w.S_EXTENT + w.C]:
                    _finish(tables, out, state, s, step)
                more = _advance(tables, state, s)
                if more:
                    _flush(tables, out, state, s, step)
                step += 1
            if s + 1 < stages:  # the next stage's first weights go ahead of this one's last stores
                _begin(tables, state, s + 1)
                _load_ahead(tables, out, state, s + 1)
            _flush(tables, out, state, s, np.int64(1) << 62)
            if tables.stage[s, w.S_SYNC] >= 0:
                _choose(tables, out, s)
            _read_back(tables, out, s, first)

    return walk


walk = _compiled(crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in (w, rows, tiles))))
