"""Are Guided IG and AGI what their definitions say, do their loops end, and is a profile the most they can take?"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import RandomNetwork, dry_program, networks

from xaisim.api import check_memory, experiment_of, explain, profile
from xaisim.attribution import METHODS
from xaisim.attribution.host import probabilities
from xaisim.attribution.kernels import backpropagated
from xaisim.attribution.stepwise import selected_at_once, selections
from xaisim.attribution.stepwise_kernels import adversarial, movement, point_gradient
from xaisim.config import UserError
from xaisim.experiment import prepare
from xaisim.ir.graph import Array, Graph, GraphBuilder, evaluate
from xaisim.ir.types import Rounding, TensorType
from xaisim.numerics.devices import FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges
from xaisim.numerics.mixed import MixedDevice
from xaisim.simulate.memory_check import RecordingDevice

Options = dict[str, Any]


def linear(weights: Any, shape: tuple[int, int, int]) -> Graph:
    b = GraphBuilder()
    b.input("input", TensorType(shape))
    b.add("flat", "reshape", "input", shape=(int(np.prod(shape)),))
    b.constant("w", np.asarray(weights, np.float64))
    b.add("logits", "linear", "flat", "w")
    return b.build("logits")


def small_network(seed: int) -> Graph:
    net = RandomNetwork(seed)
    x = net.input("input", TensorType((2, 6, 5)))
    x = net.add(net.name("relu"), "relu", net.window(x, 6, (3, 3), (1, 1), (1, 1, 1, 1), True))
    x = net.add(net.name("maxpool"), "maxpool", x, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    x = net.add(net.name("relu"), "relu", net.window(x, 5, (2, 2), (1, 1), (0, 0, 0, 0), True))
    return net.build(net.head(x, 4, False))


def run(device: FloatDevice, method: str, graph: Graph, x: Array, target: int, **options: Any) -> Array:
    return METHODS[method].run(device, graph, x, target, **options).real()


def fixed_device(method: str, graph: Graph, x: Array, numerics: Numerics, **options: Any) -> RecordingDevice:
    """A device with formats that hold what the method meets on this input."""
    ranges = Ranges()
    run(FloatDevice(observe=ranges.see), method, graph, x, 0, **options)
    return RecordingDevice(Formats(numerics, ranges.largest), 48)


def gradient(graph: Graph, target: int, score: str, x: Array) -> Array:
    inner = backpropagated(graph, target, "input", score=score)
    return evaluate(inner, {"input": x})[inner.outputs[-1]]


# Guided IG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("baseline", "expected"), [([-1, -3], [22, 8]), ([0, 0], [20, 5])])
@pytest.mark.parametrize("n_steps", [1, 7, 200])
def test_of_a_linear_function_it_is_exact(baseline: list[int], expected: list[int], n_steps: int) -> None:
    """f = 2·x1 + x2 at (10, 5), in float64 and in fixed point."""
    graph, x = linear([[2, 1], [0, 0]], (2, 1, 1)), np.array([10.0, 5.0]).reshape(1, 2, 1, 1)
    options: Options = {"baseline": np.reshape(baseline, (1, 2, 1, 1)), "n_steps": n_steps}
    assert run(FloatDevice(), "guided_ig", graph, x, 0, **options).ravel() == pytest.approx(expected, abs=1e-12)
    device = fixed_device("guided_ig", graph, x, Numerics(), **options)
    assert run(device, "guided_ig", graph, x, 0, **options).ravel().tolist() == expected


def guided_reference(graph: Graph, x: Array, start: Array, target: int, options: Options) -> Array:
    """Guided IG from its definition, features by their share α of the way, with its test for closeness and no bound."""
    n, fraction, dist = options["n_steps"], options["fraction"], options["max_dist"]
    way, place, attribution = x - start, np.zeros(x.shape), np.zeros(x.shape)
    for k in range(1, n + 1):
        g, before = gradient(graph, target, options.get("score", "logit"), start + place * way), place.copy()
        low, high, goal = max(k / n - dist, 0.0), min(k / n + dist, 1.0), np.abs(way).sum() * (1 - k / n)
        place = np.maximum(place, low)
        while not np.isclose(left := float((np.abs(way) * (1 - place)).sum()), goal, rtol=1e-9, atol=1e-9):
            keys = np.where((place < high) & (way != 0), np.abs(g), np.inf)
            chosen = (keys <= np.quantile(keys, fraction, method="lower")) & np.isfinite(keys)
            reach = float((np.abs(way) * (high - place) * chosen).sum())
            share = (left - goal) / reach
            place = np.where(chosen, high if share >= 1 else place + share * (high - place), place)
        attribution += way * (place - before) * g
    return attribution


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 40, "fraction": 0.25, "max_dist": 0.02},
        {"n_steps": 25, "fraction": 0.1, "max_dist": 0.3},
        {"n_steps": 10, "fraction": 1.0, "max_dist": 0.05, "score": "probability"},
        {"n_steps": 12, "fraction": 0.3, "max_dist": 0.0},
    ],
)
def test_it_is_the_published_algorithm(seed: int, options: Options) -> None:
    graph, generator = small_network(seed), np.random.default_rng(seed)
    x, start = generator.normal(size=(2, 1, 2, 6, 5))
    found = run(FloatDevice(), "guided_ig", graph, x, 1, baseline=start, **options)
    assert found == pytest.approx(guided_reference(graph, x, start, 1, options), abs=1e-6)
    assert np.abs(found).max() > 1e-3


def test_without_a_way_to_leave_the_straight_path_it_is_integrated_gradients() -> None:
    graph, x = small_network(3), np.random.default_rng(3).normal(size=(1, 2, 6, 5))
    straight = run(FloatDevice(), "integrated_gradients", graph, x, 2, n_steps=16, rule="riemann_left")
    guided = run(FloatDevice(), "guided_ig", graph, x, 2, n_steps=16, max_dist=0.0)
    assert guided == pytest.approx(straight, abs=1e-12)


def test_it_sums_to_the_change_of_the_score() -> None:
    graph, x = small_network(4), np.random.default_rng(4).normal(size=(1, 2, 6, 5))
    change = float(np.diff([evaluate(graph, {"input": end})["logits"][0, 0] for end in (0 * x, x)])[0])
    assert run(FloatDevice(), "guided_ig", graph, x, 0, n_steps=400).sum() == pytest.approx(change, rel=0.02)


@given(st.integers(1, 400), st.floats(0.01, 1))
def test_that_many_selections_take_every_feature(features: int, fraction: float) -> None:
    assert selections(fraction) * selected_at_once(features, fraction) >= features
    quantile = np.quantile(np.arange(features), fraction, method="lower")
    assert selected_at_once(features, fraction) == quantile + 1


@st.composite
def linear_with_ties(draw: Any) -> Graph:
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    weight = st.sampled_from([[0], [-1, 0, 1], [2, -2]])
    values = draw(weight)
    size = int(np.prod(shape))
    return linear([draw(st.lists(st.sampled_from(values), min_size=size, max_size=size)) for _ in range(2)], shape)


@given(
    graph=st.one_of(linear_with_ties(), networks(layers=3, side=6, channels=3)),
    n_steps=st.integers(1, 6),
    fraction=st.sampled_from([0.05, 0.25, 1 / 3, 0.5, 1.0]),
    max_dist=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    bits=st.sampled_from([4, 8, 16]),
    seed=st.integers(0, 99),
)
def test_its_loops_end_and_its_path_ends_at_the_input(
    graph: Graph, n_steps: int, fraction: float, max_dist: float, bits: int, seed: int
) -> None:
    """Whatever the gradients are, ties and zeros included, and where the ends of the path are partly equal."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(1, *graph.inputs["input"].shape)) * generator.integers(0, 2)
    start = np.where(generator.random(x.shape) < 0.3, x, generator.normal(size=x.shape))
    options: Options = {"n_steps": n_steps, "fraction": fraction, "max_dist": max_dist, "baseline": start}
    numerics = Numerics(weights=bits, activations=bits, gradients=bits, attributions=16, path=bits)
    device, real = fixed_device("guided_ig", graph, x, numerics, **options), FloatDevice()
    most = len(dry_program(graph, "guided_ig", numerics, **options))
    assert most == 3 + n_steps * (selections(fraction) + 2)
    for each in (device, real):
        assert np.isfinite(run(each, "guided_ig", graph, x, 0, **options)).all()
        assert len(each.program) <= most
    points = [r.outputs["input@next"].values for r in device.runs if r.kernel == "movement"]
    ends = next(r.feeds for r in device.runs if r.kernel == "selection")
    assert (points[-1] == ends["input@end"]).all()
    way = np.sign(ends["input@end"] - ends["input@start"])
    for before, after in itertools.pairwise([ends["input@start"], *points]):
        assert ((after - before) * way >= 0).all(), "no feature ever goes back"


