"""Exact sums of products on packed integers: convolutions and matrix products of at most 16-bit numbers, NHWC.

    packed = pack(weights, geometry, peak=32768, fours=False)
    run(packed, x, tail)

Weights are packed once, for the register blocks of this machine (``xaisim.ir.blocks``). Where a sum may leave 32 bits
it is cut into segments that cannot, by the weights themselves: max|x| · Σ|w| of a segment stays below 2^31 − 2^16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.ir.blocks import block
from xaisim.ir.kernels import phases, product_dtype
from xaisim.ir.machine import LANES, MOST_PIXELS, call, selected
from xaisim.ir.tail import Tail, code, fields, finish
from xaisim.ir.threads import share

Array = np.ndarray
Pair = tuple[int, int]

LIMIT = (1 << 31) - (1 << 16)
"""What a segment's sum may reach beside the 16 bits that the one before left."""
WHOLE = (1 << 31) - 1
_WORK_PER_THREAD = 1 << 20
"""Multiplications below which a second thread costs more than it brings."""


class Window(NamedTuple):
    """A dense window over packed input and where its outputs go: output (p, q) is the map's (a + p·dy, b + q·dx)."""

    taps: Pair  # R, S
    stride: Pair
    corner: Pair  # padding above and to the left
    size: Pair  # P, Q
    first: Pair = (0, 0)
    step: Pair = (1, 1)


@dataclass(frozen=True, slots=True)
class Packed:
    """One window's weights in the order in which the blocks read them."""

    window: Window
    channels: int
    filters: int
    fours: bool
    w: Array
    """Bytes; every block starts at a multiple of 64."""
    table: Array
    """(blocks, 7): first filter, pixels, groups, address of the code, byte of ``w``, first segment, whether its sums
    are folded; one row more at the end."""
    segments: Array
    """(segments, 2): first and end byte of x, relative to the output's first input element."""
    extent: Pair
    """Rows and columns of x that the outputs read."""
    sums: Array
    """(K,): Σw of every filter."""
    dense: Array
    """(R·S·C, K) real numbers for matrix products without blocks; empty where blocks are used."""


def windows_of(taps: Pair, stride: Pair, dilation: Pair, corner: Pair, size: Pair) -> list[tuple[Window, Pair]]:
    """Split a convolution over a zero-inserted input into dense windows, with the first tap of each."""
    if dilation == (1, 1):
        return [(Window(taps, stride, corner, size), (0, 0))]
    rows = phases(taps[0], corner[0], dilation[0], size[0])
    columns = phases(taps[1], corner[1], dilation[1], size[1])
    return [
        (Window((R if S else 0, S if R else 0), (1, 1), (top, left), (P, Q), (a, b), dilation), (r, s))
        for a, r, R, top, P in rows
        for b, s, S, left, Q in columns
    ]


