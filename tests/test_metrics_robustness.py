"""Are infidelity and sensitivity those of Captum for the same perturbations, and those of cases by hand?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import oracle

from xaisim.metrics import gaussian_perturbations, infidelity, max_sensitivity, square_perturbations

SHAPE = (3, 4, 5)
generator = np.random.default_rng(0)
HIDDEN, HEAD = generator.normal(size=(60, 8)), generator.normal(size=(8, 3))


def scores(batch: np.ndarray) -> np.ndarray:
    """A random network with a hidden layer."""
    return np.maximum(batch.reshape(len(batch), -1) @ HIDDEN, 0) @ HEAD


def gradient(batch: np.ndarray) -> np.ndarray:
    """The gradient of its class 1."""
    passed = batch.reshape(len(batch), -1) @ HIDDEN > 0
    return ((passed * HEAD[:, 1]) @ HIDDEN.T).reshape(batch.shape)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# --- Captum -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captum() -> Any:
    oracle("torch")
    return oracle("captum.metrics")


def torch_scores(x: Any) -> Any:
    return oracle("torch").as_tensor(scores(x.numpy()))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_infidelity_is_captums_for_the_same_noise(captum: Any, seed: int, normalise: bool) -> None:
    torch = oracle("torch")
    x, noise = drawn(seed, 1, *SHAPE), gaussian_perturbations(np.zeros(SHAPE), 7, 0.5, seed)
    theirs = captum.infidelity(
        torch_scores, lambda inputs: (torch.tensor(noise), inputs - torch.tensor(noise)), torch.tensor(x),
        torch.tensor(gradient(x)), target=1, n_perturb_samples=7, normalize=normalise,
    )  # fmt: skip
    ours = infidelity(scores, x, gradient(x), 1, perturbations=noise, normalise=normalise, batch_size=3)
    assert ours == pytest.approx(theirs.item(), rel=1e-9)


def test_an_attribution_with_the_input_as_factor_is_divided_as_captum_divides(captum: Any) -> None:
    torch = oracle("torch")
    x, base = drawn(1, 1, *SHAPE), drawn(2, 1, *SHAPE)
    base[0, 0] = x[0, 0]  # no factor to divide by
    squares = square_perturbations(x, 2, 9, fill=base[0])
    map = gradient(x) * (x - base)
    taken = captum.infidelity_perturb_func_decorator(True)(lambda inputs, _base: inputs - torch.tensor(squares))
    theirs = captum.infidelity(
        torch_scores, taken, torch.tensor(x), torch.tensor(map), baselines=torch.tensor(base), target=1,
        n_perturb_samples=9,
    )  # fmt: skip
    ours = infidelity(scores, x, map, 1, perturbations=squares, baseline=base[0])
    assert ours == pytest.approx(theirs.item(), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_sensitivity_is_captums_for_the_same_perturbations(captum: Any, seed: int) -> None:
    torch = oracle("torch")
    x, noise = drawn(seed, 1, *SHAPE), np.random.default_rng(seed).uniform(-0.3, 0.3, (8, *SHAPE))

    def explain(inputs: Any) -> Any:  # a tuple of pictures for the picture itself, a batch for what is perturbed
        one = isinstance(inputs, tuple)
        map = torch.tensor(gradient((inputs[0] if one else inputs).numpy()))
        return (map,) if one else map

    theirs = captum.sensitivity_max(
        explain, torch.tensor(x), perturb_func=lambda inputs: inputs + torch.tensor(noise), n_perturb_samples=8
    )
    ours = max_sensitivity(gradient, x, perturbations=noise, batch_size=3)
    assert ours > 0
    assert ours == pytest.approx(theirs.item(), rel=1e-9)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_infidelity_of_one_perturbation_is_that_computed_by_hand() -> None:
    x, attribution = np.array([[[2.0, 3.0]]]), np.array([[[1.0, 0.0]]])
    product = lambda batch: batch.prod(axis=(1, 2, 3))[:, None]  # noqa: E731
    noise = np.array([[[[1.0, 0.0]]], [[[1.0, 2.0]]]])  # F falls from 6 to 3 and to 1, φ says by 1 and 1
    assert infidelity(product, x, attribution, perturbations=noise) == ((1 - 3) ** 2 + (1 - 5) ** 2) / 2
    assert infidelity(product, x, attribution, perturbations=noise, normalise=True) == 1.0  # 4 instead of 1


@given(st.integers(0, 1000), st.floats(-4, 4))
def test_the_gradient_of_a_linear_model_is_faithful_and_any_multiple_of_it_once_normalised(
    seed: int, factor: float
) -> None:
    weights, x, base = (drawn(seed + n, *SHAPE) for n in range(3))
    model = lambda batch: np.tensordot(batch, weights, axes=3)[:, None]  # noqa: E731
    assert infidelity(model, x, weights) == pytest.approx(0.0, abs=1e-20)
    assert infidelity(model, x, weights * (x - base), baseline=base) == pytest.approx(0.0, abs=1e-20)
    if abs(factor) > 1e-3:
        assert infidelity(model, x, factor * weights, normalise=True) == pytest.approx(0.0, abs=1e-20)


def test_a_map_of_one_channel_counts_for_every_channel() -> None:
    x, map = drawn(0, 1, *SHAPE), drawn(1, 1, 1, 4, 5)
    assert infidelity(scores, x, map, 0) == infidelity(scores, x, np.repeat(map, 3, axis=1), 0)


def test_sensitivity_is_the_largest_relative_change() -> None:
    x = np.zeros((1, 1, 1, 2))
    explain = lambda batch: batch + np.array([3.0, 4.0])  # noqa: E731
    noise = np.array([[[[1.0, 0.0]]], [[[0.0, -2.5]]]])
    assert max_sensitivity(explain, x, perturbations=noise) == 0.5
    assert 0 < max_sensitivity(explain, x) <= 0.02 * math.sqrt(2) / 5
    assert max_sensitivity(explain, x, seed=1) != max_sensitivity(explain, x)
    assert max_sensitivity(lambda batch: 0 * batch + 1, x) == 0.0


def test_a_map_of_zeros_that_changes_at_all_is_infinitely_sensitive() -> None:
    assert max_sensitivity(lambda batch: batch, np.zeros((1, 2, 2))) == math.inf
    assert max_sensitivity(lambda batch: 0 * batch, np.zeros((1, 2, 2))) == 0.0


def test_squares_take_all_channels_of_a_square_to_the_filling() -> None:
    x = drawn(0, *SHAPE)
    for one in x - square_perturbations(x, 3, 20, fill=7.0):
        filled = np.isclose(one, 7.0)
        assert (filled.all(axis=0) == filled.any(axis=0)).all()
        assert filled[0].sum() == 9
        rows, cols = np.nonzero(filled[0])
        assert (np.ptp(rows), np.ptp(cols)) == (2, 2)
        np.testing.assert_array_equal(one[~filled], x[~filled])


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^a square of 5 x 5 pixels does not fit into 4 x 5$"):
        square_perturbations(np.zeros(SHAPE), 5)
    with pytest.raises(ValueError, match=r"^perturbations of shape \(7, 4, 5\) do not fit a picture of \(3, 4, 5\)$"):
        infidelity(scores, np.zeros(SHAPE), np.zeros(SHAPE), perturbations=np.zeros((7, 4, 5)))
