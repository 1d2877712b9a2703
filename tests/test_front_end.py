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
from xaisim.attr import (
    AnyMethod,
    Deconvolution,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from xaisim.config import UserError
from xaisim.models.images import test_scene as scene
from xaisim.models.load import Model, load_model

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


def test_gradcam_of_a_layer_is_captums() -> None:
    """Against Captum, ReLU or not, at two layers; guided GradCAM in both ways of upsampling."""
    torch, captum = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    net = modules(load_model(NET))
    x = torch.as_tensor(X)
    for layer in ("relu2", "relu4"):
        module = net.get_submodule(layer)
        for relu in (False, True):
            expected = captum.LayerGradCam(net, module).attribute(x, target=[0, 1], relu_attributions=relu)
            found = LayerGradCam(NET, layer, device="float").attribute(X, target=[0, 1], relu_attributions=relu)
            assert found.shape == expected.shape
            assert np.allclose(found, expected.detach().numpy(), rtol=1e-6, atol=1e-9)
        for mode in ("nearest", "bilinear"):
            expected = captum.GuidedGradCam(net, module).attribute(x, target=[0, 1], interpolate_mode=mode)
            found = GuidedGradCam(NET, layer, device="float").attribute(X, target=[0, 1], interpolate_mode=mode)
            assert np.allclose(found, expected.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_fixed_point_gradcam_of_a_layer_has_its_size_and_both_signs() -> None:
    found = LayerGradCam(NET, **ONE_FORMAT).attribute(X, target=[1, 0])
    assert found.shape == (2, 1, 16, 16)
    assert found.min() < 0
    assert LayerGradCam(NET, **ONE_FORMAT).attribute(X, target=[1, 0], relu_attributions=True).min() == 0


@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_a_noise_tunnel_averages_over_the_noise_it_draws(kind: str) -> None:
    noise = np.random.default_rng(4).normal(scale=0.2, size=(3, *X.shape))
    maps = [
        xaisim.attribute(X + n, model=NET, explainer="input_x_gradient", device="float", target=[0, 1]) for n in noise
    ]
    expected = {
        "smoothgrad": np.mean(maps, axis=0), "smoothgrad_sq": np.mean(np.square(maps), axis=0),
        "vargrad": np.var(maps, axis=0),
    }[kind]  # fmt: skip
    tunnel = NoiseTunnel(InputXGradient(NET, device="float"))
    found = tunnel.attribute(X, nt_type=kind, nt_samples=3, stdevs=0.2, seed=4)  # the classes are predicted: 0 and 1
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_noise_tunnel_refuses_what_it_does_not_know() -> None:
    tunnel = NoiseTunnel(Saliency(NET, device="float"))
    with pytest.raises(UserError, match=r"unknown nt_type 'smoothgrads'.*did you mean 'smoothgrad'"):
        tunnel.attribute(X, nt_type="smoothgrads")
    with pytest.raises(UserError, match="nt_samples must be at least 1, got 0"):
        tunnel.attribute(X, nt_samples=0)
    with pytest.raises(UserError, match="a NoiseTunnel has no convergence delta"):
        tunnel.attribute(X, return_convergence_delta=True)


def test_arguments_stand_where_captum_has_them() -> None:
    few = IntegratedGradients(NET, device="float").attribute(X, None, [0, 1], None, 4)
    assert np.array_equal(few, IntegratedGradients(NET, device="float").attribute(X, target=[0, 1], n_steps=4))
    with pytest.raises(UserError, match="these networks take their input alone"):
        Saliency(NET, device="float").attribute(X, 0, additional_forward_args=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown device 'flaot'; did you mean 'float'"):
        pair_model(NET, device="flaot")


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


def modules(model: Model) -> Any:
    """Return a network as a float64 torch module whose ReLUs are modules of the nodes' names, which Captum hooks."""
    torch = pytest.importorskip("torch")
    from torch_oracle import _apply

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for node in model.graph.nodes:
                if node.op == "relu":
                    self.add_module(node.name, torch.nn.ReLU())

        def forward(self, x: Any) -> Any:
            values = {"input": x} | {name: torch.as_tensor(c.value) for name, c in model.graph.constants.items()}
            for node in model.graph.nodes:
                relu = self.get_submodule(node.name) if node.op == "relu" else None
                values[node.name] = _apply(node, [values[arg] for arg in node.args], relu)
            return values["logits"]

    return Net()


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
