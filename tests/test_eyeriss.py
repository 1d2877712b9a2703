"""Does the model of Eyeriss keep to what is known of the chip: its sizes, its products, its time and its traffic?"""

from __future__ import annotations

from typing import Any

import pytest

from xaisim.config import load_data
from xaisim.hardware import Architecture, load_architecture
from xaisim.hardware.cost_table import load_costs, scale_energy
from xaisim.validate import eyeriss, eyeriss_energy
from xaisim.validate.eyeriss import LAYERS, LIKE_CONV4, Layer, error_of, fold_of, run_layer

ARCH = load_architecture("eyeriss")
EVERY = pytest.mark.parametrize("layer", [*LAYERS, LIKE_CONV4], ids=lambda layer: layer.name)


def changed(**array: Any) -> Architecture:
    data = ARCH.model_dump(mode="json")
    return load_data(Architecture, data | {"array": data["array"] | array})


def test_the_layers_have_the_published_products() -> None:
    assert [round(layer.macs / 1e9, 2) for layer in LAYERS] == [0.42, 0.90, 0.60, 0.45, 0.30]
    assert sum(layer.macs for layer in LAYERS) == 4 * 665_784_864  # 666 million an image


@EVERY
def test_a_published_fold_fits_the_chip(layer: Layer) -> None:
    fold, files = fold_of(layer), ARCH.array.registers  # type: ignore[union-attr]
    held, places = fold.held, fold.places
    assert held["K"] * held["C"] * held["S"] <= files.weight == 224
    assert held["C"] * held["S"] <= files.input == 12
    assert held["K"] <= files.psum == 24
    strips = -(-places["P"] // 14)
    across, down = (1, 12 // (layer.size * strips)) if strips > 1 else (14 // places["P"], 12 // layer.size)
    assert places["C"] * places["K"] <= across * down
    assert layer.filters % layer.mapping.m == 0
    assert eyeriss.BATCH % layer.mapping.n == 0
    for dim, extent in layer.dims.items():
        assert places[dim] * held[dim] * fold.passes[dim] >= extent


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_layer_takes_the_chips_time_within_seven_per_cent(layer: Layer) -> None:
    run = run_layer(layer, ARCH)
    assert abs(error_of(layer, run)) < 7
    assert run.fold.active == layer.chip_active
    assert layer.macs / (layer.chip_active * layer.chip_ms * 200e3) == pytest.approx(layer.chip_utilisation, abs=0.005)
    assert run.utilisation == pytest.approx(layer.chip_utilisation, abs=0.06)


@pytest.mark.parametrize("layer", [*LAYERS[:2], LIKE_CONV4, *LAYERS[3:]], ids=lambda layer: layer.name)
def test_a_layer_moves_the_chips_megabytes_within_three_per_cent(layer: Layer) -> None:
    assert run_layer(layer, ARCH).buffer_mb == pytest.approx(layer.chip_buffer_mb, rel=0.03)


def test_the_section_says_what_it_found() -> None:
    found = eyeriss.section()
    assert found.exact
    assert found.verdict.startswith(
        "closed form: processing time 3.0 % off on average over five layers, +6.3 % at worst, -0.7 %"
    )
    assert [row[0] for row in found.rows] == [*("CONV1", "CONV2", "CONV3"), LIKE_CONV4.name, *("CONV4", "CONV5")]
    for row in found.rows:
        assert sum(row[2:6]) == row[6]  # type: ignore[arg-type]
    column = found.columns.index("its error, %")
    for layer, row in zip(LAYERS[:3], found.rows[:3], strict=True):
        assert row[column] == round(100 * (run_layer(layer, ARCH).utilisation / layer.chip_utilisation - 1), 1)
    assert found.scatter is not None
    assert list(found.scatter.names) == [layer.name for layer in LAYERS]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_clocked_tile_is_the_closed_form_with_the_arrays_own_fold(layer: Layer) -> None:
    machine = eyeriss.machine_tile(layer, ARCH)
    assert machine.clocked == machine.formula


@pytest.mark.parametrize(
    "change",
    [
        {"words_per_cycle": {"input": 1, "weight": 1, "psum": 4}},
        {"words_per_cycle": {"input": 1, "weight": 4, "psum": 2}},
        {"pipeline_cycles": 1000},
    ],
)
def test_another_chip_would_be_off(change: dict[str, Any]) -> None:
    errors = [error_of(layer, run_layer(layer, changed(**change))) for layer in LAYERS]
    assert max(errors) > 12


def test_timeloops_layer_takes_its_cycles() -> None:
    assert eyeriss.timeloop_cycles(ARCH) == 86_016


def test_the_energy_section_counts_what_the_tables_say() -> None:
    found = {row[0]: row[3] for row in eyeriss_energy.section().rows}
    table, to_65nm = load_costs("asic_45nm"), scale_energy(45, 0.9, 65, 1.0)
    adder, product = table.adder.pj_per_bit * 16, table.multiplier.pj_per_bit2 * 256 + table.multiplier.pj_per_bit * 16
    file_byte = 0.06 / 16 / 32 * scale_energy(28, 0.9, 65, 1.0)  # pJ per bit moved and byte of the file
    mac = (adder + product) * to_65nm + 16 * 32 * file_byte
    assert found["word of a 0.5 kB register file"] == round(16 * 512 * file_byte / mac, 2)
    assert found["word of DRAM"] == round(16 * 20 / mac, 2)
    files = 16 * (24 + 448 + 2 * 48) * file_byte
    macs = 4 * 665_784_864
    assert found["processing elements"] == round(macs * (mac + files) * 1e-9, 2)
    words = sum(layer.chip_buffer_mb for layer in [*LAYERS[:2], LIKE_CONV4, *LAYERS[3:]]) / 2  # measured, 10^6
    word = 16 * 10 / 64 * (100 / 8) ** 0.4746 * to_65nm
    assert 0.8 < found["global buffer"] / (words * word * 1e-3) < 1.2  # type: ignore[operator]
    assert found["buses"] is None
