"""What lies in every buffer: the box of an operand that its rows write there, packed from the buffer's first bit on.

tile, writes = buffers.used(row)[0]           what row 17 uses, from the schedule's own accesses
part = tile.part(low, high)                   where elements [low, high) of the operand lie in it
part.numbers(data)                            the integers in bytes that were read there
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.mapping.placement import varying_tensors
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.stages import Operand, volume
from xaisim.simulate.bits import Runs, box_runs, runs_of, unpack

Array = np.ndarray
Corner = tuple[int, ...]
"""Path point, then three axes: channel, row and column of maps; the tensor's own first two and the taps of weights."""


def is_signed(type: TensorType) -> bool:
    """Return whether a tensor's numbers are two's complement."""
    return isinstance(type.format, FixedPoint) and type.format.signed


@dataclass(frozen=True, slots=True)
class Part:
    """Numbers of an operand that a row reads or writes: where they lie, their extents and their format."""

    runs: Runs
    shape: Corner
    bits: int
    signed: bool

    def numbers(self, data: Array) -> Array:
        """Return the integers in ``data``, read from the runs."""
        return unpack(data, int(np.prod(self.shape)), self.bits, signed=self.signed).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Tile:
    """What an allocation holds; ``operand`` is None for the sums between array and vector unit."""

    number: int
    memory: int
    bit: int
    operand: Operand | None
    low: Corner
    high: Corner
    bits: int
    signed: bool
    varies: bool
    """It differs from one path point to the next."""
    transposed: bool
    """Weights whose first axis is the channels."""
    bias: TensorType | None
    """What comes behind the weights of the first channels: one number per filter."""

    @property
    def name(self) -> str:
        """The operand's name."""
        return "the sums" if self.operand is None else self.operand.name

    @property
    def extents(self) -> Corner:
        """Elements along each axis."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def filters(self) -> tuple[int, int]:
        """The filters [k0, k1) of a tile of weights."""
        axis = 2 if self.transposed else 1
        return self.low[axis], self.high[axis]

    @property
    def has_bias(self) -> bool:
        """Whether biases lie behind the weights: they come with the first channels."""
        return self.bias is not None and self.low[1 if self.transposed else 2] == 0

    def part(self, low: Corner, high: Corner) -> Part:
        """Return elements [low, high) of the operand; raise ``ValueError`` where the tile lacks some."""
        if not self.varies:
            low, high = (0, *low[1:]), (1, *high[1:])
        shape = tuple(max(0, b - a) for a, b in zip(low, high, strict=True))
        if 0 in shape:
            nothing = np.zeros(0, np.int64)
            return Part(runs_of(self.memory, nothing, nothing), shape, self.bits, self.signed)
        if any(x < a or b < y for a, x, y, b in zip(self.low, low, high, self.high, strict=True)):
            raise ValueError(f"needs {_text(low, high)} of {self.name}, its tile holds {_text(self.low, self.high)}")
        first = [x - a for a, x in zip(self.low, low, strict=True)]
        last = [y - a for a, y in zip(self.low, high, strict=True)]
        return Part(
            box_runs(self.memory, self.bit, self.extents, first, last, self.bits), shape, self.bits, self.signed
        )  # fmt: skip

    def weight_corners(self, low: Corner, high: Corner, *, transposed: bool) -> tuple[Corner, Corner]:
        """Return corners (point, filter, channel, –) in the order of the tensor's axes, with all taps."""
        taps = self.high[3]
        if transposed:
            return (low[0], low[2], low[1], 0), (high[0], high[2], high[1], taps)
        return (*low[:3], 0), (*high[:3], taps)

    def biases(self, first: int, last: int) -> Runs:
        """Return where the biases of filters [first, last) lie."""
        assert self.bias is not None
        bits, k0 = self.bias.element_bits, self.filters[0]
        base = self.bit + int(np.prod(self.extents)) * self.bits + (first - k0) * bits
        return runs_of(self.memory, np.array([base]), np.array([(last - first) * bits]))


def _text(low: Corner, high: Corner) -> str:
    return "[" + ", ".join(f"{a}:{b}" for a, b in zip(low, high, strict=True)) + "]"