def pack(w: Array, window: Window, *, peak: int, fours: bool, bound: int, room: Pair = (0, 0)) -> Packed:
    """Return filters ``w`` (K, C, R, S) of one dense window, packed for inputs of at most ``peak`` in magnitude.

    ``fours`` packs 8-bit weights for unsigned 8-bit inputs. ``bound`` is the largest possible |sum|; ``room`` the rows
    and columns of the map that is read, which a window that needs no padding takes in place.
    """
    kernels = selected()
    K, C, R, S = w.shape
    P, Q = window.size
    extent = ((P - 1) * window.stride[0] + max(R, 1), (Q - 1) * window.stride[1] + max(S, 1))
    if window.corner == (0, 0) and not fours and extent[0] <= room[0] and extent[1] <= room[1]:
        extent = room
    rows = w.transpose(0, 2, 3, 1).reshape(K, R, S * C)
    sums = rows.sum(axis=(1, 2))
    if not kernels.lanes:
        dense = np.ascontiguousarray(rows.reshape(K, -1).T, product_dtype(bound))
        none = np.zeros(0, np.uint8)
        return Packed(
            window, C, K, fours, none, np.zeros((0, 7), np.int64), np.zeros((0, 2), np.int64), extent, sums, dense
        )
    each = 4 if fours else 2
    padded = np.zeros((K, R, -(-S * C // each) * each), np.int8 if fours else np.int16)
    padded[:, :, : S * C] = rows
    element = 1 if fours else 2
    steps = padded.shape[2] // each
    offsets = (np.arange(R)[:, None] * extent[1] * C * element + 4 * np.arange(steps)).reshape(-1)
    padded = padded.reshape(K, R * steps, each)
    table: list[tuple[int, ...]] = []
    segments: list[Pair] = []
    parts, at = [], 0
    k = 0
    while k < K:
        groups = -(-(K - k) // LANES)
        shape = kernels.shape_for(groups, fold=False)
        fold = _magnitude(padded[k : k + shape.groups * LANES]) * peak > WHOLE
        shape = kernels.shape_for(groups, fold=fold)
        width = shape.groups * LANES
        part = np.zeros((R * steps, width, each), padded.dtype)
        part[:, : min(width, K - k)] = padded[k : k + width].transpose(1, 0, 2)
        if fold:
            part, own = segmented(part, offsets, LIMIT // peak)
        else:
            own = [(int(offsets[r * steps]), int(offsets[r * steps]) + 4 * steps) for r in range(R if steps else 0)]
        address = block(kernels, shape, fold=fold, fours=fours)
        table.append((k, shape.pixels, shape.groups, address, at, len(segments), fold))
        segments += own
        parts.append(part.reshape(-1).view(np.uint8))
        at += parts[-1].size
        k += width
    table.append((K, 0, 0, 0, at, len(segments), 0))
    packed = aligned(at, np.uint8)
    packed[:] = np.concatenate(parts) if parts else 0
    listed = np.array(segments, np.int64).reshape(-1, 2)
    empty = np.zeros((0, 0))
    return Packed(window, C, K, fours, packed, np.array(table, np.int64), listed, extent, sums, empty)


def _magnitude(part: Array) -> int:
    """Return the largest Σ|w| of a filter."""
    return int(np.abs(part.astype(np.int32)).reshape(len(part), -1).sum(axis=1, dtype=np.int64).max(initial=0))


def segmented(part: Array, offsets: Array, limit: int) -> tuple[Array, list[Pair]]:
    """Return a block's weights (steps, width, each) and its segments, each of which keeps Σ|w| to ``limit``.

    A step whose own products may leave 32 bits (both weights and inputs at their most negative) is taken in two.
    """
    of_step = np.abs(part.astype(np.int32)).sum(axis=2)
    twice = of_step.max(axis=1) > limit
    if twice.any():
        repeated = np.repeat(part, 1 + twice, axis=0)
        second = np.flatnonzero(np.repeat(twice, 1 + twice))[1::2]
        repeated[second - 1, :, 1] = 0
        repeated[second, :, 0] = 0
        part, offsets = repeated, np.repeat(offsets, 1 + twice)
        of_step = np.abs(part.astype(np.int32)).sum(axis=2)
    ends = np.empty(len(part) + 1, np.int64)
    count = _cut(of_step, offsets, limit, ends)
    first = np.concatenate(([0], ends[: count - 1]))
    return part, [(int(offsets[i]), int(offsets[j - 1]) + 4) for i, j in zip(first, ends[:count], strict=True)]


@njit(cache=True, nogil=True)
def _cut(of_step, offsets, limit, ends):  # type: ignore[no-untyped-def] # numba
    """Write the ends of the longest segments of neighbouring steps whose Σ|w| keeps to ``limit`` in every lane."""
    steps, lanes = of_step.shape
    total = np.zeros(lanes, np.int64)
    count = 0
    for i in range(steps):
        worst = 0
        for lane in range(lanes):
            worst = max(worst, total[lane] + of_step[i, lane])
        if i > 0 and (worst > limit or offsets[i] != offsets[i - 1] + 4):
            ends[count] = i
            count += 1
            total[:] = 0
        for lane in range(lanes):
            total[lane] += of_step[i, lane]
    ends[count] = steps
    return count + 1


def aligned(size: int, dtype: type) -> Array:
    """Return uninitialised memory at a multiple of 64 bytes, with 64 readable bytes behind it."""
    width = np.dtype(dtype).itemsize
    raw = np.empty(size * width + 128, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * width].view(dtype)


# --- running ----------------------------------------------------------------------------------------------------------


def run(packed: Packed, x: Array, bias: Array, lift: Array, tail: Tail, shape: Pair, *, threads: int = 1) -> None:
    """Slide the window over ``x`` (N, rows, columns, C) and hand every sum to ``tail``.

    ``x`` is what :func:`xaisim.ir.nhwc.padded` made: the elements that the window reads. ``shape`` is the height and
    width of the output map. Sums are shifted left by ``lift`` (K,), unless it is empty; then ``bias`` (K,) is added.
    """
    P, Q = packed.window.size
    pixels = len(x) * P * Q
    if not selected().lanes:
        _run_dense(packed, x, bias, lift, tail, shape)
        return
    table = packed.table
    work = packed.segments.size and pixels * packed.w.size // 2
    parts = min(threads, max(1, work // _WORK_PER_THREAD))
    by_filter = len(table) - 1 >= 2 * parts and pixels < 24 * parts
    count = len(table) - 1 if by_filter else pixels
    cuts = [count * i // parts for i in range(parts + 1)]
    if not by_filter:
        cuts = [c - c % MOST_PIXELS if c < count else c for c in cuts]

    listed = fields(tail, lift)
    codes = code(tail, "lo", lift=lift.size > 0), code(tail, "planes", lift=lift.size > 0)

    def part(i: int) -> None:
        own = table[cuts[i] : cuts[i + 1] + 1] if by_filter else table
        first, last = (0, pixels) if by_filter else (cuts[i], cuts[i + 1])
        _run_blocks(
            x, packed.w, packed.segments, own, packed.window, shape, bias, lift, tail, listed, *codes, first, last
        )

    share(part, parts)


@njit(cache=True, nogil=True)
def _run_blocks(x, w, segments, table, window, shape, bias, lift, tail, listed, whole, parted, first, last):  # type: ignore[no-untyped-def] # numba
    """All blocks of ``table`` over the pixels ``first`` to ``last``, block by block so that its weights stay near."""
    P, Q = window.size
    K = bias.size
    column = x.shape[3] * x.itemsize
    row = x.shape[2] * column
    image = x.shape[1] * row
    raw = np.empty(2 * 6 * 64 + 32, np.int32)  # both planes of the largest block, aligned
    planes = raw[((64 - raw.ctypes.data % 64) % 64) // 4 :]
    lo, hi = planes[: 6 * 64], planes[6 * 64 : 2 * 6 * 64]
    addresses = np.empty(MOST_PIXELS, np.int64)
    at = np.empty(MOST_PIXELS, np.int64)
    v = np.empty(6 * 64, np.int64)
    for i in range(len(table) - 1):
        k, pixels, groups, block, byte, segment, fold = table[i]
        count = table[i + 1, 5] - segment
        width = groups * 16
        used = min(width, K - k)
        for start in range(first, last, pixels):
            n = start // (P * Q)
            p = (start // Q) % P
            q = start % Q
            valid = min(pixels, last - start)
            for j in range(pixels):
                addresses[j] = x.ctypes.data + n * image + p * window.stride[0] * row + q * window.stride[1] * column
                at[j] = (
                    (n * shape[0] + window.first[0] + p * window.step[0]) * shape[1]
                    + window.first[1]
                    + q * window.step[1]
                ) * K + k
                if j + 1 < valid:  # beyond the last pixel the last one again
                    q += 1
                    if q == Q:
                        q = 0
                        p += 1
                        if p == P:
                            p = 0
                            n += 1
            if count > 0:
                call(  # type: ignore[call-arg]
                    block, (addresses.ctypes.data, segments.ctypes.data + 16 * segment, count,
                             w.ctypes.data + byte, lo.ctypes.data, hi.ctypes.data))  # fmt: skip
            finisher = parted if fold else whole
            if finisher != 0 and used == width and count > 0:
                call(  # type: ignore[call-arg]
                    finisher, (lo.ctypes.data, hi.ctypes.data, bias.ctypes.data, valid, groups,
                                at.ctypes.data, k, listed.ctypes.data))  # fmt: skip
                continue
            _join(lo, hi, bias[k : k + used], lift[k : k + used], v, valid, width, used, fold, count)
            finish(v, valid, width, used, at, tail)


@njit(inline="always")
def _join(lo, hi, bias, lift, v, pixels, width, used, fold, count):  # type: ignore[no-untyped-def] # numba
    """Write bias + (lo + 2^16 · hi), lifted, to ``v``."""
    for j in range(pixels):
        for i in range(used):
            v[j * width + i] = lo[j * width + i] if count > 0 else 0
    if fold and count > 0:
        for j in range(pixels):
            for i in range(used):
                v[j * width + i] += np.int64(hi[j * width + i]) << 16
    if lift.size != 0:
        for j in range(pixels):
            for i in range(used):
                v[j * width + i] = v[j * width + i] << lift[i]
    for j in range(pixels):
        for i in range(used):
            v[j * width + i] += bias[i]


def _run_dense(packed: Packed, x: Array, bias: Array, lift: Array, tail: Tail, shape: Pair) -> None:
    """The same by matrix products of real numbers, which are exact below their 24 or 53 bits, or by integer loops."""
    window, (M, K) = packed.window, packed.dense.shape
    P, Q = window.size
    pixels = len(x) * P * Q
    chunk = max(1, min(pixels, (1 << 19) // max(1, M)))
    columns = np.empty((chunk, M), packed.dense.dtype)
    v = np.empty((chunk, K), np.int64)
    for first in range(0, pixels, chunk):
        count = min(chunk, pixels - first)
        _gather(x, columns, window, first, count)
        if packed.dense.dtype == np.int64:
            _multiply(columns[:count], packed.dense, v)
        else:
            v[:count] = columns[:count] @ packed.dense
        _finish_rows(v, bias, lift, window, shape, tail, first, count)


@njit(cache=True, nogil=True)
def _gather(x, columns, window, first, count):  # type: ignore[no-untyped-def] # numba
    """Copy the window of every pixel to a row of ``columns``."""
    P, Q = window.size
    R, S = window.taps
    C = x.shape[3]
    for i in range(count):
        n = (first + i) // (P * Q)
        p = ((first + i) // Q) % P
        q = (first + i) % Q
        m = 0
        for r in range(R):
            for s in range(S):
                for c in range(C):
                    columns[i, m] = x[n, p * window.stride[0] + r, q * window.stride[1] + s, c]
                    m += 1


@njit(cache=True, nogil=True)
def _multiply(columns, w, v):  # type: ignore[no-untyped-def] # numba
    for i in range(len(columns)):
        v[i] = 0
        for m in range(columns.shape[1]):
            for k in range(w.shape[1]):
                v[i, k] += columns[i, m] * w[m, k]


@njit(cache=True, nogil=True)
def _finish_rows(v, bias, lift, window, shape, tail, first, count):  # type: ignore[no-untyped-def] # numba
    P, Q = window.size
    K = v.shape[1]
    at = np.empty(1, np.int64)
    for i in range(count):
        n = (first + i) // (P * Q)
        y = window.first[0] + ((first + i) // Q) % P * window.step[0]
        at[0] = ((n * shape[0] + y) * shape[1] + window.first[1] + (first + i) % Q * window.step[1]) * K
        for k in range(K):
            v[i, k] = (v[i, k] << lift[k] if lift.size != 0 else v[i, k]) + bias[k]
        finish(v[i], 1, K, K, at, tail)
