"""Search for the fewest bits per class of tensors that still meet a wish, in few trials.

fewest({"weights": 16, "gradients": 16}, meets, saving={"weights": 3e6, "gradients": 9e6})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    known: dict[tuple[int, ...], bool] = {}

    def good(widths: Mapping[str, int]) -> bool:
        key = tuple(widths[name] for name in most)
        if key not in known:
            known[key] = meets(dict(widths))
        return known[key]

    if not good(most):
        return None
    alone = {name: _bisect(most, name, good) for name in most}
    extra = 0
    while not good(widths := {name: min(most[name], bits + extra) for name, bits in alone.items()}):
        extra += 1
    order = sorted(most, key=lambda name: (-saving[name], name))
    widths = _lowered(widths, alone, order, good)
    for place, name in enumerate(order):
        while traded := _traded(widths, name, order[place + 1 :], most, alone, saving, good):
            widths = _lowered(traded, alone, order[place + 1 :], good)
    return _lowered(widths, alone, order, good)


def _bisect(most: Mapping[str, int], name: str, good: Callable[[Mapping[str, int]], bool]) -> int:
    """Return the least width of one class that will do while all others have their most."""
    low, high = LEAST_BITS, most[name]
    while low < high:
        middle = (low + high) // 2
        if good({**most, name: middle}):
            high = middle
        else:
            low = middle + 1
    return high


def _lowered(
    widths: Widths, least: Mapping[str, int], order: list[str], good: Callable[[Mapping[str, int]], bool]
) -> Widths:
    """Take bits away, class by class in ``order``, as long as the wish is met."""
    for name in order:
        while widths[name] > least[name] and good(lower := {**widths, name: widths[name] - 1}):
            widths = lower
    return widths


def _traded(
    widths: Widths,
    name: str,
    cheaper: list[str],
    most: Mapping[str, int],
    least: Mapping[str, int],
    saving: Mapping[str, float],
    good: Callable[[Mapping[str, int]], bool],
) -> Widths | None:
    """Give up one bit of a class for as few more of each cheaper one as meet the wish, or None where nothing saves."""
    lower = {**widths, name: widths[name] - 1}
    for extra in range(1, max((most[other] - widths[other] for other in cheaper), default=0) + 1):
        traded = lower | {other: min(most[other], widths[other] + extra) for other in cheaper}
        if sum(saving[other] * (widths[other] - traded[other]) for other in widths) <= 0 or traded[name] < least[name]:
            return None
        if extra == 1 and not good(lower | {other: most[other] for other in cheaper}):
            return None
        if good(traded):
            return traded
    return None
