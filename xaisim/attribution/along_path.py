"""Methods along the straight path from a baseline: Integrated Gradients and what spends its points better.

integrated_gradients(device, model.graph, x, target, n_steps=50)
non_uniform(device, model.graph, x, target, n_steps=50, n_intervals=4)
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution import path_kernels as kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import FUNCTION, apportion, score_operations, scores, sort_operations
from xaisim.attribution.kernels import forward
from xaisim.attribution.paths import Table, least_points, path
from xaisim.ir.graph import Array, Graph

Ends = dict[str, Array | Tensor]
"""Both ends of a path, as kernels read them."""


def ends_of(x: Array, baseline: Array | float) -> Ends:
    """Return both ends; the baseline has the shape of ``x`` (1, C, H, W) or stretches to it."""
    return {"path.x": x, "path.baseline": np.broadcast_to(np.asarray(baseline, np.float64), x.shape)}


def integrate(device: Device, graph: Graph, ends: Ends, target: int, table: Table, score: str) -> Tensor:
    """Launch a path whose points and weights are known: (x − x') ⊙ Σ w_k ∇F(γ(α_k))."""
    alphas, weights = table
    # Weights travel as n·w, which is 1 for the uniform rules; 1/n is multiplied in once, at the end.
    feeds = {**ends, "path.alpha": alphas, "path.weight": weights * len(alphas)}
    launch = kernels.path_gradient(graph, target, score)
    return finish(device, ends, device.launch(launch, feeds, trips=len(alphas))["path.total"], len(alphas))


def finish(device: Device, ends: Ends, total: Tensor, n_steps: int) -> Tensor:
    """Launch the end of a path: (x − x') ⊙ total / n."""
    kernel = kernels.path_result(total.type.shape, total.type, n_steps)
    return device.launch(kernel, {**ends, "path.total": total})["attribution"]


def probed(device: Device, graph: Graph, ends: Ends, target: int, alphas: Array, score: str) -> Array:
    """Return F at points of the path, from one batch of forward passes that the host reads back."""
    feeds = {**ends, "path.alpha": alphas}
    logits = device.launch(kernels.probe(graph), feeds, trips=len(alphas), sync=True)[graph.outputs[0]].real()
    logits = np.broadcast_to(logits, (len(alphas), *logits.shape[1:]))
    device.decide(score_operations(logits.shape, score))
    return scores(logits, target, score)


def check_path(*, n_steps: int, rule: str, **_: object) -> None:
    """Raise ``ValueError`` where a rule has too few points."""
    path(rule, n_steps)


def check_intervals(*, n_steps: int, n_intervals: int, rule: str, **_: object) -> None:
    """Raise ``ValueError`` where an interval could not get the points that its rule needs."""
    least = n_intervals * least_points(rule)
    if n_steps < least:
        raise ValueError(f"n_steps must be at least {least} for {n_intervals} intervals of {rule}, got {n_steps}")


def integrated_gradients(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    rule: str = "riemann_middle",
    score: str = "logit",
) -> Tensor:
    """(x − x') ⊙ ∫ ∇F along the straight path from ``baseline`` (Sundararajan et al. 2017).

    ``baseline`` is in the network's normalised input space; ``rule`` names the quadrature (see ``PATH_RULES``);
    ``score`` is what is explained, the class's ``logit`` or its ``probability``.
    """
    device.launch(forward(graph), {"input": x}, sync=True)
    return integrate(device, graph, ends_of(x, baseline), target, path(rule, n_steps), score)


def non_uniform(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    n_intervals: int = 4,
    exponent: float = 0.5,
    rule: str = "riemann_middle",
    score: str = "probability",
) -> Tensor:
    """Integrated Gradients with more points where F changes: NUIG (Bhat & Raychowdhury 2023).

    ``n_intervals`` + 1 forward passes probe F; interval j gets a share of the ``n_steps`` points in proportion to
    |F_{j+1} − F_j|^``exponent``, at least one (two where ``rule`` has both ends), and ``rule`` inside.
    """
    ends = ends_of(x, baseline)
    device.launch(forward(graph), {"input": x}, sync=True)
    values = probed(device, graph, ends, target, np.linspace(0, 1, n_intervals + 1), score)
    counts = allocate(values, n_steps, exponent, least_points(rule))
    device.decide(n_intervals * (FUNCTION + 8) + sort_operations(n_intervals) + 4 * n_steps)
    return integrate(device, graph, ends, target, in_intervals(counts, rule), score)


def allocate(values: Array, n_steps: int, exponent: float, least: int = 1) -> Array:
    """Return how many of ``n_steps`` points each interval between probed ``values`` gets, at least ``least``."""
    return apportion(np.abs(np.diff(values)) ** exponent, n_steps, least)


def in_intervals(counts: Array, rule: str) -> Table:
    """Return (α, w) of equal intervals of [0, 1] with ``counts`` points of ``rule`` in each; α ascends."""
    width = 1 / len(counts)
    parts = [path(rule, int(count)) for count in counts]
    alphas = np.concatenate([(j + alpha) * width for j, (alpha, _) in enumerate(parts)])
    return alphas, np.concatenate([weight * width for _, weight in parts])
