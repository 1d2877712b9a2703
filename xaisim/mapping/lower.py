"""Lower mapped stages to tiles: fill the tables that the walk reads, and price the rows that it writes.

out = run_walk(plan, arch, chosen_by=-1)      rows, edges, buffers
prices = price(out.row, plan, arch)           cycles and bytes of every row
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array as MacArray
from xaisim.hardware.array import array_accesses, array_cycles
from xaisim.hardware.memory import Sram
from xaisim.ir.kernels import phases
from xaisim.mapping import tables as w
from xaisim.mapping.allot import Sizes, allot, written
from xaisim.mapping.nest import LOOPS, Mapping
from xaisim.mapping.plan import Plan
from xaisim.mapping.prologue import OVER_TRIPS, Kept, kept_over_trips
from xaisim.mapping.stages import Stage
from xaisim.mapping.streams import (
    Problem,
    Stream,
    buffer_plan,
    distinct_tiles,
    relevant,
    slot_bytes,
    tile_bits,
)
from xaisim.mapping.tiles import Kind, Unit, link_names, seats_of
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
        slots = buffer_plan(problem, mapping, self.arch, self.plan.placement.free[stage.index])
        cursor: dict[str, int] = {}
        operands = self.plan.placement.operands[stage.index]
        for stream, operand, held in zip(problem.streams, operands, slots, strict=True):
            self.add_stream(stage, problem, mapping, stream, operand, held, cursor)
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
            self.sram(name).buffers
            for stream in problem.streams
            for name, level in zip(stream.memories, stream.levels, strict=True)
            if level >= 0
        ]
        return min(fewest, default=1) - 1

    def sram(self, name: str) -> Sram:
        memory = self.arch.memory(name)
        assert isinstance(memory, Sram)
        return memory

    def add_stream(
        self, stage: Stage, problem: Problem, mapping: Mapping, stream: Stream, operand: Any, held: list[int],
        cursor: dict[str, int],
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
            counts = dict.fromkeys(LOOPS, 1)
            for dim, count in Mapping(mapping.levels[: level + 1]).counts(problem.nest):
                counts[dim] *= count
            distinct = int(distinct_tiles(stream, problem, counts))
            tile = mapping.tile(problem.nest, level)
            size = int(slot_bytes(tile_bits(stream, problem, *(tile[dim] for dim in "TKCPQ"))))
            base = cursor.get(memory, 0)
            cursor[memory] = base + held[hop] * size
            # Stages take turns at filling a memory from its low and its high end, so that the first tiles of a stage
            # seldom wait for the last ones of the stage before.
            up = stage.index % 2 == 0
            address = base if up else self.plan.placement.free[stage.index][memory] - base - size
            self.hop.append([
                self.memories.index(memory), level, held[hop], size, address, size if up else -size,
                self.sizes.tiles, self.sizes.slots, self.unit(stream, hop), distinct,
            ])  # fmt: skip
            self.sizes.tiles += distinct
            self.sizes.slots += held[hop]

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
        alone = self.sram(stream.memories[0]).holds == ("weight",)
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


# --- prices -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Prices:
    """Columns of ``TileGraph`` that follow from the architecture."""

    occupy_cycles: Array
    latency_cycles: Array
    macs: Array
    read_bytes: Array
    write_bytes: Array


def price(rows: Array, plan: Plan, arch: Architecture) -> Prices:
    """Return what every row costs: cycles of its unit, multiplications, and bytes by memory."""
    n, memories = len(rows), [memory.name for memory in arch.memories]
    prices = Prices(
        np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64),
        np.zeros((n, len(memories))), np.zeros((n, len(memories))),
    )  # fmt: skip
    _price_transfers(rows, prices, plan, arch)
    _price_arrays(rows, prices, plan, arch)
    _price_vector(rows, prices, plan, arch)
    prices.occupy_cycles[rows[:, w.O_KIND] == Kind.SYNC] = arch.control.sync_cycles
    return prices


def _price_transfers(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    kind = rows[:, w.O_KIND]
    moves = np.flatnonzero((kind == Kind.LOAD) | (kind == Kind.STORE))
    own, memories = rows[moves], [memory.name for memory in arch.memories]
    payload = np.ceil(own[:, w.O_BITS] / 8)
    rates = np.array([arch.dram.bytes_per_cycle, *(memory.bytes_per_cycle for memory in arch.on_chip)])
    outer, inner = _ends(own, plan, memories)
    by_dma = outer == 0
    burst = arch.dram.burst_bytes
    bus = np.ceil(payload / np.maximum(1, own[:, w.O_PIECES]) / burst) * burst * own[:, w.O_PIECES]
    # The bus and the port of the memory on the chip move at the same time.
    dma = arch.dma.issue_cycles + np.maximum(np.ceil(bus / arch.dram.bytes_per_cycle), np.ceil(payload / rates[inner]))
    link = np.ceil(payload / np.minimum(rates[outer], rates[inner]))
    loads = own[:, w.O_KIND] == Kind.LOAD
    prices.occupy_cycles[moves] = np.where(by_dma, dma, link).astype(np.int64)
    prices.latency_cycles[moves] = np.where(by_dma & loads, arch.dram.latency_cycles, 0)
    outside = np.where(by_dma, bus, payload)
    prices.read_bytes[moves, np.where(loads, outer, inner)] = np.where(loads, outside, payload)
    prices.write_bytes[moves, np.where(loads, inner, outer)] = np.where(loads, payload, outside)


def _ends(rows: Array, plan: Plan, memories: list[str]) -> tuple[Array, Array]:
    """Return the outer and the inner memory of every transfer."""
    hops: list[tuple[int, int]] = []
    first: list[int] = []
    for problem in plan.problems:
        for stream in problem.streams:
            chain = [memories.index(memory) for memory in stream.memories]
            first.append(chain[0])
            hops += list(pairwise(chain if stream.kept else [0, *chain]))
    ends = np.array([*hops, (0, 0)], np.int64)[rows[:, w.O_HOP]]
    whole = rows[:, w.O_HOP] < 0  # a tensor that is loaded as a whole
    return np.where(whole, 0, ends[:, 0]), np.where(whole, np.array(first)[rows[:, w.O_STREAM]], ends[:, 1])


def _price_arrays(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    """Price the array's rows stage by stage; equal stages of equal mappings have equal rows."""
    computes = np.flatnonzero(rows[:, w.O_KIND] == Kind.COMPUTE)
    stage_of = rows[computes, w.O_STAGE]
    memories = [memory.name for memory in arch.memories]
    firsts = np.searchsorted(stage_of, np.arange(len(plan.stages) + 1))
    alone = arch.array.model_copy(update={"count": 1}).alternatives
    for s, (a, b) in enumerate(pairwise(firsts.tolist())):
        if a == b:
            continue
        mine, problem = computes[a:b], plan.problems[s]
        array = alone[plan.mappings[s].spatial]
        cycles, macs, words = _array_work(problem, array, rows[mine, w.O_REGION : w.O_T1 + 1].tobytes())
        by_role = {stream.role: stream for stream in problem.streams}
        for role, name in (("input", "input_reads"), ("weight", "weight_reads"), ("psum", "psum_reads")):
            at = memories.index(by_role[role].memory)
            prices.read_bytes[mine, at] += words[name] * by_role[role].bits / 8
        psum = by_role["psum"]
        prices.write_bytes[mine, memories.index(psum.memory)] = words["psum_writes"] * psum.bits / 8
        prices.occupy_cycles[mine], prices.macs[mine] = cycles, macs
    ports = _port_cycles(prices.read_bytes[computes], prices.write_bytes[computes], arch)
    prices.occupy_cycles[computes] = np.maximum(prices.occupy_cycles[computes], ports)


