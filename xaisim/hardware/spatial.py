"""How loop dimensions are spread in space: ``Spatial``, in either of two forms.

{K: 16, C: 8}                                    # 16 filters × 8 channels at once: multipliers and adder trees
{rows: [R, C2, K, P], cols: [P, K]}              # a grid of processing elements, side by side
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, Field, model_validator

from xaisim.config import Config, RuleError, did_you_mean

DIMS = ("N", "K", "C", "P", "Q", "R", "S")
"""Loop dimensions: batch, filters, channels, output rows and columns, filter rows and columns."""

_ALIASES = {"B": "N", "OY": "P", "OX": "Q", "FY": "R", "FX": "S"}

Count = int | NDArray[np.int64]
Dims = Mapping[str, Any]  # of Count; Any lets an int tile and an array of tiles share the formulas


class Listed(NamedTuple):
    """A dimension that a side of the grid lists, and the most places of it that were asked for."""

    dim: str
    most: int | None


class Spatial(Config):
    """How far each loop dimension is spread in space. ZigZag's names B, OY, OX, FY, FX are accepted.

    Either the unrolling of each dimension, or what lies along the two sides of a grid. The first dimension of a side
    lies along it, an index per place; where it is longer it is folded, the rest following in later passes. The next
    ones share the places that are left, in the order given: each replicates all before it, once for each of its
    indices or as often as there is room, but no more often than the number behind its name (``C2``). A dimension on
    both sides continues on the second where the first one ends.
    """

    N: int = Field(default=1, ge=1, validation_alias=AliasChoices("N", "B"))
    K: int = Field(default=1, ge=1)
    C: int = Field(default=1, ge=1)
    P: int = Field(default=1, ge=1, validation_alias=AliasChoices("P", "OY"))
    Q: int = Field(default=1, ge=1, validation_alias=AliasChoices("Q", "OX"))
    R: int = Field(default=1, ge=1, validation_alias=AliasChoices("R", "FY"))
    S: int = Field(default=1, ge=1, validation_alias=AliasChoices("S", "FX"))
    rows: tuple[str, ...] | None = None
    cols: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check_forms(self) -> Self:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        sides = {"rows": self.rows, "cols": self.cols}
        if self.on_grid:
            unrolled = [f"{dim}: {extent}" for dim, extent in self.items() if extent > 1]
            if unrolled:
                text = f"write either unrollings or rows and cols, not both (got {', '.join(unrolled)} too)"
                problems.append(((), text))
            problems += [((side,), "required beside the other side") for side, got in sides.items() if got is None]
        for side, got in sides.items():
            problems += [((side, *path), text) for path, text in _list_problems(got or ())]
        if problems:
            raise RuleError(problems)
        return self

    @property
    def on_grid(self) -> bool:
        """Whether it names the sides of a grid."""
        return self.rows is not None or self.cols is not None

    def items(self) -> tuple[tuple[str, int], ...]:
        """Return (dimension, unrolling) for all seven dimensions in the order of ``DIMS``."""
        return tuple((dim, getattr(self, dim)) for dim in DIMS)

    def side(self, name: str) -> tuple[Listed, ...]:
        """Return what the side ``rows`` or ``cols`` lists."""
        return tuple(_parse(text) for text in getattr(self, name) or ())

    def __str__(self) -> str:
        if self.on_grid:
            return f"rows {' '.join(self.rows or ())}, cols {' '.join(self.cols or ())}"
        return " ".join(f"{dim}{extent}" for dim, extent in self.items() if extent > 1) or "scalar"


def _parse(text: str) -> Listed:
    name, number = re.fullmatch(r"([A-Za-z]*)(\d*)", text).groups()  # type: ignore[union-attr] # it was checked
    return Listed(_ALIASES.get(name, name), int(number) if number else None)


def _list_problems(listed: tuple[str, ...]) -> list[tuple[tuple[int, ...], str]]:
    """Check that each entry is a loop dimension, once, with a number of at least 1 if any."""
    problems: list[tuple[tuple[int, ...], str]] = []
    seen: set[str] = set()
    for index, text in enumerate(listed):
        match = re.fullmatch(r"([A-Za-z]+)(\d*)", text)
        dim = _ALIASES.get(match[1], match[1]) if match else text
        if match is None or dim not in DIMS:
            near = did_you_mean(dim, DIMS) or ";"
            rule = "must be a loop dimension, with the most places it may take behind it or without"
            problems.append(((index,), f"{rule} (got {text!r}){near} choices: {', '.join(DIMS)}"))
        elif match[2] and int(match[2]) < 1:
            problems.append(((index,), f"must take at least one place (got {text!r})"))
        elif dim in seen:
            problems.append(((index,), f"{dim} is listed twice on this side (got {text!r})"))
        seen.add(dim)
    return problems


def ceil_div(a: Any, b: Any) -> Any:
    """Return ⌈a/b⌉ of ints, staying an int, or element by element."""
    return -(-a // b)


def larger(a: Any, b: Any) -> Any:
    """Return max(a, b) of ints, staying an int, or element by element."""
    return np.maximum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else max(a, b)


def smaller(a: Any, b: Any) -> Any:
    """Return min(a, b) of ints, staying an int, or element by element."""
    return np.minimum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else min(a, b)
