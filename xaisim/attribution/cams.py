"""Class activation maps: a feature map weighed by what the class makes of it, upsampled to the input.

gradcam(device, model.graph, x, target=3, layer="layer4.1.relu2")
"""

from __future__ import annotations

from xaisim.attribution import kernels
from xaisim.attribution.device import Device, Tensor
from xaisim.ir.graph import Array, Graph


def gradcam(device: Device, graph: Graph, x: Array, target: int, *, layer: str) -> Tensor:
    """GradCAM at ``layer``, upsampled to the input (Selvaraju et al. 2017), not normalised: (1, H, W)."""
    height, width = graph.inputs["input"].shape[1:]
    kernel = kernels.gradcam(graph, target, layer, (height, width))
    return device.launch(kernel, {"input": x}, sync=True)["attribution"]
