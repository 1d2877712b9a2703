"""The kernels that attribution methods launch, written as graphs around a network's graph.

gradient(model.graph, target=3)     forward and backward in one kernel, outputs logits and d_input
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.attribution.gradient import RULES, Rule, differentiate
from xaisim.ir.fold import bind, fold
from xaisim.ir.graph import Array, Graph, GraphBuilder
from xaisim.ir.types import TensorType

_REMEMBERED = 64
"""Kernels that are kept: the next picture of a class needs no differentiation and, on a device, no compiling."""
MOST_TRIPS = 4095
"""Trips that a running sum can take without overflow: 12 bits beyond one term."""


@lru_cache(_REMEMBERED)
def forward(graph: Graph) -> Kernel:
    """Inference alone."""
    return Kernel("forward", graph)


def backpropagated(graph: Graph, target: int, wrt: str, rules: Mapping[str, Rule] = RULES) -> Graph:
    """Return forward and backward of class ``target``, with all that is constant in it folded away."""
    output = graph.outputs[0]
    one_hot = np.zeros(graph.types()[output].shape)
    one_hot[target] = 1.0
    return fold(bind(differentiate(graph, output, wrt, rules=rules), {"seed": one_hot}, chosen=True))


def gradient(graph: Graph, target: int, rules: Mapping[str, Rule] = RULES, *, times_input: bool = False) -> Kernel:
    """Logits and the gradient of class ``target`` to the input (times the input where asked)."""
    return _gradient(graph, target, tuple(rules.items()), times_input)


@lru_cache(_REMEMBERED)
def _gradient(graph: Graph, target: int, rules: tuple[tuple[str, Rule], ...], times_input: bool) -> Kernel:
    inner = backpropagated(graph, target, "input", dict(rules))
    b = GraphBuilder(inner)
    result = inner.outputs[-1]
    b.backward = True
    if times_input:
        result = b.add("input_x_gradient", "mul", result, "input", layer="attribution")
    return Kernel(f"gradient of class {target}", b.build(graph.outputs[0], result))


@lru_cache(_REMEMBERED)
def path_gradient(graph: Graph, target: int) -> Kernel:
    """One trip of a path method: x' + α(x − x'), forward, backward, and w · gradient added to ``path.total``.

    Inputs ``path.x`` and ``path.baseline`` stay the same over the trips; ``path.alpha`` and ``path.weight`` are
    tables of scalars.
    The sum is wide enough for ``MOST_TRIPS``, so that the kernel is the same for any number of points.
    """
    inner = backpropagated(graph, target, "input")
    b = GraphBuilder()
    for name in ("path.x", "path.baseline"):
        b.input(name, inner.inputs["input"])
    for name in ("path.alpha", "path.weight"):
        b.input(name, TensorType(()))
    for name, constant in inner.constants.items():
        b.constant(name, constant.value, constant.type, chosen=constant.chosen)
    b.add("path.difference", "sub", "path.x", "path.baseline", layer="path")
    b.add("path.step", "mul", "path.difference", "path.alpha", layer="path")
    b.add("input", "add", "path.baseline", "path.step", layer="path")
    for node in inner.nodes:
        b.copy(node)
    b.backward = True
    b.add("path.weighted", "mul", inner.outputs[-1], "path.weight", layer="path")
    b.add("path.total", "accumulate", "path.weighted", layer="path", trips=MOST_TRIPS)
    return Kernel(f"path gradient of class {target}", b.build("path.total"))


@lru_cache(_REMEMBERED)
def path_result(shape: tuple[int, ...], total: TensorType, n_steps: int) -> Kernel:
    """The end of a path method: (x − x') ⊙ total / n."""
    b = GraphBuilder()
    b.backward = True
    b.layer = "path"
    for name in ("path.x", "path.baseline"):
        b.input(name, TensorType(shape))
    b.input("path.total", TensorType(total.shape))
    b.constant("path.one_over_n", np.array(1 / n_steps))
    b.add("path.mean_gradient", "mul", "path.total", "path.one_over_n")
    b.add("path.difference", "sub", "path.x", "path.baseline")
    b.add("attribution", "mul", "path.difference", "path.mean_gradient")
    return Kernel("path result", b.build("attribution"))


@lru_cache(_REMEMBERED)
def gradcam(graph: Graph, target: int, layer: str, size: tuple[int, int]) -> Kernel:
    """ReLU(Σ_k α_k A_k) of the feature map ``layer``, upsampled to ``size``; α_k is the mean of ∂F/∂A_k.

    Where the head is pooled and linear, α folds to a constant and no backward node is left (static GradCAM).
    """
    inner = backpropagated(graph, target, layer)
    channels, height, width = inner.types()[layer].shape
    b = GraphBuilder(inner)
    logits, result = graph.outputs[0], inner.outputs[-1]
    b.backward = True
    b.layer = "gradcam"
    b.constant("gradcam.scale", np.array(1 / (height * width)))
    b.add("gradcam.alpha", "avgpool", result, "gradcam.scale",
          kernel=(height, width), stride=(1, 1), padding=(0, 0, 0, 0))  # fmt: skip
    b.add("gradcam.weights", "reshape", "gradcam.alpha", shape=(1, channels, 1, 1))
    head = fold(b.build(logits, "gradcam.weights"))
    b = GraphBuilder(head)
    b.layer = "gradcam"
    b.add("gradcam.sum", "conv", layer, "gradcam.weights", stride=(1, 1), padding=(0, 0, 0, 0))
    b.add("gradcam.map", "relu", "gradcam.sum")
    b.constant("gradcam.rows", interpolation(height, size[0]))
    b.constant("gradcam.columns", interpolation(width, size[1]))
    b.add("attribution", "upsample", "gradcam.map", "gradcam.rows", "gradcam.columns")
    return Kernel(f"gradcam of class {target}", b.build(logits, "attribution"))


def interpolation(small: int, large: int) -> Array:
    """Return the (large, small) matrix of linear interpolation with half-pixel centres and held edges."""
    centre = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    left = np.minimum(centre.astype(int), small - 1)
    right = np.minimum(left + 1, small - 1)
    matrix = np.zeros((large, small))
    np.add.at(matrix, (np.arange(large), left), 1 - (centre - left))
    np.add.at(matrix, (np.arange(large), right), centre - left)
    return matrix
