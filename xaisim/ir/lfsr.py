"""Maximal-length linear feedback shift registers, leapt forward by any number of steps.

A state is an integer; stage i of the register is bit i − 1. A step shifts every stage to the next one and puts the
XOR of the taps into stage 1. Steps are linear over GF(2), so a leap is the list of the images of the single bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

TAPS = {
    8: (8, 6, 5, 4),
    12: (12, 6, 4, 1),
    16: (16, 15, 13, 4),
    24: (24, 23, 22, 17),
    32: (32, 22, 2, 1),
    40: (40, 38, 21, 19),
    48: (48, 47, 21, 20),
    56: (56, 55, 35, 34),
    64: (64, 63, 61, 60),
}
"""Width: taps, from P. Alfke, Xilinx XAPP052 (1996), table 3. Widths with two taps are left out: there every
bit is the XOR of two earlier ones, and skew follows."""

Leap = tuple[int, ...]
"""The state that each single bit becomes."""


def period(width: int) -> int:
    """Return the number of states a maximal register goes through: all but zero."""
    return (1 << width) - 1


def leapt(state: int, leap: Leap) -> int:
    """Return the state after a leap."""
    after = 0
    for bit, image in enumerate(leap):
        if state >> bit & 1:
            after ^= image
    return after


@lru_cache(maxsize=4096)
def leap(width: int, steps: int) -> Leap:
    """Return the leap over ``steps`` ≥ 0 steps, by repeated squaring."""
    if steps == 0:
        return tuple(1 << bit for bit in range(width))
    if steps == 1:
        return tuple((2 << bit & period(width)) | (bit + 1 in TAPS[width]) for bit in range(width))
    half = leap(width, steps // 2)
    twice = tuple(leapt(image, half) for image in half)
    return tuple(leapt(image, leap(width, 1)) for image in twice) if steps % 2 else twice


def tables(leap: Leap) -> np.ndarray:
    """Return a leap as look-ups, (⌈width / 8⌉, 256) uint64: the XOR of a row's entry per byte of the state."""
    rows = [[leapt(byte << first, leap) for byte in range(256)] for first in range(0, len(leap), 8)]
    return np.array(rows, np.uint64)


@njit(cache=True, nogil=True)
def centred_sums(states, tables, word_bits, out):  # type: ignore[no-untyped-def] # numba
    """Leap every register once per number and write Σ (2·word − (2^word_bits − 1)) to ``out``; ``states`` move on."""
    mask = (np.uint64(1) << np.uint64(word_bits)) - np.uint64(1)
    for i in range(out.size):
        total = np.int64(0)
        for j in range(states.size):
            state = states[j]
            after = np.uint64(0)
            for byte in range(tables.shape[0]):
                after ^= tables[byte, (state >> np.uint64(8 * byte)) & np.uint64(255)]
            states[j] = after
            total += 2 * np.int64(after & mask) - np.int64(mask)
        out[i] = total
