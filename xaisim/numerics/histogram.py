"""How the values of a tensor are spread, and what fixed-point formats of any width would make of them.

histogram = Histogram(); histogram.see(values); histogram.squared_error(FixedPoint(8, 6))

Bins are those of a short floating-point number, so that one pass serves every scale and width: a sign, 96 exponents
and 16 mantissas each, with the number of values and their sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from xaisim.ir.graph import Array
from xaisim.ir.types import FixedPoint, Overflow, Rounding

_MANTISSA_BITS = 4
_LEAST_EXPONENT = -64
_EXPONENTS = 96
_BINS = _EXPONENTS << _MANTISSA_BITS


@njit(cache=True, nogil=True)
def _count(values, bits, counts, sums, first, shift):  # type: ignore[no-untyped-def] # numba
    most = counts.shape[1] - 1
    for i in range(values.size):
        if values[i] != 0:
            negative = 1 if values[i] < 0 else 0
            place = ((bits[i] & 0x7FFFFFFFFFFFFFFF) >> shift) - first
            place = 0 if place < 0 else (most if place > most else place)
            counts[negative, place] += 1
            sums[negative, place] += values[i]


@dataclass(slots=True)
class Histogram:
    """Counts and sums of all values but zeros, which every format holds. Arrays are (2 signs, bins)."""

    counts: Array = field(default_factory=lambda: np.zeros((2, _BINS)))
    sums: Array = field(default_factory=lambda: np.zeros((2, _BINS)))

    def see(self, values: Array) -> None:
        """Add the values of an array of float64."""
        flat = np.ascontiguousarray(values, np.float64).reshape(-1)
        first = (1023 + _LEAST_EXPONENT) << _MANTISSA_BITS
        _count(flat, flat.view(np.int64), self.counts, self.sums, first, 52 - _MANTISSA_BITS)

    def plus(self, other: Histogram) -> Histogram:
        """Return the histogram of both."""
        return Histogram(self.counts + other.counts, self.sums + other.sums)

    def squared_error(self, format: FixedPoint) -> float:
        """Return Σ (value − what ``format`` makes of it)², rounding and overflow included.

        A bin narrower than a step is rounded at its mean. Values of a wider one lie anywhere between steps: they err by
        step²/12 when rounded to nearest and by step²/3 when cut.
        """
        _, places = np.nonzero(self.counts)
        used = self.counts > 0
        counts = self.counts[used]
        means = self.sums[used] / counts
        widths = np.ldexp(1.0, (places >> _MANTISSA_BITS) + _LEAST_EXPONENT - _MANTISSA_BITS)
        scaled = np.ldexp(means, format.frac)
        whole = rounded(scaled, format.rounding)
        cut = format.rounding in (Rounding.TRN, Rounding.TRN_ZERO)
        errors = np.ldexp(scaled - fitted(whole, format), -format.frac) ** 2
        inside = (whole >= format.low) & (whole <= format.high)
        errors[inside & (widths >= format.step)] = format.step**2 / (3 if cut else 12)
        return float((counts * errors).sum())


def rounded(scaled: Array, mode: Rounding) -> Array:
    """Return real numbers rounded to whole ones as ``ap_fixed`` does."""
    sign = np.sign(scaled)
    modes = {
        Rounding.TRN: lambda: np.floor(scaled),
        Rounding.TRN_ZERO: lambda: np.trunc(scaled),
        Rounding.RND: lambda: np.floor(scaled + 0.5),
        Rounding.RND_ZERO: lambda: sign * np.ceil(np.abs(scaled) - 0.5),
        Rounding.RND_INF: lambda: sign * np.floor(np.abs(scaled) + 0.5),
        Rounding.RND_MIN_INF: lambda: np.ceil(scaled - 0.5),
        Rounding.RND_CONV: lambda: np.rint(scaled),
    }
    return modes[mode]()


def fitted(whole: Array, format: FixedPoint) -> Array:
    """Return whole numbers (as floats) brought into the range of ``format`` by its overflow mode."""
    low, high = float(format.low), float(format.high)
    if format.overflow is Overflow.WRAP:
        return (whole - low) % 2.0**format.bits + low
    if format.overflow is Overflow.SAT_ZERO:
        return np.where((whole < low) | (whole > high), 0.0, whole)
    if format.overflow is Overflow.SAT_SYM and format.signed:
        low = -high
    return np.clip(whole, low, high)


@njit(cache=True, nogil=True)
def nearest_errors(rows, fractions, low, high):  # type: ignore[no-untyped-def] # numba
    """Return Σ (value − nearest, saturating)² of each row (K, n) at each of its candidate fractions (K, m)."""
    errors = np.zeros(fractions.shape)
    for k in range(rows.shape[0]):
        for m in range(fractions.shape[1]):
            scale = 2.0 ** fractions[k, m]
            total = 0.0
            for i in range(rows.shape[1]):
                scaled = rows[k, i] * scale
                whole = min(max(np.floor(scaled + 0.5), low), high)
                total += (scaled - whole) ** 2
            errors[k, m] = total / (scale * scale)
    return errors
