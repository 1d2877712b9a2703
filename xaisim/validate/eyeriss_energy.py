"""Section: energy on Eyeriss, published and counted: its authors' cost ratios, and AlexNet's joules by part."""

from __future__ import annotations

from typing import Literal

from xaisim.config import load_data
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.array import GridArray, grid_accesses
from xaisim.hardware.costs import EnergyModel
from xaisim.validate.eyeriss import BATCH, LAYERS, fold_of
from xaisim.validate.section import Cell, Section

# ISCA 2016: cost of moving a 16-bit word relative to a MAC; 0.5 kB of registers, a buffer of more than 100 kB.
RATIOS = {"registers": 1.0, "buffer": 6.0, "dram": 200.0}
# ISSCC 2016: 278 mW over 115.3 ms for four images, and the shares of the array, its network and the buffer.
CHIP_MJ = 278e-3 * 115.3
SHARES = {"array": 0.778, "network": 0.156, "buffer": 0.027}


def chip_as_built() -> Architecture:
    """Return the preset with sums of 16 bits, as the chip has them, and DRAM as the authors count it."""
    data = load_architecture("eyeriss").model_dump(mode="json")
    data["array"]["accumulator_bits"] = 16
    data["memories"][0]["energy"] = "generic"
    return load_data(Architecture, data)


def ratios(arch: Architecture) -> dict[str, float]:
    """Return our cost of a 16-bit word from 512 bytes of registers, the buffer and DRAM, relative to a MAC."""
    model, mac = EnergyModel(arch), EnergyModel(arch).mac_pj(16, 16, 16)
    buffer, dram = (2 * model.memory_pj_per_byte(name, "read") for name in ("global_buffer", "dram"))
    return {"registers": model.register_pj_per_bit(512) * 16 / mac, "buffer": buffer / mac, "dram": dram / mac}


def joules(arch: Architecture) -> dict[str, float]:
    """Return our millijoules of AlexNet's five layers, four images: elements with their registers, and the buffer."""
    model, array = EnergyModel(arch), arch.array
    assert isinstance(array, GridArray)
    per_mac = model.mac_pj(16, 16, 16) + model.register_files_pj(array, 16, 16)
    buffer = 0.0
    for layer in LAYERS:
        words = grid_accesses(array, layer.dims, stride=(layer.stride, layer.stride), fold=fold_of(layer))
        for name, count in words.items():
            direction: Literal["read", "write"] = "write" if name == "psum_writes" else "read"
            memory = "filters" if name == "weight_reads" else "global_buffer"
            buffer += layer.tiles * count * 2 * model.memory_pj_per_byte(memory, direction)
    return {"array": sum(layer.macs for layer in LAYERS) * per_mac * 1e-9, "buffer": buffer * 1e-9}


_TEXT = """
The authors' costs of moving a 16-bit word, relative to a MAC, beside those of our table in 65 nm at 1 V (sums of 16
bits, DRAM as in Horowitz 2014); then the measured energy of AlexNet's convolutions, {images} images, by part of the
chip. For the processing elements the model counts every product with its four accesses to register files. The chip's
share holds its clock tree and control as well, which we do not count; and the chip gates products with a zero input,
which saves 45 % of an element's power and which we do not do either. The buses have no coefficient here. So joules
compare architectures under one table; they are no estimate of a chip's power.
"""


def section() -> Section:
    """Return the ratios and the joules beside the published ones; none has to be equal."""
    arch = chip_as_built()
    ours, mj = ratios(arch), joules(arch)
    names = {
        "registers": "word of a 0.5 kB register file",
        "buffer": "word of the global buffer",
        "dram": "word of DRAM",
    }
    rows: list[tuple[Cell, ...]] = [(names[key], "x MAC", RATIOS[key], round(ours[key], 2)) for key in RATIOS]
    parts = {"array": "processing elements", "network": "buses", "buffer": "global buffer"}
    rows += [
        (parts[key], "mJ", round(share * CHIP_MJ, 2), round(mj[key], 2) if key in mj else None)
        for key, share in SHARES.items()
    ]
    counted = (SHARES["array"] + SHARES["buffer"]) * CHIP_MJ
    total = sum(mj.values())
    return Section(
        title="Eyeriss: energy by part",
        text=_TEXT.format(images=BATCH),
        columns=("what", "unit", "published", "ours"),
        rows=rows,
        source="Chen, Emer, Sze, ISCA 2016 (ratios); Chen, Krishna, Emer, Sze, ISSCC 2016, 14.5 (power and its shares)",
        verdict=f"array and buffer: {total:.1f} mJ counted of the {counted:.1f} mJ measured with clock and control",
    )
