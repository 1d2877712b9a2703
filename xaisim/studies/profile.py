"""How many points a rule needs on a path for a wanted completeness, from the score along the path alone.

profile = Profile(logits, target=3, score="probability")
found = deltas(profile, rule); fewest(found, 0.02), lasting(found, 0.02)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xaisim.attribution.host import probabilities
from xaisim.attribution.paths import Table, least_points, path
from xaisim.attribution.sampling import (
    Nodes,
    allocate,
    decision_counts,
    equidistributed,
    in_decisions,
    in_intervals,
    refine,
)
from xaisim.experiment import baseline_array
from xaisim.ir.graph import Array, evaluate
from xaisim.models.images import Sample
from xaisim.models.load import Model

SCORE = "probability"
MOST_POINTS = 512
"""No rule is tried with more."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Profile:
    """The score along a path from its logits at equally spaced points: F(α), and its slope D(α)."""

    logits: Array
    """(cells + 1, classes)."""
    target: int
    score: str

    def values(self, alphas: Array) -> Array:
        """Return F(α); logits are linear between the points of the table."""
        rows = self._rows(alphas)
        return (probabilities(rows) if self.score == "probability" else rows)[:, self.target]

    def slopes(self, alphas: Array) -> Array:
        """Return dF/dα."""
        cell = np.minimum((np.asarray(alphas) * self.cells).astype(int), self.cells - 1)
        steps = np.diff(self.logits, axis=0)[cell] * self.cells
        if self.score == "logit":
            return steps[:, self.target]
        p = probabilities(self._rows(alphas))
        return p[:, self.target] * (steps[:, self.target] - (p * steps).sum(axis=1))

    @property
    def cells(self) -> int:
        """Parts of the path."""
        return len(self.logits) - 1

    def change(self) -> float:
        """Return F(x) − F(x')."""
        first, last = self.values(np.array([0.0, 1.0]))
        return float(last - first)

    def delta(self, table: Table) -> float:
        """Return |Σ w D − (F(x) − F(x'))| over |F(x) − F(x')|."""
        return abs(float(table[1] @ self.slopes(table[0])) - self.change()) / abs(self.change())

    def _rows(self, alphas: Array) -> Array:
        at = np.asarray(alphas, np.float64) * self.cells
        cell = np.minimum(at.astype(int), self.cells - 1)
        share = (at - cell)[:, None]
        return self.logits[cell] * (1 - share) + self.logits[cell + 1] * share


def profile_of(model: Model, sample: Sample, *, score: str = SCORE, cells: int = 1024) -> Profile:
    """Tabulate the network's logits along the path from black, in float64; one cell has its two ends alone."""
    start = baseline_array(model, "black")
    alphas = np.linspace(0, 1, cells + 1)
    parts = [
        evaluate(model.graph, {"input": start + part[:, None, None, None] * (sample.x - start)})[model.graph.outputs[0]]
        for part in np.array_split(alphas, len(alphas) // _BATCH + 1)
    ]
    logits = np.concatenate(parts)
    return Profile(logits, int(logits[-1].argmax()), score)


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to place points: the table at ``n`` of them on a path, and the method and options that run it."""

    name: str
    table: Callable[[Profile, int], Table]
    method: str
    options: Mapping[str, Any]
    least: int = 1


def rules(density: Array, *, quick: bool) -> list[Rule]:
    """Return all rules with a number of points that is known beforehand."""
    found = [
        Rule(f"uniform, {short}", lambda _, n, r=rule: path(r, n), "integrated_gradients", {"rule": rule})  # type: ignore[misc]
        for short, rule in (("right", "riemann_right"), ("middle", "riemann_middle"), ("Gauss", "gausslegendre"))
    ]
    for intervals in (4,) if quick else (2, 4, 8):
        for short, rule in (("right", "riemann_right"), ("middle", "riemann_middle")):
            options = {"n_intervals": intervals, "rule": rule}
            table = partial(_non_uniform, intervals=intervals, rule=rule)
            least = intervals * least_points(rule)
            found.append(Rule(f"NUIG {intervals}, {short}", table, "nuig", options, least))
    found.append(Rule("fixed table", lambda _, n: equidistributed(density, n), "integrated_gradients", {}))
    found.append(Rule("IDG's sampling", _decisions, "idg", {"n_pilots": 11}))
    return found


def _non_uniform(profile: Profile, n: int, intervals: int, rule: str) -> Table:
    values = profile.values(np.linspace(0, 1, intervals + 1))
    return in_intervals(allocate(values, n, 0.5, least_points(rule)), rule)


def _decisions(profile: Profile, n: int) -> Table:
    return in_decisions(decision_counts(profile.values(np.linspace(0, 1, 11)), n))


def deltas(profile: Profile, rule: Rule) -> Array:
    """Return δ of a rule at 1 to 512 points; where it needs more, infinity."""
    least = max(1, rule.least)
    found = [profile.delta(rule.table(profile, n)) for n in range(least, MOST_POINTS + 1)]
    return np.array([np.inf] * (least - 1) + found)


def fewest(found: Array, threshold: float) -> int | None:
    """Return the smallest number of points whose δ is at most ``threshold``, None where none up to 512 will do.

    It may be met by luck: errors of either sign cancel at a number that only an oracle knows.
    """
    met = np.flatnonzero(found <= threshold)
    return int(met[0]) + 1 if len(met) else None


def lasting(found: Array, threshold: float) -> int | None:
    """Return the smallest n such that every number of points from n to 2n meets ``threshold``: what one can rely on."""
    failed = np.concatenate([[0], np.cumsum(found > threshold)])
    for n in range(1, MOST_POINTS // 2 + 1):
        if failed[2 * n] == failed[n - 1]:
            return n
    return None


def adaptive_deltas(profile: Profile, density: Array | None = None) -> tuple[Array, Array]:
    """Return what our adaptive method has at 1 to 512 points: δ of its map, and the error that it measures."""
    found, own = (np.full(MOST_POINTS, np.inf) for _ in range(2))

    def note(nodes: Nodes) -> bool:
        place = len(nodes.alphas) - 1
        found[place] = profile.delta((nodes.alphas, nodes.weights()))
        own[place] = nodes.error() / abs(profile.change())
        return False

    def look(alphas: Array) -> tuple[Array, Array]:
        return profile.values(alphas), profile.slopes(alphas)

    refine(look, MOST_POINTS + 1, enough=note, density=density)  # the last point is not asked about
    return found, own
