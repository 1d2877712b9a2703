"""The slow, obvious definition of every operator: plain loops over Python integers, one sample at a time.

    naive.run(graph, {"input": integers})["logits"]

Nothing here is shared with ``xaisim.ir``: it is written from the definitions and holds the fast kernels to account.
Tensors are nested in numpy arrays of dtype object, so that no sum can overflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np

from xaisim.ir.graph import Graph
from xaisim.ir.ops import Node
from xaisim.ir.types import FixedPoint

Array = np.ndarray
Place = tuple[int, int, int]


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return every tensor of a graph as an array of objects (N, *shape); inputs have one sample or N of them."""
    count = max((len(feeds[name]) for name in graph.inputs if name in feeds), default=1)
    samples: dict[str, list[Array]] = {}
    for name in graph.inputs:
        if name in feeds:
            given = objects(feeds[name])
            samples[name] = [given[n if len(given) > 1 else 0] for n in range(count)]
    for name, constant in graph.constants.items():
        samples[name] = [objects(constant.value)] * count
    for node in graph.nodes:
        if node.op == "accumulate":
            samples[node.name] = [sum(samples[node.args[0]])] * count
            continue
        samples[node.name] = [OPS[node.op](node, *(samples[a][n] for a in node.args)) for n in range(count)]
    return {name: np.stack(values) for name, values in samples.items()}


def objects(values: Any) -> Array:
    """Return an array of Python numbers."""
    values = np.asarray(values)
    out = np.empty(values.shape, object)
    out[...] = values.tolist()
    return out


def requant(value: int, from_frac: int, to: FixedPoint) -> int:
    """Round and fit one integer, in exact rational arithmetic."""
    exact = Fraction(value) * Fraction(2) ** (to.frac - from_frac)
    return fit(rounded(exact, str(to.rounding)), to.bits, str(to.overflow), signed=to.signed)


def rounded(exact: Fraction, mode: str) -> int:
    """Return the integer that ``ap_fixed`` rounds to."""
    below, above = math.floor(exact), math.ceil(exact)
    if mode == "trn":
        return below
    if mode == "trn_zero":
        return below if exact >= 0 else above
    if exact - below != above - exact:
        return below if exact - below < above - exact else above
    tie = {
        "rnd": above,
        "rnd_min_inf": below,
        "rnd_zero": below if exact >= 0 else above,
        "rnd_inf": above if exact >= 0 else below,
        "rnd_conv": below if below % 2 == 0 else above,
    }
    return tie[mode]


def fit(value: int, bits: int, mode: str, *, signed: bool = True) -> int:
    """Return what is left of an integer in ``bits`` bits."""
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    low = -high - 1 if signed else 0
    if mode == "sat_sym":
        return max(-high if signed else 0, min(high, value))
    if low <= value <= high:
        return value
    if mode == "wrap":
        return (value - low) % 2**bits + low
    return 0 if mode == "sat_zero" else (high if value > high else low)


