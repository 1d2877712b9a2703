"""What a plan reads off a graph: which tensors can be maps, and what follows a sum element by element.

conv.exact → add → requant → relu          one chain: computed while the sum is near, stored once
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xaisim.ir import nhwc
from xaisim.ir.graph import Graph
from xaisim.ir.memory import scratch
from xaisim.ir.ops import Node
from xaisim.ir.packing import Packed
from xaisim.ir.tail import Tail, tail
from xaisim.ir.types import FixedPoint
from xaisim.ir.values import Values

Array = np.ndarray
Packs = dict[tuple[Any, ...], tuple[Array, list[Packed]]]
"""Packed weights by identity and use, with the integers, which keeps the identity theirs."""


@dataclass(slots=True)
class Step:
    """One call: what it reads and makes, and how."""

    nodes: list[Node]
    reads: list[str]
    run: Callable[[Values], None]
    definition: bool = False
    """It evaluates its node's definition."""


_WIDEST = 62
"""Bits of a sum that can be shifted and rounded without leaving int64."""


class Reading:
    """A graph and what is asked of it again and again."""

    def __init__(self, graph: Graph, packs: Packs, *, every_rounding: bool) -> None:
        self.graph = graph
        self.packs = packs
        self.every_rounding = every_rounding
        self.types = graph.types()
        self.users = graph.users()
        self.order = {name: i for i, name in enumerate(self.types)}

    def size(self, name: str) -> tuple[int, int]:
        """Return the height and width of a map."""
        shape = self.types[name].shape
        return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)

    def mapped(self, name: str) -> bool:
        """Return whether a tensor has the shape of a map: (C, H, W) or (C,)."""
        return len(self.types[name].shape) in (1, 3)

    def is_map(self, name: str) -> bool:
        """Return whether a tensor can be a map of numbers."""
        return self.mapped(name) and nhwc.fits(self.types[name].format)


@dataclass(slots=True)
class Chain:
    """What follows a sum element by element, up to the tensor that is stored."""

    result: str
    nodes: list[Node] = field(default_factory=list)
    shift: int = 0
    other: str | None = None
    other_shift: int = 0
    mask: str | None = None
    bits: int = 64
    right: int = 0
    to: FixedPoint | None = None
    positive: bool = False
    gate: str | None = None

    @property
    def reads(self) -> list[str]:
        """Tensors it reads beside the sum."""
        return [name for name in (self.other, self.gate) if name is not None]


def follow(g: Reading, node: Node) -> Chain | None:
    """Follow the only readers of a sum; None where it is too wide, or would be stored in a form that is not a map."""
    chain = Chain(node.name)
    current, shape = node, node.type.shape
    before = g.order[node.name]
    if node.op == "add":
        chain.shift, chain.other_shift = node.attrs.get("shifts", (0, 0))
        chain.other = node.args[1]
    while chain.to is None:
        users = g.users[current.name]
        masks = [u for u in users if u.op == "positive"]
        rest = [u for u in users if u.op != "positive"]
        if not rest and len(masks) == 1 and current.name not in g.graph.outputs:
            chain.mask = chain.result = masks[0].name
            chain.bits = current.type.element_bits
            chain.nodes.append(masks[0])
            return chain if chain.bits <= _WIDEST else None
        if current.name in g.graph.outputs or len(rest) != 1 or len(masks) > 1:
            return None
        following = rest[0]
        chain.bits = current.type.element_bits
        if chain.bits > _WIDEST:
            return None
        if following.op == "add" and not masks and chain.other is None:
            here = following.args.index(current.name)
            other = following.args[1 - here]
            shifts = following.attrs.get("shifts", (0, 0))
            fits = g.is_map(other) and g.types[other].shape == shape and g.order[other] < before
            if not fits or other == current.name or other in g.graph.constants:
                return None
            chain.other, chain.shift, chain.other_shift = other, shifts[here], shifts[1 - here]
        elif following.op == "requant" and nhwc.fits(following.type.format):
            chain.right = following.attrs["from_frac"] - following.attrs["to"].frac
            chain.to = following.attrs["to"]
            if masks:
                chain.mask = masks[0].name
                chain.nodes.append(masks[0])
        else:
            return None
        chain.nodes.append(following)
        current = following
    return cut_short(g, chain, current, before)


def cut_short(g: Reading, chain: Chain, current: Node, before: int) -> Chain:
    """Take along a ReLU or gate that is the only reader of the rounded value."""
    while not g.every_rounding and current.name not in g.graph.outputs and len(g.users[current.name]) == 1:
        following = g.users[current.name][0]
        if following.op == "relu":
            chain.positive = True
        elif following.op == "gate" and chain.gate is None and following.args[0] == current.name:
            mask = following.args[1]
            same = g.types[mask].shape == current.type.shape
            # A mask of the sum has the sum's samples, of which the gate may have more.
            if chain.mask or not same or g.order[mask] > before or mask in g.graph.constants:
                break
            chain.gate = mask
        else:
            break
        chain.nodes.append(following)
        current = following
    chain.result = current.name
    return chain


def tail_for(g: Reading, chain: Chain, values: Values, count: int) -> Tail:
    """Return the tail of a chain for ``count`` samples; its output and mask become maps."""
    shape = g.types[chain.result].shape
    spread = (1, 1, *shape) if len(shape) == 1 else (*shape[1:], shape[0])
    optional: dict[str, Any] = {}
    if chain.to is not None:
        values.maps[chain.result] = optional["out"] = scratch((count, *spread), np.int16)
        optional["zero"] = nhwc.zero_of(g.types[chain.result].format)  # type: ignore[arg-type]
    if chain.other is not None:
        optional["other"] = values.whole(chain.other, count)
        optional["other_zero"] = nhwc.zero_of(g.types[chain.other].format)  # type: ignore[arg-type]
    if chain.gate is not None:
        optional["gate"] = values.whole(chain.gate, count)
    if chain.mask is not None:
        values.maps[chain.mask] = optional["mask"] = scratch((count, *spread), np.int8)
    return tail(
        shift=chain.shift,
        other_shift=chain.other_shift,
        right=chain.right,
        to=chain.to,
        positive=chain.positive,
        bits=chain.bits,
        **optional,
    )