def test_its_integers_do_not_depend_on_how_the_device_computes() -> None:
    graph, x = small_network(5), np.random.default_rng(5).normal(size=(1, 2, 6, 5))
    device = fixed_device("guided_ig", graph, x, Numerics(), n_steps=9)
    naive = FixedDevice(device.formats, 48, naive=True)
    values = [METHODS["guided_ig"].run(d, graph, x, 0, n_steps=9).values for d in (device, naive)]
    assert (values[0] == values[1]).all()


# AGI ------------------------------------------------------------------------------------------------------------------


def agi_reference(
    graph: Graph, x: Array, target: int, k: int, most: int, size: float, low: Array, high: Array, *, compat: bool
) -> tuple[Array, list[int]]:
    """AGI from its definition, and the steps towards every class."""
    logits = evaluate(graph, {"input": x})["logits"][0]
    others = sorted((t for t in range(len(logits)) if t != target), key=lambda t: -logits[t])
    total, taken = np.zeros(x.shape), []
    for t in others[:k]:
        point, steps = x, 0
        while steps < most and evaluate(graph, {"input": point})["logits"][0].argmax() != t:
            begin = x if compat else point
            wish = begin + size * (high - low) * np.sign(gradient(graph, t, "probability", point))
            after = np.clip(wish, low, high)
            total -= gradient(graph, target, "probability", point) * (after - begin)
            point, steps = after, steps + 1
        taken.append(steps)
    return total, taken


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_agi_is_its_definition(seed: int, compat: bool) -> None:
    graph, generator = small_network(seed), np.random.default_rng(seed)
    low, high = np.array([-1.0, -0.5]).reshape(1, 2, 1, 1), np.array([1.0, 2.0]).reshape(1, 2, 1, 1)
    x = np.clip(generator.normal(size=(1, 2, 6, 5)), low, high)
    target = int(evaluate(graph, {"input": x})["logits"][0].argmax())
    device = FloatDevice()
    found = run(device, "agi", graph, x, target, k_classes=2, max_iter=20, step_size=0.08, reference_compat=compat,
                pixel_range=(low, high))  # fmt: skip
    expected, taken = agi_reference(graph, x, target, 2, 20, 0.08, low, high, compat=compat)
    assert found == pytest.approx(expected, abs=1e-12)
    assert np.abs(found).max() > 1e-4
    assert len(device.program) == 2 + sum(min(20, steps + 1) for steps in taken)
    assert any(0 < steps < 20 for steps in taken) or compat, "some path arrives"


