"""SmoothTaylor with the noise that makes its map best: a line search over σ, decided by the host.

adaptive_smooth_taylor(device, model.graph, x, target, criterion="autvc")
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np

from xaisim.attribution import smoothing_kernels as kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.host import sort_operations
from xaisim.attribution.kernels import forward
from xaisim.attribution.smoothing import LEAST_SIGMA, MOST_SIGMA, noisy, register, smooth_taylor, taylor_average
from xaisim.attribution.smoothing_kernels import Noise
from xaisim.config import UserError
from xaisim.ir.graph import Array, Graph
from xaisim.metrics.faithfulness import aupc, default_window
from xaisim.metrics.image import plane, pyramid
from xaisim.metrics.noise import autvc

Criterion = Literal["autvc", "aupc"]

_RATE, _DECAY, _MOST_STOPS = 0.1, 0.9, 3
_DRAWS = 50
"""Fillings of a window that AUPC draws; the machine scores them in one launch."""
_PIXEL = 12
"""Operations on a pixel of a map: channels added up, size, least and largest, scaling, two differences with sizes."""
_TAPS = 2 * 5 * 2
"""Operations of smoothing a pixel of a pyramid: 5 taps down and 5 across, a product and an addition each."""
MOST_REGIONS = 30
_DRAW = 10
"""Operations of a uniform number within bounds."""


def adaptive_smooth_taylor(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    n_samples: int = 150,
    n_iterations: int = 20,
    criterion: Criterion = "autvc",
    score: str = "logit",
    noise: str = "host",
    noise_seed: int = 0,
) -> Tensor:
    """SmoothTaylor at the σ of least AUTVC or AUPC of its map: adaptive noising (Goh et al. 2020).

    The search begins at σ = mean |x|, goes ``n_iterations`` times at most, and looks at two σ each time; every σ sees
    the same noise. AUTVC is the host's work; for AUPC the machine scores pictures in which regions were filled.
    """
    source = Noise(noise, noise_seed)
    device.launch(forward(graph), {"input": x}, sync=True)
    feeds = noisy(device, x, 1.0, source, n_samples)
    maps: dict[float, Tensor] = {}

    def cost(sigma: float) -> float:
        own = feeds | {"smooth.sigma": register(sigma)}
        maps[sigma] = taylor_average(device, graph, target, own, n_samples, source, score, sync=True)
        return judged(device, graph, x, target, maps[sigma].real(), criterion)

    start = starting_sigma(x)
    if device.dry:  # no map says anything: as many as there can be
        for _ in range(1 + 2 * n_iterations):
            cost(start)
        return maps[start]
    return maps[search(cost, start, n_iterations)]


def for_calibration(
    device: Device, graph: Graph, x: Array, target: int, *, n_samples: int, score: str, noise: str, noise_seed: int,
    **_: object,
) -> None:  # fmt: skip
    """Run SmoothTaylor where the search begins and five steps of it further up, in place of the search."""
    for sigma in (starting_sigma(x), starting_sigma(x) + 5 * _RATE):
        smooth_taylor(
            device, graph, x, target, n_samples=n_samples, sigma=sigma, score=score, noise=noise, noise_seed=noise_seed
        )


def starting_sigma(x: Array) -> float:
    """Return mean |x|, in the range that the machine has for σ."""
    return min(max(float(np.abs(x).mean()), LEAST_SIGMA), MOST_SIGMA)


def search(cost: Callable[[float], float], start: float, iterations: int) -> float:
    """Return the σ of least cost that a search from ``start`` meets, in at most 1 + 2 · ``iterations`` evaluations.

    It steps up where that is better, else down; where neither is, the step shrinks by a tenth, and at the fourth such
    time in a row the search ends.
    """
    best, least, rate, stops = start, cost(start), _RATE, 0
    for _ in range(iterations):
        for step in (rate, -rate):
            sigma = min(max(abs(best + step), LEAST_SIGMA), MOST_SIGMA)
            found = cost(sigma)
            if found < least:
                best, least, stops = sigma, found, 0
                break
        else:
            rate, stops = rate * _DECAY, stops + 1
            if stops > _MOST_STOPS:
                break
    return best


def judged(device: Device, graph: Graph, x: Array, target: int, map: Array, criterion: Criterion) -> float:
    """Return AUTVC or AUPC of a map (1, C, H, W), with what it takes of the host and the machine counted."""
    if criterion == "autvc":
        device.decide(autvc_operations(map.shape))
        return autvc(map).area
    device.decide(window_operations(map.shape))
    try:
        return aupc(partial(machine_scores, device, graph, x), x, map, target, draws=_DRAWS, batch_size=_DRAWS).area
    except ValueError as error:
        raise UserError(f"criterion aupc: {error} (autvc needs no score)") from None


def machine_scores(device: Device, graph: Graph, x: Array, pictures: Array) -> Array:
    """Return logits (N, classes) of pictures from one launch; the host has filled a window of each, and sorts."""
    kernel = kernels.forward_each(graph)
    made = device.launch(kernel, {"input": pictures}, trips=len(pictures), sync=True)[graph.outputs[0]].real()
    filled = len(pictures) * x.shape[1] * default_window(x) ** 2
    device.decide(filled * _DRAW + sort_operations(len(pictures)))
    return np.ones((len(pictures), made.shape[1])) if device.dry else made


def window_operations(shape: tuple[int, ...]) -> int:
    """Return the host's operations of choosing AUPC's windows: a moving mean, then the largest, again and again."""
    side = default_window(np.zeros(shape))
    return math.prod(shape) + math.prod(shape[-2:]) * (2 * side * 2 + MOST_REGIONS)


def autvc_operations(shape: tuple[int, ...]) -> int:
    """Return the host's operations of AUTVC: each level smoothed, resampled, sorted for its percentile, summed."""
    height, width = shape[-2:]
    operations = math.prod(shape)
    for level in pyramid(plane(np.zeros((1, height, width)))):
        operations += level.size * (_TAPS + _PIXEL) + sort_operations(level.size)
    return operations
