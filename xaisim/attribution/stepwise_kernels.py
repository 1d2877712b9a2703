"""The kernels of methods whose every step needs the last: one point per launch, and small sums for the host to read.

point_gradient(graph, target=3)        forward and backward at a point
selection(shape, count=768)            which features may move where, and how far they and all have to go
movement(shape)                        the move, and its part of the attribution
adversarial(graph, target=3)           two gradients on one forward pass, and a step along the sign of one

``input@…`` are points: they have the format of the network's input, so they are compared and copied exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.attribution.gradient import differentiate
from xaisim.attribution.kernels import REMEMBERED, backpropagated
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType


@lru_cache(REMEMBERED)
def point_gradient(graph: Graph, target: int, score: str) -> Kernel:
    """Logits and gradient at a point, for a class that is known: the host need not wait for the logits."""
    return Kernel(f"gradient of class {target} at a point", backpropagated(graph, target, "input", score=score))


@lru_cache(REMEMBERED)
def selection(shape: tuple[int, ...], count: int) -> Kernel:
    """Where the features of smallest |gradient| may move, by the bounds around the step's place on the path.

    Outputs: ``input@caught``, the point with what fell behind brought to the lower bound; ``input@aim``, that with the
    selected features at the upper bound; ``step.left`` and ``step.reach``, by channel, the L1 distances from ``caught``
    to the end and to ``aim``, unrounded.
    """
    b = GraphBuilder()
    b.layer, b.backward = "selection", True
    for name in ("input", "input@start", "input@end", "step.gradient"):
        b.input(name, TensorType(shape))
    for name in ("path.alpha@least", "path.alpha@most"):
        b.input(name, TensorType(()))
    b.add("step.way", "sub", "input@end", "input@start", exact=True)
    for name in ("least", "most"):
        b.add(f"step.to_{name}", "mul", "step.way", f"path.alpha@{name}")
        b.add(f"input@{name}", "add", "input@start", f"step.to_{name}")
    # Between the bounds, whichever of them is the larger number.
    b.add("input@high", "maximum", "input@least", "input@most")
    b.add("input@low", "minimum", "input@least", "input@most")
    b.add("input@below", "minimum", "input", "input@high")
    b.add("input@caught", "maximum", "input@below", "input@low")
    room = _distance(b, "step.room", "input@caught", "input@most")
    b.add("step.eligible", "positive", room)
    selected = _smallest(b, shape, count)
    b.add("input@aim", "select", selected, "input@most", "input@caught")
    b.add("step.selected_room", "gate", room, selected)
    b.constant("step.one", np.array(1.0))
    _total(b, "step.left", _distance(b, "step.remaining", "input@caught", "input@end"))
    _total(b, "step.reach", "step.selected_room")
    return Kernel("selection", b.build("input@caught", "input@aim", "step.left", "step.reach"))


def _distance(b: GraphBuilder, name: str, x: str, y: str) -> str:
    """Append |x − y|, exact."""
    larger, smaller = (b.add(f"{name}.{op}", op, x, y) for op in ("maximum", "minimum"))
    return b.add(name, "sub", larger, smaller, exact=True)


def _smallest(b: GraphBuilder, shape: tuple[int, ...], count: int) -> str:
    """Append the selection among all channels, which are one for it."""
    channels, height, width = shape
    flat = (1, channels * height, width)
    b.add("step.gradient.flat", "reshape", "step.gradient", shape=flat)
    b.add("step.eligible.flat", "reshape", "step.eligible", shape=flat)
    b.add("step.selected", "smallest", "step.gradient.flat", "step.eligible.flat", count=count)
    return b.add("step.selected.maps", "reshape", "step.selected", shape=shape)


def _total(b: GraphBuilder, name: str, x: str) -> None:
    """Append the sum of every channel, exact."""
    _, height, width = b.types[x].shape
    b.add(name, "avgpool", x, "step.one", exact=True,
          kernel=(height, width), stride=(1, 1), padding=(0, 0, 0, 0))  # fmt: skip


@lru_cache(REMEMBERED)
def movement(shape: tuple[int, ...]) -> Kernel:
    """The end of a step: ``path.alpha@share`` of the way from ``caught`` to ``aim``, and (moved − x) ⊙ gradient added.

    ``input`` is the point at which the gradient was taken.
    """
    b = GraphBuilder()
    b.layer, b.backward = "movement", True
    for name in ("input", "input@caught", "input@aim", "step.gradient", "attribution.sum"):
        b.input(name, TensorType(shape))
    b.input("path.alpha@share", TensorType(()))
    b.add("step.reached", "sub", "input@aim", "input@caught", exact=True)
    b.add("step.part", "mul", "step.reached", "path.alpha@share")
    b.add("input@next", "add", "input@caught", "step.part")
    _credit(b, "input@next", "input", "step.gradient")
    return Kernel("movement", b.build("input@next", "attribution.sum@next"))


def _credit(b: GraphBuilder, moved: str, before: str, gradient: str) -> None:
    """Append ``attribution.sum`` + (moved − before) ⊙ gradient."""
    b.add("step.moved", "sub", moved, before, exact=True)
    b.add("step.credit", "mul", "step.moved", gradient)
    b.add("attribution.sum@next", "add", "attribution.sum", "step.credit")


@lru_cache(REMEMBERED)
def adversarial(graph: Graph, target: int, *, from_origin: bool) -> Kernel:
    """A step of size ``input@size`` along the sign of ∇p_t, within the pixels' range, and ∇p_target ⊙ it added.

    t is the class of the one-hot row ``step.class``. The sign of ∇p_t is that of ∇log p_t, whose seed e_t − p does not
    vanish with p_t. ``from_origin``: the step starts at ``input@origin``, not at the point of the gradients. Outputs:
    the logits, the next point and the sum.
    """
    output, b = graph.outputs[0], GraphBuilder(graph)
    (classes,), shape = b.types[output].shape, b.types["input"].shape
    for name in ("input@size", "input@low", "input@high", "attribution.sum", *["input@origin"] * from_origin):
        b.input(name, TensorType(shape))
    b.input("step.class", TensorType((1, 1, classes)))
    b.layer, b.backward = "score", True
    b.add("score.row", "reshape", output, shape=(1, 1, classes))
    b.add("score.seed_row", "softmax_seed", "score.row", target=target)
    b.add("score.probabilities", "softmax", "score.row")
    b.add("score.log_seed_row", "sub", "step.class", "score.probabilities")
    for name in ("score.seed", "score.log_seed"):
        b.add(name, "reshape", f"{name}_row", shape=(classes,))
    both = b.build(output, "score.seed", "score.log_seed")
    for seed in ("score.seed", "score.log_seed"):
        both = differentiate(both, output, "input", seed=seed)
    of_target, of_other = both.outputs[-2:]
    b = GraphBuilder(both)
    b.layer, b.backward = "step", True
    start = "input@origin" if from_origin else "input"
    b.add("step.sign", "sign", of_other)
    b.add("step.wish", "mul", "step.sign", "input@size")
    b.add("input@wished", "add", start, "step.wish")
    b.add("input@above", "maximum", "input@wished", "input@low")
    b.add("input@next", "minimum", "input@above", "input@high")
    _credit(b, "input@next", start, of_target)
    return Kernel(f"adversarial step from class {target}", b.build(output, "input@next", "attribution.sum@next"))


@lru_cache(REMEMBERED)
def summed(shape: tuple[int, ...], factor: float) -> Kernel:
    """The end of a method that adds up over launches: its sum, times 1 or −1, in the format of attributions."""
    b = GraphBuilder()
    b.layer, b.backward = "attribution", True
    b.input("attribution.sum", TensorType(shape))
    b.constant("attribution.factor", np.array(factor))
    b.add("attribution", "mul", "attribution.sum", "attribution.factor")
    return Kernel("attribution result", b.build("attribution"))
