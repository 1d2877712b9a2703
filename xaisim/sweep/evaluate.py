"""Evaluate a point, rung by rung, until it is done or a constraint is known to fail.

    Evaluator(memo, constraints)(point)       # Result(status="done", rung="clock", outputs={…}, …)

bound   area, blocks of an FPGA, and lower bounds of cycles and energy
clock   cycles and energy of every workload
few     fidelity on the first pictures; all: on every one
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.area import area
from xaisim.hardware.fpga import load_board, misfits, resources
from xaisim.sweep.fidelity import fidelities, maps
from xaisim.sweep.memo import Memo
from xaisim.sweep.point import Part, Point
from xaisim.sweep.rules import Constraint
from xaisim.sweep.timing import bound, timed

Rung = Literal["bound", "clock", "few", "all"]
Status = Literal["done", "failed", "pruned"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a point came to; ``error`` is one line for one that failed, or that broke a constraint."""

    status: Status
    rung: Rung | None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    breakdown: dict[str, Any] | None = None
    maps: tuple[str, dict[str, Any]] | None = None
    seconds: float = 0.0


class Evaluator:
    """Evaluates points under the constraints of a space."""

    def __init__(self, memo: Memo, constraints: Sequence[Constraint]) -> None:
        self.memo, self.constraints = memo, tuple(constraints)

    def __call__(self, point: Point) -> Result:
        """Return the result; a mistake in the point, and any other error, makes it a failed one with the reason."""
        start = time.perf_counter()
        run = _Run(self.memo, point)
        try:
            status, error = self._climb(run)
        except UserError as problem:
            status, error = "failed", str(problem).splitlines()[0]
        except Exception as problem:  # a fault of ours in one point must not end a sweep of thousands
            status, error = "failed", f"{type(problem).__name__}: {problem}".splitlines()[0]
        return Result(
            status, run.rung, run.outputs, error, run.breakdown, run.maps, round(time.perf_counter() - start, 6)
        )

    def _climb(self, run: _Run) -> tuple[Status, str | None]:
        for rung in run.rungs:
            run.climb(rung, self.constraints)
            broken = next((rule for rule in self.constraints if rule.holds(run.outputs) is False), None)
            if broken is not None:
                return "pruned", broken.told(run.outputs)
        return "done", None


class _Run:
    """The outputs of one point as they come in."""

    def __init__(self, memo: Memo, point: Point) -> None:
        self.memo, self.point = memo, point
        self.rung: Rung | None = None
        self.outputs: dict[str, Any] = {}
        self.breakdown: dict[str, Any] | None = None
        self.maps: tuple[str, dict[str, Any]] | None = None

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs that this point has."""
        values: tuple[Rung, ...] = ("few", "all") if len(self.point.images) > 1 else ("all",)
        return ("bound", "clock", *(values if self.point.images else ()))

    def climb(self, rung: Rung, constraints: Sequence[Constraint]) -> None:
        """Add the outputs of a rung."""
        if rung == "bound":
            self.machines = [load_architecture(part.experiment.arch) for part in self.point.parts]
            self.outputs |= built(self.machines[0], constraints)
            self._add([bound(p.experiment, arch) for p, arch in self._parts])
        elif rung == "clock":
            rows = [timed(p.experiment, arch, self.memo) for p, arch in self._parts]
            self.breakdown = rows[0].get("breakdown")
            self._add([{key: value for key, value in row.items() if key != "breakdown"} for row in rows])
            self.outputs = {key: value for key, value in self.outputs.items() if "bound." not in key}
        else:
            images = self.point.images[0 if rung == "few" else -1]
            self._add([fidelities(p.experiment, arch, images, self.memo) for p, arch in self._parts])
            part, arch = self._parts[0]
            self.maps = maps(part.experiment, arch, self.memo)
        self.rung = rung

    @property
    def _parts(self) -> list[tuple[Part, Architecture]]:
        return list(zip(self.point.parts, self.machines, strict=True))

    def _add(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Add the outputs of all workloads, weighed, and of each by its name where there are several."""
        parts = self.point.parts
        self.outputs |= weighed(rows, [part.weight for part in parts])
        if len(parts) > 1:
            for part, row in zip(parts, rows, strict=True):
                self.outputs |= {f"{part.name}.{key}": value for key, value in row.items()}


def weighed(rows: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """Return the mean of each output by weight; rates and products follow from the means of time and energy."""
    if len(rows) == 1:
        return dict(rows[0])
    total = sum(weights)
    shared = [key for key in rows[0] if all(key in row for row in rows)]
    found = {key: sum(w * row[key] for w, row in zip(weights, rows, strict=True)) / total for key in shared}
    for prefix in ("", "bound."):
        latency, energy = (found.get(f"{prefix}{name}") for name in ("latency_ms", "energy_mj"))
        if latency is not None and energy is not None:
            found[f"{prefix}edp"] = latency * energy
            if not prefix:
                found |= {"explanations_per_s": 1e3 / latency, "power_w": energy / latency}
    return found


def built(arch: Architecture, constraints: Sequence[Constraint]) -> dict[str, Any]:
    """Return what a machine takes: silicon, or blocks of an FPGA, and whether they fit the boards asked for."""
    silicon, need = area(arch), arch.fpga_resources()
    found: dict[str, Any] = {"area_mm2": None if silicon is None else silicon.total_mm2}
    found |= {"dsp": need.dsp, "bram": need.bram36, "fits": None if arch.board is None else 1}
    for name in (rule.board for rule in constraints if rule.board is not None):
        board = load_board(name)
        found[f"fits.{name}"] = int(not misfits(resources(arch, board.dsp_kind), board))
    return found
