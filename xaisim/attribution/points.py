"""Points of a path whose gradients stay in DRAM until the host knows what each is worth.

points = Points(device, graph, ends_of(x, baseline), target, "probability")
points.launch(alphas); points.values, points.slopes          F and dF/dα, which the host has read
points.attribution(weights)                                  (x − x') ⊙ Σ w · gradient
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from xaisim.attribution import path_kernels as kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import score_operations, scores
from xaisim.attribution.paths import Table
from xaisim.attribution.sampling import merged
from xaisim.ir.graph import Array, Graph

Feeds = dict[str, Array | Tensor]
"""What a launch reads, by name."""


def ends_of(x: Array, baseline: Array | float) -> Feeds:
    """Return both ends; the baseline has the shape of ``x`` (1, C, H, W) or stretches to it."""
    return {"path.x": x, "path.baseline": np.broadcast_to(np.asarray(baseline, np.float64), x.shape)}


def finish(device: Device, ends: Feeds, total: Tensor, factor: float) -> Tensor:
    """Launch the end of a path: (x − x') ⊙ total · factor."""
    kernel = kernels.path_result(total.type.shape, factor)
    return device.launch(kernel, {**ends, "path.total": total})["attribution"]


class Points:
    """What was launched so far, in the order of launches; the host reads scores and slopes back each time."""

    def __init__(self, device: Device, graph: Graph, ends: Feeds, target: int, score: str) -> None:
        self.device, self.graph, self.ends, self.target, self.score = device, graph, ends, target, score
        self.alphas = np.zeros(0)
        self.values = np.zeros(0)
        """F at each point."""
        self.slopes = np.zeros(0)
        """dF/dα at each point, as the machine sums it up."""
        self.gradients: list[Tensor] = []

    def launch(self, alphas: Array) -> None:
        """Take the gradient at more points of the path."""
        if not len(alphas):
            return
        kernel = kernels.point_gradients(self.graph, self.target, self.score)
        feeds = {**self.ends, "path.alpha": alphas}
        made = self.device.launch(kernel, feeds, trips=len(alphas), sync=True)
        logits, gradient, *parts = (made[name] for name in kernel.graph.outputs)
        count = len(alphas)
        rows = np.broadcast_to(logits.real(), (count, *logits.type.shape))
        slopes = np.sum([part.real()[:, 0] for part in parts], axis=0)
        self.device.decide(score_operations(rows.shape, self.score) + count * len(parts))
        self.alphas = np.concatenate([self.alphas, alphas])
        self.values = np.concatenate([self.values, scores(rows, self.target, self.score)])
        self.slopes = np.concatenate([self.slopes, np.broadcast_to(slopes, count)])
        self.gradients.append(gradient)

    @property
    def gradient(self) -> Tensor:
        """The gradients of all points, (points, C, H, W)."""
        first, *others = self.gradients
        return first.followed_by(*others)

    def attribution(self, weights: Array) -> Tensor:
        """Launch (x − x') ⊙ Σ w_k ∇F(γ(α_k)) for weights in the order of launches."""
        # They travel as shares of a power of two that none exceeds, so that a format holds those of every picture.
        most = float(np.abs(weights).max())
        scale = 2.0 ** math.ceil(math.log2(most)) if most > 0 else 1.0
        feeds: Feeds = {"path.gradient": self.gradient, "path.weight": weights / scale}
        total = self.device.launch(kernels.weighted_sum(self.gradient.type.shape), feeds, trips=len(weights))
        return finish(self.device, self.ends, total["path.total"], scale)

    def until_complete(self, tables: Iterable[Table], difference: float, threshold: float) -> Tensor:
        """Launch what each table adds to those before, until |δ| ≤ ``threshold`` · |F(x) − F(x')|, and sum the last up.

        ``difference`` is F(x) − F(x'). A dry device goes to the end, which is the most that there can be.
        """
        weights = np.zeros(0)
        for table in tables:
            alphas, shares = merged(table)
            self.launch(np.setdiff1d(alphas, self.alphas))
            weights = np.zeros(len(self.alphas))
            weights[np.argsort(self.alphas)[np.searchsorted(np.sort(self.alphas), alphas)]] = shares
            gap = float(weights @ self.slopes) - difference
            self.device.decide(2 * len(weights) + 2)
            if not self.device.dry and abs(gap) <= threshold * abs(difference):
                break
        return self.attribution(weights)
