"""Do presets load and fit their boards, and do array, energy and FPGA models meet their published figures?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from xaisim.config import UserError, data_root, load_data, load_yaml, shipped_names
from xaisim.hardware import (
    OPERANDS,
    Architecture,
    EnergyModel,
    GridArray,
    UnrolledArray,
    describe,
    load_architecture,
    load_board,
)
from xaisim.hardware.cost_table import ENERGY_POLYNOMIALS, nearest_node_nm, scale_energy
from xaisim.hardware.fpga import Resources, bram36s, dpu_dsps, dsps, misfits

PRESETS = shipped_names("arch_configs")
EDGE = (data_root() / "arch_configs" / "edge_systolic_16.yaml").read_text(encoding="utf-8")


def changed(*changes: tuple[str, str]) -> str:
    text = EDGE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def problems(*changes: tuple[str, str]) -> list[str]:
    with pytest.raises(UserError) as error:
        load_yaml(Architecture, "a.yaml", text=changed(*changes))
    return str(error.value).splitlines()


# Architecture ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_has_a_place_for_every_operand_and_survives_a_dump(name: str) -> None:
    arch = load_architecture(name)
    assert arch.name == name
    assert all(arch.memory_for(operand) in arch.memories for operand in OPERANDS)
    assert load_data(Architecture, arch.model_dump(mode="json")) == arch
    assert hash(arch) == hash(load_architecture(name))


@pytest.mark.parametrize("name", ["pynq_z2", "ultra96_v2", "zcu104"])
def test_a_board_preset_fits_its_board_with_some_room(name: str) -> None:
    arch, board = load_architecture(name), load_board(name)
    need = arch.fpga_resources()
    assert arch.board == name
    assert misfits(need, board) == []
    assert 0.5 < need.dsp / board.dsp < 0.9
    assert 0.5 < need.bram36 / board.bram36 < 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_the_ports_of_a_preset_feed_its_array_in_every_cycle(name: str) -> None:
    arch = load_architecture(name)
    array, word = arch.array, arch.array.multiplier_bits // 8
    if isinstance(array, GridArray):
        inputs, weights = array.words_per_cycle.input * word, array.words_per_cycle.weight * word
    elif isinstance(array, UnrolledArray):
        extent = dict(array.spatial.items())
        inputs = math.prod(extent[dim] for dim in "NCPQRS") * word
        weights = math.prod(extent[dim] for dim in "KCRS") * word
    else:
        inputs, weights = array.rows * word, array.cols * word
    assert arch.memory_for("activation").bytes_per_cycle >= inputs
    assert arch.memory_for("gradient").bytes_per_cycle >= inputs
    assert arch.memory_for("weight").bytes_per_cycle >= weights
    assert arch.memory_for("psum").bytes_per_cycle >= arch.vector.lanes * array.accumulator_bits // 8


@pytest.mark.parametrize("name", PRESETS)
def test_half_the_psum_buffer_of_a_preset_holds_a_useful_tile(name: str) -> None:
    arch = load_architecture(name)
    psum, array = arch.memory_for("psum"), arch.array
    outputs = array.spatial.K if isinstance(array, UnrolledArray) else array.cols
    pixels = psum.size // psum.buffers // (array.accumulator_bits // 8) // outputs  # type: ignore[union-attr]
    assert pixels >= 256


@pytest.mark.parametrize("size", [16, 32])
def test_the_dataflow_variants_differ_in_the_dataflow_only(size: int) -> None:
    base = load_architecture(f"edge_systolic_{size}").model_dump(mode="json")
    for dataflow in ("ws", "is"):
        variant = load_architecture(f"edge_systolic_{size}_{dataflow}").model_dump(mode="json")
        assert variant["array"]["dataflow"] == dataflow
        same = {"name": base["name"], "description": base["description"], "array": base["array"]}
        assert {**variant, **same} == base
        assert variant["array"] == {**base["array"], "dataflow": dataflow}


def test_an_architecture_prints_in_a_stable_form() -> None:
    assert describe(load_architecture("pynq_z2")) == (
        "pynq_z2: 128 unrolled 16-bit MACs on a Pynq-Z2\n"
        "clock      100 MHz, 28 nm 1 V, energies from asic_45nm\n"
        "array      unrolled K16 C8, pipeline 8 cycles, 16-bit multipliers, 48-bit accumulators\n"
        "peak       128 MAC/cycle, 12.8 GMAC/s\n"
        "vector     16 lanes, pipeline 4 cycles\n"
        "dma        issue 20 cycles\n"
        "control    launch 200 cycles, sync 1000 cycles, host at 650 MHz\n"
        "on chip    496KiB\n"
        "memories\n"
        "  dram: ddr3 512MiB, 16 B/cycle, latency 40, burst 64 B\n"
        "  activations: sram 256KiB, 64 B/cycle, 2 buffers, holds activation gradient\n"
        "  weights: sram 128KiB, 256 B/cycle, 2 buffers, holds weight\n"
        "  partial_sums: sram 96KiB, 96 B/cycle, 2 buffers, holds psum\n"
        "  masks: sram 16KiB, 16 B/cycle, 2 buffers, holds mask\n"
        "board      pynq_z2 (XC7Z020): DSP 144/220, BRAM36 112/140, URAM 0/0; "
        "LUT and FF not modelled (53200 and 106400 there)"
    )
    assert "systolic 32x32 ws, folds serialised" in describe(load_architecture("edge_systolic_32_ws"))


def test_masks_that_no_buffer_holds_live_in_dram() -> None:
    arch = load_yaml(
        Architecture, "a.yaml", text=changed((EDGE[EDGE.index("  - name: masks") : EDGE.index("array:")], ""))
    )
    assert len(arch.on_chip) == 3
    assert arch.memory_for("mask") is arch.memories[0]


def test_a_memory_or_operand_that_is_not_there_is_a_key_error() -> None:
    arch = load_architecture("pynq_z2")
    assert arch.memory("weights") is arch.memory_for("weight")
    with pytest.raises(KeyError):
        arch.memory("cache")


def test_a_path_loads_and_a_wrong_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(changed(("rows: 16", "rows: 8")), encoding="utf-8")
    assert load_architecture(path).peak_macs_per_cycle == 128
    with pytest.raises(UserError, match=r"^unknown architecture 'zcu10'; did you mean 'zcu104'\? choices: edge_"):
        load_architecture("zcu10")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("clock_mhz: 500", "clock_mhz: 500\nclok_mhz: 1"), "a.yaml:6:1: clok_mhz: unknown key; "
         "did you mean 'clock_mhz'? "
         "choices: name, description, clock_mhz, memories, array, vector, dma, control, technology, costs, board"),
        (("size: 128KiB", "size: 128"), "a.yaml:17:11: memories[1].size: missing unit; write e.g. 128KiB (got 128)"),
        (("clock_mhz: 500", "clock_mhz: 0"), "a.yaml:5:12: clock_mhz: must be greater than 0 (got 0)"),
        (("holds: [weight]", "holds: [weights]"), "a.yaml:24:13: memories[2].holds[0]: must be one of activation, "
         "gradient, weight, psum, mask (got 'weights'); did you mean 'weight'?"),
        (("holds: [weight]", "holds: [weight, weight]"), "a.yaml:24:12: memories[2].holds: weight is named "
         "2 times"),
        (("holds: [weight]", "holds: [weight, psum]"), "a.yaml:30:12: memories[3].holds: psum must be held by "
         "exactly one on-chip memory, 'weights' already holds it"),
        ((", gradient]", "]"), "a.yaml:8:3: memories: no on-chip memory holds gradient"),
        (("name: weights", "name: dram"), "a.yaml:21:11: memories[2].name: name already used by memories[0] "
         "(got 'dram')"),
        (("energy: lpddr4", "energy: lpddr"), "a.yaml:14:13: memories[0].energy: asic_45nm has no DRAM row 'lpddr'; "
         "did you mean 'lpddr4'? choices: lpddr4, ddr3, hbm2, generic"),
        (("asic_45nm", "asic_40nm"), "a.yaml:54:8: costs: unknown cost table 'asic_40nm'; did you mean 'asic_45nm'? "
         "choices: asic_45nm"),
        (("costs: asic", "board: pynq\ncosts: asic"), "a.yaml:54:8: board: unknown board 'pynq'; "
         "did you mean 'pynq_z2'? choices: pynq_z2, ultra96_v2, zcu104"),
        (("costs: asic", "board: pynq_z2\ncosts: asic"), "a.yaml:54:8: board: needs 272 DSP, XC7Z020 has 220"),
        (("dataflow: os", "dataflow: rs"), "a.yaml:44:13: array.dataflow: must be one of os, ws, is (got 'rs')"),
        (("folds: serialised", "folds: pipelined"), "a.yaml:45:10: array.folds: pipelined folds need dataflow ws "
         "(got dataflow 'os')"),
        (("folds: serialised", "folds: serial"), "a.yaml:45:10: array.folds: must be one of serialised, pipelined "
         "(got 'serial'); did you mean 'serialised'?"),
        (("voltage_v: 0.9", "voltage_v: 0.5"), "a.yaml:53:38: technology.voltage_v: must be greater than or equal to "
         "0.6 (got 0.5)"),
        (("kind: systolic", "kind: mesh"), "a.yaml:41:9: array.kind: must be one of unrolled, systolic, "
         "grid (got 'mesh')"),
    ],
)  # fmt: skip
def test_a_wrong_architecture_is_told_in_one_line(change: tuple[str, str], line: str) -> None:
    assert problems(change) == [line]


def test_the_dram_comes_first_and_alone() -> None:
    second = "  - name: far\n    kind: dram\n    size: 1GiB\n    bytes_per_cycle: 1\n    latency_cycles: 1\n"
    second += "    burst_bytes: 1\n    energy: ddr3\n"
    assert problems(("  - name: weights\n", second + "  - name: weights\n")) == [
        "a.yaml:22:11: memories[2].kind: only the first memory may be a dram (got 'dram')"
    ]
    start, end = EDGE.index("  - name: dram"), EDGE.index("  - name: activations")
    assert problems((EDGE[start:end], "")) == [
        "a.yaml:9:11: memories[0].kind: the first memory must be the dram (got 'sram')"
    ]


def test_several_mistakes_are_told_together() -> None:
    assert problems(("size: 1GiB", "size: 1"), ("rows: 16", "rows: 0"), ("lanes: 16", "lines: 16")) == [
        "a.yaml:10:11: memories[0].size: missing unit; write e.g. 128KiB (got 1)",
        "a.yaml:42:9: array.rows: must be greater than or equal to 1 (got 0)",
        "a.yaml:50:9: vector.lanes: required key missing",
        "a.yaml:50:10: vector.lines: unknown key; did you mean 'lanes'? choices: lanes, pipeline_cycles",
    ]


# Energy ---------------------------------------------------------------------------------------------------------------


def test_mac_energy_recomputes_by_hand() -> None:
    energy = EnergyModel(load_architecture("pynq_z2"))  # 28 nm, taken as 32 nm, at 1.0 V
    at_45nm_09v = 1.103 * 0.81 - 0.362 * 0.9 + 0.2767
    at_32nm_09v = 0.9559 * 0.81 - 0.7823 * 0.9 + 0.471
    at_32nm_10v = 0.9559 - 0.7823 + 0.471
    product = 0.002994791667 * 256 + 0.001041666667 * 16
    assert product == pytest.approx(0.783, abs=5e-4)  # QKeras, 16 bit in 45 nm
    expected = (product + 0.003125 * 48) * at_32nm_10v / at_45nm_09v
    expected += 0.06 / 16 * 48 * at_32nm_10v / at_32nm_09v
    assert energy.mac_pj(16, 16, 48) == pytest.approx(expected, rel=1e-12)
    assert energy.vector_op_pj(16) == pytest.approx(0.05 * at_32nm_10v / at_45nm_09v, rel=1e-12)


def test_memory_energy_recomputes_by_hand() -> None:
    arch = load_architecture("pynq_z2")
    energy = EnergyModel(arch)
    scale = scale_energy(45, 0.9, 28, 1.0)
    read = 10 / 64 * (131072 / 8192) ** 0.4746 * 8 * scale
    assert energy.memory_pj_per_byte("weights", "read") == pytest.approx(read, rel=1e-12)
    assert energy.memory_pj_per_byte("weights", "write") == pytest.approx(read * 0.778, rel=1e-12)
    assert energy.memory_pj_per_byte("dram", "read") == 560
    assert energy.memory_pj_per_byte("dram", "write") == 560
    with pytest.raises(KeyError):
        energy.memory_pj_per_byte("cache", "read")


def at(text: str, technology: str) -> EnergyModel:
    return EnergyModel(load_yaml(Architecture, "a.yaml", text=text.replace("node_nm: 28, voltage_v: 0.9", technology)))


def test_unscaled_energies_are_those_of_the_source() -> None:
    energy = at(changed(("size: 64KiB", "size: 1MiB")), "node_nm: 45, voltage_v: 0.9")
    assert energy.memory_pj_per_byte("weights", "read") * 8 == pytest.approx(100, rel=1e-3)  # Horowitz: 1 MB, 64 bit
    assert energy.vector_op_pj(32) == pytest.approx(0.1)
    register = 0.06 / 16 * scale_energy(28, 0.9, 45, 0.9)
    assert energy.mac_pj(32, 32, 32) == pytest.approx(3.1 + 0.1 + 32 * register, rel=1e-3)


def test_sram_energy_stays_within_a_tenth_of_cacti_in_45nm() -> None:
    for size, pj_per_64bit in (("64KiB", 25.9), ("512KiB", 68.4)):
        energy = at(changed(("size: 64KiB", f"size: {size}")), "node_nm: 45, voltage_v: 0.9")
        assert energy.memory_pj_per_byte("weights", "read") * 8 == pytest.approx(pj_per_64bit, rel=0.1)


def test_energy_grows_with_size_width_voltage_and_node() -> None:
    sizes = [changed(("size: 64KiB", f"size: {kib}KiB")) for kib in (1, 8, 63, 64, 65, 1024)]
    reads = [at(text, "node_nm: 28, voltage_v: 0.9").memory_pj_per_byte("weights", "read") for text in sizes]
    assert reads == sorted(set(reads))
    energy = EnergyModel(load_architecture("edge_systolic_16"))
    macs = [energy.mac_pj(a, w, acc) for a, w, acc in ((4, 4, 24), (4, 8, 24), (8, 8, 24), (8, 8, 32), (16, 16, 48))]
    assert macs == sorted(set(macs))
    assert energy.mac_pj(4, 8, 24) == energy.mac_pj(8, 4, 24)
    volts = [at(EDGE, f"node_nm: 16, voltage_v: {volt}").mac_pj(16, 16, 48) for volt in (0.6, 0.7, 0.85, 1.0)]
    assert volts == sorted(set(volts))
    nodes = [scale_energy(45, 0.9, node, 0.9) for node in sorted(ENERGY_POLYNOMIALS)]
    assert nodes == sorted(set(nodes))


def test_dram_energy_never_scales() -> None:
    assert at(EDGE, "node_nm: 7, voltage_v: 0.7").memory_pj_per_byte("dram", "read") == 64
    assert at(EDGE, "node_nm: 65, voltage_v: 1.1").memory_pj_per_byte("dram", "read") == 64


def test_the_nearest_tabulated_node_stands_for_others() -> None:
    assert [nearest_node_nm(node) for node in (5, 12, 22, 28, 40, 45, 180)] == [7, 10, 20, 32, 45, 45, 130]
    assert scale_energy(45, 0.9, 45, 0.9) == 1


def test_scaling_notes_name_source_factor_and_stand_ins() -> None:
    notes = EnergyModel(load_architecture("pynq_z2")).scaling_notes()
    assert notes[0] == (
        "adder: Horowitz, ISSCC 2014, integer add, linear fit of QKeras qtools; "
        "x0.7634 from 45 nm 0.9 V to 28 nm 1 V (32 nm stands for 28 nm)"
    )
    assert notes[4] == "dram (ddr3): DDR3 row of the Accelergy CACTI plug-in (HWComponents-CACTI); not scaled"
    assert notes[-1].startswith("board: these are energies of dedicated circuits")
    assert not any(
        note.startswith("board") for note in EnergyModel(load_architecture("edge_systolic_16")).scaling_notes()
    )


# FPGA -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "inputs", "outputs", "low", "high"),
    [  # DPUCZDX8G, PG338: B512 to B4096
        (4, 8, 8, 66, 98),
        (4, 10, 10, 102, 142),
        (8, 8, 8, 130, 194),
        (4, 12, 12, 146, 194),
        (8, 10, 10, 202, 282),
        (8, 12, 12, 290, 386),
        (8, 14, 14, 394, 506),
        (8, 16, 16, 514, 642),
    ],
)
def test_dpu_dsp_blocks_are_exact(pixels: int, inputs: int, outputs: int, low: int, high: int) -> None:
    assert dpu_dsps(pixels, inputs, outputs, high=False) == low
    assert dpu_dsps(pixels, inputs, outputs, high=True) == high


def test_dsp_blocks_per_mac_follow_the_multiplier() -> None:
    assert [dsps(10, bits) for bits in (8, 9, 16, 18, 24, 32)] == [5, 10, 10, 10, 20, 40]
    assert [dsps(10, bits, "dsp48e1") for bits in (8, 16, 18, 32)] == [10, 10, 10, 40]
    assert dsps(3, 8) == 2


def test_bram_takes_the_best_aspect_ratio() -> None:
    assert bram36s(512, 72) == 1  # two BRAM18 of 512 x 36
    assert bram36s(1024, 36) == 1
    assert bram36s(1024, 18) == 1  # half of one
    assert bram36s(16384, 2) == 1
    assert bram36s(512, 36, double=True) == bram36s(1024, 36)
    assert bram36s(1024, 36, banks=2) == 1
    assert bram36s(512, 32, banks=4) == 2  # four BRAM18, mostly empty
    assert bram36s(4096, 64) == 8


def test_resources_are_the_sum_of_array_vector_unit_and_buffers() -> None:
    assert load_architecture("pynq_z2").fpga_resources() == Resources(
        dsp=16 * 8 + 16, bram36=bram36s(4096, 512) + bram36s(512, 2048) + bram36s(1024, 768) + bram36s(1024, 128)
    )


def test_boards_have_their_published_resources() -> None:
    rows = {name: load_board(name) for name in shipped_names("arch_configs/boards")}
    counts = {name: (row.lut, row.ff, row.bram36, row.uram, row.dsp) for name, row in rows.items()}
    assert counts == {
        "pynq_z2": (53_200, 106_400, 140, 0, 220),
        "ultra96_v2": (70_560, 141_120, 216, 0, 360),
        "zcu104": (230_400, 460_800, 312, 96, 1_728),
    }


def test_a_misfit_says_what_is_needed_and_what_is_there() -> None:
    assert misfits(Resources(221, 141), load_board("pynq_z2")) == [
        "needs 221 DSP, XC7Z020 has 220",
        "needs 141 BRAM36, XC7Z020 has 140",
    ]
