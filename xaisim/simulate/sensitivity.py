"""What more of each resource would buy: a first guess from the critical path, then the clock's answer.

    for gain in sensitivity(timing, arch):
        gain.resource, gain.predicted_cycles, gain.cycles

The schedule stays as it is: every tile, order and address; only durations change. The path under new durations is a
bound from below, so no run can gain more than predicted; it gains less where another chain becomes the longest.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.memory import Sram
from xaisim.mapping.schedule import map_again
from xaisim.mapping.tiles import TileGraph, Unit
from xaisim.simulate.clock import run_loop
from xaisim.simulate.critical import critical_path
from xaisim.simulate.program import ProgramTiming, TimedLaunch, host_cycles, time_program

Array = np.ndarray

MORE = Fraction(11, 10)


class Gain(NamedTuple):
    """A program's cycles with more of one resource."""

    resource: str
    change: str
    """What is different, old -> new."""
    predicted_cycles: int | None
    """The length of today's critical path with the new durations; None where durations stay the same."""
    cycles: int | None
    """Timed again, schedule unchanged."""
    remapped_cycles: int | None = None
    """Mapped again and timed; None where no configuration says this, or it was not asked for."""


class _Change(NamedTuple):
    resource: str
    text: str
    arch: Architecture | None
    """The machine with the change; None where no configuration can say it."""
    tiles: Callable[[TileGraph, Architecture, Fraction], TileGraph] | None = None
    """The tiles with the change, for such."""
    resizes: bool = False
    """It changes what fits, not how long anything takes."""


def sensitivity(timing: ProgramTiming, arch: Architecture, *, more: Fraction = MORE, remap: bool = False) -> list[Gain]:
    """Return what ``more`` of every resource makes of a program, the largest gain first.

    With ``remap`` the program is also mapped again for every change, which sizes of memories need to matter at all.
    """
    paths = [critical_path(t.schedule.tiles, t.timing).whole for t in timing.launches]
    gains = []
    for change in changes(arch, more):
        predicted = cycles = remapped = None
        if not change.resizes:
            machine = change.arch or arch
            host = sum(host_cycles(t.launch, machine) * t.count for t in timing.launches)
            changed = [_tiles(t, arch, change, more) for t in timing.launches]
            lead = [run_loop(ahead, 1) if ahead else None for _, ahead in changed]
            counts = [t.count for t in timing.launches]
            predicted = host + sum(
                (path.cycles(new) + (part.cycles if part else 0)) * count  # a prologue has nothing to predict
                for path, (new, _), part, count in zip(paths, changed, lead, counts, strict=True)
            )
            cycles = host + sum(
                run_loop(new, t.timing.trips, part).cycles * t.count
                for (new, _), t, part in zip(changed, timing.launches, lead, strict=True)
            )
        if remap and change.arch is not None:
            again = [t.launch for t in timing.launches for _ in range(t.count)]
            remapped = time_program(again, change.arch, timing.wish).cycles
        if not change.resizes or remap:
            gains.append(Gain(change.resource, change.text, predicted, cycles, remapped))
    return sorted(gains, key=lambda gain: min(c for c in (gain.cycles, gain.remapped_cycles) if c is not None))


def _tiles(t: TimedLaunch, arch: Architecture, change: _Change, more: Fraction) -> tuple[TileGraph, TileGraph | None]:
    """Return a launch's tiles, and those of its prologue, with the durations that a change gives them."""
    prologue = t.schedule.prologue
    if change.arch is None:
        assert change.tiles is not None
        ahead = change.tiles(prologue.tiles, arch, more) if prologue else None
        return change.tiles(t.schedule.tiles, arch, more), ahead
    again = map_again(t.schedule, change.arch, sync=t.launch.sync)
    tiles = again.tiles
    if not all(np.array_equal(getattr(tiles, n), getattr(t.schedule.tiles, n)) for n in ("edge_from", "edge_to")):
        raise ValueError(f"{t.launch.kernel}: {change.resource} changed the order of tiles, not only their durations")
    return tiles, again.prologue.tiles if again.prologue else None


# --- changes ----------------------------------------------------------------------------------------------------------


def changes(arch: Architecture, more: Fraction = MORE) -> list[_Change]:
    """Return every resource of a machine with ``more`` of it; what has no cycles to save is left out."""
    dma, control = arch.dma, arch.control
    issue, launch, sync = (
        _sooner(cycles, more) for cycles in (dma.issue_cycles, control.launch_cycles, control.sync_cycles)
    )
    host = control.host_mhz or arch.clock_mhz
    rates = ", ".join(f"{m.name} {m.bytes_per_cycle:g} -> {m.bytes_per_cycle * float(more):g}" for m in arch.on_chip)
    sooner = f"every tile in 1/{float(more):g} of its cycles"
    found = [
        _Change("array", sooner, None, _faster_array),
        _Change("array with its ports", sooner, None, _faster_array_with_ports),
        _Change("vector lanes", f"{arch.vector.lanes} -> {arch.vector.lanes * float(more):g}", None, _faster_vector),
        *_dram_changes(arch, more),
        _Change("DMA issue", f"{dma.issue_cycles} -> {issue} cycles", _with(arch, "dma", issue_cycles=issue)),
        _Change("memory ports", f"{rates} B/cycle", _faster_ports(arch, more)),
        _Change(
            "host control",
            f"launch {control.launch_cycles} -> {launch}, sync {control.sync_cycles} -> {sync} cycles, "
            f"host {host:g} -> {host * float(more):g} MHz",
            _with(arch, "control", launch_cycles=launch, sync_cycles=sync, host_mhz=host * float(more)),
        ),
        *(_larger(arch, memory, more) for memory in arch.on_chip),
    ]
    return [change for change in found if change.tiles is not None or change.arch != arch]


