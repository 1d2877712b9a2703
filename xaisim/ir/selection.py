"""Selection: which elements of a map have the smallest magnitudes, as a vector unit finds them.

smallest(x, mask, count)      1 where |x| is among the ``count`` smallest of those that the mask lets in

The unit finds the threshold bit by bit from the top: a pass over the map counts who would lie below, and the count says
whether the bit is 0. A last pass compares. So it takes a pass per bit and one more, whatever the numbers are.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def passes(bits: int) -> int:
    """Return the passes over a map of numbers of ``bits`` bits, sign included: a magnitude needs as many at most."""
    return bits + 1


def smallest(x: Array, mask: Array, count: int) -> Array:
    """Return a mask (N, …) of the elements let in whose |x| is at most the ``count``-th smallest |x| of those let in.

    ``x`` and ``mask`` are (N or 1, …), real numbers or integers. Equal magnitudes are selected together, so there may
    be more than ``count``; where no more than ``count`` are let in, all of them are selected.
    """
    samples = max(len(x), len(mask))
    x, mask = (np.broadcast_to(a, (samples, *a.shape[1:])) for a in (x, mask))
    out = np.zeros(x.shape, np.int64)
    for n in range(samples):
        magnitude, inside = np.abs(x[n]), mask[n] != 0
        let_in = magnitude[inside]
        if len(let_in) > count:
            inside = inside & (magnitude <= np.partition(let_in, count - 1)[count - 1])
        out[n] = inside
    return out
