"""Maps in storage order: NHWC, at most 16 bits, and the window operators on them.

An integer is stored as ``value − zero`` in int16 (zero is 2^15 for unsigned 16-bit formats, else 0), so that one
multiplier serves signed and unsigned; order is kept, so maxima may be taken as they are.
Masks are 0 and −1 in int8, pool indices uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from xaisim.ir.machine import LANES, call
from xaisim.ir.memory import scratch
from xaisim.ir.packing import Division, Packed
from xaisim.ir.tail import Tail, finish
from xaisim.ir.tail_code import code, fields
from xaisim.ir.types import FixedPoint

Array = np.ndarray
Pair = tuple[int, int]
Ranges = tuple[Array, Array]

_NO_LIFT, _NO_BIAS = np.zeros(0, np.int64), np.zeros(0, np.int32)


def fits(format: object) -> bool:
    """Return whether numbers of a format can be stored in 16 bits."""
    return isinstance(format, FixedPoint) and format.bits <= 16


def zero_of(format: FixedPoint) -> int:
    """Return the integer that is stored as 0."""
    return 1 << 15 if format.high > np.iinfo(np.int16).max else 0


def stored(values: Array, zero: int) -> Array:
    """Return integers (N, C, H, W) or (N, C) as a map."""
    spread = values[:, :, None, None] if values.ndim == 2 else values
    out = scratch((len(values), *spread.shape[2:], spread.shape[1]), np.int16)
    _store(np.ascontiguousarray(spread), zero, out)
    return out


@njit(cache=True, nogil=True)
def _store(values, zero, out):  # type: ignore[no-untyped-def] # numba
    N, H, W, C = out.shape
    for n in range(N):
        for y in range(H):
            for x in range(W):
                for c in range(C):
                    out[n, y, x, c] = values[n, c, y, x] - zero


def integers(map: Array, zero: int, rank: int) -> Array:
    """Return a map as int64 (N, C, H, W), or (N, C) where the sample has one axis."""
    N, H, W, C = map.shape
    values = np.empty((N, C, H, W), np.int64)
    _integers(map, zero, values)
    return values.reshape(N, -1) if rank == 1 else values


@njit(cache=True, nogil=True)
def _integers(map, zero, values):  # type: ignore[no-untyped-def] # numba
    N, C, H, W = values.shape
    for n in range(N):
        for c in range(C):
            for y in range(H):
                for x in range(W):
                    values[n, c, y, x] = np.int64(map[n, y, x, c]) + zero


@njit(cache=True, nogil=True)
def _copy(map, out, top, left, centre):  # type: ignore[no-untyped-def] # numba
    """Copy the rows and columns of ``map`` that ``out`` has room for, less a row of centres."""
    _, H, W, C = map.shape
    first = max(0, -left)
    last = max(first, min(W, out.shape[2] - left))
    for n in range(len(map)):
        for y in range(max(0, -top), min(H, out.shape[1] - top)):
            source = map[n, y].reshape(-1)[first * C : last * C]
            line = out[n, y + top].reshape(-1)[(first + left) * C : (last + left) * C]
            for i in range(len(source)):
                line[i] = source[i] - centre[i]


@njit(cache=True, nogil=True)
def _surround(out, H, W, top, left, zeros):  # type: ignore[no-untyped-def] # numba
    """Fill what lies outside the H × W places of a map with a row of zeros."""
    _, rows, columns, C = out.shape
    before, after = max(0, left) * C, min(columns, max(0, left + W)) * C
    for n in range(len(out)):
        for y in range(rows):
            line = out[n, y].reshape(-1)
            if 0 <= y - top < H:
                line[:before] = zeros[:before]
                line[after:] = zeros[after:]
            else:
                line[:] = zeros


def padded(
    map: Array, packed: Packed, zero: int, ranges: Callable[[], Ranges], *, signed: bool
) -> tuple[Array, Division | None]:
    """Return what a window reads of a map, its rows and columns with zeros around, and how its sums are divided.

    Where sums are folded, the middle of every channel's range is subtracted. For 8-bit blocks the result is uint8 and
    holds value + 128 for signed numbers. There is no division where no blocks are used. ``ranges`` gives those of the
    map's channels.
    """
    top, left = packed.window.corner
    rows, columns = packed.extent
    _, height, width, _ = map.shape
    whole = (top, left, rows, columns) == (0, 0, height, width)
    division = packed.any_input
    plain = division is not None or packed.dense.size > 0 or not packed.blocks
    if plain and whole and not packed.fours:
        return map, division
    out = scratch((len(map), rows, columns, map.shape[3]), np.uint8 if packed.fours else np.int16)
    line = np.full(columns * map.shape[3], -128 if packed.fours and signed else 0, np.int16)
    if not plain:
        low, high = ranges()
        if not whole:
            low, high = np.minimum(low, -zero), np.maximum(high, -zero)
        division = packed.division(low, high)
        line = division.row
    _copy(map, out, top, left, line)
    _surround(out, height, width, top, left, -zero - line)
    return out, division


def channel_ranges(map: Array) -> Ranges:
    """Return the least and the largest stored number of every channel, (C,) int64 each."""
    N, H, W, C = map.shape
    low, high = np.empty(W * C, np.int16), np.empty(W * C, np.int16)
    _row_ranges(map.reshape(N * H, W * C), low, high)
    low, high = low.reshape(W, C).min(axis=0), high.reshape(W, C).max(axis=0)
    return low.astype(np.int64), high.astype(np.int64)


@njit(cache=True, nogil=True)
def _row_ranges(rows, low, high):  # type: ignore[no-untyped-def] # numba
    low[:] = rows[0]
    high[:] = rows[0]
    for r in range(1, len(rows)):
        row = rows[r]
        for i in range(len(row)):
            low[i] = min(low[i], row[i])
        for i in range(len(row)):
            high[i] = max(high[i], row[i])


@njit(cache=True, nogil=True)
def max_pool(map, out, index, R, S, stride_y, stride_x, top, left):  # type: ignore[no-untyped-def] # numba
    """Write window maxima and the place of the first one (r·S + s, scan order), all channels of a place at once."""
    N, H, W, C = map.shape
    for n in range(N):
        for p in range(out.shape[1]):
            for q in range(out.shape[2]):
                best = out[n, p, q]
                place = index[n, p, q]
                empty = True
                for r in range(R):
                    y = p * stride_y + r - top
                    if y < 0 or y >= H:
                        continue
                    for s in range(S):
                        x = q * stride_x + s - left
                        if x < 0 or x >= W:
                            continue
                        values = map[n, y, x]
                        if empty:
                            for c in range(C):
                                best[c] = values[c]
                                place[c] = r * S + s
                            empty = False
                        else:
                            for c in range(C):
                                larger = values[c] > best[c]
                                best[c] = values[c] if larger else best[c]
                                place[c] = np.uint8(r * S + s) if larger else place[c]


@njit(cache=True, nogil=True)
def spread(phased, out, dy, dx):  # type: ignore[no-untyped-def] # numba
    """Put the dy · dx phases, side by side in the channels of ``phased``, to their places in ``out``."""
    N, H, W, K = out.shape
    for n in range(N):
        for y in range(H):
            for x in range(W):
                first = (y % dy * dx + x % dx) * K
                for k in range(K):
                    out[n, y, x, k] = phased[n, y // dy, x // dx, first + k]


@njit(cache=True, nogil=True)
def _emit(v, width, at, tail, listed, code):  # type: ignore[no-untyped-def] # numba
    """Take a row of exact values through the tail, compiled where it can be."""
    if code != 0 and width % LANES == 0:
        call(code, (v.ctypes.data, 0, 0, 1, width // LANES, at.ctypes.data, 0, listed.ctypes.data))  # type: ignore[call-arg]
    else:
        finish(v, 1, width, width, at, tail)


def max_unpool(
    map: Array, zero: int, index: Array, size: Pair, kernel: Pair, stride: Pair, corner: Pair, tail: Tail
) -> None:
    """Send every value to the place its index names (windows may overlap, so sums happen), then ``tail``."""
    _max_unpool(map, zero, index, *size, *kernel, *stride, *corner, tail, code(tail, "row"))


@njit(cache=True, nogil=True)
def _max_unpool(map, zero, index, H, W, R, S, stride_y, stride_x, top, left, tail, code):  # type: ignore[no-untyped-def] # numba
    N, P, Q, C = map.shape
    listed = fields(tail, _NO_LIFT, _NO_BIAS, _NO_BIAS)
    v = np.empty(W * C, np.int64)
    total = np.empty(W * C, np.int32)
    at = np.empty(1, np.int64)
    for n in range(N):
        for y in range(H):
            total[:] = 0
            for p in range(max(0, -(-(y + top - R + 1) // stride_y)), min(P, (y + top) // stride_y + 1)):
                r = y + top - p * stride_y
                for q in range(Q):
                    for s in range(S):
                        x = q * stride_x + s - left
                        if 0 <= x < W:
                            wanted = np.uint8(r * S + s)
                            for c in range(C):
                                value = np.int32(map[n, p, q, c]) + np.int32(zero)
                                total[x * C + c] += value if index[n, p, q, c] == wanted else np.int32(0)
            for i in range(W * C):
                v[i] = total[i]
            at[0] = (n * H + y) * W * C
            _emit(v, W * C, at, tail, listed, code)


def window_sum(
    map: Array, zero: int, scale: int, size: Pair, kernel: Pair, stride: Pair, corner: Pair, dilation: Pair, tail: Tail
) -> None:
    """Sum every window of the (zero-inserted) map, times ``scale``, then ``tail``; places outside count as zero."""
    _window_sum(map, zero, scale, size, kernel, stride, corner, dilation, tail, code(tail, "row"))


@njit(cache=True, nogil=True)
def _window_sum(map, zero, scale, size, kernel, stride, corner, dilation, tail, code):  # type: ignore[no-untyped-def] # numba
    N, H, W, C = map.shape
    P, Q = size
    R, S = kernel
    listed = fields(tail, _NO_LIFT, _NO_BIAS, _NO_BIAS)
    v = np.empty(Q * C, np.int64)
    at = np.empty(1, np.int64)
    for n in range(N):
        for p in range(P):
            v[:] = 0
            for r in range(R):
                y = p * stride[0] + r - corner[0]
                if y < 0 or y % dilation[0] != 0 or y // dilation[0] >= H:
                    continue
                for q in range(Q):
                    for s in range(S):
                        x = q * stride[1] + s - corner[1]
                        if x >= 0 and x % dilation[1] == 0 and x // dilation[1] < W:
                            for c in range(C):
                                v[q * C + c] += np.int64(map[n, y // dilation[0], x // dilation[1], c]) + zero
            for i in range(Q * C):
                v[i] = v[i] * scale
            at[0] = (n * P + p) * Q * C
            _emit(v, Q * C, at, tail, listed, code)


def pointwise(map: Array, zero: int, tail: Tail) -> None:
    """Take a map's values as they are through ``tail``."""
    _pointwise(map, zero, tail, code(tail, "row"))


@njit(cache=True, nogil=True)
def _pointwise(map, zero, tail, code):  # type: ignore[no-untyped-def] # numba
    N, H, W, C = map.shape
    listed = fields(tail, _NO_LIFT, _NO_BIAS, _NO_BIAS)
    v = np.empty(W * C, np.int64)
    at = np.empty(1, np.int64)
    for n in range(N):
        for y in range(H):
            line = map[n, y].reshape(-1)
            for i in range(W * C):
                v[i] = np.int64(line[i]) + zero
            at[0] = (n * H + y) * W * C
            _emit(v, W * C, at, tail, listed, code)
