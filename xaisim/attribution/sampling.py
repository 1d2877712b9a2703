"""Where methods put their points, as functions of numbers alone: what a host decides, without a device.

counts = allocate(F(np.linspace(0, 1, 5)), n_steps=16, exponent=0.5); alphas, weights = in_intervals(counts, rule)
counts = decision_counts(F(np.linspace(0, 1, 11)), 50);               alphas, widths = in_decisions(counts)
nodes = refine(lambda alphas: (F(alphas), D(alphas)), 50, enough=lambda nodes: nodes.complete(0.02)); nodes.weights()

F(α) is the score on the path and D(α) = ∇F · (x − x') its slope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from xaisim.attribution.host import apportion
from xaisim.attribution.paths import Table, least_points, path
from xaisim.ir.graph import Array

_FIRST_POINTS = 4
"""Points, about, of the coarsest path that is refined until it is complete enough."""
_REFINED = {"riemann_left": 2, "riemann_right": 2, "riemann_middle": 3, "riemann_trapezoid": 2}
"""Rules that keep their points when every step is cut into so many."""

FIRST_NODES = np.array([0.0, 0.5, 1.0])
"""Where adaptive refinement begins."""


# --- NUIG -------------------------------------------------------------------------------------------------------------


def allocate(values: Array, n_steps: int, exponent: float, least: int = 1) -> Array:
    """Return how many of ``n_steps`` points each interval between probed ``values`` gets, at least ``least``."""
    return apportion(np.abs(np.diff(values)) ** exponent, n_steps, least)


def in_intervals(counts: Array, rule: str) -> Table:
    """Return (α, w) of equal intervals of [0, 1] with ``counts`` points of ``rule`` in each; α ascends."""
    width = 1 / len(counts)
    parts = [path(rule, int(count)) for count in counts]
    alphas = np.concatenate([(j + alpha) * width for j, (alpha, _) in enumerate(parts)])
    return alphas, np.concatenate([weight * width for _, weight in parts])


# --- refining a rule until its sum is complete ------------------------------------------------------------------------


def check_refinable(rule: str) -> None:
    """Raise ``ValueError`` for a rule that has other points when it has more."""
    if rule not in _REFINED:
        raise ValueError(
            f"stop_at_delta needs a rule whose points stay when it gets more of them: {', '.join(_REFINED)}; got {rule}"
        )


def refinements(rule: str, n_steps: int, least: int = _FIRST_POINTS) -> list[int]:
    """Return numbers of points of which each keeps those before, from about ``least`` to ``n_steps`` at most."""
    factor, ends = _REFINED[rule], least_points(rule) - 1
    steps, rounds = n_steps - ends, 0
    while steps // factor >= max(1, least - ends):
        steps //= factor
        rounds += 1
    return [steps * factor**r + ends for r in range(rounds + 1)]


def finer(counts: Array, rule: str, n_steps: int) -> Iterator[Array]:
    """Yield ``counts`` of an interval each, and finer ones that keep their points, up to ``n_steps`` in all."""
    ends = least_points(rule) - 1
    while counts.sum() <= n_steps:
        yield counts
        counts = (counts - ends) * _REFINED[rule] + ends


def merged(table: Table) -> Table:
    """Return a table with each α once, ascending, and the weights of equal ones added up."""
    alphas, place = np.unique(np.round(table[0], 12), return_inverse=True)
    return alphas, np.bincount(place, table[1], len(alphas))


# --- left-IG and IDG --------------------------------------------------------------------------------------------------


def kept_before(values: Array, threshold: float) -> int:
    """Return how many points come before the first with F > ``threshold`` · max F; at least one, all if none has it."""
    above = np.flatnonzero(values > threshold * values.max())
    return max(1, int(above[0])) if len(above) else len(values)


def decision_counts(pilots: Array, n_steps: int) -> Array:
    """Return how many of ``n_steps`` samples each interval between pilots gets under IDG's adaptive sampling.

    Slopes, the one that the first pilot lacks being 0, are scaled to [0, 1]; shares are in proportion to them.
    """
    slopes = np.concatenate([[0.0], np.diff(pilots)]) * (len(pilots) - 1)
    spread = slopes.max() - slopes.min()
    shares = (slopes - slopes.min()) / spread if spread > 0 else np.zeros(len(slopes))
    return apportion(shares[1:], n_steps)


def in_decisions(counts: Array, *, reference_compat: bool = False) -> Table:
    """Return (α, width) of samples that begin at the left of their intervals of [0, 1].

    ``reference_compat``: as in the authors' code an interval without samples does not move α on, so that all later
    samples slide towards 0.
    """
    width = 1 / len(counts)
    used = [int(count) for count in counts if count or not reference_compat]
    alphas = [(j + np.arange(count) / count) * width for j, count in enumerate(used) if count]
    return np.concatenate(alphas), np.concatenate([np.full(count, width / count) for count in used if count])


def forward_slopes(samples: Table, values: Array, pilots: Array) -> Array:
    """Return the finite difference over every sample's own width: to the next sample or to the pilot that ends it.

    Where a sample of the authors' code ends between known points, F is interpolated.
    """
    alphas, widths = samples
    known = np.concatenate([np.linspace(0, 1, len(pilots)), alphas])
    order = np.argsort(known, kind="stable")
    after = np.interp(alphas + widths, known[order], np.concatenate([pilots, values])[order])
    return np.asarray((after - values) / widths)


# --- adaptive refinement ----------------------------------------------------------------------------------------------


class Nodes:
    """Points of a path with F and D at each, and what lies between two of them.

    In an interval of width h the change ΔF is known, so the error of the trapezoid is, too: e = ΔF − h·(D_l + D_r)/2.
    Intervals are halved by their share of ``density``, which is even by default.
    """

    def __init__(self, density: Array | None = None) -> None:
        self.places, self.shares = cumulated(np.ones(1) if density is None else density)
        self.alphas = np.zeros(0)
        self.values = np.zeros(0)
        self.slopes = np.zeros(0)

    def add(self, alphas: Array, values: Array, slopes: Array) -> None:
        """Take in new points."""
        order = np.argsort(np.concatenate([self.alphas, alphas]), kind="stable")
        self.alphas = np.concatenate([self.alphas, alphas])[order]
        self.values = np.concatenate([self.values, values])[order]
        self.slopes = np.concatenate([self.slopes, slopes])[order]

    @property
    def errors(self) -> Array:
        """ΔF less the trapezoid of slopes, by interval."""
        return np.diff(self.values) - np.diff(self.alphas) * (self.slopes[1:] + self.slopes[:-1]) / 2

    def error(self) -> float:
        """Return √ Σ e²: how far the trapezoid is off where errors of intervals are of either sign.

        Their plain sum may be 0 by luck; Σ |e| holds for any signs, but is several times what is found.
        """
        return float(np.sqrt((self.errors**2).sum()))

    def complete(self, threshold: float | None) -> bool:
        """Return whether the error is at most ``threshold`` of |F(1) − F(0)|; never for None."""
        return threshold is not None and self.error() <= threshold * abs(float(self.values[-1] - self.values[0]))

    def worst(self, count: int) -> Array:
        """Return the middles of the ``count`` intervals of largest error; ties go to the wider, then the first."""
        order = np.lexsort((np.arange(len(self.alphas) - 1), -np.diff(self.alphas), -np.abs(self.errors)))
        chosen = np.sort(order[:count])
        share = np.interp(self.alphas, self.places, self.shares)
        return self.at((share[chosen] + share[chosen + 1]) / 2)

    def at(self, share: Array) -> Array:
        """Return the α up to which a share of the density lies."""
        return np.interp(share, self.shares, self.places)

    def weights(self) -> Array:
        """Return the share of the path that every point's gradient stands for; they sum to 1.

        Neighbours share an interval at the place where their tangents to F meet. With one kink between them that is
        the kink, and the sum is exact. Where they do not meet inside (F bends both ways), it is the middle.
        """
        width = np.diff(self.alphas)
        bend = self.slopes[:-1] - self.slopes[1:]
        left = np.divide(np.diff(self.values) - width * self.slopes[1:], bend, out=width / 2, where=bend != 0)
        left = np.where((left >= 0) & (left <= width), left, width / 2)
        return np.concatenate([left, [0.0]]) + np.concatenate([[0.0], width - left])


def steepest(score: Callable[[Array], Array], probes: int = 33, rounds: int = 8) -> Array:
    """Return where F changes fastest, as narrow as ``rounds`` halvings make it, and where F is nearest to 1/2.

    There the gradient of a probability is largest: it has p · (1 − p) as a factor.
    """
    alphas = np.linspace(0, 1, probes)
    values = score(alphas)
    for _ in range(rounds):
        steep = int(np.argmax(np.abs(np.diff(values)) / np.diff(alphas)))
        half = int(np.argmin(np.abs((values[1:] + values[:-1]) / 2 - 0.5)))
        middles = np.array([(alphas[i] + alphas[i + 1]) / 2 for i in sorted({steep, half})])
        order = np.argsort(np.concatenate([alphas, middles]))
        values = np.concatenate([values, score(middles)])[order]
        alphas = np.concatenate([alphas, middles])[order]
    return np.unique(
        [alphas[int(np.argmax(np.abs(np.gradient(values, alphas))))], alphas[np.argmin(np.abs(values - 0.5))]]
    )


def refine(
    look: Callable[[Array], tuple[Array, Array]],
    n_steps: int,
    *,
    enough: Callable[[Nodes], bool],
    at_once: int = 1,
    density: Array | None = None,
) -> Nodes:
    """Return up to ``n_steps`` nodes: both ends, the middle, then the middles of the worst intervals until ``enough``.

    ``look`` returns F and D at some α; middles are those of ``density``.
    """
    nodes = Nodes(density)
    new = nodes.at(FIRST_NODES)
    while True:
        nodes.add(new, *look(new))
        left = n_steps - len(nodes.alphas)
        if not left or enough(nodes):
            return nodes
        new = nodes.worst(min(at_once, left))


# --- a density of points learnt once per model ------------------------------------------------------------------------


def equidistributed(density: Array, n_steps: int) -> Table:
    """Return (α, w) of ``n_steps`` cells with equal shares of a density on equal parts of [0, 1], a point in each.

    For the density √|g'| this is where ½ Σ |g'(α_i)| Δα_i² is least.
    """
    places, shares = cumulated(density)
    bounds = np.interp(np.linspace(0, 1, n_steps + 1), shares, places)
    return (bounds[1:] + bounds[:-1]) / 2, np.diff(bounds)


def cumulated(density: Array) -> tuple[Array, Array]:
    """Return ascending places on the path and the share of the density up to each."""
    shares = np.concatenate([[0.0], np.cumsum(density)])
    return np.linspace(0, 1, len(shares)), shares / shares[-1]


def density_of(slopes: Array) -> Array:
    """Return √ of the mean |g'| over paths, from g on equally spaced points (paths, points); its mean is 1.

    Every part of the path keeps a hundredth of the mean, so that none is left out for what no scene showed.
    """
    density = np.sqrt(np.abs(np.diff(slopes, axis=1)).mean(axis=0))
    if not density.any():
        return np.ones(len(density))
    density = np.maximum(density, density.mean() / 100)
    return np.asarray(density / density.mean())
