"""How an attribution answers to small changes of the picture: infidelity and maximum sensitivity (Yeh et al. 2019).

    infidelity(scores, x, attribution, target, perturbations=gaussian_perturbations(x, 50))
    max_sensitivity(explain, x)

Both are estimates over random perturbations (n, C, H, W), which a seed makes reproducible or the caller gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from xaisim.ir.graph import Array
from xaisim.metrics.image import picture
from xaisim.metrics.model import Scores, batches, chosen, logits

Seed = int | np.random.Generator


def gaussian_perturbations(x: Array, count: int = 50, stdev: float = 0.2, seed: Seed = 0) -> Array:
    """Return ``count`` perturbations of independent N(0, stdev²) in the units of the picture."""
    return np.random.default_rng(seed).normal(0.0, stdev, (count, *picture(x).shape))


def square_perturbations(x: Array, side: int, count: int = 50, fill: Array | float = 0.0, seed: Seed = 0) -> Array:
    """Return ``count`` perturbations that each take a square away: x − I is ``fill`` on side x side random pixels.

    Raises ``ValueError`` where such a square does not fit.
    """
    x = picture(x)
    rows, cols = (length - side + 1 for length in x.shape[1:])
    if side < 1 or min(rows, cols) < 1:
        raise ValueError(f"a square of {side} x {side} pixels does not fit into {x.shape[1]} x {x.shape[2]}")
    generator = np.random.default_rng(seed)
    change = x - np.broadcast_to(fill, x.shape)
    found = np.zeros((count, *x.shape))
    for one, row, col in zip(
        found, generator.integers(rows, size=count), generator.integers(cols, size=count), strict=True
    ):
        place = (slice(None), slice(row, row + side), slice(col, col + side))
        one[place] = change[place]
    return found


def infidelity(
    scores: Scores,
    x: Array,
    attribution: Array,
    target: int | None = None,
    *,
    perturbations: Array | None = None,
    baseline: Array | float | None = None,
    normalise: bool = False,
    batch_size: int = 32,
) -> float:
    """Return the mean of (Iᵀφ − (F(x) − F(x − I)))² over perturbations I, by default Gaussian; low is good.

    φ is per unit of input, as a gradient is. An attribution that holds the factor x − ``baseline``, as Integrated
    Gradients does, is divided by it where it is not 0. A map of one channel counts for every channel. ``normalise``
    multiplies φ by the number that makes the result least. F is the logit of the class, by default the one predicted.
    """
    x = picture(x)
    noise = gaussian_perturbations(x) if perturbations is None else perturbations
    if noise.ndim != 4 or noise.shape[1:] != x.shape:
        raise ValueError(f"perturbations of shape {noise.shape} do not fit a picture of {x.shape}")
    slope = np.broadcast_to(picture(attribution), x.shape)
    if baseline is not None:
        factor = x - baseline
        slope = slope / np.where(factor == 0, 1.0, factor)
    first = logits(scores, [x], 1)[0]
    target = chosen(first, target)
    drop = first[target] - logits(scores, (x - one for one in noise), batch_size)[:, target]
    said = np.tensordot(noise, slope, axes=3)
    power = float((said**2).sum())
    if normalise and power > 0:
        said = said * (float((said * drop).sum()) / power)
    return float(((said - drop) ** 2).mean())


def max_sensitivity(
    explain: Callable[[Array], Array],
    x: Array,
    *,
    radius: float = 0.02,
    count: int = 10,
    perturbations: Array | None = None,
    seed: Seed = 0,
    batch_size: int = 32,
) -> float:
    """Return the largest ‖φ(x + I) − φ(x)‖ / ‖φ(x)‖ over perturbations I, by default uniform in ±radius; low is good.

    ``explain`` gives the maps (N, ...) of a batch (N, C, H, W) for one class. Where φ(x) is zero, so is the result if
    all maps are, and else it is infinite.
    """
    x = picture(x)
    if perturbations is None:
        perturbations = np.random.default_rng(seed).uniform(-radius, radius, (count, *x.shape))
    own = np.asarray(explain(x[None]))[0]
    changes = [
        float(np.linalg.norm(map - own))
        for batch in batches((x + one for one in perturbations), batch_size)
        for map in np.asarray(explain(batch))
    ]
    largest, size = max(changes), float(np.linalg.norm(own))
    if largest == 0:
        return 0.0
    return largest / size if size > 0 else math.inf
