"""Do the figures of localisation say what a count by hand says?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xaisim.metrics import pointing_hit, relevance, relevance_mass, relevance_rank

MAP = np.array([[[[1.0, -6.0, 0.0], [2.0, 3.0, 0.0]], [[1.0, -1.0, 0.0], [-2.0, -1.0, 4.0]]]])
"""Relevances 2, 7, 0 and 4, 4, 4."""
maps = arrays(np.float64, (2, 4, 5), elements=st.integers(-9, 9).map(float))
masks = arrays(np.bool_, (4, 5)).filter(np.any)


def mask(*pixels: tuple[int, int]) -> np.ndarray:
    plane = np.zeros((2, 3), bool)
    for pixel in pixels:
        plane[pixel] = True
    return plane


def test_relevance_is_the_magnitude_over_all_channels() -> None:
    assert relevance(MAP).tolist() == relevance(MAP[0]).tolist() == [[2, 7, 0], [4, 4, 4]]


def test_mass_and_rank_are_those_counted_by_hand() -> None:
    truth = mask((0, 0), (0, 1), (1, 2))
    assert relevance_mass(MAP, truth) == 13 / 21
    assert relevance_rank(MAP, truth) == 1 / 3  # of 7, 4, 4 only the first: of three equal ones the last is left out
    assert relevance_rank(MAP, mask((0, 1), (1, 0))) == 1.0
    assert (pointing_hit(MAP, truth), pointing_hit(MAP, ~truth)) == (True, False)


def test_a_map_of_zeros_has_no_mass_anywhere_and_its_first_pixels_rank_first() -> None:
    zeros = np.zeros((1, 2, 3))
    assert relevance_mass(zeros, mask((1, 1))) == 0.0
    assert (relevance_rank(zeros, mask((0, 0))), relevance_rank(zeros, mask((1, 1)))) == (1.0, 0.0)


@pytest.mark.parametrize("figure", [pointing_hit, relevance_mass, relevance_rank])
def test_masks_that_say_nothing_or_do_not_fit_are_refused(figure: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match=r"^the mask is empty; without evidence there is nothing to point at$"):
        figure(MAP, mask())
    with pytest.raises(ValueError, match=r"^a mask of shape \(3, 2\) does not fit a map of \(2, 3\)$"):
        figure(MAP, mask((0, 0)).T)
    with pytest.raises(ValueError, match=r"^expected one picture or map, .* got shape \(2, 2, 2, 3\)$"):
        figure(np.concatenate([MAP, MAP]), mask((0, 0)))


@given(maps, masks)
def test_shares_stay_within_their_bounds_and_do_not_see_scale_or_sign(map: np.ndarray, truth: np.ndarray) -> None:
    for figure in (relevance_mass, relevance_rank, pointing_hit):
        assert 0 <= figure(map, truth) <= 1 + 1e-12
        assert figure(-4 * map, truth) == pytest.approx(figure(map, truth))


@given(masks)
def test_a_map_that_is_the_mask_is_perfect_and_its_complement_is_worst(truth: np.ndarray) -> None:
    map = truth[None].astype(float)
    assert (relevance_mass(map, truth), relevance_rank(map, truth), pointing_hit(map, truth)) == (1.0, 1.0, True)
    if not truth.all():
        outside = 1 - map
        expected = max(0, 2 * int(truth.sum()) - truth.size) / int(truth.sum())  # the mask may be more than half
        assert (relevance_mass(outside, truth), pointing_hit(outside, truth)) == (0.0, False)
        assert relevance_rank(outside, truth) == pytest.approx(expected)
