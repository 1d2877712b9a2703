"""The kernels of methods that average over noise: a trip is one sample z = x + σ · noise.

smoothgrad(graph, target=3, Noise("lfsr", 0))     gradients (or their squares) added up over all samples
smooth_taylor(graph, target=3, Noise("host"))     (x − z) ⊙ gradient added up

Noise has a deviation of 1 and a format of its own; σ is a register, so that a kernel is the same for every σ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.attribution.kernels import REMEMBERED, backpropagated
from xaisim.attribution.path_kernels import MOST_TRIPS
from xaisim.ir.graph import Graph, GraphBuilder, depends
from xaisim.ir.types import FixedPoint, TensorType

Variant = Literal["plain", "squared", "vargrad"]
SIGMA = FixedPoint(32, 20, signed=False)
"""Format of the register that σ is in: from 10^-6 to 4095."""
TRIP = FixedPoint(MOST_TRIPS.bit_length(), 0, signed=False)
"""Format of the number of a trip, which the noise of that trip follows from."""


class Noise(NamedTuple):
    """Where noise is made: ``host`` sends a tensor per trip, ``lfsr`` are registers on the chip with a ``seed``."""

    source: str
    seed: int = 0

    @property
    def on_chip(self) -> bool:
        """Whether the machine makes it."""
        return self.source == "lfsr"


def _at_a_sample(inner: Graph, noise: Noise) -> GraphBuilder:
    """Return a builder with ``inner`` behind the noise: its input is the sample.

    Inputs ``smooth.x`` and ``smooth.sigma`` stay the same over the trips; a trip has ``smooth.noise`` of its own, or
    ``smooth.trip``, its number.
    """
    b = GraphBuilder()
    b.layer = "smooth"
    x = inner.inputs["input"]
    b.input("smooth.x", x)
    b.input("smooth.sigma", TensorType(()))
    if noise.on_chip:
        b.input("smooth.trip", TensorType(()))
        b.add("smooth.noise", "noise", "smooth.trip", shape=x.shape, seed=noise.seed)
    else:
        b.input("smooth.noise", x, per_trip=True)
    for name, constant in inner.constants.items():
        b.constant(name, constant.value, constant.type, chosen=constant.chosen)
    b.add("smooth.scaled", "mul", "smooth.noise", "smooth.sigma")
    b.add("input", "add", "smooth.x", "smooth.scaled")
    for node in inner.nodes:
        b.copy(node)
    return b


@lru_cache(REMEMBERED)
def smoothgrad(graph: Graph, target: int, noise: Noise, variant: Variant = "plain", score: str = "logit") -> Kernel:
    """One trip of SmoothGrad: a sample, its gradient, and the gradient, its square or both added up.

    Outputs ``smooth.total``, ``smooth.total_of_squares`` or, for VarGrad, both.
    """
    inner = backpropagated(graph, target, "input", score=score)
    b = _at_a_sample(inner, noise)
    b.backward = True
    gradient = inner.outputs[-1]
    if not depends(inner, gradient, "input"):  # the same for every sample, yet to be counted for each
        gradient = b.add("smooth.gradient", "mul", gradient, b.input("smooth.one", TensorType(())))
    outputs = []
    if variant != "squared":
        outputs.append(b.add("smooth.total", "accumulate", gradient, trips=MOST_TRIPS))
    if variant != "plain":
        square = b.add("smooth.square", "mul", gradient, gradient)
        outputs.append(b.add("smooth.total_of_squares", "accumulate", square, trips=MOST_TRIPS))
    return Kernel(f"{'SmoothGrad' if variant == 'plain' else variant} of class {target}", b.build(*outputs))


@lru_cache(REMEMBERED)
def smooth_taylor(graph: Graph, target: int, noise: Noise, score: str = "logit") -> Kernel:
    """One trip of SmoothTaylor: a sample z, its gradient, and (x − z) ⊙ gradient added to ``smooth.total``."""
    inner = backpropagated(graph, target, "input", score=score)
    b = _at_a_sample(inner, noise)
    b.backward = True
    b.add("smooth.difference", "sub", "smooth.x", "input")
    b.add("smooth.term", "mul", "smooth.difference", inner.outputs[-1])
    b.add("smooth.total", "accumulate", "smooth.term", trips=MOST_TRIPS)
    return Kernel(f"SmoothTaylor of class {target}", b.build("smooth.total"))


@lru_cache(REMEMBERED)
def mean(type: TensorType, samples: int) -> Kernel:
    """The end of an average: a total over ``samples``."""
    b = _ending(samples)
    b.input("smooth.total", TensorType(type.shape))
    return Kernel("mean of samples", b.build(b.add("attribution", "mul", "smooth.total", "smooth.one_over_n")))


@lru_cache(REMEMBERED)
def variance(type: TensorType, samples: int) -> Kernel:
    """The end of VarGrad: the mean of squares less the square of the mean, which rounding must not make negative."""
    b = _ending(samples)
    for name in ("smooth.total", "smooth.total_of_squares"):
        b.input(name, TensorType(type.shape))
    b.add("smooth.mean", "mul", "smooth.total", "smooth.one_over_n")
    b.add("smooth.mean_square", "mul", "smooth.total_of_squares", "smooth.one_over_n")
    b.add("smooth.square_mean", "mul", "smooth.mean", "smooth.mean")
    b.add("smooth.variance", "sub", "smooth.mean_square", "smooth.square_mean")
    return Kernel("variance of samples", b.build(b.add("attribution", "relu", "smooth.variance")))


def _ending(samples: int) -> GraphBuilder:
    b = GraphBuilder()
    b.backward = True
    b.layer = "smooth"
    b.constant("smooth.one_over_n", np.array(1 / samples))
    return b


@lru_cache(REMEMBERED)
def forward_each(graph: Graph) -> Kernel:
    """Inference of another picture in every trip: what a metric asks of the machine."""
    b = GraphBuilder(graph)
    b.per_trip = {"input"}
    return Kernel("forward of many", b.build(graph.outputs[0]))
