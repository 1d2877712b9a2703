"""Methods that average over noisy copies of a picture: SmoothGrad and SmoothTaylor.

smoothgrad(device, model.graph, x, target, n_samples=50, stdev_spread=0.15)
smooth_taylor(device, model.graph, x, target, n_samples=150, sigma=0.5)
"""

from __future__ import annotations

import math

import numpy as np

from xaisim.attribution import smoothing_kernels as kernels
from xaisim.attribution.device import Device, Given, Kernel, Tensor
from xaisim.attribution.kernels import forward
from xaisim.attribution.smoothing_kernels import SIGMA, TRIP, Noise, Variant
from xaisim.ir.graph import Array, Graph
from xaisim.ir.noise import HOST_WORK, UNIT, HostNoise
from xaisim.ir.types import TensorType

_SPREAD = 0.15
"""The published spread of SmoothGrad's noise: its σ as a share of the picture's range."""
LEAST_SIGMA = SIGMA.step
MOST_SIGMA = math.floor(SIGMA.high * SIGMA.step)

Feeds = dict[str, Array | Tensor]


def smoothgrad(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    n_samples: int = 50,
    sigma: float | None = None,
    stdev_spread: float | None = None,
    variant: Variant = "plain",
    score: str = "logit",
    noise: str = "host",
    noise_seed: int = 0,
) -> Tensor:
    """The gradient averaged over noisy copies of the picture (Smilkov et al. 2017).

    Noise has deviation ``sigma``, or ``stdev_spread`` · (max − min) of the picture (0.15 of it where neither is
    given). ``variant`` averages gradients (``plain``) or their squares (``squared``), or gives the gradients' variance
    (``vargrad``). ``noise`` comes from the ``host`` or is made on the chip (``lfsr``).
    """
    if sigma is None:
        sigma = (_SPREAD if stdev_spread is None else stdev_spread) * float(x.max() - x.min())
    source = Noise(noise, noise_seed)
    device.launch(forward(graph), {"input": x}, sync=True)
    feeds = noisy(device, x, sigma, source, n_samples) | {"smooth.one": np.ones(n_samples)}
    totals = device.launch(kernels.smoothgrad(graph, target, source, variant, score), feeds, trips=n_samples)
    if variant == "vargrad":
        ending: Kernel = kernels.variance(totals["smooth.total"].type, n_samples)
        return device.launch(ending, totals)["attribution"]
    (total,) = totals.values()
    return mean_of(device, total, n_samples)


def smooth_taylor(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    n_samples: int = 150,
    sigma: float = 0.5,
    score: str = "logit",
    noise: str = "host",
    noise_seed: int = 0,
) -> Tensor:
    """(x − z) ⊙ ∇F(z) averaged over z = x + noise: SmoothTaylor (Goh et al. 2020).

    ``sigma`` is in the network's normalised input space; ``noise`` as in SmoothGrad.
    """
    device.launch(forward(graph), {"input": x}, sync=True)
    feeds = noisy(device, x, sigma, Noise(noise, noise_seed), n_samples)
    return taylor_average(device, graph, target, feeds, n_samples, Noise(noise, noise_seed), score)


def taylor_average(
    device: Device, graph: Graph, target: int, feeds: Feeds, n_samples: int, noise: Noise, score: str, *,
    sync: bool = False,
) -> Tensor:  # fmt: skip
    """Launch SmoothTaylor on samples that :func:`noisy` describes, and its mean, which the host reads if ``sync``."""
    total = device.launch(kernels.smooth_taylor(graph, target, noise, score), feeds, trips=n_samples)["smooth.total"]
    return mean_of(device, total, n_samples, sync=sync)


def mean_of(device: Device, total: Tensor, n_samples: int, *, sync: bool = False) -> Tensor:
    """Launch the end of an average."""
    return device.launch(kernels.mean(total.type, n_samples), {"smooth.total": total}, sync=sync)["attribution"]


def noisy(device: Device, x: Array, sigma: float, noise: Noise, n_samples: int) -> Feeds:
    """Return what kernels read of ``n_samples`` samples around ``x``; noise of the host is drawn, and counted, now."""
    feeds: Feeds = {"smooth.x": x, "smooth.sigma": register(sigma)}
    if noise.on_chip:
        return feeds | {"smooth.trip": Given(np.arange(n_samples), TensorType((), TRIP))}
    shape = x.shape[1:]
    device.decide(n_samples * math.prod(shape) * HOST_WORK)
    drawn = np.zeros((1, *shape), np.int64) if device.dry else HostNoise(UNIT, 1.0, noise.seed).draw(shape, n_samples)
    return feeds | {"smooth.noise": Given(drawn, TensorType(shape, UNIT))}


def register(sigma: float) -> Given:
    """Return σ as the machine holds it; any device computes with this very number."""
    return Given(np.array([math.floor(sigma / SIGMA.step + 0.5)]), TensorType((), SIGMA))


def check_noise(*, sigma: float | None = None, stdev_spread: float | None = None, **_: object) -> None:
    """Raise ``ValueError`` where two options both say how strong the noise is."""
    if sigma is not None and stdev_spread is not None:
        raise ValueError(
            f"sigma {sigma:g} and stdev_spread {stdev_spread:g} both say how strong the noise is; give one"
        )
