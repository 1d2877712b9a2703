"""Are curves of perturbed pictures those that a linear model has by arithmetic, and those of a slow loop?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import oracle

from xaisim.attribution.methods import METHODS
from xaisim.ir.graph import evaluate
from xaisim.metrics import aupc, deletion, insertion
from xaisim.metrics.faithfulness import default_window, top_windows
from xaisim.metrics.image import blur
from xaisim.models.images import test_scene as scene
from xaisim.models.load import load_model
from xaisim.numerics.devices import FloatDevice

ONES = np.ones((1, 2, 2))
ODDS = np.log(np.array([[[2.0, 3.0], [4.0, 5.0]]]))


def linear(weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A model of two classes: a weighted sum, and nothing; its softmax is the sigmoid of the sum."""
    return lambda batch: np.stack([(batch * weights).sum(axis=(1, 2, 3)), np.zeros(len(batch))], axis=1)


def noisy(seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """A random network with a hidden layer: scores (N, 3) of pictures of any size."""

    def scores(batch: np.ndarray) -> np.ndarray:
        flat = batch.reshape(len(batch), -1)
        generator = np.random.default_rng(seed)
        hidden = np.maximum(flat @ generator.normal(size=(flat.shape[1], 6)), 0)
        return hidden @ generator.normal(size=(6, 3)) / 10

    return scores


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# --- insertion and deletion -------------------------------------------------------------------------------------------


def test_deletion_of_a_linear_model_is_its_closed_form() -> None:
    """Odds are products of 2 · 3 · 4 · 5, from which the largest factor goes first."""
    curve = deletion(linear(ODDS), ONES, ODDS, target=0, step=1)
    expected = [120 / 121, 24 / 25, 6 / 7, 2 / 3, 1 / 2]
    np.testing.assert_allclose(curve.scores, expected)
    assert curve.area == pytest.approx((sum(expected) - (expected[0] + expected[-1]) / 2) / 4)


def test_insertion_of_a_linear_model_is_its_closed_form() -> None:
    curve = insertion(linear(ODDS), ONES, ODDS, target=0, step=1, substrate=0.0)
    expected = [1 / 2, 5 / 6, 20 / 21, 60 / 61, 120 / 121]
    np.testing.assert_allclose(curve.scores, expected)
    assert curve.area == pytest.approx((sum(expected) - (expected[0] + expected[-1]) / 2) / 4)


def test_a_row_of_pixels_changes_at_a_time_and_a_rest_at_last() -> None:
    assert deletion(linear(ODDS), ONES, ODDS, 0).scores == pytest.approx([120 / 121, 6 / 7, 1 / 2])
    assert deletion(linear(ODDS), ONES, ODDS, 0, step=3).scores == pytest.approx([120 / 121, 2 / 3, 1 / 2])
    for side, points in ((32, 33), (64, 65), (224, 225)):
        x = np.ones((1, side, side))
        assert len(deletion(linear(x), x, x).scores) == len(insertion(linear(x), x, x).scores) == points


def test_relevance_is_the_magnitude_of_the_sum_over_channels_unless_signs_are_asked_for() -> None:
    map = np.array([[[4.0, -1.0], [3.0, 0.0]], [[-4.0, -4.0], [0.0, 2.0]]])  # sums 0, -5, 3, 2
    x, weights = np.ones((2, 2, 2)), np.repeat(ODDS, 2, axis=0) / 2
    assert deletion(linear(weights), x, map, 0, step=1).scores == pytest.approx(
        [120 / 121, 40 / 41, 10 / 11, 2 / 3, 1 / 2]
    )
    assert deletion(linear(weights), x, map, 0, step=1, signed=True).scores == pytest.approx(
        [120 / 121, 30 / 31, 6 / 7, 3 / 4, 1 / 2]
    )


def test_without_a_target_it_is_the_class_that_the_picture_itself_is_given() -> None:
    curve = insertion(linear(-ODDS), ONES, ODDS, step=1, substrate=-1.0)  # the substrate is of the other class
    np.testing.assert_allclose(curve.scores[[0, -1]], [1 / 121, 120 / 121])
    assert deletion(linear(-ODDS), ONES, ODDS).scores[0] == pytest.approx(120 / 121)


@pytest.mark.parametrize("seed", range(3))
def test_curves_are_those_of_a_loop_over_pixels(seed: int) -> None:
    x, map, model = drawn(seed, 3, 6, 7), drawn(seed + 9, 3, 6, 7), noisy(seed)
    softmax = oracle("scipy.special").softmax
    target = int(model(x[None]).argmax())
    order = sorted(np.ndindex(6, 7), key=lambda at: -abs(map[:, at[0], at[1]].sum()))
    for metric, start, finish in ((deletion, x, 0 * x), (insertion, blur(x), x)):
        current, expected = start.copy(), []
        for n in range(43):
            if n % 7 == 0:
                expected.append(softmax(model(current[None])[0])[target])
            if n < 42:
                current[:, order[n][0], order[n][1]] = finish[:, order[n][0], order[n][1]]
        np.testing.assert_allclose(metric(model, x, map).scores, expected, rtol=1e-9)


@given(st.lists(st.integers(1, 9), min_size=6, max_size=6), st.permutations(range(6)))
def test_no_order_beats_that_of_the_contributions(factors: list[int], other: list[int]) -> None:
    odds = np.log(np.array(factors, float)).reshape(1, 2, 3)
    x, map = np.ones((1, 2, 3)), np.array(other, float).reshape(1, 2, 3)
    best = {metric: metric(linear(odds), x, odds, 0, step=1, substrate=0.0).area for metric in (deletion, insertion)}
    assert best[deletion] <= deletion(linear(odds), x, map, 0, step=1).area + 1e-12
    assert best[insertion] >= insertion(linear(odds), x, map, 0, step=1, substrate=0.0).area - 1e-12


# --- AUPC -------------------------------------------------------------------------------------------------------------


def test_windows_are_taken_greedily_and_never_overlap() -> None:
    map = np.zeros((6, 8))
    map[2, 3], map[2, 4], map[5, 7] = -9.0, 1.0, 4.0
    assert top_windows(map, 2, 3) == [(1, 3), (4, 6), (0, 0)]  # the first window that holds both, then in scan order


@given(st.integers(1, 6), st.integers(6, 15), st.integers(6, 15), st.integers(0, 1000))
def test_as_many_windows_as_are_promised_fit_on_every_map(side: int, rows: int, cols: int, seed: int) -> None:
    corners = top_windows(drawn(seed, rows, cols), side, 1000)
    covered = np.zeros((rows, cols), int)
    for row, col in corners:
        covered[row : row + side, col : col + side] += 1
    assert covered.max() == 1
    assert covered.sum() == side * side * len(corners)
    assert len(corners) == len(top_windows(np.zeros((rows, cols)), side, 1000)) >= 1


def test_the_worst_map_leaves_no_room_for_another_window() -> None:
    middle = np.zeros((32, 32))
    middle[8:23, 8:23] = 1.0
    assert top_windows(middle, 15, 30) == [(8, 8)]


@pytest.mark.parametrize(("side", "window"), [(8, 1), (32, 2), (64, 4), (112, 8), (224, 15), (299, 15)])
def test_windows_shrink_with_the_picture_and_thirty_regions_fit(side: int, window: int) -> None:
    assert default_window(np.zeros((3, side, side))) == window
    assert len(top_windows(np.zeros((side, side)), window, 30)) == 30


def test_the_curve_of_a_linear_model_under_a_known_filling_is_its_closed_form() -> None:
    x = np.arange(1.0, 65.0).reshape(1, 8, 8)
    curve = aupc(linear(np.ones_like(x)), x, x, 0, regions=4, window=2, low=0.0, high=0.0)
    lost = [0, 55 + 56 + 63 + 64, 53 + 54 + 61 + 62, 51 + 52 + 59 + 60, 49 + 50 + 57 + 58]
    expected = 1 - np.cumsum(lost) / x.sum()
    np.testing.assert_allclose(curve.scores, expected)
    assert curve.area == pytest.approx(oracle("scipy.integrate").simpson(expected, dx=1))


def test_a_model_that_looks_at_nothing_keeps_its_score_over_thirty_one_points() -> None:
    x = drawn(0, 3, 64, 64)
    curve = aupc(lambda batch: np.full((len(batch), 2), -3.0), x, x, 0, draws=2)
    assert curve.scores.tolist() == [-1.0] * 31
    assert curve.area == pytest.approx(-30.0)


def test_the_median_draw_stays_and_the_next_region_builds_on_it() -> None:
    seen: list[np.ndarray] = []
    model = linear(np.ones((3, 16, 16)))

    def watched(batch: np.ndarray) -> np.ndarray:
        seen.extend(batch)
        return model(batch)

    x = drawn(1, 3, 16, 16)
    curve = aupc(watched, x, x, 0, regions=5, window=3, draws=6, batch_size=4)
    np.testing.assert_array_equal(seen[0], x)
    base = x
    for region in range(5):
        draws = np.array(seen[1 + 6 * region : 7 + 6 * region])
        changed = (draws != base).any(axis=(0, 1))
        assert changed.sum() == 9
        kept = sorted(draws, key=lambda picture: picture.sum())[2]
        assert curve.scores[region + 1] == pytest.approx(kept.sum() / abs(x.sum()))
        base = kept
    mean = aupc(model, x, x, 0, regions=1, window=3, draws=6, scored="mean").scores[1]
    assert mean == pytest.approx(np.mean([picture.sum() for picture in seen[1:7]]) / abs(x.sum()))


def test_values_are_drawn_from_the_range_of_each_channel_or_as_given() -> None:
    seen: list[np.ndarray] = []

    def watched(batch: np.ndarray) -> np.ndarray:
        seen.extend(batch)
        return np.ones((len(batch), 2))

    x = drawn(2, 2, 8, 8) + np.array([0, 100.0]).reshape(2, 1, 1)
    low, high = x.min(axis=(1, 2)), x.max(axis=(1, 2))
    aupc(watched, x, x, 0, regions=64, window=1, draws=20)
    assert (np.array(seen).min(axis=(0, 2, 3)) >= low).all()
    assert (np.array(seen).max(axis=(0, 2, 3)) <= high).all()
    seen.clear()
    aupc(watched, x, x, 0, regions=64, window=1, draws=1, low=np.array([-7.0, 7.0]), high=np.array([-6.0, 8.0]))
    assert -7 <= seen[-1][0].min() < seen[-1][0].max() <= -6
    assert 7 <= seen[-1][1].min() < seen[-1][1].max() <= 8


def test_a_seed_repeats_a_curve_and_batches_do_not_change_one() -> None:
    x, map, model = drawn(3, 3, 16, 16), drawn(4, 16, 16), noisy(0)
    curve = aupc(model, x, map, draws=7)
    np.testing.assert_allclose(aupc(model, x[None], map[None, None], draws=7, batch_size=3).scores, curve.scores)
    np.testing.assert_array_equal(aupc(model, x, map, draws=7, seed=np.random.default_rng(0)).scores, curve.scores)
    assert (aupc(model, x, map, draws=7, seed=1).scores != curve.scores).any()
    for metric in (deletion, insertion):
        np.testing.assert_allclose(metric(model, x, map, batch_size=5).scores, metric(model, x, map).scores)


# --- what cannot work, and a trained network --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aupc(linear(ODDS), ONES, ODDS, 1), "AUPC divides by |F(x)|, and the score of this picture is 0"),
        (lambda: aupc(linear(ODDS), ONES, ODDS, window=3), "a window of 3 x 3 pixels does not fit into 2 x 2"),
        (lambda: aupc(linear(ODDS), ONES, ODDS, regions=0), "AUPC needs at least one region, not 0"),
        (lambda: aupc(linear(ODDS), ONES, ODDS, draws=0), "a region is drawn at least once, not 0 times"),
        (lambda: aupc(linear(ODDS), ONES, ODDS, low=2.0), "values are drawn from low to high, got 2.0 and [1.]"),
        (lambda: deletion(linear(ODDS), ONES, ODDS, 2), "class 2 does not exist; the model has classes 0 to 1"),
        (lambda: deletion(linear(ODDS), ONES, ODDS, step=0), "at least one pixel changes at a time, not 0"),
        (lambda: deletion(linear(ODDS), ONES, ODDS, batch_size=0), "a batch has at least one picture, not 0"),
        (lambda: insertion(linear(ODDS), ONES, np.ones((3, 3))), "a map of (3, 3) does not fit a picture of (2, 2)"),
        (
            lambda: deletion(lambda batch: linear(ODDS)(batch)[:, 0], ONES, ODDS),
            "the model must give (N, classes) logits, got shape (3,) for 3 pictures",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - compared whole
        call()
    assert str(refused.value) == message


def test_the_example_of_the_documents_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "metrics.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(compile(snippet, page.name, "exec"), names)
    assert names["scores"](names["x"]).shape == (1, 10)


def test_a_trained_network_depends_more_on_what_a_gradient_names_than_on_the_rest() -> None:
    model = load_model("cifar_cnn")
    sample = scene(model, 1)
    logits = model.graph.outputs[0]

    def scores(batch: np.ndarray) -> np.ndarray:
        return evaluate(model.graph, {"input": batch})[logits]

    map = METHODS["input_x_gradient"].run(FloatDevice(), model.graph, sample.x, sample.label).real()
    rest = 1 / (1e-9 + np.abs(map.sum(axis=1)))
    assert deletion(scores, sample.x, map, step=128).area < deletion(scores, sample.x, rest, step=128).area
    assert insertion(scores, sample.x, map, step=128).area > insertion(scores, sample.x, rest, step=128).area
    lower, upper = (aupc(scores, sample.x, m, regions=8, window=4, draws=3) for m in (map, rest))
    assert len(lower.scores) == 9
    assert lower.area < upper.area
    assert math.isclose(lower.scores[0], 1.0)
