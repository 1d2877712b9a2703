"""Costs and hypervolume of design points for the page. Rows are points, columns objectives, all to be minimised.

growth(costs)             the share of the box that the rows up to each one dominate
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xaisim.explore.store import Point
from xaisim.sweep.rules import Objective

Costs: TypeAlias = NDArray[np.float64]
SAMPLES = 1 << 15
"""Points of the box on which the hypervolume is measured."""


def costs_of(points: Sequence[Point], objectives: Sequence[Objective]) -> Costs:
    """Return (points, objectives) with maxima negated; not a number where a point is not done or lacks a value."""
    costs = np.full((len(points), len(objectives)), np.nan)
    for row, point in enumerate(points):
        if point.status == "done":
            for column, objective in enumerate(objectives):
                value = point.outputs.get(objective.name)
                if isinstance(value, int | float):
                    costs[row, column] = value if objective.direction == "min" else -value
    return costs


def growth(costs: Costs, samples: int = SAMPLES) -> Costs:
    """Return for every row the share of the box that it and the rows before it dominate.

    The box reaches from the best finite value of every objective to a tenth beyond the worst. The share is counted on
    evenly spread points of it, so it never falls; rows that are not finite add nothing.
    """
    volume = np.zeros(len(costs))
    whole: NDArray[np.bool_] = np.asarray(np.isfinite(costs).all(axis=1))
    if not costs.shape[1] or not whole.any():
        return volume
    low, high = costs[whole].min(axis=0), costs[whole].max(axis=0)
    scaled = (costs - low) / np.where(high > low, 1.1 * (high - low), 1.0)
    left = spread(samples, costs.shape[1])
    for row, cost in enumerate(scaled):
        if whole[row]:
            left = left[~(left >= cost).all(axis=1)]
        volume[row] = 1 - len(left) / samples
    return volume


def spread(count: int, dimensions: int) -> Costs:
    """Return evenly spread points of the unit cube: multiples of the generalised golden ratio's powers, modulo 1."""
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return (0.5 + np.outer(np.arange(1, count + 1), steps)) % 1.0
