"""The kernels that attribution methods launch, written as graphs around a network's graph.

gradient(model.graph, target=3)     forward and backward in one kernel, outputs logits and d_input
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.attribution.gradient import RULES, Rule, differentiate
from xaisim.ir.fold import bind, fold
from xaisim.ir.graph import Array, Graph, GraphBuilder, prune

Size = tuple[int, int]
"""Height and width."""
Upsampling = Literal["bilinear", "nearest", "none"]
REMEMBERED = 64
"""Kernels that are kept: the next picture of a class needs no differentiation and, on a device, no compiling."""


@lru_cache(REMEMBERED)
def forward(graph: Graph) -> Kernel:
    """Inference alone."""
    return Kernel("forward", graph)


def backpropagated(
    graph: Graph, target: int, wrt: str, rules: Mapping[str, Rule] = RULES, score: str = "logit"
) -> Graph:
    """Return forward and backward of class ``target``, with all that is constant in it folded away.

    Outputs are the logits and the gradient of the class's logit or, with ``score`` "probability", of its softmax.
    """
    output = graph.outputs[0]
    if score == "probability":
        return _through_softmax(graph, target, wrt, rules)
    one_hot = np.zeros(graph.types()[output].shape)
    one_hot[target] = 1.0
    return fold(bind(differentiate(graph, output, wrt, rules=rules), {"seed": one_hot}, chosen=True))


def _through_softmax(graph: Graph, target: int, wrt: str, rules: Mapping[str, Rule]) -> Graph:
    """Backward begins with p_t · (e_t − p), which the machine computes from the logits."""
    output, b = graph.outputs[0], GraphBuilder(graph)
    (classes,) = b.types[output].shape
    b.layer, b.backward = "score", True
    b.add("score.row", "reshape", output, shape=(1, 1, classes))
    b.add("score.seed_row", "softmax_seed", "score.row", target=target)
    b.add("score.seed", "reshape", "score.seed_row", shape=(classes,))
    both = differentiate(b.build(output, "score.seed"), output, wrt, rules=rules, seed="score.seed")
    return fold(prune(replace(both, outputs=(output, both.outputs[-1]))))


def gradient(graph: Graph, target: int, rules: Mapping[str, Rule] = RULES, *, times_input: bool = False) -> Kernel:
    """Logits and the gradient of class ``target`` to the input (times the input where asked)."""
    return _gradient(graph, target, tuple(rules.items()), times_input)


@lru_cache(REMEMBERED)
def _gradient(graph: Graph, target: int, rules: tuple[tuple[str, Rule], ...], times_input: bool) -> Kernel:
    inner = backpropagated(graph, target, "input", dict(rules))
    b = GraphBuilder(inner)
    result = inner.outputs[-1]
    b.backward = True
    if times_input:
        result = b.add("input_x_gradient", "mul", result, "input", layer="attribution")
    return Kernel(f"gradient of class {target}", b.build(graph.outputs[0], result))


@lru_cache(REMEMBERED)
def gradcam(
    graph: Graph, target: int, layer: str, size: Size, upsample: Upsampling = "bilinear", *, relu: bool = True
) -> Kernel:
    """ReLU(Σ_k α_k A_k) of the feature map ``layer``, upsampled to ``size``; α_k is the mean of ∂F/∂A_k.

    Where the head is pooled and linear, α folds to a constant and no backward node is left (static GradCAM).
    """
    inner = backpropagated(graph, target, layer)
    weighed = fold(with_channel_weights(inner, layer, inner.outputs[-1], graph.outputs[0]))
    return Kernel(f"gradcam of class {target}", with_map(weighed, layer, size, upsample=upsample, relu=relu))


def with_channel_weights(inner: Graph, layer: str, gradient: str, *outputs: str) -> Graph:
    """Append α_k, the mean of ``gradient`` over the places of ``layer``; it is the last output, as (1, K, 1, 1)."""
    channels, height, width = inner.types()[layer].shape
    b = GraphBuilder(inner)
    b.backward, b.layer = True, "gradcam"
    b.constant("gradcam.scale", np.array(1 / (height * width)))
    b.add("gradcam.alpha", "avgpool", gradient, "gradcam.scale",
          kernel=(height, width), stride=(1, 1), padding=(0, 0, 0, 0))  # fmt: skip
    return b.build(*outputs, b.add("gradcam.weights", "reshape", "gradcam.alpha", shape=(1, channels, 1, 1)))


def with_map(
    weighed: Graph, layer: str, size: Size, name: str = "attribution", *,
    upsample: Upsampling = "bilinear", relu: bool = True,
) -> Graph:  # fmt: skip
    """Append ReLU(Σ_k α_k A_k), upsampled to ``size``, as ``name`` in place of the last output, the α_k."""
    _, height, width = weighed.types()[layer].shape
    b = GraphBuilder(weighed)
    b.layer = "gradcam"
    names = ["gradcam.sum", *["gradcam.map"] * relu, *["gradcam.upsampled"] * (upsample != "none")]
    names[-1] = name
    last = b.add(names[0], "conv", layer, weighed.outputs[-1], stride=(1, 1), padding=(0, 0, 0, 0))
    if relu:
        last = b.add(names[1], "relu", last)
    if upsample != "none":
        matrix = interpolation if upsample == "bilinear" else nearest
        b.constant("gradcam.rows", matrix(height, size[0]))
        b.constant("gradcam.columns", matrix(width, size[1]))
        b.add(name, "upsample", last, "gradcam.rows", "gradcam.columns")
    return b.build(*weighed.outputs[:-1], name)


def interpolation(small: int, large: int) -> Array:
    """Return the (large, small) matrix of linear interpolation with half-pixel centres and held edges."""
    centre = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    left = np.minimum(centre.astype(int), small - 1)
    right = np.minimum(left + 1, small - 1)
    matrix = np.zeros((large, small))
    np.add.at(matrix, (np.arange(large), left), 1 - (centre - left))
    np.add.at(matrix, (np.arange(large), right), centre - left)
    return matrix


def nearest(small: int, large: int) -> Array:
    """Return the (large, small) matrix that repeats every element in its cell, as PyTorch's ``nearest`` does."""
    matrix = np.zeros((large, small))
    matrix[np.arange(large), np.arange(large) * small // large] = 1
    return matrix
