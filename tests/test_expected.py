"""Are Expected Gradients and Blur IG what their equations say, and the same bits on the machine?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_smoothing import ARCH, NET, PICTURE, SHAPE, fixed, gradients_at, linear, run

from xaisim.api import attribute
from xaisim.attribution.expected import blurred
from xaisim.config import UserError
from xaisim.experiment import Experiment, Options, prepare
from xaisim.ir.graph import evaluate
from xaisim.models.images import calibration_batch, calibration_count
from xaisim.simulate.memory_check import RecordingDevice, check

STARTS = np.random.default_rng(7).normal(size=(3, *SHAPE))
CASES: list[tuple[str, dict[str, Any]]] = [
    ("expected_gradients", {"n_samples": 11, "baselines": STARTS}),
    ("expected_gradients", {"n_samples": 20, "baselines": STARTS, "points": "midpoint"}),
    ("blur_ig", {"n_steps": 11}),
    ("blur_ig", {"n_steps": 20, "max_sigma": 3.0}),
]


@pytest.mark.parametrize("points", ["random", "midpoint"])
def test_expected_gradients_average_over_drawn_baselines_and_points(points: str) -> None:
    n, drawn = 9, np.random.RandomState(4)
    starts = STARTS[drawn.randint(3, size=n)]
    alphas = drawn.random_sample(n) if points == "random" else (np.arange(n) + 0.5) / n
    moved = PICTURE - starts
    expected = (moved * gradients_at(NET, starts + alphas[:, None, None, None] * moved)).mean(axis=0)
    found = run("expected_gradients", n_samples=n, baselines=STARTS, points=points, noise_seed=4)
    assert np.allclose(found[0], expected, rtol=1e-10, atol=1e-12)


def test_one_baseline_and_middle_points_are_integrated_gradients() -> None:
    found = run("expected_gradients", n_samples=8, baselines=STARTS[:1], points="midpoint")
    assert np.allclose(found, run("integrated_gradients", baseline=STARTS[:1], n_steps=8), rtol=1e-9, atol=1e-12)


def test_on_a_linear_function_expected_gradients_are_exact() -> None:
    weights = np.arange(60.0).reshape(SHAPE)
    found = run("expected_gradients", linear(weights), n_samples=50, baselines=STARTS)
    mean = STARTS[np.random.RandomState(0).randint(3, size=50)].mean(axis=0)
    assert np.allclose(found[0], (PICTURE[0] - mean) * weights, rtol=1e-9)


def test_blur_ig_sums_to_what_blurring_costs() -> None:
    found = run("blur_ig", n_steps=400, max_sigma=4.0).sum()
    ends = evaluate(NET, {"input": np.concatenate([PICTURE, blurred(PICTURE, 4.0)])})["logits"][:, 0]
    assert abs(ends[0] - ends[1]) > 0.1
    assert found == pytest.approx(ends[0] - ends[1], abs=5e-3)


def test_a_blur_is_a_gaussian_with_zeros_around_it() -> None:
    dot = np.zeros((1, 1, 31, 31))
    dot[0, 0, 15, 15] = 1
    taps = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    taps /= taps.sum()
    assert np.allclose(blurred(dot, 2.0)[0, 0, 7:24, 7:24], np.outer(taps, taps))
    assert (blurred(dot, 0.0) == dot).all()
    assert blurred(np.ones((1, 1, 31, 31)), 2.0)[0, 0, 0, 15] == pytest.approx(taps[8:].sum())


@pytest.mark.parametrize(("method", "options"), CASES)
def test_fixed_point_is_near_float_and_the_same_in_any_batch_and_on_modelled_memories(
    method: str, options: dict[str, Any]
) -> None:
    real = run(method, **options)
    device = fixed(method, RecordingDevice, **options)
    found = run(method, device=device, **options)
    assert 10 * np.log10((real**2).sum() / ((found - real) ** 2).sum()) > 45
    assert (run(method, device=fixed(method, batch=3, **options), **options) == found).all()
    assert isinstance(device, RecordingDevice)
    for launched in device.runs:
        checked = check(launched, ARCH)
        assert checked.equal, checked


def test_baselines_are_calibration_scenes_by_number_or_pictures_that_are_given() -> None:
    p = prepare(Experiment(model="cifar_cnn", method="expected_gradients", options=Options(baselines=3)), values=False)
    assert (p.options["baselines"] == calibration_batch(p.model, 3)).all()
    assert p.shown_options["baselines"] == 3
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    starts = np.zeros((2, 3, 32, 32))
    own: dict[str, Any] = {"model": "cifar_cnn", "device": "float", "target": 1, "n_samples": 4, "points": "midpoint"}
    found = attribute(x, explainer="expected_gradients", baselines=starts, **own)
    path = attribute(x, model="cifar_cnn", device="float", target=1, n_steps=4)
    assert np.allclose(found, path, rtol=1e-9, atol=1e-12)
    with pytest.raises(UserError, match=r"baselines must have shape \(M, 3, 32, 32\), got \(3, 32, 32\)"):
        attribute(x, explainer="expected_gradients", baselines=starts[0], **own)


def test_more_baselines_than_there_are_scenes_are_refused() -> None:
    count = calibration_count()
    with pytest.raises(UserError, match=f"there are {count} calibration scenes, not {count + 1}"):
        prepare(
            Experiment(model="cifar_cnn", method="expected_gradients", options=Options(baselines=count + 1)),
            values=False,
        )
