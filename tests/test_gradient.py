"""Is the gradient right? Exact small cases, central differences, and torch's autograd on every built-in network."""

from __future__ import annotations

import itertools
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import RandomNetwork, networks, written

from xaisim.attribution import METHODS, kernels
from xaisim.attribution.gradient import DECONVNET, GUIDED, RULES, Rule, differentiate
from xaisim.attribution.paths import PATH_RULES, path
from xaisim.ir.graph import Graph, GraphBuilder, evaluate, verify
from xaisim.ir.types import TensorType
from xaisim.models import NETWORKS
from xaisim.models.networks import inception_v3, resnet18
from xaisim.numerics.devices import FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics

RELU_RULES: dict[str, dict[str, Rule]] = {"plain": RULES, "deconvnet": DECONVNET, "guided": GUIDED}


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    """Torch's autograd over our graphs."""
    return pytest.importorskip("torch_oracle", exc_type=ImportError)


def one_conv() -> Graph:
    """Conv 1→2 of ones with biases −50 and −75, ReLU, linear 8→4 of ±1, ReLU: every value is a small integer."""
    b = GraphBuilder()
    b.input("input", TensorType((1, 4, 4)))
    b.constant("w1", np.ones((2, 1, 3, 3)))
    b.constant("b1", np.array([-50.0, -75.0]))
    b.add("conv", "conv", "input", "w1", "b1", stride=(1, 1), padding=(0, 0, 0, 0))
    b.add("relu", "relu", "conv")
    b.add("flat", "reshape", "relu", shape=(8,))
    b.constant("w2", np.tile([1.0, 1, 1, 1, 1, -1, -1, -1], (4, 1)))
    b.add("fc", "linear", "flat", "w2")
    return b.build(b.add("logits", "relu", "fc"))


def basic2() -> Graph:
    """ReLU(ReLU(x₁) − 1 − ReLU(x₂))."""
    b = GraphBuilder()
    b.input("input", TensorType((2,)))
    b.add("rectified", "relu", "input")
    b.constant("w", np.array([[1.0, -1.0]]))
    b.constant("b", np.array([-1.0]))
    b.add("gap", "linear", "rectified", "w", "b")
    return b.build(b.add("logits", "relu", "gap"))


X = np.arange(16.0).reshape(1, 1, 4, 4)
EXACT = {
    "saliency": [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]],
    "guided_backprop": [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]],
    "deconvnet": [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]],
    "input_x_gradient": [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]],
}


def fixed(numerics: Numerics | None = None) -> FixedDevice:
    return FixedDevice(Formats(numerics or Numerics(uniform="q16.0")), accumulator_bits=48)


def run_method(device: FloatDevice, method: str, graph: Graph, x: np.ndarray, **options: Any) -> np.ndarray:
    return METHODS[method].run(device, graph, x, 0, **options).real()


# Exact small cases ----------------------------------------------------------------------------------------------------


def test_one_conv_has_the_known_activations() -> None:
    values = evaluate(one_conv(), {"input": X}, keep=["conv"])
    assert values["conv"][0].tolist() == [[[-5, 4], [31, 40]], [[-30, -21], [6, 15]]]
    assert values["logits"].tolist() == [[54] * 4]


@pytest.mark.parametrize("method", EXACT)
def test_one_conv_maps_are_exact_on_the_float_and_on_the_fixed_device(method: str) -> None:
    for device in (FloatDevice(), fixed()):
        assert run_method(device, method, one_conv(), X)[0, 0].tolist() == EXACT[method]


@pytest.mark.parametrize("size", [(2, 2), (4, 4)])
def test_gradcam_of_one_conv_at_its_relu_is_exact_on_both_devices(size: tuple[int, int]) -> None:
    kernel = kernels.gradcam(one_conv(), 0, "relu", size)
    for device in (FloatDevice(), fixed(Numerics(uniform="q16.5"))):
        result = device.launch(kernel, {"input": X})["attribution"].real()[0, 0]
        if size == (2, 2):
            assert result.tolist() == [[0, 4], [28, 32.5]]
        else:  # half-pixel bilinear: quarters of the neighbours
            assert result[0].tolist() == [0, 1, 3, 4]
            assert result[:, 0].tolist() == [0, 7, 21, 28]
            assert result[1, 1] == (9 * 0 + 3 * 4 + 3 * 28 + 32.5) / 16


LISTED_IG = """0 2/27 4/27 2/9 100/81 535/162 107/27 133/54
               200/81 107/18 535/81 209/54 100/27 1235/162 665/81 25/6"""


def path_segments(x: np.ndarray) -> list[tuple[Fraction, Fraction]]:
    """Return the intervals of α between the places where a ReLU of ONE_CONV opens or closes, exactly."""
    slopes = [int(x[0, 0, p : p + 3, q : q + 3].sum()) for p in range(2) for q in range(2)]
    opened = {Fraction(-bias, slope) for bias in (-50, -75) for slope in slopes}

    def output(alpha: Fraction) -> Fraction:
        z = [max(Fraction(0), alpha * slope + bias) for bias in (-50, -75) for slope in slopes]
        return sum(z[:5], Fraction(0)) - sum(z[5:], Fraction(0))

    cuts = sorted({Fraction(0), Fraction(1), *(a for a in opened if 0 < a < 1)})
    # The last ReLU opens where the output leaves zero, which is where the first of the others opens.
    assert all(output(a) > 0 for a in cuts if a > min(opened))
    return list(itertools.pairwise(cuts))


