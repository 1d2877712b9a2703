"""Weights packed for the register blocks, and the segments in which their sums keep to 32 bits.

    packed = pack(filters, window, fours=False, peak=2**15)
    packed.division(low, high)          for inputs whose channels lie in these ranges

What a segment may reach follows from the weights and from how far each input channel lies from the middle of its range:
Σ|w|·reach stays below 2^31 − 2^16. Ranges are those of the data at hand, looked at before every run, so a sum is exact
whatever comes; where they are wider than any before, the segments are made anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.ir.blocks import block
from xaisim.ir.kernels import phases, product_dtype
from xaisim.ir.machine import LANES, selected
from xaisim.ir.memory import aligned

Array = np.ndarray
Pair = tuple[int, int]

LIMIT = (1 << 31) - (1 << 16)
"""What a segment's sum may reach beside the 16 bits that the one before left."""
_WHOLE = (1 << 31) - 1
_WORST = 1 << 15
"""The farthest an int16 can lie from the middle of its range."""


class Window(NamedTuple):
    """A dense window over packed input and where its outputs go: output (p, q) is the map's (a + p·dy, b + q·dx)."""

    taps: Pair  # R, S
    stride: Pair
    corner: Pair  # padding above and to the left
    size: Pair  # P, Q
    first: Pair = (0, 0)
    step: Pair = (1, 1)


class BlockWeights(NamedTuple):
    """The weights of one register block."""

    filter: int
    """The first of its filters."""
    groups: int
    byte: int
    """Where its weights begin."""
    weights: Array
    """(steps, groups · 16, 2 or 4), a view."""
    offsets: Array
    """(steps,): bytes of x, relative to an output's first input element."""
    channels: Array
    """(steps, 2 or 4): the input channel that each weight meets."""


class Division(NamedTuple):
    """How sums are divided into segments, for inputs whose stored numbers lie in ``low`` to ``high``, per channel."""

    low: Array
    high: Array
    centre: Array
    """(C,) int16, subtracted from the stored numbers; size 0 where any number may come as it is."""
    row: Array
    """The centres of a whole row of x."""
    share: Array
    """(K,): Σ centre·w, which the sums lack."""
    table: Array
    """(blocks, 7): first filter, pixels, groups, address of the code, byte of ``w``, first segment, whether its sums
    are folded; one row more at the end."""
    segments: Array
    """(segments, 2): first and end byte of x."""

    def covers(self, low: Array, high: Array) -> bool:
        """Return whether ranges lie inside."""
        return bool((low >= self.low).all() and (high <= self.high).all())


@dataclass(slots=True)
class Packed:
    """One window's weights in the order in which the blocks read them."""

    window: Window
    channels: int
    filters: int
    fours: bool
    w: Array
    """Bytes; every block starts at a multiple of 64."""
    blocks: tuple[BlockWeights, ...]
    extent: Pair
    """Rows and columns of x that the outputs read."""
    by_channel: Array
    """(K, C): Σw over the taps."""
    dense: Array
    """(R·S·C, K) real numbers for matrix products without blocks; empty where blocks are used."""
    _division: Division | None = field(default=None, repr=False)

    @property
    def sums(self) -> Array:
        """(K,): Σw of every filter."""
        return self.by_channel.sum(axis=1)

    @property
    def any_input(self) -> Division | None:
        """The division for any input as it is stored, where sums need no folding; else None."""
        current = self._division
        return current if current is not None and not current.centre.size else None

    def division(self, low: Array, high: Array) -> Division:
        """Return a division for channels whose stored numbers lie in ``low`` to ``high`` (C,), int64."""
        current = self._division
        if current is None or not current.covers(low, high):
            if current is not None:
                low, high = np.minimum(low, current.low), np.maximum(high, current.high)
            room = (high - low) // 32  # the next picture is a little different
            low, high = np.maximum(low - room, -_WORST), np.minimum(high + room, _WORST - 1)
            self._division = current = _divided(self, low, high, (low + high + 1) >> 1)
        return current


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