def _sooner(cycles: int, more: Fraction) -> int:
    """Return a constant with ``more`` of it saved, in whole cycles: at least one less where there is one."""
    return max(0, min(round(cycles / more), cycles - 1))


def _with(arch: Architecture, part: str, **values: float) -> Architecture:
    return arch.model_copy(update={part: getattr(arch, part).model_copy(update=values)})


def _dram_changes(arch: Architecture, more: Fraction) -> list[_Change]:
    """Return more of a bus's two numbers; of a timed DRAM, its clock (all its timings with it), controller and port."""
    dram, timing = arch.dram, arch.dram.timing
    if timing is None:
        rate, latency = dram.bytes_per_cycle * float(more), _sooner(dram.latency_cycles, more)
        wider, sooner = _with_dram(arch, bytes_per_cycle=rate), _with_dram(arch, latency_cycles=latency)
        return [
            _Change("DRAM bandwidth", f"{dram.bytes_per_cycle:g} -> {rate:g} B/cycle", wider),
            _Change("DRAM latency", f"{dram.latency_cycles} -> {latency} cycles", sooner),
        ]
    clock = timing.model_copy(update={"tck_ns": timing.tck_ns / float(more)})
    controller = timing.model_copy(update={"controller_ns": timing.controller_ns / float(more)})
    found = [
        _Change("DRAM clock", f"{timing.tck_ns:g} -> {clock.tck_ns:g} ns", _with_dram(arch, timing=clock)),
        _Change("DRAM controller", f"{timing.controller_ns:g} -> {controller.controller_ns:g} ns",
                _with_dram(arch, timing=controller)),
    ]  # fmt: skip
    if dram.port_bytes_per_cycle is not None:
        port = dram.port_bytes_per_cycle * float(more)
        text = f"{dram.port_bytes_per_cycle:g} -> {port:g} B/cycle"
        found.append(_Change("DRAM port", text, _with_dram(arch, port_bytes_per_cycle=port)))
    return found


def _with_dram(arch: Architecture, **values: Any) -> Architecture:
    return arch.model_copy(update={"memories": (arch.memories[0].model_copy(update=values), *arch.memories[1:])})


def _faster_ports(arch: Architecture, more: Fraction) -> Architecture:
    ports = (m.model_copy(update={"bytes_per_cycle": m.bytes_per_cycle * float(more)}) for m in arch.on_chip)
    return arch.model_copy(update={"memories": (arch.memories[0], *ports)})


def _larger(arch: Architecture, memory: Sram, more: Fraction) -> _Change:
    size = max(int(memory.size * more) // 8 * 8, memory.size + 8)
    memories = tuple(m.model_copy(update={"size": size}) if m is memory else m for m in arch.memories)
    text = f"{memory.size:,} -> {size:,} B"
    return _Change(f"size of {memory.name}", text, arch.model_copy(update={"memories": memories}), resizes=True)


def _on(tiles: TileGraph, kind: Unit) -> Array:
    """Return which rows run on a kind of unit."""
    return np.array([seat.kind is kind for seat in tiles.units])[tiles.unit]


def _faster_array_with_ports(tiles: TileGraph, _arch: Architecture, more: Fraction) -> TileGraph:
    shorter = -(-tiles.occupy_cycles * more.denominator // more.numerator)
    return tiles._replace(occupy_cycles=np.where(_on(tiles, Unit.ARRAY), shorter, tiles.occupy_cycles))


def _faster_array(tiles: TileGraph, _arch: Architecture, more: Fraction) -> TileGraph:
    return _faster(tiles, Unit.ARRAY, 0, more)


def _faster_vector(tiles: TileGraph, arch: Architecture, more: Fraction) -> TileGraph:
    return _faster(tiles, Unit.VECTOR, arch.vector.pipeline_cycles, more)


def _faster(tiles: TileGraph, kind: Unit, constant: int, more: Fraction) -> TileGraph:
    """Shorten a unit's own work, all but a constant; a row is never shorter than its busiest memory port allows."""
    work = np.maximum(tiles.occupy_cycles - constant, 0)
    shorter = -(-work * more.denominator // more.numerator) + np.minimum(constant, tiles.occupy_cycles)
    occupy = np.where(_on(tiles, kind), np.maximum(shorter, tiles.port_cycles), tiles.occupy_cycles)
    return tiles._replace(occupy_cycles=occupy)
