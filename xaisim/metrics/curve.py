"""A curve of scores at equal distances, and the area under it.

curve.scores, curve.area
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xaisim.ir.graph import Array


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured at each point, in order, and the area that the metric is named after."""

    scores: Array
    area: float


def trapezoid(scores: Array) -> float:
    """Return the area under ``scores`` over a width of 1 (two points or more)."""
    return float((scores[:-1] + scores[1:]).sum() / (2 * (len(scores) - 1)))


def simpson(scores: Array) -> float:
    """Return the area under ``scores`` at distance 1 by Simpson's rule: 0 for one point, the trapezoid for two.

    With an even number of points the last interval is that of the parabola through the last three (Cartwright 2017).
    """
    n = len(scores)
    if n < 3:
        return float(scores.sum() / 2) if n == 2 else 0.0
    if n % 2 == 0:
        last = np.dot(scores[-3:], [-1, 8, 5]) / 12
        return simpson(scores[:-1]) + float(last)
    return float(scores[0] + 4 * scores[1::2].sum() + 2 * scores[2:-1:2].sum() + scores[-1]) / 3
