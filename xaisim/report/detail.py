"""How much of a run the timeline draws: every layer of every launch, and of tiles as many as there is room for.

    for part in choose([analysis, ...], most=50_000):
        part.analysis, part.trip, part.drawn            (rows,): which tiles are drawn; None where not even layers are

Of what does not fit whole, every layer begins with its first tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xaisim.ir.graph import Array
from xaisim.report.counters import drawn_trips
from xaisim.report.cycles import Analysis
from xaisim.report.events import summary_size, tile_sizes


@dataclass(slots=True)
class Part:
    """A trip of a launch, or what goes ahead of its first, and what is drawn of it."""

    analysis: Analysis
    launch: int
    """The number of its launch."""
    trip: int
    drawn: Array | None = None
    """(rows,): whether each tile is drawn; the others are in a slice of their layer. None: nothing is drawn."""

    @property
    def told(self) -> str:
        """Say what is missing, as an ending of a name."""
        if self.drawn is None:
            return ", not drawn"
        if not self.drawn.any():
            return ", layers without tiles"
        return "" if self.drawn.all() else ", first tiles of every layer"


def choose(analyses: Sequence[Analysis], most: int) -> list[Part]:
    """Return all parts of a program with what is drawn of them in at most ``most`` events, in the program's order.

    Phases and layers come before tiles. First trips come before the others, kernels that were not there yet before
    those that were, and small parts before large ones.
    """
    parts = [
        Part(part, number, trip)
        for number, analysis in enumerate(analyses)
        for part in analysis.parts
        for trip in drawn_trips(part)
    ]
    order = _order(parts)
    room = most
    for part in order:
        size = summary_size(part.analysis)
        if size <= room:
            part.drawn = np.zeros(part.analysis.launch.schedule.tiles.rows, bool)
            room -= size
    for part in order:
        if part.drawn is not None:
            room -= _draw_tiles(part, room)
    return parts


def _order(parts: Sequence[Part]) -> list[Part]:
    """Return the parts in the order in which room is given away."""
    seen: dict[str, int] = {}
    for part in parts:
        seen.setdefault(part.analysis.launch.launch.kernel, part.launch)

    def rank(part: Part) -> tuple[bool, bool, int]:
        again = seen[part.analysis.launch.launch.kernel] != part.launch
        return again, part.trip > 1, int(tile_sizes(part.analysis, part.trip).sum())

    return sorted(parts, key=rank)


def _draw_tiles(part: Part, room: int) -> int:
    """Mark as many tiles as fit, layer by layer in step; return how many events they take."""
    assert part.drawn is not None
    size, stage = tile_sizes(part.analysis, part.trip), part.analysis.launch.schedule.tiles.stage
    order = np.argsort(stage, kind="stable")
    total = np.cumsum(size[order])
    first = np.searchsorted(stage[order], stage[order])  # where the layer of each begins
    within = np.empty_like(total)
    within[order] = total - (total - size[order])[first]
    shortest = np.argsort(within, kind="stable")
    fits = np.cumsum(size[shortest]) <= room
    part.drawn[shortest[fits]] = True
    return int(size[part.drawn].sum())
