"""Plan: a fixed-point graph arranged for speed, bit for bit what :func:`xaisim.ir.graph.evaluate` computes.

    plan = Plan(graph)
    plan.run({"input": integers})["logits"]

Numbers of at most 16 bits live as NHWC maps (``xaisim.ir.nhwc``). A sum of products, a window sum or an addition takes
along what follows it element by element: a residual, the mask, ``requant``, a ReLU or gate (``xaisim.ir.tail``).
Whatever fits none of this runs by its definition on int64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from xaisim.ir import nhwc, packing, products
from xaisim.ir.graph import Constant, Graph, Observer
from xaisim.ir.kernels import phases
from xaisim.ir.machine import LANES, selected
from xaisim.ir.memory import scratch
from xaisim.ir.ops import OPS, Node, turned
from xaisim.ir.tail import Tail, tail
from xaisim.ir.tail_code import Bias, bias_of
from xaisim.ir.types import Bits, FixedPoint, TensorType

Array = np.ndarray

_WIDEST = 62
"""Bits of a sum that the tails can shift and round without leaving int64."""


@dataclass(slots=True)
class Values:
    """Tensors in flight, each in one or both of its forms."""

    types: Mapping[str, TensorType]
    threads: int = 1
    plain: dict[str, Array] = field(default_factory=dict)
    """int64 (N, *shape)."""
    maps: dict[str, Array] = field(default_factory=dict)
    """NHWC: int16, int8 masks or uint8 indices."""
    seen: dict[str, nhwc.Ranges] = field(default_factory=dict)

    def integers(self, name: str) -> Array:
        """Return a tensor as int64 (N, *shape)."""
        if name not in self.plain:
            map, type = self.maps[name], self.types[name]
            rank = len(type.shape)
            if isinstance(type.format, FixedPoint):
                self.plain[name] = nhwc.integers(map, nhwc.zero_of(type.format), rank)
            else:
                self.plain[name] = np.abs(nhwc.integers(map, 0, rank))
        return self.plain[name]

    def map(self, name: str) -> Array:
        """Return a tensor as a map."""
        if name not in self.maps:
            values, type = self.plain[name], self.types[name]
            if isinstance(type.format, FixedPoint):
                self.maps[name] = nhwc.stored(values, nhwc.zero_of(type.format))
            else:
                kind, sign = (np.int8, -1) if type.format == Bits(1) else (np.uint8, 1)
                spread = values[:, :, None, None] if values.ndim == 2 else values
                self.maps[name] = np.ascontiguousarray(sign * spread.transpose(0, 2, 3, 1), kind)
        return self.maps[name]

    def ranges(self, name: str) -> nhwc.Ranges:
        """Return the least and the largest stored number of every channel of a map."""
        if name not in self.seen:
            self.seen[name] = nhwc.channel_ranges(self.maps[name])
        return self.seen[name]

    def batch(self, names: list[str]) -> int:
        """Return the number of samples that an operator on ``names`` makes."""
        return max(len(self.maps[n] if n in self.maps else self.plain[n]) for n in names)

    def whole(self, name: str, count: int) -> Array:
        """Return a map with ``count`` samples, repeating a single one."""
        map = self.map(name)
        return map if len(map) == count else np.ascontiguousarray(np.broadcast_to(map, (count, *map.shape[1:])))

    def drop(self, name: str) -> None:
        """Forget a tensor."""
        self.plain.pop(name, None)
        self.maps.pop(name, None)
        self.seen.pop(name, None)


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


@dataclass(slots=True)
class Step:
    """One call: what it reads and makes, and how."""

    nodes: list[Node]
    reads: list[str]
    run: Callable[[Values], None]
    definition: bool = False
    """It evaluates its node's definition."""


Packs = dict[tuple[Any, ...], tuple[Array, list[packing.Packed]]]


