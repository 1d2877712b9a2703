"""The gradient as a source-to-source function: a rule per operator, and a driver that walks the graph backwards.

    differentiate(graph, "logits", "input")     adds nodes whose output is d_input = (∂logits/∂input)ᵀ · seed

Backward is just more nodes: the gradient of ``conv`` is another ``conv`` that reads the same weights turned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xaisim.ir.graph import Graph, GraphBuilder, Names
from xaisim.ir.ops import Node
from xaisim.ir.types import TensorType


class Backward(GraphBuilder):
    """A builder that appends backward nodes to a forward graph and names them ``d_…``."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.names = Names(set(self.types))
        self.stored: dict[tuple[str, str], Node] = {}
        self.kept = {node.name for node in graph.nodes if node.op in ("positive", "pool_index") and not node.backward}
        """What an earlier differentiation of the same forward pass has stored."""

    def emit(self, base: str, op: str, *args: str, **attrs: Any) -> str:
        """Append a backward node called ``base`` or, where that is taken, ``base_2`` and so on."""
        return self.add(self.names.fresh(base), op, *args, **attrs)

    def store(self, owner: Node, op: str, source: str, **attrs: object) -> str:
        """Return what forward must keep for backward (a mask, an index), made once, as a forward node at ``owner``."""
        if f"{owner.name}.{op}" in self.kept:
            return f"{owner.name}.{op}"
        if (op, owner.name) not in self.stored:
            self.backward = False
            self.add(self.names.fresh(f"{owner.name}.{op}"), op, source, layer=owner.layer, **attrs)
            self.backward = True
            self.stored[op, owner.name] = self.nodes.pop()
        return self.stored[op, owner.name].name

    def finish(self, *outputs: str) -> Graph:
        """Return the graph with every stored mask and index right behind the node that it belongs to."""
        behind: dict[str, list[Node]] = {}
        for (_, owner), node in self.stored.items():
            behind.setdefault(owner, []).append(node)
        self.nodes = [n for node in self.nodes for n in (node, *behind.get(node.name, ()))]
        return self.build(*outputs)


Rule = Callable[[Backward, Node, str], Mapping[str, str]]
"""(builder, forward node, gradient of its output) → gradient of each argument that has one."""


