"""Time a whole program: its launches one behind the other, with the host between them, and what they cost.

timing = time_program(device.program, arch)
timing.cycles, timing.units, timing.energy
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from xaisim.attribution.device import Launch
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array, GridArray
from xaisim.hardware.costs import EnergyModel
from xaisim.ir.graph import Graph
from xaisim.mapping.schedule import Schedule, decides_inside, map_kernel, verify
from xaisim.mapping.stages import ARRAY_OPS
from xaisim.mapping.streams import window_work
from xaisim.mapping.tiles import Unit, seats_of
from xaisim.simulate.clock import CAUSE_NAMES, Cause, LoopTiming, run_loop


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


@dataclass(frozen=True, slots=True)
class TimedLaunch:
    """A launch with its schedule and timing. ``start_cycle`` is when the host begins to start it."""

    launch: Launch
    schedule: Schedule
    timing: LoopTiming
    start_cycle: int
    host_cycles: int

    @property
    def cycles(self) -> int:
        """Cycles with the host's part."""
        return self.timing.cycles + self.host_cycles


@dataclass(frozen=True, slots=True)
class UnitAccount:
    """Busy and idle cycles of a unit; idle is charged to one cause each."""

    busy: int
    idle: dict[str, int]


@dataclass(frozen=True, slots=True)
class ProgramTiming:
    """Cycles, traffic, work and energy of a program."""

    launches: tuple[TimedLaunch, ...]
    cycles: int
    units: dict[str, UnitAccount]
    macs: int
    macs_backward: int
    read_bytes: dict[str, float]
    write_bytes: dict[str, float]
    energy: tuple[EnergyItem, ...]
    peak_bytes: dict[str, int] = field(default_factory=dict)

    def lower_bound_cycles(self, arch: Architecture) -> int:
        """Return the roofline: the larger of MACs over peak and DRAM bytes over bandwidth."""
        dram = self.read_bytes[arch.dram.name] + self.write_bytes[arch.dram.name]
        return int(max(-(-self.macs // arch.peak_macs_per_cycle), np.ceil(dram / arch.dram.bytes_per_cycle)))


def time_program(
    program: Sequence[Launch], arch: Architecture, *, progress: Callable[[str], None] | None = None
) -> ProgramTiming:
    """Map and time every launch; raises ``UserError`` where a kernel does not fit the architecture."""
    timed: list[TimedLaunch] = []
    now = 0
    for launch in program:
        if progress:
            progress(launch.kernel)
        schedule = map_kernel(launch.graph, arch, sync=launch.sync)
        verify(schedule, arch)
        timing = run_loop(schedule.tiles, launch.trips)
        host = host_cycles(launch, arch)
        timed.append(TimedLaunch(launch, schedule, timing, now, host))
        now += timing.cycles + host
    reads, writes = _traffic(timed, arch)
    peaks: dict[str, int] = {}
    for t in timed:
        for name, used in {arch.dram.name: t.schedule.dram_bytes, **t.schedule.peak_bytes}.items():
            peaks[name] = max(peaks.get(name, 0), used)
    return ProgramTiming(
        launches=tuple(timed),
        cycles=now,
        units=_units(timed, arch),
        macs=sum(int(t.schedule.tiles.macs.sum()) * t.launch.trips for t in timed),
        macs_backward=sum(_backward_macs(t.schedule) * t.launch.trips for t in timed),
        read_bytes=reads,
        write_bytes=writes,
        energy=_energy(timed, arch, reads, writes),
        peak_bytes=peaks,
    )


def host_cycles(launch: Launch, arch: Architecture) -> int:
    """Return what the host takes to start a launch, and to read its result back if it decides behind it."""
    reads_back = launch.sync and not decides_inside(launch.graph)
    return arch.control.launch_cycles + (arch.control.sync_cycles if reads_back else 0)


def _units(timed: Sequence[TimedLaunch], arch: Architecture) -> dict[str, UnitAccount]:
    host = sum(t.host_cycles for t in timed)
    accounts = {}
    for unit, seat in enumerate(seats_of(arch)):
        busy = int(sum(t.timing.busy[unit] for t in timed))
        idle = sum((t.timing.idle[unit] for t in timed), np.zeros(len(Cause), np.int64))
        if seat.kind is Unit.HOST:
            busy += host
        else:
            idle[Cause.HOST] += host
        accounts[seat.name] = UnitAccount(busy, {name: int(idle[cause]) for cause, name in CAUSE_NAMES.items()})
    return accounts


def _traffic(timed: Sequence[TimedLaunch], arch: Architecture) -> tuple[dict[str, float], dict[str, float]]:
    names = [memory.name for memory in arch.memories]
    reads = sum((t.schedule.tiles.read_bytes.sum(axis=0) * t.launch.trips for t in timed), np.zeros(len(names)))
    writes = sum((t.schedule.tiles.write_bytes.sum(axis=0) * t.launch.trips for t in timed), np.zeros(len(names)))
    return dict(zip(names, map(float, reads), strict=True)), dict(zip(names, map(float, writes), strict=True))


def _backward_macs(schedule: Schedule) -> int:
    backward = np.array([stage.anchor.backward for stage in schedule.stages])
    return int(schedule.tiles.macs[backward[schedule.tiles.stage]].sum())


def _widths(graph: Graph, array: Array) -> dict[str, int]:
    """Return the width of every tensor on the vector unit: the array's sums as stored, others as accumulators."""
    widths = {name: t.element_bits for name, t in graph.types().items()}
    for node in graph.nodes:
        if "bound" in node.attrs:
            widths[node.name] = array.stored_sum_bits if node.op in ARRAY_OPS else array.accumulator_bits
    return widths


def _energy(
    timed: Sequence[TimedLaunch], arch: Architecture, reads: dict[str, float], writes: dict[str, float]
) -> tuple[EnergyItem, ...]:
    """Count events and multiply: MACs and products by operand widths, other operations by width, bytes by memory."""
    model = EnergyModel(arch)
    macs: Counter[tuple[int, int]] = Counter()
    additions: Counter[int] = Counter()
    products: Counter[tuple[int, int]] = Counter()
    for t in timed:
        tiles, widths_of = t.schedule.tiles, _widths(t.schedule.graph, arch.array)
        per_stage = np.bincount(tiles.stage, tiles.macs, len(t.schedule.stages))
        for stage, nest in zip(t.schedule.stages, t.schedule.nests, strict=True):
            data, weight = stage.operand("input"), stage.operand("weight")
            if stage.on_array and data is not None and weight is not None:
                widths = (data.type.element_bits, weight.type.element_bits)
                macs[widths] += int(per_stage[stage.index]) * t.launch.trips
            for node in stage.nodes[stage.on_array :]:
                operands = [widths_of[arg] for arg in node.args]
                work = window_work(stage, nest) if node is stage.anchor else 1
                if node.op in ("mul", "upsample"):
                    products[operands[0], operands[1]] += node.type.size * work * t.launch.trips
                    continue
                additions[operands[0]] += node.type.size * work * t.launch.trips
                if node.op == "avgpool":
                    products[operands[0], operands[1]] += node.type.size * t.launch.trips
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
