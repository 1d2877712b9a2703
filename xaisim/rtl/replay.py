"""A schedule's convolution on the array in RTL: one product per computation, as tiles follow each other.

products, rows = tile_products(schedule, conv, operands)       rows of the TileGraph, one for each product
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.ir.ops import Node
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.tiles import Kind
from xaisim.rtl.bench import Product

Array = np.ndarray


class TileProduct(NamedTuple):
    """One computation of a schedule as a product."""

    row: int
    """In the schedule's ``TileGraph``."""
    product: Product
    sums: Array
    """What the sums are afterwards, (pixels, filters)."""


def tile_products(schedule: Schedule, conv: Node, x: Array, w: Array, bias: Array) -> list[TileProduct]:
    """Return the computations of a convolution (C, H, W) by (K, C, R, S), each starting from what was summed before.

    The convolution is dense, the first stage of the schedule, and runs one path point at a time.
    """
    K, _, R, S = w.shape
    (stride_y, stride_x), (top, left, bottom, right) = conv.attrs["stride"], conv.attrs["padding"]
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    _, P, Q = conv.type.shape
    sums = np.broadcast_to(bias.reshape(K, 1, 1), (K, P, Q)).astype(np.int64)
    tiles, found = schedule.tiles, []
    for row in np.flatnonzero((tiles.kind == Kind.COMPUTE) & (tiles.stage == 0)).tolist():
        k0, k1, p0, p1, q0, q1 = tiles.region[row].tolist()
        c0, c1 = tiles.channels[row].tolist()
        windows = [
            padded[c0:c1, p * stride_y : p * stride_y + R, q * stride_x : q * stride_x + S].reshape(-1)
            for p in range(p0, p1)
            for q in range(q0, q1)
        ]
        region = slice(k0, k1), slice(p0, p1), slice(q0, q1)
        before = sums[region].reshape(k1 - k0, -1).T.copy()
        product = Product(np.array(windows), w[k0:k1, c0:c1].reshape(k1 - k0, -1).T, before)
        found.append(TileProduct(row, product, before + product.x @ product.w))
        sums[region] = found[-1].sums.T.reshape(k1 - k0, p1 - p0, q1 - q0)
    return found
