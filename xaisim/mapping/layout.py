"""Where tensors lie in DRAM, and which pieces of them every transfer moves.

    layout = layout_of(graph, plan)
    layout.address["conv1"]                       bytes; tensors that never live together share addresses
    pieces_of(tiles, graph, plan, layout)         in the order in which they lie in the tile on the chip

Maps lie as [C][H][W], weights as [K][C][R][S], each element at its own width without gaps; several path points follow
each other. The parts of a concat lie side by side, so that it is one tensor to whoever reads it. Addresses may be used
again as soon as the last stage that reads a tensor is through: the bus moves transfers in program order. What every
trip has of its own, and what it leaves for the host unless that is a sum over all trips, lies behind all else as a
record, trip after trip: addresses there move by it from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xaisim.hardware.dram_service import Pieces
from xaisim.ir.graph import Graph
from xaisim.ir.types import TensorType
from xaisim.mapping.placement import varying_tensors
from xaisim.mapping.plan import Plan
from xaisim.mapping.stages import Source, Stage, volume
from xaisim.mapping.streams import Problem, Stream
from xaisim.mapping.tiles import Kind, TileGraph, Unit

Array = np.ndarray
_ALIGNED = 64
"""Bytes at whose multiples tensors begin: a DRAM burst or a cache line."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Addresses in DRAM."""

    address: dict[str, int]
    """First byte of every tensor that is ever there."""
    offset_bits: dict[str, int]
    """Bits from there to its first element: parts of a concat need not begin at a byte."""
    size: int
    """Bytes in use at once, at most, with the record of one trip."""
    record: int = 0
    """Bytes of what one trip has of its own."""

    @property
    def records_from(self) -> int:
        """Return the byte at which the record of the first trip begins."""
        return self.size - self.record

    def bytes_for(self, trips: int) -> int:
        """Return the bytes in use with the records of all trips."""
        return self.size + (trips - 1) * self.record

    def first_bit(self, name: str) -> int:
        """Return the bit address of a tensor's first element."""
        return self.address[name] * 8 + self.offset_bits[name]


class _Block(NamedTuple):
    """Tensors that lie together, from the stage that makes the first to the last that reads any."""

    first: int
    last: int
    bits: int
    members: tuple[tuple[str, int], ...]


