"""What a key of a space may be: a list of values, or a range that stands for one.

    values_of([8, 16, 32])                  # (8, 16, 32)
    values_of({"range": [4, 16, 4]})        # (4, 8, 12, 16)
    values_of({"log": [8, 256]})            # (8, 16, 32, 64, 128, 256), doubling
    values_of({"log": [0.01, 1, 5]})        # five values at equal ratios; whole where both ends are

Every axis is a finite list in the order written, so each sampler draws from the same points and none is drawn twice.
"""

from __future__ import annotations

import math
from typing import Any

from xaisim.config import RuleError, did_you_mean

MOST_VALUES = 10_000
KINDS = ("range", "log")

Number = int | float


def values_of(written: Any) -> tuple[Any, ...]:
    """Return the values of an axis; raise ``RuleError`` with the place of what is wrong."""
    if isinstance(written, list):
        return _listed(written)
    if not isinstance(written, dict):
        raise RuleError([((), "must be a list of values, {range: [from, to, step]} or {log: [from, to]}")])
    if len(written) != 1 or next(iter(written)) not in KINDS:
        key = next((str(key) for key in written if key not in KINDS), "")
        near = did_you_mean(key, KINDS) or ";"
        raise RuleError([((), f"must have one key{near} choices: {', '.join(KINDS)}")])
    ((kind, ends),) = written.items()
    number = isinstance(ends, list) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in ends
    )
    if not number or len(ends) not in ((3,) if kind == "range" else (2, 3)):
        shape = "[from, to, step]" if kind == "range" else "[from, to] or [from, to, how many]"
        raise RuleError([((kind,), f"must be {shape}, in numbers")])
    return _range(*ends) if kind == "range" else _log(*ends)


def _listed(values: list[Any]) -> tuple[Any, ...]:
    if not values:
        raise RuleError([((), "must have at least one value")])
    twice = [index for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise RuleError([((index,), f"{values[index]} is listed twice") for index in twice])
    return tuple(values)


def _range(first: Number, last: Number, step: Number) -> tuple[Number, ...]:
    if step <= 0 or last < first:
        raise RuleError([(("range",), f"must rise by a step above 0 (got {first} to {last} by {step})")])
    count = int((last - first) / step + 1e-9) + 1
    _check_count(count, "range")
    return tuple(_neat(first + step * index) for index in range(count))


def _log(first: Number, last: Number, count: Number | None = None) -> tuple[Number, ...]:
    if first <= 0 or last < first:
        raise RuleError([(("log",), f"must rise from a number above 0 (got {first} to {last})")])
    if count is None:
        made: list[Number] = []
        while first * 2 ** len(made) <= last * (1 + 1e-9):
            made.append(_neat(first * 2 ** len(made)))
        return tuple(made)
    if not isinstance(count, int) or count < 2:
        raise RuleError([(("log", 2), "must be a whole number of values, at least 2")])
    _check_count(count, "log")
    exact = [first * (last / first) ** (index / (count - 1)) for index in range(count)]
    whole = isinstance(first, int) and isinstance(last, int)
    return tuple(dict.fromkeys(round(value) if whole else _neat(value) for value in exact))


def _check_count(count: int, kind: str) -> None:
    if count > MOST_VALUES:
        raise RuleError([((kind,), f"has {count} values, more than {MOST_VALUES}")])


def _neat(value: Number) -> Number:
    """Return a number without the dust of floating point, whole where it is."""
    value = float(f"{value:.10g}")
    return int(value) if value == int(value) else value
