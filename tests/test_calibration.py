"""Is the format of least error really that one? Against every candidate's error, value by value in exact fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.api import attribute
from xaisim.attribution import METHODS
from xaisim.ir.types import FixedPoint, Overflow, Rounding
from xaisim.models import load_model
from xaisim.numerics.calibrate import calibrate
from xaisim.numerics.formats import Formats, Numerics, Ranges, fitting, joined
from xaisim.numerics.histogram import Histogram

LEAST = Numerics(calibration="min_error")


def heavy_tailed(seed: int, count: int, scale: int = 0) -> np.ndarray:
    """Many small values and a few large ones, as gradients are."""
    generator = np.random.default_rng(seed)
    return generator.standard_t(generator.integers(2, 6), size=count) * 2.0**scale


def exact_error(values: np.ndarray, format: FixedPoint) -> float:
    total = Fraction(0)
    for value in map(Fraction, values.reshape(-1).tolist()):
        whole = naive.rounded(value * Fraction(2) ** format.frac, str(format.rounding))
        held = naive.fit(whole, format.bits, str(format.overflow), signed=format.signed)
        total += (value - Fraction(held) / Fraction(2) ** format.frac) ** 2
    return float(total)


def candidates(largest: float, bits: int, *, signed: bool = True) -> list[FixedPoint]:
    """Formats from the one that holds the largest value on, each of half the range of the one before."""
    widest = fitting(largest, bits, signed=signed)
    return [replace(widest, frac=widest.frac + i) for i in range(bits + 1)]


@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.SAT_SYM, Overflow.SAT_ZERO, Overflow.WRAP])
@given(
    bits=st.integers(2, 12),
    signed=st.booleans(),
    rounding=st.sampled_from(Rounding),
    scale=st.integers(-20, 20),
    seed=st.integers(0, 9999),
)
def test_the_chosen_format_errs_no_more_than_any_other_by_a_tenth(
    overflow: Overflow, bits: int, signed: bool, rounding: Rounding, scale: int, seed: int
) -> None:
    """By a tenth, as the bins of the histogram have a width."""
    values = heavy_tailed(seed, 200, scale)
    values = values if signed else np.abs(values)
    ranges = Ranges(histograms={})
    ranges.see("x", values)
    n = Numerics(activations=bits, calibration="min_error", rounding=rounding, overflow=overflow)
    chosen = Formats(n, ranges.largest, histograms=ranges.histograms).of("x", signed=signed)
    tried = [
        replace(f, rounding=rounding, overflow=overflow) for f in candidates(ranges.largest["x"], bits, signed=signed)
    ]
    errors = [exact_error(values, format) for format in tried]
    assert chosen in tried
    assert exact_error(values, chosen) <= 1.1 * min(errors)


def test_it_clips_what_is_rare() -> None:
    """A thousand values within ±1 and one of 100: eight bits are spent on the thousand."""
    values = np.append(np.random.default_rng(0).uniform(-1, 1, 100_000), 100.0)
    ranges = Ranges(histograms={})
    ranges.see("x", values)
    formats = {c: Formats(Numerics(activations=8, calibration=c), ranges.largest, histograms=ranges.histograms)
               for c in ("max", "min_error")}  # fmt: skip
    assert formats["max"].of("x").frac == 0
    assert formats["min_error"].of("x").frac > 0
    assert exact_error(values, formats["min_error"].of("x")) < 0.7 * exact_error(values, formats["max"].of("x"))
    headroom = Formats(
        Numerics(activations=8, calibration="min_error", headroom_bits=2), ranges.largest, histograms=ranges.histograms
    )
    assert headroom.of("x").frac == formats["min_error"].of("x").frac - 2


def test_what_the_host_rounds_is_judged_as_it_rounds() -> None:
    """Inputs are rounded to nearest and saturate, whatever the machine does: a mode of the machine changes nothing."""
    ranges = Ranges(histograms={})
    ranges.see("x", heavy_tailed(4, 5000))
    found = {}
    for host in (True, False):
        for mode in (Overflow.SAT, Overflow.WRAP):
            n = Numerics(activations=6, calibration="min_error", overflow=mode)
            found[host, mode] = Formats(n, ranges.largest, histograms=ranges.histograms).of("x", host=host).frac
    assert found[True, Overflow.SAT] == found[True, Overflow.WRAP]
    assert found[False, Overflow.WRAP] < found[False, Overflow.SAT], "wrapping around is worth a bit"


@given(bits=st.integers(2, 12), seed=st.integers(0, 9999), channels=st.integers(1, 3))
def test_constants_take_the_exact_minimum(bits: int, seed: int, channels: int) -> None:
    rows = heavy_tailed(seed, 30 * channels).reshape(channels, 30) * 2.0 ** -np.arange(channels)[:, None]
    formats = Formats(Numerics(weights=bits, calibration="min_error"), {}, histograms={})
    _, fractions = formats.of_channels("w", rows, channels)
    for row, frac in zip(rows, fractions.tolist(), strict=True):
        errors = {format.frac: exact_error(row, format) for format in candidates(float(np.abs(row).max()), bits)}
        assert errors[frac] == pytest.approx(min(errors.values()), rel=1e-9)
    if channels == 1:
        assert formats.of_constant("w", rows, rows.shape).frac == fractions[0]


@given(seed=st.integers(0, 999), parts=st.integers(1, 5))
def test_a_histogram_does_not_depend_on_how_values_arrive(seed: int, parts: int) -> None:
    values = np.append(heavy_tailed(seed, 300), [0.0, -0.0, 1e-40, -1e30])
    whole, streamed, added = Histogram(), Histogram(), Histogram()
    whole.see(values)
    for part in np.array_split(values, parts):
        streamed.see(part.reshape(1, -1))
        one = Histogram()
        one.see(part)
        added = added.plus(one)
    for other in (streamed, added):
        assert (other.counts == whole.counts).all()
        assert other.sums == pytest.approx(whole.sums)
    assert whole.counts.sum() == 302, "zeros are held by every format"


def test_joined_formats_hold_what_each_was_calibrated_on() -> None:
    parts = []
    for scale in (0, 3):
        ranges = Ranges(histograms={})
        ranges.see("x", heavy_tailed(scale, 2000, scale))
        parts.append(Formats(LEAST, ranges.largest, histograms=ranges.histograms))
    both = joined(parts)
    whole = Ranges(histograms={})
    for scale in (0, 3):
        whole.see("x", heavy_tailed(scale, 2000, scale))
    assert both.of("x") == Formats(LEAST, whole.largest, histograms=whole.histograms).of("x")
    assert both.ranges == whole.largest


def test_a_method_calibrated_for_least_error_errs_less_tensor_by_tensor() -> None:
    """Over the tensors of a gradient, the sum of relative errors falls, and no tensor's error grows by over a tenth."""
    model = load_model("cifar_cnn")
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape))
    numerics = Numerics(activations=6, gradients=6, calibration="min_error")
    ranges = calibrate(METHODS["saliency"], model.graph, x, {}, numerics)
    least = Formats(numerics, ranges.largest, histograms=ranges.histograms)
    largest = Formats(Numerics(activations=6, gradients=6), ranges.largest)
    ratios = []
    for name in ("conv2", "relu3", "d_conv2", "d_input", "d_relu1"):
        assert ranges.histograms is not None
        spread = ranges.histograms[name]
        errors = [spread.squared_error(f.of(name, backward=name.startswith("d_"))) for f in (least, largest)]
        ratios.append(errors[0] / errors[1])
    assert max(ratios) <= 1
    assert min(ratios) < 0.5


def test_it_works_through_the_python_interface_with_paths_of_several_starts() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32))
    settings = {"model": "cifar_cnn", "n_steps": 2, "target": 1, "baselines": np.stack([x[0] * 0, x[0] * 0 + 1])}
    least = attribute(x, numerics=Numerics(activations=8, gradients=8, calibration="min_error"), **settings)
    real = attribute(x, device="float", **settings)
    assert np.corrcoef(least.reshape(-1), real.reshape(-1))[0, 1] > 0.8
