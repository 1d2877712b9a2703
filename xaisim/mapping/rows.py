"""Rows under construction: tiles in the order they are emitted, sorted into program order at the end.

rows.add(key, unit=..., occupy_cycles=...)      returns the numbers of the new rows
rows.edge(source, target, Edge.DATA)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xaisim.mapping.stages import Nest
from xaisim.mapping.tiles import Edge
from xaisim.mapping.tiling import Tiling

Array = np.ndarray


@dataclass(slots=True)
class Rows:
    """Rows under construction; ``key`` sorts them into program order."""

    key: list[Array] = field(default_factory=list)
    columns: dict[str, list[Array]] = field(default_factory=dict)
    edges: list[Array] = field(default_factory=list)
    allocations: list[Array] = field(default_factory=list)
    """(memory, stage, stream, slot, size, filled_by, released_by) per tile version."""
    count: int = 0

    def add(self, key: Array, **columns: Array | int) -> Array:
        """Append rows and return their numbers."""
        n = len(key)
        self.key.append(np.asarray(key, np.float64))
        for name, value in columns.items():
            value = np.asarray(value)
            shape = (n, *value.shape[1:]) if value.ndim else (n,)
            self.columns.setdefault(name, []).append(np.broadcast_to(value, shape))
        self.count += n
        return np.arange(self.count - n, self.count)

    def edge(self, source: Array, target: Array, kind: Edge, distance: int = 0) -> None:
        """Append edges between rows."""
        source, target = np.broadcast_arrays(source, target)
        labels = np.full((2, source.size), [[int(kind)], [distance]])
        self.edges.append(np.concatenate([np.stack([source.reshape(-1), target.reshape(-1)]), labels]))


@dataclass(slots=True)
class Loop:
    """The output tiles of a stage in order, and the tile ranges of every axis."""

    tiling: Tiling
    nest: Nest
    k: Array
    p: Array
    q: Array
    n_c: int

    def span(self, axis: str, index: Array) -> tuple[Array, Array]:
        """Return [start, stop) of tiles along K, C, P or Q."""
        size = getattr(self.tiling, axis)
        return index * size, np.minimum((index + 1) * size, getattr(self.nest, axis.upper()))


def loop_of(tiling: Tiling, nest: Nest) -> Loop:
    """Return the output tiles in the tiling's order."""
    n_k, n_c, n_p, n_q = tiling.counts(nest)
    if tiling.order == "pk":
        p, q, k = (a.reshape(-1) for a in np.meshgrid(range(n_p), range(n_q), range(n_k), indexing="ij"))
    else:
        k, p, q = (a.reshape(-1) for a in np.meshgrid(range(n_k), range(n_p), range(n_q), indexing="ij"))
    return Loop(tiling, nest, k, p, q, n_c)


@dataclass(slots=True)
class Versions:
    """The loads of a stream and which of them each step (or output) uses."""

    rows: Array
    version: Array
    per_step: bool
