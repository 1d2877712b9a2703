"""Whether an attribution points at the evidence, where a mask says where that is.

pointing_hit(attribution, mask), relevance_mass(attribution, mask), relevance_rank(attribution, mask)

All take an attribution (1, C, H, W) or (C, H, W) and a mask (H, W) of bools; an empty mask is a ``ValueError``.
"""

from __future__ import annotations

import numpy as np

from xaisim.ir.graph import Array
from xaisim.metrics.image import picture


def relevance(attribution: Array) -> Array:
    """Return |attribution| summed over channels: (1, C, H, W) or (C, H, W) → (H, W)."""
    return np.abs(picture(attribution)).sum(axis=0)


def pointing_hit(attribution: Array, mask: Array) -> bool:
    """Return whether the most relevant pixel lies in the ground-truth mask (Zhang et al. 2018, no tolerance).

    Of equally relevant pixels the first is the one that points.
    """
    plane = _checked(attribution, mask)
    return bool(mask.reshape(-1)[int(plane.argmax())])


def relevance_mass(attribution: Array, mask: Array) -> float:
    """Return the share of the relevance that lies in the mask (Arras et al. 2022); 0 for an empty map."""
    plane = _checked(attribution, mask)
    total = float(plane.sum())
    return float(plane[mask].sum()) / total if total > 0 else 0.0


def relevance_rank(attribution: Array, mask: Array) -> float:
    """Return the share of the K most relevant pixels that lie in the mask of K pixels (Arras et al. 2022).

    Of equally relevant pixels the first ones count.
    """
    plane = _checked(attribution, mask)
    count = int(mask.sum())
    largest = np.argsort(-plane.reshape(-1), kind="stable")[:count]
    return float(mask.reshape(-1)[largest].mean())


def _checked(attribution: Array, mask: Array) -> Array:
    """Return the relevance of every pixel that the mask speaks about."""
    plane = relevance(attribution)
    if mask.shape != plane.shape:
        raise ValueError(f"a mask of shape {mask.shape} does not fit a map of {plane.shape}")
    if not mask.any():
        raise ValueError("the mask is empty; without evidence there is nothing to point at")
    return plane
