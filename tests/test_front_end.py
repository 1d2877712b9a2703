"""Do Captum's objects, PAIR's call_model_function and Quantus' explain_func give what the simulator computes?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xaisim
from xaisim.adapters import (
    CONVOLUTION_LAYER_VALUES,
    CONVOLUTION_OUTPUT_GRADIENTS,
    INPUT_OUTPUT_GRADIENTS,
    pair_model,
    quantus_explain,
    quantus_model,
)
from xaisim.attr import AnyMethod, Deconvolution, GuidedBackprop, InputXGradient, IntegratedGradients, Saliency
from xaisim.config import UserError
from xaisim.models.images import test_scene as scene
from xaisim.models.load import load_model

NET = "cifar_cnn"
X = np.concatenate([scene(load_model(NET), n).x for n in (0, 1)])
ONE_FORMAT = {"numerics": "q16.11"}  # nothing to calibrate


@pytest.mark.parametrize("kind", [InputXGradient, Deconvolution, GuidedBackprop])
def test_an_object_is_the_method_of_its_name(kind: Any) -> None:
    expected = xaisim.attribute(X, model=NET, explainer=kind.explainer, target=[0, 1], **ONE_FORMAT)
    assert np.array_equal(kind(NET, **ONE_FORMAT).attribute(X, target=[0, 1]), expected)


def test_saliency_is_a_magnitude_unless_asked() -> None:
    signed = Saliency(NET, device="float").attribute(X, target=3, abs=False)
    assert (signed < 0).any()
    assert np.array_equal(Saliency(NET, device="float").attribute(X, target=3), np.abs(signed))


def test_integrated_gradients_have_captums_defaults_and_deltas() -> None:
    maps, delta = IntegratedGradients(NET, device="float").attribute(
        X, target=[0, 1], n_steps=20, return_convergence_delta=True
    )
    expected = xaisim.attribute(
        X, model=NET, device="float", target=[0, 1], n_steps=20, method="gausslegendre", baselines=0.0
    )
    assert np.array_equal(maps, expected)
    assert delta.shape == (2,)


def test_any_other_method_goes_by_its_name() -> None:
    found = AnyMethod("nuig", NET, device="float").attribute(X, target=1, n_steps=8, n_intervals=2)
    expected = xaisim.attribute(X, model=NET, device="float", explainer="nuig", target=1, n_steps=8, n_intervals=2)
    assert np.array_equal(found, expected)


def test_several_inputs_are_refused() -> None:
    with pytest.raises(UserError, match="inputs, baselines and targets are single arrays"):
        Saliency(NET, device="float").attribute((X, X), target=0)


def test_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    found = Saliency(NET, device="float").attribute(
        torch.as_tensor(X, dtype=torch.float32), target=torch.tensor([0, 1])
    )
    assert found.dtype == torch.float32
    exact = Saliency(NET, device="float").attribute(X.astype(np.float32), target=[0, 1])
    assert np.array_equal(found.numpy(), exact.astype(np.float32))


# PAIR -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["fixed", "float"])
def test_pair_gets_gradients_channels_last(device: str) -> None:
    call = pair_model(NET, device=device, **ONE_FORMAT)
    found = call(X.transpose(0, 2, 3, 1), {"class_idx": 1}, [INPUT_OUTPUT_GRADIENTS])[INPUT_OUTPUT_GRADIENTS]
    expected = xaisim.attribute(X, model=NET, device=device, explainer="saliency", target=1, **ONE_FORMAT)
    assert np.array_equal(found.transpose(0, 3, 1, 2), expected)


def test_pair_gets_a_feature_map_and_its_gradient() -> None:
    call = pair_model(NET, device="float")
    keys = [CONVOLUTION_LAYER_VALUES, CONVOLUTION_OUTPUT_GRADIENTS]
    values, slopes = (call(X.transpose(0, 2, 3, 1), {"class_idx": 1}, keys)[key] for key in keys)
    assert values.shape == slopes.shape == (2, 16, 16, 64)
    plane = np.maximum((slopes.mean(axis=(1, 2))[:, None, None] * values).sum(axis=3), 0)
    maps = xaisim.attribute(X, model=NET, device="float", explainer="gradcam", target=1)
    assert maps[:, 0, 16, 16] == pytest.approx(
        plane[:, 7:9, 7:9].reshape(2, 4) @ np.array([1, 3, 3, 9]) / 16  # half-pixel centres
    )


def test_pair_is_told_what_is_missing() -> None:
    call = pair_model(NET, device="float")
    with pytest.raises(UserError, match="the class is missing"):
        call(X.transpose(0, 2, 3, 1), None, [INPUT_OUTPUT_GRADIENTS])
    with pytest.raises(UserError, match="unknown key 'GRADIENTS'"):
        call(X.transpose(0, 2, 3, 1), {"class_idx": 1}, ["GRADIENTS"])


def test_pairs_own_integrated_gradients_run_on_the_machine() -> None:
    saliency = pytest.importorskip("saliency.core")
    picture = X[0].transpose(1, 2, 0)
    mask = saliency.IntegratedGradients().GetMask(
        picture, pair_model(NET, device="float"), {"class_idx": 0}, x_steps=9, x_baseline=np.zeros_like(picture)
    )
    expected = xaisim.attribute(X[:1], model=NET, device="float", target=0, n_steps=9, method="endpoint_mean")
    assert mask.transpose(2, 0, 1) == pytest.approx(expected[0], rel=1e-5, abs=1e-6)  # PAIR adds up in float32


# Quantus --------------------------------------------------------------------------------------------------------------


def test_quantus_gets_one_map_per_target() -> None:
    explain = quantus_explain("saliency", NET, device="float")
    expected = xaisim.attribute(X, model=NET, explainer="saliency", device="float", target=[2, 5])
    assert np.array_equal(explain(None, X, np.array([2, 5]), device="cpu"), expected)


def test_quantus_measures_the_simulated_network() -> None:
    torch, quantus = pytest.importorskip("torch"), pytest.importorskip("quantus")
    model = quantus_model(NET, **ONE_FORMAT)
    assert model(torch.as_tensor(X)).argmax(dim=1).tolist() == [0, 1]
    metric = quantus.PixelFlipping(features_in_step=256, perturb_baseline="black", disable_warnings=True)
    scores = metric(
        model=model, x_batch=X, y_batch=np.array([0, 1]), a_batch=None, device="cpu", channel_first=True,
        explain_func=quantus_explain("saliency", NET, **ONE_FORMAT),
    )  # fmt: skip
    assert np.asarray(scores).shape == (2, 3 * 32 * 32 // 256)
