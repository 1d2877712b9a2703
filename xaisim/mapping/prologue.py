"""The prologue of a kernel: what stays on the chip over all trips is loaded once, ahead of the first.

rows, allocations = prologue_rows(plan, arch)        a load per tensor; the first trip begins when all are there
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.mapping import tables as w
from xaisim.mapping.plan import Plan
from xaisim.mapping.stages import volume
from xaisim.mapping.tiles import Allocations, Kind

Array = np.ndarray

OVER_TRIPS = -2
"""The slot of a tensor that stays on the chip over all trips."""


class Kept(NamedTuple):
    """A tensor that stays over all trips, as lowering sees it."""

    name: str
    stage: int
    stream: int
    """Which operand's it is: an index into all operands of all stages."""
    memory: int
    address: int
    size: int


def kept_over_trips(plan: Plan, arch: Architecture) -> list[Kept]:
    """Return what stays over all trips, in the order in which it is loaded."""
    names = [memory.name for memory in arch.memories]
    first = np.cumsum([0, *(len(operands) for operands in plan.placement.operands)])
    found = []
    for name, kept in plan.placement.over_trips.items():
        own = plan.placement.operands[kept.loader]
        at = next(i for i, operand in enumerate(own) if operand is not None and operand.name == name)
        stream, memory = int(first[kept.loader]) + at, names.index(kept.memory)
        found.append(Kept(name, kept.loader, stream, memory, kept.address, kept.size))
    return found


def prologue_rows(plan: Plan, arch: Architecture) -> tuple[Array, Allocations]:
    """Return the rows of the loads, with the columns of the walk, and what they fill."""
    kept = kept_over_trips(plan, arch)
    rows = np.zeros((len(kept), w.ROW_COLUMNS), np.int64)
    for i, (row, tensor) in enumerate(zip(rows, kept, strict=True)):
        stage, problem = plan.stages[tensor.stage], plan.problems[tensor.stage]
        operand = next(o for o in stage.operands if o.name == tensor.name)
        bits = operand.type.size_bits
        sides: tuple[int, ...] = volume(operand.type.shape)
        if operand.role == "weight":
            stream = next(s for s in problem.streams if s.role == "weight")
            bits = problem.nest.K * problem.nest.C * problem.nest.R * problem.nest.S * stream.bits
            bits += problem.nest.K * stream.extra_bits_per_k
            sides = (problem.nest.K, problem.nest.C, 1)
        row[w.O_STAGE], row[w.O_UNIT] = tensor.stage, i % max(1, arch.dma.engines - 1)
        row[w.O_KIND], row[w.O_STREAM], row[w.O_HOP] = Kind.LOAD, tensor.stream, -1
        row[w.O_REGION + 1 : w.O_REGION + 6 : 2] = sides
        row[w.O_C1], row[w.O_T1] = problem.nest.C, 1
        row[w.O_BITS], row[w.O_PIECES] = bits, 1
    number = np.arange(len(kept))
    columns = np.array([(t.memory, t.address, t.size, t.stream) for t in kept], np.int64).reshape(-1, 4).T
    return rows, Allocations(
        memory=columns[0], address=columns[1], size_bytes=columns[2], filled_by=number, released_by=number,
        stream=columns[3], slot=np.full(len(kept), OVER_TRIPS),
    )  # fmt: skip
