"""The tail of a sum: what happens to an exact value while it is still near, before it is stored in 16 bits or less.

    v → (v << shift) + (other << other_shift) → sign to ``mask`` → round and fit → pass where ``gate`` is set → ``out``

Every step but the last is optional; an array of size 0 stands for an absent one. All maps are NHWC of one shape, flat.
Here are loops for any way of rounding; ``xaisim.ir.tail_code`` compiles the usual one for whole groups of channels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.ir.kernels import OVERFLOW, ROUNDING, requant_into
from xaisim.ir.types import FixedPoint, Overflow, Rounding

Array = np.ndarray

NEAREST, SATURATE = ROUNDING[Rounding.RND], OVERFLOW[Overflow.SAT]
_NONE16, _NONE8, _NONE64 = np.zeros(0, np.int16), np.zeros(0, np.int8), np.zeros(0, np.int64)


class Tail(NamedTuple):
    """Scalars and flat arrays; integers are stored as ``value − zero`` in int16, masks as 0 and −1 in int8."""

    shift: int
    other: Array
    other_shift: int
    other_zero: int
    mask: Array
    gate: Array
    out: Array
    zero: int
    wide: Array
    """Takes the value in int64 where it does not fit 16 bits."""
    rounds: bool
    right: int
    rounding: int
    overflow: int
    low: int
    high: int
    positive: bool
    """What is negative after rounding becomes zero (a ReLU); only where the bounds do not see to it."""
    bits: int
    """Bits of the exact value, with all that was added to it."""

    @property
    def usual(self) -> bool:
        """It rounds to nearest and saturates, or does not round."""
        return self.rounding == NEAREST and self.overflow == SATURATE and 0 <= self.right < 62 and not self.positive


def tail(
    *,
    shift: int = 0,
    other: Array = _NONE16,
    other_shift: int = 0,
    other_zero: int = 0,
    mask: Array = _NONE8,
    gate: Array = _NONE8,
    out: Array = _NONE16,
    zero: int = 0,
    wide: Array = _NONE64,
    right: int = 0,
    to: FixedPoint | None = None,
    positive: bool = False,
    bits: int = 64,
) -> Tail:
    """Return a tail; ``to`` is the format it rounds to (None: it does not round), ``positive`` cuts below zero."""
    low, high, rounding, overflow = 0, 0, 0, 0
    if to is not None:
        low = -to.high if to.overflow == Overflow.SAT_SYM and to.signed else to.low
        high, rounding, overflow = to.high, ROUNDING[to.rounding], OVERFLOW[to.overflow]
        if positive and to.overflow == Overflow.SAT:
            low, positive = max(low, 0), False
    flat = [a.reshape(-1) for a in (other, mask, gate, out, wide)]
    return Tail(
        shift, flat[0], other_shift, other_zero, flat[1], flat[2], flat[3], zero, flat[4],
        to is not None, right, rounding, overflow, low, high, positive, bits,
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def finish(v, count, pitch, width, at, tail):  # type: ignore[no-untyped-def] # numba
    """Take ``count`` rows of ``width`` exact values from ``v`` (one every ``pitch``) to the places ``at`` of the maps.

    Written as one short loop per step: each runs in vectors over values that are in the first cache.
    """
    if tail.shift != 0:
        for i in range(count * pitch):
            v[i] = v[i] << tail.shift
    if tail.other.size != 0:
        for i in range(count):
            for j in range(width):
                v[i * pitch + j] += (np.int64(tail.other[at[i] + j]) + tail.other_zero) << tail.other_shift
    if tail.mask.size != 0:
        for i in range(count):
            for j in range(width):
                tail.mask[at[i] + j] = -(v[i * pitch + j] > 0)
    if tail.rounds:
        if tail.rounding == NEAREST and tail.overflow == SATURATE and 0 <= tail.right < 62 and not tail.positive:
            half = (np.int64(1) << tail.right) >> 1
            for i in range(count * pitch):
                v[i] = min(max((v[i] + half) >> tail.right, tail.low), tail.high)
        else:
            for i in range(count):
                row = v[i * pitch : i * pitch + width]
                requant_into(row, row, tail.right, tail.rounding, tail.overflow, tail.low, tail.high)
                if tail.positive:
                    for j in range(width):
                        row[j] = max(row[j], 0)
    if tail.gate.size != 0:
        for i in range(count):
            for j in range(width):
                v[i * pitch + j] &= np.int64(tail.gate[at[i] + j])
    if tail.out.size != 0:
        for i in range(count):
            for j in range(width):
                tail.out[at[i] + j] = v[i * pitch + j] - tail.zero
    elif tail.wide.size != 0:
        for i in range(count):
            for j in range(width):
                tail.wide[at[i] + j] = v[i * pitch + j]
