"""Lower a tiled stage to rows: loads, computations, vector work and stores with their costs and edges.

Loops run over output tiles in the tiling's order with C innermost. A tile that is still in its buffer is not loaded
again, and where all tiles of a stream fit at once each is loaded once.
"""

from __future__ import annotations

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import array_accesses, array_cycles
from xaisim.hardware.memory import Sram
from xaisim.ir.kernels import phases
from xaisim.mapping.placement import Placement
from xaisim.mapping.rows import Rows, Versions, loop_of
from xaisim.mapping.stages import Stage, Views
from xaisim.mapping.tiles import Edge, Kind, Unit
from xaisim.mapping.tiling import (
    Problem,
    Stream,
    Tiling,
    distinct_tiles,
    occupied,
    segment_count,
    slot_bytes,
    tile_bits,
)

Array = np.ndarray


class Lowering:
    """Lowers stage after stage into one set of rows."""

    def __init__(self, arch: Architecture, placement: Placement, views: Views) -> None:
        self.arch = arch
        self.placement = placement
        self.views = views
        self.rows = Rows()
        self.memories = [memory.name for memory in arch.memories]
        self.stored: dict[str, tuple[Array, Array]] = {}
        """Rows that store each tensor, and the region of each."""
        self.base = 0.0
        self.decision: Array | None = None
        """The host's row that picks the class, once it is there."""

    def sync(self, stage: Stage, tensor: str) -> None:
        """Let the host read ``tensor``, which ``stage`` stored, and decide; what it picks is loaded after that."""
        stores, region = self.stored[tensor]
        self.decision = self.rows.add(
            np.array([self.base - 2.2]),
            stage=stage.index,
            unit=int(Unit.HOST),
            kind=int(Kind.SYNC),
            occupy_cycles=self.arch.control.sync_cycles,
            latency_cycles=0,
            macs=0,
            read_bytes=np.zeros((1, len(self.memories))),
            write_bytes=np.zeros((1, len(self.memories))),
            region=region[:1],
        )
        self.rows.edge(stores[-1], self.decision, Edge.DATA)

    def stage(self, stage: Stage, problem: Problem, tiling: Tiling) -> None:
        """Append the rows of one stage."""
        _StageLowering(self, stage, problem, tiling).run()


