"""Methods along the straight path whose weights follow from what was found on it: left-IG, IDG, IDGI.

left_integrated_gradients(device, model.graph, x, target, n_steps=50, threshold=0.9)
decision_gradients(device, model.graph, x, target, n_pilots=50, n_steps=50)

Gradients stay in DRAM; the host reads what it needs of them and launches their weighted sum.
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution import path_kernels as kernels
from xaisim.attribution.along_path import infer, probed, score_at_x
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import FUNCTION, sort_operations
from xaisim.attribution.paths import path
from xaisim.attribution.points import Feeds, Points, ends_of
from xaisim.attribution.sampling import decision_counts, forward_slopes, in_decisions, kept_before
from xaisim.ir.graph import Array, Graph

_PER_PRODUCT = 3
"""Operations of the host per term of a sum of products: a load, the product, the addition."""


def left_integrated_gradients(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    rule: str = "riemann_left",
    threshold: float = 0.9,
    score: str = "logit",
) -> Tensor:
    """Integrated Gradients up to where F first exceeds ``threshold`` of its maximum (Miglani et al. 2020).

    The gradients of the points before are averaged with the weights of ``rule``, scaled to sum to 1. Not complete.
    """
    infer(device, graph, x)
    points = Points(device, graph, ends_of(x, baseline), target, score)
    alphas, weights = path(rule, n_steps)
    points.launch(alphas)
    kept = kept_before(points.values, threshold)
    device.decide(3 * n_steps)
    share = np.where(np.arange(n_steps) < kept, weights, 0.0)
    return points.attribution(share / share.sum())


def check_pilots(*, n_pilots: int, n_steps: int, **_: object) -> None:
    """Raise ``ValueError`` where there is no interval between pilots, or no sample."""
    if n_pilots < 2:
        raise ValueError(f"n_pilots must be at least 2, got {n_pilots}")
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")


def decision_gradients(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_pilots: int = 50,
    n_steps: int = 50,
    slope: str = "dot",
    score: str = "logit",
    reference_compat: bool = False,
) -> Tensor:
    """(x − x') ⊙ ∫ ∇F · dF/dα, sampled where F rises: Integrated Decision Gradients (Walker et al. 2023).

    ``n_pilots`` forward passes say how the ``n_steps`` samples are divided. ``slope``: dF/dα as ∇F · (x − x') of each
    sample (``dot``) or as the ``difference`` over its width. ``reference_compat`` slides samples towards the baseline,
    as the authors' code does. Not complete.
    """
    infer(device, graph, x)
    ends = ends_of(x, baseline)
    pilots = probed(device, graph, ends, target, np.linspace(0, 1, n_pilots), score)
    samples = in_decisions(decision_counts(pilots, n_steps), reference_compat=reference_compat)
    device.decide(8 * n_pilots + sort_operations(n_pilots) + 4 * n_steps)
    points = Points(device, graph, ends, target, score)
    points.launch(samples[0])
    slopes = points.slopes if slope == "dot" else forward_slopes(samples, points.values, pilots)
    device.decide((2 if slope == "dot" else 6) * n_steps)
    return points.attribution(samples[1] * slopes)


def important_directions(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    score: str = "probability",
) -> Tensor:
    """Σ (F_{j+1} − F_j) · g_j² / Σ g_j²: IDGI (Yang et al. 2023), complete by construction.

    Points lie at j/``n_steps``; F(x) closes the last step. A point without any gradient contributes nothing.
    """
    high = score_at_x(device, infer(device, graph, x), target, score)
    points = Points(device, graph, ends_of(x, baseline), target, score)
    points.launch(np.arange(n_steps) / n_steps)
    gradients = points.gradient
    power = np.square(gradients.real()).reshape(len(gradients.values), -1).sum(axis=1)
    scale = np.divide(1.0, np.sqrt(power), out=np.zeros(len(power)), where=power > 0)
    device.decide(n_steps * (_PER_PRODUCT * gradients.type.size + FUNCTION + 3))
    changes = np.diff(np.append(points.values, high))
    feeds: Feeds = {"path.gradient": gradients, "path.scale": np.broadcast_to(scale, n_steps), "path.share": changes}
    total = device.launch(kernels.normal_squares(gradients.type.shape), feeds, trips=n_steps)["path.total"]
    return device.launch(kernels.as_attribution(total.type.shape), {"path.total": total})["attribution"]
