"""What each row of a schedule reads, computes and writes.

action = Actions(schedule, arch, dram, feeds).of(row)
action.reads, action.writes                           bits of memories; addresses come from the row's accesses
action.work(trip, [bytes, …])                         → bytes for all that is written
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.ir.ops import OPS, Node
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.stages import WINDOW_OPS, Stage
from xaisim.mapping.tiles import Kind
from xaisim.simulate.bits import Runs, joined, pack, unpack
from xaisim.simulate.buffers import Buffers, Corner, Part, Tile, is_signed
from xaisim.simulate.dram_image import Action, DramImage
from xaisim.simulate.tile_work import Box, filters_of, noise_values, partial_sums, read_by, window_values

Array = np.ndarray
T = TypeVar("T")
Key = tuple[str, bool]
"""A tensor, and whether a window of it is read: not what lies at the place of the output."""
_SUMS = "the sums"


class _Finish(NamedTuple):
    """What the vector unit does with an output tile."""

    stage: Stage
    output: Box
    held: Box
    """The part of the input that a window reads."""
    parts: dict[Key, Part]
    targets: dict[str, Part]
    sums: Tile | None
    points: tuple[int, int]
    """Path points of the trip."""


class Actions:
    """Turns rows into actions."""

    def __init__(self, schedule: Schedule, arch: Architecture, dram: DramImage, feeds: Mapping[str, Array]) -> None:
        self.schedule, self.tiles, self.dram, self.feeds = schedule, schedule.tiles, dram, feeds
        self.buffers = Buffers(schedule, arch)
        self.types, self.points, self.sum_bits = self.buffers.types, self.buffers.points, self.buffers.sum_bits
        self.biases: dict[tuple[int, int], Array] = {}
        """Of open sums that are lifted: a register per filter, by trip and buffer of the sums."""

    def of(self, row: int) -> Action:
        """Return what a row does; raise ``ValueError`` where its tiles lack what it needs."""
        kind = Kind(int(self.tiles.kind[row]))
        if kind is Kind.SYNC:
            return self.dram.choice(row)
        if kind in (Kind.LOAD, Kind.STORE):
            return self.transfer(row, kind)
        return self.compute(row) if kind is Kind.COMPUTE else self.finish(row)

    def corners(self, row: int) -> tuple[Corner, Corner]:
        """Return a row's own region, with its path points."""
        region, (t0, t1) = self.tiles.region[row].tolist(), self.tiles.points[row].tolist()
        return (t0, *region[0::2]), (t1, *region[1::2])

    # --- transfers ----------------------------------------------------------------------------------------------------

    def transfer(self, row: int, kind: Kind) -> Action:
        """Copy between DRAM and a buffer, or between two buffers."""
        low, high = self.corners(row)
        anchor = self.schedule.stages[self.tiles.stage[row]].anchor
        ends = {writes: self.moved(tile, anchor, low, high) for tile, writes in self.buffers.used(row)}
        ends.setdefault(int(kind is Kind.STORE), self.dram.runs(row))
        source, target = _the(ends, 0, "source"), _the(ends, 1, "target")
        if source.bits != target.bits:
            raise ValueError(f"moves {source.bits} bits to where {target.bits} are kept")
        return Action([source], [target], lambda _trip, data: data)

    @staticmethod
    def moved(tile: Tile, anchor: Node, low: Corner, high: Corner) -> Runs:
        """Return the bits of a tile that a transfer for a stage moves, biases behind the weights."""
        if tile.operand is None or tile.operand.role != "weight":
            return tile.part(low, high).runs
        turned = bool(anchor.attrs.get("transposed"))
        weights = tile.part(*tile.weight_corners(low, high, transposed=turned)).runs
        biased = tile.has_bias and len(anchor.args) > 2 and low[2] == 0
        return joined(weights, tile.biases(low[1], high[1])) if biased else weights

    # --- the array ----------------------------------------------------------------------------------------------------

    def compute(self, row: int) -> Action:
        """Add the products of a tile to the sums that lie in the accumulator's memory."""
        stage = self.schedule.stages[self.tiles.stage[row]]
        anchor, source = stage.anchor, stage.operand("input")
        assert source is not None
        low, high = self.corners(row)
        c0, c1 = self.tiles.channels[row].tolist()
        output = Box(*self.tiles.region[row].tolist())
        used = {"psum" if tile.operand is None else tile.operand.role: tile for tile, _ in self.buffers.used(row)}
        kept = [tile for tile, _ in self.buffers.used(row) if tile.name == source.name]
        if kept:  # what stays on the chip lies where its maker put it
            used["input"] = kept[0]
        x_tile, w_tile, sums = (_the(used, role, role) for role in ("input", "weight", "psum"))
        assert x_tile.operand is not None
        assert w_tile.operand is not None
        taps = (*w_tile.operand.type.shape[2:], 1, 1)[:2]
        held = read_by(anchor, output, (c0, c1), x_tile.operand.type.shape, (taps[0], taps[1]))
        x = x_tile.part((low[0], held.c0, held.h0, held.w0), (high[0], held.c1, held.h1, held.w1))
        turned = bool(anchor.attrs.get("transposed"))
        corners = (low[0], output.c0, c0, 0), (high[0], output.c1, c1, 0)
        w = w_tile.part(*w_tile.weight_corners(*corners, transposed=turned))
        target = sums.part(low, high)
        bias = w_tile.bias if c0 == 0 and len(anchor.args) > 2 else None
        reads = [x.runs, w.runs]
        if c0 > 0:
            reads.append(target.runs)
        elif bias is not None:
            reads.append(w_tile.biases(output.c0, output.c1))

        def work(trip: int, data: list[Array]) -> list[Array]:
            start = np.zeros(target.shape, np.int64)
            if c0 > 0:
                start = target.numbers(data[2])
            elif bias is not None:
                own = unpack(data[2], output.c1 - output.c0, bias.element_bits, signed=is_signed(bias))
                if "lift" in anchor.attrs:  # they join behind the lift, on the vector unit
                    self.keep_biases(trip, sums, output, own)
                else:
                    start += own.reshape(1, -1, 1, 1)
            weights = w.numbers(data[1])
            filters = filters_of(anchor, weights.reshape(*weights.shape[:3], *taps))
            return [pack(partial_sums(anchor, x.numbers(data[0]), filters, start, output, held), self.sum_bits)]

        return Action(reads, [target.runs], work)

    def keep_biases(self, trip: int, sums: Tile, output: Box, own: Array) -> None:
        """Put the biases of some filters of open sums aside."""
        kept = self.biases.setdefault((trip, sums.number), np.zeros(sums.extents[1], np.int64))
        kept[output.c0 - sums.low[1] : output.c1 - sums.low[1]] = own

    # --- the vector unit ----------------------------------------------------------------------------------------------

    def finish(self, row: int) -> Action:
        """Finish an output tile: sums or windows, then the element-wise tail; results go to all their buffers."""
        stage = self.schedule.stages[self.tiles.stage[row]]
        low, high = self.corners(row)
        held = output = Box(*self.tiles.region[row].tolist())
        used = self.buffers.used(row)
        source = {tile.name: tile for tile, writes in used if not writes}
        made = {tile.name: tile for tile, writes in used if writes}
        parts: dict[Key, Part] = {}
        if stage.on_array:
            parts[_SUMS, False] = _the(source, _SUMS, "the sums").part(low, high)
        for node, arg in self.reads(stage):
            if node.op in WINDOW_OPS:
                held = read_by(node, output, (0, 0), self.types[arg].shape, node.attrs.get("kernel", (1, 1)))
                first, last = (low[0], held.c0, held.h0, held.w0), (high[0], held.c1, held.h1, held.w1)
                parts[arg, True] = _the(source, arg, arg).part(first, last)
            else:
                parts[arg, False] = _the(source, arg, arg).part(low, high)
        for node in stage.nodes:
            if node.op == "accumulate":  # of the trips before, or of the points before in this trip
                before = made if low[0] > 0 else source
                parts[node.name, False] = _the(before, node.name, node.name).part(low, high)
        targets = {o.name: _the(made, o.name, o.name).part(low, high) for o in stage.outputs}
        task = _Finish(stage, output, held, parts, targets, source.get(_SUMS), (low[0], high[0]))
        return Action(
            [p.runs for p in parts.values()], [p.runs for p in targets.values()], partial(self.finished, task)
        )

    def reads(self, stage: Stage) -> list[tuple[Node, str]]:
        """Return what the nodes of a stage read on the vector unit that is neither made there nor a register."""
        inside = {node.name for node in stage.nodes}
        return [
            (node, arg)
            for node in stage.nodes[stage.on_array :]
            for position, arg in enumerate(node.args)
            if arg not in inside and self.types[arg].shape and not (node.op == "upsample" and position > 0)
        ]

    def finished(self, task: _Finish, trip: int, data: list[Array]) -> list[Array]:
        """Return the bytes of every result."""
        stage, output = task.stage, task.output
        read = {name: part.numbers(d) for (name, part), d in zip(task.parts.items(), data, strict=True)}
        values: dict[str, Array] = {}
        if stage.on_array:
            values[stage.anchor.name] = self.lifted(task, trip, read[_SUMS, False])
        for node in stage.nodes[stage.on_array :]:
            windowed = node.op in WINDOW_OPS
            operands = [
                values[arg] if arg in values else read[arg, windowed] if (arg, windowed) in read
                else self.register(arg, trip, task.points) for arg in node.args
            ]  # fmt: skip
            if windowed:
                values[node.name] = window_values(node, operands, output, task.held)
                continue
            if node.op == "noise":
                values[node.name] = noise_values(node, operands[0], output)
                continue
            flat = len(node.type.shape) == 1
            shaped = [a.reshape(len(a), -1) if flat and a.ndim == 4 else a for a in operands]
            result = np.asarray(OPS[node.op].evaluate(node, *shaped), np.int64)
            values[node.name] = result.reshape(len(result), *output.shape)
            if node.op == "accumulate":
                values[node.name] += read[node.name, False]
        # What is the same for all points is computed for each all the same, and written once.
        return [
            pack(np.broadcast_to(values[name][: part.shape[0]], part.shape), part.bits)
            for name, part in task.targets.items()
        ]

    def lifted(self, task: _Finish, trip: int, sums: Array) -> Array:
        """Bring the sums of every filter to their common scale, and add the biases that wait for it."""
        lift, output = task.stage.anchor.attrs.get("lift"), task.output
        if lift is None:
            return sums
        lifted = sums << np.array(lift[output.c0 : output.c1]).reshape(1, -1, 1, 1)
        assert task.sums is not None
        bias = self.biases.get((trip, task.sums.number))
        if bias is None:
            return lifted
        k0 = task.sums.low[1]
        return lifted + bias[output.c0 - k0 : output.c1 - k0].reshape(1, -1, 1, 1)

    def register(self, name: str, trip: int, points: tuple[int, int]) -> Array:
        """Return a scalar, one per path point, or the coefficients of an upsampling."""
        if name in self.feeds:
            table = self.feeds[name]
            return table if len(table) == 1 else table[trip * self.points + points[0] : trip * self.points + points[1]]
        value = self.schedule.graph.constants[name].value
        assert value is not None
        return value[None]


def _the(found: Mapping[Any, T], key: Any, what: str) -> T:
    if key not in found:
        raise ValueError(f"has no access to a buffer with {what}")
    return found[key]