class Plan:
    """A graph compiled to steps; ``packs`` may be shared by plans over the same weights.

    With ``every_rounding``, what a ReLU or gate cuts after it was rounded is kept as it was rounded, for observers.
    """

    def __init__(self, graph: Graph, packs: Packs | None = None, *, every_rounding: bool = False) -> None:
        self.graph = graph
        self.types = graph.types()
        self.packs = {} if packs is None else packs
        self.every_rounding = every_rounding
        self.order = {name: i for i, name in enumerate(self.types)}
        self.users = graph.users()
        self.steps = _in_order(self._steps(), graph)
        self.last = {name: i for i, step in enumerate(self.steps) for name in step.reads}

    def run(self, feeds: Mapping[str, Array], *, threads: int = 1, observe: Observer | None = None) -> dict[str, Array]:
        """Return the outputs, int64 (N, *shape), for int64 inputs (N or 1, *shape).

        ``observe`` sees every tensor that is stored (not the sums that are rounded on their way).
        """
        values = Values(self.types, threads)
        for name in self.graph.inputs:
            if name in feeds:
                values.plain[name] = feeds[name]
                if observe:
                    observe(name, feeds[name])
            elif name in self.last or name in self.graph.outputs:
                raise ValueError(f"input {name!r} has no value")
        for name, constant in self.graph.constants.items():
            if constant.value is None:
                raise ValueError(f"constant {name!r} has no value")
            if name in self.last or name in self.graph.outputs:
                values.plain[name] = constant.value[None]
        for i, step in enumerate(self.steps):
            step.run(values)
            if observe:
                for node in step.nodes:
                    if node.name in values.maps or node.name in values.plain:
                        observe(node.name, values.integers(node.name))
            for name in step.reads:
                if self.last[name] == i and name not in self.graph.outputs:
                    values.drop(name)
        return {name: values.integers(name) for name in self.graph.outputs}

    # --- compiling ----------------------------------------------------------------------------------------------------

    def _steps(self) -> list[Step]:
        """Return a step per group of nodes, in the order of their first nodes."""
        steps: list[Step] = []
        done: set[str] = set()
        for node in self.graph.nodes:
            if node.name in done:
                continue
            step = self._step(node)
            done.update(n.name for n in step.nodes)
            steps.append(step)
        return steps

    def _step(self, node: Node) -> Step:
        make = _STEPS.get(node.op)
        step = make(self, node) if make and self._mapped(node.name) else None
        if step is not None:
            return step

        def define(values: Values) -> None:
            values.plain[node.name] = OPS[node.op].evaluate(node, *(values.integers(a) for a in node.args))

        return Step([node], list(node.args), define, definition=True)

    def _size(self, name: str) -> packing.Pair:
        """Return the height and width of a map."""
        shape = self.types[name].shape
        return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)

    def _mapped(self, name: str) -> bool:
        """Return whether a tensor has the shape of a map: (C, H, W) or (C,)."""
        return len(self.types[name].shape) in (1, 3)

    def _map(self, name: str) -> bool:
        """Return whether a tensor can be a map of numbers."""
        return self._mapped(name) and nhwc.fits(self.types[name].format)

    def _chain(self, node: Node) -> Chain | None:
        """Follow the only readers of a sum; None where it would be stored in a form that is not a map."""
        chain = Chain(node.name)
        current, shape = node, node.type.shape
        before = self.order[node.name]
        if node.op == "add":
            chain.shift, chain.other_shift = node.attrs.get("shifts", (0, 0))
            chain.other = node.args[1]
        while chain.to is None:
            users = self.users[current.name]
            masks = [u for u in users if u.op == "positive"]
            rest = [u for u in users if u.op != "positive"]
            if not rest and len(masks) == 1 and current.name not in self.graph.outputs:
                chain.mask = chain.result = masks[0].name
                chain.bits = current.type.element_bits
                chain.nodes.append(masks[0])
                return chain
            if current.name in self.graph.outputs or len(rest) != 1 or len(masks) > 1:
                return None
            following = rest[0]
            chain.bits = current.type.element_bits
            if following.op == "add" and not masks and chain.other is None:
                here = following.args.index(current.name)
                other = following.args[1 - here]
                shifts = following.attrs.get("shifts", (0, 0))
                fits = self._map(other) and self.types[other].shape == shape and self.order[other] < before
                if not fits or other == current.name or other in self.graph.constants:
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
        return self._gated(chain, current, before)

    def _gated(self, chain: Chain, current: Node, before: int) -> Chain:
        """Take along a ReLU or gate that is the only reader of the rounded value."""
        while not self.every_rounding and current.name not in self.graph.outputs and len(self.users[current.name]) == 1:
            following = self.users[current.name][0]
            if following.op == "relu":
                chain.positive = True
            elif following.op == "gate" and chain.gate is None and following.args[0] == current.name:
                mask = following.args[1]
                same = self.types[mask].shape == current.type.shape
                if not same or self.order[mask] > before or mask in self.graph.constants:
                    break
                chain.gate = mask
            else:
                break
            chain.nodes.append(following)
            current = following
        chain.result = current.name
        return chain

    def _tail(self, chain: Chain, values: Values, count: int) -> Tail:
        """Return the tail of a chain for ``count`` samples; its output and mask become maps."""
        shape = self.types[chain.result].shape
        spread = (1, 1, *shape) if len(shape) == 1 else (*shape[1:], shape[0])
        optional: dict[str, Any] = {}
        if chain.to is not None:
            values.maps[chain.result] = optional["out"] = scratch((count, *spread), np.int16)
            optional["zero"] = nhwc.zero_of(self.types[chain.result].format)  # type: ignore[arg-type]
        if chain.other is not None:
            optional["other"] = values.whole(chain.other, count)
            optional["other_zero"] = nhwc.zero_of(self.types[chain.other].format)  # type: ignore[arg-type]
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

    def _products(self, node: Node) -> Step | None:
        """Convolution or matrix product with constant weights."""
        x, w = node.args[:2]
        constant = self.graph.constants.get(w)
        chain = self._chain(node)
        known = constant is not None and constant.value is not None and constant.type.format is not None
        if chain is None or not known or not self._map(x) or int(node.attrs["bound"]).bit_length() > _WIDEST:
            return None
        assert constant is not None
        assert constant.value is not None
        if not nhwc.fits(constant.type.format) or "accumulator" in node.attrs:
            return None
        format = self.types[x].format
        assert isinstance(format, FixedPoint)
        zero = nhwc.zero_of(format)
        fours = selected().fours and format.bits <= 8 and constant.type.format.bits <= 8  # type: ignore[union-attr]
        offset = -128 * format.signed if fours else zero
        merged = _merges(node, chain)
        packs = self._packed(node, constant, fours=fours, merged=merged)
        filters = packs[0].filters  # where phases are merged, those of every phase one after the other
        lift = np.resize(np.array(node.attrs.get("lift", ()), np.int64), filters if "lift" in node.attrs else 0)
        own = self.graph.constants[node.args[2]].value if len(node.args) > 2 else None
        own = None if own is None else np.resize(own, filters)
        biases = [_Added(offset * packed.sums, lift, own) for packed in packs]
        size = self._size(node.name)
        dilation = node.attrs.get("dilation", (1, 1))

        def run(values: Values) -> None:
            map = values.map(x)
            count = values.batch([x, *chain.reads])
            if len(map) < count:
                map = values.whole(x, count)
            t = self._tail(chain, values, count)
            out, shape = t.out, size
            if merged:
                shape = packs[0].window.size
                t = t._replace(out=scratch((count * shape[0] * shape[1] * packs[0].filters,), np.int16))
            for packed, bias in zip(packs, biases, strict=True):
                window, division = nhwc.padded(map, packed, zero, partial(values.ranges, x), signed=format.signed)
                products.run(packed, division, window, bias.of(division), lift, t, shape, threads=values.threads)
            if merged:
                nhwc.spread(t.out.reshape(count, *shape, -1), out.reshape(count, *size, -1), *dilation)

        return Step([node, *chain.nodes], [x, *chain.reads], run)

    def _packed(self, node: Node, w: Constant, *, fours: bool, merged: bool) -> list[packing.Packed]:
        """Return the packed weights of every dense window of a convolution, from ``packs`` if they are there."""
        attrs = node.attrs
        stride, dilation = attrs.get("stride", (1, 1)), attrs.get("dilation", (1, 1))
        corner = tuple(attrs.get("padding", (0, 0))[:2])
        size, room = self._size(node.name), self._size(node.args[0])
        key = (id(w.value), bool(attrs.get("transposed")), stride, dilation, corner, size, room, fours, merged)
        if key in self.packs:
            return self.packs[key][1]
        assert w.value is not None
        filters = _filters(node, w.value)
        windows = packing.windows_of(filters.shape[2:], stride, dilation, corner, size)
        if merged:
            windows = [_merged(filters, dilation, corner, size)]
            filters = _merged_filters(filters, dilation, corner, size)
            dilation = (1, 1)
        packs = [
            packing.pack(filters[:, :, r :: dilation[0], s :: dilation[1]], window, fours=fours,
                          bound=int(attrs["bound"]), room=room)
            for window, (r, s) in windows
        ]  # fmt: skip
        if not w.chosen:
            self.packs[key] = (w.value, packs)
        return packs

    def _pool(self, node: Node) -> Step | None:
        """Maxima and their places, together where both are asked for."""
        x = node.args[0]
        if not self._map(x) or np.prod(node.attrs["kernel"]) > 255:
            return None
        other = {"maxpool": "pool_index", "pool_index": "maxpool"}[node.op]
        twins = [u for u in self.users[x] if u.op == other and u.attrs == node.attrs]
        nodes = [node, *twins[:1]]

        def run(values: Values) -> None:
            map = values.map(x)
            shape = (len(map), *node.type.shape[1:], node.type.shape[0])
            out, index = scratch(shape, np.int16), scratch(shape, np.uint8)
            nhwc.max_pool(map, out, index, *node.attrs["kernel"], *node.attrs["stride"], *node.attrs["padding"][:2])
            for n in nodes:
                values.maps[n.name] = out if n.op == "maxpool" else index

        return Step(nodes, [x], run)

    def _unpool(self, node: Node) -> Step | None:
        """Gradients back to the places of the maxima."""
        g, index = node.args
        chain = self._chain(node)
        if chain is None or not self._map(g):
            return None
        zero = nhwc.zero_of(self.types[g].format)  # type: ignore[arg-type]
        attrs = node.attrs

        def run(values: Values) -> None:
            count = values.batch([g, index, *chain.reads])
            t = self._tail(chain, values, count)
            nhwc.max_unpool(values.whole(g, count), zero, values.whole(index, count), self._size(node.name),
                            attrs["kernel"], attrs["stride"], attrs["padding"][:2], t)  # fmt: skip

        return Step([node, *chain.nodes], [g, index, *chain.reads], run)

    def _average(self, node: Node) -> Step | None:
        """Window sums times a constant."""
        x, scale = node.args
        constant = self.graph.constants.get(scale)
        chain = self._chain(node)
        if chain is None or not self._map(x) or constant is None or constant.value is None or constant.value.size != 1:
            return None
        factor = int(constant.value.reshape(())[()])
        zero = nhwc.zero_of(self.types[x].format)  # type: ignore[arg-type]
        attrs = node.attrs

        def run(values: Values) -> None:
            count = values.batch([x, *chain.reads])
            t = self._tail(chain, values, count)
            nhwc.window_sum(values.whole(x, count), zero, factor, self._size(node.name), attrs["kernel"],
                            attrs["stride"], attrs["padding"][:2], attrs.get("dilation", (1, 1)), t)  # fmt: skip

        return Step([node, *chain.nodes], [x, *chain.reads], run)

    def _add(self, node: Node) -> Step | None:
        """The sum of two maps."""
        a, b = node.args
        same = self.types[a].shape == self.types[b].shape == node.type.shape
        chain = self._chain(node) if same and self._map(a) and self._map(b) else None
        return self._pointwise(a, chain, [node]) if chain else None

    def _requant(self, node: Node) -> Step | None:
        """A change of format of a map."""
        if not self._map(node.args[0]) or not nhwc.fits(node.type.format):
            return None
        to = node.attrs["to"]
        chain = Chain(node.name, right=node.attrs["from_frac"] - to.frac, to=to)
        return self._pointwise(node.args[0], self._gated(chain, node, self.order[node.name]), [node])

    def _relu(self, node: Node) -> Step | None:
        """A ReLU on its own: nothing to do where the numbers are unsigned."""
        x = node.args[0]
        format = self.types[x].format
        if not self._map(x) or not isinstance(format, FixedPoint):
            return None
        if not format.signed:

            def same(values: Values) -> None:
                values.maps[node.name] = values.map(x)

            return Step([node], [x], same)
        return self._pointwise(x, Chain(node.name, to=FixedPoint(format.bits, format.frac), positive=True), [node])

    def _gate(self, node: Node) -> Step | None:
        """A gate on its own."""
        x, mask = node.args
        format = self.types[x].format
        if not self._map(x) or self.types[mask].shape != node.type.shape or not isinstance(format, FixedPoint):
            return None
        to = FixedPoint(format.bits, format.frac, format.signed)
        return self._pointwise(x, Chain(node.name, to=to, gate=mask), [node])

    def _pointwise(self, x: str, chain: Chain, nodes: list[Node]) -> Step:
        zero = nhwc.zero_of(self.types[x].format)  # type: ignore[arg-type]

        def run(values: Values) -> None:
            count = values.batch([x, *chain.reads])
            t = self._tail(chain, values, count)
            nhwc.pointwise(values.whole(x, count), zero, t)

        return Step([*nodes, *chain.nodes], [x, *chain.reads], run)

    def _concat(self, node: Node) -> Step | None:
        """Maps side by side along their channels."""
        if not all(self._map(a) for a in node.args) or len(node.type.shape) != 3:
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

    def _slice(self, node: Node) -> Step | None:
        """Some channels of a map."""
        if not self._map(node.args[0]):
            return None

        def run(values: Values) -> None:
            map = values.map(node.args[0])[..., node.attrs["start"] : node.attrs["stop"]]
            values.maps[node.name] = scratch(map.shape, np.int16)
            values.maps[node.name][...] = map

        return Step([node], [node.args[0]], run)

    def _reshape(self, node: Node) -> Step | None:
        """(C, 1, 1) to (C,) and back: the same map."""
        x = self.types[node.args[0]].shape
        if not self._map(node.args[0]) or x[0] != node.type.shape[0] or {*x[1:], *node.type.shape[1:]} - {1}:
            return None

        def run(values: Values) -> None:
            values.maps[node.name] = values.map(node.args[0])

        return Step([node], [node.args[0]], run)


