"""Lower mapped stages to tiles: fill the tables that the walk reads.

out = run_walk(plan, arch, chosen_by=-1)      rows, edges, buffers
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.mapping import tables as w
from xaisim.mapping.allot import Sizes, allot, written
from xaisim.mapping.nest import LOOPS, Mapping
from xaisim.mapping.plan import Plan
from xaisim.mapping.prologue import OVER_TRIPS, Kept, kept_over_trips
from xaisim.mapping.stages import Stage
from xaisim.mapping.streams import Problem, Slots, Stream, buffer_plan, relevant
from xaisim.mapping.tiles import Unit, link_names, seats_of
from xaisim.mapping.walk import walk

Array = np.ndarray


def run_walk(plan: Plan, arch: Architecture, chosen_by: int) -> w.Out:
    """Walk all stages; the host chooses the class behind stage ``chosen_by`` (−1: never)."""
    kept = kept_over_trips(plan, arch)
    tables, sizes, depth = _Tables(plan, arch, chosen_by, kept).build()
    out, state = allot(tables, sizes, depth, len(seats_of(arch)))
    _put_over_trips(out, kept)
    walk(tables, out, state)
    return written(out)


class _Tables:
    """Fills the integer tables of a kernel."""

    def __init__(self, plan: Plan, arch: Architecture, chosen_by: int, kept: list[Kept]) -> None:
        self.plan, self.arch, self.chosen_by, self.kept = plan, arch, chosen_by, kept
        self.memories = [memory.name for memory in arch.memories]
        self.srams = {memory.name: memory for memory in arch.on_chip}
        self.seats = seats_of(arch)
        self.tensors: dict[str, int] = {}
        self.stage: list[list[int]] = []
        self.loop: list[tuple[int, ...]] = []
        self.stream: list[list[int]] = []
        self.hop: list[list[int]] = []
        self.source: list[tuple[int, ...]] = []
        self.maker: list[list[int]] = []
        self.sizes = Sizes()

    def build(self) -> tuple[w.Tables, Sizes, int]:
        for stage in self.plan.stages:
            for operand in stage.outputs:
                self.tensors[operand.name] = len(self.tensors)
        made = len(self.tensors)
        self.tensors |= {tensor.name: made + i for i, tensor in enumerate(self.kept)}
        depth = 1
        for stage, problem, mapping in zip(self.plan.stages, self.plan.problems, self.plan.mappings, strict=True):
            depth = max(depth, len(mapping.levels))
            self.add(stage, problem, mapping)
        for _ in self.kept:  # nobody makes it within a trip
            self.maker.append([self.sizes.made, *([1] * 4), *([1 << 62] * 4)])
            self.sizes.made += 1
            self.sizes.allocations += 1
        units = [seat.kind for seat in self.seats]
        seats = [0, units.count(Unit.DMA), units.index(Unit.ARRAY), units.count(Unit.ARRAY),
                 units.index(Unit.VECTOR), units.index(Unit.HOST), int(self.arch.array.divide == "T")]  # fmt: skip
        tables = w.Tables(
            _table(self.stage, w.STAGE_COLUMNS), _table(self.loop, 4), _table(self.stream, w.STREAM_COLUMNS),
            _table(self.hop, 10), _table(self.source, 5), _table(self.maker, w.MAKER_COLUMNS),
            np.array(seats, np.int64),
        )  # fmt: skip
        return tables, self.sizes, depth

    def add(self, stage: Stage, problem: Problem, mapping: Mapping) -> None:
        """Append a stage with its loops, streams, buffers and sources."""
        nest, counts = problem.nest, mapping.counts(problem.nest)
        first_loop, first_stream = len(self.loop), len(self.stream)
        flat = [(level, loop) for level, loops in enumerate(mapping.levels) for loop in loops]
        for (level, loop), (dim, count) in zip(flat, counts, strict=True):
            self.loop.append((LOOPS.index(dim), loop.step, level, count))
        outside = max((i for i, (dim, _) in enumerate(counts) if dim != "C"), default=-1)
        run = math.prod(count for _, count in counts[outside + 1 :])
        self.stage.append([
            problem.on_array, problem.channelwise, first_loop, len(flat), first_stream, len(problem.streams),
            *(getattr(nest, dim) for dim in LOOPS), *nest.rows, *nest.columns,
            self.ahead(problem), run, stage.anchor.op == "linear",
            self.tensors[self.plan.stages[self.chosen_by].outputs[0].name] if stage.index == self.chosen_by else -1,
            nest.R * nest.S,
        ])  # fmt: skip
        plan = buffer_plan(problem, mapping, self.arch, self.plan.placement.free[stage.index])
        cursor: dict[str, int] = {}
        operands = self.plan.placement.operands[stage.index]
        for stream, operand, slots in zip(problem.streams, operands, plan, strict=True):
            self.add_stream(stage, problem, stream, operand, slots, cursor)
        for operand in stage.outputs:
            self.add_maker(problem, mapping, operand.name in self.plan.placement.resident)
        arrays = self.arch.array.count
        self.sizes.add_stage(problem, mapping, self.stream[first_stream:], self.hop, len(self.seats), arrays)

    def add_maker(self, problem: Problem, mapping: Mapping, kept: bool) -> None:
        """Append a tensor: it is made by stores of the outermost tiles, or on the chip by the smallest ones."""
        tile = mapping.tile(problem.nest, None if kept else 0)
        counts = [-(-int(getattr(problem.nest, dim)) // tile[dim]) for dim in "TKPQ"]
        self.maker.append([self.sizes.made, *counts, *(tile[dim] for dim in "TKPQ")])
        self.sizes.made += math.prod(counts)

    def ahead(self, problem: Problem) -> int:
        """Tiles that a load runs ahead of their use: the fewest buffers of any stream, less the one in use."""
        fewest = [
            self.srams[name].buffers
            for stream in problem.streams
            for name, level in zip(stream.memories, stream.levels, strict=True)
            if level >= 0
        ]
        return min(fewest, default=1) - 1

    def add_stream(
        self, stage: Stage, problem: Problem, stream: Stream, operand: Any, slots: list[Slots], cursor: dict[str, int]
    ) -> None:  # fmt: skip
        kept = stream.kept
        own = operand is not None and stream.role != "output" and operand.name in {o.name for o in stage.outputs}
        sources = self.sources(operand, stream)
        resident = self.plan.placement.resident.get(operand.name) if operand is not None and kept else None
        dims = sum(1 << LOOPS.index(dim) for dim in relevant(stream, problem))
        self.stream.append([
            w.ROLES[stream.role], dims, len(self.hop), len(stream.memories) - kept,
            len(self.source) - len(sources), len(sources),
            self.tensors.get(operand.name, -1) if operand is not None else -1, kept, stream.halo,
            bool(operand is not None and operand.chosen), self.fetched_ahead(stage, stream, operand), own, stream.bits,
            stream.extra_bits_per_k, problem.transposed,
            resident.address if resident else 0, self.memories.index(stream.memories[0]),
            resident.size if resident else 0,
        ])  # fmt: skip
        for hop, (memory, level) in enumerate(zip(stream.memories, stream.levels, strict=True)):
            if level < 0:
                continue
            count, size, distinct = slots[hop]
            base = cursor.get(memory, 0)
            cursor[memory] = base + count * size
            # Stages take turns at filling a memory from its low and its high end, so that the first tiles of a stage
            # seldom wait for the last ones of the stage before.
            up = stage.index % 2 == 0
            address = base if up else self.plan.placement.free[stage.index][memory] - base - size
            self.hop.append([
                self.memories.index(memory), level, count, size, address, size if up else -size,
                self.sizes.tiles, self.sizes.slots, self.unit(stream, hop), distinct,
            ])  # fmt: skip
            self.sizes.tiles += distinct
            self.sizes.slots += count

    def unit(self, stream: Stream, hop: int) -> int:
        """Return the unit that moves tiles into (or out of) a memory: a DMA engine, or a link of the memory."""
        if hop == 0:
            return 0
        name = link_names(stream.memories[hop])[stream.role == "output"]
        return [seat.name for seat in self.seats].index(name)

    def sources(self, operand: Any, stream: Stream) -> list[tuple[int, ...]]:
        if operand is None or stream.role == "output":
            return []
        found: list[tuple[int, ...]] = [
            (self.tensors[s.name], s.start, s.stop, s.offset, int(s.whole))
            for s in self.plan.views.sources(operand.name)
            if s.name in self.tensors
        ]
        self.source += found
        return found

    def fetched_ahead(self, stage: Stage, stream: Stream, operand: Any) -> bool:
        """Constant weights in a memory of their own need nothing of the stage before but room."""
        alone = self.srams[stream.memories[0]].holds == ("weight",)
        return bool(stage.index > 0 and stream.role == "weight" and alone and operand.constant and not operand.chosen)


def _table(rows: list[Any], columns: int) -> Array:
    return np.array(rows, np.int64).reshape(-1, columns)


def _put_over_trips(out: w.Out, kept: list[Kept]) -> None:
    """Begin with what the prologue has put on the chip: the first allocations, of the last tensors."""
    out.counter[w.N_ALLOCATIONS] = len(kept)
    first = len(out.tensor_allocation) - len(kept)
    for i, tensor in enumerate(kept):
        out.tensor_allocation[first + i] = i
        a = out.allocation[i]
        a[:] = -1  # nobody fills or has used it
        a[w.A_MEMORY], a[w.A_STAGE], a[w.A_STREAM] = tensor.memory, tensor.stage, tensor.stream
        a[w.A_ADDRESS], a[w.A_SIZE], a[w.A_SLOT] = tensor.address, tensor.size, OVER_TRIPS
