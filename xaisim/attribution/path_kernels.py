"""The kernels of methods along a path: a trip is one point x' + α(x − x').

probe(graph)                        forward alone at every point
path_gradient(graph, target=3)      w · gradient added up over all points, for weights that are known beforehand
point_gradients(graph, target=3)    the gradient of every point, in DRAM until the host knows the weights
weighted_sum(shape)                 Σ w · gradient of those
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.attribution.kernels import REMEMBERED, backpropagated
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType

MOST_TRIPS = 4095
"""Trips that a running sum can take without overflow: 12 bits beyond one term."""


def _at_a_point(inner: Graph, *, many_baselines: bool = False) -> GraphBuilder:
    """Return a builder with ``inner`` behind the path: its input is the point.

    Input ``path.x`` stays the same over the trips, and so does ``path.baseline`` unless there are many;
    ``path.alpha`` is a table of scalars.
    """
    b = GraphBuilder()
    b.input("path.x", inner.inputs["input"])
    b.input("path.baseline", inner.inputs["input"], per_trip=many_baselines)
    b.input("path.alpha", TensorType(()))
    for name, constant in inner.constants.items():
        b.constant(name, constant.value, constant.type, chosen=constant.chosen)
    b.add("path.difference", "sub", "path.x", "path.baseline", layer="path")
    b.add("path.step", "mul", "path.difference", "path.alpha", layer="path")
    b.add("input", "add", "path.baseline", "path.step", layer="path")
    for node in inner.nodes:
        b.copy(node)
    return b


@lru_cache(REMEMBERED)
def probe(graph: Graph) -> Kernel:
    """Forward alone at every point; the logits of each go to the host."""
    return Kernel("probe", _at_a_point(graph).build(graph.outputs[0]))


@lru_cache(REMEMBERED)
def path_gradient(graph: Graph, target: int, score: str = "logit") -> Kernel:
    """One trip of a path method: the point, forward, backward, and w · gradient added to ``path.total``.

    ``path.weight`` is a table of scalars like ``path.alpha``. The sum is wide enough for ``MOST_TRIPS``, so that the
    kernel is the same for any number of points.
    """
    inner = backpropagated(graph, target, "input", score=score)
    b = _at_a_point(inner)
    _add_weighted(b, inner.outputs[-1])
    return Kernel(f"path gradient of class {target}", b.build("path.total"))


@lru_cache(REMEMBERED)
def expected_gradient(graph: Graph, target: int, score: str = "logit") -> Kernel:
    """One trip of Expected Gradients: a point on the way from a baseline of its own, and (x − x') ⊙ gradient summed."""
    inner = backpropagated(graph, target, "input", score=score)
    b = _at_a_point(inner, many_baselines=True)
    _add_moved(b, "path.difference", inner.outputs[-1])
    return Kernel(f"expected gradient of class {target}", b.build("path.total"))


@lru_cache(REMEMBERED)
def given_path_gradient(graph: Graph, target: int, score: str = "logit") -> Kernel:
    """One trip along points from the host: gradient at ``input`` times ``path.move``, its step, added up."""
    inner = backpropagated(graph, target, "input", score=score)
    b = GraphBuilder(inner)
    b.per_trip = {"input"}
    b.input("path.move", inner.inputs["input"], per_trip=True)
    _add_moved(b, "path.move", inner.outputs[-1])
    return Kernel(f"gradient of class {target} along given points", b.build("path.total"))


def _add_moved(b: GraphBuilder, move: str, gradient: str) -> None:
    b.backward = True
    b.add("path.moved", "mul", move, gradient, layer="path")
    b.add("path.total", "accumulate", "path.moved", layer="path", trips=MOST_TRIPS)


@lru_cache(REMEMBERED)
def point_gradients(graph: Graph, target: int, score: str = "logit") -> Kernel:
    """Logits and gradient of every point, left in DRAM, and dF/dα = g · (x − x') as the sum of ``slope_names``."""
    inner = backpropagated(graph, target, "input", score=score)
    b = _at_a_point(inner)
    b.backward, b.layer = True, "path"
    gradient = inner.outputs[-1]
    names = slope_names(b.types[gradient].shape)
    for channel, name in enumerate(names):
        for side, tensor in (("left", gradient), ("right", "path.difference")):
            part = (
                b.add(f"{name}.{side}.part", "slice", tensor, start=channel, stop=channel + 1) if names[1:] else tensor
            )
            size = b.types[part].size
            b.add(f"{name}.{side}", "reshape", part, shape=(size,) if side == "left" else (1, size))
        b.add(name, "linear", f"{name}.left", f"{name}.right")
    return Kernel(f"point gradients of class {target}", b.build(*inner.outputs, *names))


def slope_names(shape: tuple[int, ...]) -> list[str]:
    """Return the outputs whose sum is dF/dα for an input of a shape.

    There is a filter per channel of a picture, whose weights are (x − x'), so that each fits an accumulator of 48 bits.
    """
    return [f"path.slope.{channel}" for channel in range(shape[0] if len(shape) == 3 else 1)]


@lru_cache(REMEMBERED)
def weighted_sum(shape: tuple[int, ...]) -> Kernel:
    """Σ w · gradient over trips, of gradients that earlier launches left."""
    b = GraphBuilder()
    b.layer = "path"
    _add_weighted(b, b.input("path.gradient", TensorType(shape), per_trip=True))
    return Kernel("weighted sum", b.build("path.total"))


@lru_cache(REMEMBERED)
def normal_squares(shape: tuple[int, ...]) -> Kernel:
    """Σ share · (scale · gradient)² over trips: the scale brings gradients of any size into one format."""
    b = GraphBuilder()
    b.layer, b.backward = "path", True
    b.input("path.gradient", TensorType(shape), per_trip=True)
    for name in ("path.scale", "path.share"):
        b.input(name, TensorType(()))
    b.add("path.normal", "mul", "path.gradient", "path.scale")
    b.add("path.square", "mul", "path.normal", "path.normal")
    b.add("path.weighted", "mul", "path.square", "path.share")
    b.add("path.total", "accumulate", "path.weighted", trips=MOST_TRIPS)
    return Kernel("weighted sum of squares", b.build("path.total"))


@lru_cache(REMEMBERED)
def as_attribution(shape: tuple[int, ...]) -> Kernel:
    """A running sum in the format of an attribution."""
    b = GraphBuilder()
    b.layer, b.backward = "path", True
    b.input("path.total", TensorType(shape))
    b.constant("path.one", np.ones(()))
    return Kernel("result of a sum", b.build(b.add("attribution", "mul", "path.total", "path.one")))


def _add_weighted(b: GraphBuilder, gradient: str) -> None:
    b.input("path.weight", TensorType(()))
    b.backward = True
    b.add("path.weighted", "mul", gradient, "path.weight", layer="path")
    b.add("path.total", "accumulate", "path.weighted", layer="path", trips=MOST_TRIPS)


@lru_cache(REMEMBERED)
def path_result(shape: tuple[int, ...], factor: float) -> Kernel:
    """The end of a path method: (x − x') ⊙ total · factor."""
    b = GraphBuilder()
    b.backward = True
    b.layer = "path"
    for name in ("path.x", "path.baseline"):
        b.input(name, TensorType(shape))
    b.input("path.total", TensorType(shape))
    b.constant("path.factor", np.array(factor))
    b.add("path.mean_gradient", "mul", "path.total", "path.factor")
    b.add("path.difference", "sub", "path.x", "path.baseline")
    b.add("attribution", "mul", "path.difference", "path.mean_gradient")
    return Kernel("path result", b.build("attribution"))
