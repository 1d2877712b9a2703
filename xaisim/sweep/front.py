"""What is best of a set of points: the Pareto front, and the volume that it dominates.

front(rows, objectives)                     # the rows that no other is better than
hypervolumes(rows, objectives)              # [0.2, 0.31, …]: after each point, of the box around all of them
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from xaisim.config import UserError
from xaisim.ir.graph import Array
from xaisim.sweep.rules import Objective
from xaisim.sweep.store import Row


def costs_of(rows: Sequence[Row], objectives: Sequence[Objective]) -> Array:
    """Return (rows, objectives) with less being better; infinite where a row is not done or lacks an output."""
    costs = np.full((len(rows), len(objectives)), math.inf)
    for i, row in enumerate(rows):
        found = [objective.cost(row.outputs) for objective in objectives] if row.status == "done" else [None]
        if all(cost is not None for cost in found):
            costs[i] = found
    return costs


def nondominated(costs: Array) -> Array:
    """Return a mask of the rows that no other dominates: nowhere worse and somewhere better. Equal rows all stay.

    Rows with a value that is not finite are never on the front.
    """
    on_front = np.zeros(len(costs), bool)
    if not costs.shape[1]:
        return on_front
    rows = np.flatnonzero(np.isfinite(costs).all(axis=1))
    best = np.empty((0, costs.shape[1]))
    for row in rows[np.lexsort(costs[rows].T[::-1])]:  # a row can only be dominated by one in front of it
        cost = costs[row]
        if not ((best <= cost).all(axis=1) & (best < cost).any(axis=1)).any():
            on_front[row] = True
            best = np.vstack([best, cost])
    return on_front


def front(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[Row]:
    """Return the Pareto front, best first in the first objective."""
    costs = costs_of(rows, objectives)
    best = np.flatnonzero(nondominated(costs))
    return [rows[int(i)] for i in sorted(best, key=lambda i: tuple(costs[i]))]


def hypervolumes(
    rows: Sequence[Row],
    objectives: Sequence[Objective],
    box: Array | None = None,
    at: Collection[int] | None = None,
) -> list[float]:
    """Return after each row the share of a box that the rows so far dominate.

    ``box`` is (2, objectives), the best and the worst corner; by default that around all rows, a tenth larger at the
    worse end. ``at`` are the rows after which it is wanted; by default all. Raises :class:`UserError` without moocore.
    """
    costs = costs_of(rows, objectives)
    wanted = range(len(rows)) if at is None else sorted(at)
    box = around(costs) if box is None else box
    if box is None:
        return [0.0] * len(wanted)
    scaled = (costs - box[0]) / (box[1] - box[0])
    volumes, kept, last, done = [], np.empty((0, costs.shape[1])), 0.0, 0
    for stop in wanted:
        changed = False
        for row in scaled[done : stop + 1]:
            if (row < 1).all() and not (kept <= row).all(axis=1).any():
                kept = np.vstack([kept[~(row <= kept).all(axis=1)], row])
                changed = True
        last, done = volume(kept) if changed else last, stop + 1
        volumes.append(last)
    return volumes


def around(costs: Array) -> Array | None:
    """Return the best and the worst corner of the finite rows, the worst a tenth further; None without any.

    Without objectives there is none, too.
    """
    finite = costs[np.isfinite(costs).all(axis=1)]
    if not finite.size:
        return None
    low, high = finite.min(axis=0), finite.max(axis=0)
    return np.stack([low, high + np.maximum(0.1 * (high - low), 1e-9 * np.maximum(1, np.abs(high)))])


def volume(scaled: Array) -> float:
    """Return the volume between points and (1, 1, …)."""
    try:
        from moocore import hypervolume
    except ImportError:
        raise UserError("hypervolume needs moocore: pip install 'xaisim[dse]'") from None
    return float(hypervolume(np.maximum(scaled, 0.0), ref=np.ones(scaled.shape[1])))
