"""A simulated network for other people's explainers and metrics: PAIR's saliency library and Quantus.

    saliency.core.GradientSaliency().GetMask(picture, pair_model("resnet18_tiny"), {"class_idx": 3})
    quantus.MaxSensitivity()(model=quantus_model("resnet18_tiny"), explain_func=quantus_explain("saliency"), ...)

Their algorithm runs as it is; every forward and gradient that it asks for is computed on the simulated accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xaisim.api import attribute, experiment_of
from xaisim.attribution.device import Kernel
from xaisim.attribution.kernels import backpropagated, gradient
from xaisim.config import UserError, choose
from xaisim.experiment import prepare
from xaisim.flow import calibrated
from xaisim.ir.graph import Array, Graph, prune
from xaisim.numerics.devices import FloatDevice

INPUT_OUTPUT_GRADIENTS = "INPUT_OUTPUT_GRADIENTS"
OUTPUT_LAYER_VALUES = "OUTPUT_LAYER_VALUES"
CONVOLUTION_LAYER_VALUES = "CONVOLUTION_LAYER_VALUES"
CONVOLUTION_OUTPUT_GRADIENTS = "CONVOLUTION_OUTPUT_GRADIENTS"
"""The keys of PAIR's saliency library (saliency.core.base)."""
_KEYS = (INPUT_OUTPUT_GRADIENTS, OUTPUT_LAYER_VALUES, CONVOLUTION_LAYER_VALUES, CONVOLUTION_OUTPUT_GRADIENTS)

CallModel = Callable[..., dict[str, Array]]


def pair_model(
    model: str = "resnet18_tiny", *, device: str = "fixed", layer: str | None = None, **settings: Any
) -> CallModel:
    """Return a ``call_model_function`` for PAIR's saliency library.

    It takes pictures (N, H, W, C), normalised as the network wants them, and the class as
    ``call_model_args={"class_idx": c}``; outputs are logits and gradients of that class's logit, channels last.
    ``layer`` is the feature map of GradCAM, by default the last one; ``settings`` as for :func:`xaisim.explain`.
    """
    choose("device", device, ("fixed", "float"))
    p = prepare(experiment_of(model=model, method="saliency", **settings))
    machine = FloatDevice() if device == "float" else p.device(calibrated(p)[0])
    graph = p.model.graph
    features = layer or p.model.features
    if features not in graph.types():
        raise UserError(f"{model} has no feature map {features!r}")

    def call_model(
        x_value_batch: Array, call_model_args: Mapping[str, Any] | None = None, expected_keys: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Run the pictures and return what is expected of them."""
        unknown = [key for key in expected_keys if key not in _KEYS]
        if unknown:
            raise UserError(f"unknown key {unknown[0]!r}; choices: {', '.join(_KEYS)}")
        x = np.asarray(x_value_batch, np.float64).transpose(0, 3, 1, 2)
        target = (call_model_args or {}).get("class_idx")
        if target is None:
            raise UserError('the class is missing: call_model_args={"class_idx": 3}')
        found: dict[str, Array] = {}
        if {INPUT_OUTPUT_GRADIENTS, OUTPUT_LAYER_VALUES} & set(expected_keys):
            made = machine.launch(gradient(graph, int(target)), {"input": x})
            logits, slopes = (tensor.real() for tensor in made.values())
            found[INPUT_OUTPUT_GRADIENTS] = np.broadcast_to(slopes, x.shape).transpose(0, 2, 3, 1)
            found[OUTPUT_LAYER_VALUES] = logits[:, int(target)]
        if {CONVOLUTION_LAYER_VALUES, CONVOLUTION_OUTPUT_GRADIENTS} & set(expected_keys):
            inner = backpropagated(graph, int(target), features)
            kernel = Kernel("feature map and its gradient", _with_outputs(inner, features, inner.outputs[-1]))
            values, slopes = (tensor.real() for tensor in machine.launch(kernel, {"input": x}).values())
            found[CONVOLUTION_LAYER_VALUES] = values.transpose(0, 2, 3, 1)
            found[CONVOLUTION_OUTPUT_GRADIENTS] = np.broadcast_to(slopes, values.shape).transpose(0, 2, 3, 1)
        return {key: np.ascontiguousarray(found[key]) for key in expected_keys}

    return call_model


def _with_outputs(graph: Graph, *outputs: str) -> Graph:
    return prune(replace(graph, outputs=outputs))


def quantus_model(model: str = "resnet18_tiny", *, device: str = "fixed", **settings: Any) -> Any:
    """Return a torch module for Quantus' metrics, whose forward is the simulated network's; it has no gradients.

    ``settings`` as for :func:`xaisim.explain`. Needs PyTorch, because Quantus takes nothing but its modules.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError("quantus_model needs PyTorch: pip install 'xaisim[torch]'") from None

    class Simulated(torch.nn.Module):
        """Logits of the network on the simulated accelerator."""

        def forward(self, x: Any) -> Any:
            logits = attribute(
                x.detach().cpu().numpy(), model=model, explainer="forward", target=0, device=device, **settings
            )
            return torch.as_tensor(logits, dtype=x.dtype)

    return Simulated().eval()


def quantus_explain(explainer: str = "saliency", model: str = "resnet18_tiny", **settings: Any) -> Callable[..., Array]:
    """Return an ``explain_func`` for Quantus: maps (N, C, H, W) of the method on the simulated accelerator.

    ``settings`` as for :func:`xaisim.attribute`: ``device``, ``arch``, ``numerics`` and the method's options.
    """

    def explain_func(model: Any, inputs: Array, targets: Array, **_: Any) -> Array:  # noqa: ARG001 - Quantus passes it
        """Return one map per input for its target."""
        classes = [int(target) for target in np.asarray(targets).reshape(-1)]
        found = attribute(np.asarray(inputs), model=name, explainer=explainer, target=classes, **settings)
        return np.asarray(found)

    name = model
    return explain_func
