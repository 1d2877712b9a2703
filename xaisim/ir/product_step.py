"""The step of a convolution or matrix product with constant weights."""

from __future__ import annotations

from functools import partial

import numpy as np

from xaisim.ir import nhwc, products
from xaisim.ir.chain import Reading, Step, follow, tail_for
from xaisim.ir.graph import Constant
from xaisim.ir.machine import selected
from xaisim.ir.memory import scratch
from xaisim.ir.merged import merged_filters, merged_window, merges
from xaisim.ir.ops import Node, turned
from xaisim.ir.packing import Division, Packed, pack, windows_of
from xaisim.ir.tail_code import Bias, bias_of
from xaisim.ir.types import FixedPoint
from xaisim.ir.values import Values

Array = np.ndarray


def product_step(g: Reading, node: Node) -> Step | None:
    """Convolution or matrix product with constant weights."""
    x, w = node.args[:2]
    constant = g.graph.constants.get(w)
    chain = follow(g, node)
    format = g.types[x].format
    if chain is None or constant is None or constant.value is None or "accumulator" in node.attrs:
        return None
    largest = max(int(constant.value.max(initial=0)), -1 - int(constant.value.min(initial=0)))
    if not g.is_map(x) or not isinstance(format, FixedPoint) or largest > np.iinfo(np.int16).max:
        return None
    zero = nhwc.zero_of(format)
    fours = selected().fours and format.bits <= 8 and largest <= np.iinfo(np.int8).max
    offset = -128 * format.signed if fours else zero
    merged = merges(node, chain)
    peak = max(zero - format.low, format.high - zero)
    packs = _packed(g, node, constant, peak, fours=fours, merged=merged)
    filters = packs[0].filters  # where phases are merged, those of every phase one after the other
    lift = np.resize(np.array(node.attrs.get("lift", ()), np.int64), filters if "lift" in node.attrs else 0)
    own = g.graph.constants[node.args[2]].value if len(node.args) > 2 else None
    own = None if own is None else np.resize(own, filters)
    biases = [_Added(offset * packed.sums, lift, own) for packed in packs]
    size = g.size(node.name)
    dilation = node.attrs.get("dilation", (1, 1))

    def run(values: Values) -> None:
        map = values.map(x)
        count = values.batch([x, *chain.reads])
        if len(map) < count:
            map = values.whole(x, count)
        t = tail_for(g, chain, values, count)
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


def _packed(g: Reading, node: Node, w: Constant, peak: int, *, fours: bool, merged: bool) -> list[Packed]:
    """Return the packed weights of every dense window of a convolution, from ``packs`` if they are there."""
    attrs = node.attrs
    stride, dilation = attrs.get("stride", (1, 1)), attrs.get("dilation", (1, 1))
    corner = tuple(attrs.get("padding", (0, 0))[:2])
    size, room = g.size(node.name), g.size(node.args[0])
    key = (id(w.value), bool(attrs.get("transposed")), stride, dilation, corner, size, room, peak, fours, merged)
    if key in g.packs:
        return g.packs[key][1]
    assert w.value is not None
    filters = _filters(node, w.value)
    windows = windows_of(filters.shape[2:], stride, dilation, corner, size)
    if merged:
        windows = [merged_window(filters, dilation, corner, size)]
        filters = merged_filters(filters, dilation, corner, size)
        dilation = (1, 1)
    packs = [
        pack(filters[:, :, r :: dilation[0], s :: dilation[1]], window, fours=fours,
                      peak=peak, room=room)
        for window, (r, s) in windows
    ]  # fmt: skip
    if not w.chosen:
        g.packs[key] = (w.value, packs)
    return packs


class _Added:
    """What is added to lifted sums over stored numbers: the shares of their zero and centres, and the bias itself."""

    def __init__(self, offset: Array, lift: Array, own: Array | None) -> None:
        self.lift = lift
        self.fixed = self.lifted(offset) if own is None else self.lifted(offset) + own
        self.last: tuple[Division | None, Bias] = (None, bias_of(self.fixed))

    def lifted(self, sums: Array) -> Array:
        """Return sums in the fraction that all channels share."""
        return sums << self.lift if self.lift.size else sums

    def of(self, division: Division | None) -> Bias:
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
