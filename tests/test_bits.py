"""Are all levels bit-equal? Fast kernels, naive loops, batches of any size, products in any arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import RandomNetwork, networks

from xaisim.attribution import METHODS, kernels, path_kernels
from xaisim.attribution.device import Kernel
from xaisim.attribution.gradient import DECONVNET, GUIDED, RULES
from xaisim.config import UserError
from xaisim.ir.graph import Graph, GraphBuilder, evaluate, verify
from xaisim.ir.types import Bits, FixedPoint, Overflow, Rounding, TensorType
from xaisim.models import load_model
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges, fitting, load_numerics, to_integers

RELU_RULES = {"plain": RULES, "deconvnet": DECONVNET, "guided": GUIDED}


@st.composite
def numerics(draw: Any) -> Numerics:
    """Draw widths of 2 to 32 bits, any rounding and overflow, calibrated by tensor or channel, or uniform."""
    width = draw(st.sampled_from([st.integers(2, 12), st.integers(4, 16), st.sampled_from([5, 11, 16, 23, 31, 32])]))
    widths = {key: draw(width) for key in ("weights", "activations", "gradients", "attributions", "path")}
    uniform = draw(st.one_of(st.none(), st.builds("q{}.{}".format, st.integers(4, 16), st.integers(-2, 12))))
    return Numerics(
        **widths,
        uniform=uniform,
        per_channel=uniform is None and draw(st.booleans()),
        running_sum=None if uniform else draw(st.one_of(st.none(), st.integers(14, 44))),
        headroom_bits=draw(st.integers(0, 2)),
        rounding=draw(st.sampled_from(Rounding)),
        overflow=draw(st.sampled_from(Overflow)),
    )


def seen_ranges(kernel: Kernel, feeds: dict[str, np.ndarray], percentile: float | None = None) -> Ranges:
    ranges = Ranges(percentile)
    FloatDevice(observe=ranges.see).launch(kernel, feeds)
    return ranges


def launched(kernel: Kernel, feeds: dict[str, np.ndarray], n: Numerics, trips: int = 1) -> tuple[Graph, dict, dict]:
    """Launch on the fixed device; return the compiled graph, its integer feeds and every tensor it made."""
    made: dict[str, np.ndarray] = {}
    formats = Formats(n, seen_ranges(kernel, feeds).largest)
    device = FixedDevice(formats, accumulator_bits=64, observe=lambda name, value: made.update({name: value.copy()}))
    try:
        device.launch(kernel, feeds, trips=trips)
    except UserError:
        assume(False)
    graph = device.program[0].graph
    return graph, {name: device.enter(feeds[name], graph.inputs[name].format) for name in graph.inputs}, made


def assert_bits_equal(graph: Graph, feeds: dict[str, np.ndarray], made: dict[str, np.ndarray]) -> None:
    expected = naive.run(graph, feeds)
    for node in graph.nodes:
        slow = expected[node.name][: len(made[node.name])]
        assert made[node.name].dtype == np.int64
        assert (made[node.name] == slow).all(), f"{node} differs from the loops"
        if isinstance(node.type.format, FixedPoint):
            assert node.type.format.low <= made[node.name].min()
            assert made[node.name].max() <= node.type.format.high
        if "lift" in node.attrs:
            before = replace(node, attrs={key: value for key, value in node.attrs.items() if key != "lift"})
            sums = naive.OPS[node.op](before, *(expected[arg][0] for arg in node.args[:2]))
            assert max(abs(v) for v in sums.reshape(-1)) <= node.attrs["bound"]
        elif "bound" in node.attrs:
            assert max(abs(v) for v in slow.reshape(-1)) <= node.attrs["bound"]


@given(
    graph=networks(layers=4, side=6, channels=3),
    n=numerics(),
    relu=st.sampled_from(list(RELU_RULES)),
    flags=st.tuples(st.booleans(), st.integers(1, 3)),
    seed=st.integers(0, 999),
)
def test_forward_and_backward_equal_the_naive_reference_in_every_tensor(
    graph: Graph, n: Numerics, relu: str, flags: tuple[bool, int], seed: int
) -> None:
    times_input, batch = flags
    x = np.random.default_rng(seed).normal(size=(batch, *graph.inputs["input"].shape))
    kernel = kernels.gradient(graph, 1, RELU_RULES[relu], times_input=times_input)
    fixed, feeds, made = launched(kernel, {"input": x}, n)
    verify(fixed)
    assert_bits_equal(fixed, feeds, made)


@given(graph=networks(layers=3, side=5, channels=2), n=numerics(), trips=st.integers(1, 4), seed=st.integers(0, 999))
def test_a_path_loop_equals_the_naive_reference_with_its_running_sum(
    graph: Graph, n: Numerics, trips: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    shape = (1, *graph.inputs["input"].shape)
    feeds = {"path.x": generator.normal(size=shape), "path.baseline": generator.normal(size=shape)}
    feeds |= {"path.alpha": (np.arange(trips) + 0.5) / trips, "path.weight": np.ones(trips)}
    fixed, integers, made = launched(path_kernels.path_gradient(graph, 2), feeds, n, trips)
    verify(fixed)
    assert_bits_equal(fixed, integers, made)


@given(graph=networks(layers=3, side=6, channels=3), n=numerics(), seed=st.integers(0, 999))
def test_gradcam_with_a_dynamic_tail_equals_the_naive_reference(graph: Graph, n: Numerics, seed: int) -> None:
    layer = next((node.name for node in graph.nodes if len(node.type.shape) == 3 and node.op in ("conv", "add")), None)
    assume(layer is not None)
    x = np.random.default_rng(seed).normal(size=(2, *graph.inputs["input"].shape))
    fixed, feeds, made = launched(kernels.gradcam(graph, 0, str(layer), x.shape[2:]), {"input": x}, n)
    verify(fixed)
    assert_bits_equal(fixed, feeds, made)


@given(graph=networks(), n=numerics(), bound=st.sampled_from([1 << 30, 1 << 61]), seed=st.integers(0, 999))
def test_products_in_float32_float64_and_int64_give_the_same_bits(
    graph: Graph, n: Numerics, bound: int, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(2, *graph.inputs["input"].shape))
    fixed, feeds, made = launched(kernels.gradient(graph, 0), {"input": x}, n)
    wider = tuple(
        replace(node, attrs={**node.attrs, "bound": max(bound, node.attrs["bound"])}) if "bound" in node.attrs else node
        for node in fixed.nodes
    )
    again = evaluate(replace(fixed, nodes=wider), feeds)
    for name in fixed.outputs:
        if name in made:
            assert (again[name] == made[name]).all()


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "gradcam"])
def test_batch_size_does_not_change_a_bit(method: str) -> None:
    model = load_model("cifar_cnn")
    x = np.random.default_rng(0).normal(size=(1 if method == "integrated_gradients" else 5, *model.input_shape))
    options: dict[str, Any] = {"integrated_gradients": {"n_steps": 7}, "gradcam": {"layer": "relu4"}}.get(method, {})
    ranges = Ranges()
    METHODS[method].run(FloatDevice(observe=ranges.see), model.graph, x, 3, **options)
    formats = Formats(Numerics(), ranges.largest)
    results = []
    for batch_size in (1, 2, 3, 7, None):
        device = FixedDevice(formats, accumulator_bits=48, batch_size=batch_size)
        result = METHODS[method].run(device, model.graph, x, 3, **options)
        results.append((result.values.tobytes(), result.values.shape, result.type))
    assert results == [results[0]] * 5
    assert np.any(np.frombuffer(results[0][0], np.int64))


def test_one_device_runs_several_methods_of_one_class_and_several_networks() -> None:
    """What a device compiled for one kernel must not answer for another of the same name."""
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    model, other = load_model("cifar_cnn"), load_model("cifar_cnn", "random")
    launches: list[tuple[str, Graph, dict[str, Any]]] = [
        ("saliency", model.graph, {}),
        ("guided_backprop", model.graph, {}),
        ("input_x_gradient", model.graph, {}),
        ("integrated_gradients", model.graph, {"n_steps": 2}),
        ("integrated_gradients", model.graph, {"n_steps": 5}),
        ("saliency", other.graph, {}),
    ]
    shared = FloatDevice()
    for method, graph, options in launches:
        fresh = METHODS[method].run(FloatDevice(), graph, x, 3, **options).real()
        assert (METHODS[method].run(shared, graph, x, 3, **options).real() == fresh).all(), method


# What quantise promises -----------------------------------------------------------------------------------------------


@given(graph=networks(), n=numerics(), seed=st.integers(0, 999))
def test_only_requant_rounds_and_every_other_point_follows_from_the_operands(
    graph: Graph, n: Numerics, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(1, *graph.inputs["input"].shape))
    fixed, _, _ = launched(kernels.gradient(graph, 0, times_input=True), {"input": x}, n)
    types = fixed.types()
    for node in fixed.nodes:
        assert node.type.format is not None
        if isinstance(node.type.format, Bits):
            continue
        fractions = [f.frac for f in (types[arg].format for arg in node.args) if isinstance(f, FixedPoint)]
        if node.op == "requant":
            assert node.attrs["from_frac"] == fractions[0]
        elif node.op == "upsample":
            assert node.type.format.frac == sum(fractions)
        elif node.op in ("conv", "linear", "mul", "avgpool"):
            assert node.type.format.frac == fractions[0] + fractions[1]
            assert set(fractions[2:]) <= {node.type.format.frac}, "a bias joins the sum at its point"
        elif node.op in ("add", "sub"):
            shifted = [f + s for f, s in zip(fractions, node.attrs["shifts"], strict=True)]
            assert min(node.attrs["shifts"]) == 0
            assert set(shifted) == {node.type.format.frac}
        else:
            assert set(fractions) == {node.type.format.frac}


@given(graph=networks())
def test_the_dry_device_compiles_the_same_operators_as_the_fixed_device(graph: Graph) -> None:
    """Formats differ, as nothing is calibrated, and with them the requants that align operands; nothing else does."""
    kernel, feeds = kernels.gradient(graph, 0), {"input": np.ones((1, *graph.inputs["input"].shape))}
    dry = DryDevice(Formats(Numerics()), 48)
    fixed = FixedDevice(Formats(Numerics(), seen_ranges(kernel, feeds).largest), 64)
    dry.launch(kernel, feeds)
    fixed.launch(kernel, feeds)
    first, second = (
        [(n.name, n.op, n.type.shape, n.layer, n.backward) for n in device.program[0].graph.nodes if n.op != "requant"]
        for device in (dry, fixed)
    )
    assert first == second


def one_linear(weights: np.ndarray) -> Graph:
    b = GraphBuilder()
    b.input("input", TensorType((weights.shape[1],)))
    b.constant("w", weights)
    return b.build(b.add("logits", "linear", "input", "w"))


@pytest.mark.parametrize(("accumulator_bits", "fits"), [(33, True), (32, False), (20, False)])
def test_an_accumulator_that_may_overflow_is_refused_with_the_bound_and_the_width_that_would_do(
    accumulator_bits: int, fits: bool
) -> None:
    """Four weights of 2^14 on inputs of down to −2^15 sum up to 2^31, which takes 32 bits and a sign."""
    graph = one_linear(np.full((2, 4), 2.0**14))
    device = FixedDevice(Formats(Numerics(uniform="q16.0")), accumulator_bits)
    if fits:
        device.launch(Kernel("forward", graph), {"input": np.full((1, 4), -(2.0**15))})
        return
    with pytest.raises(UserError) as error:
        device.launch(Kernel("forward", graph), {"input": np.zeros((1, 4))})
    assert str(error.value) == (
        f"logits: the accumulator of {accumulator_bits} bits cannot hold a sum of up to 2^32; it needs 33 bits "
        "(narrower formats or a wider accumulator_bits would do)"
    )


def test_the_narrowest_accumulator_that_is_accepted_holds_the_worst_sum() -> None:
    graph = one_linear(np.array([[3.0, -5.0, 7.0]]))
    worst = (3 + 5 + 7) * 2**15
    width = worst.bit_length() + 1
    for bits in range(16, 40):
        device = FixedDevice(Formats(Numerics(uniform="q16.0")), bits)
        if bits < width:
            with pytest.raises(UserError, match=f"it needs {width} bits"):
                device.launch(Kernel("forward", graph), {"input": np.zeros((1, 3))})
        else:
            device.launch(Kernel("forward", graph), {"input": np.zeros((1, 3))})
            (exact,) = (node for node in device.program[0].graph.nodes if node.op == "linear")
            assert exact.attrs["bound"] == worst
            assert exact.type.format == FixedPoint(width, 0)


@given(
    largest=st.floats(1e-12, 1e12),
    bits=st.integers(2, 32),
    headroom=st.integers(0, 8),
    signed=st.booleans(),
)
def test_a_calibrated_format_is_the_finest_that_holds_the_largest_value(
    largest: float, bits: int, headroom: int, signed: bool
) -> None:
    format = fitting(largest, bits, headroom, signed=signed)
    assert format.bits == bits
    assert format.signed == signed
    frac = format.frac + headroom
    assert np.floor(np.ldexp(largest, frac) + 0.5) <= format.high
    assert format.frac == 60 or np.floor(np.ldexp(largest, frac + 1) + 0.5) > format.high, "or as fine as formats get"


def test_host_data_is_rounded_to_nearest_and_saturates() -> None:
    values = np.array([0.125, -0.125, 0.375, 1e9, -1e9])
    assert to_integers(values, FixedPoint(8, 2)).tolist() == [1, 0, 2, 127, -128]
    assert to_integers(values, FixedPoint(8, 2, signed=False)).tolist() == [1, 0, 2, 255, 0]
    for bits in range(50, 65):
        high, low = to_integers(np.array([1e30, -1e30]), FixedPoint(bits, 0)).tolist()
        assert (low, high.bit_length()) == (-(2 ** (bits - 1)), bits - 1)


def test_a_16_bit_gradient_of_a_trained_network_is_near_the_reference() -> None:
    """Signal to quantisation noise of at least 30 dB, on noise as input."""
    model = load_model("resnet18_tiny")
    x = np.random.default_rng(5).normal(size=(2, *model.input_shape))
    ranges = Ranges()
    exact = METHODS["saliency"].run(FloatDevice(observe=ranges.see), model.graph, x, 3).real()
    device = FixedDevice(Formats(Numerics(), ranges.largest), accumulator_bits=48)
    noise = METHODS["saliency"].run(device, model.graph, x, 3).real() - exact
    assert 10 * np.log10((exact**2).sum() / (noise**2).sum()) > 30


def test_numerics_are_named_or_a_format_or_a_file() -> None:
    assert load_numerics("fixed8").weights == 8
    assert load_numerics("q12.5").uniform == "q12.5"
    assert load_numerics("q12.5").gradients == 12
    for name, message in (("fixed7", "unknown numerics 'fixed7'; choices: fixed16, fixed8"), ("q99.1", "q99.1")):
        with pytest.raises(UserError, match=message):
            load_numerics(name)


def test_a_constant_gradient_leaves_the_fixed_device_as_a_constant() -> None:
    net = RandomNetwork(1)
    net.input("input", TensorType((1, 3, 3)))
    graph = net.build(net.head("input", 3, pooled=False))
    x = np.zeros((1, 1, 3, 3))
    exact = METHODS["saliency"].run(FloatDevice(), graph, x, 0).real()
    device = FixedDevice(Formats(Numerics(), seen_ranges(kernels.gradient(graph, 0), {"input": x}).largest), 48)
    quantised = METHODS["saliency"].run(device, graph, x, 0).real()
    assert np.abs(quantised - exact).max() <= 2.0**-15 * np.abs(exact).max() * 2
