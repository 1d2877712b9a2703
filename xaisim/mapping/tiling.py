"""Tiling: how large the tiles of a stage are and in which order they run, chosen by a vectorised cost bound.

    choose_mapping(problem, arch, free, "conv1", "latency").mapping      level by level, from the DRAM inwards

The bound is the larger of array, vector and DMA time of the whole stage, or its energy, or their product; within 2 % of
the least, less traffic wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import array_cycles
from xaisim.ir.kernels import phases
from xaisim.mapping.bound import bounds, table_of
from xaisim.mapping.nest import LOOPS, Loop, Mapping
from xaisim.mapping.streams import Problem, buffer_plan, slot_bytes, tile_bits

Array = np.ndarray
Objective = Literal["latency", "energy", "edp"]
"""What a mapping is chosen for: cycles, energy, or their product (energy-delay product)."""


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
        inside = replace(inside, nest=inside.nest._replace(**tile))  # type: ignore[arg-type] # extents only
    mapping = Mapping(tuple(levels))
    short = lacking(problem, mapping, arch, dict(free))
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
    for stream, held in zip(problem.streams, plan, strict=True):
        for memory, level, count in zip(stream.memories, stream.levels, held, strict=True):
            if level >= 0:
                tile = mapping.tile(problem.nest, level)
                bits = tile_bits(stream, problem, *(tile[dim] for dim in "TKCPQ"))
                used[memory] = used.get(memory, 0) + count * int(slot_bytes(bits))
    short = [(name, size) for name, size in used.items() if size > free[name]]
    return "; ".join(f"they need {size} bytes of {name}, which has {free[name]} left" for name, size in short)


def _candidates(problem: Problem, arch: Architecture, whole_points: bool) -> Array:
    """Return candidate tile sizes, a column per dimension of ``LOOPS``."""
    nest = problem.nest
    unroll = dict(arch.array.form.items()) if arch.array.kind == "unrolled" else {}
    axes = {
        "T": [nest.T if whole_points else min(arch.array.count, nest.T) if arch.array.divide == "T" else 1],
        "K": _axis(nest.K, unroll.get("K", 1) if problem.on_array else 1),
        "C": _axis(nest.C, unroll.get("C", 1)),
        "P": _axis(nest.P),
        "Q": sorted({nest.Q, *(size for size in _axis(nest.Q) if nest.Q > 32)}),
    }
    grid = np.meshgrid(*axes.values(), indexing="ij")
    return np.stack([axis.reshape(-1) for axis in grid], axis=1)


@lru_cache(maxsize=4096)
def _sized(problem: Problem, arch: Architecture, whole_points: bool) -> tuple[Array, Array]:
    """Return candidate tile sizes and the array's cycles on a tile of each; ``problem`` has no streams."""
    sizes = _candidates(problem, arch, whole_points)
    cycles = np.zeros(len(sizes))
    if problem.on_array:
        cycles += _tile_cycles(problem, arch, *sizes.T)
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
    sizes, array_cycles = _sized(replace(problem, streams=()), arch, whole_points)
    table = table_of(problem, level, arch, dict(free), outside, energy=objective != "latency")
    tried = orders(problem)
    slack = _SLACK if objective == "latency" and not passes_on else np.inf
    places = np.array([[LOOPS.index(dim) for dim in order] for order in tried])
    costs = bounds(sizes, array_cycles, table, places, slack)
    cycles, traffic, picojoules = np.moveaxis(costs, 2, 0).reshape(3, -1)
    bound = {"latency": cycles, "energy": picojoules, "edp": cycles * picojoules}[objective]
    if passes_on:  # sums lie at the last level: cutting channels further out would leave all of them open
        whole = np.tile(sizes[:, LOOPS.index("C")] == problem.nest.C, len(tried))
        bound = np.where(whole, bound, np.inf) if np.isfinite(bound[whole]).any() else bound
    if not np.isfinite(bound).any():
        return None
    volume = np.tile(sizes.prod(axis=1), len(tried))
    near = np.flatnonzero(bound <= _SLACK * bound.min())
    best = near[np.lexsort((-volume[near], bound[near], traffic[near]))[0]]
    order, size = tried[best // len(sizes)], sizes[best % len(sizes)]
    steps = [Loop(dim, int(size[LOOPS.index(dim)])) for dim in order]
    loops = tuple(loop for loop in steps if loop.step < getattr(problem.nest, loop.dim))
    return loops, Cost(float(cycles[best]), float(picojoules[best]))


def _tile_cycles(problem: Problem, arch: Architecture, t: Any, k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return array cycles of a full tile, its phases one after the other."""
    stride = problem.nest.rows.stride, problem.nest.columns.stride
    parts = phase_dims(problem, t, k, c, p, q)
    return sum(array_cycles(arch.array, dims, stride=stride) for dims in parts)


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
