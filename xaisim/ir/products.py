"""Exact sums of products on packed integers: convolutions and matrix products of at most 16-bit numbers, NHWC.

packed = pack(filters, window, fours=False, peak=2**15)          once per weights (xaisim.ir.packing)
run(packed, division, x, bias, lift, tail, (P, Q))
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xaisim.ir.machine import MOST_PIXELS, call
from xaisim.ir.packing import Division, Packed
from xaisim.ir.tail import Tail, finish
from xaisim.ir.tail_code import Bias, code, fields
from xaisim.ir.threads import share

Array = np.ndarray
Pair = tuple[int, int]

_WORK_PER_THREAD = 1 << 20
"""Multiplications below which a second thread costs more than it brings."""


def run(
    packed: Packed,
    division: Division | None,
    x: Array,
    bias: Bias,
    lift: Array,
    tail: Tail,
    shape: Pair,
    *,
    threads: int = 1,
) -> None:
    """Slide the window over ``x`` (N, rows, columns, C) and hand every sum to ``tail``.

    ``x`` and ``division`` are what :func:`xaisim.ir.nhwc.padded` made of a map; ``shape`` is the height and width of
    the output map. Sums are shifted left by ``lift`` (K,), unless it is empty; then ``bias``, with what the division
    lacks, is added.
    """
    P, Q = packed.window.size
    pixels = len(x) * P * Q
    if division is None:
        _run_dense(packed, x, bias.whole, lift, tail, shape)
        return
    table = division.table
    work = division.segments.size and pixels * packed.w.size // 2
    parts = min(threads, max(1, work // _WORK_PER_THREAD))
    by_filter = len(table) - 1 >= 2 * parts and pixels < 24 * parts
    count = len(table) - 1 if by_filter else pixels
    cuts = [count * i // parts for i in range(parts + 1)]
    if not by_filter:
        cuts = [c - c % MOST_PIXELS if c < count else c for c in cuts]

    codes = code(tail, "lo", lift=lift.size > 0), code(tail, "planes", lift=lift.size > 0)

    def part(i: int) -> None:
        own = table[cuts[i] : cuts[i + 1] + 1] if by_filter else table
        first, last = (0, pixels) if by_filter else (cuts[i], cuts[i + 1])
        _run_blocks(x, packed.w, division.segments, own, packed.window, shape, bias, lift, tail, *codes, first, last)

    share(part, parts)


@njit(cache=True, nogil=True)
def _run_blocks(x, w, segments, table, window, shape, biases, lift, tail, whole, parted, first, last):  # type: ignore[no-untyped-def] # numba
    """All blocks of ``table`` over the pixels ``first`` to ``last``, block by block so that its weights stay near."""
    P, Q = window.size
    bias = biases.whole
    K = bias.size
    listed = fields(tail, lift, biases.high, biases.low)
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
            else:  # no tap of this phase meets a real element
                lo[:] = 0
            finisher = parted if fold else whole
            if finisher != 0 and used == width:
                call(  # type: ignore[call-arg]
                    finisher, (lo.ctypes.data, hi.ctypes.data, bias.ctypes.data, valid, groups,
                                at.ctypes.data, k, listed.ctypes.data))  # fmt: skip
                continue
            _join(lo, hi, bias[k : k + used], lift[k : k + used], v, valid, width, used, fold)
            finish(v, valid, width, used, at, tail)


@njit(inline="always")
def _join(lo, hi, bias, lift, v, pixels, width, used, fold):  # type: ignore[no-untyped-def] # numba
    """Write bias + (lo + 2^16 · hi), lifted, to ``v``."""
    for j in range(pixels):
        for i in range(used):
            v[j * width + i] = lo[j * width + i]
    if fold:
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