def _conv(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    """dX = conv(dY, W turned): pad' = K − 1 − pad, the stride becomes an input dilation."""
    x, w = node.args[0], node.args[1]
    kernel = b.types[w].shape[2:]
    attrs = _transposed_window(node, kernel, b.types[x].shape)
    return {x: b.emit(f"d_{x}", "conv", g, w, **attrs, transposed=True)}


def _transposed_window(node: Node, kernel: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, object]:
    """Attributes of the window that carries a gradient from ``node``'s output back to an input of ``shape``."""
    if node.attrs.get("dilation", (1, 1)) != (1, 1) or node.attrs.get("transposed"):
        raise ValueError(f"{node.name}: second derivatives of {node.op} are not defined")
    top, left = (kernel[i] - 1 - node.attrs["padding"][i] for i in range(2))
    stride = node.attrs["stride"]
    # Rows and columns that no window reached (a stride that does not divide) still need their zero gradient.
    bottom, right = (
        shape[1 + i] - 1 - ((node.type.shape[1 + i] - 1) * stride[i] + 1 + before - kernel[i])
        for i, before in enumerate((top, left))
    )
    return {"stride": (1, 1), "padding": (top, left, bottom, right), "dilation": stride}


def _linear(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    return {node.args[0]: b.emit(f"d_{node.args[0]}", "linear", g, node.args[1], transposed=True)}


def relu(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    """Plain gradient: R = m·G with m = 1[Z > 0]."""
    mask = b.store(node, "positive", node.name)
    return {node.args[0]: b.emit(f"d_{node.args[0]}", "gate", g, mask)}


def deconvnet_relu(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    """DeconvNet: R = 1[G > 0]·G; nothing is stored."""
    return {node.args[0]: b.emit(f"d_{node.args[0]}", "relu", g)}


def guided_relu(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    """Guided backprop: R = m·1[G > 0]·G."""
    mask = b.store(node, "positive", node.name)
    return {node.args[0]: b.emit(f"d_{node.args[0]}", "gate", b.emit(f"{g}.positive", "relu", g), mask)}


def _maxpool(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    """Route to the stored index and accumulate, since windows may overlap."""
    x = node.args[0]
    window = {key: node.attrs[key] for key in ("kernel", "stride", "padding")}
    index = b.store(node, "pool_index", x, **window)
    return {x: b.emit(f"d_{x}", "unpool", g, index, shape=b.types[x].shape, **window)}


def _avgpool(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    x, scale = node.args
    attrs = _transposed_window(node, node.attrs["kernel"], b.types[x].shape)
    return {x: b.emit(f"d_{x}", "avgpool", g, scale, kernel=node.attrs["kernel"], **attrs)}


def _add(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    x, y = node.args
    return {x: b.emit(f"d_{x}", "add", g, g)} if x == y else {x: g, y: g}


def _concat(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    parts: dict[str, str] = {}
    start = 0
    for arg in node.args:
        stop = start + b.types[arg].shape[0]
        part = b.emit(f"d_{arg}", "slice", g, start=start, stop=stop)
        parts[arg] = b.emit(f"d_{arg}.sum", "add", parts[arg], part) if arg in parts else part
        start = stop
    return parts


def _reshape(b: Backward, node: Node, g: str) -> Mapping[str, str]:
    x = node.args[0]
    return {x: b.emit(f"d_{x}", "reshape", g, shape=b.types[x].shape)}


RULES: dict[str, Rule] = {
    "conv": _conv,
    "linear": _linear,
    "relu": relu,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "add": _add,
    "concat": _concat,
    "reshape": _reshape,
}

DECONVNET: dict[str, Rule] = RULES | {"relu": deconvnet_relu}
GUIDED: dict[str, Rule] = RULES | {"relu": guided_relu}


def differentiate(
    graph: Graph,
    output: str,
    wrt: str,
    *,
    rules: Mapping[str, Rule] = RULES,
    seed: str | None = None,
    also: Sequence[str] = (),
) -> Graph:
    """Return ``graph`` with one more output, ``d_<wrt>``: the vector-Jacobian product seedᵀ · ∂output/∂wrt.

    Before it stand those of the tensors in ``also``, which lie on the way.

    ``seed`` names a tensor of the graph with the shape of ``output``; by default it is one more input, ``seed``. For a
    one-hot seed this is the gradient of that class under ``rules``. Raises ``ValueError`` for an op that has no rule.
    """
    b = Backward(graph)
    if seed is None:
        seed = b.input(b.names.fresh("seed"), TensorType(b.types[output].shape))
    on_path = _between(graph, wrt, output)
    if output not in on_path:
        raise ValueError(f"{output} does not depend on {wrt}")
    arrived = {output: seed}
    b.backward = True
    for node in reversed(graph.nodes):
        if node.name == wrt or node.name not in on_path or node.name not in arrived:
            continue
        if node.op not in rules:
            raise ValueError(f"{node.name}: no gradient rule for {node.op}; there are rules for {', '.join(rules)}")
        b.layer = node.layer
        for arg, gradient in rules[node.op](b, node, arrived[node.name]).items():
            if arg in arrived:  # a fork: add up as soon as the next part is there, so that the sum fuses behind it
                gradient = b.emit(f"d_{arg}.sum", "add", arrived[arg], gradient)
            if arg in on_path:
                arrived[arg] = gradient
    return b.finish(*graph.outputs, *(arrived[name] for name in also), arrived[wrt])


def _between(graph: Graph, wrt: str, output: str) -> set[str]:
    """Names that depend on ``wrt`` (itself included) and reach ``output``."""
    forward = {wrt}
    for node in graph.nodes:
        if any(arg in forward for arg in node.args):
            forward.add(node.name)
    needed = {output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.args)
    return forward & needed
