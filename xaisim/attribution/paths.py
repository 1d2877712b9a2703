"""Where on the path the gradient is taken and what each point weighs: (α, w) tables of every quadrature rule.

alphas, weights = path("riemann_middle", 50)      Σ weights = 1 for every rule except the compatible ones
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

Array = np.ndarray
Table = tuple[Array, Array]


def _left(n: int) -> Table:
    return np.arange(n) / n, np.full(n, 1 / n)


def _right(n: int) -> Table:
    return np.arange(1, n + 1) / n, np.full(n, 1 / n)


def _middle(n: int) -> Table:
    return (np.arange(n) + 0.5) / n, np.full(n, 1 / n)


def _trapezoid(n: int) -> Table:
    weights = np.full(n, 1 / (n - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, n), weights


def _captum_trapezoid(n: int) -> Table:
    """Captum's weights sum to (n − 1)/n, which understates every attribution; kept for comparison."""
    weights = np.full(n, 1 / n)
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, n), weights


def _endpoint_mean(n: int) -> Table:
    """The plain mean over both ends and between, as the PAIR and IDG codes take it; kept for comparison."""
    return np.linspace(0, 1, n), np.full(n, 1 / n)


@lru_cache(maxsize=1024)
def _gausslegendre(n: int) -> Table:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    table = (1 + nodes) / 2, weights / 2
    for column in table:
        column.flags.writeable = False  # it is everyone's
    return table


PATH_RULES: dict[str, Callable[[int], Table]] = {
    "riemann_left": _left,
    "riemann_right": _right,
    "riemann_middle": _middle,
    "riemann_trapezoid": _trapezoid,
    "captum_trapezoid": _captum_trapezoid,
    "endpoint_mean": _endpoint_mean,
    "gausslegendre": _gausslegendre,
}

_BOTH_ENDS = ("riemann_trapezoid", "captum_trapezoid", "endpoint_mean")


def path(rule: str, n_steps: int) -> Table:
    """Return (α_k, w_k) of ``rule`` at ``n_steps`` points; raises ``ValueError`` for too few points."""
    least = least_points(rule)
    if n_steps < least:
        raise ValueError(f"n_steps must be at least {least} for {rule}, got {n_steps}")
    return PATH_RULES[rule](n_steps)


def least_points(rule: str) -> int:
    """Return the fewest points that a rule needs."""
    return 2 if rule in _BOTH_ENDS else 1