def test_agi_of_two_classes_by_hand() -> None:
    """p = σ(3·x1) for logits (3·x1, 0): every step subtracts 0.1 from x1 and counts σ'(3·x1)·3·0.1, until x1 < 0."""
    graph, x = linear([[3, 0], [0, 0]], (2, 1, 1)), np.array([0.25, 0.5]).reshape(1, 2, 1, 1)
    device = FloatDevice()
    found = run(device, "agi", graph, x, 0, k_classes=20, step_size=0.05, pixel_range=(-1.0, 1.0))
    p = 1 / (1 + np.exp(-3 * np.array([0.25, 0.15, 0.05])))
    assert found.ravel() == pytest.approx([(0.3 * p * (1 - p)).sum(), 0.0], abs=1e-12)
    assert len(device.program) == 1 + 4 + 1, "the fourth launch finds the class and its step is not made"


def test_steps_stay_within_the_range_of_pixels_in_fixed_point_too() -> None:
    graph, x = small_network(1), np.random.default_rng(1).uniform(0, 1, size=(1, 2, 6, 5))
    options: Options = {"k_classes": 3, "max_iter": 6, "step_size": 0.2}
    device = fixed_device("agi", graph, x, Numerics(), **options)
    found = run(device, "agi", graph, x, 0, **options)
    real = run(FloatDevice(), "agi", graph, x, 0, **options)
    assert np.corrcoef(found.ravel(), real.ravel())[0, 1] > 0.99
    steps = [r for r in device.runs if r.kernel.startswith("adversarial")]
    low, high = steps[0].feeds["input@low"], steps[0].feeds["input@high"]
    for each in steps:
        after = each.outputs["input@next"].values
        assert ((low <= after) & (after <= high)).all()
    assert any((r.outputs["input@next"].values == high).any() for r in steps)


