"""Do weights with a scale per output channel compute what they say? Against exact fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import networks

from xaisim.attribution import kernels
from xaisim.attribution.device import Kernel
from xaisim.config import UserError
from xaisim.ir.graph import Constant, Graph, GraphBuilder, verify
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.metrics import sqnr_db
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges


def one_layer(weights: np.ndarray, bias: np.ndarray | None = None) -> Graph:
    b = GraphBuilder()
    b.input("input", TensorType((weights.shape[1], *(3,) * (weights.ndim - 2))))
    b.constant("w", weights)
    args = ["input", "w"]
    if bias is not None:
        args.append(b.constant("b", bias))
    window: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0, 0, 0)} if weights.ndim == 4 else {}
    return b.build(b.add("logits", "conv" if weights.ndim == 4 else "linear", *args, **window))


def launched(graph: Graph, x: np.ndarray, n: Numerics, accumulator_bits: int = 48) -> tuple[Graph, dict[str, Any]]:
    """Calibrate on ``x`` and run; return the compiled graph and every tensor."""
    kernel, ranges, made = Kernel("forward", graph), Ranges(), {}
    FloatDevice(observe=ranges.see).launch(kernel, {"input": x})
    device = FixedDevice(Formats(n, ranges.largest), accumulator_bits, observe=lambda k, v: made.update({k: v}))
    device.launch(kernel, {"input": x})
    verify(device.program[0].graph)
    return device.program[0].graph, {"input": device.enter(x, device.program[0].graph.inputs["input"].format), **made}


PER_CHANNEL = Numerics(weights=8, per_channel=True)


def exact_of(graph: Graph) -> Any:
    (node,) = (node for node in graph.nodes if node.op in ("conv", "linear"))
    return node


@given(
    scales=st.lists(st.integers(-12, 3), min_size=1, max_size=5),
    bits=st.integers(2, 16),
    window=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_every_channel_is_rounded_at_its_own_scale_and_the_sum_is_exact(
    scales: list[int], bits: int, window: bool, bias: bool, seed: int
) -> None:
    """The real value of each output is Σ w·x + b of that channel's own rounded weights, in exact fractions."""
    generator = np.random.default_rng(seed)
    shape = (len(scales), 2, 3, 3) if window else (len(scales), 6)
    w = generator.normal(size=shape) * 2.0 ** np.reshape(scales, (-1, *(1,) * (len(shape) - 1)))
    b = generator.normal(size=len(scales)) if bias else None
    x = generator.normal(size=(1, *((2, 3, 3) if window else (6,))))
    fixed, made = launched(one_layer(w, b), x, Numerics(weights=bits, per_channel=True))
    node, constant = exact_of(fixed), fixed.constants["w"]
    assert constant.value is not None
    assert isinstance(constant.type.format, FixedPoint)
    frac, frac_x, unit = constant.type.format.frac, fixed.inputs["input"].format.frac, node.type.format.frac
    assert unit == frac + frac_x
    for k, lift in enumerate(node.attrs["lift"]):
        step = Fraction(2) ** (lift - frac)
        weights = [Fraction(int(i)) * step for i in constant.value[k].reshape(-1)]
        for real, held in zip(w[k].reshape(-1), weights, strict=True):
            assert abs(Fraction(float(real)) - held) <= step / 2
        inputs = [Fraction(int(i)) / 2**frac_x for i in made["input"].reshape(-1)]
        total = sum(a * c for a, c in zip(weights, inputs, strict=True))
        if b is not None:
            total += Fraction(int(fixed.constants["b"].value[k]), 1) / Fraction(2) ** unit
        assert Fraction(int(made[node.name].reshape(-1)[k])) / Fraction(2) ** unit == total


def test_every_channel_uses_the_full_width() -> None:
    """Channels of 1, 1/8 and 1/100 take 7 bits of magnitude each; in one format the last would have one."""
    w = np.array([[1.0, -0.3], [0.125, 0.1], [0.01, 0.003]])
    fixed, _ = launched(one_layer(w), np.ones((1, 2)), PER_CHANNEL)
    largest = np.abs(fixed.constants["w"].value).max(axis=1)
    assert largest.tolist() == [64, 64, 82]
    assert exact_of(fixed).attrs["lift"] == (7, 4, 0)
    whole, _ = launched(one_layer(w), np.ones((1, 2)), Numerics(weights=8))
    assert np.abs(whole.constants["w"].value).max(axis=1).tolist() == [64, 8, 1]
    assert "lift" not in exact_of(whole).attrs


