"""Are fixed-point numbers rounded and fitted right? Against exact rationals, the ap_fixed tables and apytypes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.ir import kernels
from xaisim.ir.types import FixedPoint, Overflow, Rounding, parse_fixed_point

ROUNDINGS, OVERFLOWS = list(Rounding), list(Overflow)


def requantised(value: int, from_frac: int, to: FixedPoint) -> int:
    return int(kernels.requant(np.array([value]), from_frac, to)[0])


@st.composite
def values_near_boundaries(draw: Any) -> int:
    """Any int64, often next to a power of two or a half of one."""
    if draw(st.booleans()):
        return draw(st.integers(-(2**63), 2**63 - 1))
    near = draw(st.sampled_from([-1, 1])) * (2 ** draw(st.integers(0, 63)) + draw(st.integers(-2, 2)))
    return max(-(2**63), min(2**63 - 1, near))


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@given(
    value=values_near_boundaries(),
    shift=st.one_of(st.integers(-6, 6), st.integers(-100, 100)),
    frac=st.integers(-14, 14),
    bits=st.integers(2, 32),
    signed=st.booleans(),
)
def test_requant_equals_exact_rational_arithmetic(
    rounding: Rounding, overflow: Overflow, value: int, shift: int, frac: int, bits: int, signed: bool
) -> None:
    to = FixedPoint(bits, frac, signed, rounding, overflow)
    assert requantised(value, frac + shift, to) == naive.requant(value, frac + shift, to)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_requant_of_all_small_integers_equals_exact_rational_arithmetic(rounding: Rounding, overflow: Overflow) -> None:
    values = np.arange(-300, 301)
    for shift in (-7, -3, -1, 0, 1, 2, 3, 5, 9):
        for bits in (2, 3, 5, 8, 16):
            for signed in (True, False):
                to = FixedPoint(bits, 0, signed, rounding, overflow)
                expected = [naive.requant(v, shift, to) for v in values.tolist()]
                assert kernels.requant(values, shift, to).tolist() == expected


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_requant_of_small_and_extreme_integers_by_every_shift(rounding: Rounding, overflow: Overflow) -> None:
    values = np.array([-(2**63), -(2**62), -5, -2, -1, 0, 1, 2, 5, 2**62, 2**63 - 1])
    for shift in range(-130, 131):
        for bits, signed in ((3, True), (3, False), (32, True)):
            to = FixedPoint(bits, 0, signed, rounding, overflow)
            assert kernels.requant(values, shift, to).tolist() == [naive.requant(v, shift, to) for v in values.tolist()]


TIES = {  # 2.5, −2.5, 3.5, −3.5 with one fraction bit dropped, from the ap_fixed tables
    Rounding.TRN: [2, -3, 3, -4],
    Rounding.TRN_ZERO: [2, -2, 3, -3],
    Rounding.RND: [3, -2, 4, -3],
    Rounding.RND_ZERO: [2, -2, 3, -3],
    Rounding.RND_INF: [3, -3, 4, -4],
    Rounding.RND_MIN_INF: [2, -3, 3, -4],
    Rounding.RND_CONV: [2, -2, 4, -4],
}


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_requant_breaks_ties_as_the_mode_says(rounding: Rounding) -> None:
    assert kernels.requant(np.array([5, -5, 7, -7]), 1, FixedPoint(8, 0, rounding=rounding)).tolist() == TIES[rounding]


def test_requant_treats_overflow_as_the_mode_says() -> None:
    values = np.array([7, 8, 20, -8, -9, -20])
    results = {o: kernels.requant(values, 0, FixedPoint(4, 0, overflow=o)).tolist() for o in OVERFLOWS}
    assert results == {
        Overflow.SAT: [7, 7, 7, -8, -8, -8],
        Overflow.SAT_ZERO: [7, 0, 0, -8, 0, 0],
        Overflow.SAT_SYM: [7, 7, 7, -7, -7, -7],
        Overflow.WRAP: [7, -8, 4, -8, 7, -4],
    }


@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.WRAP])
@pytest.mark.parametrize(
    ("rounding", "theirs"),
    [
        (Rounding.TRN, "TO_NEG"),
        (Rounding.TRN_ZERO, "TO_ZERO"),
        (Rounding.RND, "TIES_POS"),
        (Rounding.RND_ZERO, "TIES_ZERO"),
        (Rounding.RND_INF, "TIES_AWAY"),
        (Rounding.RND_MIN_INF, "TIES_NEG"),
        (Rounding.RND_CONV, "TIES_EVEN"),
    ],
)
@given(value=st.integers(-(2**42), 2**42), shift=st.integers(-20, 20), bits=st.integers(2, 32), signed=st.booleans())
def test_requant_equals_apytypes(
    rounding: Rounding, theirs: str, overflow: Overflow, value: int, shift: int, bits: int, signed: bool
) -> None:
    """Values as wide as that library keeps exact; it has no unsigned type, so an unsigned result is its wrapped one."""
    apytypes = pytest.importorskip("apytypes")
    if not signed and overflow is Overflow.SAT:
        return
    source = apytypes.APyFixed(value % 2**64, bits=64, frac_bits=shift)
    modes = getattr(apytypes.QuantizationMode, theirs), getattr(apytypes.OverflowMode, str(overflow).upper())
    raw = source.cast(int_bits=bits, frac_bits=0, quantization=modes[0], overflow=modes[1]).to_bits()
    expected = raw - (raw >> (bits - 1) << bits) if signed else raw
    assert requantised(value, shift, FixedPoint(bits, 0, signed, rounding, overflow)) == expected


def test_the_naive_rounding_is_the_definition() -> None:
    """The oracle itself, on a value that is no tie: only the truncating modes differ."""
    exact = Fraction(-11, 4)
    assert {m: naive.rounded(exact, str(m)) for m in ROUNDINGS} == {
        m: -2 if m is Rounding.TRN_ZERO else -3 for m in ROUNDINGS
    }


def test_a_fixed_point_format_reads_and_prints() -> None:
    assert str(parse_fixed_point("Q16.8")) == "q16.8"
    assert parse_fixed_point("q8.-3") == FixedPoint(8, -3)
    assert str(parse_fixed_point("u8.4")) == "u8.4"
    assert (parse_fixed_point("u8.4").low, parse_fixed_point("u8.4").high) == (0, 255)
    assert (FixedPoint(8, 4).low, FixedPoint(8, 4).high, FixedPoint(8, 4).step) == (-128, 127, 1 / 16)
    with pytest.raises(ValueError, match=r"written like q16\.8"):
        parse_fixed_point("16.8")
    with pytest.raises(ValueError, match="needs 2 to 64 bits, got 1"):
        FixedPoint(1, 0)
