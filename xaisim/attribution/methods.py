"""Attribution methods: each an ordinary function that launches kernels on a device.

    METHODS["integrated_gradients"](device, model.graph, x, target, n_steps=50)

*Where* is the layer, *how often* is the trip count, *which rule* is the gradient table: no class per combination.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaisim.attribution import kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.gradient import DECONVNET, GUIDED, RULES, Rule
from xaisim.attribution.paths import path
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


def gradcam(device: Device, graph: Graph, x: Array, target: int, *, layer: str) -> Tensor:
    """GradCAM at ``layer``, upsampled to the input (Selvaraju et al. 2017), not normalised: (1, H, W)."""
    height, width = graph.inputs["input"].shape[1:]
    kernel = kernels.gradcam(graph, target, layer, (height, width))
    return device.launch(kernel, {"input": x}, sync=True)["attribution"]


def integrated_gradients(
    device: Device,
    graph: Graph,
    x: Array,
    target: int,
    *,
    baseline: Array | float = 0.0,
    n_steps: int = 50,
    rule: str = "riemann_middle",
) -> Tensor:
    """(x − x') ⊙ ∫ ∇F along the straight path from ``baseline`` (Sundararajan et al. 2017).

    ``baseline`` is in the network's normalised input space; ``rule`` names the quadrature (see ``PATH_RULES``).
    """
    start = np.broadcast_to(np.asarray(baseline, np.float64), x.shape)
    alphas, weights = path(rule, n_steps)
    device.launch(kernels.forward(graph), {"input": x}, sync=True)
    # Weights travel as n·w, which is 1 for the uniform rules; 1/n is multiplied in once, at the end.
    ends: dict[str, Array | Tensor] = {"path.x": x, "path.baseline": start}
    feeds = {**ends, "path.alpha": alphas, "path.weight": weights * n_steps}
    total = device.launch(kernels.path_gradient(graph, target), feeds, trips=n_steps)["path.total"]
    finish = kernels.path_result(x.shape[1:], total.type, n_steps)
    return device.launch(finish, {**ends, "path.total": total})["attribution"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method and the options it takes."""

    run: Callable[..., Tensor]

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults (``inspect.Parameter.empty`` where one must be given)."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """One line for a list of choices."""
        return (inspect.getdoc(self.run) or "").splitlines()[0]


METHODS: dict[str, Method] = {
    "forward": Method(forward),
    "saliency": Method(saliency),
    "input_x_gradient": Method(input_x_gradient),
    "deconvnet": Method(deconvnet),
    "guided_backprop": Method(guided_backprop),
    "gradcam": Method(gradcam),
    "integrated_gradients": Method(integrated_gradients),
}
