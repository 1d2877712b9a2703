"""What the host computes between launches, and how many scalar operations that takes.

p = probabilities(logits); device.decide(softmax_operations(logits))

An operation is one addition, comparison, product or load of a number that the host handles. Functions that a core
computes by a polynomial count as ``FUNCTION`` of them.
"""

from __future__ import annotations

import math

import numpy as np

from xaisim.ir.graph import Array

FUNCTION = 20
"""Operations of exp, log, a power or a square root: about a polynomial of degree 8 with range reduction."""


def probabilities(logits: Array) -> Array:
    """Return the softmax of (N, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def scores(logits: Array, target: int, score: str) -> Array:
    """Return the class's logit or probability of each of N samples."""
    return (probabilities(logits) if score == "probability" else logits)[:, target]


def score_operations(shape: tuple[int, ...], score: str) -> int:
    """Return the operations of ``scores`` for logits of a shape: a load each, or a softmax."""
    samples, classes = shape
    return samples * (classes * (FUNCTION + 4) + 1 if score == "probability" else 1)


def sort_operations(count: int) -> int:
    """Return the operations of sorting ``count`` numbers: 2 per comparison of n log2 n."""
    return 2 * count * max(1, math.ceil(math.log2(max(2, count))))


def apportion(shares: Array, total: int, least: int = 0) -> Array:
    """Divide ``total`` units in proportion to ``shares`` ≥ 0, at least ``least`` each, by largest remainders.

    Ties go to the first. All shares zero means equal shares. Raises ``ValueError`` where ``total`` is too small.
    """
    if total < least * len(shares):
        raise ValueError(f"{total} cannot be divided among {len(shares)} with at least {least} each")
    weights = shares if shares.sum() > 0 else np.ones(len(shares))
    exact = weights / weights.sum() * (total - least * len(shares))
    counts = np.floor(exact).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - least * len(shares) - counts.sum()]] += 1
    return np.asarray(counts + least)
