"""Gaussian noise in fixed point for methods that sample around a picture: from the host, or made on the chip.

    LfsrNoise(FixedPoint(16, 12), sigma=0.15, seed=1).draw((3, 64, 64), samples=50)    # int64 (50, 3, 64, 64)
    on_chip((3, 64, 64), seed=1, trips=np.arange(50))                                  # the operator ``noise``

Both sources use integers only, so a seed gives the same bits on every machine, and sample n is the same whether drawn
alone or with others. σ enters as a factor of 16 bits and a shift, exact to a part in 2^16; then the format rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numba import njit

from xaisim.config import UserError
from xaisim.ir import kernels, lfsr
from xaisim.ir.types import FixedPoint

Array = np.ndarray

HOST_WORK = 660
"""Operations of the host per normal deviate. On average it takes 18.2 words from 5.0 blocks of Philox: 120 operations a
block (ten rounds of two products with both halves, four XORs and two key additions), 3 a word, and 5 to scale it."""
UNIT = FixedPoint(16, 12)
"""Format of noise of deviation 1, whoever makes it: 2^-12 fine, and saturating at 8, which is beyond 10^15 numbers."""
FACTOR_BITS = 16
_SEED_BLOCK = 1
"""Last counter word of the blocks that seed shift registers; those of the host's numbers have 0."""


