"""What a machine takes for a program: cycles, energy and where they go, each launch timed once and remembered.

    timed(experiment, arch, memo)["latency_ms"]

A launch's time depends on its graph's shapes and formats, trips, the architecture and the wish for its mapping, and on
no values. So methods and workloads that share a launch share its result, across processes.
"""

from __future__ import annotations

import gc
import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from xaisim.attribution.device import Launch
from xaisim.attribution.methods import METHODS
from xaisim.experiment import Experiment, prepare
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.costs import EnergyModel, load_costs
from xaisim.ir.graph import Graph
from xaisim.mapping.choice import kernel_key, load_mapping
from xaisim.mapping.tiles import Unit, seats_of
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats
from xaisim.simulate.mapper import Wish
from xaisim.simulate.program import ProgramTiming, host_cycles, time_program
from xaisim.sweep.memo import Memo, key_of
from xaisim.sweep.point import contents
from xaisim.sweep.timeline import trip_of

_UNTIMED = {"description", "image", "arch", "objective", "mapping"}
"""What of an experiment decides nothing about the launches but through the widths of the array."""


def program_of(experiment: Experiment, arch: Architecture) -> tuple[Launch, ...]:
    """Return what a method launches on a machine, without values; raises :class:`~xaisim.config.UserError`.

    Graphs are built once per method, numerics and widths of the array, not once per point.
    """
    array = arch.array
    ordered = experiment.arch if array.accumulator == "saturate" else ""  # the order of addition is in the graph
    key = experiment.model_dump_json(exclude=_UNTIMED)
    widths = array.multiplier_bits, array.accumulator_bits, array.accumulator, array.psum_bits
    found = _programs(key, contents(experiment), widths, ordered)
    if not found:
        p = prepare(experiment.model_copy(update={"mapping": None}), values=False)
        device = p.device(Formats(p.numerics), DryDevice)
        device.class_known = experiment.target is not None
        METHODS[experiment.method].run(device, p.model.graph, p.sample.x, experiment.target or 0, **p.options)
        found.extend(device.program)
    return tuple(found)


@lru_cache(maxsize=64)
def _programs(*_key: Any) -> list[Launch]:
    return []


def wish_of(experiment: Experiment) -> Wish:
    """Return what the mapping is to be good at, and what of it is given."""
    return Wish(experiment.objective, load_mapping(experiment.mapping) if experiment.mapping else None)


def timed(experiment: Experiment, arch: Architecture, memo: Memo) -> dict[str, Any]:
    """Return the outputs of the clock and their breakdown; raises ``UserError`` where a kernel does not fit."""
    program, wish = program_of(experiment, arch), wish_of(experiment)
    if wish.given:
        wish.given.check_kernels([launch.kernel for launch in program])
    counts = Counter(program)
    machine = [arch.model_dump_json(exclude={"name", "description", "board"}), load_costs(arch.costs).model_dump_json()]
    asked = [wish.objective, wish.search, wish.given.file.model_dump_json() if wish.given else None]
    keys = {launch: key_of("launch", graph_digest(launch.graph), _asked(launch), machine, asked) for launch in counts}
    known = memo.get_many(keys.values())
    made = {}
    with _no_collection():
        for launch, key in keys.items():
            if key not in known:
                known[key] = made[key] = _account(time_program([launch], arch, wish), arch)
    memo.put_many(made)
    return _joined([(launch, count, known[keys[launch]]) for launch, count in counts.items()], arch)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the garbage collector wait: mapping makes few cycles but many tuples, and a sixth of its time went there."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _asked(launch: Launch) -> list[Any]:
    return [kernel_key(launch.kernel), launch.trips, launch.sync]


def _account(timing: ProgramTiming, arch: Architecture) -> dict[str, Any]:
    """Return what is remembered of one launch, the host's part left out."""
    array = next(seat.name for seat in seats_of(arch) if seat.kind is Unit.ARRAY)
    host = timing.launches[0].host_cycles
    energy: dict[str, float] = {}
    for item in timing.energy:
        energy[item.component] = energy.get(item.component, 0.0) + item.uj
    idle = {cause: cycles for cause, cycles in timing.units[array].idle.items() if cycles}
    idle["host"] = idle.get("host", 0) - host
    dram = timing.read_bytes[arch.dram.name] + timing.write_bytes[arch.dram.name]
    return {
        "cycles": timing.cycles - host,
        "array": {"array busy": timing.units[array].busy, **{cause: n for cause, n in idle.items() if n}},
        "energy_uj": energy,
        "macs": timing.macs,
        "dram_bytes": dram,
        "trip": trip_of(timing.launches[0]),
    }


