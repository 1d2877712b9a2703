"""Search for the fewest bits per class of tensors that still meet a wish, in few trials.

fewest({"weights": 16, "gradients": 16}, meets, saving={"weights": 3e6, "gradients": 9e6})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

LEAST_BITS = 2

Widths = dict[str, int]


def fewest(most: Mapping[str, int], meets: Callable[[Widths], bool], saving: Mapping[str, float]) -> Widths | None:
    """Return widths of at most ``most`` bits that meet the wish, none of which can be less by itself, or None.

    ``saving`` says what a bit less of each class is worth. More bits are taken to be no worse (``meets`` is monotone);
    where that does not hold, the result still meets the wish. Deterministic; no point is tried twice.

    Each class alone has a least width, found by bisection with all others at their most. Errors add up, so all
    classes get as many more bits as the wish takes, and give them back one by one, the most expensive class first.
    Last, a bit of an expensive class is traded for some more of every cheaper class, where that saves.
    """
    search = _Search(most, meets, saving)
    if not search.good(most):
        return None
    search.least = {name: search.alone(name) for name in most}
    extra = 0
    while not search.good(widths := {name: min(most[name], bits + extra) for name, bits in search.least.items()}):
        extra += 1
    order = sorted(most, key=lambda name: (-saving[name], name))
    widths = search.lowered(widths, order)
    for place, name in enumerate(order):
        while traded := search.traded(widths, name, order[place + 1 :]):
            widths = search.lowered(traded, order[place + 1 :])
    return search.lowered(widths, order)


@dataclass(slots=True)
class _Search:
    """The moves of the search, and what is known of every point."""

    most: Mapping[str, int]
    meets: Callable[[Widths], bool]
    saving: Mapping[str, float]
    least: Widths = field(default_factory=dict)
    known: dict[tuple[int, ...], bool] = field(default_factory=dict)

    def good(self, widths: Mapping[str, int]) -> bool:
        """Return whether a point meets the wish, trying it once."""
        key = tuple(widths[name] for name in self.most)
        if key not in self.known:
            self.known[key] = self.meets(dict(widths))
        return self.known[key]

    def alone(self, name: str) -> int:
        """Return the least width of one class that will do while all others have their most."""
        low, high = LEAST_BITS, self.most[name]
        while low < high:
            middle = (low + high) // 2
            if self.good({**self.most, name: middle}):
                high = middle
            else:
                low = middle + 1
        return high

    def lowered(self, widths: Widths, order: Sequence[str]) -> Widths:
        """Take bits away, class by class in ``order``, as long as the wish is met."""
        for name in order:
            while widths[name] > self.least[name] and self.good(lower := {**widths, name: widths[name] - 1}):
                widths = lower
        return widths

    def traded(self, widths: Widths, name: str, cheaper: Sequence[str]) -> Widths | None:
        """Give up one bit of a class for as few more of each cheaper one as will do, or None where nothing saves."""
        lower = {**widths, name: widths[name] - 1}
        room = max((self.most[other] - widths[other] for other in cheaper), default=0)
        for extra in range(1, room + 1 if lower[name] >= self.least[name] else 0):
            traded = lower | {other: min(self.most[other], widths[other] + extra) for other in cheaper}
            if sum(self.saving[other] * (widths[other] - traded[other]) for other in widths) <= 0:
                return None
            if extra == 1 and not self.good(lower | {other: self.most[other] for other in cheaper}):
                return None
            if self.good(traded):
                return traded
        return None