@dataclass(frozen=True)
class _Noise:
    to: FixedPoint
    sigma: float
    """Standard deviation, as a real number in the scale of the format."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.to.signed:
            raise UserError(f"noise has a sign; write q{str(self.to)[1:]}, not {self.to}")
        if not self.to.step / 2 <= self.sigma <= self.to.high * self.to.step:
            raise UserError(
                f"noise sigma {self.sigma:g} must be from half a step to the largest number of {self.to}: "
                f"{self.to.step / 2:g} to {self.to.high * self.to.step:g}"
            )
        if not 0 <= self.seed < 1 << 32:
            raise UserError(f"noise seed {self.seed} must be from 0 to {(1 << 32) - 1}")

    def _scaled(self, numbers: Array, deviation: float) -> Array:
        """Multiply integers of a known standard deviation by a 16-bit factor, then shift, round and fit them."""
        mantissa, exponent = math.frexp(math.ldexp(self.sigma, self.to.frac) / deviation)
        factor = math.floor(mantissa * (1 << FACTOR_BITS) + 0.5)
        return kernels.requant(numbers * factor, self.to.frac + FACTOR_BITS - exponent, self.to)


@dataclass(frozen=True)
class HostNoise(_Noise):
    """Normal deviates from the host, for a machine that is sent its noise.

    Philox4x32-10 (Salmon et al., SC 2011) is counted by element and keyed by seed and sample: streams are independent
    and any part can be drawn alone. Its words become deviates by Algorithm N of Karney (ACM TOMS 42, 2016), which only
    compares integers. numpy's ``normal`` would not do: it calls exp and log of the machine's C library, and may change
    between releases (NEP 19). Deviates have 33 fraction bits; the words' width limits their exactness to about 2^-32.
    """

    def draw(self, shape: tuple[int, ...], samples: int, first: int = 0) -> Array:
        """Return samples ``first`` and following: int64 (samples, *shape) of format ``to``."""
        out = np.empty((samples, math.prod(shape)), np.int64)
        for n, row in enumerate(out):
            _normal(self.seed, first + n, row)
        return self._scaled(out, 2.0**33).reshape(samples, *shape)


@dataclass(frozen=True)
class LfsrNoise(_Noise):
    """Sums of uniform words from shift registers, near normal by the central limit theorem: what a chip can make.

    Per number each of ``words`` registers of ``width`` bits leaps ``word_bits`` steps and gives its last ``word_bits``
    bits, so no bit is used twice. Words are taken as two's complement with a constant 1 below, which centres them.
    Hardware for a number per cycle: words · width flip-flops, each with the XOR tree of the leap (or plain shifting,
    ``word_bits`` cycles per number), words − 1 adders of up to word_bits + ⌈log2 words⌉ bits, a multiplier by 16 bits,
    rounding and saturation.

    With b = word_bits the sum has variance words · (4^b − 1)/3 and excess kurtosis −1.2/words · (4^b + 1)/(4^b − 1),
    and ends at √(3 · words) standard deviations. The host writes the first states, which follow from the seed: the
    registers have the same taps and start multiples of period/φ apart. Sample n + 1 goes on where sample n ended: the
    streams of samples and registers are parts of one sequence, and a draw where two would overlap is refused.
    """

    width: int = 40
    words: int = 12
    word_bits: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width not in lfsr.TAPS:
            raise UserError(f"no taps for a shift register of {self.width} bits; choices: {_listed(lfsr.TAPS)}")
        if not 2 <= self.words <= 32:
            raise UserError(f"noise is a sum of 2 to 32 words, not {self.words}")
        widths = [bits for bits in (4, 8, 16, 32) if bits <= self.width]  # coprime to every period, which is odd
        if self.word_bits not in widths:
            raise UserError(
                f"words of {self.word_bits} bits from registers of {self.width}; choices: {_listed(widths)}"
            )
        if _dependent(self._bits_of_a_number()):
            raise UserError(
                f"up to four of the {self.words * self.word_bits} bits of a number always XOR to zero in registers of "
                f"{self.width} bits, which bends the distribution; take {self._remedy()}"
            )

    @property
    def sum_bits(self) -> int:
        """Width of the sum of a number's words; the constant 1 that centres them takes no part in the adding."""
        return self.word_bits + (self.words - 1).bit_length()

    @property
    def deviation(self) -> float:
        """Standard deviation of the integer sum before scaling."""
        return math.sqrt(self.words * (4**self.word_bits - 1) / 3)

    @property
    def numbers(self) -> int:
        """How many numbers a seed gives before the stream of a register reaches the start of another's."""
        starts = sorted(self._phases)
        ends = [*starts[1:], starts[0] + lfsr.period(self.width)]
        return min(end - start for start, end in zip(starts, ends, strict=True)) // self.word_bits

    def draw(self, shape: tuple[int, ...], samples: int, first: int = 0) -> Array:
        """Return samples ``first`` and following: int64 (samples, *shape) of format ``to``."""
        size = math.prod(shape)
        if (first + samples) * size > self.numbers:
            raise UserError(
                f"{first + samples} noise samples of {size} numbers; registers of {self.width} bits give "
                f"{self.numbers} before their streams overlap; take fewer samples, or {self._remedy()}"
            )
        skip = lfsr.leap(self.width, first * size * self.word_bits)
        states = np.array([lfsr.leapt(start, skip) for start in self.starts], np.uint64)
        out = np.empty(samples * size, np.int64)
        lfsr.centred_sums(states, lfsr.tables(lfsr.leap(self.width, self.word_bits)), self.word_bits, out)
        return self._scaled(out, self.deviation).reshape(samples, *shape)

    @cached_property
    def _phases(self) -> list[int]:
        """Steps from the seed to where each register starts; φ keeps them apart, in no simple ratio to the period."""
        period = lfsr.period(self.width)
        stride = period * 0x9E3779B97F4A7C15 >> 64
        return [(j + 1) * stride % period for j in range(self.words)]

    @cached_property
    def starts(self) -> list[int]:
        """State of each register before the first number."""
        low, high, _, _ = philox(0, 0, 0, _SEED_BLOCK, self.seed, 0)
        seed = (int(high) << 32 | int(low)) & lfsr.period(self.width) or 1
        return [lfsr.leapt(seed, lfsr.leap(self.width, phase)) for phase in self._phases]

    def _remedy(self) -> str:
        wider = [width for width in lfsr.TAPS if width > self.width]
        return "fewer words" + (f" or wider registers: {_listed(wider)}" if wider else "")

    def _bits_of_a_number(self) -> list[int]:
        """Return, per bit of the words that are summed, which bits of the seed it is the XOR of."""
        bits = []
        for phase in self._phases:
            images = lfsr.leap(self.width, phase + self.word_bits)
            bits += [
                sum((image >> bit & 1) << seed for seed, image in enumerate(images)) for bit in range(self.word_bits)
            ]
        return bits


@lru_cache(maxsize=16)
def chip_noise(seed: int) -> LfsrNoise:
    """Return the registers of the operator ``noise``: noise of deviation 1 in format ``UNIT``."""
    return LfsrNoise(UNIT, 1.0, seed)


