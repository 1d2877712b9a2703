"""Time a whole program: its launches one behind the other, with the host between them, and what they cost.

timing = time_program(device.program, arch)
timing.cycles, timing.units, timing.energy
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from xaisim.attribution.device import Launch
from xaisim.hardware.architecture import Architecture
from xaisim.mapping.schedule import Schedule, decides_inside
from xaisim.mapping.tiles import Unit, seats_of
from xaisim.simulate.clock import CAUSE_NAMES, Cause, LoopTiming
from xaisim.simulate.energy import EnergyItem, Repeated, energy_account, traffic
from xaisim.simulate.mapper import DEFAULT_WISH, Wish, best_schedule


@dataclass(frozen=True, slots=True)
class TimedLaunch:
    """A launch with its schedule and timing, and how often the program has it.

    ``start_cycle`` is when the host begins to start the first of them.
    """

    launch: Launch
    schedule: Schedule
    timing: LoopTiming
    start_cycle: int
    host_cycles: int
    count: int = 1

    @property
    def cycles(self) -> int:
        """Cycles of one of them with the host's part."""
        return self.timing.cycles + self.host_cycles

    @property
    def repeated(self) -> Repeated:
        """What energy and traffic are counted over."""
        return Repeated(self.schedule, self.timing.trips, self.count)


@dataclass(frozen=True, slots=True)
class UnitAccount:
    """Busy and idle cycles of a unit; idle is charged to one cause each."""

    busy: int
    idle: dict[str, int]


@dataclass(frozen=True, slots=True)
class ProgramTiming:
    """Cycles, traffic, work and energy of a program."""

    launches: tuple[TimedLaunch, ...]
    """Each kind once, in the order of their first."""
    cycles: int
    units: dict[str, UnitAccount]
    macs: int
    macs_backward: int
    """With those that are there only to make masks again."""
    macs_recomputed: int
    read_bytes: dict[str, float]
    write_bytes: dict[str, float]
    energy: tuple[EnergyItem, ...]
    wish: Wish = DEFAULT_WISH
    """What the mapping was chosen for."""
    peak_bytes: dict[str, int] = field(default_factory=dict)

    def lower_bound_cycles(self, arch: Architecture) -> int:
        """Return the roofline: the larger of MACs over peak and DRAM bytes over bandwidth."""
        dram = self.read_bytes[arch.dram.name] + self.write_bytes[arch.dram.name]
        return int(max(-(-self.macs // arch.peak_macs_per_cycle), np.ceil(dram / arch.dram.bytes_per_cycle)))


def time_program(
    program: Sequence[Launch],
    arch: Architecture,
    wish: Wish = DEFAULT_WISH,
    *,
    progress: Callable[[str], None] | None = None,
) -> ProgramTiming:
    """Map and time every launch; raises ``UserError`` where a kernel does not fit the architecture."""
    timed: dict[Launch, TimedLaunch] = {}
    counts = Counter(program)
    now = 0
    for launch in program:
        if launch not in timed:
            if progress:
                progress(launch.kernel)
            schedule, timing = best_schedule(launch, arch, wish)
            timed[launch] = TimedLaunch(launch, schedule, timing, now, host_cycles(launch, arch), counts[launch])
        now += timed[launch].cycles
    return _program_timing(tuple(timed.values()), now, arch, wish)


def _program_timing(timed: tuple[TimedLaunch, ...], cycles: int, arch: Architecture, wish: Wish) -> ProgramTiming:
    runs = [t.repeated for t in timed]
    reads, writes = traffic(runs, arch)
    peaks: dict[str, int] = {}
    for t in timed:
        dram = t.schedule.layout.bytes_for(t.timing.trips)
        for name, used in {arch.dram.name: dram, **t.schedule.peak_bytes}.items():
            peaks[name] = max(peaks.get(name, 0), used)
    return ProgramTiming(
        launches=timed,
        cycles=cycles,
        units=_units(timed, arch),
        macs=sum(int(t.schedule.tiles.macs.sum()) * t.timing.trips * t.count for t in timed),
        macs_backward=sum(_backward_macs(t.schedule) * t.timing.trips * t.count for t in timed),
        macs_recomputed=sum(_recomputed_macs(t) * t.timing.trips * t.count for t in timed),
        read_bytes=reads,
        write_bytes=writes,
        energy=energy_account(runs, arch),
        wish=wish,
        peak_bytes=peaks,
    )


def host_cycles(launch: Launch, arch: Architecture) -> int:
    """Return what the host takes to start a launch, to read its result back if it decides behind it, and to decide."""
    reads_back = launch.sync and not decides_inside(launch.graph)
    read_back = arch.control.sync_cycles if reads_back else 0
    return arch.control.launch_cycles + read_back + decision_cycles(launch, arch)


def decision_cycles(launch: Launch, arch: Architecture) -> int:
    """Return the accelerator's cycles in which the host computes what comes next, an operation per clock of its own."""
    return math.ceil(launch.host_operations * arch.clock_mhz / (arch.control.host_mhz or arch.clock_mhz))


def _units(timed: Sequence[TimedLaunch], arch: Architecture) -> dict[str, UnitAccount]:
    host = sum(t.host_cycles * t.count for t in timed)
    accounts = {}
    for unit, seat in enumerate(seats_of(arch)):
        busy = int(sum(t.timing.busy[unit] * t.count for t in timed))
        idle = sum((t.timing.idle[unit] * t.count for t in timed), np.zeros(len(Cause), np.int64))
        if seat.kind is Unit.HOST:
            busy += host
        else:
            idle[Cause.HOST] += host
        accounts[seat.name] = UnitAccount(busy, {name: int(idle[cause]) for cause, name in CAUSE_NAMES.items()})
    return accounts


def _backward_macs(schedule: Schedule) -> int:
    backward = np.array([stage.anchor.backward for stage in schedule.stages])
    return int(schedule.tiles.macs[backward[schedule.tiles.stage]].sum())


def _recomputed_macs(timed: TimedLaunch) -> int:
    """Count the multiplications of stages that the kernel as it was launched does not have."""
    launched = {node.name for node in timed.launch.graph.nodes}
    added = np.array([stage.anchor.name not in launched for stage in timed.schedule.stages])
    return int(timed.schedule.tiles.macs[added[timed.schedule.tiles.stage]].sum())
