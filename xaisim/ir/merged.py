"""Few filters over a dilated input: all phases in one window, so that their filters fill a vector together."""

from __future__ import annotations

import numpy as np

from xaisim.ir.chain import Chain
from xaisim.ir.kernels import phases
from xaisim.ir.machine import LANES
from xaisim.ir.ops import Node
from xaisim.ir.packing import Window

Array = np.ndarray
Pair = tuple[int, int]


def merges(node: Node, chain: Chain) -> bool:
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


def merged_window(filters: Array, dilation: Pair, corner: Pair, size: Pair) -> tuple[Window, Pair]:
    R, top, P, _ = _union(filters.shape[2], corner[0], dilation[0], size[0])
    S, left, Q, _ = _union(filters.shape[3], corner[1], dilation[1], size[1])
    return Window((R, S), (1, 1), (top, left), (P, Q)), (0, 0)


def merged_filters(filters: Array, dilation: Pair, corner: Pair, size: Pair) -> Array:
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
