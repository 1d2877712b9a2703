"""Tiling: how large the tiles of a stage are and in which order they run, chosen by a compiled cost bound.

    choose_mapping(problem, arch, free, "conv1", "latency").mapping      level by level, from the DRAM inwards

The bound is the larger of array, vector and DMA time of the whole stage, or its energy, or their product; within 2 % of
the least, less traffic wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array as MacArray
from xaisim.hardware.array import array_cycles
from xaisim.ir.kernels import phases
from xaisim.mapping.bound import CYCLES, ENERGY, PRODUCT, cheapest, table_of
from xaisim.mapping.nest import LOOPS, Loop, Mapping
from xaisim.mapping.streams import Problem, buffer_plan

Array = np.ndarray
Objective = Literal["latency", "energy", "edp"]
"""What a mapping is chosen for: cycles, energy, or their product (energy-delay product)."""
_FIGURES = {"latency": CYCLES, "energy": ENERGY, "edp": PRODUCT}


class Cost(NamedTuple):
    """What the bound says of a stage."""

    cycles: float
    picojoules: float
    """Of transfers; 0 where the objective does not ask for energy."""

    def bound(self, objective: Objective) -> float:
        """Return what is to be least."""
        return {"latency": self.cycles, "energy": self.picojoules, "edp": self.cycles * self.picojoules}[objective]


class Tiled(NamedTuple):
    """A mapping that was found, its bound, and what every level of loops contributes."""

    mapping: Mapping
    bound: float
    costs: tuple[Cost, ...]


def _axis(extent: int, unroll: int = 1) -> list[int]:
    """Candidate tile sizes along one axis: powers of two, multiples of the unrolling, halves and the whole."""
    sizes = {1 << i for i in range(extent.bit_length())} | {-(-extent // parts) for parts in (1, 2, 3, 4, 7)}
    sizes |= {size for size in (unroll, 2 * unroll, 4 * unroll, 8 * unroll) if size <= extent}
    return sorted(size for size in sizes if size <= extent)


_ORDERS = ("PQKC", "KPQC", "KCPQ")
"""Outer to inner: inputs stay, weights stay, weights stay while sums of many pixels wait."""
_SLACK = 1.02
"""Among tilings within 2 % of the least bound the one with the least traffic wins: bytes cost energy, too."""


def orders(problem: Problem) -> tuple[str, ...]:
    """Return the loop orders to try. Path points run outermost, or inside the weights' loops."""
    if problem.nest.T == 1:
        return tuple("T" + order for order in _ORDERS)
    if problem.accumulates:
        return ("PQKTC", "KPQTC")
    return ("TPQKC", "KTPQC", "KCTPQ")


def choose_mapping(
    problem: Problem, arch: Architecture, free: tuple[tuple[str, int], ...], name: str, objective: Objective
) -> Tiled:
    """Return the mapping of least bound; raise ``UserError`` where not even the smallest tile fits.

    The array of ``arch`` has one form. ``free`` lists the bytes of each on-chip memory that resident tensors leave.
    """
    found = _tiled(problem, arch, free, objective)
    if isinstance(found, str):
        raise UserError(f"{arch.name}: {name} does not fit: {found}")
    return found


@lru_cache(maxsize=16384)
def _tiled(
    problem: Problem, arch: Architecture, free: tuple[tuple[str, int], ...], objective: Objective
) -> Tiled | str:
    """Return what ``choose_mapping`` does, or what lacks."""
    levels: list[tuple[Loop, ...]] = []
    costs: list[Cost] = []
    inside, outside = problem, dict.fromkeys(LOOPS, 1)
    depth = depth_of(problem)
    for level in range(depth):
        around = tuple(outside[dim] for dim in LOOPS)
        found = _search(inside, level, arch, free, objective, around, passes_on=level < depth - 1)
        if found is None:
            return _smallest(inside, level, arch, dict(free))
        loops, cost = found
        costs.append(cost)
        levels.append(loops)
        for dim, count in Mapping((loops,)).counts(inside.nest):
            outside[dim] *= count
        tile = Mapping((loops,)).tile(inside.nest)
        inside = inside._replace(nest=inside.nest._replace(**tile))  # type: ignore[arg-type] # extents only
    mapping = Mapping(tuple(levels))
    short = lacking(problem, mapping, arch, dict(free)) if depth > 1 else ""  # which the search has seen level by level
    if short:
        return f"with the tiles found, {short}"
    return Tiled(mapping, max(cost.bound(objective) for cost in costs), tuple(costs))


def depth_of(problem: Problem) -> int:
    """Return the number of levels of loops: one, and one more for every memory that passes tiles on."""
    return max(1, 1 + max(level for stream in problem.streams for level in stream.levels))


