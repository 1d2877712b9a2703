"""What metrics do to pictures and maps: planes, Gaussian windows, blurring, pyramids.

plane(attribution)          (1, C, H, W) → (H, W), signed
blur(picture), pyramid(plane)
"""

from __future__ import annotations

import math

import numpy as np

from xaisim.ir.graph import Array


def picture(x: Array) -> Array:
    """Return one picture or attribution as (C, H, W); raises ``ValueError`` unless it is (1, C, H, W) or (C, H, W)."""
    found = x[0] if x.ndim == 4 and len(x) == 1 else x
    if found.ndim != 3:
        raise ValueError(f"expected one picture or map, (1, C, H, W) or (C, H, W), got shape {x.shape}")
    return found


def plane(attribution: Array) -> Array:
    """Return an attribution summed over channels, signed: (1, C, H, W) or (C, H, W) → (H, W); a plane stays."""
    return attribution if attribution.ndim == 2 else picture(attribution).sum(axis=0)


def gaussian(taps: int, sigma: float) -> Array:
    """Return a Gaussian sampled at ``taps`` places (odd) around its middle, scaled to sum 1."""
    away = np.arange(taps) - taps // 2
    weights = np.exp(-0.5 * (away / sigma) ** 2)
    return weights / weights.sum()


def filtered(planes: Array, kernel: Array) -> Array:
    """Return planes (..., H, W) weighted along both axes by ``kernel``, where it lies inside: H and W less taps − 1."""
    taps = len(kernel)
    for axis in (-2, -1):
        length = planes.shape[axis] - taps + 1
        steps = (np.take(planes, range(t, t + length), axis=axis) * kernel[t] for t in range(taps))
        planes = sum(steps, start=np.zeros(1))
    return planes


def blur(planes: Array, taps: int = 11, sigma: float = 5.0) -> Array:
    """Return planes (..., H, W) under a Gaussian of ``taps``², mirrored at their edges: a constant stays as it is."""
    edge = taps // 2
    padded = np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(edge, edge)] * 2, mode="symmetric")
    return filtered(padded, gaussian(taps, sigma))


def pyramid(plane: Array, factor: float = 1.5, least: int = 30) -> list[Array]:
    """Return a Gaussian pyramid, (H, W) first, each level 1/``factor`` of the one before, rounded up.

    It ends above the first level with a side below ``least`` pixels, or that would not be smaller; the first level is
    always there. Smoothed by σ = ``factor``/3 out to 4σ, then sampled bilinearly at the centres of the new pixels.
    """
    if factor <= 1:
        raise ValueError(f"the levels of a pyramid must shrink by a factor above 1, got {factor}")
    sigma = factor / 3
    levels = [plane]
    while True:
        last = levels[-1]
        rows, cols = (math.ceil(side / factor) for side in last.shape)
        if min(rows, cols) < least or (rows, cols) == last.shape:
            return levels
        smooth = blur(last, 2 * int(4 * sigma + 0.5) + 1, sigma)
        levels.append(_sampled(_sampled(smooth, rows).T, cols).T)


def _sampled(values: Array, count: int) -> Array:
    """Return ``count`` rows instead of more: bilinear, where the centres of the new rows lie."""
    place = (np.arange(count) + 0.5) * len(values) / count - 0.5
    low = place.astype(np.int64)
    share = (place - low)[:, None]
    return values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share
