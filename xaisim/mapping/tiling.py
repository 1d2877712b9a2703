"""Tiling: how large the tiles of a stage are and in which order they run, chosen by a vectorised cost bound.

    choose_mapping(problem, arch, free, "conv1", "latency")      level by level, from the DRAM inwards

The bound is the larger of array, vector and DMA time of the whole stage, or its energy, or their product; within 2 % of
the least, less traffic wins.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import array_cycles
from xaisim.hardware.costs import EnergyModel
from xaisim.ir.kernels import phases
from xaisim.mapping.nest import Loop, Mapping
from xaisim.mapping.streams import (
    Problem,
    Stream,
    buffers,
    changes,
    distinct_tiles,
    hops_at,
    link_bytes_per_cycle,
    open_sums,
    segment_count,
    slot_bytes,
    tile_bits,
)

Array = np.ndarray
Objective = Literal["latency", "energy", "edp"]
"""What a mapping is chosen for: cycles, energy, or their product (energy-delay product)."""


def _axis(extent: int, unroll: int = 1) -> list[int]:
    """Candidate tile sizes along one axis: powers of two, multiples of the unrolling, halves and the whole."""
    sizes = {1 << i for i in range(extent.bit_length())} | {-(-extent // parts) for parts in (1, 2, 3, 4, 7)}
    sizes |= {size for size in (unroll, 2 * unroll, 4 * unroll, 8 * unroll) if size <= extent}
    return sorted(size for size in sizes if size <= extent)


_ORDERS = ("PQKC", "KPQC")
"""Outer to inner: inputs stay, weights stay, weights stay while sums of many pixels wait."""
_SLACK = 1.02
"""Among tilings within 2 % of the least bound the one with the least traffic wins: bytes cost energy, too."""


def orders(problem: Problem) -> tuple[str, ...]:
    """Return the loop orders to try. Path points run outermost, or inside the weights' loops."""
    if problem.nest.T == 1:
        return tuple("T" + order for order in _ORDERS)
    if problem.accumulates:
        return ("PQKTC", "KPQTC")
    return ("TPQKC", "KTPQC")


def choose_mapping(
    problem: Problem, arch: Architecture, free: tuple[tuple[str, int], ...], name: str, objective: Objective
) -> Mapping:
    """Return the mapping of least bound; raise ``UserError`` where not even the smallest tile fits.

    ``free`` lists the bytes that are left in each on-chip memory after resident tensors.
    """
    levels: list[tuple[Loop, ...]] = []
    inside = problem
    depth = 1 + max(level for stream in problem.streams for level in stream.levels)
    for level in range(depth):
        loops = _search(inside, level, depth, arch, free, objective)
        if loops is None:
            raise UserError(f"{arch.name}: {name} does not fit: {_smallest(inside, level, arch, dict(free))}")
        levels.append(loops)
        tile = Mapping((loops,)).tile(inside.nest)
        inside = replace(inside, nest=inside.nest._replace(**tile))  # type: ignore[arg-type] # extents only
    return Mapping(tuple(levels))


class _Tiles(NamedTuple):
    """Candidate tile sizes of one level, a column per dimension, with the loops around them in one order."""

    problem: Problem
    level: int
    deepest: bool
    order: str
    size: dict[str, Array]
    counts: dict[str, Array]

    def bits(self, stream: Stream) -> Array:
        return tile_bits(stream, self.problem, *(self.size[dim] for dim in "TKCPQ"))