def test_scales_per_channel_save_weights_of_very_different_sizes() -> None:
    generator = np.random.default_rng(1)
    w = generator.normal(size=(8, 20)) * 2.0 ** -np.arange(8)[:, None]
    x = generator.normal(size=(16, 20))
    real = x @ w.T
    noise = {}
    for per_channel in (False, True):
        fixed, made = launched(one_layer(w), x, Numerics(weights=6, activations=32, per_channel=per_channel), 64)
        unit = exact_of(fixed)
        found = np.ldexp(made[unit.name].astype(float), -unit.type.format.frac)
        noise[per_channel] = [sqnr_db(real[:, k], found[:, k]) for k in range(8)]
    assert min(noise[True]) > 20
    assert noise[False][0] == pytest.approx(noise[True][0], abs=3), "the largest channel has what it had"
    assert noise[False][7] < 3


def test_channels_of_zeros_and_of_next_to_nothing_do_no_harm() -> None:
    """A lift is limited to the weights' width: what is finer than that is rounded."""
    w = np.array([[1.0, -0.5], [0.0, 0.0], [1e-30, -1e-30], [0.002, 0.001]])
    fixed, made = launched(one_layer(w, np.ones(4)), np.ones((1, 2)), PER_CHANNEL)
    node = exact_of(fixed)
    assert node.attrs["lift"] == (7, 0, 0, 0)
    assert fixed.constants["w"].value.tolist() == [[64, -32], [0, 0], [0, 0], [16, 8]]
    assert np.ldexp(made[node.name][0].astype(float), -node.type.format.frac) == pytest.approx(
        [1.5, 1, 1, 1 + 24 / 2**13], abs=1e-3
    )


def test_the_accumulator_holds_the_sum_before_it_is_lifted() -> None:
    """Two weights of 64 on inputs of down to −2^15 sum up to 2^22, 24 bits; 7 more of lift do not count."""
    w = np.array([[0.5, 0.5], [0.5 / 128, 0.5 / 128]])
    graph, x = one_layer(w), np.array([[0.999, -0.999]])
    with pytest.raises(UserError, match=r"accumulator of 23 bits cannot hold a sum of up to 2\^23; it needs 24 bits"):
        launched(graph, x, PER_CHANNEL, 23)
    fixed, _ = launched(graph, x, PER_CHANNEL, 24)
    node = exact_of(fixed)
    assert node.attrs["bound"] == 2 * 64 * 2**15
    assert node.attrs["lift"] == (7, 0)
    assert node.type.format.bits == (2 * 64 * 2**15 << 7).bit_length() + 1


def test_a_lift_leaves_room_for_the_sum_and_the_bias() -> None:
    """With 32-bit operands there is none left on a 64-bit unit; with a large bias it is the bias that decides."""
    w = np.array([[0.9, 0.9], [0.9 / 2**20, 0.9 / 2**20]])
    wide = Numerics(weights=31, activations=31, per_channel=True)
    fixed, _ = launched(one_layer(w), np.ones((1, 2)), wide, 64)
    assert exact_of(fixed).attrs["lift"] == (0, 0)
    large = one_layer(w, np.array([1000.0, 0.0]))
    fixed, made = launched(large, np.ones((1, 2)), Numerics(per_channel=True), 45)
    bias, node = fixed.constants["b"], exact_of(fixed)
    assert 0 < node.attrs["lift"][0] < 15
    assert bias.value[0] < 2**44 - 1, "the bias is not saturated"
    assert np.ldexp(float(made[node.name][0, 0]), -node.type.format.frac) == pytest.approx(1001.8, rel=1e-4)


def test_a_bias_that_its_bits_cannot_hold_is_refused_with_the_width_that_would_do() -> None:
    graph = one_layer(np.array([[0.9, 0.9]]), np.array([1e6]))
    with pytest.raises(UserError) as error:
        launched(graph, np.ones((1, 2)) * 1e-3, PER_CHANNEL, 48)
    assert "\n" not in str(error.value)
    needed = int(str(error.value).split(" takes ")[1].split()[0])
    assert "more than the 48 of accumulator_bits" in str(error.value)
    with pytest.raises(UserError):
        launched(graph, np.ones((1, 2)) * 1e-3, PER_CHANNEL, needed - 1)
    launched(graph, np.ones((1, 2)) * 1e-3, PER_CHANNEL, needed)


