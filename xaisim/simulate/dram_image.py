"""What lies in DRAM: inputs, weights, running sums at zero, and whatever stores leave.

image = DramImage(schedule, feeds); image.fill(memory); image.tensor(memory, "logits")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from xaisim.ir.ops import VIEWS
from xaisim.mapping.placement import varying_tensors
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.tiles import Kind
from xaisim.simulate.bits import Runs, pack, read, runs_of, unpack, write
from xaisim.simulate.buffers import is_signed

Array = np.ndarray


class Action(NamedTuple):
    """What a row does: the bits it reads at its start, and those that it has written at its end."""

    reads: list[Runs]
    writes: list[Runs]
    work: Callable[[int, list[Array]], list[Array]]
    """From the trip and the bytes of all that is read to the bytes of all that is written."""


class DramImage:
    """The schedule's layout as bits: of every element for the host, of every piece for transfers."""

    def __init__(self, schedule: Schedule, feeds: Mapping[str, Array]) -> None:
        self.schedule, self.graph, self.feeds = schedule, schedule.graph, feeds
        self.types = self.graph.types()
        self.varying = varying_tensors(self.graph) if schedule.plan.points > 1 else frozenset()
        self.bit = self._bits()
        decides = bool((schedule.tiles.kind == Kind.SYNC).any())
        self.chosen = [name for name, c in self.graph.constants.items() if c.chosen and name in self.bit and decides]
        """What the host writes in the middle of the kernel, once it has read the logits."""
        self.pieces = schedule.pieces
        self.first = np.searchsorted(self.pieces.row, np.arange(schedule.tiles.rows + 1))

    def points(self, name: str) -> int:
        """Return how many path points of a tensor lie behind each other."""
        return self.schedule.plan.points if name in self.varying else 1

    def _bits(self) -> dict[str, Array]:
        """Return the bit at which every element of every tensor begins, (points, *shape); views show others'."""
        bit: dict[str, Array] = {}
        for name in self.schedule.layout.address:
            shape = (self.points(name), *self.types[name].shape)
            place = np.arange(int(np.prod(shape))).reshape(shape) * self.types[name].element_bits
            bit[name] = self.schedule.layout.first_bit(name) + place
        for node in self.graph.nodes:
            if node.op not in VIEWS or not all(arg in bit for arg in node.args):
                continue
            parts = [bit[arg] for arg in node.args]
            if node.op == "concat":
                most = max(len(part) for part in parts)
                parts = [np.broadcast_to(part, (most, *part.shape[1:])) for part in parts]
                bit[node.name] = np.concatenate(parts, axis=1)
            elif node.op == "slice":
                bit[node.name] = parts[0][:, node.attrs["start"] : node.attrs["stop"]]
            else:
                bit[node.name] = parts[0].reshape(len(parts[0]), *node.type.shape)
        return bit

    def fill(self, memory: Array, trips: int) -> None:
        """Write what the host leaves there before the launch: inputs, constants, and sums that begin at zero."""
        for name in self.graph.inputs:
            if name not in self.bit or name not in self.feeds or not self.types[name].shape:
                continue
            if name in self.graph.per_trip:
                self._store_records(memory, name, trips)
                continue
            if len(self.feeds[name]) > 1:
                raise ValueError(f"input {name!r} differs from trip to trip, which the graph does not say")
            self._store(memory, name, self.feeds[name])
        for name, constant in self.graph.constants.items():
            if constant.value is None:
                raise ValueError(f"constant {name!r} has no value")
            if name not in self.chosen:
                self._store(memory, name, constant.value)
        for node in self.graph.nodes:
            if node.op == "accumulate" and node.name in self.bit:
                self._store(memory, node.name, np.zeros(node.type.shape, np.int64))

    def choice(self, row: int) -> Action:
        """Return what the host does inside a kernel: it reads the logits, and puts there what it has chosen."""
        stage = self.schedule.stages[self.schedule.tiles.stage[row]]
        chosen = [(name, self.graph.constants[name].value) for name in self.chosen]
        data = [pack(value, self.types[name].element_bits) for name, value in chosen if value is not None]
        reads = [self._all(o.name) for o in stage.outputs if o.name in self.graph.outputs]
        return Action(reads, [self._all(name) for name in self.chosen], lambda _trip, _logits: data)

    def _store(self, memory: Array, name: str, values: Array) -> None:
        write(memory, self._all(name), pack(values, self.types[name].element_bits))

    def _store_records(self, memory: Array, name: str, trips: int) -> None:
        """Write what every trip has of its own, trip after trip."""
        points, bits = self.schedule.plan.points, self.types[name].element_bits
        values = np.broadcast_to(self.feeds[name], (trips * points, *self.types[name].shape))
        for trip in range(trips):
            write(memory, self.in_trip(self._all(name), trip), pack(values[trip * points : (trip + 1) * points], bits))

    def in_trip(self, runs: Runs, trip: int) -> Runs:
        """Return where the runs of the first trip lie in another one: what lies in a record moves on by it."""
        layout = self.schedule.layout
        if runs.memory or not trip or runs.high <= 8 * layout.records_from:
            return runs
        own = runs.start >= 8 * layout.records_from
        return runs_of(0, runs.start + own * 8 * layout.record * trip, runs.length)

    def _all(self, name: str) -> Runs:
        bit = self.bit[name].reshape(-1)
        return runs_of(0, bit, np.full(len(bit), self.types[name].element_bits))

    def tensor(self, memory: Array, name: str, trips: int) -> Array:
        """Return a tensor's integers, those of every trip where each has its own place: (trips · points, *shape)."""
        bit, type = self.bit[name], self.types[name]
        if (bit < 8 * self.schedule.layout.records_from).any():
            trips = 1
        data = [read(memory, self.in_trip(self._all(name), trip)) for trip in range(trips)]
        values = [unpack(part, bit.size, type.element_bits, signed=is_signed(type)).reshape(bit.shape) for part in data]
        return np.concatenate(values)

    def runs(self, row: int) -> Runs:
        """Return the bits that a transfer copies, in the order of its tile."""
        starts, lengths = [], []
        for i in range(self.first[row], self.first[row + 1]):
            _, address, outer, outer_stride, inner, inner_stride, bits = (int(column[i]) for column in self.pieces)
            start = address + np.arange(outer)[:, None] * outer_stride + np.arange(inner) * inner_stride
            starts.append(start.reshape(-1))
            lengths.append(np.full(start.size, bits))
        none = [np.zeros(0, np.int64)]
        length = np.concatenate(lengths or none)
        return runs_of(0, np.concatenate(starts or none)[length > 0], length[length > 0])
