"""How close a fixed-point map is to its float reference, whether it adds up, and whether it points at the evidence.

All functions take arrays of one attribution, any shape; definitions and conventions stand in each docstring.
"""

from __future__ import annotations

import math

import numpy as np

from xaisim.ir.graph import Array


def sqnr_db(reference: Array, quantised: Array) -> float:
    """Return 10·log10(Σ r² / Σ (r − q)²) in dB; infinite where they are equal, −inf where the reference is zero."""
    noise = float(((reference - quantised) ** 2).sum())
    signal = float((reference**2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def cosine(a: Array, b: Array) -> float:
    """Return the cosine of the angle between two maps; 0 where one of them is zero."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def ranks(values: Array) -> Array:
    """Return ranks from 1, ties sharing their average rank."""
    _, inverse, counts = np.unique(values.reshape(-1), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation with average ranks; 0 where a map is constant."""
    ra, rb = ranks(a), ranks(b)
    ra, rb = ra - ra.mean(), rb - rb.mean()
    return cosine(ra, rb)


def top_k_intersection(a: Array, b: Array, fraction: float) -> float:
    """Return which share of the ``fraction`` largest |a| is also among the largest |b| (at least one element)."""
    k = max(1, round(fraction * a.size))
    first, second = (set(np.argsort(-np.abs(m).reshape(-1), kind="stable")[:k].tolist()) for m in (a, b))
    return len(first & second) / k


def sign_agreement(a: Array, b: Array) -> float:
    """Return the share of elements with equal sign, zero being a sign of its own."""
    return float((np.sign(a) == np.sign(b)).mean())


def relevance(attribution: Array) -> Array:
    """Return |attribution| summed over channels: (1, C, H, W) → (H, W)."""
    return np.abs(attribution[0]).sum(axis=0)


def pointing_hit(attribution: Array, mask: Array) -> bool:
    """Return whether the most relevant pixel lies in the ground-truth mask (Zhang et al. 2018, no tolerance)."""
    plane = relevance(attribution)
    return bool(mask.reshape(-1)[int(plane.argmax())])


def relevance_mass(attribution: Array, mask: Array) -> float:
    """Return the share of the relevance that lies in the mask (Arras et al. 2022); 0 for an empty map."""
    plane = relevance(attribution)
    total = float(plane.sum())
    return float(plane[mask].sum()) / total if total > 0 else 0.0