@given(graph=networks())
def test_the_structure_does_not_depend_on_numbers(graph: Graph) -> None:
    """A dry device has the same operators and the same constants of the same bits, its lifts zero."""
    kernel, feeds = kernels.gradient(graph, 0), {"input": np.ones((1, *graph.inputs["input"].shape))}
    ranges = Ranges()
    FloatDevice(observe=ranges.see).launch(kernel, feeds)
    n = Numerics(per_channel=True, weights=8)
    dry, fixed = DryDevice(Formats(n), 48), FixedDevice(Formats(n, ranges.largest), 48)
    shapes = {name: Constant(c.type) for name, c in graph.constants.items()}
    dry.launch(kernels.gradient(replace(graph, constants=shapes), 0), feeds)
    fixed.launch(kernel, feeds)
    first, second = (device.program[0].graph for device in (dry, fixed))
    assert [(name, c.type.size_bits, c.chosen) for name, c in first.constants.items()] == [
        (name, c.type.size_bits, c.chosen) for name, c in second.constants.items()
    ]
    assert [(n.name, n.op, n.type.shape) for n in first.nodes if n.op != "requant"] == [
        (n.name, n.op, n.type.shape) for n in second.nodes if n.op != "requant"
    ]
    lifted = [(node, second.node(node.name)) for node in first.nodes if "lift" in node.attrs]
    assert lifted
    for node, same in lifted:
        assert node.attrs["lift"] == (0,) * node.type.shape[0]
        assert len(same.attrs["lift"]) == node.type.shape[0]


def test_backward_has_weights_of_its_own_scaled_by_its_own_output_channels() -> None:
    generator = np.random.default_rng(3)
    b = GraphBuilder()
    b.input("input", TensorType((3, 4, 4)))
    w = generator.normal(size=(5, 3, 3, 3)) * np.array([1.0, 0.1, 0.01]).reshape(1, 3, 1, 1)
    b.add("conv", "conv", "input", b.constant("w", w), stride=(1, 1), padding=(0, 0, 0, 0))
    b.add("relu", "relu", "conv")
    b.add("flat", "reshape", "relu", shape=(20,))
    b.add("logits", "linear", "flat", b.constant("fc", generator.normal(size=(3, 20))))
    kernel = kernels.gradient(b.build("logits"), 0)
    ranges, feeds = Ranges(), {"input": generator.normal(size=(1, 3, 4, 4))}
    FloatDevice(observe=ranges.see).launch(kernel, feeds)
    device = FixedDevice(Formats(PER_CHANNEL, ranges.largest), 48)
    device.launch(kernel, feeds)
    graph = device.program[0].graph
    backward = graph.node("d_input.exact") if "d_input.exact" in graph.types() else graph.node("d_input")
    assert backward.args[1] == "w.transposed"
    turned = graph.constants["w.transposed"].value
    assert (np.abs(turned).max(axis=(0, 2, 3)) >= 64).all(), "each input channel at full width"
    assert (np.abs(graph.constants["w"].value).max(axis=(1, 2, 3)) >= 64).all()
    assert backward.attrs["lift"][0] > 0 == backward.attrs["lift"][2]


def test_an_override_of_a_weight_gives_all_its_channels_one_format() -> None:
    w = np.array([[1.0, -0.3], [0.01, 0.003]])
    n = Numerics(weights=8, per_channel=True, overrides={"w": "q6.4"})
    fixed, _ = launched(one_layer(w), np.ones((1, 2)), n)
    assert exact_of(fixed).attrs["lift"] == (0, 0)
    assert str(fixed.constants["w"].type.format) == "q6.4"


def test_a_graph_prints_the_range_of_its_lifts() -> None:
    fixed, _ = launched(one_layer(2.0 ** -np.arange(6)[:, None] * np.ones((6, 2))), np.ones((1, 2)), PER_CHANNEL)
    assert " lift=0..5 " in str(exact_of(fixed))


def test_one_uniform_format_and_scales_per_channel_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"needs calibrated formats; uniform q16\.8 gives all one"):
        Numerics(uniform="q16.8", per_channel=True)
