"""How close a fixed-point map is to its float reference, element by element, before any normalisation.

    sqnr_db(reference, quantised), spearman(reference, quantised), ssim(reference, quantised)

All take two arrays of one attribution, of any one shape (``ssim`` needs planes); conventions stand in each docstring.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from xaisim.ir.graph import Array
from xaisim.metrics.image import filtered, gaussian


def sqnr_db(reference: Array, quantised: Array) -> float:
    """Return 10·log10(Σ r² / Σ (r − q)²) in dB; infinite where they are equal, −inf where the reference is zero."""
    noise = float(((reference - quantised) ** 2).sum())
    signal = float((reference**2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def nrmse(reference: Array, quantised: Array, by: Literal["range", "norm"] = "range") -> float:
    """Return the root mean squared error over the reference's max − min, or over its root mean square (``norm``).

    The second is SQNR in another unit: 10^(−dB/20). 0 where the maps are equal, else infinite over a scale of zero.
    """
    error = float(np.sqrt(((reference - quantised) ** 2).mean()))
    scale = float(np.ptp(reference) if by == "range" else np.sqrt((reference**2).mean()))
    if error == 0:
        return 0.0
    return error / scale if scale > 0 else math.inf


def max_error_lsb(reference: Array, quantised: Array, step: float) -> float:
    """Return the largest |r − q| in units of ``step``, the value of the fixed-point format's last bit.

    Raises ``ValueError`` for a step that is not positive.
    """
    if not step > 0:
        raise ValueError(f"the step of a format must be positive, got {step}")
    return float(np.abs(reference - quantised).max()) / step


def cosine(a: Array, b: Array) -> float:
    """Return the cosine of the angle between two maps; 0 where one of them is zero."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def pearson(a: Array, b: Array) -> float:
    """Return Pearson's correlation, the cosine of the maps less their means; 0 where a map is constant."""
    # The mean of equal numbers can miss them by a bit, and what is left would correlate.
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return cosine(a - a.mean(), b - b.mean())


def ranks(values: Array) -> Array:
    """Return ranks from 1, ties sharing their average rank."""
    _, inverse, counts = np.unique(values.reshape(-1), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation with average ranks; 0 where a map is constant."""
    return pearson(ranks(a), ranks(b))


def top_k_intersection(a: Array, b: Array, fraction: float) -> float:
    """Return which share of the ``fraction`` largest |a| is also among the largest |b| (at least one element)."""
    return top_count_intersection(a, b, max(1, round(fraction * a.size)))


def top_count_intersection(a: Array, b: Array, k: int) -> float:
    """Return which share of the ``k`` largest |a| is also among the ``k`` largest |b|; of equals, the first count.

    Raises ``ValueError`` where the maps have fewer than ``k`` elements.
    """
    if not 1 <= k <= a.size:
        raise ValueError(f"the {k} largest are asked of a map of {a.size} elements")
    first, second = (set(np.argsort(-np.abs(m).reshape(-1), kind="stable")[:k].tolist()) for m in (a, b))
    return len(first & second) / k


def sign_agreement(a: Array, b: Array) -> float:
    """Return the share of elements with equal sign, zero being a sign of its own."""
    return float((np.sign(a) == np.sign(b)).mean())


def ssim(reference: Array, other: Array, taps: int = 11, sigma: float = 1.5) -> float:
    """Return the structural similarity of two maps (..., H, W), the mean over all planes and whole windows.

    Wang et al. 2004: Gaussian windows of ``taps``², K1 = 0.01, K2 = 0.03, population covariances. Maps have no range of
    their own, so L is max − min of the reference over all its planes. A constant reference has none: then 1 or 0, equal
    or not. Raises ``ValueError`` where no window fits.
    """
    if reference.ndim < 2 or min(reference.shape[-2:]) < taps:
        raise ValueError(f"SSIM needs planes of at least {taps} x {taps}, got shape {reference.shape}")
    span = float(np.ptp(reference))
    if span == 0:
        return float(np.array_equal(reference, other))
    kernel = gaussian(taps, sigma)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_r, mean_o = filtered(reference, kernel), filtered(other, kernel)
    var_r = filtered(reference * reference, kernel) - mean_r**2
    var_o = filtered(other * other, kernel) - mean_o**2
    both = filtered(reference * other, kernel) - mean_r * mean_o
    luminance = (2 * mean_r * mean_o + c1) / (mean_r**2 + mean_o**2 + c1)
    structure = (2 * both + c2) / (var_r + var_o + c2)
    return float((luminance * structure).mean())
