"""Is static GradCAM constant folding and nothing else? No backward node where the Jacobian is constant, else a tail."""

from __future__ import annotations

import numpy as np
import pytest

from xaisim.attribution import METHODS, kernels
from xaisim.attribution.gradient import differentiate
from xaisim.ir.graph import Graph, evaluate, verify
from xaisim.models import load_model
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges


def dynamic_gradcam(graph: Graph, x: np.ndarray, target: int, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (α, Σ α·A before ReLU and upsampling) from an unfolded backward pass."""
    backward = differentiate(graph, "logits", layer)
    seed = np.zeros((1, *graph.types()["logits"].shape))
    seed[0, target] = 1
    values = evaluate(backward, {"input": x, "seed": seed}, keep=[layer])
    alpha = np.broadcast_to(values[backward.outputs[-1]], values[layer].shape).mean(axis=(2, 3))
    return alpha, np.einsum("nk,nkhw->nhw", alpha, values[layer])


def compiled(graph: Graph, layer: str) -> Graph:
    """Return the program that a dry device records."""
    device = DryDevice(Formats(Numerics()), accumulator_bits=48)
    METHODS["gradcam"].run(device, graph, np.zeros((1, *graph.inputs["input"].shape)), 0, layer=layer)
    (launch,) = device.program
    verify(launch.graph)
    return launch.graph


def forward_ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize(("name", "contraction"), [("resnet18", 512 * 7 * 7), ("resnet18_tiny", 128 * 4 * 4)])
def test_no_backward_node_is_left_and_the_rest_costs_one_contraction(name: str, contraction: int) -> None:
    model = load_model(name, "random", values=False)
    graph = compiled(model.graph, model.features)
    assert [node.name for node in graph.nodes if node.backward] == []
    assert graph.macs(backward=True) == 0
    assert graph.macs() - model.graph.macs() == contraction
    assert not {"positive", "pool_index", "gate", "unpool"} & set(forward_ops(graph))
    assert "gradcam.weights" in graph.constants


def test_resnet18_costs_25088_macs_which_is_1_4e_5_of_inference() -> None:
    model = load_model("resnet18", "random", values=False)
    added = compiled(model.graph, model.features).macs() - model.graph.macs()
    assert added == 25_088
    assert added / model.graph.macs() == pytest.approx(1.4e-5, rel=0.02)


def test_cifar_cnn_keeps_a_real_tail_that_stops_at_the_layer() -> None:
    """Behind its last feature map lie a max-pool and a ReLU: an index, a mask, and two products stay data."""
    model = load_model("cifar_cnn")
    graph = compiled(model.graph, "relu4")
    tail = [node for node in graph.nodes if node.backward]
    # fc2 transposed times the one-hot class is constant; the gate on it, fc1 transposed and the unpooling are not.
    assert [node.op for node in tail if node.op != "requant"] == [
        "gate",
        "linear",
        "reshape",
        "unpool",
        "avgpool",
        "reshape",
    ]
    assert graph.macs(backward=True) == 4096 * 128
    assert {"positive", "pool_index"} <= set(forward_ops(graph))


def test_a_layer_deep_inside_resnet_keeps_only_the_backward_pass_behind_it() -> None:
    model = load_model("resnet18_tiny")
    graph = compiled(model.graph, "layer4.0.relu2")
    tail = [node for node in graph.nodes if node.backward and node.op == "conv"]
    assert {node.layer for node in tail} == {"layer4.1.conv1", "layer4.1.conv2"}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18_tiny", "layer4.1.relu2"),
        ("resnet18_tiny", "layer3.1.relu2"),
        ("cifar_cnn", "relu4"),
        ("cifar_cnn", "relu2"),
    ],
)
def test_static_values_equal_dynamic_ones(name: str, layer: str) -> None:
    model = load_model(name)
    x = np.random.default_rng(2).normal(size=(1, *model.input_shape))
    size = model.input_shape[1:]
    kernel = kernels.gradcam(model.graph, 4, layer, (size[0], size[1]))
    values = evaluate(kernel.graph, {"input": x}, keep=["gradcam.sum"])
    _, expected = dynamic_gradcam(model.graph, x, 4, layer)
    np.testing.assert_allclose(values["gradcam.sum"][:, 0], expected, rtol=1e-9, atol=1e-12)
    assert values["attribution"].shape == (1, 1, *size)
    assert values["attribution"].max() <= max(0, expected.max()) + 1e-12


def test_gradcam_of_several_images_gives_each_its_own_channel_weights() -> None:
    model = load_model("cifar_cnn")
    x = np.random.default_rng(3).normal(size=(3, *model.input_shape))
    kernel = kernels.gradcam(model.graph, 1, "relu4", (32, 32))
    together = evaluate(kernel.graph, {"input": x})["attribution"]
    apart = [evaluate(kernel.graph, {"input": image[None]})["attribution"][0] for image in x]
    np.testing.assert_allclose(together, np.stack(apart), rtol=1e-12)


@pytest.mark.parametrize(("name", "layer"), [("resnet18_tiny", "layer4.1.relu2"), ("cifar_cnn", "relu4")])
def test_gradcam_in_16_bits_is_close_to_the_reference(name: str, layer: str) -> None:
    model = load_model(name)
    x = np.random.default_rng(2).normal(size=(1, *model.input_shape))
    target = int(evaluate(model.graph, {"input": x})["logits"].argmax())
    ranges = Ranges()
    exact = METHODS["gradcam"].run(FloatDevice(observe=ranges.see), model.graph, x, target, layer=layer).real()
    device = FixedDevice(Formats(Numerics(), ranges.largest), accumulator_bits=48)
    quantised = METHODS["gradcam"].run(device, model.graph, x, target, layer=layer).real()
    assert exact.max() > 0
    assert np.abs(quantised - exact).max() < 0.01 * exact.max()
