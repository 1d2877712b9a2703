"""Does the study of points and completeness count right, on paths whose answers are known?"""

from __future__ import annotations

import numpy as np
import pytest

from xaisim.attribution.host import probabilities
from xaisim.attribution.paths import path
from xaisim.studies.bench import mean_interval
from xaisim.studies.nuig import compared, cost
from xaisim.studies.profile import Profile, Rule, adaptive_deltas, deltas, fewest, lasting, rules

CELLS = 1024
ALPHAS = np.linspace(0, 1, CELLS + 1)
MIDDLE = Rule("uniform, middle", lambda _, n: path("riemann_middle", n), "integrated_gradients", {})
RIGHT = Rule("uniform, right", lambda _, n: path("riemann_right", n), "integrated_gradients", {})


def of(logit: np.ndarray, score: str = "logit") -> Profile:
    """Return a path of two classes whose first logit is given and whose second is 0."""
    return Profile(np.stack([logit, np.zeros_like(logit)], axis=1), 0, score)


def test_a_straight_line_needs_one_point() -> None:
    line = of(3 * ALPHAS)
    assert line.change() == pytest.approx(3)
    assert [pick(deltas(line, rule), 1e-9) for rule in (MIDDLE, RIGHT) for pick in (fewest, lasting)] == [1, 1, 1, 1]


def test_a_kink_at_a_half_needs_two_points_in_the_middle_of_halves() -> None:
    kinked = of(np.maximum(ALPHAS - 0.5, 0))
    assert kinked.delta(path("riemann_middle", 2)) == pytest.approx(0, abs=1e-12)
    assert kinked.delta(path("riemann_middle", 1)) == pytest.approx(1)
    found = deltas(kinked, MIDDLE)
    assert fewest(found, 1e-9) == 2
    assert lasting(found, 1e-9) is None, "odd numbers have a point at the kink"
    for threshold in (0.05, 0.01):
        n = lasting(found, threshold)
        assert n is not None
        assert (found[n - 1 : 2 * n] <= threshold).all()
        assert (found[n - 2 : 2 * n - 2] > threshold).any()


def test_a_jump_that_no_point_meets_is_told_as_none() -> None:
    step = of(np.where(ALPHAS > 0.5, 1.0, 0.0))
    nothing = deltas(step, Rule("one point", lambda _, _n: (np.zeros(1), np.ones(1)), "", {}))
    assert (fewest(nothing, 0.5), lasting(nothing, 0.5)) == (None, None)


def test_the_slope_of_a_probability_is_its_derivative() -> None:
    rng = np.random.default_rng(0)
    profile = Profile(np.cumsum(rng.normal(size=(CELLS + 1, 5)), axis=0) / 8, 2, "probability")
    at = rng.uniform(0.01, 0.99, 40)
    h = 1e-7
    numeric = (profile.values(at + h) - profile.values(at - h)) / (2 * h)
    inside = np.floor((at - h) * CELLS) == np.floor((at + h) * CELLS)
    assert profile.slopes(at)[inside] == pytest.approx(numeric[inside], rel=1e-4, abs=1e-5)
    assert profile.change() == pytest.approx(
        probabilities(profile.logits[[-1]])[0, 2] - probabilities(profile.logits[[0]])[0, 2]
    )


@pytest.mark.parametrize("threshold", [0.05, 0.01, 0.005])
def test_looking_for_the_jump_takes_fewer_points_than_equal_ones(threshold: float) -> None:
    steep = of(120 * (ALPHAS - 0.71), "probability")
    found, own = adaptive_deltas(steep)
    points, uniform = lasting(found, threshold), lasting(deltas(steep, MIDDLE), threshold)
    assert uniform is not None
    assert points is not None
    assert points < uniform
    assert np.isinf(found[:2]).all(), "both ends and the middle come at once"
    assert np.isfinite(own[2:]).all()


def test_rules_have_weights_that_sum_to_one_and_as_many_points_as_asked() -> None:
    profile = of(40 * (ALPHAS - 0.3), "probability")
    for rule in rules(np.ones(16), quick=False):
        alphas, weights = rule.table(profile, 24)
        assert len(alphas) == 24, rule.name
        if rule.name != "IDG's sampling":  # whose widths are those of the intervals that have samples
            assert weights.sum() == pytest.approx(1), rule.name


def test_speed_up_is_a_ratio_of_cycles_on_the_same_pictures() -> None:
    names = [rule.name for rule in rules(np.ones(1), quick=True)]
    rows = [
        {
            "model": "m",
            **{
                kind: {name: [8, 8, 8, None] for name in names} | {"adaptive": [4, 4, 4, 4]}
                for kind in ("fewest", "lasting")
            },
        }
        for _ in "ab"
    ]

    def cycles(_model: str, _arch: str, method: str, options: object) -> int:
        return 1000 * dict(options)["n_steps"] + (500 if method == "nuig" else 0)  # type: ignore[call-overload,no-any-return]

    found = {(r["rule"], r["threshold"]): r for r in compared(rows, cycles, ["a"], True)}
    assert found["uniform, middle", 0.05]["lasting speedup"] == 1
    assert found["NUIG 4, middle", 0.05]["lasting speedup"] == pytest.approx(8000 / 8500)
    assert found["adaptive", 0.05]["lasting speedup"] == 2
    assert (found["uniform, right", 0.005]["fewest failed"], found["uniform, right", 0.005]["fewest points"]) == (
        2,
        512,
    )
    assert cost(cycles, "m", "a", None, 4) == 4000


def test_the_interval_of_a_mean_holds_it_and_is_the_same_every_time() -> None:
    values = np.random.default_rng(3).normal(size=50)
    mean, low, high = mean_interval(values)
    assert low < mean < high
    assert mean_interval(values) == (mean, low, high)
