"""Probabilities of classes, and the gradient of one to the logits, p_t · (e_t − p), as a vector unit makes them.

probabilities(x, frac)     int64 logits (N, …, C) with ``frac`` fraction bits → int64 with ``SEED_FRAC``
seed(x, target, frac)

On integers every step is defined to the bit, so that a seed is the same on every machine: differences from the largest
logit times log2 e, powers of two from a table with linear interpolation, one division per class. The target's entry is
minus the sum of the others, so that the whole sums to zero as the real one does.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray

SEED_FRAC = 30
"""Fraction bits of probabilities and of the seed."""
WORK = 8
"""Operations per class: largest, difference, product, look-up, interpolation (2), sum, quotient with its product."""
_SCALE_BITS = 20
_LOG2_E = round(math.log2(math.e) * (1 << _SCALE_BITS))
_TABLE_BITS = 8
_POWERS = np.array([round(2.0 ** (SEED_FRAC - j / (1 << _TABLE_BITS))) for j in range((1 << _TABLE_BITS) + 1)])
"""2^(−j/256) with ``SEED_FRAC`` fraction bits; an interpolated value is off by a part in a million at most."""


def real(x: Array) -> Array:
    """Return the softmax of real logits (N, …, C) along the last axis."""
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def real_seed(x: Array, target: int) -> Array:
    """Return p_t · (e_t − p) of real logits (N, …, C) along the last axis."""
    p = real(x)
    out = -p[..., target, None] * p
    out[..., target] = p[..., target] * (1 - p[..., target])
    return out


def probabilities(x: Array, frac: int) -> Array:
    """Return the softmax of integer logits with ``frac`` fraction bits, in ``SEED_FRAC`` fraction bits, cut down."""
    powers = _exponentials(x.max(axis=-1, keepdims=True) - x, frac)
    return np.asarray((powers << SEED_FRAC) // powers.sum(axis=-1, keepdims=True))


def seed(x: Array, target: int, frac: int) -> Array:
    """Return p_t · (e_t − p) of integer logits with ``frac`` fraction bits, in ``SEED_FRAC`` fraction bits."""
    p = probabilities(x, frac)
    out = -(p[..., target, None] * p >> SEED_FRAC)
    out[..., target] = 0
    out[..., target] = -out.sum(axis=-1)
    return out


def _exponentials(below: Array, frac: int) -> Array:
    """Return exp(−below) in ``SEED_FRAC`` fraction bits, for integers ≥ 0 with ``frac`` fraction bits."""
    exponent = below * _LOG2_E  # of two, with frac + 20 fraction bits
    places = frac + _SCALE_BITS
    if places < 0:  # steps of 2^20 and more: the largest logit has all
        return np.where(below == 0, _POWERS[0], 0)
    whole = exponent >> places
    rest = exponent & ((1 << places) - 1)
    rest = rest << (SEED_FRAC - places) if places <= SEED_FRAC else rest >> (places - SEED_FRAC)
    between = SEED_FRAC - _TABLE_BITS
    left, share = rest >> between, rest & ((1 << between) - 1)
    power = _POWERS[left] - ((_POWERS[left] - _POWERS[left + 1]) * share >> between)
    return power >> np.minimum(whole, 62)
