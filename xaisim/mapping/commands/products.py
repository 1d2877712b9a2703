"""How long the array works on a tile: products of up to 16 rows, preloads between them, a window of both.

Product n runs while the weights of product n + 1 go in; a preload of new weights takes as long as the array has rows.
The queue holds a preload until its product has left the array, so only so many products are on their way at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from xaisim.hardware.soc import Soc


class WindowRates(NamedTuple):
    """Terms of the array and its queue; ``side`` is its number of rows and columns."""

    side: int
    products: int
    cycles: int
    least_rows: int


def window_rates(soc: Soc, side: int) -> WindowRates:
    """Return the terms of a system as the kernels take them."""
    return WindowRates(side, soc.window.products, soc.window.cycles, soc.window.least_rows)


@njit(cache=True, nogil=True)
def product_cycles(weights, lines, columns, rates):  # type: ignore[no-untyped-def] # numba
    """Return the cycles of ``weights`` weight tiles, each with ``lines`` lines of ``columns`` pixels.

    A line is cut into products of up to ``side`` pixels. After twelve weight tiles the window repeats; the rest of
    them take as long as the last ones did.
    """
    chunks = (columns + rates.side - 1) // rates.side
    tail = columns - rates.side * (chunks - 1)
    over = np.full(64, -(1 << 40), np.int64)
    simulated = min(weights, 12)
    now, before, n, mark = 0, 0, 0, 0
    for tile in range(simulated):
        if tile == simulated - 4:
            mark = now
        for k in range(lines * chunks):
            fed = rates.side if k == 0 else max(before, rates.least_rows)
            now = max(now, over[(n - rates.products) % 64] + rates.cycles) + fed
            over[n % 64] = now
            n += 1
            before = tail if k % chunks == chunks - 1 else rates.side
    if weights > simulated:
        now += (weights - simulated) * (now - mark) // 4
    return now + max(before, rates.least_rows)
