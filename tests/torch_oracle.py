"""Runs a real graph of a network with torch's own operators, so that torch's autograd differentiates it.

torch_oracle.gradient(graph, x, target, "guided")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xaisim.ir.graph import Graph
from xaisim.ir.ops import Node

torch.set_num_threads(1)  # tests run side by side already


class _Deconvnet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:  # noqa: ARG004 - nothing is stored
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # noqa: ARG004
        return g * (g > 0)


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (g > 0) * (ctx.saved_tensors[0] > 0)


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": functional.relu,  # its derivative at 0 is 0
    "deconvnet": _Deconvnet.apply,
    "guided": _Guided.apply,
}


def run(graph: Graph, x: Tensor, relu: str = "plain") -> dict[str, Tensor]:
    """Return every tensor of a forward graph for a batch ``x``."""
    values = {name: torch.as_tensor(np.asarray(c.value)) for name, c in graph.constants.items()}
    values["input"] = x
    for node in graph.nodes:
        values[node.name] = _apply(node, [values[a] for a in node.args], RELUS[relu])
    return values


def gradient(graph: Graph, x: np.ndarray, target: int, relu: str = "plain", wrt: str = "input") -> np.ndarray:
    """Return d logit[target] / d ``wrt``, sample by sample."""
    start = torch.tensor(x, requires_grad=True)
    values = run(graph, start, relu)
    score = values[graph.outputs[0]][:, target].sum()
    return torch.autograd.grad(score, values[wrt])[0].numpy()


def _padded(x: Tensor, padding: tuple[int, int, int, int], fill: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return functional.pad(x, (left, right, top, bottom), value=fill)


def _apply(node: Node, args: list[Tensor], relu: Callable[[Tensor], Tensor]) -> Tensor:
    a = node.attrs
    match node.op:
        case "conv":
            return functional.conv2d(_padded(args[0], a["padding"]), *args[1:], stride=a["stride"])
        case "linear":
            return functional.linear(*args)
        case "relu":
            return relu(args[0])
        case "maxpool":
            return functional.max_pool2d(_padded(args[0], a["padding"], -torch.inf), a["kernel"], a["stride"])
        case "avgpool":
            ones = torch.ones(args[0].shape[1], 1, *a["kernel"], dtype=args[0].dtype) * args[1]
            return functional.conv2d(_padded(args[0], a["padding"]), ones, stride=a["stride"], groups=len(ones))
        case "add":
            return args[0] + args[1]
        case "concat":
            return torch.cat(args, dim=1)
        case "reshape":
            return args[0].reshape(len(args[0]), *a["shape"])
    raise ValueError(f"{node.name}: the oracle has no {node.op}")