class Buffers:
    """All tiles of a schedule, and who uses them."""

    def __init__(self, schedule: Schedule, arch: Architecture) -> None:
        self.schedule, self.sum_bits = schedule, arch.array.stored_sum_bits
        self.types = schedule.graph.types()
        self.points = schedule.plan.points
        self.varying = varying_tensors(schedule.graph) if self.points > 1 else frozenset()
        owners = zip(schedule.stages, schedule.placement.operands, strict=True)
        self.operands = [(stage, operand) for stage, operands in owners for operand in operands]
        self.streams = [stream for streams in schedule.placement.streams for stream in streams]
        tiles, accesses = schedule.tiles, schedule.tiles.accesses
        order = np.argsort(accesses.row, kind="stable")
        self.first = np.searchsorted(accesses.row[order], np.arange(tiles.rows + 1)).tolist()
        self.allocation, self.writes = accesses.allocation[order].tolist(), accesses.writes[order].tolist()
        self.low, self.high = self._boxes()
        self.tiles: dict[int, Tile] = {}

    def used(self, row: int) -> list[tuple[Tile, int]]:
        """Return the tiles that a row uses, each with 1 if it writes it."""
        span = range(self.first[row], self.first[row + 1])
        return [(self.tile(self.allocation[i]), self.writes[i]) for i in span]

    def _boxes(self) -> tuple[list[Corner], list[Corner]]:
        """Return the box of every allocation: all that is written to it."""
        tiles, accesses = self.schedule.tiles, self.schedule.tiles.accesses
        count = len(tiles.allocations.memory)
        low, high = np.full((count, 4), np.iinfo(np.int64).max), np.zeros((count, 4), np.int64)
        writing = np.flatnonzero(accesses.writes == 1)
        rows, which = accesses.row[writing], accesses.allocation[writing]
        np.minimum.at(low, which, np.column_stack([tiles.points[rows, 0], tiles.region[rows, 0::2]]))
        np.maximum.at(high, which, np.column_stack([tiles.points[rows, 1], tiles.region[rows, 1::2]]))
        return [tuple(corner) for corner in low.tolist()], [tuple(corner) for corner in high.tolist()]

    def tile(self, a: int) -> Tile:
        """Return what allocation ``a`` holds; raise ``ValueError`` where it is too small for that."""
        if a in self.tiles:
            return self.tiles[a]
        allocations = self.schedule.tiles.allocations
        stream = int(allocations.stream[a])
        stage, operand = self.operands[stream]
        low, high, varies = self.low[a], self.high[a], self.streams[stream].point
        bits, signed, transposed, bias = self.sum_bits, True, False, None
        if operand is not None:
            bits, signed = operand.type.element_bits, is_signed(operand.type)
            whole = allocations.slot[a] < 0
            if whole:
                low, high = (0, 0, 0, 0), (self.points, *volume(operand.type.shape))
            if operand.role == "weight":
                transposed = bool(stage.anchor.attrs.get("transposed"))
                bias = self.types[stage.anchor.args[2]] if len(stage.anchor.args) > 2 else None
                first, last = (
                    (low[2], low[1]) if transposed else low[1:3],
                    (high[2], high[1]) if transposed else high[1:3],
                )
                if whole:
                    first, last = (0, 0), operand.type.shape[:2]
                low, high = (low[0], *first, 0), (high[0], *last, int(np.prod(operand.type.shape[2:])))
        if not varies:
            low, high = (0, *low[1:]), (1, *high[1:])
        tile = Tile(a, int(allocations.memory[a]), int(allocations.address[a]) * 8, operand, low, high, bits, signed,
                    varies, transposed, bias)  # fmt: skip
        need = int(np.prod(tile.extents)) * bits
        if tile.has_bias and bias is not None:
            need += (tile.filters[1] - tile.filters[0]) * bias.element_bits
        if need > 8 * int(allocations.size_bytes[a]):
            raise ValueError(f"a tile of {tile.name} needs {need} bits, its buffer has {8 * allocations.size_bytes[a]}")
        self.tiles[a] = tile
        return tile
