"""Do the figures of fidelity equal those of SciPy and scikit-image, and those that one can compute by hand?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import oracle

from xaisim import metrics

SHAPE = (1, 2, 12, 13)
maps = arrays(np.float64, SHAPE, elements=st.integers(-50, 50).map(float))
"""Small integers: many ties, zeros, and now and then a constant map."""
REFERENCE = np.array([3.0, -1.0, 0.0, 4.0])
OTHER = np.array([2.0, 1.0, 0.0, 4.5])


def pair(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A heavy-tailed map, as attributions are, and one near it with ties."""
    generator = np.random.default_rng(seed)
    reference = generator.standard_t(2, shape)
    return reference, np.round((reference + 0.3 * generator.normal(size=shape)) * 4) / 4


# --- hand-computed ----------------------------------------------------------------------------------------------------


def test_errors_of_four_elements_are_those_computed_by_hand() -> None:
    assert metrics.sqnr_db(REFERENCE, OTHER) == pytest.approx(10 * math.log10(26 / 5.25))
    assert metrics.nrmse(REFERENCE, OTHER) == pytest.approx(math.sqrt(5.25 / 4) / 5)
    assert metrics.nrmse(REFERENCE, OTHER, by="norm") == pytest.approx(math.sqrt(5.25 / 26))
    assert metrics.max_error_lsb(REFERENCE, OTHER, 0.25) == 8.0
    assert metrics.sign_agreement(REFERENCE, OTHER) == 0.75
    assert metrics.cosine(REFERENCE, OTHER) == pytest.approx(23 / math.sqrt(26 * 25.25))
    assert metrics.top_count_intersection(REFERENCE, -OTHER, 2) == 1.0
    assert metrics.top_count_intersection(REFERENCE, np.array([0.0, 3.0, 2.0, 1.0]), 2) == 0.0


def test_of_equal_magnitudes_the_first_are_the_largest() -> None:
    assert metrics.top_count_intersection(np.array([1.0, -1, 1]), np.array([2.0, 2, 0]), 2) == 1.0
    assert metrics.top_count_intersection(np.array([1.0, -1, 1]), np.array([0.0, 2, 2]), 2) == 0.5


def test_a_reference_of_zeros_has_no_scale_to_measure_errors_by() -> None:
    zeros, ones = np.zeros(SHAPE), np.ones(SHAPE)
    assert (metrics.sqnr_db(zeros, ones), metrics.sqnr_db(zeros, zeros)) == (-math.inf, math.inf)
    for by in ("range", "norm"):
        assert (metrics.nrmse(zeros, ones, by), metrics.nrmse(zeros, zeros, by)) == (math.inf, 0.0)  # type: ignore[arg-type]
    assert (metrics.ssim(zeros, ones), metrics.ssim(zeros, zeros)) == (0.0, 1.0)


def test_a_constant_map_correlates_with_nothing() -> None:
    constant, other = np.full(7, 0.1), np.arange(7.0)  # 0.1 · 7 / 7 is not 0.1
    assert metrics.pearson(constant, other) == metrics.spearman(other, constant) == 0.0


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^the 1000 largest are asked of a map of 12 elements$"):
        metrics.top_count_intersection(np.ones(12), np.ones(12), 1000)
    with pytest.raises(ValueError, match=r"^SSIM needs planes of at least 11 x 11, got shape \(3, 32, 8\)$"):
        metrics.ssim(np.ones((3, 32, 8)), np.ones((3, 32, 8)))
    with pytest.raises(ValueError, match=r"^the step of a format must be positive, got 0$"):
        metrics.max_error_lsb(REFERENCE, OTHER, 0)


# --- libraries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    stats = oracle("scipy.stats")
    a, b = pair(seed)
    assert metrics.pearson(a, b) == pytest.approx(stats.pearsonr(a.ravel(), b.ravel()).statistic, abs=1e-12)
    assert metrics.spearman(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)
    np.testing.assert_array_equal(metrics.ranks(b), stats.rankdata(b.ravel()))


@pytest.mark.parametrize("shape", [(11, 11), (32, 32), (64, 40), (1, 3, 32, 32)])
def test_structural_similarity_is_that_of_scikit_image_with_population_covariances(shape: tuple[int, ...]) -> None:
    compare = oracle("skimage.metrics").structural_similarity
    a, b = pair(1, shape)
    planes = zip(a.reshape(-1, *shape[-2:]), b.reshape(-1, *shape[-2:]), strict=True)
    theirs = [
        compare(x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=a.max() - a.min())
        for x, y in planes
    ]
    assert metrics.ssim(a, b) == pytest.approx(np.mean(theirs), abs=1e-12)


def test_nrmse_is_that_of_scikit_image_for_both_scales() -> None:
    theirs = oracle("skimage.metrics").normalized_root_mse
    a, b = pair(2)
    assert metrics.nrmse(a, b) == pytest.approx(theirs(a, b, normalization="min-max"), rel=1e-12)
    assert metrics.nrmse(a, b, "norm") == pytest.approx(theirs(a, b, normalization="euclidean"), rel=1e-12)


# --- properties -------------------------------------------------------------------------------------------------------


@given(maps)
def test_equal_maps_agree_perfectly(a: np.ndarray) -> None:
    assert (metrics.sqnr_db(a, a), metrics.nrmse(a, a), metrics.max_error_lsb(a, a, 1.0)) == (math.inf, 0.0, 0.0)
    assert metrics.ssim(a, a) == pytest.approx(1.0)
    assert metrics.top_count_intersection(a, a, 100) == metrics.sign_agreement(a, a) == 1.0
    if np.ptp(a) > 0:
        assert metrics.pearson(a, a) == pytest.approx(1.0)
        assert metrics.spearman(a, a) == pytest.approx(1.0)


@given(maps, maps, st.sampled_from([0.5, 2.0, 1024.0]))
def test_a_common_scale_changes_no_figure_but_lsbs(a: np.ndarray, b: np.ndarray, scale: float) -> None:
    figures = (metrics.sqnr_db, metrics.nrmse, metrics.cosine, metrics.pearson, metrics.spearman, metrics.ssim)
    for figure in (*figures, metrics.sign_agreement):
        assert figure(a * scale, b * scale) == pytest.approx(figure(a, b), rel=1e-9, abs=1e-12)  # type: ignore[operator]
    assert metrics.max_error_lsb(a * scale, b * scale, scale) == metrics.max_error_lsb(a, b, 1.0)


@given(maps, maps)
def test_correlations_do_not_see_the_scale_or_offset_of_one_map_and_ranks_see_order_alone(
    a: np.ndarray, b: np.ndarray
) -> None:
    assert metrics.pearson(a, 3 * b - 7) == pytest.approx(metrics.pearson(a, b), abs=1e-9)
    assert metrics.spearman(a, b**3) == metrics.spearman(a, b)
    assert metrics.top_count_intersection(a, b**3, 50) == metrics.top_count_intersection(a, b, 50)


@given(maps, maps)
def test_figures_stay_within_their_bounds(a: np.ndarray, b: np.ndarray) -> None:
    for figure in (metrics.cosine, metrics.pearson, metrics.spearman, metrics.ssim):
        assert -1 - 1e-9 <= figure(a, b) <= 1 + 1e-9
    for share in (metrics.sign_agreement(a, b), metrics.top_k_intersection(a, b, 0.05)):
        assert 0 <= share <= 1
    assert metrics.nrmse(a, b, "norm") == pytest.approx(10 ** (-metrics.sqnr_db(a, b) / 20))
