"""Class activation maps: a feature map weighed by what the class makes of it, upsampled to the input.

gradcam(device, model.graph, x, target=3, layer="layer4.1.relu2")
"""

from __future__ import annotations

import numpy as np

from xaisim.attribution import cam_kernels, kernels
from xaisim.attribution.device import Device, Kernel, Tensor
from xaisim.attribution.kernels import Upsampling
from xaisim.ir.graph import Array, Graph

_WORK = 6
"""Operations of the host per gradient of Grad-CAM++: load, comparison, product, two sums, quotient."""


def gradcam(
    device: Device, graph: Graph, x: Array, target: int, *, layer: str, upsample: Upsampling = "bilinear",
    relu: bool = True,
) -> Tensor:  # fmt: skip
    """GradCAM at ``layer``, upsampled to the input (Selvaraju et al. 2017), not normalised: (1, H, W).

    ``upsample`` is ``bilinear`` or ``nearest``; with ``none`` the map keeps the layer's size. Without ``relu`` what
    speaks against the class stays, too.
    """
    return _in_one_launch(device, x, kernels.gradcam(graph, target, layer, _size(graph), upsample, relu=relu))


def guided_gradcam(
    device: Device, graph: Graph, x: Array, target: int, *, layer: str, upsample: Upsampling = "bilinear"
) -> Tensor:  # fmt: skip
    """Guided backprop times GradCAM at ``layer`` (Selvaraju et al. 2017), upsampled as in GradCAM: (C, H, W)."""
    return _in_one_launch(device, x, cam_kernels.guided_gradcam(graph, target, layer, _size(graph), upsample))


def check_upsampling(*, upsample: Upsampling, **_: object) -> None:
    """Raise ``ValueError`` where a map that is multiplied by the picture's gradient is not of the picture's size."""
    if upsample == "none":
        raise ValueError("upsample must be bilinear or nearest for guided_gradcam, got none")


def layercam(device: Device, graph: Graph, x: Array, target: int, *, layer: str) -> Tensor:
    """LayerCAM at ``layer``: every place weighed by its own positive gradient (Jiang et al. 2021), (1, H, W)."""
    return _in_one_launch(device, x, cam_kernels.layercam(graph, target, layer, _size(graph)))


def gradcam_plus_plus(device: Device, graph: Graph, x: Array, target: int, *, layer: str) -> Tensor:
    """Grad-CAM++ at ``layer``: a channel weighs Σ α·ReLU(g) (Chattopadhay et al. 2018), (1, H, W).

    The machine leaves the gradient g and the sum of every channel; the host divides, and the machine weighs.
    """
    kernel = cam_kernels.layer_gradient(graph, target, layer)
    made = device.launch(kernel, {"input": x}, sync=True)
    gradient, features = made[kernel.graph.outputs[1]], made[layer]
    ending = {"gradcam.features": features}
    totals = device.launch(cam_kernels.channel_totals(features.type), ending, sync=True)["gradcam.total"]
    device.decide(_WORK * gradient.type.size)
    feeds = ending | {"gradcam.weights": gradient.on_host(channel_weights, totals)}
    return device.launch(cam_kernels.weighed(features.type, _size(graph)), feeds)["attribution"]


def channel_weights(gradient: Array, totals: Array) -> Array:
    """Return Grad-CAM++'s weights (N, 1, K, 1, 1) from gradients g (N, K, H, W) and channels' sums ΣA (N, K, 1, 1).

    α = g² / (2g² + ΣA · g³), so α · ReLU(g) = ReLU(g) / (2 + ΣA · g); where that divides by 0, nothing is added.
    """
    positive = np.maximum(gradient, 0)
    divisor = 2 + totals * positive
    shares = np.divide(positive, divisor, out=np.zeros_like(divisor), where=divisor != 0)
    return np.asarray(shares.sum(axis=(2, 3))[:, None, :, None, None])


def _in_one_launch(device: Device, x: Array, kernel: Kernel) -> Tensor:
    return device.launch(kernel, {"input": x}, sync=True)[kernel.graph.outputs[-1]]


def _size(graph: Graph) -> tuple[int, int]:
    _, height, width = graph.inputs["input"].shape
    return height, width
