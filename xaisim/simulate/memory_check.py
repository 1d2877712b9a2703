"""Does the machine compute what the simulator says? Every launch runs on modelled memories and is held to the values.

device = RecordingDevice(...); METHODS[...].run(device, …)
checked = [check(run, arch) for run in device.runs]         checked[0].differing == {"logits": 0}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xaisim.attribution.device import Launch, Tensor
from xaisim.hardware.architecture import Architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.schedule import Schedule
from xaisim.numerics.devices import FixedDevice
from xaisim.simulate.executor import execute
from xaisim.simulate.mapper import DEFAULT_WISH, Wish, best_schedule

Array = np.ndarray


class Run(NamedTuple):
    """A launch with the integers that went in and came out."""

    kernel: str
    graph: Graph
    feeds: Mapping[str, Array]
    trips: int
    sync: bool
    outputs: Mapping[str, Tensor]


class RecordingDevice(FixedDevice):
    """A fixed-point device that remembers every launch."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.runs: list[Run] = []

    def run(self, name: str, graph: Graph, arrays: Mapping[str, Array], trips: int) -> dict[str, Tensor]:
        """Evaluate, and remember."""
        outputs = super().run(name, graph, arrays, trips)
        self.runs.append(Run(name, graph, arrays, trips, self.program[-1].sync, outputs))
        return outputs


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a launch on modelled memories."""

    kernel: str
    rows: int
    """Transfers and computations, all trips together."""
    numbers: int
    """Elements of all outputs."""
    differing: Mapping[str, int]
    """Elements that are not what the fast evaluation says, by output."""

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} of {name}" for name, count in self.differing.items() if count)
        return f"{self.kernel}: {wrong or 'none'} of {self.numbers:,} numbers differ after {self.rows:,} rows"

    @property
    def equal(self) -> bool:
        """Whether every bit is."""
        return not any(self.differing.values())


def check(
    run: Run, arch: Architecture, schedule: Schedule | None = None, *, wish: Wish = DEFAULT_WISH, seed: int = 0
) -> Checked:
    """Map a launch as it is timed (or take a schedule), run it on modelled memories and compare its outputs."""
    if schedule is None:
        schedule, _ = best_schedule(Launch(run.kernel, run.graph, run.trips, run.sync), arch, wish)
    trips, rest = divmod(run.trips, schedule.plan.points)
    if rest:
        raise ValueError(f"{run.trips} trips cannot be made in steps of {schedule.plan.points} points")
    found = execute(schedule, arch, run.feeds, trips=trips, seed=seed)
    differing = {}
    for name, expected in run.outputs.items():
        differing[name] = int((found[name] != np.asarray(expected.values)).sum())
    numbers = sum(values.size for values in found.values())
    return Checked(run.kernel, schedule.tiles.rows * trips, numbers, differing)