def spread(x: Array, padding: tuple[int, ...], dilation: tuple[int, int], fill: int = 0) -> Array:
    """Insert ``dilation − 1`` zeros between elements, then pad by (top, left, bottom, right); negative crops."""
    channels, height, width = x.shape
    tall, wide = (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1
    top, left, bottom, right = padding
    out = np.full((channels, tall + top + bottom, wide + left + right), fill, object)
    for c in range(channels):
        for h in range(height):
            for w in range(width):
                y, z = h * dilation[0] + top, w * dilation[1] + left
                if 0 <= y < out.shape[1] and 0 <= z < out.shape[2]:
                    out[c, y, z] = x[c, h, w]
    return out


def summed(node: Node, products: dict[Place, int], k: int, b: Array | None) -> int:
    """Add the products of one output, by (c, r, s) of its dense window, as the node's accumulator does."""
    accumulator = node.attrs.get("accumulator")
    if accumulator is None:
        return with_scale_and_bias(node, sum(products.values()), k, b)
    mode = {"wrap": "wrap", "saturate": "sat"}[accumulator.policy]
    lifted = "lift" in node.attrs
    total = 0 if b is None or lifted else b[k]
    for group, to_memory in walk(accumulator.order, tuple(sorted(products))):
        total = fit(total + sum(products[place] for place in group), accumulator.bits, mode)
        if to_memory:
            total = fit(total, accumulator.psum_bits, mode)
    total = fit(total, accumulator.psum_bits, mode)
    return with_scale_and_bias(node, total, k, b) if lifted else total


@cache
def walk(order: Any, places: tuple[Place, ...]) -> list[tuple[list[Place], bool]]:
    """Return the groups that join a sum together, and whether the sum is then written to memory, by sorting places."""
    channels = order.channels or 1 + max((c for c, _, _ in places), default=0)
    groups: dict[tuple[int, ...], list[Place]] = {}
    for c, r, s in places:
        block = (c // channels, c % channels // order.tree[0], r // order.tree[1], s // order.tree[2])
        groups.setdefault(block, []).append((c, r, s))
    blocks = sorted(groups)
    walked, in_tile = [], 0
    for block, after in zip_longest(blocks, blocks[1:]):
        in_tile += 1
        tile_ends = after is None or after[0] != block[0]
        walked.append((groups[block], tile_ends or (order.fold is not None and in_tile % order.fold == 0)))
        in_tile = 0 if tile_ends else in_tile
    return walked


def taps(size: int, offset: int, dilation: int) -> list[int]:
    """Return the taps of a window that fall on real elements of a zero-inserted axis, given its first place."""
    return [r for r in range(size) if (offset + r) % dilation == 0]


def conv(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
    if node.attrs.get("transposed"):
        w = w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    dilation, stride, padding = node.attrs.get("dilation", (1, 1)), node.attrs["stride"], node.attrs["padding"]
    padded = spread(x, padding, dilation)
    K, C, R, S = w.shape
    out = np.zeros(node.type.shape, object)
    for k in range(K):
        for p in range(out.shape[1]):
            for q in range(out.shape[2]):
                top, left = p * stride[0], q * stride[1]
                products = {
                    (c, i, j): w[k, c, r, s] * padded[c, top + r, left + s]
                    for c in range(C)
                    for i, r in enumerate(taps(R, top - padding[0], dilation[0]))
                    for j, s in enumerate(taps(S, left - padding[1], dilation[1]))
                }
                out[k, p, q] = summed(node, products, k, b)
    return out


def with_scale_and_bias(node: Node, total: int, k: int, b: Array | None) -> int:
    """Bring a channel's sum to the scale that all channels share, then add its bias."""
    total = total * 2 ** node.attrs["lift"][k] if "lift" in node.attrs else total
    return total if b is None else total + b[k]


def linear(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
    if node.attrs.get("transposed"):
        w = w.T
    out = np.zeros(len(w), object)
    for k in range(len(w)):
        out[k] = summed(node, {(c, 0, 0): w[k, c] * x[c] for c in range(len(x))}, k, b)
    return out


def windows(node: Node, x: Array) -> dict[tuple[int, int, int], list[tuple[int, int, int]]]:
    """Return the places (tap, h, w) inside the input that each output (c, p, q) looks at, in scan order."""
    channels, height, width = x.shape
    (R, S), (top, left) = node.attrs["kernel"], node.attrs["padding"][:2]
    stride = node.attrs["stride"]
    return {
        (c, p, q): [
            (r * S + s, p * stride[0] + r - top, q * stride[1] + s - left)
            for r in range(R)
            for s in range(S)
            if 0 <= p * stride[0] + r - top < height and 0 <= q * stride[1] + s - left < width
        ]
        for c in range(channels)
        for p in range((height + top + node.attrs["padding"][2] - R) // stride[0] + 1)
        for q in range((width + left + node.attrs["padding"][3] - S) // stride[1] + 1)
    }


def maxpool(node: Node, x: Array) -> Array:
    out = np.zeros(node.type.shape, object)
    for (c, p, q), places in windows(node, x).items():
        out[c, p, q] = max(x[c, h, w] for _, h, w in places)
    return out


def pool_index(node: Node, x: Array) -> Array:
    out = np.zeros(node.type.shape, object)
    for (c, p, q), places in windows(node, x).items():
        largest = max(x[c, h, w] for _, h, w in places)
        out[c, p, q] = next(tap for tap, h, w in places if x[c, h, w] == largest)
    return out


def unpool(node: Node, g: Array, index: Array) -> Array:
    out = np.zeros(node.type.shape, object)
    S, (top, left), stride = node.attrs["kernel"][1], node.attrs["padding"][:2], node.attrs["stride"]
    for c in range(g.shape[0]):
        for p in range(g.shape[1]):
            for q in range(g.shape[2]):
                r, s = divmod(index[c, p, q], S)
                out[c, p * stride[0] + r - top, q * stride[1] + s - left] += g[c, p, q]
    return out


def avgpool(node: Node, x: Array, scale: Array) -> Array:
    padded = spread(x, node.attrs["padding"], node.attrs.get("dilation", (1, 1)))
    (R, S), stride = node.attrs["kernel"], node.attrs["stride"]
    out = np.zeros(node.type.shape, object)
    for c in range(out.shape[0]):
        for p in range(out.shape[1]):
            for q in range(out.shape[2]):
                window = padded[c, p * stride[0] : p * stride[0] + R, q * stride[1] : q * stride[1] + S]
                out[c, p, q] = sum(window.reshape(-1).tolist()) * np.asarray(scale).item()
    return out


def upsample(node: Node, x: Array, rows: Array, columns: Array) -> Array:
    out = np.zeros(node.type.shape, object)
    for c in range(out.shape[0]):
        for p in range(out.shape[1]):
            for q in range(out.shape[2]):
                out[c, p, q] = sum(
                    rows[p, h] * columns[q, w] * x[c, h, w] for h in range(x.shape[1]) for w in range(x.shape[2])
                )
    return out


def elementwise(function: Any) -> Any:
    def op(node: Node, *operands: Array) -> Array:
        out = np.zeros(node.type.shape, object)
        stretched = [np.broadcast_to(a, node.type.shape) for a in operands]
        for place in np.ndindex(*node.type.shape):
            out[place] = function(node, *(a[place] for a in stretched))
        return out

    return op


def aligned(node: Node, value: int, operand: int) -> int:
    """Return an operand of a sum in units of the sum."""
    return value * 2 ** node.attrs["shifts"][operand] if "shifts" in node.attrs else value


OPS = {
    "conv": conv,
    "linear": linear,
    "maxpool": maxpool,
    "pool_index": pool_index,
    "unpool": unpool,
    "avgpool": avgpool,
    "upsample": upsample,
    "relu": elementwise(lambda _, x: x if x > 0 else 0),
    "positive": elementwise(lambda _, x: 1 if x > 0 else 0),
    "gate": elementwise(lambda _, g, mask: g if mask else 0),
    "add": elementwise(lambda node, a, b: aligned(node, a, 0) + aligned(node, b, 1)),
    "sub": elementwise(lambda node, a, b: aligned(node, a, 0) - aligned(node, b, 1)),
    "mul": elementwise(lambda _, a, b: a * b),
    "requant": elementwise(lambda node, x: requant(x, node.attrs["from_frac"], node.attrs["to"])),
    "concat": lambda _, *xs: np.concatenate(xs),
    "slice": lambda node, x: x[node.attrs["start"] : node.attrs["stop"]],
    "reshape": lambda node, x: x.reshape(node.attrs["shape"]),
}
