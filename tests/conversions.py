"""Conversions on which ``requant`` is held to its oracles, and the values: every boundary and many random ones.

Every target of 2 to 32 bits, signed and unsigned, has a source that loses bits, in all 28 modes, and one that
gains some, in every overflow mode; common targets have several. Sources have up to 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, cycle

import numpy as np

from xaisim.ir.types import FixedPoint, Overflow, Rounding

_SOURCE_BITS = (48, 16, 8, 33, 62, 3, 24, 40, 63, 12, 32, 56, 17)
_FRACS = (0, 5, -3, 17, -11, 31, 40)


@dataclass(frozen=True)
class Conversion:
    """From one format to another one, whose modes say how."""

    source: FixedPoint
    to: FixedPoint

    @property
    def dropped(self) -> int:
        """How many bits are dropped; some are appended if negative."""
        return self.source.frac - self.to.frac

    def __str__(self) -> str:
        return f"{self.source} to {self.to} {self.to.rounding} {self.to.overflow}"


def conversions() -> list[Conversion]:
    """Return every conversion; the rounding mode, without effect where no bit is dropped, then varies."""
    roundings = cycle(Rounding)
    return [
        Conversion(pair.source, replace(pair.to, rounding=rounding, overflow=overflow))
        for pair in dict.fromkeys(_pairs())
        for overflow in Overflow
        for rounding in (Rounding if pair.dropped > 0 else [next(roundings)])
    ]


def _pairs() -> Iterator[Conversion]:
    """Yield pairs of formats; the cycles have coprime lengths, so that everything meets everything."""
    sources, fracs, turn = cycle(_SOURCE_BITS), cycle(_FRACS), count()
    for bits in range(2, 33):
        for signed in (True, False):
            to = FixedPoint(bits, next(fracs), signed)
            for shifts in (_dropping, _appending):
                source, turns = next(sources), next(turn)
                choices = shifts(source, bits)
                yield _pair(to, source, choices[turns // 2 % len(choices)], signed=turns % 3 > 0)
    for to in (FixedPoint(16, 8), FixedPoint(16, 10, signed=False)):
        for source, dropped in ((64, 64), (64, 65), (48, 48 - to.bits), (62, 31), (64, 63), (32, 70)):
            yield _pair(to, source, dropped, signed=True)


def _pair(to: FixedPoint, bits: int, dropped: int, *, signed: bool) -> Conversion:
    return Conversion(FixedPoint(bits, to.frac + dropped, signed), to)


def _dropping(source: int, to: int) -> list[int]:
    """Return how many bits to drop: few, so many that just rounding up overflows, all, and more than all."""
    fitting = source - to
    return [1, max(fitting, 1), max(fitting - 1, 2), max(source // 2, 1), max(fitting + 2, 3)] + [
        source + more for more in (-1, 0, 1, 9)
    ]


def _appending(source: int, to: int) -> list[int]:
    """Return how many bits to append, negative: none, few, so many that one bit is left, or none of them."""
    return [0, -1, -(to // 2), min(source - to, 0), 1 - to, -to, -to - 7]


def boundaries(conversion: Conversion) -> np.ndarray:
    """Return the source's integers at and next to zero, its bounds, powers of two, the target's bounds, and ties."""
    source, to, dropped = conversion.source, conversion.to, conversion.dropped
    places = {0, source.low, source.high, *(sign << power for power in range(source.bits) for sign in (1, -1))}
    near = {bound + step for bound in (0, to.low, to.high, -to.high) for step in range(-3, 4)}
    near |= {value >> max(dropped, 0) for value in (source.low, source.high)}
    for value in near | {2 * to.low, 2 * to.high, 1 << to.bits}:
        if dropped > 0:
            places |= {value << dropped, (2 * value + 1) << (dropped - 1), (4 * value + 1) << dropped >> 2}
        else:
            places.add(value >> -dropped)
    integers = {place + step for place in places for step in (-1, 0, 1)}
    if source.bits <= 12:
        integers = set(range(source.low, source.high + 1))
    return np.array(sorted(i for i in integers if source.low <= i <= min(source.high, 2**63 - 1)), np.int64)


def random_values(conversion: Conversion, size: int, seed: int) -> np.ndarray:
    """Return random integers of the source: a third of any, a third of any magnitude, a third next to ties."""
    source, to, dropped = conversion.source, conversion.to, conversion.dropped
    generator = np.random.default_rng(seed)
    values = generator.integers(source.low, source.high, size, np.int64, endpoint=True)
    part = size // 3
    values[:part] >>= generator.integers(0, source.bits, part)
    if 0 < dropped < source.bits:
        high = min(source.high >> dropped, 2 * to.high)
        low = max(source.low >> dropped, -high - 1)
        whole = generator.integers(low, high, part, np.int64, endpoint=True)
        tie = (whole << dropped) + (1 << (dropped - 1)) + generator.integers(-1, 2, part)
        values[part : 2 * part] = np.clip(tie, source.low, source.high)
    return values
