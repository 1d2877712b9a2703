"""Paths that begin at many baselines, or lead through blurs of the picture: points differ by more than a number.

expected_gradients(device, model.graph, x, target, baselines=scenes, n_samples=50)
blur_ig(device, model.graph, x, target, n_steps=50)
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution import path_kernels as kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import FUNCTION
from xaisim.attribution.kernels import forward
from xaisim.attribution.smoothing import mean_of
from xaisim.ir.graph import Array, Graph

_DRAW = 10
"""Operations of the host per drawn number."""
_MAX_SIGMA, _SIDE = 50.0, 224
"""The published widest blur and the side of the pictures it is for; others in proportion."""


def expected_gradients(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baselines: Array,
    n_samples: int = 50,
    points: str = "random",
    score: str = "logit",
    noise_seed: int = 0,
) -> Tensor:
    """(x − x') ⊙ ∇F averaged over baselines x' and points between (Erion et al. 2021).

    ``baselines`` (M, C, H, W) are drawn with ``noise_seed``, one for each of ``n_samples``; ``points`` are uniform
    (``random``) or the middles of equal parts of the way (``midpoint``). The host puts the baselines in the order of
    the samples into DRAM.
    """
    drawn = np.random.RandomState(noise_seed)  # frozen by NumPy, so that a seed means the same everywhere
    starts = baselines[drawn.randint(len(baselines), size=n_samples)]
    alphas = drawn.random_sample(n_samples) if points == "random" else (np.arange(n_samples) + 0.5) / n_samples
    device.launch(forward(graph), {"input": x}, sync=True)
    device.decide(2 * n_samples * _DRAW + n_samples * x[0].size)
    feeds = {"path.x": x, "path.baseline": starts, "path.alpha": alphas}
    made = device.launch(kernels.expected_gradient(graph, target, score), feeds, trips=n_samples)
    return mean_of(device, made["path.total"], n_samples)


def blur_ig(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    n_steps: int = 50,
    max_sigma: float | None = None,
    score: str = "logit",
) -> Tensor:
    """Integrated Gradients from a blurred picture to the sharp one, by ever weaker blurs (Xu et al. 2020).

    The first Gaussian has deviation ``max_sigma`` (50 pixels of 224 by default), and deviations fall evenly; gradients
    are taken in the middle of a step. The host blurs, and leaves points and steps in DRAM. Outside the picture is 0.
    """
    widest = _MAX_SIGMA * x.shape[-1] / _SIDE if max_sigma is None else max_sigma
    device.launch(forward(graph), {"input": x}, sync=True)
    ends = [blurred(x, widest * (1 - j / n_steps)) for j in range(n_steps + 1)]
    middles = [blurred(x, widest * (1 - (j + 0.5) / n_steps)) for j in range(n_steps)]
    device.decide(blur_operations(x.shape, widest, n_steps))
    feeds = {"input": np.concatenate(middles), "path.move": np.diff(np.concatenate(ends), axis=0)}
    kernel = kernels.given_path_gradient(graph, target, score)
    return device.launch(kernel, feeds, trips=n_steps)["path.total"]


def blurred(x: Array, sigma: float) -> Array:
    """Return pictures (N, C, H, W) under a Gaussian that is cut off beyond 4σ, with zeros around them."""
    rows, columns = (_gaussian(side, sigma) for side in x.shape[-2:])
    return np.asarray(rows @ x @ columns.T)


def _gaussian(side: int, sigma: float) -> Array:
    """Return the (side, side) matrix of a Gaussian along an axis."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return np.eye(side)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    away = np.subtract.outer(np.arange(side), np.arange(side)) + radius
    inside = (away >= 0) & (away <= 2 * radius)
    return np.where(inside, (taps / taps.sum())[np.clip(away, 0, 2 * radius)], 0.0)


def blur_operations(shape: tuple[int, ...], widest: float, n_steps: int) -> int:
    """Return the host's operations: taps down and across every pixel of every blur, and the difference of two."""
    _, channels, height, width = shape
    operations = 0
    for half in range(2 * n_steps):
        taps = 2 * int(4 * widest * (1 - half / (2 * n_steps)) + 0.5) + 1
        operations += 2 * channels * height * width * (min(taps, height) + min(taps, width)) + taps * FUNCTION
    return operations + n_steps * channels * height * width
