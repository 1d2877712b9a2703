"""Is the noise what it says: maximal sequences, near normal, uncorrelated, and the same bits everywhere?"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from xaisim.config import UserError
from xaisim.ir import lfsr
from xaisim.ir.noise import HostNoise, LfsrNoise, philox
from xaisim.ir.types import FixedPoint, Overflow, Rounding

FINE = FixedPoint(32, 24)


def stepped(stages: list[int]) -> list[int]:
    """Return the stages of a register, first to last, one clock later."""
    new = sum(stages[tap - 1] for tap in lfsr.TAPS[len(stages)]) % 2
    return [new, *stages[:-1]]


def stages_of(state: int, width: int) -> list[int]:
    return [state >> i & 1 for i in range(width)]


def state_of(stages: list[int]) -> int:
    return sum(bit << i for i, bit in enumerate(stages))


def prime_factors(n: int) -> set[int]:
    found, p = set(), 2
    while p * p <= n:
        while n % p == 0:
            found.add(p)
            n //= p
        p += 1
    return found | ({n} if n > 1 else set())


@pytest.mark.parametrize("width", [8, 12, 16])
def test_a_register_goes_through_all_states_but_zero(width: int) -> None:
    stages, seen = stages_of(1, width), set()
    for _ in range(lfsr.period(width)):
        seen.add(state_of(stages))
        stages = stepped(stages)
    assert seen == set(range(1, 1 << width))
    assert state_of(stages) == 1


@pytest.mark.parametrize("width", lfsr.TAPS)
def test_every_register_has_the_full_period_and_no_shorter_one(width: int) -> None:
    """The order of a step divides 2^width − 1 and none of its largest divisors."""
    period, still = lfsr.period(width), lfsr.leap(width, 0)
    assert lfsr.leap(width, period) == still
    assert all(lfsr.leap(width, period // p) != still for p in prime_factors(period))


@pytest.mark.parametrize("width", [8, 32, 64])
def test_a_leap_equals_as_many_steps(width: int) -> None:
    stages = stages_of(0x9E3779B97F4A7C15 & lfsr.period(width), width)
    start = state_of(stages)
    for steps in range(70):
        assert lfsr.leapt(start, lfsr.leap(width, steps)) == state_of(stages)
        stages = stepped(stages)


@pytest.mark.parametrize(("width", "words", "word_bits"), [(16, 4, 4), (32, 12, 16), (40, 12, 16), (64, 5, 32)])
def test_numbers_equal_plain_shift_registers_bit_by_bit(width: int, words: int, word_bits: int) -> None:
    noise = LfsrNoise(FINE, 1.0, 3, width, words, word_bits)
    registers = [stages_of(state, width) for state in noise.starts]
    states = np.array(noise.starts, np.uint64)
    out = np.empty(40, np.int64)
    lfsr.centred_sums(states, lfsr.tables(lfsr.leap(width, word_bits)), word_bits, out)
    for number in out.tolist():
        for _ in range(word_bits):
            registers = [stepped(stages) for stages in registers]
        words_now = [state_of(stages[:word_bits]) for stages in registers]
        assert number == sum(2 * word + 1 - 2**word_bits for word in words_now)
    assert states.tolist() == [state_of(stages) for stages in registers]


def test_registers_start_where_plain_stepping_from_the_seed_arrives() -> None:
    noise = LfsrNoise(FINE, 1.0, 7, width=16, words=4, word_bits=4)
    stages = stages_of((int(philox(0, 0, 0, 1, 7, 0)[0])) & 0xFFFF, 16)
    passed = []
    for _ in range(lfsr.period(16)):
        passed.append(state_of(stages))
        stages = stepped(stages)
    places = sorted(passed.index(start) for start in noise.starts)
    gaps = [b - a for a, b in zip(places, [*places[1:], places[0] + 65535], strict=True)]
    assert noise.numbers == min(gaps) // 4
    assert noise.starts[0] == passed[int(65535 / ((1 + math.sqrt(5)) / 2))]


@pytest.mark.parametrize(("width", "words", "word_bits"), [(12, 2, 4), (16, 2, 8), (16, 4, 4), (16, 2, 4)])
def test_moments_over_the_period_are_those_of_independent_uniform_words(width: int, words: int, word_bits: int) -> None:
    """Exactly, once the state zero is added, which a register never enters; a word is an odd number ±1 … ±(m − 1)."""
    noise, m = LfsrNoise(FINE, 1.0, 5, width, words, word_bits), 2**word_bits
    out = np.empty(lfsr.period(width), np.int64)
    lfsr.centred_sums(np.array(noise.starts, np.uint64), lfsr.tables(lfsr.leap(width, word_bits)), word_bits, out)
    numbers = [*out.tolist(), -words * (m - 1)]
    second, fourth = Fraction(m**2 - 1, 3), Fraction((m**2 - 1) * (3 * m**2 - 7), 15)
    expected = [0, words * second, 0, words * fourth + 3 * words * (words - 1) * second**2]
    assert [Fraction(sum(u**power for u in numbers), 2**width) for power in (1, 2, 3, 4)] == expected
    assert noise.deviation == pytest.approx(math.sqrt(words * second), rel=1e-15)
    kurtosis = expected[3] / expected[1] ** 2 - 3
    assert kurtosis == Fraction(-6, 5 * words) * Fraction(4**word_bits + 1, 4**word_bits - 1)


@pytest.mark.parametrize("words", [4, 12])
def test_a_sum_of_words_is_near_normal_and_ends_where_the_formula_says(words: int) -> None:
    z = LfsrNoise(FINE, 1.0, 1, words=words).draw((1 << 20,), 1).ravel() * FINE.step
    error = 1 / math.sqrt(z.size)
    assert abs(z.mean()) < 5 * error
    assert abs(z.var() - 1) < 5 * math.sqrt(2) * error
    assert abs((z**3).mean()) < 5 * math.sqrt(15) * error
    assert abs((z**4).mean() - 3 + 1.2 / words) < 5 * math.sqrt(96) * error
    assert 0.7 * math.sqrt(3 * words) < np.abs(z).max() <= math.sqrt(3 * words) * (1 + 2**-16)


def test_host_noise_is_normal() -> None:
    z = np.sort(HostNoise(FINE, 1.0, 1).draw((1 << 18,), 1).ravel() * FINE.step)
    normal = np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in z.tolist()])
    ranks = np.arange(z.size + 1) / z.size
    distance = max(np.abs(normal - ranks[1:]).max(), np.abs(normal - ranks[:-1]).max())
    assert distance < 1.95 / math.sqrt(z.size)  # Kolmogorov and Smirnov, one in a thousand
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / z.size)
    beyond = math.erfc(3 / math.sqrt(2))
    assert abs((np.abs(z) > 3).mean() - beyond) < 5 * math.sqrt(beyond / z.size)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("source", [HostNoise, LfsrNoise])
def test_neighbours_samples_and_seeds_are_uncorrelated(source: Any) -> None:
    size = 1 << 17
    streams = [row for seed in (0, 1, 2) for row in source(FINE, 1.0, seed).draw((size,), 2)]
    limit = 5 / math.sqrt(size)
    assert all(abs(correlation(streams[0][lag:], streams[0][:-lag])) < limit for lag in [*range(1, 33), 299, 512])
    pairs = [(a, b) for a in range(len(streams)) for b in range(a)]
    assert all(abs(correlation(streams[a], streams[b])) < limit for a, b in pairs)
    squares = [row.astype(float) ** 2 for row in streams]
    assert all(abs(correlation(squares[a], squares[b])) < limit for a, b in pairs)


def test_words_one_step_apart_would_be_correlated() -> None:
    """What leaping by a whole word avoids: the newer word is half the older one's worth, shifted."""
    out = np.empty(1 << 16, np.int64)
    noise = LfsrNoise(FINE, 1.0)
    lfsr.centred_sums(np.array(noise.starts, np.uint64), lfsr.tables(lfsr.leap(noise.width, 1)), noise.word_bits, out)
    assert correlation(out[1:], out[:-1]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("source", [HostNoise, LfsrNoise])
def test_a_sample_does_not_depend_on_what_it_is_drawn_with(source: Any) -> None:
    noise = source(FixedPoint(16, 12), 0.25, 9)
    together = noise.draw((3, 5, 7), 6)
    assert together.shape == (6, 3, 5, 7)
    assert together.dtype == np.int64
    assert (np.concatenate([noise.draw((3, 5, 7), 2), noise.draw((3, 5, 7), 4, first=2)]) == together).all()
    assert len({row.tobytes() for row in together}) == 6


@pytest.mark.parametrize("source", [HostNoise, LfsrNoise])
@pytest.mark.parametrize(
    ("to", "sigma"),
    [(FixedPoint(16, 12), 0.15), (FixedPoint(8, 4), 1.0), (FixedPoint(24, 30), 2.0**-9), (FixedPoint(12, -3), 999.0)],
)
def test_sigma_and_format_only_scale_and_round(source: Any, to: FixedPoint, sigma: float) -> None:
    fine = source(FixedPoint(48, to.frac + 20), sigma, 4).draw((5000,), 1).ravel()
    for rounding in Rounding:
        coarse = source(FixedPoint(to.bits, to.frac, True, rounding), sigma, 4).draw((5000,), 1).ravel()
        off = coarse - fine / 2**20
        assert np.abs(off).max() <= (1.0 if str(rounding).startswith("trn") else 0.5) + 2**-20
    real = fine * 2.0 ** -(to.frac + 20)
    assert real.std() == pytest.approx(sigma, rel=0.05)


def test_noise_beyond_the_format_overflows_as_the_format_says() -> None:
    to = FixedPoint(8, 0, overflow=Overflow.SAT)
    saturated = LfsrNoise(to, 100.0).draw((1000,), 1)
    zeroed = LfsrNoise(FixedPoint(8, 0, overflow=Overflow.SAT_ZERO), 100.0).draw((1000,), 1)
    assert (saturated.min(), saturated.max()) == (-128, 127)
    assert set(zeroed[saturated == 127].tolist()) <= {0, 127}


def test_philox_gives_its_authors_known_answers() -> None:
    """Random123, tests/kat_vectors, philox4x32 10."""
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
    assert [int(w) for w in philox(0, 0, 0, 0, 0, 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(w) for w in philox(*[0xFFFFFFFF] * 6)] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert [int(w) for w in philox(*pi)] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_first_numbers_are_frozen() -> None:
    to = FixedPoint(16, 12)
    assert HostNoise(to, 0.5, 1).draw((6,), 2).tolist() == [
        [1505, -4600, 1460, 2158, -1343, -213],
        [-2072, -6726, -1078, 373, 2222, -544],
    ]
    assert LfsrNoise(to, 0.5, 1).draw((6,), 2).tolist() == [
        [-749, -623, -3066, -5908, -2747, -2290],
        [-420, -1344, 688, -31, -403, 2907],
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"to": FixedPoint(16, 12, signed=False)}, "noise has a sign; write q16.12, not u16.12"),
        ({"sigma": 0.0}, "noise sigma 0 must be from half a step to the largest number of q16.12: 0.00012207 to 7.9"),
        ({"sigma": 8.5}, "noise sigma 8.5 must be"),
        ({"sigma": math.nan}, "noise sigma nan must be"),
        ({"seed": -1}, "noise seed -1 must be from 0 to 4294967295"),
        ({"width": 31}, "no taps for a shift register of 31 bits; choices: 8, 12, 16, 24, 32, 40, 48, 56, 64"),
        ({"words": 1}, "noise is a sum of 2 to 32 words, not 1"),
        ({"word_bits": 12}, "words of 12 bits from registers of 40; choices: 4, 8, 16, 32"),
        ({"width": 8, "words": 2, "word_bits": 16}, "words of 16 bits from registers of 8; choices: 4, 8"),
        (
            {"width": 16},
            "up to four of the 192 bits of a number always XOR to zero in registers of 16 bits, which bends",
        ),
    ],
)
def test_bad_parameters_are_refused_with_the_rule(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}".replace(".", r"\.")):
        LfsrNoise(**{"to": FixedPoint(16, 12), "sigma": 0.5, **keys})


def test_a_draw_whose_streams_would_overlap_is_refused() -> None:
    noise = LfsrNoise(FixedPoint(16, 12), 0.5, width=24, words=8, word_bits=8)
    noise.draw((noise.numbers,), 1)
    with pytest.raises(
        UserError, match=f"give {noise.numbers} before their streams overlap; take fewer samples, or fewer words or"
    ):
        noise.draw((noise.numbers + 1,), 1)
    with pytest.raises(UserError, match="overlap"):
        noise.draw((noise.numbers // 2,), 1, first=2)