_STEPS: dict[str, Callable[[Plan, Node], Step | None]] = {
    "conv": Plan._products,
    "linear": Plan._products,
    "maxpool": Plan._pool,
    "pool_index": Plan._pool,
    "unpool": Plan._unpool,
    "avgpool": Plan._average,
    "add": Plan._add,
    "requant": Plan._requant,
    "relu": Plan._relu,
    "gate": Plan._gate,
    "concat": Plan._concat,
    "slice": Plan._slice,
    "reshape": Plan._reshape,
}


def _in_order(steps: list[Step], graph: Graph) -> list[Step]:
    """Order steps so that each comes after those that make what it reads."""
    maker = {node.name: i for i, step in enumerate(steps) for node in step.nodes}
    ordered: list[Step] = []
    state = [0] * len(steps)  # 0 unseen, 1 waiting, 2 placed
    for start in range(len(steps)):
        stack = [start]
        while stack:
            i = stack[-1]
            missing = [maker[r] for r in steps[i].reads if r in maker and state[maker[r]] != 2]
            if state[i] == 2 or not missing:
                stack.pop()
                if state[i] != 2:
                    state[i] = 2
                    ordered.append(steps[i])
                continue
            state[i] = 1
            if any(state[m] == 1 for m in missing):
                raise AssertionError(f"steps of {graph.outputs} wait for each other")
            stack += missing
    return ordered


