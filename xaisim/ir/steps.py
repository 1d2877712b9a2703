"""The steps of a plan: for each operator, how it runs on maps, or None where it cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xaisim.ir import nhwc
from xaisim.ir.chain import Chain, Reading, Step, cut_short, follow, tail_for
from xaisim.ir.memory import scratch
from xaisim.ir.ops import Node
from xaisim.ir.product_step import product_step
from xaisim.ir.types import FixedPoint
from xaisim.ir.values import Values

_PLACES = 256
"""Places of a window that an index of 8 bits can name."""


def _pool(g: Reading, node: Node) -> Step | None:
    """Maxima and their places, together where both are asked for."""
    x = node.args[0]
    if not g.is_map(x) or np.prod(node.attrs["kernel"]) > _PLACES:
        return None
    other = {"maxpool": "pool_index", "pool_index": "maxpool"}[node.op]
    twins = [u for u in g.users[x] if u.op == other and u.attrs == node.attrs]
    nodes = [node, *twins[:1]]

    def run(values: Values) -> None:
        map = values.map(x)
        shape = (len(map), *node.type.shape[1:], node.type.shape[0])
        out, index = scratch(shape, np.int16), scratch(shape, np.uint8)
        nhwc.max_pool(map, out, index, *node.attrs["kernel"], *node.attrs["stride"], *node.attrs["padding"][:2])
        for n in nodes:
            values.maps[n.name] = out if n.op == "maxpool" else index

    return Step(nodes, [x], run)


def _unpool(g: Reading, node: Node) -> Step | None:
    """Gradients back to the places of the maxima."""
    gradient, index = node.args
    chain = follow(g, node)
    if chain is None or not g.is_map(gradient) or np.prod(node.attrs["kernel"]) > _PLACES:
        return None
    zero = nhwc.zero_of(g.types[gradient].format)  # type: ignore[arg-type]
    attrs = node.attrs

    def run(values: Values) -> None:
        count = values.batch([gradient, index, *chain.reads])
        t = tail_for(g, chain, values, count)
        nhwc.max_unpool(values.whole(gradient, count), zero, values.whole(index, count), g.size(node.name),
                        attrs["kernel"], attrs["stride"], attrs["padding"][:2], t)  # fmt: skip

    return Step([node, *chain.nodes], [gradient, index, *chain.reads], run)


def _average(g: Reading, node: Node) -> Step | None:
    """Window sums times a constant."""
    x, scale = node.args
    constant = g.graph.constants.get(scale)
    chain = follow(g, node)
    if chain is None or not g.is_map(x) or constant is None or constant.value is None or constant.value.size != 1:
        return None
    factor = int(constant.value.reshape(())[()])
    zero = nhwc.zero_of(g.types[x].format)  # type: ignore[arg-type]
    attrs = node.attrs

    def run(values: Values) -> None:
        count = values.batch([x, *chain.reads])
        t = tail_for(g, chain, values, count)
        nhwc.window_sum(values.whole(x, count), zero, factor, g.size(node.name), attrs["kernel"],
                        attrs["stride"], attrs["padding"][:2], attrs.get("dilation", (1, 1)), t)  # fmt: skip

    return Step([node, *chain.nodes], [x, *chain.reads], run)


def _add(g: Reading, node: Node) -> Step | None:
    """The sum of two maps."""
    a, b = node.args
    same = g.types[a].shape == g.types[b].shape == node.type.shape
    chain = follow(g, node) if same and g.is_map(a) and g.is_map(b) else None
    return _pointwise(g, a, chain, [node]) if chain else None


def _requant(g: Reading, node: Node) -> Step | None:
    """A change of format of a map."""
    if not g.is_map(node.args[0]) or not nhwc.fits(node.type.format):
        return None
    to = node.attrs["to"]
    chain = Chain(node.name, right=node.attrs["from_frac"] - to.frac, to=to)
    return _pointwise(g, node.args[0], cut_short(g, chain, node, g.order[node.name]), [node])


def _relu(g: Reading, node: Node) -> Step | None:
    """A ReLU on its own: nothing to do where the numbers are unsigned."""
    x = node.args[0]
    format = g.types[x].format
    if not g.is_map(x) or not isinstance(format, FixedPoint):
        return None
    if not format.signed:

        def same(values: Values) -> None:
            values.maps[node.name] = values.map(x)

        return Step([node], [x], same)
    return _pointwise(g, x, Chain(node.name, to=FixedPoint(format.bits, format.frac), positive=True), [node])


def _gate(g: Reading, node: Node) -> Step | None:
    """A gate on its own."""
    x, mask = node.args
    format = g.types[x].format
    if not g.is_map(x) or g.types[mask].shape != node.type.shape or not isinstance(format, FixedPoint):
        return None
    to = FixedPoint(format.bits, format.frac, format.signed)
    return _pointwise(g, x, Chain(node.name, to=to, gate=mask), [node])


def _pointwise(g: Reading, x: str, chain: Chain, nodes: list[Node]) -> Step:
    zero = nhwc.zero_of(g.types[x].format)  # type: ignore[arg-type]

    def run(values: Values) -> None:
        count = values.batch([x, *chain.reads])
        t = tail_for(g, chain, values, count)
        nhwc.pointwise(values.whole(x, count), zero, t)

    return Step([*nodes, *chain.nodes], [x, *chain.reads], run)


def _concat(g: Reading, node: Node) -> Step | None:
    """Maps side by side along their channels."""
    if not all(g.is_map(a) for a in node.args) or len(node.type.shape) != 3:
        return None

    def run(values: Values) -> None:
        count = values.batch(list(node.args))
        out = scratch((count, *node.type.shape[1:], node.type.shape[0]), np.int16)
        first = 0
        for name in node.args:
            map = values.map(name)
            out[..., first : first + map.shape[3]] = map
            first += map.shape[3]
        values.maps[node.name] = out

    return Step([node], list(node.args), run)


def _slice(g: Reading, node: Node) -> Step | None:
    """Some channels of a map."""
    if not g.is_map(node.args[0]):
        return None

    def run(values: Values) -> None:
        map = values.map(node.args[0])[..., node.attrs["start"] : node.attrs["stop"]]
        values.maps[node.name] = scratch(map.shape, np.int16)
        values.maps[node.name][...] = map

    return Step([node], [node.args[0]], run)


def _reshape(g: Reading, node: Node) -> Step | None:
    """(C, 1, 1) to (C,) and back: the same map."""
    x = g.types[node.args[0]].shape
    if not g.is_map(node.args[0]) or x[0] != node.type.shape[0] or {*x[1:], *node.type.shape[1:]} - {1}:
        return None

    def run(values: Values) -> None:
        values.maps[node.name] = values.map(node.args[0])

    return Step([node], [node.args[0]], run)


STEPS: dict[str, Callable[[Reading, Node], Step | None]] = {
    "conv": product_step,
    "linear": product_step,
    "maxpool": _pool,
    "pool_index": _pool,
    "unpool": _unpool,
    "avgpool": _average,
    "add": _add,
    "requant": _requant,
    "relu": _relu,
    "gate": _gate,
    "concat": _concat,
    "slice": _slice,
    "reshape": _reshape,
}