def layout_of(graph: Graph, plan: Plan) -> Layout:
    """Place every constant, input and stored tensor of a kernel in DRAM."""
    address: dict[str, int] = {}
    offset: dict[str, int] = {}
    top = 0
    fixed = {name: constant.type for name, constant in graph.constants.items()} | dict(graph.inputs)
    for name, type in fixed.items():
        if name in graph.per_trip:
            continue
        address[name], offset[name] = top, 0
        top = _aligned(top + -(-type.size_bits // 8))
    size = top
    left = left_by_trips(graph, plan)
    live: list[tuple[int, int, int]] = []  # (start, stop, last stage) of blocks in use
    for block in sorted(_blocks(graph, plan, left), key=lambda block: (block.first, -block.bits, block.members)):
        live = [other for other in live if other[2] >= block.first]
        start, need = top, _aligned(-(-block.bits // 8))
        for begin, end, _ in sorted(live):
            if start + need <= begin:
                break
            start = max(start, end)
        live.append((start, start + need, block.last))
        size = max(size, start + need)
        for name, bits in block.members:
            address[name], offset[name] = start + bits // 8, bits % 8
    end = size
    types = graph.types()
    for name in sorted(graph.per_trip | left):
        address[name], offset[name] = end, 0
        end = _aligned(end + -(-plan.points * types[name].size_bits // 8))
    return Layout(address, offset, end, end - size)


def left_by_trips(graph: Graph, plan: Plan) -> frozenset[str]:
    """Return the stored tensors of which the host reads those of every trip."""
    varying = varying_tensors(graph) & {operand.name for stage in plan.stages for operand in stage.outputs}
    sources = {source.name for output in graph.outputs for source in plan.views.sources(output)}
    return frozenset((varying & sources) - set(plan.placement.resident))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _blocks(graph: Graph, plan: Plan, records: frozenset[str]) -> list[_Block]:
    """Return what is stored but ``records``, the parts of a concat together. A sum lives through all trips."""
    types, end = graph.types(), len(plan.stages)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for stage in plan.stages:
        for operand in stage.outputs:
            first[operand.name] = last[operand.name] = stage.index
        for operand in stage.operands:
            for source in plan.views.sources(operand.name):
                last[source.name] = stage.index
    for output in graph.outputs:
        for source in plan.views.sources(output):
            last[source.name] = end
    for node in graph.nodes:
        if node.op == "accumulate":
            first[node.name], last[node.name] = 0, end
    copies = {s.index: max(1, p.nest.T) for s, p in zip(plan.stages, plan.problems, strict=True)}
    made_by = {o.name: s.index for s in plan.stages for o in s.outputs}
    left = set(first) - set(plan.placement.resident) - records
    blocks = []
    concats = [node.name for node in reversed(graph.nodes) if node.op == "concat"] if plan.points == 1 else []
    for name in concats:
        parts = plan.views.sources(name)
        if all(s.name in left and not s.whole and s.offset == 0 and _whole(s, types) for s in parts):
            members, bits = [], 0
            for s in parts:
                members.append((s.name, bits))
                bits += types[s.name].size_bits
            left -= {s.name for s in parts}
            span = min(first[s.name] for s in parts), max(last[s.name] for s in parts)
            blocks.append(_Block(*span, bits, tuple(members)))
    varying = _varying(plan)
    for name in sorted(left):
        points = copies[made_by[name]] if name in varying else 1
        blocks.append(_Block(first[name], last[name], points * types[name].size_bits, ((name, 0),)))
    return blocks


def _whole(source: Source, types: dict[str, TensorType]) -> bool:
    return source.stop - source.start == volume(types[source.name].shape)[0]


def skipped_elements(source: Source, types: dict[str, TensorType]) -> int:
    """Return the elements of a tensor that lie in front of the part that a view shows."""
    return source.offset * (1 if source.whole else int(np.prod(volume(types[source.name].shape)[1:])))


def _varying(plan: Plan) -> set[str]:
    """Return the tensors that have a copy per path point."""
    return {
        operand.name
        for problem, operands in zip(plan.problems, plan.placement.operands, strict=True)
        for stream, operand in zip(problem.streams, operands, strict=True)
        if stream.point and operand is not None
    }


def pieces_of(tiles: TileGraph, graph: Graph, plan: Plan, layout: Layout) -> Pieces:
    """Return the pieces of every transfer over the bus, by row and in the order of the tile."""
    over_bus = np.array([seat.kind == Unit.DMA for seat in tiles.units])[tiles.unit]
    moves = np.flatnonzero(over_bus & ((tiles.kind == Kind.LOAD) | (tiles.kind == Kind.STORE)))
    order = moves[np.argsort(tiles.stream[moves], kind="stable")]
    bounds = np.searchsorted(tiles.stream[order], np.arange(tiles.stream.max(initial=-1) + 2))
    parts: list[Array] = []
    number = 0
    for stage, problem, operands in zip(plan.stages, plan.problems, plan.placement.operands, strict=True):
        for stream, operand in zip(problem.streams, operands, strict=True):
            rows = order[bounds[number] : bounds[number + 1]] if number + 1 < len(bounds) else order[:0]
            number += 1
            if len(rows) and operand is not None:
                found = _Finder(graph, plan, layout, stage, problem, stream, rows, tiles)
                parts += found.weights(operand.name) if stream.role == "weight" else found.maps(operand.name)
    columns = np.concatenate(parts, axis=1) if parts else np.zeros((7, 0), np.int64)
    return Pieces(*columns[:, np.argsort(columns[0], kind="stable")])


@dataclass(slots=True)
class _Finder:
    """Finds the pieces of one stream's transfers."""

    graph: Graph
    plan: Plan
    layout: Layout
    stage: Stage
    problem: Problem
    stream: Stream
    rows: Array
    tiles: TileGraph

    def weights(self, name: str) -> list[Array]:
        """Filters and channels of a weight tensor as it lies, then the bias that comes with the first channels."""
        nest, bits = self.problem.nest, self.stream.bits
        k0, k1, c0, c1 = self.tiles.region[self.rows].T[:4]
        taps = nest.R * nest.S * bits
        outer0, outer1, inner0, inner1, whole = k0, k1, c0, c1, nest.C
        if self.problem.transposed:
            outer0, outer1, inner0, inner1, whole = c0, c1, k0, k1, nest.K
        start = self.weight_bit(name) + (outer0 * whole + inner0) * taps
        parts = [self.piece(start, outer1 - outer0, whole * taps, 1, 0, (inner1 - inner0) * taps)]
        if self.stream.extra_bits_per_k:
            bias = self.layout.first_bit(self.stage.anchor.args[2])
            width = self.stream.extra_bits_per_k
            parts.append(self.piece(bias + k0 * width, 1, 0, 1, 0, (k1 - k0) * width)[:, c0 == 0])
        return parts

    def weight_bit(self, name: str) -> int:
        """Return the bit at which weights begin, which may be a slice or another shape of a stored tensor."""
        sources = self.plan.views.sources(name)
        if len(sources) > 1:
            raise ValueError(f"{name}: weights made of several tensors have no address")
        (source,) = sources
        return self.layout.first_bit(source.name) + skipped_elements(source, self.graph.types()) * self.stream.bits

    def maps(self, name: str) -> list[Array]:
        """Channels, rows and columns of every stored tensor behind a feature map, path point by path point."""
        types, parts = self.graph.types(), []
        c0, c1, h0, h1, w0, w1 = self.tiles.region[self.rows].T
        t0, t1 = self.tiles.points[self.rows].T
        points = range(int(t0.min()), int(t1.max())) if self.stream.point else range(1)
        _, height, width = volume(types[name].shape)
        sources = self.plan.views.sources(name)
        for t in points:
            for source in sources:
                first = np.maximum(c0, source.start)
                last = np.minimum(c1, source.stop)
                some = (last > first) & (((t0 <= t) & (t < t1)) | (not self.stream.point))
                bits, plane = self.stream.bits, height * width
                base = self.layout.first_bit(source.name) + t * types[source.name].size_bits
                skipped = skipped_elements(source, types)
                start = base + (skipped + (first - source.start) * plane + h0 * width + w0) * bits
                channels, rows, columns = last - first, h1 - h0, w1 - w0
                whole_rows, whole_maps = columns == width, (columns == width) & (rows == height)
                parts.append(
                    self.piece(
                        start,
                        np.where(whole_maps, 1, channels), plane * bits,
                        np.where(whole_rows, 1, rows), width * bits,
                        np.where(whole_maps, channels * plane, np.where(whole_rows, rows * width, columns)) * bits,
                    )[:, some]
                )  # fmt: skip
        return parts

    def piece(self, *columns: Array | int) -> Array:
        return np.stack(np.broadcast_arrays(self.rows, *columns)).astype(np.int64)