def on_chip(shape: tuple[int, ...], seed: int, trips: Array) -> Array:
    """Return what the chip's registers give in each of ``trips`` (n): int64 (n, *shape) of format ``UNIT``."""
    source, numbers = chip_noise(seed), trips.astype(np.int64)
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    parts = [source.draw(shape, len(run), int(run[0])) for run in np.split(numbers, breaks)]
    return np.concatenate(parts)


def _listed(choices: Iterable[int]) -> str:
    return ", ".join(map(str, choices))


def _dependent(bits: list[int]) -> bool:
    """Tell whether any two, three or four of these vectors over GF(2) XOR to zero, or one is zero.

    Where none do, moments up to the fourth, taken over the period, are those of independent bits.
    """
    vectors = np.array(bits, np.uint64)
    low, high = np.triu_indices(len(bits), 1)
    sums = np.concatenate([[np.uint64(0)], vectors, vectors[low] ^ vectors[high]])
    return len(np.unique(sums)) < len(sums)


@njit(cache=True, nogil=True)
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def] # numba
    """Return the four 32-bit words of Philox4x32-10 for a counter of four words and a key of two, each as uint64."""
    word, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    k0, k1 = np.uint64(k0), np.uint64(k1)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & word, (p0 >> half) ^ c3 ^ k1, p0 & word
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & word, (k1 + np.uint64(0xBB67AE85)) & word
    return c0, c1, c2, c3


@njit(cache=True, nogil=True)
def _word(stream):  # type: ignore[no-untyped-def] # numba
    """Return the next word of a stream: [four words, used, element, block, seed, sample], refilled when used up."""
    if stream[4] == 4:
        stream[0], stream[1], stream[2], stream[3] = philox(stream[5], stream[6], 0, 0, stream[7], stream[8])
        stream[4] = 0
        stream[6] += np.uint64(1)
    stream[4] += np.uint64(1)
    return stream[stream[4] - np.uint64(1)]


@njit(cache=True, nogil=True)
def _true_with_exp_half(stream):  # type: ignore[no-untyped-def] # numba
    """Return true with probability exp(−1/2): a run of falling words below 1/2 has even length (von Neumann)."""
    last, even = np.uint64(1 << 31), True
    while True:
        word = _word(stream)
        if word >= last:
            return even
        last, even = word, not even


@njit(cache=True, nogil=True)
def _true_with_exp(stream, k, x):  # type: ignore[no-untyped-def] # numba
    """Return true with probability exp(−x(2k + x)/(2k + 2)), x in units of 2^-32 (Karney, algorithm B)."""
    last, even = x, True
    while True:
        word = _word(stream)
        if word >= last:
            return even
        choice = (_word(stream) * np.uint64(2 * k + 2)) >> np.uint64(32)
        if choice > np.uint64(2 * k) or (choice == np.uint64(2 * k) and _word(stream) >= x):
            return even
        last, even = word, not even


@njit(cache=True, nogil=True)
def _accepted(stream, k, x):  # type: ignore[no-untyped-def] # numba
    """Return true with probability exp(−k(k − 1)/2 − x(2k + x)/2)."""
    for _ in range(k * (k - 1)):
        if not _true_with_exp_half(stream):
            return False
    for _ in range(k + 1):  # noqa: SIM110 - numba
        if not _true_with_exp(stream, k, x):
            return False
    return True


@njit(cache=True, nogil=True)
def _normal(seed, sample, out):  # type: ignore[no-untyped-def] # numba
    """Fill ``out`` with normal deviates of 33 fraction bits (Karney, algorithm N: k + x, with a sign)."""
    stream = np.zeros(9, np.uint64)
    for i in range(out.size):
        stream[4], stream[5], stream[6], stream[7], stream[8] = 4, i, 0, seed, sample
        while True:
            k = 0
            while _true_with_exp_half(stream):
                k += 1
            x = _word(stream)
            if _accepted(stream, k, x):
                break
        number = (np.int64(k) << 33) + 2 * np.int64(x) + 1
        out[i] = number if _word(stream) & np.uint64(1) else -number
