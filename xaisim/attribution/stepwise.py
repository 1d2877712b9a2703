"""Methods whose every step needs the last: Guided IG and AGI, a few launches per step with the host between them.

guided_ig(device, model.graph, x, target, n_steps=200, fraction=0.25)
agi(device, model.graph, x, target, k_classes=20, max_iter=20)

Nothing is in flight beside the one point. What stops a loop early must be seen: the zeros of a device that computes
nothing stop none, so a profile times as many launches as there can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xaisim.attribution import stepwise_kernels as kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import sort_operations
from xaisim.attribution.kernels import forward
from xaisim.ir.graph import Array, Graph

Feed = Array | Tensor


def guided_ig(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    score: str = "logit",
) -> Tensor:
    """Integrated Gradients along a path that moves the features of small gradient first (Kapishnikov et al. 2021).

    Every step takes the gradient once, then moves the ``fraction`` of features with the smallest |gradient|, of those
    short of their bound, until the L1 distance to ``x`` is 1/``n_steps`` of the whole less. No feature is farther than
    ``max_dist`` from its place on the straight path.
    """
    device.launch(forward(graph), {"input": x}, sync=True)
    start = np.broadcast_to(np.asarray(baseline, np.float64), x.shape)
    shape = graph.inputs["input"].shape
    kernel = kernels.point_gradient(graph, target, score)
    path = _GuidedPath(device, shape, {"input@start": start, "input@end": x}, fraction)
    point: Feed = start
    total: Feed = np.zeros(x.shape)
    distance = 0.0
    for step in range(1, n_steps + 1):
        gradient = device.launch(kernel, {"input": point})[kernel.graph.outputs[-1]]
        if step == 1:
            distance = path.distance(point, gradient)
        bounds = max(0.0, step / n_steps - max_dist), min(1.0, step / n_steps + max_dist)
        caught, aim, share = path.advance(point, gradient, bounds, distance * (n_steps - step), n_steps)
        feeds = {"input": point, "input@caught": caught, "input@aim": aim, "path.alpha@share": np.array([share]),
                 "step.gradient": gradient, "attribution.sum": total}  # fmt: skip
        moved = device.launch(kernels.movement(shape), feeds)
        point, total = moved["input@next"], moved["attribution.sum@next"]
    return device.launch(kernels.summed(shape, 1.0), {"attribution.sum": total})["attribution"]


def selections(fraction: float) -> int:
    """Return how many selections bring every feature to its bound: ⌈1/fraction⌉.

    Of N features a selection takes at least ``selected_at_once`` > fraction · (N − 1), or all that are left, and what
    has moved is not eligible again. So ⌈1/fraction⌉ of them take more than N − 1. Then the distance is that of the
    upper bounds, which is no more than the step's target; but for rounding, the last one is a partial move.
    """
    return math.ceil(1 / fraction)


def selected_at_once(features: int, fraction: float) -> int:
    """Return how many features a selection takes: up to the lower ``fraction`` quantile of all, itself included."""
    return math.floor(fraction * (features - 1)) + 1


@dataclass(slots=True)
class _GuidedPath:
    """The inner loop of Guided IG: selections until a step's target is met, the host reading two sums of each."""

    device: Device
    shape: tuple[int, ...]
    ends: dict[str, Feed]
    fraction: float

    def select(self, point: Feed, gradient: Tensor, bounds: tuple[float, float]) -> dict[str, Tensor]:
        """Launch a selection and read its sums back."""
        count = selected_at_once(math.prod(self.shape), self.fraction)
        scalars = {"path.alpha@least": np.array(bounds[:1]), "path.alpha@most": np.array(bounds[1:])}
        feeds = {"input": point, "step.gradient": gradient, **self.ends, **scalars}
        found = self.device.launch(kernels.selection(self.shape, count), feeds, sync=True)
        self.device.decide(2 * self.shape[0] + 8)  # two sums over channels, the gap, comparisons, a quotient
        return found

    def distance(self, point: Feed, gradient: Tensor) -> float:
        """Return the L1 distance from the beginning to the end of the path."""
        return _sum(self.select(point, gradient, (0.0, 0.0))["step.left"])

    def advance(
        self, point: Feed, gradient: Tensor, bounds: tuple[float, float], target: float, scale: int
    ) -> tuple[Tensor, Tensor, float]:
        """Return what the last move of a step is from and to, and which share of the way is gone.

        ``target`` is the distance to be left, times ``scale``: sums of integers, so that comparisons are exact.
        """
        for _ in range(selections(self.fraction)):
            found = self.select(point, gradient, bounds)
            left, reach = _sum(found["step.left"]), _sum(found["step.reach"])
            caught, aim = found["input@caught"], found["input@aim"]
            gap = left * scale - target
            if left > 0 and gap <= reach * scale:
                return caught, aim, max(0.0, gap) / (reach * scale) if reach else 0.0
            point = aim
        return aim, aim, 0.0


def _sum(channels: Tensor) -> float:
    """Return a sum over channels: of integers below 2^53, exact."""
    return float(channels.real().sum())


def agi(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    k_classes: int = 20,
    max_iter: int = 20,
    step_size: float = 0.05,
    reference_compat: bool = False,
    pixel_range: tuple[Array | float, Array | float] = (0.0, 1.0),
) -> Tensor:
    """Gradients along paths to adversarial images, one to each of the likeliest other classes (Pan et al. 2021).

    Towards each of the ``k_classes`` classes t of highest score, all others at most, up to ``max_iter`` steps along
    sign(∇p_t) of ``step_size`` of the pixels' range, clipped to it; a step counts −∇p_target ⊙ step, and the path ends
    where t is predicted. ``pixel_range`` is black and white in the network's normalised input space.
    ``reference_compat``: every step begins at ``x``, as in the authors' code, not where the last one ended.
    """
    output = graph.outputs[0]
    scores = device.launch(forward(graph), {"input": x}, sync=True)[output].real()[0]
    order = np.argsort(-scores, kind="stable")
    device.decide(sort_operations(len(scores)))
    low, high = (np.broadcast_to(np.asarray(end, np.float64), x.shape) for end in pixel_range)
    fixed: dict[str, Feed] = {"input@low": low, "input@high": high, "input@size": step_size * (high - low)}
    if reference_compat:
        fixed["input@origin"] = x
    kernel = kernels.adversarial(graph, target, from_origin=reference_compat)
    total: Feed = np.zeros(x.shape)
    for other in order[order != target][:k_classes]:
        point: Feed = x
        row = np.eye(len(scores))[other].reshape(1, 1, 1, -1)
        for _ in range(max_iter):
            feeds = {"input": point, "step.class": row, "attribution.sum": total, **fixed}
            found = device.launch(kernel, feeds, sync=True)
            logits = found[output].real()[0]
            device.decide(2 * len(logits))  # a load and a comparison each
            if logits[other] > np.delete(logits, other).max():
                break  # t is predicted here already: this step is not made
            point, total = found["input@next"], found["attribution.sum@next"]
    return device.launch(kernels.summed(graph.inputs["input"].shape, -1.0), {"attribution.sum": total})["attribution"]