def lacking(problem: Problem, mapping: Mapping, arch: Architecture, free: dict[str, int]) -> str:
    """Say which memories the tiles of a mapping overfill, all buffers included; nothing where they fit."""
    used: dict[str, int] = {}
    plan = buffer_plan(problem, mapping, arch, dict.fromkeys(free, 0))
    for stream, slots in zip(problem.streams, plan, strict=True):
        for memory, level, (count, size, _) in zip(stream.memories, stream.levels, slots, strict=True):
            if level >= 0:
                used[memory] = used.get(memory, 0) + count * size
    short = [(name, size) for name, size in used.items() if size > free[name]]
    return "; ".join(f"they need {size} bytes of {name}, which has {free[name]} left" for name, size in short)


def _candidates(problem: Problem, array: MacArray, whole_points: bool) -> Array:
    """Return candidate tile sizes, a column per dimension of ``LOOPS``."""
    nest = problem.nest
    unroll = dict(array.form.items()) if array.kind == "unrolled" else {}
    axes = {
        "T": [nest.T if whole_points else min(array.count, nest.T) if array.divide == "T" else 1],
        "K": _axis(nest.K, unroll.get("K", 1) if problem.on_array else 1),
        "C": _axis(nest.C, unroll.get("C", 1)),
        "P": _axis(nest.P),
        "Q": sorted({nest.Q, *(size for size in _axis(nest.Q) if nest.Q > 32)}),
    }
    grid = np.meshgrid(*axes.values(), indexing="ij")
    return np.stack([axis.reshape(-1) for axis in grid], axis=1)


@lru_cache(maxsize=4096)
def _sized(problem: Problem, array: MacArray, whole_points: bool) -> tuple[Array, Array]:
    """Return candidate tile sizes and the array's cycles on a tile of each; ``problem`` has no streams."""
    sizes = _candidates(problem, array, whole_points)
    cycles = np.zeros(len(sizes))
    if problem.on_array:
        cycles += _tile_cycles(problem, array, *sizes.T)
    return sizes, cycles


@lru_cache(maxsize=16384)
def _search(
    problem: Problem,
    level: int,
    arch: Architecture,
    free: tuple[tuple[str, int], ...],
    objective: Objective,
    outside: tuple[int, ...],
    *,
    passes_on: bool,
) -> tuple[tuple[Loop, ...], Cost] | None:
    # A sum over points is through before the next output tile begins, so they run inside all other loops.
    whole_points = problem.accumulates and level < depth_of(problem) - 1
    sizes, array_cycles = _sized(problem._replace(streams=()), arch.array, whole_points)
    table = table_of(problem, level, arch, dict(free), outside, energy=objective != "latency")
    tried = orders(problem)
    slack = _SLACK if objective == "latency" and not passes_on else np.inf
    # Sums lie at the last level: cutting channels further out would leave all of them open.
    order, best, cycles, picojoules = cheapest(
        sizes, array_cycles, table, _places(tried), _FIGURES[objective], passes_on, slack, _SLACK
    )
    if order < 0:
        return None
    loops = tuple(
        Loop(dim, step)
        for dim, step in zip(tried[order], sizes[best][_places(tried)[order]].tolist(), strict=True)
        if step < getattr(problem.nest, dim)
    )
    return loops, Cost(cycles, picojoules)


@lru_cache(maxsize=16)
def _places(orders: tuple[str, ...]) -> Array:
    """Return loop orders as indices into ``LOOPS``."""
    return np.array([[LOOPS.index(dim) for dim in order] for order in orders])


def _tile_cycles(problem: Problem, array: MacArray, t: Any, k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return array cycles of a full tile, its phases one after the other."""
    stride = problem.nest.rows.stride, problem.nest.columns.stride
    parts = phase_dims(problem, t, k, c, p, q)
    return sum(array_cycles(array, dims, stride=stride) for dims in parts)


def phase_dims(problem: Problem, t: Any, k: Any, c: Any, p: Any, q: Any) -> Iterator[dict[str, Any]]:
    """Yield what the array does for a full tile, phase by phase: the loop extents of each."""
    nest = problem.nest
    dy, dx = problem.dilation
    for _, _, rows, _, _ in phases(nest.R, nest.rows.padding, dy, nest.P):
        for _, _, columns, _, _ in phases(nest.S, nest.columns.padding, dx, nest.Q):
            if rows and columns:
                yield {"N": 1, "T": t, "K": k, "C": c, "P": -(-p // dy), "Q": -(-q // dx), "R": rows, "S": columns}


def _smallest(problem: Problem, level: int, arch: Architecture, free: dict[str, int]) -> str:
    """Say what the smallest tile needs where it does not fit."""
    nest = problem.nest
    loops = [Loop(dim, 1) for dim in "TPKC" if getattr(nest, dim) > 1] + ([Loop("Q", 1)] if nest.Q > 32 else [])
    outer = ((),) * level
    short = lacking(problem, Mapping((*outer, tuple(loops))), arch, free)
    return short.replace("they need", "its smallest tile needs") or f"no tile of {math.prod(nest[:4])} elements fits"
