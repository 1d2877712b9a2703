"""Types of tensors: a shape without the batch axis, and the number format of its elements.

    TensorType((64, 56, 56), FixedPoint(16, 8))     prints as  64x56x56 q16.8

A format of ``None`` means real numbers (float64); ``Bits(n)`` is an unsigned index or mask of n bits.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum


class Rounding(StrEnum):
    """Rounding modes of ``requant``, with the names and meanings of ``ap_fixed``."""

    TRN = "trn"  # towards minus infinity: drop the bits
    TRN_ZERO = "trn_zero"  # towards zero
    RND = "rnd"  # to nearest, ties towards plus infinity
    RND_ZERO = "rnd_zero"  # to nearest, ties towards zero
    RND_INF = "rnd_inf"  # to nearest, ties away from zero
    RND_MIN_INF = "rnd_min_inf"  # to nearest, ties towards minus infinity
    RND_CONV = "rnd_conv"  # to nearest, ties to even


class Overflow(StrEnum):
    """What ``requant`` does with a value outside the target's range, named as in ``ap_fixed``."""

    SAT = "sat"  # the nearest bound
    SAT_ZERO = "sat_zero"  # zero
    SAT_SYM = "sat_sym"  # the nearest of ±(2^(bits−1) − 1)
    WRAP = "wrap"  # modulo 2^bits


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A number: value = integer · 2^−frac, two's complement if signed. ``frac`` may be negative or exceed ``bits``."""

    bits: int
    frac: int
    signed: bool = True
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 64:
            raise ValueError(f"fixed point needs 2 to 64 bits, got {self.bits}")
        if not -128 <= self.frac <= 128:
            raise ValueError(f"fixed point needs a frac between -128 and 128, got {self.frac}")

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def step(self) -> float:
        """The value of one unit in the last place."""
        return math.ldexp(1.0, -self.frac)

    def __str__(self) -> str:
        return f"{'q' if self.signed else 'u'}{self.bits}.{self.frac}"


@dataclass(frozen=True, slots=True)
class Bits:
    """Unsigned elements of ``bits`` bits that carry no scale: ReLU masks (1) and pool indices (2 to 8)."""

    bits: int

    def __str__(self) -> str:
        return f"b{self.bits}"


Format = FixedPoint | Bits | None


def parse_fixed_point(text: str) -> FixedPoint:
    """Read ``q16.8`` (16 bits, 8 of them after the point; ``u16.8`` is unsigned) or raise ``ValueError``."""
    match = re.fullmatch(r"([qu])(\d+)\.(-?\d+)", text.strip().lower())
    if match is None:
        raise ValueError(f"a fixed-point format is written like q16.8 (bits, fraction bits), got {text!r}")
    return FixedPoint(int(match[2]), int(match[3]), signed=match[1] == "q")


@dataclass(frozen=True, slots=True)
class TensorType:
    """The shape of one sample and the format of its elements."""

    shape: tuple[int, ...]
    format: Format = None

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return math.prod(self.shape)

    @property
    def element_bits(self) -> int:
        """Bits an element takes in memory; real numbers count as float32."""
        return 32 if self.format is None else self.format.bits

    @property
    def size_bits(self) -> int:
        """Bits of one sample, packed."""
        return self.size * self.element_bits

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{shape} {'real' if self.format is None else self.format}"
