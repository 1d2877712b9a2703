"""What array and vector unit compute on one tile, by the operators' own definitions.

sums = partial_sums(node, x, w, start, output, place)      products of a tile, added to the sums that lie there
y = window_values(node, [x], output, place)                a pool's or an upsampling's part of a map

A tile is a box of a (channels, rows, columns) map; ``Box`` says which. Arrays have a leading axis of path points.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from xaisim.ir import kernels
from xaisim.ir.accumulate import Accumulator, convolve
from xaisim.ir.ops import OPS, Node, turned
from xaisim.ir.types import TensorType
from xaisim.mapping.stages import WHOLE_OPS, volume

Array = np.ndarray


class Box(NamedTuple):
    """A part of a map: [c0, c1) × [h0, h1) × [w0, w1)."""

    c0: int
    c1: int
    h0: int
    h1: int
    w0: int
    w1: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extents."""
        return self.c1 - self.c0, self.h1 - self.h0, self.w1 - self.w0

    def __str__(self) -> str:
        return f"[{self.c0}:{self.c1}, {self.h0}:{self.h1}, {self.w0}:{self.w1}]"


def read_by(node: Node, output: Box, channels: tuple[int, int], shape: tuple[int, ...], taps: tuple[int, int]) -> Box:
    """Return the part of the input, a map of ``shape``, that an operator reads to make ``output``.

    ``channels`` are those that a sum of products goes over; ``taps`` are the rows and columns of its window.
    """
    if node.op == "linear":
        return Box(*channels, 0, 1, 0, 1)
    _, height, width = volume(shape)
    if node.op in WHOLE_OPS:
        return Box(output.c0, output.c1, 0, height, 0, width)
    c0, c1 = channels if node.op == "conv" else (output.c0, output.c1)
    h = _along(node, 0, output.h0, output.h1, height, taps[0])
    w = _along(node, 1, output.w0, output.w1, width, taps[1])
    return Box(c0, c1, *h, *w)


def _along(node: Node, axis: int, first: int, last: int, extent: int, taps: int) -> tuple[int, int]:
    """Return the input [start, stop) that outputs [first, last) look at along an axis, within the picture."""
    stride, pad = node.attrs["stride"][axis], node.attrs["padding"][axis]
    if node.op == "unpool":  # windows that reach one of the outputs
        start, stop = -((taps - 1 - pad - first) // stride), (last - 1 + pad) // stride + 1
    else:
        dilation = node.attrs.get("dilation", (1, 1))[axis]
        start = -((pad - first * stride) // dilation)
        stop = ((last - 1) * stride + taps - 1 - pad) // dilation + 1
    start = min(max(start, 0), extent)
    return start, max(start, min(stop, extent))


def filters_of(node: Node, weights: Array) -> Array:
    """Return a tile of weights, as it lies in memory, as (points, K, C, R, S)."""
    if not node.attrs.get("transposed"):
        return weights
    return np.stack([turned(w) for w in weights])


def _local(node: Node, output: Box, held: Box) -> Node:
    """Return the operator with its window placed as seen from the first element of its tiles."""
    stride, padding = node.attrs.get("stride", (1, 1)), node.attrs.get("padding", (0, 0, 0, 0))
    dilation = node.attrs.get("dilation", (1, 1))
    top = padding[0] - output.h0 * stride[0] + held.h0 * dilation[0]
    left = padding[1] - output.w0 * stride[1] + held.w0 * dilation[1]
    attrs = {**node.attrs, "stride": stride, "padding": (top, left, 0, 0), "dilation": dilation}
    return replace(node, attrs=attrs, type=TensorType(output.shape, node.type.format))


def partial_sums(node: Node, x: Array, filters: Array, start: Array, output: Box, held: Box) -> Array:
    """Return ``start`` (T, K, P, Q) with the products of a tile added, each point's or the one that all points share.

    ``x``: (T or 1, C, H, W), the tile ``held`` of the input. ``filters``: (T or 1, K, C, R, S).
    """
    local, sums = _local(node, output, held), start.copy()
    if 0 in x.shape:  # nothing but padding, of which zeros are a part
        x = np.zeros(tuple(max(1, extent) for extent in x.shape), np.int64)
    accumulator: Accumulator | None = node.attrs.get("accumulator")
    for t in range(len(sums)):
        point = x[min(t, len(x) - 1)][None]
        w = np.ascontiguousarray(filters[min(t, len(filters) - 1)])
        if accumulator is not None and accumulator.policy == "saturate":
            own = replace(accumulator, order=replace(accumulator.order, channels=None))  # this tile's channels alone
            convolve(local, own, point, w, sums[t : t + 1], int(node.attrs["bound"]) >= 1 << 63)
            continue
        corner, size, bound = local.attrs["padding"][:2], output.shape[1:], int(node.attrs["bound"])
        if local.attrs["dilation"] == (1, 1):
            sums[t] += kernels.correlate(point, w, local.attrs["stride"], corner, size, bound)[0]
        else:
            sums[t] += kernels.correlate_dilated(point, w, local.attrs["dilation"], corner, size, bound)[0]
    return sums


def window_values(node: Node, operands: list[Array], output: Box, held: Box) -> Array:
    """Return a window operator's values on an output box from the tile ``held`` of its input(s)."""
    if node.op == "upsample":
        x, rows, columns = operands
        part = replace(node, type=TensorType(output.shape, node.type.format))
        return OPS["upsample"].evaluate(
            part, x, rows[:, output.h0 : output.h1], columns[:, output.w0 : output.w1]
        )  # fmt: skip
    if node.op in ("softmax", "softmax_seed", "smallest"):  # each tile is a part of what the whole input gives
        whole = OPS[node.op].evaluate(node, *operands)
        return whole[..., output.h0 : output.h1, output.w0 : output.w1]
    if node.op != "unpool":
        return OPS[node.op].evaluate(_local(node, output, held), *operands)
    # All that the windows reach, then the part of it that is asked for.
    kernel, stride, padding = node.attrs["kernel"], node.attrs["stride"], node.attrs["padding"]
    count = held.shape[1:]
    size = tuple((n - 1) * s + k if n else 0 for n, s, k in zip(count, stride, kernel, strict=True))
    reach = replace(
        node, attrs={**node.attrs, "padding": (0, 0, 0, 0)}, type=TensorType((output.shape[0], *size), node.type.format)
    )
    whole = OPS["unpool"].evaluate(reach, *operands)
    out = np.zeros((len(whole), *output.shape), np.int64)
    h, w = held.h0 * stride[0] - padding[0], held.w0 * stride[1] - padding[1]
    (a, b), (c, d) = _shared(h, size[0], output.h0, output.h1), _shared(w, size[1], output.w0, output.w1)
    out[:, :, a - output.h0 : b - output.h0, c - output.w0 : d - output.w0] = whole[:, :, a - h : b - h, c - w : d - w]
    return out


def noise_values(node: Node, trips: Array, output: Box) -> Array:
    """Return an output box of the noise of each of ``trips``: registers leap to where the box begins."""
    whole = OPS["noise"].evaluate(node, trips)
    return whole[:, output.c0 : output.c1, output.h0 : output.h1, output.w0 : output.w1]


def _shared(first: int, count: int, low: int, high: int) -> tuple[int, int]:
    start = max(first, low)
    return start, max(start, min(first + count, high))