def test_integrated_gradients_of_one_conv_is_exact_in_rationals() -> None:
    total = [Fraction(0)] * 16
    kernel = kernels.gradient(one_conv(), 0)
    for start, stop in path_segments(X):
        middle = float((start + stop) / 2)
        gradient = fixed_free_gradient(kernel.graph, middle * X)
        total = [t + (stop - start) * int(g) for t, g in zip(total, gradient, strict=True)]
    attribution = [Fraction(int(x)) * t for x, t in zip(X.reshape(-1), total, strict=True)]
    assert attribution == [Fraction(text) for text in LISTED_IG.split()]
    assert sum(attribution) == 54


def fixed_free_gradient(graph: Graph, x: np.ndarray) -> list[float]:
    """Return the gradient of a compiled kernel as plain numbers."""
    return FloatDevice().launch(kernels.Kernel("gradient", graph), {"input": x})[graph.outputs[-1]].values.reshape(-1)


@pytest.mark.parametrize(
    ("rule", "total"),
    [
        ("riemann_left", 54.36),
        ("riemann_right", 55.44),
        ("riemann_middle", 53.82),
        ("captum_trapezoid", 51.48),
        ("gausslegendre", 53.33),
    ],
)
def test_integrated_gradients_of_one_conv_at_50_steps_has_the_known_sums(rule: str, total: float) -> None:
    result = run_method(FloatDevice(), "integrated_gradients", one_conv(), X, n_steps=50, rule=rule)
    assert result.sum() == pytest.approx(total, abs=5e-3 if rule == "gausslegendre" else 1e-9)


@pytest.mark.parametrize("rule", ["riemann_left", "riemann_right", "riemann_middle"])
@pytest.mark.parametrize("n_steps", [1, 4, 16])
def test_integrated_gradients_in_fixed_point_is_exact_where_the_path_is(rule: str, n_steps: int) -> None:
    """Positions k/16 and everything after them are exact in q20.8, so fixed point must equal the float reference."""
    numerics = Numerics(uniform="q20.8")
    exact = run_method(FloatDevice(), "integrated_gradients", one_conv(), X, n_steps=n_steps, rule=rule)
    device = FixedDevice(Formats(numerics), accumulator_bits=48)
    assert (run_method(device, "integrated_gradients", one_conv(), X, n_steps=n_steps, rule=rule) == exact).all()


def test_basic2_with_ten_left_steps_misses_a_tenth() -> None:
    options = {"n_steps": 10, "rule": "riemann_left"}
    result = run_method(FloatDevice(), "integrated_gradients", basic2(), np.array([[3.0, 1.0]]), **options)
    np.testing.assert_allclose(result[0], (1.2, -0.4), rtol=1e-12)


@pytest.mark.parametrize("rule", ["riemann_middle", "gausslegendre"])
def test_basic2_is_exact_for_rules_that_are_symmetric_about_its_kink(rule: str) -> None:
    """The gradient is a step at α = 1/2; the attribution (1.5, −0.5) is complete: f(3, 1) = 1."""
    x = np.array([[3.0, 1.0]])
    result = run_method(FloatDevice(), "integrated_gradients", basic2(), x, n_steps=10, rule=rule)
    np.testing.assert_allclose(result[0], (1.5, -0.5), rtol=1e-12)


def test_a_relu_at_zero_passes_no_gradient_under_any_rule_that_looks_at_it() -> None:
    for method in ("saliency", "guided_backprop"):
        assert run_method(FloatDevice(), method, basic2(), np.zeros((1, 2))).tolist() == [[0, 0]]


@pytest.mark.parametrize("rule", PATH_RULES)
def test_path_tables_lie_on_the_path_and_weigh_what_they_should(rule: str) -> None:
    alphas, weights = path(rule, 7)
    assert len(alphas) == len(weights) == 7
    assert ((alphas >= 0) & (alphas <= 1)).all()
    assert (np.diff(alphas) > 0).all()
    assert weights.sum() == pytest.approx(6 / 7 if rule == "captum_trapezoid" else 1, abs=1e-12)
    exact_degree = {"gausslegendre": 13, "riemann_middle": 1, "riemann_trapezoid": 1}.get(rule, 0)
    if rule not in ("captum_trapezoid", "endpoint_mean"):
        for degree in range(exact_degree + 1):
            assert (weights * alphas**degree).sum() == pytest.approx(1 / (degree + 1), abs=1e-12)


@pytest.mark.parametrize(("rule", "least"), [("riemann_trapezoid", 2), ("riemann_left", 1)])
def test_too_few_steps_are_refused(rule: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"n_steps must be at least {least} for {rule}, got {least - 1}"):
        path(rule, least - 1)


