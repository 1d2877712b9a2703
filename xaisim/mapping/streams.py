"""Streams: the operands and outputs of a stage as tiles that move, and the facts about one tile.

problem.streams[0]                      Stream("input", bits=16, memories=("activations",), halo=True, …)
tile_bits(stream, problem, t, k, c, p, q)
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from xaisim.hardware.architecture import Architecture
from xaisim.ir import selection, softmax
from xaisim.ir.graph import Graph
from xaisim.mapping.nest import Mapping
from xaisim.mapping.stages import Nest, Stage, Window, nest_of, stages

LOADED = ("input", "index", "weight", "tail")
"""Roles of streams that are moved towards the array or the vector unit."""


class Stream(NamedTuple):
    """What tiling needs to know of an operand or output: its width, where its tiles wait, and what they follow."""

    role: str
    bits: int
    memories: tuple[str, ...]
    """On-chip memories that its tiles pass through, from the DRAM inwards; of a tensor that stays on the chip, the one
    where it stays comes first."""
    levels: tuple[int, ...]
    """The level of loops whose tiles each of these memories holds; −1 for the one in which all of it stays."""
    moved: bool = True
    """It crosses the DRAM bus: it does not stay on the chip, and is no partial sum."""
    halo: bool = False
    extra_bits_per_k: int = 0
    """Bias bits that travel with a weight tile, per filter."""
    point: bool = False
    """It differs from one path point to the next."""

    @property
    def kept(self) -> bool:
        """Whether it stays on the chip as a whole."""
        return self.levels[0] < 0

    def kept_in(self, memory: str) -> Stream:
        """Return the stream of a tensor that stays in ``memory``: its tiles pass through those inside it."""
        at = self.memories.index(memory)
        return self._replace(memories=self.memories[at:], levels=(-1, *self.levels[at + 1 :]), moved=False)

    @property
    def memory(self) -> str:
        """The memory next to array and vector unit."""
        return self.memories[-1]


class Problem(NamedTuple):
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
    accumulates: bool = False
    """Its sum over path points stays in place, so points run innermost."""


@lru_cache(maxsize=64)
def problems_of(graph: Graph) -> tuple[Problem, ...]:
    """Return what decides the tiling of each stage but its streams, for one path point in flight."""
    return tuple(_problem_of(stage, nest_of(stage)) for stage in stages(graph))


def _problem_of(stage: Stage, nest: Nest) -> Problem:
    return Problem(
        nest=nest,
        on_array=stage.on_array,
        dilation=(nest.rows.dilation, nest.columns.dilation),
        work_per_output=window_work(stage, nest),
        streams=(),
        transposed=bool(stage.anchor.attrs.get("transposed")),
        channelwise=not stage.on_array,
        accumulates=any(node.op == "accumulate" for node in stage.nodes),
    )


def window_work(stage: Stage, nest: Nest) -> int:
    """Return the vector unit's operations per output element of the anchor."""
    op = stage.anchor.op
    if op == "upsample":
        return 4  # two taps along each axis
    if op in ("softmax", "softmax_seed"):
        return softmax.WORK
    source = stage.operand("input")
    if op == "smallest" and source is not None:
        return selection.passes(source.type.element_bits)
    if op == "unpool":  # each output element is touched by the windows that cover it
        return -(-nest.R // nest.rows.dilation) * -(-nest.S // nest.columns.dilation)
    if op in ("maxpool", "avgpool", "pool_index"):
        return min(nest.R, nest.rows.extent) * min(nest.S, nest.columns.extent)
    return 1


def tile_bits(stream: Stream, problem: Problem, t: int, k: int, c: int, p: int, q: int) -> int:
    """Return the bits of one full tile of a stream."""
    nest = problem.nest
    points = t if stream.point else 1
    if stream.role == "weight":
        return points * (k * c * nest.R * nest.S * stream.bits + k * stream.extra_bits_per_k)
    if stream.halo:
        rows, columns = reach(nest.rows, p), reach(nest.columns, q)
        return points * (k if problem.channelwise else c) * rows * columns * stream.bits
    return points * k * p * q * stream.bits


def reach(window: Window, outputs: int) -> int:
    """Return the most input elements along one axis that ``outputs`` neighbouring outputs read."""
    span = ((outputs - 1) * window.stride + window.size - 1) // window.dilation + 1
    return min(span, window.extent)


def slot_bytes(bits: int) -> int:
    """Return the bytes a tile takes in a buffer: whole 8-byte words."""
    return -(-bits // 64) * 8


def relevant(stream: Stream, problem: Problem) -> str:
    """Return the loop dimensions that select a tile of the stream."""
    if stream.role == "weight":
        dims = "KC"
    elif stream.halo and not problem.channelwise:
        dims = "CPQ"
    elif stream.halo and problem.nest.rows.stride == 0:  # every output reads all of the channel
        dims = "K"
    else:
        dims = "KPQ"
    return dims + "T" if stream.point else dims


def hops_at(stream: Stream, level: int) -> list[str]:
    """Return the memory of a stream that holds tiles of a level, if there is one."""
    return [memory for memory, at in zip(stream.memories, stream.levels, strict=True) if at == level]


class Slots(NamedTuple):
    """The buffers of a stream in one of its memories."""

    number: int
    size: int
    """Bytes of each."""
    distinct: int
    """Different tiles that pass through while the loops run."""


NO_SLOTS = Slots(0, 0, 0)
"""Of the memory in which all of a tensor stays."""


def buffer_plan(problem: Problem, mapping: Mapping, arch: Architecture, free: dict[str, int]) -> list[list[Slots]]:
    """Return the buffers of every stream in each of its memories: one per tile where the bytes that are left allow."""
    loops = mapping.counts(problem.nest)
    levels = []  # of each: its tile, iterations by dimension, and the loops around the tile
    for level, end in enumerate(accumulate(len(own) for own in mapping.levels)):
        counts = dict.fromkeys("TKCPQ", 1)
        for dim, count in loops[:end]:
            counts[dim] *= count
        levels.append((mapping.tile(problem.nest, level), counts, loops[:end]))
    buffers = {memory.name: memory.buffers for memory in arch.on_chip}
    plan = [[NO_SLOTS] * len(stream.memories) for stream in problem.streams]
    spare = dict(free)
    wishes: list[tuple[int, int]] = []
    for i, stream in enumerate(problem.streams):
        dims = relevant(stream, problem)
        for hop, (memory, level) in enumerate(zip(stream.memories, stream.levels, strict=True)):
            if level < 0:
                continue  # it stays on the chip, and its room is not part of ``free``
            tile, counts, around = levels[min(level, len(levels) - 1)]
            distinct = math.prod(counts[dim] for dim in dims)
            held = min(buffers[memory], distinct)
            if stream.role == "psum":  # as many sums are open as the loops inside that of channels have
                inside = next((j for j, (dim, _) in enumerate(around) if dim == "C"), len(around))
                held = min(distinct, held * math.prod(count for _, count in around[inside + 1 :]))
            size = slot_bytes(tile_bits(stream, problem, *(tile[dim] for dim in "TKCPQ")))
            plan[i][hop] = Slots(held, size, distinct)
            spare[memory] -= held * size
            if stream.role in LOADED and distinct > held:
                wishes.append((i, hop))
    for i, hop in wishes:
        memory, (held, size, distinct) = problem.streams[i].memories[hop], plan[i][hop]
        if (distinct - held) * size <= spare[memory]:
            spare[memory] -= (distinct - held) * size
            plan[i][hop] = Slots(distinct, size, distinct)
    return plan


def link_bytes_per_cycle(arch: Architecture, outer: str, inner: str) -> float:
    """Return the rate between two on-chip memories: that of the slower port."""
    rates = {memory.name: memory.bytes_per_cycle for memory in arch.on_chip}
    return min(rates[outer], rates[inner])
