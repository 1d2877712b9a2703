"""Tiles of a convolution: which rows of input, weights and output they move, and how long that takes.

The machine's loop unroller loads all weights of a tile (64 filters at a time), then its input line by line with the
zeros around it, and stores the output 16 pixels by 16 channels at a time. Pixels lie channel by channel (NHWC).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.mapping.commands.transfers import BYTES, ENGINE, OVER, load, load_zeros, new_stream, queued_from, store

Array = np.ndarray

LOAD, QUEUED, LOADED, STORE, STORED, WRITTEN = range(6)
"""What the kernels tell of a tile: cycles of its loads, when the last is queued, bytes; the same of its stores."""


class ConvShape(NamedTuple):
    """A convolution as its test program runs it: padded by half the kernel each way.

    P and R lie along a line of pixels, Q and S across the lines.
    """

    C: int
    K: int
    R: int
    S: int
    stride: int
    in_p: int
    in_q: int
    out_p: int
    out_q: int
    side: int


class Addresses(NamedTuple):
    """Where input, weights and output begin in memory."""

    input: int
    weights: int
    output: int


@njit(cache=True, nogil=True)
def _load_weights(stream, caches, miss, rates, shape, tile, address):  # type: ignore[no-untyped-def] # numba
    _, _, k0, s0, r0, c0, _, _, K, S, R, C = tile
    step = min(K, 1 << rates.line_shift)
    for k in range(0, K, step):
        for s in range(S):
            for r in range(R):
                for c in range(0, C, shape.side):
                    row = ((s0 + s) * shape.R + r0 + r) * shape.C + c0 + c
                    rows, width = min(C - c, shape.side), min(K - k, step)
                    load(stream, caches, miss, rates, address + row * shape.K + k0 + k, shape.K, rows, width)


@njit(cache=True, nogil=True)
def _load_input(stream, caches, miss, rates, shape, tile, address):  # type: ignore[no-untyped-def] # numba
    q0, p0, _, s0, r0, c0, Q, P, _, S, R, C = tile
    top, left = q0 * shape.stride + s0 - shape.S // 2, p0 * shape.stride + r0 - shape.R // 2
    bottom, right = top + Q * shape.stride + S - 1, left + P * shape.stride + R - 1
    step = min(C, 1 << rates.line_shift)
    for y in range(top, bottom):
        x = left
        while x < right:
            inside = 0 <= x < shape.in_p
            end = min(right, shape.in_p) if inside else (0 if x < 0 else right)
            rows = min(end - x, shape.side)
            for c in range(0, C, step):
                width = min(C - c, step)
                if inside and 0 <= y < shape.in_q:
                    at = address + (y * shape.in_p + x) * shape.C + c0 + c
                    load(stream, caches, miss, rates, at, shape.C, rows, width)
                else:
                    load_zeros(stream, rates, rows, width)
            x += rows


@njit(cache=True, nogil=True)
def _store_output(stream, caches, miss, rates, shape, tile, address):  # type: ignore[no-untyped-def] # numba
    q0, p0, k0, _, _, _, Q, P, K, _, _, _ = tile
    for q in range(Q):
        for p in range(0, P, shape.side):
            for k in range(0, K, shape.side):
                at = address + ((q0 + q) * shape.out_p + p0 + p) * shape.K + k0 + k
                store(stream, caches, miss, rates, at, shape.K, min(P - p, shape.side), min(K - k, shape.side))


@njit(cache=True, nogil=True)
def _last_of_sums(shape, tile):  # type: ignore[no-untyped-def] # numba
    return tile[3] + tile[9] == shape.S and tile[4] + tile[10] == shape.R and tile[5] + tile[11] == shape.C


@njit(cache=True, nogil=True)
def conv_transfers(tiles, shape, addresses, caches, miss, reads, writes):  # type: ignore[no-untyped-def] # numba
    """Return (tiles, 6) what each tile's transfers take; ``tiles`` has q p k s r c begin and extent, in order.

    A tile's loads run before the stores of the tile before it: so they meet the caches.
    """
    found = np.zeros((len(tiles), 6), np.int64)
    for i in range(len(tiles) + 1):
        if i < len(tiles):
            stream = new_stream()
            stream[0][ENGINE] = 1
            _load_weights(stream, caches, miss, reads, shape, tiles[i], addresses.weights)
            stream[0][ENGINE] += 1
            _load_input(stream, caches, miss, reads, shape, tiles[i], addresses.input)
            found[i, LOAD], found[i, LOADED] = stream[0][OVER], stream[0][BYTES]
            found[i, QUEUED] = max(queued_from(stream, reads), stream[0][3])
        if i > 0 and _last_of_sums(shape, tiles[i - 1]):
            stream = new_stream()
            _store_output(stream, caches, miss, writes, shape, tiles[i - 1], addresses.output)
            found[i - 1, STORE], found[i - 1, STORED] = stream[0][ENGINE], stream[0][OVER]
            found[i - 1, WRITTEN] = stream[0][BYTES]
    return found
