"""Memories as bytes: numbers of any width packed bit behind bit, and runs of bits that are read and written.

runs = box_runs(base, extents, low, high, bits)      the part of a packed array, as (first bit, bits) runs
values = unpack(read(memory, runs), count, 20, signed=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

Array = np.ndarray


class Runs(NamedTuple):
    """Bits of one memory, in the order in which they are read or written; see :func:`runs_of`."""

    memory: int
    start: Array
    length: Array
    low: int
    """The first bit of all, and the one behind the last."""
    high: int
    bits: int
    """How many there are."""


def runs_of(memory: int, start: Array, length: Array) -> Runs:
    """Return runs of ``length`` bits from each ``start`` on."""
    if not len(start):
        return Runs(memory, start, length, 0, 0, 0)
    return Runs(memory, start, length, int(start.min()), int((start + length).max()), int(length.sum()))


def box_runs(
    memory: int, base: int, extents: Sequence[int], low: Sequence[int], high: Sequence[int], bits: int
) -> Runs:  # fmt: skip
    """Return where elements [low, high) of an array lie that is packed from bit ``base`` on, last axis innermost."""
    start, length, step, whole = np.array([base], np.int64), bits, bits, True
    for extent, first, last in zip(reversed(extents), reversed(low), reversed(high), strict=True):
        if whole:  # all inside is one run: longer by this dimension
            start, length = start + first * step, length * (last - first)
            whole = last - first == extent
        else:
            start = (np.arange(first, last)[:, None] * step + start).reshape(-1)
        step *= extent
    if length == 0:
        start = start[:0]
    return runs_of(memory, start, np.full(len(start), length, np.int64))


def joined(a: Runs, b: Runs) -> Runs:
    """Return the runs of both, in one memory."""
    return runs_of(a.memory, np.append(a.start, b.start), np.append(a.length, b.length))


def overlap(a: Runs, b: Runs) -> bool:
    """Return whether two sets of bits have one in common."""
    if a.memory != b.memory or a.low >= b.high or b.low >= a.high:
        return False
    order = np.argsort(b.start)
    start, stop = b.start[order], np.maximum.accumulate((b.start + b.length)[order])
    before = np.searchsorted(start, a.start + a.length, side="left")  # runs of b that begin ahead of a's end
    return bool(((before > 0) & (stop[np.maximum(before - 1, 0)] > a.start)).any())


@njit(cache=True, nogil=True)
def _copy(source, source_bit, target, target_bit, bits):  # type: ignore[no-untyped-def] # numba
    if source_bit % 8 == 0 and target_bit % 8 == 0:
        s, t, whole = source_bit // 8, target_bit // 8, bits // 8
        target[t : t + whole] = source[s : s + whole]
        source_bit, target_bit, bits = source_bit + whole * 8, target_bit + whole * 8, bits - whole * 8
    while bits > 0:
        i, j = source_bit & 7, target_bit & 7
        count = min(8 - i, 8 - j, bits)
        mask = (1 << count) - 1
        part = (source[source_bit >> 3] >> i) & mask
        kept = target[target_bit >> 3] & (255 ^ (mask << j))
        target[target_bit >> 3] = kept | (part << j)
        source_bit, target_bit, bits = source_bit + count, target_bit + count, bits - count


@njit(cache=True, nogil=True)
def _gather(memory, start, length, out):  # type: ignore[no-untyped-def] # numba
    at = 0
    for i in range(len(start)):
        _copy(memory, start[i], out, at, length[i])
        at += length[i]


@njit(cache=True, nogil=True)
def _scatter(memory, start, length, data):  # type: ignore[no-untyped-def] # numba
    at = 0
    for i in range(len(start)):
        _copy(data, at, memory, start[i], length[i])
        at += length[i]


def read(memory: Array, runs: Runs) -> Array:
    """Return the bits of all runs, one behind the other, as bytes."""
    out = np.zeros(-(-runs.bits // 8), np.uint8)
    _gather(memory, runs.start, runs.length, out)
    return out


def write(memory: Array, runs: Runs, data: Array) -> None:
    """Write what :func:`read` returns; ``data`` has at least as many bits as the runs."""
    _scatter(memory, runs.start, runs.length, data)


@njit(cache=True, nogil=True)
def _unpack(data, bits, signed, out):  # type: ignore[no-untyped-def] # numba
    at = 0
    for i in range(len(out)):
        value, done = np.int64(0), 0
        while done < bits:
            offset = at & 7
            count = min(8 - offset, bits - done)
            part = (np.int64(data[at >> 3]) >> offset) & ((1 << count) - 1)
            value |= part << done
            done += count
            at += count
        if signed and bits < 64:
            value = (value << (64 - bits)) >> (64 - bits)
        out[i] = value


@njit(cache=True, nogil=True)
def _pack(values, bits, out):  # type: ignore[no-untyped-def] # numba
    at = 0
    for i in range(len(values)):
        value, done = values[i], 0
        while done < bits:
            offset = at & 7
            count = min(8 - offset, bits - done)
            part = (value >> done) & ((1 << count) - 1)
            out[at >> 3] |= part << offset
            done += count
            at += count


def unpack(data: Array, count: int, bits: int, *, signed: bool) -> Array:
    """Return ``count`` integers of ``bits`` bits each that are packed from the first bit of ``data`` on."""
    out = np.empty(count, np.int64)
    _unpack(data, bits, signed, out)
    return out


def pack(values: Array, bits: int) -> Array:
    """Return integers packed into bytes, each cut to its lowest ``bits`` bits."""
    out = np.zeros(-(-values.size * bits // 8), np.uint8)
    _pack(np.ascontiguousarray(values, np.int64).reshape(-1), bits, out)
    return out
