"""Integrated Gradients that look for their points: each halves the interval whose measured error is largest.

adaptive(device, model.graph, x, target, n_steps=50, stop_at_delta=0.05)

A gradient's launch gives F and dF/dα there as well, so what the sum over an interval lacks is known, and no probe is
needed.
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution.along_path import infer
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.points import Points, ends_of
from xaisim.attribution.sampling import FIRST_NODES, Nodes, refine
from xaisim.ir.graph import Array, Graph

_PER_INTERVAL = 12
"""Operations of the host per interval: its error (8), its place among the largest, the sum of all."""
_PER_WEIGHT = 40
"""Operations per weight: where tangents meet, with a division."""


def check_points(*, n_steps: int, at_once: int, **_: object) -> None:
    """Raise ``ValueError`` where not even the first points are allowed, or none is to be added."""
    if n_steps < len(FIRST_NODES):
        raise ValueError(f"n_steps must be at least {len(FIRST_NODES)}, both ends and the middle, got {n_steps}")
    if at_once < 1:
        raise ValueError(f"at_once must be at least 1, got {at_once}")


def adaptive(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    stop_at_delta: float | None = 0.02,
    at_once: int = 1,
    table: Array | None = None,
    score: str = "probability",
) -> Tensor:
    """Integrated Gradients that halve the interval with the largest error until the sum is complete enough.

    Stops at ``n_steps`` points, or when the root of the sum of all intervals' squared errors is at most
    ``stop_at_delta`` of |F(x) − F(x')|. Points are then weighed by where their tangents to F meet, which is more exact
    than what was measured. ``at_once`` intervals are halved per launch: fewer launches, more points. Halves are by
    ``table``, the density of points that ``xaisim fit-path`` learnt, or in the middle where there is none.
    """
    infer(device, graph, x)
    points = Points(device, graph, ends_of(x, baseline), target, score)

    def look(alphas: Array) -> tuple[Array, Array]:
        points.launch(alphas)
        device.decide(_PER_INTERVAL * len(points.alphas))
        return points.values[-len(alphas) :], points.slopes[-len(alphas) :]

    def enough(nodes: Nodes) -> bool:
        return not device.dry and nodes.complete(stop_at_delta)

    nodes = refine(look, n_steps, enough=enough, at_once=at_once, density=table)
    device.decide(_PER_WEIGHT * len(nodes.alphas))
    return points.attribution(nodes.weights()[np.searchsorted(nodes.alphas, points.alphas)])