@lru_cache(maxsize=1024)
def _array_work(problem: Problem, array: MacArray, columns: bytes) -> tuple[Array, Array, dict[str, Array]]:
    """Return cycles, MACs and words read and written by the array for each row, summed over the phases.

    ``columns``: (rows, 10) ends k0 k1 p0 p1 q0 q1 c0 c1 t0 t1.
    """
    k0, k1, p0, p1, q0, q1, c0, c1, t0, t1 = np.frombuffer(columns, np.int64).reshape(-1, 10).T
    cycles, macs = np.zeros(len(k0), np.int64), np.zeros(len(k0), np.int64)
    words = {name: np.zeros(len(k0), np.int64) for name in ("input_reads", "weight_reads", "psum_reads", "psum_writes")}
    dy, dx = problem.dilation
    nest = problem.nest
    stride = nest.rows.stride, nest.columns.stride
    for a, _, rows, _, _ in phases(nest.R, nest.rows.padding, dy, nest.P):
        for b, _, columns_, _, _ in phases(nest.S, nest.columns.padding, dx, nest.Q):
            p, q = _residues(p0, p1, a, dy), _residues(q0, q1, b, dx)
            some = (p > 0) & (q > 0) & bool(rows and columns_)
            if not some.any():
                continue
            dims: dict[str, Any] = {"N": t1 - t0, "K": k1 - k0, "C": c1 - c0, "P": p, "Q": q, "R": rows, "S": columns_}
            cycles += np.where(some, array_cycles(array, dims, stride=stride), 0)
            macs += np.where(some, dims["N"] * dims["K"] * dims["C"] * p * q * rows * columns_, 0)
            for name, count in array_accesses(array, dims, accumulate=c0 > 0, stride=stride).items():
                words[name] = words[name] + np.where(some, count, 0)
    return cycles, macs, words


