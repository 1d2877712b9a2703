"""Are variation, pyramids and areas those of scikit-image and SciPy, and those of maps that one can draw?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import oracle

from xaisim.metrics import atv, autvc
from xaisim.metrics.curve import simpson, trapezoid
from xaisim.metrics.image import blur, filtered, gaussian, pyramid
from xaisim.metrics.noise import normalised

maps = arrays(np.float64, (2, 7, 9), elements=st.integers(-20, 20).map(float))


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_t(3, shape)


# --- areas, filters, pyramids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", range(2, 12))
def test_areas_are_those_of_scipy(points: int) -> None:
    integrate = oracle("scipy.integrate")
    scores = drawn(points)
    assert simpson(scores) == pytest.approx(integrate.simpson(scores, dx=1), abs=1e-12)
    assert trapezoid(scores) == pytest.approx(integrate.trapezoid(scores, dx=1 / (points - 1)), abs=1e-12)


def test_simpson_is_exact_for_parabolas_with_any_number_of_points() -> None:
    for points in range(3, 9):
        at = np.arange(points, dtype=float)
        assert simpson(3 * at**2 - 2 * at + 1) == pytest.approx((points - 1) ** 3 - (points - 1) ** 2 + points - 1)


def test_filters_are_those_of_scipy() -> None:
    ndimage = oracle("scipy.ndimage")
    planes = drawn(3, 16, 20)
    kernel = gaussian(11, 5.0)
    for ours, theirs in zip(blur(planes), planes, strict=True):
        np.testing.assert_allclose(
            ours, ndimage.correlate(theirs, np.outer(kernel, kernel), mode="reflect"), atol=1e-13
        )
    whole = ndimage.gaussian_filter(planes[0], 1.5, radius=5)
    np.testing.assert_allclose(filtered(planes[0], gaussian(11, 1.5)), whole[5:-5, 5:-5], atol=1e-13)


def test_a_blurred_constant_stays_as_it_is_up_to_the_edge_even_where_the_window_is_larger() -> None:
    np.testing.assert_allclose(blur(np.full((2, 4, 7), 3.0)), 3.0)


@pytest.mark.parametrize("shape", [(224, 224), (64, 64), (97, 60)])
@pytest.mark.parametrize("factor", [1.5, 2.0])
def test_pyramids_are_those_of_scikit_image(shape: tuple[int, int], factor: float) -> None:
    theirs = oracle("skimage.transform").pyramid_gaussian
    plane = drawn(*shape)
    levels = pyramid(plane, factor)
    for ours, level in zip(levels, theirs(plane, downscale=factor), strict=False):
        np.testing.assert_allclose(ours, level, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "sides"),
    [
        (224, [224, 150, 100, 67, 45, 30]),
        (64, [64, 43]),
        (45, [45, 30]),
        (44, [44, 30]),
        (43, [43]),
        (32, [32]),
        (16, [16]),
    ],
)
def test_a_pyramid_ends_before_the_first_side_below_thirty_but_has_a_level_always(side: int, sides: list[int]) -> None:
    assert [len(level) for level in pyramid(np.zeros((side, side)))] == sides
    assert len(pyramid(np.zeros((2 * side, side)))) == len(sides)


def test_a_pyramid_ends_where_rounding_up_stops_it() -> None:
    assert [level.shape for level in pyramid(np.ones((5, 5)), least=1)] == [(5, 5), (4, 4), (3, 3), (2, 2)]
    with pytest.raises(ValueError, match=r"^the levels of a pyramid must shrink by a factor above 1, got 1$"):
        pyramid(np.ones((5, 5)), 1)


# --- variation --------------------------------------------------------------------------------------------------------


def test_variation_of_drawn_maps_is_that_counted_by_hand() -> None:
    step = np.zeros((4, 6))
    step[:, 3:] = 5.0
    assert atv(step) == pytest.approx(4 / 24)  # one edge of height 1 in each of four rows
    board = np.indices((4, 4)).sum(axis=0) % 2
    assert atv(np.where(board, 3.0, -1.0)) == pytest.approx(24 / 16)  # every neighbour differs by 1
    assert atv(np.where(board, 2.0, -2.0)) == 0.0  # the magnitudes are one


def test_values_above_the_percentile_are_cut_to_one() -> None:
    map = np.arange(101.0).reshape(1, 101)
    np.testing.assert_allclose(normalised(map)[0, [0, 33, 99, 100]], [0, 1 / 3, 1, 1])


def test_a_map_of_a_single_point_is_scaled_to_its_largest() -> None:
    map = np.zeros((20, 20))
    map[7, 9] = -4.0
    assert normalised(map)[7, 9] == 1.0
    assert atv(map) == 4 / 400


def test_channels_are_summed_with_their_signs_before_anything_else() -> None:
    map = np.round(8 * drawn(1, 3, 33, 33))
    assert atv(map) == atv(map[0]) == atv(map[0].sum(axis=0))
    assert autvc(np.concatenate([map, -map], axis=1)).area == 0.0


def test_the_area_is_that_of_scikit_images_pyramid_under_scipys_simpson() -> None:
    theirs = oracle("skimage.transform").pyramid_gaussian
    map = drawn(224, 224)
    levels = [level for level in theirs(map, downscale=1.5) if min(level.shape) >= 30]
    curve = autvc(map)
    np.testing.assert_allclose(curve.scores, [atv(level) for level in levels], atol=1e-12)
    assert curve.area == pytest.approx(oracle("scipy.integrate").simpson(curve.scores, dx=1))


def test_a_single_level_has_its_own_variation_as_area() -> None:
    map = drawn(32, 32)
    assert autvc(map).scores.tolist() == [autvc(map).area] == [atv(map)]
    assert len(autvc(map, least=8).scores) == 4


def test_smoothing_a_map_lowers_both_figures() -> None:
    map = drawn(64, 64)
    assert atv(blur(map)) < atv(map)
    assert autvc(blur(map)).area < autvc(map).area


@given(maps, st.sampled_from([-1.0, 0.25, 1e-3]))
def test_neither_scale_nor_sign_nor_transposition_changes_variation(map: np.ndarray, scale: float) -> None:
    assert atv(map * scale) == pytest.approx(atv(map), abs=1e-9)
    assert atv(map.swapaxes(1, 2)) == pytest.approx(atv(map), abs=1e-12)
    assert 0 <= atv(map) < 2