def _joined(rows: Sequence[tuple[Launch, int, dict[str, Any]]], arch: Architecture) -> dict[str, Any]:
    """Add up the launches of a program and turn the sums into outputs."""
    spent: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    energy: dict[str, float] = {}
    macs, dram = 0.0, 0.0
    for launch, count, row in rows:
        host = host_cycles(launch, arch)
        for cause, n in row["array"].items():
            spent[cause] += n * count
        spent["host"] += host * count
        phases[kernel_key(launch.kernel)] += (row["cycles"] + host) * count
        for component, uj in row["energy_uj"].items():
            energy[component] = energy.get(component, 0.0) + uj * count
        macs += row["macs"] * count
        dram += row["dram_bytes"] * count
    cycles = sum(phases.values())
    latency_ms, energy_mj = cycles / arch.clock_mhz / 1e3, sum(energy.values()) / 1e3
    return {
        "cycles": cycles,
        "array_cycles": spent["array busy"],
        "latency_ms": latency_ms,
        "energy_mj": energy_mj,
        "edp": energy_mj * latency_ms,
        "explanations_per_s": 1e3 / latency_ms,
        "utilisation": macs / (cycles * arch.peak_macs_per_cycle),
        "dram_mb": dram / 1e6,
        "power_w": energy_mj / latency_ms,
        "breakdown": {
            "cycles": dict(spent), "energy_uj": energy, "phases": dict(phases), "timeline": _timeline(rows, arch),
        },
    }  # fmt: skip


def _timeline(rows: Sequence[tuple[Launch, int, dict[str, Any]]], arch: Architecture) -> dict[str, Any]:
    """Return the launches in the order of their first, and a trip of the one that takes longest in all."""
    launches = [
        {"kernel": kernel_key(launch.kernel), "count": count, "trips": launch.trips, "cycles": row["cycles"],
         "host": host_cycles(launch, arch)}
        for launch, count, row in rows
    ]  # fmt: skip
    longest = max(range(len(rows)), key=lambda i: launches[i]["count"] * launches[i]["cycles"])
    return {"launches": launches, "longest": longest, "trip": rows[longest][2]["trip"]}


def bound(experiment: Experiment, arch: Architecture) -> dict[str, float]:
    """Return lower bounds that need no mapping: every multiplication at full speed, and its energy alone."""
    program = program_of(experiment, arch)
    macs = sum(_macs(launch.graph) * launch.trips for launch in program)
    cycles = math.ceil(macs / arch.peak_macs_per_cycle) + sum(host_cycles(launch, arch) for launch in program)
    narrow = min((bits for launch in program for bits in _operand_bits(launch.graph)), default=1)
    energy_mj = macs * EnergyModel(arch).mac_pj(narrow, narrow, arch.array.accumulator_bits) * 1e-9
    latency_ms = cycles / arch.clock_mhz / 1e3
    return {
        "bound.cycles": cycles,
        "bound.latency_ms": latency_ms,
        "bound.energy_mj": energy_mj,
        "bound.edp": energy_mj * latency_ms,
    }


@lru_cache(maxsize=256)
def _macs(graph: Graph) -> int:
    return graph.macs()


@lru_cache(maxsize=256)
def _operand_bits(graph: Graph) -> tuple[int, ...]:
    types = graph.types()
    return tuple(
        types[arg].element_bits for node in graph.nodes if node.op in ("conv", "linear") for arg in node.args[:2]
    )


@lru_cache(maxsize=256)
def graph_digest(graph: Graph) -> str:
    """Return a digest of all of a kernel that its time depends on: no values."""
    constants = [(name, constant.type, constant.chosen) for name, constant in graph.constants.items()]
    with np.printoptions(threshold=sys.maxsize):
        text = repr((graph.inputs, constants, graph.nodes, graph.outputs, sorted(graph.per_trip)))
    return hashlib.sha256(text.encode()).hexdigest()