class _Added:
    """What is added to lifted sums over stored numbers: the shares of their zero and centres, and the bias itself."""

    def __init__(self, offset: Array, lift: Array, own: Array | None) -> None:
        self.lift = lift
        self.fixed = self.lifted(offset) if own is None else self.lifted(offset) + own
        self.last: tuple[packing.Division | None, Bias] = (None, bias_of(self.fixed))

    def lifted(self, sums: Array) -> Array:
        """Return sums in the fraction that all channels share."""
        return sums << self.lift if self.lift.size else sums

    def of(self, division: packing.Division | None) -> Bias:
        """Return it for a division, remembering the last."""
        last = self.last
        if division is not last[0] and division is not None:
            self.last = last = (division, bias_of(self.fixed + self.lifted(division.share)))
        return last[1]


def _filters(node: Node, w: Array) -> Array:
    """Return weights as (K, C, R, S) filters in the orientation in which they slide."""
    if node.op == "linear":
        return (w.T if node.attrs.get("transposed") else w)[:, :, None, None]
    return turned(w) if node.attrs.get("transposed") else w


# --- few filters over a dilated input: all phases in one window -------------------------------------------------------


def _merges(node: Node, chain: Chain) -> bool:
    """Return whether the phases of an input gradient of few channels fit one group of 16 filters together."""
    dilation = node.attrs.get("dilation", (1, 1))
    simple = not chain.reads and chain.mask is None and chain.to is not None
    return simple and dilation != (1, 1) and node.type.shape[0] * dilation[0] * dilation[1] <= LANES


