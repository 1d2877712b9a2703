"""A network's own graph as a torch module: the same operators, weights and order, in float32.

network = from_graph(load_model("resnet18_tiny")); logits = network(x)

Only comparisons with frameworks use it, and it needs PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xaisim.ir.ops import Node
from xaisim.models.load import Model


class GraphModule(nn.Module):
    """Runs a graph's nodes one behind the other."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.nodes, self.outputs, self.features = model.graph.nodes, model.graph.outputs, model.features
        self.tap = nn.Identity()
        """What the last feature map passes through, for those who hook a layer."""
        self.places = {name: f"p{number}" for number, name in enumerate(model.graph.constants)}
        for name, constant in model.graph.constants.items():
            value = nn.Parameter(torch.tensor(constant.value, dtype=torch.float32), requires_grad=False)
            self.register_parameter(self.places[name], value)

    def forward(self, x: Tensor, keep: bool = False) -> Any:
        """Return the logits, and with ``keep`` the last feature map, too."""
        values = {"input": x, **{name: getattr(self, place) for name, place in self.places.items()}}
        if keep and not x.requires_grad and not any(p.requires_grad for p in self.parameters()):
            # Nothing before the map needs a gradient: only the map itself and what follows it.
            return self._with_map(values)
        for node in self.nodes:
            values[node.name] = _run(node, [values[arg] for arg in node.args])
            if node.name == self.features:
                values[node.name] = self.tap(values[node.name])
        logits = values[self.outputs[0]]
        return (logits, values[self.features]) if keep else logits

    def _with_map(self, values: dict[str, Tensor]) -> Any:
        for node in self.nodes:
            values[node.name] = _run(node, [values[arg] for arg in node.args])
            if node.name == self.features:
                values[node.name] = values[node.name].detach().requires_grad_()
        return values[self.outputs[0]], values[self.features]


def from_graph(model: Model) -> GraphModule:
    """Return the network as a module; raises ``KeyError`` for an operator that no network here has."""
    return GraphModule(model).eval()


def _run(node: Node, args: list[Tensor]) -> Tensor:
    """Compute one node; raises ``KeyError`` for an operator that no network here has."""
    if node.op in _PLAIN:
        return _PLAIN[node.op](*args)
    return _OPS[node.op](node, *args)


def _padded(x: Tensor, node: Node, value: float = 0.0) -> Tensor:
    top, left, bottom, right = node.attrs["padding"]
    return functional.pad(x, (left, right, top, bottom), value=value) if any(node.attrs["padding"]) else x


def _conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    top, left, bottom, right = node.attrs["padding"]
    if (top, left) == (bottom, right):
        return functional.conv2d(x, w, b, node.attrs["stride"], (top, left))
    return functional.conv2d(_padded(x, node), w, b, node.attrs["stride"])


def _max_pool(node: Node, x: Tensor) -> Tensor:
    return functional.max_pool2d(_padded(x, node, float("-inf")), node.attrs["kernel"], node.attrs["stride"])


def _average(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    height, width = node.attrs["kernel"]
    return functional.avg_pool2d(_padded(x, node), (height, width), node.attrs["stride"]) * (height * width * scale)


_PLAIN: dict[str, Any] = {
    "linear": functional.linear,
    "relu": functional.relu,
    "add": torch.add,
    "mul": torch.mul,
}
_OPS: dict[str, Any] = {
    "conv": _conv,
    "maxpool": _max_pool,
    "avgpool": _average,
    "concat": lambda _node, *parts: torch.cat(parts, dim=1),
    "slice": lambda node, x: x[:, node.attrs["start"] : node.attrs["stop"]],
    "reshape": lambda node, x: x.reshape(len(x), *node.attrs["shape"]),
}