def pack(w: Array, window: Window, *, fours: bool, peak: int, room: Pair = (0, 0)) -> Packed:
    """Return filters ``w`` (K, C, R, S) of one dense window, packed.

    ``fours`` packs 8-bit weights for unsigned 8-bit inputs, otherwise they must fit int16. ``peak`` is the largest
    magnitude of a stored input; ``room`` the rows and columns of the map that is read, which a window that needs no
    padding takes in place.
    """
    K, C, R, S = w.shape
    P, Q = window.size
    extent = ((P - 1) * window.stride[0] + max(R, 1), (Q - 1) * window.stride[1] + max(S, 1))
    if window.corner == (0, 0) and extent[0] <= room[0] and extent[1] <= room[1]:
        extent = room
    rows = w.transpose(0, 2, 3, 1).reshape(K, R, S * C)
    by_channel = w.sum(axis=(2, 3))
    if not selected().lanes:
        bound = peak * int(np.abs(w).sum(axis=(1, 2, 3)).max(initial=0))
        dense = np.ascontiguousarray(rows.reshape(K, R * S * C).T, product_dtype(bound))
        return Packed(window, C, K, fours, np.zeros(0, np.uint8), (), extent, by_channel, dense)
    each, element = (4, 1) if fours else (2, 2)
    padded = np.zeros((K, R, -(-S * C // each) * each), np.int8 if fours else np.int16)
    padded[:, :, : S * C] = rows
    steps = padded.shape[2] // each
    offsets = (np.arange(R)[:, None] * extent[1] * C * element + 4 * np.arange(steps)).reshape(-1)
    channels = np.tile(np.arange(steps * each).reshape(steps, each) % C, (R, 1))
    whole, blocks = _packed_blocks(padded.reshape(K, R * steps, each), offsets, channels)
    packed = Packed(window, C, K, fours, whole, blocks, extent, by_channel, np.zeros((0, 0)))
    limit = np.full(C, 255 if fours else _WORST)
    anything = _divided(packed, -limit, limit, np.zeros(0, np.int64))
    if fours or not anything.table[:, 6].any():
        packed._division = anything
    return packed


def _packed_blocks(filters: Array, offsets: Array, channels: Array) -> tuple[Array, tuple[BlockWeights, ...]]:
    """Return filters (K, steps, each) block by block in one array of bytes."""
    made: list[tuple[int, int, Array, Array, Array]] = []
    k = 0
    while k < len(filters):
        groups = selected().shape_for(-(-(len(filters) - k) // LANES), fold=False).groups
        mine = filters[k : k + groups * LANES].transpose(1, 0, 2)
        part = np.zeros((len(offsets), groups * LANES, filters.shape[2]), filters.dtype)
        part[:, : mine.shape[1]] = mine
        made.append((k, groups, *_split(part, offsets, channels)))
        k += groups * LANES
    whole = aligned((sum(part.nbytes for _, _, part, _, _ in made),), np.uint8)
    blocks, at = [], 0
    for k, groups, part, where, what in made:
        place = whole[at : at + part.nbytes].view(part.dtype).reshape(part.shape)
        place[...] = part
        blocks.append(BlockWeights(k, groups, at, place, where, what))
        at += part.nbytes
    return whole, tuple(blocks)


def _split(part: Array, offsets: Array, channels: Array) -> tuple[Array, Array, Array]:
    """Take a step in two whose own products may leave 32 bits: both weights and both inputs at their most negative."""
    if part.dtype != np.int16:
        return part, offsets, channels
    twice = np.abs(part.astype(np.int32)).sum(axis=2).max(axis=1, initial=0) > LIMIT // _WORST
    if not twice.any():
        return part, offsets, channels
    repeated = np.repeat(part, 1 + twice, axis=0)
    second = np.flatnonzero(np.repeat(twice, 1 + twice))[1::2]
    repeated[second - 1, :, 1] = 0
    repeated[second, :, 0] = 0
    return repeated, np.repeat(offsets, 1 + twice), np.repeat(channels, 1 + twice, axis=0)


def _divided(packed: Packed, low: Array, high: Array, centre: Array) -> Division:
    """Return the division for inputs of these ranges after ``centre`` (if there is one) is subtracted."""
    reach = np.maximum(high, -low) if not centre.size else np.maximum(high - centre, centre - low)
    table: list[tuple[int, ...]] = []
    segments: list[Array] = []
    count = 0
    for b in packed.blocks:
        ends = np.empty(len(b.weights) + 1, np.int64)
        largest = _largest(b.weights, reach[b.channels])
        fold = bool(largest > _WHOLE)
        limit = LIMIT if fold else 1 << 62
        cuts = _cut(b.weights, reach[b.channels], b.offsets, limit, ends) if len(b.weights) else 0
        first = np.concatenate(([0], ends[: cuts - 1])) if cuts else ends[:0]
        shape = selected().shape_for(b.groups, fold=fold)
        address = block(selected(), shape, fold=fold, fours=packed.fours)
        table.append((b.filter, shape.pixels, shape.groups, address, b.byte, count, fold))
        segments.append(np.stack([b.offsets[first], b.offsets[ends[:cuts] - 1] + 4], axis=1))
        count += cuts
    table.append((packed.filters, 0, 0, 0, packed.w.size, count, 0))
    share = packed.by_channel @ centre if centre.size else np.zeros(packed.filters, np.int64)
    listed = np.concatenate(segments) if segments else np.zeros((0, 2), np.int64)
    small = centre.astype(np.int16)
    return Division(low, high, small, np.tile(small, packed.extent[1]), share, np.array(table, np.int64), listed)


@njit(cache=True, nogil=True)
def _largest(weights, reach):  # type: ignore[no-untyped-def] # numba
    """Return the largest Σ|w|·reach of a lane."""
    steps, lanes, each = weights.shape
    total = np.zeros(lanes, np.int64)
    for i in range(steps):
        for lane in range(lanes):
            for e in range(each):
                total[lane] += abs(np.int64(weights[i, lane, e])) * reach[i, e]
    return total.max()


@njit(cache=True, nogil=True)
def _cut(weights, reach, offsets, limit, ends):  # type: ignore[no-untyped-def] # numba
    """Write where segments end: before Σ|w|·reach leaves ``limit`` in any lane, or before a step elsewhere."""
    steps, lanes, each = weights.shape
    total = np.zeros(lanes, np.int64)
    step = np.zeros(lanes, np.int64)
    count = 0
    for i in range(steps):
        worst = 0
        for lane in range(lanes):
            step[lane] = 0
            for e in range(each):
                step[lane] += abs(np.int64(weights[i, lane, e])) * reach[i, e]
            worst = max(worst, total[lane] + step[lane])
        if i > 0 and (worst > limit or offsets[i] != offsets[i - 1] + 4):
            ends[count] = i
            count += 1
            total[:] = 0
        for lane in range(lanes):
            total[lane] += step[lane]
    ends[count] = steps
    return count + 1