def _union(taps: int, padding: int, dilation: int, size: int) -> tuple[int, int, int, list[tuple[int, int, int]]]:
    """Return taps, padding and outputs of the window that covers all phases, and (first tap, taps, shift) of each."""
    parts = phases(taps, padding, dilation, size)
    top = max(part[3] for part in parts)
    rows = max(top - part[3] + part[2] for part in parts)
    return rows, top, max(part[4] for part in parts), [(part[1], part[2], top - part[3]) for part in parts]


def _merged(filters: Array, dilation: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Any:
    R, top, P, _ = _union(filters.shape[2], corner[0], dilation[0], size[0])
    S, left, Q, _ = _union(filters.shape[3], corner[1], dilation[1], size[1])
    return packing.Window((R, S), (1, 1), (top, left), (P, Q)), (0, 0)


def _merged_filters(filters: Array, dilation: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Array:
    """Return the filters (16, C, R, S) of all phases, dy · dx · K and zeros, at their places in the covering window."""
    K, C = filters.shape[:2]
    R, _, _, rows = _union(filters.shape[2], corner[0], dilation[0], size[0])
    S, _, _, columns = _union(filters.shape[3], corner[1], dilation[1], size[1])
    out = np.zeros((dilation[0], dilation[1], K, C, R, S), filters.dtype)
    for a, (r, count, down) in enumerate(rows):
        for b, (s, width, right) in enumerate(columns):
            part = filters[:, :, r :: dilation[0], s :: dilation[1]]
            out[a, b, :, :, down : down + count, right : right + width] = part
    whole = np.zeros((LANES, C, R, S), filters.dtype)
    whole[: dilation[0] * dilation[1] * K] = out.reshape(dilation[0] * dilation[1] * K, C, R, S)
    return whole
