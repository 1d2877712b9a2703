"""Tiling: how large the tiles of a stage are and in which order they run, chosen by a vectorised cost bound.

    Tiling(k=16, c=64, p=14, q=56, order="pk")      p outside, k inside, c innermost

The bound is the larger of array, vector and DMA time of the whole stage; within 2 % of the least, less traffic wins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import array_cycles
from xaisim.hardware.memory import Sram
from xaisim.ir.kernels import phases
from xaisim.mapping.stages import Nest, Stage

Array = np.ndarray


class Tiling(NamedTuple):
    """Tile sizes along K, C, P, Q and the order of the output loops, outer first."""

    k: int
    c: int
    p: int
    q: int
    order: str

    def counts(self, nest: Nest) -> tuple[int, int, int, int]:
        """Return the number of tiles along K, C, P and Q."""
        return tuple(
            -(-extent // size) for extent, size in zip((nest.K, nest.C, nest.P, nest.Q), self[:4], strict=True)
        )  # type: ignore[return-value] # four of four


@dataclass(frozen=True, slots=True)
class Stream:
    """What tiling needs to know of an operand or output: its width, where its tiles wait, and what they follow."""

    role: str
    bits: int
    memory: str
    moved: bool
    """It crosses the DRAM bus; False where it stays on the chip."""
    halo: bool = False
    extra_bits_per_k: int = 0
    """Bias bits that travel with a weight tile, per filter."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A stage as the tiler sees it; equal problems have equal answers."""

    nest: Nest
    on_array: bool
    dilation: tuple[int, int]
    work_per_output: int
    """Vector-unit operations per output element."""
    streams: tuple[Stream, ...]
    transposed: bool
    channelwise: bool
    """Input channels follow output channels (pools, element-wise) instead of being summed."""


def problem_of(stage: Stage, nest: Nest, streams: tuple[Stream, ...]) -> Problem:
    """Reduce a stage to what decides its tiling."""
    return Problem(
        nest=nest,
        on_array=stage.on_array,
        dilation=(nest.rows.dilation, nest.columns.dilation),
        work_per_output=window_work(stage, nest),
        streams=streams,
        transposed=bool(stage.anchor.attrs.get("transposed")),
        channelwise=not stage.on_array,
    )


