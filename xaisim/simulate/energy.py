"""The energy account of schedules: counts of events and what one of each costs; their products are the total.

items = energy_account([Repeated(schedule, trips)], arch)
sum(item.uj for item in items)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array, GridArray
from xaisim.hardware.costs import EnergyModel
from xaisim.ir.graph import Graph
from xaisim.ir.noise import FACTOR_BITS, chip_noise
from xaisim.mapping.placement import varying_tensors
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.stages import ARRAY_OPS
from xaisim.mapping.streams import window_work


@dataclass(frozen=True, slots=True)
class EnergyItem:
    """One line of the energy account: energy = count · coefficient."""

    component: str
    what: str
    count: float
    pj_each: float

    @property
    def uj(self) -> float:
        """Energy in microjoules."""
        return self.count * self.pj_each * 1e-6


class Repeated(NamedTuple):
    """A schedule with its trips, launched so often."""

    schedule: Schedule
    trips: int
    times: int = 1

    @property
    def parts(self) -> list[tuple[Schedule, int]]:
        """The trips, and what is loaded ahead of them, with how often each runs in all."""
        ahead = self.schedule.prologue
        return [(self.schedule, self.trips * self.times), *([(ahead, self.times)] if ahead else [])]


def traffic(runs: Sequence[Repeated], arch: Architecture) -> tuple[dict[str, float], dict[str, float]]:
    """Return the bytes (read, written) of every memory over all trips and before them."""
    names = [memory.name for memory in arch.memories]
    parts = [(schedule.tiles, trips) for run in runs for schedule, trips in run.parts]
    reads = sum((tiles.read_bytes.sum(axis=0) * trips for tiles, trips in parts), np.zeros(len(names)))
    writes = sum((tiles.write_bytes.sum(axis=0) * trips for tiles, trips in parts), np.zeros(len(names)))
    return dict(zip(names, map(float, reads), strict=True)), dict(zip(names, map(float, writes), strict=True))


def _widths(graph: Graph, array: Array) -> dict[str, int]:
    """Return the width of every tensor on the vector unit: the array's sums as stored, others as accumulators."""
    widths = {name: t.element_bits for name, t in graph.types().items()}
    for node in graph.nodes:
        if "bound" in node.attrs:
            widths[node.name] = array.stored_sum_bits if node.op in ARRAY_OPS else array.accumulator_bits
    return widths


def energy_account(runs: Sequence[Repeated], arch: Architecture) -> tuple[EnergyItem, ...]:
    """Count events and multiply: MACs and products by operand widths, other operations by width, bytes by memory."""
    reads, writes = traffic(runs, arch)
    model = EnergyModel(arch)
    macs: Counter[tuple[int, int]] = Counter()
    additions: Counter[int] = Counter()
    products: Counter[tuple[int, int]] = Counter()
    for schedule, trips, launches in runs:
        tiles, widths_of = schedule.tiles, _widths(schedule.graph, arch.array)
        per_stage = np.bincount(tiles.stage, tiles.macs, len(schedule.stages))
        varying = varying_tensors(schedule.graph) if schedule.plan.points > 1 else frozenset()
        for stage, nest in zip(schedule.stages, schedule.nests, strict=True):
            data, weight = stage.operand("input"), stage.operand("weight")
            if stage.on_array and data is not None and weight is not None:
                widths = (data.type.element_bits, weight.type.element_bits)
                macs[widths] += int(per_stage[stage.index]) * trips * launches
            for node in stage.nodes[stage.on_array :]:
                operands = [widths_of[arg] for arg in node.args]
                times = trips * launches * (schedule.plan.points if varying.intersection(node.args) else 1)
                if node.op == "noise":
                    registers = chip_noise(node.attrs["seed"])
                    additions[registers.sum_bits] += node.type.size * (registers.words - 1) * times
                    products[registers.sum_bits, FACTOR_BITS] += node.type.size * times
                    continue
                work = window_work(stage, nest) if node is stage.anchor else 1
                if node.op in ("mul", "upsample"):
                    products[operands[0], operands[1]] += node.type.size * work * times
                    continue
                additions[operands[0]] += node.type.size * work * times
                if node.op == "avgpool":
                    products[operands[0], operands[1]] += node.type.size * times
    accumulator = arch.array.accumulator_bits
    items = [
        EnergyItem("array", f"MAC {a}x{w} bit", count, model.mac_pj(a, w, accumulator))
        for (a, w), count in sorted(macs.items())
    ]
    if isinstance(arch.array, GridArray):
        items += [
            EnergyItem("array", f"register files {a}x{w} bit", count, model.register_files_pj(arch.array, a, w))
            for (a, w), count in sorted(macs.items())
        ]
    items += [
        EnergyItem("vector", f"operation {bits} bit", count, model.vector_op_pj(bits))
        for bits, count in sorted(additions.items())
    ]
    items += [
        EnergyItem("vector", f"product {a}x{b} bit", count, model.mac_pj(a, b, a + b))
        for (a, b), count in sorted(products.items())
    ]
    for name in reads:
        items.append(EnergyItem(name, "byte read", reads[name], model.memory_pj_per_byte(name, "read")))
        items.append(EnergyItem(name, "byte written", writes[name], model.memory_pj_per_byte(name, "write")))
    return tuple(items)
