"""Samplers that learn: NSGA-II, NSGA-III and TPE of Optuna, generation by generation.

A generation is asked for as a whole and told as a whole, in its order, so what comes next does not depend on how many
workers there are nor on which of them is faster. Values in rising order are numbers to the optimiser, others are names.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from xaisim.config import UserError, parse_bytes
from xaisim.sweep.samplers import Told
from xaisim.sweep.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_UNKNOWN_COST = 1e9
"""Cost of a point that came to nothing, until one has come to something."""


class Optimiser:
    """A study of Optuna under our ask and tell."""

    ends = False

    def __init__(self, space: Space, first: Sequence[dict[str, Any]] = ()) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError(f"sampler {space.sampler.kind} needs optuna: pip install 'xaisim[dse]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes, self._generation = space.axes, space.sampler.generation
        self._distributions = {key: _distribution(values) for key, values in space.axes.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on what is new in Optuna are not for our users
            self._study = optuna.create_study(directions=["minimize"] * len(space.goals), sampler=_sampler(space))
        self._worst = [_UNKNOWN_COST] * len(space.goals)
        self._known = False
        for choice in [*first, *_ends(space)]:
            places = {key: values.index(choice[key]) for key, values in self._axes.items()}
            self._study.enqueue_trial(places, skip_if_exists=True)

    def ask(self, room: int = 0) -> list[dict[str, Any]]:  # noqa: ARG002 - a generation is what it is
        """Return the next generation."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._asked = [self._study.ask(self._distributions) for _ in range(self._generation)]
        return [{key: values[trial.params[key]] for key, values in self._axes.items()} for trial in self._asked]

    def tell(self, told: Sequence[Told]) -> None:
        """Tell the study; what has no objectives counts as the worst there is, and as breaking a constraint."""
        for row in told:
            if row.costs is not None:
                known = zip(self._worst, row.costs, strict=True)
                self._worst = [max(pair) for pair in known] if self._known else list(row.costs)
                self._known = True
        for trial, row in zip(self._asked, told, strict=False):  # a last generation may be told in part
            violation = row.violation if row.costs is not None else max(row.violation, 1e-6)
            trial.set_constraint("rules", violation)
            self._study.tell(trial, self._worst if row.costs is None else row.costs)


def _ends(space: Space) -> list[dict[str, Any]]:
    """Return the first, the last and the middle values of all keys: where a search may as well begin."""
    axes = space.axes.items()
    return [{key: values[int(share * (len(values) - 1))] for key, values in axes} for share in (0, 1, 0.5)]


def _sampler(space: Space) -> BaseSampler:
    from optuna import samplers

    kind, size = space.sampler.kind, space.sampler.generation
    if kind == "tpe":
        return samplers.TPESampler(seed=space.seed, n_startup_trials=size, multivariate=True, constant_liar=True)
    evolving = samplers.NSGAIISampler if kind == "nsga2" else samplers.NSGAIIISampler
    return evolving(seed=space.seed, population_size=size)


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if _rising(values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(range(len(values)))


def _rising(values: Sequence[Any]) -> bool:
    """Return whether values are numbers, or sizes with units, in rising order."""
    try:
        sizes = [parse_bytes(value) if isinstance(value, str) else float(value) for value in values]
    except (TypeError, ValueError):
        return False
    return all(a < b for a, b in pairwise(sizes))
