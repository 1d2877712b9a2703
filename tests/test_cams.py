"""Are the relatives of GradCAM what their equations say, at any layer, on both devices, and in how many kernels?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_gradient import X, one_conv
from test_smoothing import ARCH, NET, PICTURE, fixed, run

from xaisim.attribution import METHODS, cam_kernels
from xaisim.attribution.cams import channel_weights
from xaisim.attribution.gradient import differentiate
from xaisim.attribution.kernels import interpolation
from xaisim.ir.graph import Graph, evaluate
from xaisim.models import load_model
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics
from xaisim.simulate.memory_check import RecordingDevice, check
from xaisim.simulate.program import time_program

CAMS = ("gradcam", "guided_gradcam", "gradcam_plus_plus", "layercam")
LAYERS = ("conv2", "relu1", "conv4", "relu3")


def layer_values(graph: Graph, x: np.ndarray, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the feature map and the gradient of logit 0 to it, both (K, H, W), from an unfolded backward pass."""
    both = differentiate(graph, "logits", layer)
    seed = np.eye(graph.types()["logits"].size)[:1]
    values = evaluate(both, {"input": x, "seed": seed}, keep=[layer])
    return values[layer][0], values[both.outputs[-1]][0]


def upsampled(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return interpolation(plane.shape[0], size[0]) @ np.maximum(plane, 0) @ interpolation(plane.shape[1], size[1]).T


def published(method: str, graph: Graph, x: np.ndarray, layer: str) -> np.ndarray:
    """Return a map (channels, H, W) as its paper defines it."""
    features, g = layer_values(graph, x, layer)
    if method == "layercam":
        plane = (np.maximum(g, 0) * features).sum(axis=0)
    elif method == "gradcam_plus_plus":
        divisor = 2 * g**2 + features.sum(axis=(1, 2), keepdims=True) * g**3
        alpha = np.where(g == 0, 0, g**2 / np.where(g == 0, 1, divisor))
        plane = np.einsum("k,khw->hw", (alpha * np.maximum(g, 0)).sum(axis=(1, 2)), features)
    else:
        plane = np.einsum("k,khw->hw", g.mean(axis=(1, 2)), features)
    map = upsampled(plane, x.shape[2:])[None]
    return map * run("guided_backprop", graph, x)[0] if method == "guided_gradcam" else map


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", CAMS)
def test_maps_are_as_published_at_any_layer(method: str, layer: str) -> None:
    expected = published(method, NET, PICTURE, layer)
    assert np.abs(expected).max() > 1e-3
    assert np.allclose(run(method, layer=layer)[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny"])
@pytest.mark.parametrize("method", CAMS)
def test_maps_of_trained_networks_are_as_published(method: str, name: str) -> None:
    model = load_model(name)
    x = np.random.default_rng(2).normal(size=(1, *model.input_shape))
    expected = published(method, model.graph, x, model.features)
    found = run(method, model.graph, x, layer=model.features)
    assert np.allclose(found[0], expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_one_conv_has_known_maps() -> None:
    """At the ReLU z = [[[0, 4], [31, 40]], [[0, 0], [6, 15]]] the gradient is (1, 1, 1, 1 | 1, −1, −1, −1)."""
    relu = [[0, 4], [31, 40]], [[0, 0], [6, 15]]
    features, g = layer_values(one_conv(), X, "relu")
    assert features.tolist() == [*relu]
    assert g.tolist() == [[[1, 1], [1, 1]], [[1, -1], [-1, -1]]]
    weights = channel_weights(g[None], features.sum(axis=(1, 2))[None, :, None, None])
    assert weights.reshape(-1).tolist() == [4 / (2 + 75), 1 / (2 + 21)]
    for device in (FloatDevice(), FixedDevice(Formats(Numerics(uniform="q16.5")), 48)):
        kernel = cam_kernels.layercam(one_conv(), 0, "relu", (2, 2))
        assert device.launch(kernel, {"input": X})["attribution"].real()[0, 0].tolist() == [[0, 4], [31, 40]]
        guided = run("guided_gradcam", one_conv(), X, device, layer="relu")
        cam = run("gradcam", one_conv(), X, device, layer="relu")
        assert np.abs(guided - cam * run("guided_backprop", one_conv(), X, device)).max() <= 2**-5


def test_a_divisor_of_zero_weighs_nothing() -> None:
    gradient = np.array([[[[1.0, 0.5]], [[0.0, -1.0]]]])
    weights = channel_weights(gradient, np.array([-2.0, 3.0]).reshape(1, 2, 1, 1))
    assert weights.reshape(-1).tolist() == [0.5 / (2 - 2 * 0.5), 0.0]


@pytest.mark.parametrize("layer", ["conv2", "relu1", "relu3"])
@pytest.mark.parametrize("method", ["guided_gradcam", "gradcam_plus_plus", "layercam"])
def test_fixed_point_is_near_float_and_the_same_on_modelled_memories(method: str, layer: str) -> None:
    real = run(method, layer=layer)
    device = fixed(method, RecordingDevice, layer=layer)
    found = run(method, device=device, layer=layer)
    if (method, layer) != ("gradcam_plus_plus", "conv2"):  # sums of both signs: it divides by almost nothing
        assert 10 * np.log10((real**2).sum() / ((found - real) ** 2).sum()) > 35
    assert isinstance(device, RecordingDevice)
    for launched in device.runs:
        checked = check(launched, ARCH)
        assert checked.equal, checked


@pytest.mark.parametrize("method", ["guided_gradcam", "gradcam_plus_plus", "layercam"])
def test_a_batch_gives_what_its_pictures_give_alone(method: str) -> None:
    batch = np.random.default_rng(5).normal(size=(3, *PICTURE.shape[1:]))
    device = fixed(method, layer="relu3")
    together = run(method, x=batch, device=device, layer="relu3")
    assert METHODS[method].batched
    for one, map in zip(batch, together, strict=True):
        assert (run(method, x=one[None], device=device, layer="relu3")[0] == map).all()


def launches(method: str, name: str, **options: Any) -> DryDevice:
    model = load_model(name)
    device = DryDevice(Formats(Numerics()), 48)
    x = np.zeros((1, *model.input_shape))
    METHODS[method].run(device, model.graph, x, 0, **{"layer": model.features, **options})
    return device


def test_guided_gradcam_keeps_each_mask_once_for_both_of_its_gradients() -> None:
    (both,) = launches("guided_gradcam", "cifar_cnn", layer="relu2").program
    model = load_model("cifar_cnn")
    device = DryDevice(Formats(Numerics()), 48)
    METHODS["guided_backprop"].run(device, model.graph, np.zeros((1, 3, 32, 32)), 0)
    stored = [sorted(n.name for n in launch.graph.nodes if n.op in ("positive", "pool_index"))
              for launch in (both, *device.program)]  # fmt: skip
    assert stored[0] == stored[1]
    assert both.graph.macs(backward=False) < 1.01 * model.graph.macs()


def test_layercam_of_a_pooled_linear_head_needs_no_gradient() -> None:
    (launch,) = launches("layercam", "resnet18_tiny").program
    assert launch.graph.macs(backward=True) == 0
    assert not {"positive", "pool_index", "gate", "unpool"} & {node.op for node in launch.graph.nodes}


def test_the_host_divides_for_grad_cam_plus_plus_behind_a_read_back_of_its_own() -> None:
    device = launches("gradcam_plus_plus", "cifar_cnn")
    assert [launch.sync for launch in device.program] == [True, True, False]
    assert [launch.host_operations for launch in device.program] == [0, 6 * 64 * 16 * 16, 0]
    timing = time_program(device.program, ARCH)
    control = ARCH.control
    assert timing.launches[1].host_cycles == control.launch_cycles + control.sync_cycles + -(-6 * 64 * 256 * 100 // 650)
