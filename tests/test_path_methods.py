"""Are the methods along a path exact where they are known, on every device, and do they do what their host decides?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_gradient import X, basic2, one_conv

from xaisim.api import attribute, check_memory, experiment_of, explain, profile
from xaisim.attribution import METHODS
from xaisim.attribution.device import Launch
from xaisim.attribution.sampling import decision_counts
from xaisim.cli import main
from xaisim.config import UserError
from xaisim.experiment import baseline_array, prepare
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType
from xaisim.models.images import test_scene as shipped_scene
from xaisim.models.load import load_model
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges

NEW: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"stop_at_delta": 0.05, "n_steps": 12},
    "nuig": {"stop_at_delta": 0.05, "n_steps": 24, "n_intervals": 2},
    "riemann_opt": {"n_steps": 5},
    "adaptive_ig": {"n_steps": 6, "stop_at_delta": 1e-6, "at_once": 2},
    "left_ig": {"n_steps": 5},
    "idg": {"n_steps": 5, "n_pilots": 4},
    "idgi": {"n_steps": 4},
}


def ramp() -> Graph:
    """F rises from 0 at 0.6 to 1 at 0.7 and is flat elsewhere: ReLU(10x − 6) − ReLU(10x − 7)."""
    b = GraphBuilder()
    b.input("input", TensorType((1, 1, 1)))
    b.constant("w1", np.full((2, 1, 1, 1), 10.0))
    b.constant("b1", np.array([-6.0, -7.0]))
    b.add("conv", "conv", "input", "w1", "b1", stride=(1, 1), padding=(0, 0, 0, 0))
    b.add("relu", "relu", "conv")
    b.add("flat", "reshape", "relu", shape=(2,))
    b.constant("w2", np.array([[1.0, -1.0], [0.0, 0.0]]))
    return b.build(b.add("logits", "linear", "flat", "w2"))


def run(graph: Graph, x: np.ndarray, method: str, **options: Any) -> tuple[np.ndarray, list[Launch]]:
    device = FloatDevice()
    if method == "riemann_opt":
        options.setdefault("table", np.ones(4))
    return METHODS[method].run(device, graph, x, 0, **options).real()[0], device.program


# --- exact cases ------------------------------------------------------------------------------------------------------


def test_idg_finds_a_decision_at_0_6_and_the_authors_code_misses_it() -> None:
    x = np.ones((1, 1, 1, 1))
    options = {"n_pilots": 11, "n_steps": 8}
    for slope in ("dot", "difference"):
        found, _ = run(ramp(), x, "idg", slope=slope, **options)
        assert found.item() == pytest.approx(10.0)  # ∫ 10 · 10 over a tenth
        missed, _ = run(ramp(), x, "idg", slope=slope, reference_compat=True, **options)
        assert missed.item() == 0.0
    assert decision_counts(np.clip(10 * np.linspace(0, 1, 11) - 6, 0, 1), 8).tolist() == [0] * 6 + [8, 0, 0, 0]


def test_left_ig_of_basic2_by_hand() -> None:
    """At α = k/10 F is 0 up to 0.5, then 2α − 1: 0.8 exceeds nine tenths of 0.8 at 0.9, so 0.0 … 0.8 are kept."""
    found, _ = run(basic2(), np.array([[3.0, 1.0]]), "left_ig", n_steps=10)
    # Gradients: 0 at 0 … 0.5 (F = 0), (1, −1) at 0.6, 0.7, 0.8: three of nine
    assert found == pytest.approx([3 * 3 / 9, -1 * 3 / 9])


@pytest.mark.parametrize("n_steps", [3, 4, 5, 9])
def test_adaptive_ig_of_basic2_is_exact_with_three_points(n_steps: int) -> None:
    """F has one kink, at 1/2: tangents meet there, wherever the points are."""
    found, _ = run(basic2(), np.array([[3.0, 1.0]]), "adaptive_ig", score="logit", n_steps=n_steps, stop_at_delta=1e-9)
    assert found == pytest.approx([1.5, -0.5])


def test_adaptive_ig_of_one_conv_is_nearer_than_the_trapezoid_with_the_same_points() -> None:
    exact = [0, 2 / 27, 4 / 27, 2 / 9, 100 / 81, 535 / 162, 107 / 27, 133 / 54]
    exact += [200 / 81, 107 / 18, 535 / 81, 209 / 54, 100 / 27, 1235 / 162, 665 / 81, 25 / 6]
    found, program = run(one_conv(), X, "adaptive_ig", score="logit", n_steps=12, stop_at_delta=1e-9)
    uniform, _ = run(one_conv(), X, "integrated_gradients", n_steps=12, rule="riemann_trapezoid")
    assert sum(launch.trips for launch in program if "gradients" in launch.kernel) == 12
    assert np.abs(found.reshape(-1) - exact).max() < np.abs(uniform.reshape(-1) - exact).max() / 3


def test_idgi_of_one_conv_shares_every_change_by_squares() -> None:
    found, _ = run(one_conv(), X, "idgi", n_steps=2, score="logit")
    middle, _ = run(one_conv(), X / 2, "saliency")
    low = METHODS["forward"].run(FloatDevice(), one_conv(), X / 2, 0).real()[0, 0]
    assert low == 0  # at half the picture all is dark, and so is the gradient
    assert not middle.any()
    assert not found.any()
    found, _ = run(one_conv(), X, "idgi", n_steps=8, score="logit")
    values = [METHODS["forward"].run(FloatDevice(), one_conv(), X * k / 8, 0).real()[0, 0] for k in range(9)]
    gradients = [run(one_conv(), X * k / 8, "saliency")[0] for k in range(8)]
    shares = [(b - a) * g**2 / (g**2).sum() for a, b, g in zip(values, values[1:], gradients, strict=False) if g.any()]
    assert found == pytest.approx(np.sum(shares, axis=0))


def test_riemann_opt_with_an_even_table_is_the_middle_rule() -> None:
    found, _ = run(one_conv(), X, "riemann_opt", n_steps=50, score="logit")
    assert found.sum() == pytest.approx(53.82)


@pytest.mark.parametrize("rule", ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"])
def test_stopping_at_delta_equals_the_rule_it_stopped_at(rule: str) -> None:
    for threshold in (0.2, 0.02, 1e-9):
        found, program = run(one_conv(), X, "integrated_gradients", rule=rule, n_steps=36, stop_at_delta=threshold)
        launched = [launch.trips for launch in program if "gradients" in launch.kernel]
        plain, _ = run(one_conv(), X, "integrated_gradients", rule=rule, n_steps=sum(launched))
        assert found == pytest.approx(plain)
        within = abs(plain.sum() - 54) <= threshold * 54
        assert within or sum(launched) > 36 / 3  # or no finer path is allowed


def test_idgi_is_complete_to_the_last_digit() -> None:
    model = load_model("cifar_cnn")
    scene, start = shipped_scene(model, 2), baseline_array(model, "black")
    label = scene.label or 0
    found = METHODS["idgi"].run(FloatDevice(), model.graph, scene.x, label, baseline=start, n_steps=6).real()
    ends = [METHODS["forward"].run(FloatDevice(), model.graph, end, 0).real()[0] for end in (scene.x, start)]
    high, low = (float(np.exp(row[label] - np.logaddexp.reduce(row))) for row in ends)
    assert found.sum() == pytest.approx(high - low, abs=1e-12)


# --- devices ----------------------------------------------------------------------------------------------------------


def ranges_of(method: str, graph: Graph, x: np.ndarray, options: dict[str, Any]) -> Ranges:
    ranges = Ranges()
    METHODS[method].run(FloatDevice(observe=ranges.see), graph, x, 0, **options)
    return ranges


@pytest.mark.parametrize("method", NEW)
def test_in_flight_or_one_by_one_the_bits_are_the_same(method: str) -> None:
    model = load_model("cifar_cnn")
    x = shipped_scene(model, 1).x
    options = {"baseline": baseline_array(model, "black"), **NEW[method]}
    if method == "riemann_opt":
        options["table"] = np.array([1.0, 3.0, 1.0, 2.0])
    formats = Formats(Numerics(), ranges_of(method, model.graph, x, options).largest)
    maps = []
    for size, naive in ((1, False), (3, False), (None, False), (2, True)):
        device = FixedDevice(formats, 48, batch_size=size, naive=naive)
        maps.append(METHODS[method].run(device, model.graph, x, 0, **options).values)
    assert all((each == maps[0]).all() for each in maps)
    assert maps[0].any()


@pytest.mark.parametrize("method", NEW)
def test_a_dry_run_answers_zeros_and_does_the_most(method: str) -> None:
    model = load_model("cifar_cnn", values=False)
    options: dict[str, Any] = {"table": np.ones(4)} if method == "riemann_opt" else {}
    device = DryDevice(Formats(Numerics()), 48)
    options |= NEW[method]
    made = METHODS[method].run(device, model.graph, np.zeros((1, 3, 32, 32)), 0, **options)
    assert not made.values.any()
    points = [launch.trips for launch in device.program if "gradient" in launch.kernel]
    most = {"integrated_gradients": 12, "nuig": 24}.get(method, NEW[method]["n_steps"])
    assert sum(points) == most


@pytest.mark.parametrize("method", ["riemann_opt", "left_ig", "idg", "idgi"])
def test_a_profile_costs_what_an_explanation_does(method: str) -> None:
    settings = {"model": "cifar_cnn", "method": method, **NEW[method]}
    assert explain("scene:1", **settings).cycles.total == profile(**settings).cycles.total


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cifar_cnn", "resnet18_tiny"])
@pytest.mark.parametrize("method", NEW)
def test_schedules_compute_every_bit_on_modelled_memories(method: str, model: str) -> None:
    checked = check_memory("scene:1", model=model, method=method, **NEW[method])
    assert [each.differing for each in checked if not each.equal] == []


def test_slopes_of_every_channel_are_computed_on_modelled_memories() -> None:
    """Weights that are slices of a tensor of the kernel lie where the slice begins."""
    checked = check_memory("scene:1", model="cifar_cnn", method="left_ig", n_steps=2)
    names = {name for each in checked for name in each.differing}
    assert {"path.slope.0", "path.slope.1", "path.slope.2"} <= names
    assert all(each.equal for each in checked)


# --- what the host decides --------------------------------------------------------------------------------------------


def test_the_host_is_charged_for_what_it_reads_and_decides() -> None:
    _, program = run(one_conv(), X, "left_ig", n_steps=4)
    forward, points, weighted, finish = program
    assert [launch.sync for launch in program] == [True, True, False, False]
    assert (forward.host_operations, weighted.host_operations, finish.host_operations) == (0, 0, 0)
    assert points.host_operations == 4 * 1 + 4 * 1 + 3 * 4  # a logit and one channel's slope each, then 3 per point
    _, program = run(one_conv(), X, "idgi", n_steps=4, score="logit")
    assert program[1].host_operations == 4 + 4 + 4 * (3 * 16 + 20 + 3)


def test_adaptive_ig_stops_when_it_is_complete_enough_and_halves_several_at_once() -> None:
    model = load_model("cifar_cnn")
    scene, start = shipped_scene(model, 3), baseline_array(model, "black")

    def points(**options: Any) -> list[int]:
        device = FloatDevice()
        METHODS["adaptive_ig"].run(device, model.graph, scene.x, scene.label or 0, baseline=start, **options)
        return [launch.trips for launch in device.program if "gradients" in launch.kernel]

    few, many = points(stop_at_delta=0.2, at_once=1), points(stop_at_delta=0.02, n_steps=20, at_once=1)
    assert few[0] == many[0] == 3
    assert set(few[1:]) == set(many[1:]) == {1}
    assert len(few) < len(many)
    assert many[: len(few)] == few
    assert points(stop_at_delta=1e-9, at_once=4, n_steps=11) == [3, 2, 4, 2]


def test_a_shipped_table_is_for_its_baseline_and_adaptive_ig_does_without() -> None:
    def table_of(**settings: Any) -> Any:
        return prepare(experiment_of(model="cifar_cnn", **settings)).shown_options["table"]

    assert table_of(method="riemann_opt") == table_of(method="adaptive_ig") == "shipped"
    assert table_of(method="adaptive_ig", baseline="white") == "none"
    with pytest.raises(UserError, match="was learnt for cifar_cnn from baseline black, not for cifar_cnn from white"):
        table_of(method="riemann_opt", baseline="white")
    with pytest.raises(UserError, match="no table of points ships for resnet18; learn one with 'xaisim fit-path"):
        prepare(experiment_of(model="resnet18", method="riemann_opt"), values=False)


def test_an_array_of_baselines_takes_no_shipped_table() -> None:
    model = load_model("cifar_cnn")
    x = np.concatenate([shipped_scene(model, n).x for n in (1, 2)])
    settings: dict[str, Any] = {"model": "cifar_cnn", "device": "float", "n_steps": 5, "return_convergence_delta": True}
    with pytest.raises(UserError, match="method riemann_opt: the table that ships is for baselines='black'"):
        attribute(x, explainer="riemann_opt", **settings)
    maps, delta = attribute(x, explainer="riemann_opt", baselines="black", **settings)
    assert maps.shape == x.shape
    start = baseline_array(model, "black")
    assert np.abs(attribute(x, explainer="adaptive_ig", baselines=start, **settings)[0] - maps).max() > 0
    assert np.isfinite(delta).all()


def test_a_table_is_learnt_written_and_used(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    made = CliRunner().invoke(main, ["fit-path", "cifar_cnn", "--scenes", "2", "--parts", "4", "-o", str(file)])
    assert made.exit_code == 0, made.output
    p = prepare(experiment_of(model="cifar_cnn", method="riemann_opt", table=str(file), score="logit"))
    assert p.options["table"].shape == (4,)
    assert p.options["table"].mean() == pytest.approx(1, abs=1e-3)
    assert p.options["table"][2:].sum() > p.options["table"][:2].sum(), "the jump lies in the second half"
    wrong = CliRunner().invoke(main, ["fit-path", "cifar_cnn", "--scenes", "99"])
    assert (wrong.exit_code, wrong.output.strip()) == (2, "error: scenes must be 1 to 32, got 99")
    again = CliRunner().invoke(main, ["fit-path", "cifar_cnn", "-o", str(file)])
    assert again.exit_code == 2
    assert "exists already" in again.output


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("integrated_gradients", {"stop_at_delta": 0.1, "rule": "gausslegendre"}, "a rule whose points stay"),
        ("nuig", {"stop_at_delta": 0.1, "rule": "endpoint_mean"}, "riemann_trapezoid; got endpoint_mean"),
        ("adaptive_ig", {"n_steps": 2}, "n_steps must be at least 3, both ends and the middle, got 2"),
        ("idg", {"n_pilots": 1}, "n_pilots must be at least 2, got 1"),
    ],
)
def test_options_that_cannot_work_are_refused(method: str, options: dict[str, Any], message: str) -> None:
    chosen = METHODS[method]
    assert chosen.check is not None
    with pytest.raises(ValueError, match=message):
        chosen.check(**{**chosen.options, **options})
