"""The integer tables of the walk: a line per column, and what it reads, writes and remembers.

    tables.hop[3, H_SLOTS]        how many buffers the fourth memory on a stream's way has
    out.row[i, O_UNIT]            the unit of row i

``lower.py`` fills and allots them, ``rows.py`` and ``walk.py`` are compiled for them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.mapping.tiles import Edge, Kind

Array = np.ndarray

# numba compiles a function anew for every Python integer that it is called with, but not for one of numpy's.
NONE, ZERO, ONE = np.int64(-1), np.int64(0), np.int64(1)
DATA, BUFFER = np.int64(Edge.DATA), np.int64(Edge.BUFFER)
LOAD, COMPUTE, VECTOR, STORE, SYNC = (np.int64(kind) for kind in Kind)

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
A_USER = A_BEFORE + 1  # of every unit, the last row that used it, or −1

# Columns of Out.counter: of what there is so far, and of the stores of a stage; the row that chooses the class, or −1
(N_ROWS, N_EDGES, N_ALLOCATIONS, N_ACCESSES, N_LOADS, N_QUEUED, N_DONE, N_CHOICE) = range(8)

# Columns of State.hop: the tile asked for last, tiles so far, the allocation of the last one, and elements in it
(AT_LAST, AT_VERSION, AT_CURRENT, AT_FILLED) = range(4)

# Columns of State.queue: allocation and region of a tile that waits to be stored, and the step at which it is due
(Q_STREAM, Q_ALLOCATION, Q_DUE, Q_T0, Q_T1, Q_REGION) = range(6)
QUEUE_COLUMNS = Q_REGION + 6


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
    access: Array
    """row, allocation, 1 for a write."""
    made: Array
    """Rows that make tensors, tile by tile: stores, or vector rows for what stays on the chip."""
    tensor_allocation: Array
    counter: Array


class State(NamedTuple):
    """Where the walk stands."""

    iteration: Array
    """Iteration of every loop of the stage."""
    low: Array
    """(levels, 5): where the tile of every level begins along T K C P Q."""
    high: Array
    """(levels, 5): and where it ends."""
    hop: Array
    tile: Array
    """Allocation of every tile, by ``H_TABLE`` and tile number."""
    slot: Array
    """Allocation in every slot, by ``H_SLOT`` and slot."""
    queue: Array
    """Stores that wait."""
