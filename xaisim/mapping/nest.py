"""The mapping of one stage: which loops run outside each memory, and with which tile sizes.

    mapping = Mapping(((Loop("P", 8), Loop("K", 16)),))      for P by 8, for K by 16, and the rest is the tile
    str(mapping)                                             "P by 8, K by 16"

Level 0 walks the tiles that come from DRAM, level 1 those that go on from the first on-chip memory to the next, and so
on. A dimension that no loop names is whole in the tile.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from xaisim.mapping.stages import Nest

LOOPS = ("T", "K", "C", "P", "Q")
"""Dimensions that may be tiled: path points, filters, channels, output rows and columns. R and S stay whole."""


class Loop(NamedTuple):
    """``for dim by step``: every iteration takes ``step`` elements of a dimension, the last one what is left."""

    dim: str
    step: int

    def __str__(self) -> str:
        return f"{self.dim} by {self.step}"


class Mapping(NamedTuple):
    """Loops of every level, outer first, and which of its forms the array takes for the innermost tile."""

    levels: tuple[tuple[Loop, ...], ...]
    spatial: int = 0
    """The array's form: an index into ``Array.alternatives``."""

    def tile(self, nest: Nest, level: int | None = None) -> dict[str, int]:
        """Return the extents of a full tile after the loops of levels 0 to ``level`` (of all levels by default)."""
        extents = {dim: int(getattr(nest, dim)) for dim in LOOPS}
        for loops in self.levels[: None if level is None else level + 1]:
            for dim, step in loops:
                extents[dim] = min(extents[dim], step)
        return extents

    def counts(self, nest: Nest) -> list[tuple[str, int]]:
        """Return (dimension, iterations of a full tile) of every loop, outer first."""
        extents, counts = {dim: int(getattr(nest, dim)) for dim in LOOPS}, []
        for dim, step in (loop for loops in self.levels for loop in loops):
            counts.append((dim, -(-extents[dim] // step)))
            extents[dim] = min(extents[dim], step)
        return counts

    def __str__(self) -> str:
        return "; ".join(level_text(loops) for loops in self.levels)


def level_text(loops: tuple[Loop, ...]) -> str:
    """Return ``P by 8, K by 16``, or ``whole`` where nothing is cut."""
    return ", ".join(map(str, loops)) or "whole"


_LOOP = re.compile(r"([A-Za-z]+) by (\d+)")


def parse_level(text: str, sizes: dict[str, int]) -> tuple[Loop, ...]:
    """Read what :func:`level_text` prints; ``sizes`` are the extents around it and become those inside.

    Raises ``ValueError`` with the rule and the value.
    """
    if text.strip() == "whole":
        return ()
    loops: list[Loop] = []
    for part in text.split(","):
        found = _LOOP.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"a loop is written 'K by 16', or 'whole' for none (got {part.strip()!r})")
        dim, step = found[1], int(found[2])
        if dim not in LOOPS:
            kept = " (R and S stay whole)" if dim in ("R", "S") else ""
            raise ValueError(f"no loop dimension {dim!r}{kept}; choices: {', '.join(LOOPS)}")
        if not 1 <= step <= sizes[dim]:
            raise ValueError(f"a step of {dim} must lie in 1 to {sizes[dim]}, the extent around it (got {step})")
        if any(loop.dim == dim for loop in loops):
            raise ValueError(f"the loops of a level name {dim} twice (got {text!r})")
        sizes[dim] = step
        loops.append(Loop(dim, step))
    return tuple(loops)
