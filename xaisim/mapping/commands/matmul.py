"""Tiles of a matrix product: A, B and C in blocks of the array's side, loaded in turns so that products begin early.

Tiles are (i0, j0, k0) and their extents, in blocks. B comes a row of blocks at a time, A four blocks wide for all i;
products run k by k. Rows and columns of A and C follow each other without gaps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.mapping.commands.conv import LOAD, LOADED, QUEUED, STORE, STORED, WRITTEN, Addresses
from xaisim.mapping.commands.transfers import BYTES, COMMANDS, ENGINE, OVER, load, new_stream, queued_from, store

__all__ = ["AHEAD", "Addresses", "MatmulShape", "matmul_transfers"]

Array = np.ndarray

AHEAD = 6
"""A column beside those of ``conv``: how long the products wait behind the begin of the loads, at least."""


class MatmulShape(NamedTuple):
    """A product of ``rows`` × ``inner`` by ``inner`` × ``cols``."""

    rows: int
    cols: int
    inner: int
    side: int


@njit(cache=True, nogil=True)
def _load_tile(stream, caches, miss, rates, shape, tile, addresses):  # type: ignore[no-untyped-def] # numba
    """Append A's and B's loads as the machine arbitrates them; return when each k is there."""
    i0, j0, k0, i_blocks, j_blocks, k_blocks = tile
    side, blocks = shape.side, (1 << rates.line_shift) // shape.side
    there = np.zeros(k_blocks, np.int64)
    a_step, b_step = min(k_blocks, blocks), min(j_blocks, blocks)
    a_k, a_i, b_k, b_j = 0, 0, 0, 0
    while a_k < k_blocks or b_k < k_blocks:
        if a_k >= k_blocks or (b_k < k_blocks and (a_k > b_k or (b_k == 0 and b_j == 0))):
            at = addresses.weights + (k0 + b_k) * side * shape.cols + (j0 + b_j) * side
            rows = min(side, shape.inner - (k0 + b_k) * side)
            width = min(min(b_step, j_blocks - b_j) * side, shape.cols - (j0 + b_j) * side)
            load(stream, caches, miss, rates, at, shape.cols, rows, width)
            there[b_k] = max(there[b_k], stream[0][OVER])
            b_j += b_step
            if b_j >= j_blocks:
                b_j, b_k = 0, b_k + 1
        else:
            at = addresses.input + (i0 + a_i) * side * shape.inner + (k0 + a_k) * side
            rows = min(side, shape.rows - (i0 + a_i) * side)
            width = min(min(a_step, k_blocks - a_k) * side, shape.inner - (k0 + a_k) * side)
            load(stream, caches, miss, rates, at, shape.inner, rows, width)
            for k in range(a_k, min(a_k + a_step, k_blocks)):
                there[k] = max(there[k], stream[0][OVER])
            a_i += 1
            if a_i >= i_blocks:
                a_i, a_k = 0, a_k + a_step
    return there


@njit(cache=True, nogil=True)
def _store_tile(stream, caches, miss, rates, shape, tile, address):  # type: ignore[no-untyped-def] # numba
    i0, j0, _, i_blocks, j_blocks, _ = tile
    side, blocks = shape.side, (1 << rates.line_shift) // shape.side
    for j in range(0, j_blocks, blocks):
        for i in range(i_blocks):
            at = address + (i0 + i) * side * shape.cols + (j0 + j) * side
            rows = min(side, shape.rows - (i0 + i) * side)
            width = min(min(blocks, j_blocks - j) * side, shape.cols - (j0 + j) * side)
            store(stream, caches, miss, rates, at, shape.cols, rows, width)


@njit(cache=True, nogil=True)
def matmul_transfers(tiles, shape, addresses, caches, miss, reads, writes):  # type: ignore[no-untyped-def] # numba
    """Return (tiles, 7) what each tile's transfers take, and how far its products may run ahead of them."""
    found = np.zeros((len(tiles), 7), np.int64)
    for n in range(len(tiles)):
        tile = tiles[n]
        stream = new_stream()
        there = _load_tile(stream, caches, miss, reads, shape, tile, addresses)
        found[n, LOAD], found[n, LOADED] = stream[0][OVER], stream[0][BYTES]
        found[n, QUEUED] = max(queued_from(stream, reads), stream[0][COMMANDS])
        step = shape.side * tile[3] * tile[4]
        for k in range(tile[5]):
            found[n, AHEAD] = max(found[n, AHEAD], there[k] - k * step)
        if (tile[2] + tile[5]) * shape.side >= shape.inner:
            stream = new_stream()
            _store_tile(stream, caches, miss, writes, shape, tile, addresses.output)
            found[n, STORE], found[n, STORED] = stream[0][ENGINE], stream[0][OVER]
            found[n, WRITTEN] = stream[0][BYTES]
    return found