def test_the_direction_does_not_vanish_with_the_probability() -> None:
    """Of logits 20 to 0 the other class has p = 2e-9, which 16 bits round to 0; its gradient's sign is there still."""
    graph, x = linear([[20, 1], [0, 1]], (2, 1, 1)), np.ones((1, 2, 1, 1))
    device = fixed_device("agi", graph, x, Numerics(), max_iter=2)
    run(device, "agi", graph, x, 0, max_iter=2)
    steps = [r for r in device.runs if r.kernel.startswith("adversarial")]
    moved = steps[0].outputs["input@next"].values - steps[0].feeds["input"]
    assert moved.ravel().tolist() == [-int(steps[0].feeds["input@size"].ravel()[0]), 0]


def test_two_gradients_of_a_forward_pass_share_its_masks() -> None:
    graph = small_network(0)
    kernel = adversarial(graph, 1, from_origin=False).graph
    stored = [n.op for n in kernel.nodes if n.op in ("positive", "pool_index")]
    alone = [n.op for n in point_gradient(graph, 1, "probability").graph.nodes if n.op in ("positive", "pool_index")]
    assert sorted(stored) == sorted(alone)
    assert kernel.macs(backward=False) == graph.macs()
    assert kernel.macs(backward=True) == 2 * point_gradient(graph, 1, "probability").graph.macs(backward=True)
    x, row = np.random.default_rng(0).normal(size=(1, 2, 6, 5)), np.eye(4)[2].reshape(1, 1, 1, 4)
    feeds = {"input": x, "step.class": row, "attribution.sum": 0 * x, "input@size": 0 * x + 0.1,
             "input@low": 0 * x - 9, "input@high": 0 * x + 9}  # fmt: skip
    found = evaluate(kernel, feeds)
    moved = 0.1 * np.sign(gradient(graph, 2, "probability", x))
    assert found["input@next"] == pytest.approx(x + moved, abs=1e-12)
    assert found["attribution.sum@next"] == pytest.approx(moved * gradient(graph, 1, "probability", x), abs=1e-12)
    assert probabilities(found["logits"]).shape == (1, 4)


# On a machine ---------------------------------------------------------------------------------------------------------

CNN: Options = {"model": "cifar_cnn", "target": 1}
SHORT: dict[str, Options] = {"guided_ig": {"n_steps": 2}, "agi": {"k_classes": 1, "max_iter": 2}}


@pytest.mark.parametrize("method", SHORT)
def test_every_number_comes_out_of_modelled_memories(method: str) -> None:
    settings = {**CNN, "method": method, **SHORT[method], "numerics": "q16.8"}
    checked = check_memory("scene:1", **settings)
    assert len(checked) >= 4
    assert all(each.equal for each in checked)


