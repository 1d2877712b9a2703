"""How noisy a map looks: its average total variation, alone and over the levels of a Gaussian pyramid.

atv(attribution), autvc(attribution).area      lower is smoother
"""

from __future__ import annotations

import numpy as np

from xaisim.ir.graph import Array
from xaisim.metrics.curve import Curve, simpson
from xaisim.metrics.image import plane, pyramid


def normalised(map: Array, percentile: float = 99.0) -> Array:
    """Return |map| from 0 at its least to 1 at its ``percentile``, and 1 above.

    Where that percentile is the least value itself, as on a map with few points, the largest value is 1; a map of one
    magnitude becomes zero.
    """
    size = np.abs(map)
    low, high = float(size.min()), float(np.percentile(size, percentile))
    high = high if high > low else float(size.max())
    if high == low:
        return np.zeros_like(size)
    return np.minimum((size - low) / (high - low), 1.0)


def atv(attribution: Array) -> float:
    """Return the average total variation: Σ |differences| of neighbours across and down, over the number of pixels.

    ``attribution`` is (H, W), or (1, C, H, W) and (C, H, W), which are summed over channels; then :func:`normalised`.
    From 0, constant, to below 2 (Goh et al. 2020, with p = 1).
    """
    map = normalised(plane(attribution))
    return float(np.abs(np.diff(map, axis=0)).sum() + np.abs(np.diff(map, axis=1)).sum()) / map.size


def autvc(attribution: Array, *, factor: float = 1.5, least: int = 30) -> Curve:
    """Return the ATV of every level of a Gaussian pyramid and Simpson's area under them, levels one apart.

    The signed map is reduced; each level is normalised for itself. The area grows with the number of levels (six for
    224², two for 64²), so it compares maps of one size. A single level (of a side up to 43 by default) spans no width;
    the area is then defined as that level's ATV, the height of the curve.
    """
    scores = np.array([atv(level) for level in pyramid(plane(attribution), factor, least)])
    return Curve(scores, simpson(scores) if len(scores) > 1 else float(scores[0]))