def window_work(stage: Stage, nest: Nest) -> int:
    """Return the vector unit's operations per output element of the anchor."""
    op = stage.anchor.op
    if op == "upsample":
        return 4  # two taps along each axis
    if op == "unpool":  # each output element is touched by the windows that cover it
        return -(-nest.R // nest.rows.dilation) * -(-nest.S // nest.columns.dilation)
    if op in ("maxpool", "avgpool", "pool_index"):
        return min(nest.R, nest.rows.extent) * min(nest.S, nest.columns.extent)
    return 1


def tile_bits(stream: Stream, problem: Problem, k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return the bits of one full tile of a stream, for int sizes or arrays of them."""
    nest = problem.nest
    if stream.role == "weight":
        return k * c * nest.R * nest.S * stream.bits + k * stream.extra_bits_per_k
    if stream.halo:
        rows, columns = reach(nest.rows, p), reach(nest.columns, q)
        return (k if problem.channelwise else c) * rows * columns * stream.bits
    return k * p * q * stream.bits


def reach(window: Any, outputs: Any) -> Any:
    """Return the most input elements along one axis that ``outputs`` neighbouring outputs read."""
    span = ((outputs - 1) * window.stride + window.size - 1) // window.dilation + 1
    return np.minimum(span, window.extent)


def slot_bytes(bits: Any) -> Any:
    """Return the bytes a tile takes in a buffer: whole 8-byte words."""
    return -(-bits // 64) * 8


def distinct_tiles(stream: Stream, problem: Problem, counts: tuple[Any, Any, Any, Any]) -> Any:
    """Return how many different tiles a stream has."""
    n_k, n_c, n_p, n_q = counts
    if stream.role == "weight":
        return n_k * n_c
    if stream.halo and not problem.channelwise:
        return n_c * n_p * n_q
    return n_k * n_p * n_q


def versions(stream: Stream, problem: Problem, counts: tuple[Any, Any, Any, Any], order: str) -> Any:
    """Return how often a stream's tile changes while the loops run, if only the last one is remembered."""
    n_k, n_c, n_p, n_q = counts
    outputs = n_k * n_p * n_q
    if stream.role == "weight":
        return np.where((n_c == 1) & (order == "kp"), n_k, np.where((n_k == 1) & (n_c == 1), 1, outputs * n_c))
    if stream.halo and not problem.channelwise:
        pixels = n_p * n_q
        return np.where((n_c == 1) & (order == "pk"), pixels, np.where((pixels == 1) & (n_c == 1), 1, outputs * n_c))
    return outputs


def _axis(extent: int, unroll: int = 1) -> list[int]:
    """Candidate tile sizes along one axis: powers of two, multiples of the unrolling, halves and the whole."""
    sizes = {1 << i for i in range(extent.bit_length())} | {-(-extent // parts) for parts in (1, 2, 3, 4, 7)}
    sizes |= {size for size in (unroll, 2 * unroll, 4 * unroll, 8 * unroll) if size <= extent}
    return sorted(size for size in sizes if size <= extent)


_ORDERS = ("pk", "kp")
_SLACK = 1.02
"""Among tilings within 2 % of the least bound the one with the least traffic wins: bytes cost energy, too."""


def choose_tiling(problem: Problem, arch: Architecture, free: tuple[tuple[str, int], ...], name: str) -> Tiling:
    """Return the tiling of least bound; raise ``UserError`` where not even the smallest tile fits.

    ``free`` lists the bytes that are left in each on-chip memory after resident tensors.
    """
    tiling = _search(problem, arch, free)
    if tiling is None:
        raise UserError(f"{arch.name}: {name} does not fit: {_smallest(problem, arch, dict(free))}")
    return tiling


@lru_cache(maxsize=4096)
def _search(problem: Problem, arch: Architecture, free: tuple[tuple[str, int], ...]) -> Tiling | None:
    nest = problem.nest
    unroll = dict(arch.array.spatial.items()) if arch.array.kind == "unrolled" else {}
    grid = np.meshgrid(
        _axis(nest.K, unroll.get("K", 1) if problem.on_array else 1),
        _axis(nest.C, unroll.get("C", 1)),
        _axis(nest.P),
        sorted({nest.Q, *(size for size in _axis(nest.Q) if nest.Q > 32)}),
        indexing="ij",
    )
    k, c, p, q = (axis.reshape(-1) for axis in grid)
    fits = fitting_tiles(problem, arch, dict(free), k, c, p, q)
    k, c, p, q = (axis[fits] for axis in (k, c, p, q))
    if not len(k):
        return None
    costs = [cost_bound(problem, arch, dict(free), k, c, p, q, order) for order in _ORDERS]
    bound, traffic = (np.concatenate(parts) for parts in zip(*costs, strict=True))
    volume = np.tile(k * c * p * q, len(_ORDERS))
    near = bound <= _SLACK * bound.min()
    i = np.lexsort((-volume, bound, np.where(near, traffic, np.inf)))[0]
    order, i = _ORDERS[i // len(k)], i % len(k)
    return Tiling(int(k[i]), int(c[i]), int(p[i]), int(q[i]), order)


def _buffers(stream: Stream, arch: Architecture, distinct: Any) -> Any:
    memory = arch.memory(stream.memory)
    assert isinstance(memory, Sram)
    return np.minimum(memory.buffers, distinct)


def fitting_tiles(problem: Problem, arch: Architecture, free: dict[str, int], k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return which tile sizes fit every memory with the buffers that overlap needs."""
    used = occupied(problem, arch, k, c, p, q)
    return np.all([used[name] <= free[name] for name in used], axis=0)


def occupied(problem: Problem, arch: Architecture, k: Any, c: Any, p: Any, q: Any) -> dict[str, Any]:
    """Return the bytes that a tile size takes in each memory, all buffers included."""
    nest = problem.nest
    counts = (-(-nest.K // k), -(-nest.C // c), -(-nest.P // p), -(-nest.Q // q))
    used: dict[str, Any] = {}
    for stream in problem.streams:
        size = slot_bytes(tile_bits(stream, problem, k, c, p, q))
        size = size * _buffers(stream, arch, distinct_tiles(stream, problem, counts))
        used[stream.memory] = used.get(stream.memory, 0) + size
    return used


def cost_bound(
    problem: Problem, arch: Architecture, free: dict[str, int], k: Array, c: Array, p: Array, q: Array, order: str
) -> tuple[Array, Array]:
    """Return (cycles, bytes over the DRAM bus) of whole stages with perfect overlap, one per candidate."""
    nest = problem.nest
    counts = (-(-nest.K // k), -(-nest.C // c), -(-nest.P // p), -(-nest.Q // q))
    spare = {name: free[name] - used for name, used in occupied(problem, arch, k, c, p, q).items()}
    dma, traffic = np.zeros(len(k)), np.zeros(len(k))
    for stream in problem.streams:
        if not stream.moved:
            continue
        bits = tile_bits(stream, problem, k, c, p, q)
        distinct = distinct_tiles(stream, problem, counts)
        moves = versions(stream, problem, counts, order)
        more = slot_bytes(bits) * (distinct - _buffers(stream, arch, distinct))
        moves = np.where(more <= spare[stream.memory], np.minimum(moves, distinct), moves)
        payload = bits / 8
        segments = segment_count(stream, problem, k, c, p, q)
        payload = np.ceil(payload / segments / arch.dram.burst_bytes) * arch.dram.burst_bytes * segments
        dma += moves * (arch.dma.issue_cycles + payload / arch.dram.bytes_per_cycle)
        traffic += moves * payload
    outputs = counts[0] * counts[2] * counts[3]
    work = nest.K * nest.P * nest.Q * problem.work_per_output
    vector = work / arch.vector.lanes + outputs * arch.vector.pipeline_cycles
    array = np.zeros(len(k))
    if problem.on_array:
        array = outputs * counts[1] * _tile_cycles(problem, arch, k, c, p, q)
    # Half of the smaller parts counts too: they overlap only where there is a next tile to overlap with.
    parts = np.sort(np.stack([dma, vector, array]), axis=0)
    tiles = np.maximum(1, outputs * counts[1])
    return parts[2] + (parts[0] + parts[1]) / tiles, traffic


def _tile_cycles(problem: Problem, arch: Architecture, k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return array cycles of a full tile, its phases one after the other."""
    total: Any = 0
    nest = problem.nest
    dy, dx = problem.dilation
    for _, _, rows, _, _ in phases(nest.R, nest.rows.padding, dy, nest.P):
        for _, _, columns, _, _ in phases(nest.S, nest.columns.padding, dx, nest.Q):
            if rows and columns:
                dims = {"N": 1, "K": k, "C": c, "P": -(-p // dy), "Q": -(-q // dx), "R": rows, "S": columns}
                total = total + array_cycles(arch.array, dims, stride=(nest.rows.stride, nest.columns.stride))
    return total


def segment_count(stream: Stream, problem: Problem, k: Any, c: Any, p: Any, q: Any) -> Any:
    """Return the contiguous pieces of a tile in DRAM, where tensors lie as [C][H][W] and weights as [K][C][R][S].

    Whole rows join into one piece per channel, whole maps into one piece; turned weights are read where they lie.
    """
    nest = problem.nest
    if stream.role == "weight":
        outer, inner, whole = (c, k, nest.K) if problem.transposed else (k, c, nest.C)
        return np.where(inner == whole, 1, outer)
    channels = c if stream.halo and not problem.channelwise else k
    if stream.halo:
        rows, columns = reach(nest.rows, p), reach(nest.columns, q)
        height, width = nest.rows.extent, nest.columns.extent
    else:
        rows, columns, height, width = p, q, nest.P, nest.Q
    return np.where(columns < width, channels * rows, np.where(rows < height, channels, 1))


def _smallest(problem: Problem, arch: Architecture, free: dict[str, int]) -> str:
    """Say what the smallest tile needs where it does not fit."""
    used = occupied(problem, arch, *(np.array([1]),) * 3, np.array([1 if problem.nest.Q > 32 else problem.nest.Q]))
    lacking = [
        f"its smallest tile needs {int(size[0])} bytes of {name}, which has {free[name]} left"
        for name, size in used.items()
        if size[0] > free[name]
    ]
    return "; ".join(lacking) or f"no tile of {math.prod(problem.nest[:4])} elements fits"
