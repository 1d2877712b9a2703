"""Does NUIG put its points where F changes, and do the host's decisions cost what they should?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from xaisim.api import explain, profile
from xaisim.attribution import METHODS
from xaisim.attribution.paths import PATH_RULES, least_points, path
from xaisim.attribution.sampling import allocate, in_intervals
from xaisim.hardware.architecture import load_architecture
from xaisim.models.load import load_model
from xaisim.numerics.devices import FloatDevice


def test_a_jump_gets_most_points_and_every_interval_one() -> None:
    assert allocate(np.array([0.0, 0.0, 0.01, 0.99, 1.0]), 20, 0.5).tolist() == [1, 2, 14, 3]
    # 1 + 2.5 and 1 + 7.5: of equal remainders the first is rounded up.
    assert allocate(np.array([0.0, 0.25, 1.0]), 12, 1.0).tolist() == [4, 8]
    assert allocate(np.zeros(5), 10, 0.5).tolist() == [3, 3, 2, 2]


@pytest.mark.parametrize("rule", PATH_RULES)
def test_equal_counts_are_the_composite_rule(rule: str) -> None:
    count = max(3, least_points(rule))
    alphas, weights = in_intervals(np.full(4, count), rule)
    inner_alphas, inner_weights = path(rule, count)
    assert np.allclose(alphas.reshape(4, count), (np.arange(4)[:, None] + inner_alphas) / 4)
    assert np.allclose(weights.reshape(4, count), inner_weights / 4)
    if rule.startswith("riemann") and rule != "riemann_trapezoid":
        assert np.allclose(alphas, path(rule, 4 * count)[0])


def test_with_one_interval_it_is_integrated_gradients() -> None:
    graph, x = load_model("cifar_cnn").graph, np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    options: dict[str, Any] = {"n_steps": 5, "score": "probability"}
    uniform = METHODS["integrated_gradients"].run(FloatDevice(), graph, x, 1, **options).real()
    assert (METHODS["nuig"].run(FloatDevice(), graph, x, 1, n_intervals=1, **options).real() == uniform).all()


def test_its_decision_is_an_operation_per_clock_of_the_host() -> None:
    report = profile(model="cifar_cnn", method="nuig", n_steps=8, n_intervals=4, arch="pynq_z2")
    control, clock = load_architecture("pynq_z2").control, 100
    forward, probe, loop, finish = report.launches
    softmax = 5 * (10 * 24 + 1)
    allocation = 4 * 28 + 2 * 4 * 2 + 4 * 8
    assert probe.host_cycles == control.launch_cycles + control.sync_cycles + math.ceil(
        (softmax + allocation) * clock / 650
    )
    assert [forward.trips, probe.trips * probe.points_in_flight] == [1, 5]
    assert loop.trips * loop.points_in_flight == 8
    assert loop.host_cycles == finish.host_cycles == control.launch_cycles
    decided = [part.cycles for part in report.critical_path.spent if part.stage == "decide"]
    assert decided == [math.ceil((softmax + allocation) * clock / 650)]


def test_completeness_is_that_of_the_probability() -> None:
    report = explain("scene:1", model="cifar_cnn", method="nuig", n_steps=32)
    assert report.completeness is not None
    assert abs(report.completeness.score_difference) <= 1
    assert abs(report.completeness.delta_integration) < 0.01