@pytest.mark.parametrize("method", SHORT)
def test_a_profile_times_the_most_that_there_can_be(method: str) -> None:
    settings = {**CNN, "method": method, **SHORT[method], "numerics": "q16.8"}
    seen, most = explain("scene:1", **settings), profile(**settings)
    launches = {"guided_ig": 3 + 2 * (4 + 2), "agi": 2 + 1 * 2}[method]
    assert len(dry_program(prepare(experiment_of(**settings)).model.graph, method, **SHORT[method])) == launches
    assert seen.cycles.inference == most.cycles.inference
    assert seen.cycles.total <= most.cycles.total
    assert METHODS[method].stops


def test_equal_launches_are_of_one_compiled_kernel() -> None:
    for method, options in (("guided_ig", {"n_steps": 5}), ("agi", {"k_classes": 3, "max_iter": 4})):
        graphs: dict[str, set[int]] = {}
        for launch in dry_program(small_network(0), method, **options):
            graphs.setdefault(launch.kernel, set()).add(id(launch.graph))
        assert len(graphs) == {"guided_ig": 5, "agi": 3}[method]
        assert all(len(ids) == 1 for ids in graphs.values()), graphs
    assert movement((1, 2, 3)) is movement((1, 2, 3))


def test_a_map_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"step\.selected does not fit: its smallest tile needs 301056 bytes of act"):
        profile(model="resnet18", method="guided_ig", n_steps=1, arch="pynq_z2")


def test_the_range_of_pixels_is_the_model_s() -> None:
    p = prepare(experiment_of(model="resnet18", method="agi"), values=False)
    low, high = p.options["pixel_range"]
    assert low[0, :, 0, 0] == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert (high - low)[0, :, 5, 5] == pytest.approx([1 / 0.229, 1 / 0.224, 1 / 0.225])
    assert "pixel_range" not in p.shown_options


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "guided_ig", "fraction": 0}, "fraction: must be greater than or equal to 0.01"),
        ({"method": "guided_ig", "max_dist": 2}, "max_dist: must be less than or equal to 1"),
        ({"method": "agi", "max_iter": 0}, "max_iter: must be greater than or equal to 1"),
        ({"method": "agi", "step_size": 0}, "step_size: must be greater than 0"),
        ({"method": "agi", "n_steps": 3}, "method agi takes no option 'n_steps'"),
    ],
)
def test_wrong_options_are_told(settings: Options, told: str) -> None:
    with pytest.raises(UserError, match=told):
        profile(model="cifar_cnn", **settings)


def test_tensors_of_a_kind_have_one_format() -> None:
    ranges = Ranges()
    ranges.see("input@start", np.array([-3.0]))
    ranges.see("input", np.array([1.0]))
    for numerics in (Numerics(), Numerics(calibration="min_error", rounding=Rounding.TRN)):
        seen = Ranges(histograms={}) if numerics.calibration == "min_error" else Ranges()
        for name, value in (("input@start", -3.0), ("input", 1.0)):
            seen.see(name, np.array([value]))
        formats = Formats(numerics, seen.largest, histograms=seen.histograms)
        whole = formats.of("input", host=True)
        assert formats.of("input@next", backward=True) == formats.of("input@start", host=True) == whole
        assert whole.high * whole.step >= 2.9
    assert ranges.largest == {"input": 3.0}


@pytest.mark.parametrize(("method", "options"), [("guided_ig", {"n_steps": 6}), ("agi", {"max_iter": 3})])
def test_halves_on_two_devices_read_each_other_s_points_as_numbers(method: str, options: Options) -> None:
    """A point that a launch in fixed point left is no integer to a forward pass in float64."""
    graph, x = small_network(2), np.random.default_rng(2).uniform(0, 1, size=(1, 2, 6, 5))
    device = FixedDevice(fixed_device(method, graph, x, Numerics(), **options).formats, 48)
    real = run(FloatDevice(), method, graph, x, 0, **options)
    for halves in ((FloatDevice(), device), (device, FloatDevice())):
        mixed = MixedDevice(*halves, graph)
        found = METHODS[method].run(mixed, graph, x, 0, **options).real()
        assert np.corrcoef(found.ravel(), real.ravel())[0, 1] > 0.99
