"""Is ``requant`` what the HLS tools compute? Against the ``ap_fixed`` headers and exact rationals, in every mode."""

from __future__ import annotations

import os
from itertools import product

import ap_fixed
import naive
import numpy as np
import pytest
from conversions import boundaries, conversions, random_values

from xaisim.ir import kernels
from xaisim.ir.types import FixedPoint, Overflow, Rounding

RANDOM_VALUES = 8000
"""Of each conversion; there are some two thousand."""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> ap_fixed.Oracle:
    """Compile the oracle; with ``XAISIM_EVERY_ORACLE`` set, as in CI, it must be there."""
    reason = ap_fixed.missing()
    if reason and os.environ.get("XAISIM_EVERY_ORACLE"):
        pytest.fail(f"XAISIM_EVERY_ORACLE is set, and this test {reason}")
    if reason:
        pytest.skip(reason)
    return ap_fixed.Oracle(conversions(), tmp_path_factory.mktemp("ap_fixed"))


def test_requant_equals_ap_fixed_on_all_boundaries_and_millions_of_random_values(oracle: ap_fixed.Oracle) -> None:
    """One test, so that the library is compiled once even where tests run side by side."""
    wrong, compared = [], 0
    for seed, conversion in enumerate(conversions()):
        values = np.concatenate([boundaries(conversion), random_values(conversion, RANDOM_VALUES, seed)])
        expected = oracle(conversion, values)
        ours = kernels.requant(values, conversion.source.frac, conversion.to)
        compared += values.size
        for i in np.nonzero(ours != expected)[0][:1]:
            wrong.append(f"{conversion}: {values[i]} becomes {ours[i]}, in ap_fixed {expected[i]}")
    print(f"{compared} values, {len(wrong)} conversions with a mismatch")
    assert wrong == []
    assert compared > 10_000_000


def test_requant_of_boundaries_equals_exact_rational_arithmetic() -> None:
    """The second oracle, on the same conversions; of many boundaries it takes an even choice."""
    for conversion in conversions():
        values = boundaries(conversion)
        values = values[:: max(1, values.size // 80)]
        expected = [naive.requant(value, conversion.source.frac, conversion.to) for value in values.tolist()]
        assert kernels.requant(values, conversion.source.frac, conversion.to).tolist() == expected, conversion


def test_the_conversions_cover_all_modes_widths_signs_and_shifts() -> None:
    every = conversions()
    for dropping in (True, False):
        some = [c for c in every if (c.dropped > 0) == dropping]
        assert {(c.source.signed, c.to.signed) for c in some} == set(product((True, False), repeat=2))
        assert {(c.to.bits, c.to.signed, c.to.overflow) for c in some} == set(
            product(range(2, 33), (True, False), Overflow)
        )
    modes = {(c.to.bits, c.to.signed, c.to.rounding, c.to.overflow) for c in every if c.dropped > 0}
    assert modes == set(product(range(2, 33), (True, False), Rounding, Overflow))
    assert {c.source.bits for c in every} >= {3, 8, 16, 32, 48, 62, 64}
    assert any(c.dropped > c.source.bits for c in every)
    assert any(-c.dropped > c.to.bits for c in every)
    assert any(c.source.frac < 0 < c.dropped for c in every)
    assert any(c.to.frac < 0 for c in every)


@pytest.mark.parametrize(
    ("to", "value", "expected"),
    [
        (FixedPoint(4, 0, overflow=Overflow.SAT), 19, 7),
        (FixedPoint(4, 0, overflow=Overflow.SAT), -19, -8),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.SAT), 19, 15),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.SAT), -19, 0),
        (FixedPoint(4, 0, overflow=Overflow.SAT_ZERO), 19, 0),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.SAT_ZERO), -19, 0),
        (FixedPoint(4, 0, overflow=Overflow.SAT_SYM), 19, 7),
        (FixedPoint(4, 0, overflow=Overflow.SAT_SYM), -19, -7),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.SAT_SYM), 19, 15),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.SAT_SYM), -19, 0),
        (FixedPoint(4, 0, overflow=Overflow.WRAP), 31, -1),
        (FixedPoint(4, 0, overflow=Overflow.WRAP), -19, -3),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.WRAP), 19, 3),
        (FixedPoint(4, 0, signed=False, overflow=Overflow.WRAP), -19, 13),
    ],
)
def test_overflow_is_as_the_examples_in_the_manual_of_ap_fixed(to: FixedPoint, value: int, expected: int) -> None:
    """AMD UG1399 (2023.2), "Overflow Modes"."""
    assert kernels.requant(np.array([value]), 0, to).tolist() == [expected]