def _residues(start: Array, stop: Array, residue: int, modulus: int) -> Array:
    """Count integers in [start, stop) that are ``residue`` modulo ``modulus``."""
    return (stop - residue + modulus - 1) // modulus - (start - residue + modulus - 1) // modulus


def _port_cycles(reads: Array, writes: Array, arch: Architecture) -> Array:
    """Return the cycles that the busiest memory port needs; a memory reads and writes in the same cycle."""
    rates = np.array([memory.bytes_per_cycle for memory in arch.on_chip])
    return np.ceil(np.maximum(reads[:, 1:], writes[:, 1:]) / rates).max(axis=1).astype(np.int64)


def _price_vector(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    """Price the vector unit's rows: the anchor's windows and the fused tail in one pass."""
    vectors = np.flatnonzero(rows[:, w.O_KIND] == Kind.VECTOR)
    own, memories = rows[vectors], [memory.name for memory in arch.memories]
    region = own[:, w.O_REGION : w.O_REGION + 6]
    elements = (region[:, 1::2] - region[:, 0::2]).prod(axis=1) * (own[:, w.O_T1] - own[:, w.O_T0])
    reads, writes = np.zeros((2, len(plan.stages), len(memories)))
    for s, problem in enumerate(plan.problems):
        for stream in problem.streams:
            at = memories.index(stream.memory)
            if stream.role == "output":
                writes[s, at] += stream.bits / 8
            elif stream.role in ("psum", "tail"):
                reads[s, at] += stream.bits / 8
            elif not problem.on_array:
                reads[s, at] += stream.bits / 8 * problem.work_per_output
    work = np.array([problem.work_per_output for problem in plan.problems])[own[:, w.O_STAGE]]
    prices.read_bytes[vectors] = elements[:, None] * reads[own[:, w.O_STAGE]]
    prices.write_bytes[vectors] = elements[:, None] * writes[own[:, w.O_STAGE]]
    cycles = -(-elements * work // arch.vector.lanes) + arch.vector.pipeline_cycles
    ports = _port_cycles(prices.read_bytes[vectors], prices.write_bytes[vectors], arch)
    prices.occupy_cycles[vectors] = np.maximum(cycles, ports)
