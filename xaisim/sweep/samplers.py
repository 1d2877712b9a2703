"""Which points come next: samplers that ask for a generation of choices and are told what became of them.

    sampler = sampler_of(space, first=[])
    choices = sampler.ask(); sampler.tell([Told(choice, costs, violation), …])

A sampler's sequence depends on the space, its seed and what it was told, in order. The store keeps what was told, so a
sweep that was stopped asks for the same points again, finds them finished, and goes on where it was.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from xaisim.config import UserError
from xaisim.sweep.point import Choice
from xaisim.sweep.space import Space

_CHUNK = 500
"""Points that samplers without memory are asked for at once, at least."""


class Told(NamedTuple):
    """A choice, its objectives, less being better, or None where it has none, and how far it breaks a constraint."""

    choice: Choice
    costs: list[float] | None
    violation: float


class Sampler(Protocol):
    """Asks and is told."""

    ends: bool
    """It asks for no choice twice and comes to an end by itself."""

    def ask(self, room: int = 0) -> list[dict[str, Any]]:
        """Return the next generation, of ``room`` choices or more where that changes nothing; empty at the end."""

    def tell(self, told: Sequence[Told]) -> None:
        """Take the results of the generation that was asked for, in its order."""


class Listed:
    """A sampler that follows a sequence, whatever it is told."""

    def __init__(self, choices: Iterator[dict[str, Any]], *, ends: bool) -> None:
        self._choices, self.ends = choices, ends

    def ask(self, room: int = 0) -> list[dict[str, Any]]:
        """Return the next choices of the sequence."""
        return list(itertools.islice(self._choices, max(_CHUNK, room)))

    def tell(self, told: Sequence[Told]) -> None:
        """Learn nothing."""


def sampler_of(space: Space, first: Sequence[dict[str, Any]] = ()) -> Sampler:
    """Return the sampler of a space, which begins with the choices of ``first``.

    Raises :class:`UserError` where an optional package is missing.
    """
    kind = space.sampler.kind
    sequences = {"grid": grid, "random": drawn, "sobol": sobol}
    if kind in sequences:
        return Listed(itertools.chain(first, sequences[kind](space)), ends=kind != "sobol")
    from xaisim.sweep.optimiser import Optimiser

    return Optimiser(space, first)


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every combination, the last key fastest."""
    for values in itertools.product(*space.axes.values()):
        yield dict(zip(space.axes, values, strict=True))


def drawn(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every combination once, in a random order that the seed decides."""
    rng, size, seen = random.Random(space.seed), space.size, set[int]()
    while len(seen) < size:
        if 2 * len(seen) > size:  # drawing what is left would take ever longer
            left = sorted(set(range(size)) - seen)
            rng.shuffle(left)
            yield from (choice_at(space, number) for number in left)
            return
        number = rng.randrange(size)
        if number not in seen:
            seen.add(number)
            yield choice_at(space, number)


def choice_at(space: Space, number: int) -> dict[str, Any]:
    """Return the combination of that number on the grid."""
    choice = {}
    for key, values in reversed(space.axes.items()):
        number, index = divmod(number, len(values))
        choice[key] = values[index]
    return {key: choice[key] for key in space.axes}


def sobol(space: Space) -> Iterator[dict[str, Any]]:
    """Yield a scrambled Sobol sequence, laid over the values of every key."""
    try:
        from scipy.stats import qmc
    except ImportError:
        raise UserError("sampler sobol needs scipy: pip install 'xaisim[dse]'") from None
    engine = qmc.Sobol(len(space.axes), scramble=True, seed=space.seed)
    while True:
        for row in engine.random(512):
            places = zip(space.axes.items(), row, strict=True)
            yield {key: values[min(int(x * len(values)), len(values) - 1)] for (key, values), x in places}
