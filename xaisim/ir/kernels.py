"""Compiled kernels behind a fence: arrays and scalars in, arrays out.

Every kernel works on a leading batch axis and is exact on integers; on float64 it is the reference.
Windows are given by their top-left padding and the output size, so a negative padding crops.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xaisim.ir.types import FixedPoint, Overflow, Rounding

Array = np.ndarray
Pair = tuple[int, int]

ROUNDING = {mode: code for code, mode in enumerate(Rounding)}
OVERFLOW = {mode: code for code, mode in enumerate(Overflow)}


@njit(cache=True, nogil=True)
def _gather_columns(x, columns, R, S, stride_y, stride_x, top, left, P, Q):  # type: ignore[no-untyped-def] # numba
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for r in range(R):
                for s in range(S):
                    row = (c * R + r) * S + s
                    for p in range(P):
                        h = p * stride_y + r - top
                        inside = 0 <= h < H
                        for q in range(Q):
                            w = q * stride_x + s - left
                            if inside and 0 <= w < W:
                                columns[n, row, p * Q + q] = x[n, c, h, w]
                            else:
                                columns[n, row, p * Q + q] = 0


@njit(cache=True, nogil=True)
def _matmul_int64(w, columns, out):  # type: ignore[no-untyped-def] # numba
    N, M, L = columns.shape
    for n in range(N):
        for k in range(w.shape[0]):
            for m in range(M):
                weight = w[k, m]
                if weight != 0:
                    for i in range(L):
                        out[n, k, i] += weight * columns[n, m, i]


def product_dtype(bound: int | None) -> np.dtype:
    """Return the dtype in which sums of products up to ``bound`` are exact: float32, float64 or int64.

    Floating point adds integers exactly while every partial sum stays below 2^24 (float32) or 2^53
    (float64), and BLAS is many times faster than integer loops. ``None`` means real numbers.
    """
    if bound is None or 1 << 24 <= bound < 1 << 53:
        return np.dtype(np.float64)
    return np.dtype(np.float32 if bound < 1 << 24 else np.int64)


def matmul(w: Array, columns: Array, bound: int | None) -> Array:
    """Return ``w @ columns`` for every sample: (K, M) · (N, M, L) → (N, K, L); exact when ``bound`` is given."""
    dtype = product_dtype(bound)
    if dtype == np.int64:
        out = np.zeros((columns.shape[0], w.shape[0], columns.shape[2]), np.int64)
        _matmul_int64(w.astype(np.int64), columns.astype(np.int64), out)
        return out
    product = np.matmul(w.astype(dtype, copy=False), columns.astype(dtype, copy=False))
    return product if bound is None else product.astype(np.int64)


def correlate(x: Array, w: Array, stride: Pair, corner: Pair, size: Pair, bound: int | None) -> Array:
    """Slide ``w`` (K, C, R, S) over ``x`` (N, C, H, W) and return (N, K, P, Q).

    ``corner`` is the padding above and to the left, ``size`` the output (P, Q).
    ``bound`` is the largest possible |sum| of integers, or ``None`` for real numbers.
    """
    N, C, H, W = x.shape
    K, _, R, S = w.shape
    P, Q = size
    if (R, S) == (1, 1) and stride == (1, 1) and corner == (0, 0) and (P, Q) == (H, W):
        return matmul(w.reshape(K, C), x.reshape(N, C, H * W), bound).reshape(N, K, P, Q)
    out = np.empty((N, K, P, Q), np.float64 if bound is None else np.int64)
    chunk = max(1, (1 << 20) // max(1, C * R * S * P * Q))  # a column matrix of about 8 MB at most per pass
    columns = np.empty((min(N, chunk), C * R * S, P * Q), product_dtype(bound))
    for first in range(0, N, chunk):
        part = x[first : first + chunk]
        window = columns[: len(part)]
        _gather_columns(part, window, R, S, *stride, *corner, P, Q)
        out[first : first + chunk] = matmul(w.reshape(K, -1), window, bound).reshape(-1, K, P, Q)
    return out


def phases(kernel: int, padding: int, dilation: int, size: int) -> list[tuple[int, int, int, int, int]]:
    """Split one axis of a stride-1 window over a zero-inserted input into dense sub-windows.

    Returns (first output, first tap, taps, padding, outputs) per residue of the output position modulo
    ``dilation``: output ``a + m·dilation`` sees only taps ``r ≡ padding − a`` and only real input elements,
    so no multiplication is spent on an inserted zero.
    """
    parts = []
    for a in range(min(dilation, size)):
        tap = (padding - a) % dilation
        taps = len(range(tap, kernel, dilation))
        parts.append((a, tap, taps, (padding - a - tap) // dilation, len(range(a, size, dilation))))
    return parts


def correlate_dilated(x: Array, w: Array, dilation: Pair, corner: Pair, size: Pair, bound: int | None) -> Array:
    """Like :func:`correlate` with stride 1 over ``x`` with ``dilation − 1`` zeros inserted between elements."""
    out = np.zeros((x.shape[0], w.shape[0], *size), np.float64 if bound is None else np.int64)
    dy, dx = dilation
    for a, r, rows, top, P in phases(w.shape[2], corner[0], dy, size[0]):
        for b, s, columns, left, Q in phases(w.shape[3], corner[1], dx, size[1]):
            if rows and columns:
                part = np.ascontiguousarray(w[:, :, r::dy, s::dx])
                out[:, :, a::dy, b::dx] = correlate(x, part, (1, 1), (top, left), (P, Q), bound)
    return out


@njit(cache=True, nogil=True)
def max_pool(x, out, index, R, S, stride_y, stride_x, top, left):  # type: ignore[no-untyped-def] # numba
    """Write the window maxima to ``out`` and the place of the first one (r·S + s, scan order) to ``index``."""
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for p in range(out.shape[2]):
                for q in range(out.shape[3]):
                    best = -1
                    value = x[n, c, 0, 0]
                    for r in range(R):
                        h = p * stride_y + r - top
                        for s in range(S):
                            w = q * stride_x + s - left
                            if 0 <= h < H and 0 <= w < W and (best < 0 or x[n, c, h, w] > value):
                                best = r * S + s
                                value = x[n, c, h, w]
                    out[n, c, p, q] = value
                    index[n, c, p, q] = best


@njit(cache=True, nogil=True)
def max_unpool(g, index, out, S, stride_y, stride_x, top, left):  # type: ignore[no-untyped-def] # numba
    """Add every ``g`` to the place its ``index`` names in ``out`` (windows may overlap, so sums happen)."""
    N, C, P, Q = g.shape
    for n in range(N):
        for c in range(C):
            for p in range(P):
                for q in range(Q):
                    i = index[n, c, p, q]
                    out[n, c, p * stride_y + i // S - top, q * stride_x + i % S - left] += g[n, c, p, q]


@njit(cache=True, nogil=True)
def window_sum(x, out, R, S, stride_y, stride_x, top, left, dilation_y, dilation_x):  # type: ignore[no-untyped-def] # numba
    """Write the sum of every window of the (zero-inserted) ``x`` to ``out``; places outside count as zero."""
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for p in range(out.shape[2]):
                for q in range(out.shape[3]):
                    total = x.dtype.type(0)  # x may be empty: a tile of padding alone
                    for r in range(R):
                        h = p * stride_y + r - top
                        if h >= 0 and h % dilation_y == 0 and h // dilation_y < H:
                            for s in range(S):
                                w = q * stride_x + s - left
                                if w >= 0 and w % dilation_x == 0 and w // dilation_x < W:
                                    total += x[n, c, h // dilation_y, w // dilation_x]
                    out[n, c, p, q] = total


@njit(cache=True, nogil=True)
def _round_shift(v, shift, rounding):  # type: ignore[no-untyped-def] # numba
    if shift > 64:  # every v lies strictly between −1/2 and 1/2 of the new step: so does ±1/4
        v = (v > 0) - (v < 0)
        shift = 2
    elif shift == 64:  # one bit less; that it was set still decides between a tie and what only looks like one
        v = (v >> 1) | (v & 1)
        shift = 63
    q = v >> shift
    rest = v - (q << shift)
    half = np.int64(1) << (shift - 1)
    if rounding == 0:
        return q
    if rounding == 1:
        return q + (1 if v < 0 and rest > 0 else 0)
    if rest != half:
        return q + (1 if rest > half else 0)
    up = (
        rounding == 2 or (rounding == 3 and v < 0) or (rounding == 4 and v >= 0) or (rounding == 6 and (q & 1) == 1)
    )  # a tie: 5, towards minus infinity, never goes up
    return q + (1 if up else 0)


@njit(cache=True, nogil=True)
def requant_into(values, out, shift, rounding, overflow, low, high):  # type: ignore[no-untyped-def] # numba
    for i in range(values.size):
        v = values[i]
        if shift > 0:
            v = _round_shift(v, shift, rounding)
        elif shift < 0 and overflow == 3:
            v = v << -shift if shift > -64 else np.int64(0)
        elif shift < 0 and v != 0:
            left = -shift
            most = high >> left if left < 63 else np.int64(0)
            least = low >> left if left < 64 else np.int64(0)
            if v > most:
                v = np.int64(0) if overflow == 1 else high
            elif v < least:
                v = np.int64(0) if overflow == 1 else low
            else:
                v = v << left
        if overflow == 3:
            v = ((v - low) & (high - low)) + low
        elif v > high or v < low:
            v = np.int64(0) if overflow == 1 else (high if v > high else low)
        out[i] = v


def requant(values: Array, from_frac: int, to: FixedPoint) -> Array:
    """Move integers with ``from_frac`` fraction bits to format ``to``: the only operation that rounds."""
    source = np.ascontiguousarray(values, np.int64)
    out = np.empty_like(source)
    requant_into(
        source.reshape(-1),
        out.reshape(-1),
        from_frac - to.frac,
        ROUNDING[to.rounding],
        OVERFLOW[to.overflow],
        -to.high if to.overflow is Overflow.SAT_SYM and to.signed else to.low,
        to.high,
    )
    return out
