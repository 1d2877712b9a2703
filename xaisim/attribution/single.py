"""Methods of one forward and one backward pass: gradients under the rules of a ReLU.

saliency(device, model.graph, x, target=3)
"""

from __future__ import annotations

from collections.abc import Mapping

from xaisim.attribution import kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.gradient import DECONVNET, GUIDED, RULES, Rule
from xaisim.ir.graph import Array, Graph


def forward(device: Device, graph: Graph, x: Array, target: int) -> Tensor:  # noqa: ARG001 - inference asks no class
    """Inference alone: the logits, no attribution."""
    return device.launch(kernels.forward(graph), {"input": x}, sync=True)[graph.outputs[0]]


def _one_gradient(
    device: Device, graph: Graph, x: Array, target: int, rules: Mapping[str, Rule], *, times_input: bool = False
) -> Tensor:
    kernel = kernels.gradient(graph, target, rules, times_input=times_input)
    # The host reads the logits between forward and backward to choose the class.
    return device.launch(kernel, {"input": x}, sync=True)[kernel.graph.outputs[-1]]


def saliency(device: Device, graph: Graph, x: Array, target: int) -> Tensor:
    """The gradient of the class score, signed (Simonyan et al. 2014); Captum's takes the absolute value after."""
    return _one_gradient(device, graph, x, target, RULES)


def input_x_gradient(device: Device, graph: Graph, x: Array, target: int) -> Tensor:
    """The gradient times the input (Shrikumar et al. 2016)."""
    return _one_gradient(device, graph, x, target, RULES, times_input=True)


def deconvnet(device: Device, graph: Graph, x: Array, target: int) -> Tensor:
    """The gradient with every ReLU passing positive gradients only (Zeiler & Fergus 2014)."""
    return _one_gradient(device, graph, x, target, DECONVNET)


def guided_backprop(device: Device, graph: Graph, x: Array, target: int) -> Tensor:
    """The gradient with every ReLU passing positive gradients of positive inputs (Springenberg et al. 2015)."""
    return _one_gradient(device, graph, x, target, GUIDED)
