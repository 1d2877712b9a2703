"""Does more of a resource buy what the report says: the same as a machine that has it?"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import architectures, dry_program, networks

import xaisim
from xaisim.config import UserError, load_data, shipped_names
from xaisim.hardware import Architecture, load_architecture, load_dram_timing
from xaisim.ir.graph import Graph
from xaisim.mapping.schedule import map_again
from xaisim.models import load_model
from xaisim.simulate.clock import run_loop
from xaisim.simulate.program import ProgramTiming, time_program
from xaisim.simulate.sensitivity import Gain, changes, sensitivity

TWICE = Fraction(2)


def timed(arch: Architecture, name: str = "resnet18_tiny", method: str = "saliency") -> ProgramTiming:
    return time_program(dry_program(load_model(name, values=False).graph, method), arch)


def by_resource(timing: ProgramTiming, arch: Architecture, more: Fraction) -> dict[str, Gain]:
    return {gain.resource: gain for gain in sensitivity(timing, arch, more=more)}


def changed(arch: Architecture, **values: Any) -> Architecture:
    """Return a machine with other values, ``array__lanes=4`` for a value of a part; validated like a file."""
    data = arch.model_dump(mode="json") | {"board": None}
    for path, value in values.items():
        *parents, last = path.split("__")
        node: Any = data
        for part in parents:
            node = node[int(part)] if part.isdigit() else node[part]
        node[last] = value(node[last]) if callable(value) else value
    return load_data(Architecture, data)


def same_schedule(a: ProgramTiming, b: ProgramTiming) -> bool:
    """Return whether two runs have the same tiles in the same order at the same addresses."""
    pairs = [(x.schedule.tiles, y.schedule.tiles) for x, y in zip(a.launches, b.launches, strict=True)]
    return all(
        x.rows == y.rows
        and np.array_equal(x.region, y.region)
        and np.array_equal(x.edge_from, y.edge_from)
        and np.array_equal(x.allocations.address, y.allocations.address)
        for x, y in pairs
    )


def machines(arch: Architecture) -> dict[str, Architecture]:
    """Return, written out by hand, the machine with twice as much of each resource."""
    ports = {f"memories__{i}__bytes_per_cycle": lambda rate: 2 * rate for i in range(1, len(arch.memories))}
    half = lambda cycles: round(Fraction(cycles, 2))  # noqa: E731
    return {
        "DRAM bandwidth": changed(arch, memories__0__bytes_per_cycle=lambda rate: 2 * rate),
        "DRAM latency": changed(arch, memories__0__latency_cycles=half),
        "DMA issue": changed(arch, dma__issue_cycles=half),
        "memory ports": changed(arch, **ports),
        "vector lanes": changed(arch, vector__lanes=lambda lanes: 2 * lanes),
        "host control": changed(arch, control__launch_cycles=half, control__sync_cycles=half),
    }


@pytest.mark.parametrize("preset", ["pynq_z2", "edge_systolic_16", "edge_systolic_32_ws"])
def test_timing_again_equals_a_fresh_run_on_the_changed_machine(preset: str) -> None:
    """Wherever the mapper decides the same for the changed machine, the fresh run is under the same schedule."""
    arch, compared = load_architecture(preset), set()
    timing = timed(arch)
    gains = by_resource(timing, arch, TWICE)
    for resource, machine in machines(arch).items():
        fresh = timed(machine)
        if same_schedule(timing, fresh):
            assert gains[resource].cycles == fresh.cycles, resource
            compared.add(resource)
    assert compared >= {"DRAM latency", "host control"}


def test_an_array_of_half_the_interval_is_the_array_with_twice_the_speed() -> None:
    slow = changed(load_architecture("pynq_z2"), array__initiation_interval=2, array__pipeline_cycles=0)
    slow = changed(slow, **{f"memories__{i}__bytes_per_cycle": 1e6 for i in range(1, len(slow.memories))})
    timing, fast = timed(slow), changed(slow, array__initiation_interval=1)
    fresh = sum(
        run_loop(map_again(t.schedule, fast, sync=t.launch.sync).tiles, t.timing.trips).cycles + t.host_cycles
        for t in timing.launches
    )
    gains = by_resource(timing, slow, TWICE)
    assert gains["array"].cycles == fresh == gains["array with its ports"].cycles < timing.cycles


@settings(max_examples=15)
@given(graph=networks(layers=3, side=8, channels=4), arch=architectures(), more=st.sampled_from([Fraction(11, 10), 3]))
def test_no_gain_is_more_than_predicted_or_less_than_nothing(graph: Graph, arch: Architecture, more: Fraction) -> None:
    try:
        timing = time_program(dry_program(graph, "integrated_gradients", n_steps=3), arch)
    except UserError:
        assume(False)
    gains = sensitivity(timing, arch, more=more)
    nothing = [arch.memories[0].latency_cycles, arch.dma.issue_cycles].count(0)
    assert len(gains) == 8 - nothing
    for gain in gains:
        assert gain.predicted_cycles is not None
        assert gain.cycles is not None
        assert gain.predicted_cycles <= gain.cycles
        if arch.dram.timing is None:  # an earlier transfer may meet a refresh that it had missed
            assert gain.cycles <= timing.cycles
    assert [gain.cycles for gain in gains] == sorted(gain.cycles for gain in gains)  # type: ignore[type-var]


@pytest.mark.parametrize("preset", shipped_names("arch_configs"))
def test_every_row_changes_the_machine_by_at_least_a_cycle(preset: str) -> None:
    arch = load_architecture(preset)
    for change in changes(arch):
        assert change.arch != arch
        if " -> " in change.text:
            for part in change.text.split(", "):
                old, new = (text.split()[-1 if n == 0 else 0] for n, text in enumerate(part.split(" -> ")))
                assert old != new or old == "0", f"{preset}: {change.resource}: {change.text}"


def test_a_constant_loses_at_least_a_cycle_and_none_is_no_row() -> None:
    arch = changed(load_architecture("pynq_z2"), dma__issue_cycles=5, memories__0__latency_cycles=0)
    rows = {change.resource: change.text for change in changes(arch)}
    assert rows["DMA issue"] == "5 -> 4 cycles"
    assert "DRAM latency" not in rows


def test_the_host_alone_is_predicted_exactly() -> None:
    arch = load_architecture("pynq_z2")
    timing = time_program(
        dry_program(load_model("cifar_cnn", values=False).graph, "integrated_gradients", n_steps=4), arch
    )
    (gain,) = (gain for gain in sensitivity(timing, arch) if gain.resource == "host control")
    assert gain.cycles == gain.predicted_cycles == timing.cycles - 3 * (200 - 182) - (1000 - 909)


def test_a_timed_dram_has_a_clock_a_controller_and_a_port() -> None:
    arch = load_architecture("pynq_z2")
    values = {"bytes_per_cycle": None, "latency_cycles": None, "burst_bytes": None, "port_bytes_per_cycle": 16.0}
    dram = arch.memories[0].model_copy(update={**values, "timing": load_dram_timing("ddr3_1600k")})
    arch = arch.model_copy(update={"memories": (dram, *arch.memories[1:])})
    timing = timed(arch)
    gains = by_resource(timing, arch, Fraction(11, 10))
    assert "DRAM bandwidth" not in gains
    for resource in ("DRAM clock", "DRAM controller", "DRAM port"):
        predicted, cycles = gains[resource].predicted_cycles, gains[resource].cycles
        assert predicted is not None
        assert cycles is not None
        assert predicted <= cycles <= timing.cycles
    assert gains["DRAM clock"].cycles == timing.cycles, "DDR3-1600 has 128 bytes a cycle, the port takes 16"
    assert gains["DRAM port"].cycles != timing.cycles


@pytest.mark.slow
def test_mapping_again_is_a_fresh_run_and_lets_sizes_matter() -> None:
    arch = load_architecture("edge_systolic_16")
    timing = timed(arch, "cifar_cnn")
    gains = {gain.resource: gain for gain in sensitivity(timing, arch, more=TWICE, remap=True)}
    for resource, machine in machines(arch).items():
        if resource != "vector lanes":
            assert gains[resource].remapped_cycles == timed(machine, "cifar_cnn").cycles
    for index, memory in enumerate(arch.on_chip, start=1):
        gain = gains[f"size of {memory.name}"]
        fresh = timed(changed(arch, **{f"memories__{index}__size": f"{2 * memory.size}B"}), "cifar_cnn")
        assert (gain.predicted_cycles, gain.cycles, gain.remapped_cycles) == (None, None, fresh.cycles)
    assert gains["array"].remapped_cycles is None


def test_a_report_is_given_its_gains() -> None:
    report = xaisim.profile(model="cifar_cnn", method="saliency")
    assert report.sensitivity == ()
    fuller = xaisim.sensitivity(report)
    assert {gain.resource for gain in fuller.sensitivity} >= {"array", "DRAM bandwidth", "host control"}
    assert all(gain.remapped_cycles is None for gain in fuller.sensitivity)
    assert fuller.run is report.run
