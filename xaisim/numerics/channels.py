"""Weights whose output channels have scales of their own: integers at full width, and a left shift per channel's sum.

fractions 9, 12, 11 → lift (3, 0, 1): behind it every sum has the finest channel's fraction, and one format does
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from xaisim.ir.graph import Array, Constant
from xaisim.ir.types import FixedPoint
from xaisim.numerics.formats import Formats, to_integers

_LIFTED_BITS = 60
"""A lifted sum stays below 2^60: room for its bias and for the sums it may flow into, on the 64-bit vector unit."""


class ScaledWeights(NamedTuple):
    """Weights of one operator in fixed point."""

    format: FixedPoint
    """Its fraction is the finest channel's."""
    lift: tuple[int, ...]
    """Per output channel, how many bits its sum is shifted left to have that fraction."""
    value: Array | None


def scale_channels(
    name: str, weights: Constant, axis: int, formats: Formats, *, peak: int, bias: Array | None, bias_bits: int
) -> ScaledWeights:
    """Give every output channel of ``weights`` (along ``axis``) the most fraction bits that hold its largest one.

    ``peak`` is the largest |integer| of the input; ``bias`` is in units of the input's step and joins the lifted sum
    in ``bias_bits`` bits. Channels much finer than the coarsest are rounded as far as both still fit. No channel is
    lifted by more than the weights' width, nor any where values are not known (a dry run).
    """
    count = weights.type.shape[axis]
    rows = None if weights.value is None else np.moveaxis(weights.value, axis, 0).reshape(count, -1)
    format, fractions = formats.of_channels(name, rows, count)
    if rows is None or weights.value is None:
        return ScaledWeights(format, (0,) * count, None)
    coarsest = int(fractions.min())
    shape = [-1 if i == axis else 1 for i in range(weights.value.ndim)]
    norm = int(np.abs(to_integers(rows, format, fractions[:, None])).sum(axis=1).max())
    largest = 0.0 if bias is None else float(np.ldexp(np.abs(bias).max(initial=0), coarsest))
    most = min(
        format.bits - 1,
        _LIFTED_BITS - (norm * peak).bit_length(),
        bias_bits - 1 - math.ceil(largest + 1).bit_length(),
    )
    fractions = np.minimum(fractions, coarsest + max(0, most))
    finest = int(fractions.max())
    format = FixedPoint(format.bits, finest, format.signed, format.rounding, format.overflow)
    value = to_integers(weights.value, format, fractions.reshape(shape))
    return ScaledWeights(format, tuple((finest - fractions).tolist()), value)
