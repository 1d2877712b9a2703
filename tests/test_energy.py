"""Is energy a sum of counts times coefficients? Recomputed from tiles and cost table, and monotone where it must be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_graphs import dry_program

from xaisim.config import data_root, load_data, shipped_names
from xaisim.hardware import Architecture, EnergyModel, load_architecture
from xaisim.hardware.cost_table import load_costs, scale_energy
from xaisim.models import load_model
from xaisim.numerics.formats import Numerics
from xaisim.simulate.mapper import Wish
from xaisim.simulate.program import EnergyItem, ProgramTiming, time_program

PRESETS = shipped_names("arch_configs")


def timed(
    arch: Architecture, name: str = "cifar_cnn", method: str = "saliency", bits: int = 16, **options: Any
) -> ProgramTiming:
    widths = dict.fromkeys(("weights", "activations", "gradients", "attributions", "path"), bits)
    graph = load_model(name, values=False).graph
    return time_program(dry_program(graph, method, Numerics(**widths), **options), arch, Wish(search=False))


def total_uj(timing: ProgramTiming) -> float:
    return sum(item.uj for item in timing.energy)


def by_key(timing: ProgramTiming) -> dict[tuple[str, str], EnergyItem]:
    items = {(item.component, item.what): item for item in timing.energy}
    assert len(items) == len(timing.energy)
    return items


def test_a_cost_table_that_changed_on_disk_is_read_again(tmp_path: Path) -> None:
    shipped = (data_root() / "arch_configs" / "costs" / "asic_45nm.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(shipped, encoding="utf-8")
    before = load_costs(str(mine))
    assert load_costs(str(mine)) is before
    old = f"pj_per_bit: {before.dram['lpddr4'].pj_per_bit:g}"
    assert old in shipped
    mine.write_text(shipped.replace(old, "pj_per_bit: 12.5"), encoding="utf-8")
    assert load_costs(str(mine)).dram["lpddr4"].pj_per_bit == 12.5


@pytest.mark.parametrize("preset", PRESETS)
def test_energy_is_the_sum_of_counts_times_coefficients(preset: str) -> None:
    """Counts from the tiles, coefficients from the cost table by the published formulas, nothing from the account."""
    arch = load_architecture(preset)
    timing = timed(arch, "resnet18_tiny", "integrated_gradients", n_steps=7)
    items = by_key(timing)
    table, tech = load_costs(arch.costs), arch.technology

    def scaled(cost: Any) -> float:
        return scale_energy(cost.node_nm, cost.voltage_v, tech.node_nm, tech.voltage_v)

    add = table.adder.pj_per_bit * scaled(table.adder)
    mac = (table.multiplier.pj_per_bit2 * 16**2 + table.multiplier.pj_per_bit * 16) * scaled(table.multiplier)
    wide = arch.array.accumulator_bits
    mac += wide * add + wide * table.register_write.pj_per_bit * scaled(table.register_write)
    macs = sum(t.launch.graph.macs() * t.launch.trips for t in timing.launches)
    assert items["array", "MAC 16x16 bit"].count == macs == timing.macs
    assert items["array", "MAC 16x16 bit"].pj_each == pytest.approx(mac, rel=1e-12)
    expected = macs * mac
    if preset == "eyeriss":  # files of 12 inputs, 224 weights and 24 sums per element, larger than 32 bytes or not
        bits = (16 * 12 * 2 + 16 * 224 * 2 + 2 * 48 * 24 * 6) / 32
        files = items["array", "register files 16x16 bit"]
        assert files.count == macs
        assert files.pj_each == pytest.approx(bits * table.register_write.pj_per_bit * scaled(table.register_write))
        expected += files.count * files.pj_each
    for (component, what), item in items.items():
        if component == "vector":
            kind, width, _ = what.split()
            if kind == "product":
                a, b = (int(bits) for bits in width.split("x"))
                each = table.multiplier.pj_per_bit2 * a * b + table.multiplier.pj_per_bit * math.sqrt(a * b)
                each = each * scaled(table.multiplier) + (a + b) * add
                each += (a + b) * table.register_write.pj_per_bit * scaled(table.register_write)
            else:
                each = add * int(width)
            assert item.pj_each == pytest.approx(each, rel=1e-12)
            expected += item.count * each
    for column, memory in enumerate(arch.memories):
        for direction, what in (("read", "byte read"), ("write", "byte written")):
            tiles = [(t.schedule.tiles, t.timing.trips) for t in timing.launches]
            count = sum(getattr(x, f"{direction}_bytes")[:, column].sum() * trips for x, trips in tiles)
            if memory.kind == "dram":
                each = 8 * table.dram[memory.energy].pj_per_bit
            else:
                growth = (memory.size / table.sram.reference_size) ** table.sram.size_exponent
                each = 8 * table.sram.read_pj_per_bit * growth * scaled(table.sram)
                each *= table.sram.write_over_read if direction == "write" else 1
            assert items[memory.name, what].count == count
            assert items[memory.name, what].pj_each == pytest.approx(each, rel=1e-12)
            expected += count * each
    assert total_uj(timing) == pytest.approx(expected * 1e-6, rel=1e-12)


def test_vector_operations_are_counted_once_per_element_and_operator() -> None:
    """Inference of this network has windows of max-pools, ReLUs and roundings on the vector unit, nothing else."""
    arch = load_architecture("pynq_z2")
    timing = timed(arch, "cifar_cnn", "forward")
    ops = sum(item.count for item in timing.energy if item.component == "vector")
    graph = timing.launches[0].launch.graph
    windows = {
        node.name: node.type.size * math.prod(node.attrs["kernel"]) for node in graph.nodes if node.op == "maxpool"
    }
    others = {node.name: node.type.size for node in graph.nodes if node.op in ("relu", "requant")}
    assert ops == sum(windows.values()) + sum(others.values())


def test_energy_of_a_loop_is_proportional_to_its_trips() -> None:
    arch = load_architecture("pynq_z2")
    loops = [timed(arch, "cifar_cnn", "integrated_gradients", n_steps=n).launches[1] for n in (4, 8)]
    macs = [int(t.schedule.tiles.macs.sum()) * t.timing.trips for t in loops]
    assert macs[1] == 2 * macs[0]
    few, many, none = (total_uj(timed(arch, "cifar_cnn", "integrated_gradients", n_steps=n)) for n in (4, 8, 12))
    assert none - many == pytest.approx(many - few, rel=1e-9)


@pytest.mark.parametrize("preset", ["pynq_z2", "edge_systolic_16"])
@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny"])
def test_energy_grows_with_the_bits_of_the_numbers(name: str, preset: str) -> None:
    arch = load_architecture(preset)
    energies = [total_uj(timed(arch, name, bits=bits)) for bits in (4, 8, 12, 16)]
    assert energies == sorted(energies)
    assert len(set(energies)) == 4
    model = EnergyModel(arch)
    macs = [model.mac_pj(bits, bits, 48) for bits in range(2, 33)]
    assert macs == sorted(macs)
    assert np.all(np.diff(macs) > 0)


def test_traffic_shrinks_with_the_bits() -> None:
    arch = load_architecture("pynq_z2")
    wide, narrow = timed(arch), timed(arch, bits=8)
    assert wide.macs == narrow.macs
    for name in ("dram", "activations", "weights"):
        assert narrow.read_bytes[name] < wide.read_bytes[name]


def test_dram_energy_is_not_scaled_with_the_node_and_everything_else_is() -> None:
    data = load_architecture("pynq_z2").model_dump(mode="json") | {"board": None}
    coarse = load_data(Architecture, data | {"technology": {"node_nm": 45, "voltage_v": 0.9}})
    fine = load_data(Architecture, data | {"technology": {"node_nm": 7, "voltage_v": 0.9}})
    old, new = by_key(timed(coarse)), by_key(timed(fine))
    assert old.keys() == new.keys()
    for key in old:
        assert old[key].count == new[key].count
        if key[0] == "dram":
            assert old[key].pj_each == new[key].pj_each
        else:
            assert old[key].pj_each > new[key].pj_each


def test_a_larger_buffer_costs_more_per_byte() -> None:
    data = load_architecture("pynq_z2").model_dump(mode="json") | {"board": None}
    small = EnergyModel(load_data(Architecture, data)).memory_pj_per_byte("weights", "read")
    data["memories"][2]["size"] = "1MiB"
    assert EnergyModel(load_data(Architecture, data)).memory_pj_per_byte("weights", "read") > small
