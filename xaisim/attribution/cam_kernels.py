"""The kernels of GradCAM's relatives: all have the gradient to a feature map, and end with an upsampling.

guided_gradcam(graph, target=3, layer="relu4", size=(32, 32)), layercam(...)                 one kernel each
layer_gradient(graph, 3, "relu4"), channel_totals(type), weighed(type, (32, 32))      Grad-CAM++, the host between
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.attribution.gradient import GUIDED, differentiate
from xaisim.attribution.kernels import REMEMBERED, Size, Upsampling, backpropagated, with_channel_weights, with_map
from xaisim.ir.fold import bind, fold
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType


@lru_cache(REMEMBERED)
def guided_gradcam(
    graph: Graph, target: int, layer: str, size: Size, upsample: Upsampling = "bilinear"
) -> Kernel:  # fmt: skip
    """Guided backprop to the input times GradCAM at ``layer``: one forward pass, whose masks both gradients read."""
    logits = graph.outputs[0]
    one_hot = np.zeros(graph.types()[logits].shape)
    one_hot[target] = 1.0
    guided = differentiate(graph, logits, "input", rules=GUIDED)
    both = fold(bind(differentiate(guided, logits, layer, seed="seed"), {"seed": one_hot}, chosen=True))
    _, gradient, to_layer = both.outputs
    weighed = fold(with_channel_weights(both, layer, to_layer, logits, gradient))
    b = GraphBuilder(with_map(weighed, layer, size, "gradcam.whole", upsample=upsample))
    b.backward, b.layer = True, "gradcam"
    parts = []
    for c in range(graph.inputs["input"].shape[0]):  # each channel of the gradient meets the one map
        part = b.add(f"guided.{c}", "slice", gradient, start=c, stop=c + 1)
        parts.append(b.add(f"attribution.{c}", "mul", part, "gradcam.whole"))
    return Kernel(f"guided gradcam of class {target}", b.build(logits, b.add("attribution", "concat", *parts)))


@lru_cache(REMEMBERED)
def layercam(graph: Graph, target: int, layer: str, size: Size) -> Kernel:
    """ReLU(Σ_k ReLU(∂F/∂A_k) ⊙ A_k) of the feature map ``layer``, upsampled to ``size``."""
    inner = backpropagated(graph, target, layer)
    b = GraphBuilder(inner)
    b.backward, b.layer = True, "layercam"
    b.add("layercam.positive", "relu", inner.outputs[-1])
    b.add("layercam.weighed", "mul", layer, "layercam.positive")
    b.constant("gradcam.weights", np.ones((1, inner.types()[layer].shape[0], 1, 1)))
    weighed = fold(b.build(*graph.outputs, "layercam.weighed", "gradcam.weights"))
    weighed = replace(weighed, outputs=(*graph.outputs, "gradcam.weights"))
    return Kernel(f"layercam of class {target}", with_map(weighed, "layercam.weighed", size))


@lru_cache(REMEMBERED)
def layer_gradient(graph: Graph, target: int, layer: str) -> Kernel:
    """Logits, the gradient to the feature map ``layer``, and the map itself, all left in DRAM."""
    inner = backpropagated(graph, target, layer)
    return Kernel(f"gradient of class {target} to {layer}", GraphBuilder(inner).build(*inner.outputs, layer))


@lru_cache(REMEMBERED)
def channel_totals(type: TensorType) -> Kernel:
    """The sum of every channel of a feature map."""
    b = GraphBuilder()
    b.layer = "gradcam"
    b.input("gradcam.features", TensorType(type.shape))
    b.constant("gradcam.one", np.array(1.0))
    total = b.add("gradcam.total", "avgpool", "gradcam.features", "gradcam.one",
                  kernel=type.shape[1:], stride=(1, 1), padding=(0, 0, 0, 0))  # fmt: skip
    return Kernel("totals of channels", b.build(total))


@lru_cache(REMEMBERED)
def weighed(type: TensorType, size: Size) -> Kernel:
    """ReLU(Σ_k w_k A_k), upsampled, with weights from the host."""
    b = GraphBuilder()
    b.input("gradcam.features", TensorType(type.shape))
    b.input("gradcam.weights", TensorType((1, type.shape[0], 1, 1)))
    return Kernel("weighted features", with_map(b.build("gradcam.weights"), "gradcam.features", size))
