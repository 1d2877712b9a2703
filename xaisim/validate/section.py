"""A section of the validation page: a table of theirs beside ours, where theirs is from, and what it comes to.

Section("Closed forms", text, ("case", "published", "ours"), rows, source, "14 of 14 equal", exact=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points of an error plot, one per row of a table: ``y`` over ``x``."""

    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str]
    guides: Sequence[float] = ()
    """Values of y that are drawn as lines: within which errors are wanted."""

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.names):
            raise ValueError(f"{len(self.x)} x, {len(self.y)} y and {len(self.names)} names of one scatter")


@dataclass(frozen=True, slots=True)
class Section:
    """One comparison with the outside."""

    title: str
    text: str
    """What is compared and how, in Markdown."""
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    source: str
    """Where the other side's figures are from."""
    verdict: str
    """What it comes to, in one line."""
    scatter: Scatter | None = None
    exact: bool | None = None
    """Whether everything that must be equal is; None where figures are compared and none has to be equal."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} cells under {len(self.columns)} columns")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data; rows by column."""
        data = asdict(self)
        data["rows"] = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return data
