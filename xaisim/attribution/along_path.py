"""Methods along the straight path from a baseline: Integrated Gradients and what spends its points better.

integrated_gradients(device, model.graph, x, target, n_steps=50)
non_uniform(device, model.graph, x, target, n_steps=50, n_intervals=4)
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution import path_kernels as kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import FUNCTION, score_operations, scores, sort_operations
from xaisim.attribution.kernels import forward
from xaisim.attribution.paths import Table, least_points, path
from xaisim.attribution.points import Feeds, Points, ends_of, finish
from xaisim.attribution.sampling import allocate, check_refinable, equidistributed, finer, in_intervals, refinements
from xaisim.ir.graph import Array, Graph


def integrate(device: Device, graph: Graph, ends: Feeds, target: int, table: Table, score: str) -> Tensor:
    """Launch a path whose points and weights are known: (x − x') ⊙ Σ w_k ∇F(γ(α_k))."""
    alphas, weights = table
    # Weights travel as n·w, which is 1 for the uniform rules; 1/n is multiplied in once, at the end.
    feeds = {**ends, "path.alpha": alphas, "path.weight": weights * len(alphas)}
    launch = kernels.path_gradient(graph, target, score)
    return finish(device, ends, device.launch(launch, feeds, trips=len(alphas))["path.total"], 1 / len(alphas))


def probed(device: Device, graph: Graph, ends: Feeds, target: int, alphas: Array, score: str) -> Array:
    """Return F at points of the path, from one batch of forward passes that the host reads back."""
    feeds = {**ends, "path.alpha": alphas}
    logits = device.launch(kernels.probe(graph), feeds, trips=len(alphas), sync=True)[graph.outputs[0]].real()
    logits = np.broadcast_to(logits, (len(alphas), *logits.shape[1:]))
    device.decide(score_operations(logits.shape, score))
    return scores(logits, target, score)


def infer(device: Device, graph: Graph, x: Array) -> Array:
    """Launch inference, which every explanation begins with; return the logits (N, classes), which the host reads."""
    return device.launch(forward(graph), {"input": x}, sync=True)[graph.outputs[0]].real()


def score_at_x(device: Device, logits: Array, target: int, score: str) -> float:
    """Return F(x) from the logits of inference, right behind it."""
    device.decide(score_operations((1, logits.shape[1]), score))
    return float(scores(logits[:1], target, score)[0])


def check_path(*, n_steps: int, rule: str, stop_at_delta: float | None = None, **_: object) -> None:
    """Raise ``ValueError`` where a rule has too few points, or cannot be refined."""
    path(rule, n_steps)
    if stop_at_delta is not None:
        check_refinable(rule)


def check_intervals(
    *, n_steps: int, n_intervals: int, rule: str, stop_at_delta: float | None = None, **_: object
) -> None:
    """Raise ``ValueError`` where an interval could not get the points that its rule needs, or cannot be refined."""
    least = n_intervals * least_points(rule)
    if n_steps < least:
        raise ValueError(f"n_steps must be at least {least} for {n_intervals} intervals of {rule}, got {n_steps}")
    if stop_at_delta is not None:
        check_refinable(rule)


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
    stop_at_delta: float | None = None,
) -> Tensor:
    """(x − x') ⊙ ∫ ∇F along the straight path from ``baseline`` (Sundararajan et al. 2017).

    ``baseline`` is in the network's normalised input space; ``rule`` names the quadrature (see ``PATH_RULES``);
    ``score`` is what is explained, the class's ``logit`` or its ``probability``. With ``stop_at_delta`` a coarse path
    is refined, up to ``n_steps`` points, until |δ| is at most that share of |F(x) − F(x')|; no point is taken twice.
    """
    logits, ends = infer(device, graph, x), ends_of(x, baseline)
    if stop_at_delta is None:
        return integrate(device, graph, ends, target, path(rule, n_steps), score)
    high = score_at_x(device, logits, target, score)
    difference = high - float(probed(device, graph, ends, target, np.zeros(1), score)[0])
    tables = (path(rule, count) for count in refinements(rule, n_steps))
    return Points(device, graph, ends, target, score).until_complete(tables, difference, stop_at_delta)


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
    stop_at_delta: float | None = None,
) -> Tensor:
    """Integrated Gradients with more points where F changes: NUIG (Bhat & Raychowdhury 2023).

    ``n_intervals`` + 1 forward passes probe F; interval j gets a share of the ``n_steps`` points in proportion to
    |F_{j+1} − F_j|^``exponent``, at least one (two where ``rule`` has both ends), and ``rule`` inside.
    ``stop_at_delta`` as for Integrated Gradients: a coarse allocation is refined in every interval.
    """
    ends = ends_of(x, baseline)
    infer(device, graph, x)
    values = probed(device, graph, ends, target, np.linspace(0, 1, n_intervals + 1), score)
    first = n_steps
    if stop_at_delta is not None:
        first = refinements(rule, n_steps, 2 * n_intervals * least_points(rule))[0]
    counts = allocate(values, first, exponent, least_points(rule))
    device.decide(n_intervals * (FUNCTION + 8) + sort_operations(n_intervals) + 4 * n_steps)
    if stop_at_delta is None:
        return integrate(device, graph, ends, target, in_intervals(counts, rule), score)
    tables = (in_intervals(each, rule) for each in finer(counts, rule, n_steps))
    difference = float(values[-1] - values[0])
    return Points(device, graph, ends, target, score).until_complete(tables, difference, stop_at_delta)


def learnt_path(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    table: Array,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    score: str = "probability",
) -> Tensor:
    """Integrated Gradients at points learnt once per model: RiemannOpt (Swain & Singhi 2024), no probe per picture.

    ``table`` is the density of points on equal parts of the path, as ``xaisim fit-path`` learns and stores it.
    """
    infer(device, graph, x)
    return integrate(device, graph, ends_of(x, baseline), target, equidistributed(table, n_steps), score)