class _StageLowering:
    def __init__(self, lowering: Lowering, stage: Stage, problem: Problem, tiling: Tiling) -> None:
        self.l = lowering
        self.rows = lowering.rows
        self.arch = lowering.arch
        self.stage = stage
        self.problem = problem
        self.nest = problem.nest
        self.loop = loop_of(tiling, problem.nest)
        self.outputs = len(self.loop.k)
        self.steps = self.outputs * self.loop.n_c
        self.step_output = np.repeat(np.arange(self.outputs), self.loop.n_c)
        self.step_c = np.tile(np.arange(self.loop.n_c), self.outputs)
        sizes = [np.array([size]) for size in tiling[:4]]
        used = occupied(problem, self.arch, *sizes)
        self.spare = {name: lowering.placement.free[name] - int(size[0]) for name, size in used.items()}
        self.slots: dict[int, int] = {}

    # --- the order of things ------------------------------------------------------------------------------------------

    def run(self) -> None:
        base = self.l.base
        loads = {i: self.load(i, s, base) for i, s in enumerate(self.problem.streams) if s.role in _LOADED}
        compute = self.compute(base, loads) if self.stage.on_array else None
        vector = self.vector(base, loads, compute)
        stores = {i: self.store(i, s, base, vector) for i, s in enumerate(self.problem.streams) if s.role == "output"}
        self.release(loads, compute, vector, stores)
        self.l.base = base + self.steps + 2

    def pipeline_depth(self) -> int:
        """Tiles that a load runs ahead of their use: the fewest buffers of any stream, less the one in use."""
        return min(self.buffers(s) for s in self.problem.streams) - 1

    def buffers(self, stream: Stream) -> int:
        memory = self.arch.memory(stream.memory)
        assert isinstance(memory, Sram)
        return memory.buffers

    # --- loads --------------------------------------------------------------------------------------------------------

    def load(self, index: int, stream: Stream, base: float) -> Versions:
        """Append the loads of one stream, each at the step that first needs the tile."""
        tile = self.tile_ids(stream)
        per_step = len(tile) == self.steps
        distinct = int(distinct_tiles(stream, self.problem, self.counts()))
        slots = self.slot_count(index, stream, distinct)
        if slots >= distinct:
            _, first, version = np.unique(tile, return_index=True, return_inverse=True)
            rank = np.argsort(np.argsort(first))
            first, version = np.sort(first), rank[version]
        else:
            changed = np.concatenate([[True], tile[1:] != tile[:-1]])
            first, version = np.flatnonzero(changed), np.cumsum(changed) - 1
        at = first if per_step else first * self.loop.n_c
        output = self.step_output[at]
        region = self.input_region(stream, output, self.step_c[at])
        segments, payload = self.transfer(stream, region)
        bus = np.ceil(payload / segments / self.arch.dram.burst_bytes) * self.arch.dram.burst_bytes * segments
        key = base + at.astype(np.float64) + 0.01 * index
        if stream.role == "weight" and self.prefetched(index, stream):
            key[0] = base - 2.45  # the first weights of a stage are fetched before the last stores of the one before
        rows = self.rows.add(
            key,
            stage=self.stage.index,
            unit=int(Unit.DMA),
            kind=int(Kind.LOAD),
            occupy_cycles=self.arch.dma.issue_cycles + np.ceil(bus / self.arch.dram.bytes_per_cycle).astype(np.int64),
            latency_cycles=self.arch.dram.latency_cycles,
            macs=0,
            read_bytes=self.memory_columns({self.arch.dram.name: bus}, len(key)),
            write_bytes=self.memory_columns({stream.memory: payload}, len(key)),
            region=region,
        )
        self.wait_for_stores(index, rows, region)
        return Versions(rows, version, per_step)

    def counts(self) -> tuple[int, int, int, int]:
        return self.loop.tiling.counts(self.nest)

    def slot_count(self, index: int, stream: Stream, distinct: int) -> int:
        """Return the buffers of a stream: one per tile where the spare bytes allow, else as the memory says."""
        if index in self.slots:
            return self.slots[index]
        slots = min(self.buffers(stream), distinct)
        size = self.slot_size(stream)
        if stream.role in _LOADED and distinct > slots and (distinct - slots) * size <= self.spare[stream.memory]:
            self.spare[stream.memory] -= (distinct - slots) * size
            slots = distinct
        self.slots[index] = slots
        return slots

    def slot_size(self, stream: Stream) -> int:
        return int(slot_bytes(tile_bits(stream, self.problem, *self.loop.tiling[:4])))

    def prefetched(self, index: int, stream: Stream) -> bool:
        """Constant weights in a memory of their own need nothing of the stage before but room."""
        memory, operand = self.arch.memory(stream.memory), self.l.placement.operands[self.stage.index][index]
        alone = isinstance(memory, Sram) and memory.holds == ("weight",)
        return alone and operand is not None and operand.constant and not operand.chosen and self.l.base > 0

    def tile_ids(self, stream: Stream) -> Array:
        """Return which tile of the stream each step (or each output, where C does not matter) reads."""
        loop, (n_k, n_c, _, n_q) = self.loop, self.counts()
        if stream.role == "weight":
            return loop.k[self.step_output] * n_c + self.step_c
        pixel = loop.p * n_q + loop.q
        if stream.halo and not self.problem.channelwise:
            return pixel[self.step_output] * n_c + self.step_c
        return pixel * n_k + loop.k

    def input_region(self, stream: Stream, output: Array, c: Array) -> Array:
        """Return [c0 c1 h0 h1 w0 w1) of the tensor that each load fetches."""
        loop = self.loop
        k0, k1 = loop.span("k", loop.k[output])
        c0, c1 = loop.span("c", c)
        p0, p1 = loop.span("p", loop.p[output])
        q0, q1 = loop.span("q", loop.q[output])
        if stream.role == "weight":
            return np.stack([k0, k1, c0, c1, 0 * k0, 0 * k0 + 1], axis=1)
        if stream.halo:
            h0, h1 = self.nest.rows.span(p0, p1)
            w0, w1 = self.nest.columns.span(q0, q1)
            first, last = (k0, k1) if self.problem.channelwise else (c0, c1)
            return np.stack([first, last, h0, np.maximum(h0, h1), w0, np.maximum(w0, w1)], axis=1)
        return np.stack([k0, k1, p0, p1, q0, q1], axis=1)

    def transfer(self, stream: Stream, region: Array) -> tuple[Array, Array]:
        """Return (contiguous segments, payload bytes) of each region."""
        sides = region[:, 1::2] - region[:, 0::2]
        if stream.role == "weight":
            k, c = sides[:, 0], sides[:, 1]
            bias = np.where(region[:, 2] == 0, k * stream.extra_bits_per_k, 0)  # it comes with the first channels
            bits = k * c * self.nest.R * self.nest.S * stream.bits + bias
            return segment_count(stream, self.problem, k, c, 0, 0), np.ceil(bits / 8)
        height, width = self.nest.P, self.nest.Q
        if stream.halo:
            height, width = self.nest.rows.extent, self.nest.columns.extent
        channels, rows, columns = sides.T
        segments = np.where(columns < width, channels * rows, np.where(rows < height, channels, 1))
        return np.maximum(1, segments), np.ceil(sides.prod(axis=1) * stream.bits / 8)

    def wait_for_stores(self, index: int, rows: Array, region: Array, *, distance: int = 0) -> None:
        """Add an edge from the last store that touches each loaded region (stores end in program order)."""
        operand = self.l.placement.operands[self.stage.index][index]
        if operand is None:
            return
        if operand.chosen and self.l.decision is not None:
            self.rows.edge(self.l.decision, rows, Edge.DATA)
        for source in self.l.views.sources(operand.name):
            if source.name not in self.l.stored:
                continue
            stores, where = self.l.stored[source.name]
            shifted = region.copy()
            if source.whole or operand.role == "weight" or self.stage.anchor.op == "linear":
                hit = np.ones((len(rows), len(stores)), bool)
                if not source.whole and operand.role != "weight":  # a slice of channels of a vector
                    hit &= (shifted[:, None, 0] < source.stop) & (source.start < shifted[:, None, 1])
            else:
                inside = (shifted[:, 0] < source.stop) & (source.start < shifted[:, 1])
                shifted[:, :2] += source.offset - source.start
                hit = inside[:, None] & np.all(
                    (shifted[:, None, 0::2] < where[None, :, 1::2]) & (where[None, :, 0::2] < shifted[:, None, 1::2]),
                    axis=2,
                )
            waiting = hit.any(axis=1)
            last = len(stores) - 1 - np.argmax(hit[:, ::-1], axis=1)
            self.rows.edge(stores[last[waiting]], rows[waiting], Edge.DATA, distance)

    # --- computation --------------------------------------------------------------------------------------------------

    def output_region(self) -> Array:
        loop = self.loop
        return np.stack([*loop.span("k", loop.k), *loop.span("p", loop.p), *loop.span("q", loop.q)], axis=1)

    def compute(self, base: float, loads: dict[int, Versions]) -> Array:
        """Append the array's rows, one per step."""
        region = self.output_region()[self.step_output]
        c0, c1 = self.loop.span("c", self.step_c)
        cycles, macs, words = self.array_work(region, c1 - c0)
        reads, writes = self.array_traffic(words)
        busy = np.maximum(cycles, self.port_cycles(reads, writes))
        rows = self.rows.add(
            base + np.arange(self.steps) + 0.5,
            stage=self.stage.index,
            unit=int(Unit.ARRAY),
            kind=int(Kind.COMPUTE),
            occupy_cycles=busy,
            latency_cycles=0,
            macs=macs,
            read_bytes=self.memory_columns(reads, self.steps),
            write_bytes=self.memory_columns(writes, self.steps),
            region=region,
        )
        for i, stream in enumerate(self.problem.streams):
            if stream.role in ("input", "weight"):
                self.rows.edge(loads[i].rows[loads[i].version], rows, Edge.DATA)
        return rows

    def array_work(self, region: Array, channels: Array) -> tuple[Array, Array, dict[str, Array]]:
        """Return cycles, MACs and words read and written by the array for each step, summed over the phases."""
        k = region[:, 1] - region[:, 0]
        cycles, macs = np.zeros(len(k), np.int64), np.zeros(len(k), np.int64)
        words: dict[str, Array] = {}
        dy, dx = self.problem.dilation
        nest = self.nest
        stride = nest.rows.stride, nest.columns.stride
        for a, _, rows, _, _ in phases(nest.R, nest.rows.padding, dy, nest.P):
            for b, _, columns, _, _ in phases(nest.S, nest.columns.padding, dx, nest.Q):
                p = _residues(region[:, 2], region[:, 3], a, dy)
                q = _residues(region[:, 4], region[:, 5], b, dx)
                some = (p > 0) & (q > 0) & bool(rows and columns)
                if not some.any():
                    continue
                dims = {"N": 1, "K": k, "C": channels, "P": p, "Q": q, "R": rows, "S": columns}
                cycles += np.where(some, array_cycles(self.arch.array, dims, stride=stride), 0)
                macs += np.where(some, k * channels * p * q * rows * columns, 0)
                accesses = array_accesses(self.arch.array, dims, accumulate=self.step_c > 0, stride=stride)
                for name, count in accesses.items():
                    words[name] = words.get(name, 0) + np.where(some, count, 0)
        return cycles, macs, words

    def array_traffic(self, words: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return bytes (read, written) by memory name."""
        reads: dict[str, Array] = {}
        writes: dict[str, Array] = {}
        none = np.zeros(self.steps, np.int64)
        for role, name in (("input", "input_reads"), ("weight", "weight_reads")):
            stream = next(s for s in self.problem.streams if s.role == role)
            reads[stream.memory] = reads.get(stream.memory, 0) + words.get(name, none) * stream.bits / 8
        psum = next(s for s in self.problem.streams if s.role == "psum")
        reads[psum.memory] = reads.get(psum.memory, 0) + words.get("psum_reads", none) * psum.bits / 8
        writes[psum.memory] = words.get("psum_writes", none) * psum.bits / 8
        return reads, writes

    def port_cycles(self, reads: dict[str, Array], writes: dict[str, Array]) -> Array:
        """Return the cycles that the busiest memory port needs; a memory reads and writes in the same cycle."""
        busy: Array = np.zeros(1, np.int64)
        for name in {**reads, **writes}:
            moved = np.maximum(reads.get(name, 0), writes.get(name, 0))
            busy = np.maximum(busy, np.ceil(moved / self.arch.memory(name).bytes_per_cycle).astype(np.int64))
        return busy

    def memory_columns(self, by_memory: dict[str, Array], n: int) -> Array:
        """Return an (n, memories) array of bytes."""
        columns = np.zeros((n, len(self.l.memories)))
        for name, count in by_memory.items():
            columns[:, self.l.memories.index(name)] = count
        return columns

    # --- vector unit --------------------------------------------------------------------------------------------------

    def vector(self, base: float, loads: dict[int, Versions], compute: Array | None) -> Array:
        """Append the vector unit's rows, one per output tile: the anchor's windows and the fused tail in one pass."""
        region = self.output_region()
        elements = (region[:, 1::2] - region[:, 0::2]).prod(axis=1)
        work = elements * self.problem.work_per_output
        reads, writes = self.vector_traffic(elements)
        cycles = -(-work // self.arch.vector.lanes) + self.arch.vector.pipeline_cycles
        last_step = (np.arange(self.outputs) + 1) * self.loop.n_c - 1
        rows = self.rows.add(
            base + last_step + 0.6,
            stage=self.stage.index,
            unit=int(Unit.VECTOR),
            kind=int(Kind.VECTOR),
            occupy_cycles=np.maximum(cycles, self.port_cycles(reads, writes)),
            latency_cycles=0,
            macs=0,
            read_bytes=self.memory_columns(reads, self.outputs),
            write_bytes=self.memory_columns(writes, self.outputs),
            region=region,
        )
        if compute is not None:
            self.rows.edge(compute[last_step], rows, Edge.DATA)
        for i, stream in enumerate(self.problem.streams):
            if stream.role == "tail" or (stream.role in _LOADED and compute is None):
                version = loads[i].version[last_step] if loads[i].per_step else loads[i].version
                self.rows.edge(loads[i].rows[version], rows, Edge.DATA)
        return rows

    def vector_traffic(self, elements: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return bytes (read, written) by memory: partial sums or windows, tail operands, and what comes out."""
        reads: dict[str, Array] = {}
        writes: dict[str, Array] = {}
        for stream in [*self.problem.streams, *self.l.placement.resident_streams[self.stage.index]]:
            count = elements * stream.bits / 8
            if stream.role == "output":
                writes[stream.memory] = writes.get(stream.memory, 0) + count
            elif stream.role in ("psum", "tail"):
                reads[stream.memory] = reads.get(stream.memory, 0) + count
            elif not self.stage.on_array:
                reads[stream.memory] = reads.get(stream.memory, 0) + count * self.problem.work_per_output
        return reads, writes

    # --- stores -------------------------------------------------------------------------------------------------------

    def store(self, index: int, stream: Stream, base: float, vector: Array) -> Array:
        """Append the stores of one output, each behind the loads that run ahead of it."""
        region = self.output_region()
        segments, payload = self.transfer(stream, region)
        bus = np.ceil(payload / segments / self.arch.dram.burst_bytes) * self.arch.dram.burst_bytes * segments
        last_step = (np.arange(self.outputs) + 1) * self.loop.n_c - 1
        ahead = last_step + self.pipeline_depth() * self.loop.n_c + 0.7
        rows = self.rows.add(
            base + np.minimum(ahead, self.steps - 0.3 + 0.001 * np.arange(self.outputs) / self.outputs) + 1e-5 * index,
            stage=self.stage.index,
            unit=int(Unit.DMA),
            kind=int(Kind.STORE),
            occupy_cycles=self.arch.dma.issue_cycles + np.ceil(bus / self.arch.dram.bytes_per_cycle).astype(np.int64),
            latency_cycles=0,
            macs=0,
            read_bytes=self.memory_columns({stream.memory: payload}, len(vector)),
            write_bytes=self.memory_columns({self.arch.dram.name: bus}, len(vector)),
            region=region,
        )
        self.rows.edge(vector, rows, Edge.DATA)
        operand = self.l.placement.operands[self.stage.index][index]
        assert operand is not None
        self.l.stored[operand.name] = (rows, region)
        return rows

    # --- buffers ------------------------------------------------------------------------------------------------------

    def release(
        self, loads: dict[int, Versions], compute: Array | None, vector: Array, stores: dict[int, Array]
    ) -> None:
        """Record which row fills and which row frees every buffer, and let a refill wait for it."""
        first_step = np.arange(self.outputs) * self.loop.n_c
        for i, stream in enumerate(self.problem.streams):
            if stream.role in _LOADED:
                filled = loads[i].rows
                users = vector if compute is None or stream.role == "tail" else compute
                last = np.zeros(len(filled), np.int64)
                uses = loads[i].version
                if len(uses) > len(users):  # per step, but read once per output
                    uses = uses[(np.arange(self.outputs) + 1) * self.loop.n_c - 1]
                last[uses] = np.arange(len(uses))  # the last assignment wins
                released = users[last]
            elif stream.role == "psum":
                assert compute is not None
                filled, released = compute[first_step], vector
            else:
                filled, released = vector, stores[i]
            self.allocate(i, stream, filled, released)
            if stream.role in _LOADED:
                own = self.l.placement.operands[self.stage.index][i]
                if own is not None and any(o.name == own.name for o in self.stage.outputs):
                    self.wait_for_stores(i, loads[i].rows, self.rows_region(loads[i].rows), distance=1)

    def rows_region(self, rows: Array) -> Array:
        return np.concatenate(self.rows.columns["region"])[rows]

    def allocate(self, index: int, stream: Stream, filled: Array, released: Array) -> None:
        distinct = int(distinct_tiles(stream, self.problem, self.counts()))
        slots = self.slot_count(index, stream, distinct)
        version = np.arange(len(filled))
        if len(filled) > slots:
            self.rows.edge(released[:-slots], filled[slots:], Edge.BUFFER)
        self.rows.allocations.append(
            np.stack(
                np.broadcast_arrays(
                    self.l.memories.index(stream.memory), self.stage.index, index, version % slots,
                    self.slot_size(stream), filled, released,
                )
            )
        )  # fmt: skip


_LOADED = ("input", "index", "weight", "tail")


def _residues(start: Array, stop: Array, residue: int, modulus: int) -> Array:
    """Count integers in [start, stop) that are ``residue`` modulo ``modulus``."""
    return (stop - residue + modulus - 1) // modulus - (start - residue + modulus - 1) // modulus
