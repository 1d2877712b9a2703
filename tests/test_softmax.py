"""Is the seed of a probability right: against float64, exactly zero in sum, and in a kernel on modelled memories?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.attribution import METHODS
from xaisim.attribution.host import apportion
from xaisim.ir import softmax
from xaisim.models.load import load_model
from xaisim.numerics.devices import FloatDevice

STEP = 2.0**-softmax.SEED_FRAC


@given(st.integers(0, 2**32 - 1), st.integers(2, 1000), st.integers(-4, 24), st.floats(0.01, 12))
def test_integers_are_close_to_the_real_seed_and_sum_to_zero(seed: int, classes: int, frac: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    target = int(rng.integers(classes))
    x = np.round(rng.normal(size=(3, 1, 1, classes)) * spread * 2.0**frac).astype(np.int64)
    found = softmax.seed(x, target, frac)
    assert (found.sum(axis=-1) == 0).all()
    assert (found[..., target] >= 0).all()
    real = softmax.real_seed(x * 2.0**-frac, target)
    # Powers of two are off by 2e-6 of themselves; a probability and a product are each rounded down by up to a step,
    # and the target's entry adds up those of all classes.
    assert np.abs(found * STEP - real).max() <= 4e-6 * np.abs(real).max() + 2 * (classes + 1) * STEP


def test_the_real_seed_is_the_gradient_of_the_probability() -> None:
    x, target, h = np.random.default_rng(0).normal(size=(1, 1, 1, 7)), 2, 1e-6
    seed = softmax.real_seed(x, target)
    for i in range(7):
        step = h * np.eye(7)[i]
        p = [np.exp(y) / np.exp(y).sum() for y in (x + step, x - step)]
        assert seed[0, 0, 0, i] == pytest.approx((p[0] - p[1])[0, 0, 0, target] / (2 * h), abs=1e-9)


def test_integrated_gradients_of_the_probability_sum_to_its_change() -> None:
    model = load_model("cifar_cnn")
    x = np.random.default_rng(1).normal(size=(1, 3, 32, 32))
    method = METHODS["integrated_gradients"]
    total = method.run(FloatDevice(), model.graph, x, 4, n_steps=400, score="probability").real().sum()
    logits = [METHODS["forward"].run(FloatDevice(), model.graph, end, 4).real()[0] for end in (x, 0 * x)]
    high, low = (float(np.exp(row[4] - np.logaddexp.reduce(row))) for row in logits)
    assert total == pytest.approx(high - low, abs=2e-3)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.integers(0, 3), st.integers(0, 200))
def test_apportioning_keeps_the_total_and_the_least(shares: list[float], least: int, more: int) -> None:
    total = least * len(shares) + more
    counts = apportion(np.array(shares), total, least)
    assert counts.sum() == total
    assert counts.min() >= least
    exact = np.array(shares) / sum(shares) * more if sum(shares) > 0 else np.full(len(shares), more / len(shares))
    assert np.abs(counts - least - exact).max() < 1 + 1e-9


def test_apportioning_refuses_too_few() -> None:
    with pytest.raises(ValueError, match="3 cannot be divided among 4 with at least 1 each"):
        apportion(np.ones(4), 3, 1)