# Finite differences on random graphs ----------------------------------------------------------------------------------


def vector_jacobian(graph: Graph, x: np.ndarray, target: int, rules: dict[str, Rule] = RULES) -> np.ndarray:
    backward = differentiate(graph, "logits", "input", rules=rules)
    verify(backward)
    seed = np.zeros((1, *graph.types()["logits"].shape))
    seed[0, target] = 1
    result = evaluate(backward, {"input": x, "seed": seed})[backward.outputs[-1]]
    return np.broadcast_to(result, x.shape)  # the gradient of a linear network is the same for all samples


@given(graph=networks(layers=4, side=6), seed=st.integers(0, 999), target=st.integers(0, 2))
def test_gradient_equals_central_differences_on_random_graphs(graph: Graph, seed: int, target: int) -> None:
    x = np.random.default_rng(seed).normal(size=(1, *graph.inputs["input"].shape))
    exact = vector_jacobian(graph, x, target)[0]
    step = 1e-6
    shifts = step * np.eye(x.size).reshape(-1, *x.shape[1:])
    above, below = (evaluate(graph, {"input": x + sign * shifts})["logits"][:, target] for sign in (1, -1))
    np.testing.assert_allclose((above - below) / (2 * step), exact.reshape(-1), rtol=1e-6, atol=1e-7)


@given(graph=networks(), seed=st.integers(0, 999), relu=st.sampled_from(list(RELU_RULES)))
def test_gradient_equals_autograd_on_random_graphs_for_every_relu_rule(
    oracle: ModuleType, graph: Graph, seed: int, relu: str
) -> None:
    x = np.random.default_rng(seed).normal(size=(2, *graph.inputs["input"].shape))
    ours = vector_jacobian(graph, x, 1, RELU_RULES[relu])
    np.testing.assert_allclose(ours, oracle.gradient(graph, x, 1, relu), rtol=1e-9, atol=1e-12)


def test_a_tensor_read_twice_by_one_node_collects_both_gradients(oracle: ModuleType) -> None:
    net = RandomNetwork(0)
    net.input("input", TensorType((2, 3, 3)))
    net.add("twice", "add", "input", "input")
    net.add("pair", "concat", "twice", "twice")
    graph = net.build(net.head("pair", 3, pooled=False))
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3))
    np.testing.assert_allclose(vector_jacobian(graph, x, 0), oracle.gradient(graph, x, 0), rtol=1e-12)


def test_gradient_of_a_vector_with_two_users_is_summed() -> None:
    b = GraphBuilder()
    b.input("input", TensorType((2,)))
    b.add("a", "relu", "input")
    b.constant("w", np.array([[1.0, 2.0], [3.0, 4.0]]))
    b.add("l", "linear", "a", "w")
    graph = b.build(b.add("logits", "add", "l", "a"))
    assert vector_jacobian(graph, np.array([[1.0, 5.0]]), 0).tolist() == [[2, 2]]


def test_an_operator_without_a_rule_and_an_unconnected_output_are_refused() -> None:
    b = GraphBuilder()
    b.input("input", TensorType((2,)))
    b.input("other", TensorType((2,)))
    b.add("product", "mul", "input", "input")
    graph = b.build(b.add("logits", "relu", "product"))
    with pytest.raises(ValueError, match="product: no gradient rule for mul; there are rules for conv, linear"):
        differentiate(graph, "logits", "input")
    with pytest.raises(ValueError, match="logits does not depend on other"):
        differentiate(graph, "logits", "other")


# Every built-in network against torch ---------------------------------------------------------------------------------

REDUCED = {
    "resnet18": (resnet18(), (3, 64, 64)),
    "inception_v3": (inception_v3(), (3, 75, 75)),
    "resnet18_cifar": (resnet18(64, 10, (3, 1), pool=False), (3, 8, 8)),
    "cifar_cnn": (NETWORKS["cifar_cnn"].write, (3, 32, 32)),
    "resnet18_tiny": (NETWORKS["resnet18_tiny"].write, (3, 32, 32)),
    "inception_v3_tiny": (NETWORKS["inception_v3_tiny"].write, (3, 48, 48)),
}


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", REDUCED)
def test_logits_and_gradients_of_a_built_in_network_equal_autograd(name: str, oracle: ModuleType) -> None:
    write, shape = REDUCED[name]
    graph, features, _ = written(write, shape)
    x = np.random.default_rng(3).normal(size=(1, *shape))
    logits = oracle.run(graph, oracle.torch.tensor(x))["logits"].numpy()
    assert relative_error(evaluate(graph, {"input": x})["logits"], logits) < 1e-9
    for relu, rules in RELU_RULES.items():
        expected = oracle.gradient(graph, x, 5, relu)
        assert np.abs(expected).max() > 0
        assert relative_error(vector_jacobian(graph, x, 5, rules), expected) < 1e-9
    backward = kernels.backpropagated(graph, 5, features)
    at_features = evaluate(backward, {"input": x})[backward.outputs[-1]]
    assert relative_error(at_features, oracle.gradient(graph, x, 5, wrt=features)) < 1e-9
