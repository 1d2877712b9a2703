"""Do SmoothGrad and the GradCAM family equal Captum's, on trained networks, with the same noise, to 1e-6?"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from oracles import oracle

from xaisim.attribution import METHODS
from xaisim.attribution.smoothing import register
from xaisim.config import data_root
from xaisim.ir.noise import UNIT, HostNoise, on_chip
from xaisim.models import load_model
from xaisim.models.images import test_scene as shipped_scene
from xaisim.numerics.devices import FloatDevice

NETWORKS = ("cifar_cnn", "resnet18_tiny")
LAYERS = {
    "cifar_cnn": {"conv3": "conv3", "conv4": "conv4"},
    "resnet18_tiny": {"layer4.1.relu2": "layer4.1", "layer3.0.relu2": "layer3.0"},
}
"""Feature maps of ours, and the modules of theirs that give them (a ReLU module serves several maps)."""


@pytest.fixture(scope="module")
def attr() -> ModuleType:
    """Captum's methods."""
    oracle("torch")
    return oracle("captum.attr")


def trained(name: str) -> Any:
    """Return a network with the shipped weights as a torch module, in float64."""
    import torch
    from safetensors.torch import load_file

    spec = importlib.util.spec_from_file_location("networks_torch", data_root() / "workloads" / "networks_torch.py")
    assert spec is not None
    assert spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    torch.set_num_threads(1)
    module = networks.build(name)
    module.load_state_dict(load_file(data_root() / "workloads" / "weights" / f"{name}.safetensors"))
    return module.double().eval()


def explained(name: str, method: str, **options: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Return our map, the picture and its class."""
    model = load_model(name)
    sample = shipped_scene(model, 1)
    target = int(sample.label or 0)
    return METHODS[method].run(FloatDevice(), model.graph, sample.x, target, **options).real(), sample.x, target


def assert_equal(expected: Any, actual: np.ndarray) -> None:
    theirs = expected.detach().numpy()
    assert np.abs(theirs).max() > 1e-5
    assert np.abs(actual - theirs).max() <= 1e-6 * np.abs(theirs).max()


@pytest.mark.parametrize("source", ["host", "lfsr"])
@pytest.mark.parametrize(
    ("variant", "theirs"), [("plain", "smoothgrad"), ("squared", "smoothgrad_sq"), ("vargrad", "vargrad")]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_smoothgrad_is_captums_noise_tunnel_given_our_noise(
    name: str, variant: str, theirs: str, source: str, attr: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    found, x, target = explained(name, "smoothgrad", n_samples=6, sigma=0.25, variant=variant, noise=source)
    shape = x.shape[1:]
    drawn = HostNoise(UNIT, 1.0, 0).draw(shape, 6) if source == "host" else on_chip(shape, 0, np.arange(6))
    noise = torch.tensor(register(0.25).real()[0] * drawn * UNIT.step)
    monkeypatch.setattr(torch, "normal", lambda *_args, **_settings: noise)
    tunnel = attr.NoiseTunnel(attr.Saliency(trained(name)))
    expected = tunnel.attribute(
        torch.tensor(x), nt_type=theirs, nt_samples=6, stdevs=0.25, target=target, abs=False
    )  # fmt: skip
    assert_equal(expected, found)


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in NETWORKS for layer in LAYERS[name]])
def test_gradcam_is_captums_layer_gradcam(name: str, layer: str, attr: ModuleType) -> None:
    import torch

    found, x, target = explained(name, "gradcam", layer=layer)
    module = trained(name)
    cam = attr.LayerGradCam(module, module.get_submodule(LAYERS[name][layer]))
    small = cam.attribute(torch.tensor(x), target=target, relu_attributions=True)
    assert_equal(attr.LayerAttribution.interpolate(small, x.shape[2:], "bilinear"), found)


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in NETWORKS for layer in LAYERS[name]])
def test_guided_gradcam_is_captums(name: str, layer: str, attr: ModuleType) -> None:
    import torch

    found, x, target = explained(name, "guided_gradcam", layer=layer)
    module = trained(name)
    guided = attr.GuidedGradCam(module, module.get_submodule(LAYERS[name][layer]))
    assert_equal(guided.attribute(torch.tensor(x), target=target, interpolate_mode="bilinear"), found)


@pytest.mark.usefixtures("attr")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_study_times_captum_on_the_map_that_it_makes_itself(name: str) -> None:
    torch = oracle("torch")
    from xaisim.studies.gradcam import _by_captum, _map_of
    from xaisim.studies.networks_torch import from_graph

    model = load_model(name)
    network, x = from_graph(model), torch.tensor(shipped_scene(model, 0).x, dtype=torch.float32)
    theirs = _by_captum(network, x)().detach()
    logits, features = network(x, keep=True)
    ours = _map_of(features, torch.autograd.grad(logits[0, 0], features)[0], x)
    assert theirs.shape == ours.shape
    assert float((theirs - ours).abs().max()) <= 1e-6 * max(1.0, float(ours.abs().max()))