def _candidates(problem: Problem, level: int, depth: int, arch: Architecture) -> list[_Tiles]:
    nest = problem.nest
    unroll = dict(arch.array.spatial.items()) if arch.array.kind == "unrolled" else {}
    axes = {
        "T": [min(arch.array.count, nest.T) if arch.array.divide == "T" else 1],
        "K": _axis(nest.K, unroll.get("K", 1) if problem.on_array else 1),
        "C": _axis(nest.C, unroll.get("C", 1)),
        "P": _axis(nest.P),
        "Q": sorted({nest.Q, *(size for size in _axis(nest.Q) if nest.Q > 32)}),
    }
    grid = np.meshgrid(*axes.values(), indexing="ij")
    size = {dim: axis.reshape(-1) for dim, axis in zip(axes, grid, strict=True)}
    counts = {dim: -(-int(getattr(nest, dim)) // size[dim]) for dim in axes}
    return [_Tiles(problem, level, level == depth - 1, order, size, counts) for order in orders(problem)]


@lru_cache(maxsize=4096)
def _search(
    problem: Problem,
    level: int,
    depth: int,
    arch: Architecture,
    free: tuple[tuple[str, int], ...],
    objective: Objective,
) -> tuple[Loop, ...] | None:
    found: list[tuple[Array, Array, Any, Array, int]] = []
    candidates = _candidates(problem, level, depth, arch)
    for number, tiles in enumerate(candidates):
        used = occupied(tiles, arch)
        fits = np.flatnonzero(np.all([used[name] <= dict(free)[name] for name in used], axis=0))
        if tiles.order.index("C") < tiles.order.index("Q"):  # it differs from the others where channels are cut only
            fits = fits[tiles.counts["C"][fits] > 1]
        if not len(fits):
            continue
        chosen = tiles._replace(
            size={d: a[fits] for d, a in tiles.size.items()}, counts={d: a[fits] for d, a in tiles.counts.items()}
        )
        bound, traffic = cost_bound(chosen, arch, dict(free), objective)
        found.append((bound, traffic, math.prod(chosen.size[d] for d in "KCPQ"), fits, number))
    if not found:
        return None
    bound, traffic, volume, fits = (np.concatenate([f[i] for f in found]) for i in range(4))
    which = np.concatenate([np.full(len(f[3]), f[4]) for f in found])
    near = bound <= _SLACK * bound.min()
    best = np.lexsort((-volume, bound, np.where(near, traffic, np.inf)))
    tiles, i = candidates[which[best[0]]], fits[best[0]]
    return tuple(Loop(dim, int(tiles.size[dim][i])) for dim in tiles.order if tiles.counts[dim][i] > 1)


def _slots(stream: Stream, memory: str, tiles: _Tiles, arch: Architecture) -> Any:
    """Return the buffers of a stream at a level: for overlap, and for all sums that are open at once."""
    distinct = distinct_tiles(stream, tiles.problem, tiles.counts)
    held = buffers(memory, arch, distinct)
    if stream.role == "psum":
        held = np.minimum(distinct, held * open_sums(tiles.counts, tiles.order))
    return held


def occupied(tiles: _Tiles, arch: Architecture) -> dict[str, Any]:
    """Return the bytes that a tile size takes in each memory of its level, all buffers included."""
    used: dict[str, Any] = {}
    for stream in tiles.problem.streams:
        for memory in hops_at(stream, tiles.level):
            used[memory] = used.get(memory, 0) + slot_bytes(tiles.bits(stream)) * _slots(stream, memory, tiles, arch)
    return used


def cost_bound(tiles: _Tiles, arch: Architecture, free: dict[str, int], objective: Objective) -> tuple[Array, Array]:
    """Return (cost, bytes over the bus) of whole stages with perfect overlap, one per candidate.

    The cost is in cycles, in picojoules or in their product. Energy counts what the tiling decides: bytes moved.
    """
    problem, nest, counts = tiles.problem, tiles.problem.nest, tiles.counts
    spare = {name: free[name] - used for name, used in occupied(tiles, arch).items()}
    candidates = len(tiles.size["K"])
    dma, traffic, picojoules = np.zeros(candidates), np.zeros(candidates), np.zeros(candidates)
    model = EnergyModel(arch)
    for stream in problem.streams:
        for memory in hops_at(stream, tiles.level) if stream.moved else ():
            moves = _moves(stream, memory, tiles, arch, spare)
            cycles, payload = _move_cost(stream, memory, tiles, arch)
            dma += moves * cycles
            traffic += moves * payload
            picojoules += moves * payload * model.memory_pj_per_byte(_source(stream, memory, arch), "read")
    if objective == "energy":
        return picojoules, traffic
    outputs = math.prod(counts[dim] for dim in "TKPQ")
    work = nest.T * nest.K * nest.P * nest.Q * problem.work_per_output
    vector = work / arch.vector.lanes + outputs * arch.vector.pipeline_cycles
    array = np.zeros(candidates)
    if problem.on_array:
        array = outputs * counts["C"] * _tile_cycles(problem, arch, *(tiles.size[dim] for dim in "TKCPQ"))
    # Half of the smaller parts counts too: they overlap only where there is a next tile to overlap with.
    parts = np.sort(np.stack([dma, vector, array]), axis=0)
    cycles = parts[2] + (parts[0] + parts[1]) / np.maximum(1, outputs * counts["C"])
    return (cycles if objective == "latency" else cycles * picojoules), traffic


def _moves(stream: Stream, memory: str, tiles: _Tiles, arch: Architecture, spare: dict[str, Any]) -> Any:
    """Return how often a stream's tile is moved: each one once where all fit at the same time."""
    distinct = distinct_tiles(stream, tiles.problem, tiles.counts)
    moves = changes(stream, tiles.problem, tiles.counts, tiles.order)
    more = slot_bytes(tiles.bits(stream)) * (distinct - buffers(memory, arch, distinct))
    return np.where(more <= spare[memory], np.minimum(moves, distinct), moves)


def _source(stream: Stream, memory: str, arch: Architecture) -> str:
    """Return the memory that a hop moves from (or to, for outputs)."""
    at = stream.memories.index(memory)
    return stream.memories[at - 1] if at else arch.dram.name


def _move_cost(stream: Stream, memory: str, tiles: _Tiles, arch: Architecture) -> tuple[Any, Any]:
    """Return (cycles, bytes) of moving one tile into a memory."""
    bits, source = tiles.bits(stream), _source(stream, memory, arch)
    payload = bits / 8
    if source != arch.dram.name:
        return np.ceil(payload / link_bytes_per_cycle(arch, source, memory)), payload
    segments = segment_count(stream, tiles.problem, *(tiles.size[dim] for dim in "KCPQ"))
    payload = np.ceil(payload / segments / arch.dram.burst_bytes) * arch.dram.burst_bytes * segments
    return arch.dma.issue_cycles + payload / arch.dram.bytes_per_cycle, payload


def _tile_cycles(problem: Problem, arch: Architecture, t: Any, k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return array cycles of a full tile, its phases one after the other."""
    total: Any = 0
    nest = problem.nest
    dy, dx = problem.dilation
    for _, _, rows, _, _ in phases(nest.R, nest.rows.padding, dy, nest.P):
        for _, _, columns, _, _ in phases(nest.S, nest.columns.padding, dx, nest.Q):
            if rows and columns:
                dims = {"N": 1, "T": t, "K": k, "C": c, "P": -(-p // dy), "Q": -(-q // dx), "R": rows, "S": columns}
                total = total + array_cycles(arch.array, dims, stride=(nest.rows.stride, nest.columns.stride))
    return total


def _smallest(problem: Problem, level: int, arch: Architecture, free: dict[str, int]) -> str:
    """Say what the smallest tile needs where it does not fit."""
    nest = problem.nest
    size = {dim: np.array([1]) for dim in "TKCP"} | {"Q": np.array([1 if nest.Q > 32 else nest.Q])}
    counts = {dim: -(-int(getattr(nest, dim)) // size[dim]) for dim in size}
    used = occupied(_Tiles(problem, level, True, "TPQKC", size, counts), arch)
    lacking = [
        f"its smallest tile needs {int(size[0])} bytes of {name}, which has {free[name]} left"
        for name, size in used.items()
        if size[0] > free[name]
    ]
    return "; ".join(lacking) or f"no tile of {math.prod(nest[:4])} elements fits"
