"""Do the host's rules put points where they should, by hand and by property, without a network?"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.attribution.paths import PATH_RULES, path
from xaisim.attribution.sampling import (
    Nodes,
    allocate,
    decision_counts,
    density_of,
    equidistributed,
    finer,
    forward_slopes,
    in_decisions,
    in_intervals,
    kept_before,
    merged,
    refine,
    refinements,
    steepest,
)


@given(st.integers(1, 12), st.integers(1, 6), st.sampled_from([0.25, -2.0, 0.0]))
def test_equal_slopes_make_every_rule_uniform(intervals: int, each: int, slope: float) -> None:
    values = slope * np.arange(intervals + 1)
    assert allocate(values, intervals * each, 0.5).tolist() == [each] * intervals
    assert decision_counts(values, intervals * each).tolist() == [each] * intervals
    alphas, widths = in_decisions(decision_counts(values, intervals * each))
    assert np.allclose(alphas, path("riemann_left", intervals * each)[0])
    assert np.allclose(widths, 1 / (intervals * each))
    alphas, weights = equidistributed(density_of(np.cumsum(np.full((2, intervals + 1), slope), axis=1)), each)
    assert np.allclose(alphas, path("riemann_middle", each)[0])
    assert np.allclose(weights, 1 / each)


def test_idg_scales_slopes_between_the_least_and_the_largest() -> None:
    # Slopes 0 (of the first pilot), 2, −2, 6, 2 → shares 1/2, 0, 1, 1/2 of 2, of 8 samples
    assert decision_counts(np.array([0.0, 0.5, 0.0, 1.5, 2.0]), 8).tolist() == [2, 0, 4, 2]


def test_idg_aligns_samples_in_their_own_interval_and_the_authors_code_does_not() -> None:
    alphas, widths = in_decisions(np.array([0, 2, 0, 1]))
    assert alphas.tolist() == [0.25, 0.375, 0.75]
    assert widths.tolist() == [0.125, 0.125, 0.25]
    slid, same = in_decisions(np.array([0, 2, 0, 1]), reference_compat=True)
    assert slid.tolist() == [0.0, 0.125, 0.25]
    assert same.tolist() == widths.tolist()


def test_a_finite_difference_ends_at_the_next_sample_or_at_the_pilot() -> None:
    samples = in_decisions(np.array([0, 2, 0, 1]))  # 0.25, 0.375 | 0.75
    slopes = forward_slopes(samples, np.array([1.0, 2.0, 5.0]), np.array([0.0, 1.0, 4.0, 5.0, 5.5]))
    assert slopes.tolist() == [8.0, 16.0, 2.0]


@pytest.mark.parametrize(
    ("values", "threshold", "kept"),
    [
        ([0.0, 1.0, 8.9, 9.1, 10.0], 0.9, 3),
        ([0.0, 1.0, 9.0, 9.1, 10.0], 0.9, 3),  # exactly nine tenths do not exceed them
        ([10.0, 1.0, 2.0], 0.9, 1),  # at once: the first point is kept all the same
        ([-3.0, -1.0, -2.0], 0.9, 3),  # nothing exceeds nine tenths of a negative maximum
        ([0.0, 6.0, 10.0], 0.5, 1),
    ],
)
def test_left_ig_keeps_what_comes_before_the_threshold(values: list[float], threshold: float, kept: int) -> None:
    assert kept_before(np.array(values), threshold) == kept


@pytest.mark.parametrize("rule", ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"])
@pytest.mark.parametrize("n_steps", [2, 5, 9, 31, 64, 100])
def test_refinements_keep_their_points_and_stay_below_the_most(rule: str, n_steps: int) -> None:
    counts = refinements(rule, n_steps)
    assert counts == sorted(set(counts))
    assert counts[-1] <= n_steps
    for coarse, fine in itertools.pairwise(counts):
        assert set(merged(path(rule, coarse))[0]) <= set(merged(path(rule, fine))[0])
    intervals = [merged(in_intervals(c, rule)) for c in finer(np.array([2, 4, 3]), rule, max(9, n_steps))]
    for before, after in itertools.pairwise(intervals):
        assert set(before[0]) <= set(after[0])
        assert after[1].sum() == pytest.approx(1)


def test_a_merged_table_has_each_place_once() -> None:
    alphas, weights = merged(in_intervals(np.array([2, 2]), "riemann_trapezoid"))
    assert alphas.tolist() == [0.0, 0.5, 1.0]
    assert weights.tolist() == [0.25, 0.5, 0.25]


@pytest.mark.parametrize("rule", PATH_RULES)
def test_merging_changes_no_sum(rule: str) -> None:
    table = in_intervals(np.array([3, 5, 2]), rule)
    alphas, weights = merged(table)
    assert weights @ np.cos(alphas) == pytest.approx(table[1] @ np.cos(table[0]))


@given(st.lists(st.integers(1, 63), min_size=0, max_size=6, unique=True), st.integers(1, 5), st.integers(-5, 5))
def test_tangents_find_a_kink_exactly(places: list[int], left: int, right: int) -> None:
    """F bends once, at 0.3: whatever the points, the sum of slopes by their weights is F(1) − F(0)."""
    kink = Fraction(3, 10)
    alphas = np.array(sorted({0, 64, *places})) / 64
    below = alphas < float(kink)
    slopes = np.where(below, left, right).astype(float)
    values = np.where(below, left * alphas, left * 0.3 + right * (alphas - 0.3))
    nodes = Nodes()
    nodes.add(alphas, values, slopes)
    weights = nodes.weights()
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert weights @ slopes == pytest.approx(left * 0.3 + right * 0.7)
    if left != right:
        assert weights[below].sum() == pytest.approx(0.3)


def test_between_tangents_that_do_not_meet_the_middle_is_the_border() -> None:
    nodes = Nodes()
    nodes.add(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 0.0]))  # a step between two flats
    assert nodes.weights().tolist() == [0.5, 0.5]
    assert nodes.error() == 1.0
    assert nodes.worst(1).tolist() == [0.5]


def test_refinement_goes_where_the_error_is_and_to_the_wider_of_equals() -> None:
    nodes = Nodes()
    nodes.add(np.array([1.0, 0.0, 0.25]), np.array([3.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0]))
    assert nodes.alphas.tolist() == [0.0, 0.25, 1.0]
    assert nodes.errors.tolist() == [0.0, 3.0]
    assert nodes.worst(1).tolist() == [0.625]
    flat = Nodes()
    flat.add(np.array([0.0, 0.25, 1.0]), np.zeros(3), np.zeros(3))
    assert flat.worst(1).tolist() == [0.625]
    assert flat.worst(2).tolist() == [0.125, 0.625]
    assert not flat.complete(None)
    assert flat.complete(0.01)


def test_with_a_density_intervals_are_halved_by_their_share_of_it() -> None:
    looked: list[list[float]] = []

    def look(alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        looked.append(alphas.tolist())
        return alphas**2, 2 * alphas

    # Of the density 1, 3 the left half has a quarter: a half of all lies up to 1/2 + 1/6, three quarters up to 5/6.
    refine(look, 4, enough=lambda nodes: nodes.complete(1e-9), density=np.array([1.0, 3.0]))
    assert looked == [[0.0, pytest.approx(2 / 3), 1.0]]  # a trapezoid is exact on a parabola
    looked.clear()
    nodes = refine(look, 4, enough=lambda _: False, density=np.array([1.0, 3.0]))
    assert looked[1] == [pytest.approx(0.5)]
    assert len(nodes.alphas) == 4


def test_equal_shares_of_the_root_minimise_the_bound() -> None:
    """½ Σ |g'| Δ²: no other division of the path into 3 cells is better than the closed form."""
    bends = np.array([1.0, 16.0, 4.0, 0.25])

    def bound(cuts: np.ndarray) -> float:
        edges = np.concatenate([[0.0], cuts, [1.0]])
        fine = (np.arange(4000) + 0.5) / 4000
        cell = np.searchsorted(edges, fine) - 1
        width = np.diff(edges)
        return float((bends[(fine * 4).astype(int)] * width[cell]).sum() / 4000)  # Σ over cells of ∫|g'|·Δ

    alphas, weights = equidistributed(np.sqrt(bends), 3)
    best = bound(np.cumsum(weights)[:-1])
    assert alphas.tolist() == sorted(alphas)
    others = [bound(np.sort(np.random.default_rng(n).uniform(size=2))) for n in range(300)]
    assert best <= min(others) * 1.05  # cells that straddle two densities are not exactly optimal


def test_a_path_without_bends_has_equal_points_and_dead_parts_keep_some() -> None:
    assert density_of(np.ones((3, 5))).tolist() == [1.0] * 4
    density = density_of(np.array([[0.0, 0.0, 0.0, 8.0]]))
    assert density.mean() == pytest.approx(1)
    assert density[0] == pytest.approx(density[2] / 300)


@given(st.floats(0.02, 0.98), st.floats(50, 400))
def test_the_peak_of_a_probability_is_found_however_narrow(place: float, slope: float) -> None:
    found = steepest(lambda a: 1 / (1 + np.exp(-np.clip(slope * (a - place), -500, 500))))
    assert np.abs(found - place).min() < 0.5 / slope
