"""Masks stored, spilled or computed again: what each costs a small network's saliency on the three FPGA boards.

python dse/recompute.py        prints the table of docs/mapping.md
"""

from __future__ import annotations

from dataclasses import dataclass

from xaisim.attribution.methods import METHODS
from xaisim.config import load_data
from xaisim.experiment import Experiment, prepare
from xaisim.hardware import Architecture
from xaisim.mapping.choice import GivenMapping, KernelMapping, MappingFile
from xaisim.mapping.remat import recomputable
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats
from xaisim.simulate.mapper import Wish
from xaisim.simulate.program import time_program

BOARDS = ("pynq_z2", "ultra96_v2", "zcu104")
SMALL = "4KiB"
"""A memory for masks in which the four masks of convolutions do not stay."""


@dataclass(frozen=True, slots=True)
class Case:
    """A way to have the masks."""

    name: str
    again: tuple[str, ...] | None = None
    """Ends of the names of what is computed again; None lets the mapper choose."""
    memory: str | None = None
    """Size of the memory for masks, if not the board's."""


CASES = (
    Case("all stored on the chip", ()),
    Case(f"{SMALL} for masks: spilled", (), SMALL),
    Case(f"{SMALL} for masks: the mapper's choice", None, SMALL),
    Case("first layer's mask again", ("relu1.positive",)),
    Case("masks of convolutions again", tuple(f"relu{i}.positive" for i in range(1, 5))),
    Case("all masks and indices again", ("positive", "pool_index")),
)


def row(board: str, case: Case) -> str:
    """Return a line of the table."""
    p = prepare(Experiment(model="cifar_cnn", method="saliency", arch=board), values=False)
    device = p.device(Formats(p.numerics), DryDevice)
    METHODS["saliency"].run(device, p.model.graph, p.sample.x, 0, **p.options)
    (launch,) = device.program
    arch = p.arch if case.memory is None else with_masks(p.arch, case.memory)
    names = None if case.again is None else [n for n in recomputable(launch.graph) if n.endswith(case.again)]
    kernel = KernelMapping(recompute=names, spill=[])  # what fits stays
    wish = Wish(given=GivenMapping(MappingFile(kernels={"gradient": kernel}), case.name))
    timing = time_program([launch], arch, wish)
    fates = timing.launches[0].schedule.fates
    moved = (timing.read_bytes[arch.dram.name] + timing.write_bytes[arch.dram.name]) / 2**20
    energy = sum(item.uj for item in timing.energy)
    return (
        f"| {board} | {case.name} | {fates.on_chip:,} | {fates.spilled:,} | {fates.recomputed:,} | "
        f"{timing.peak_bytes['masks']:,} | {moved:.2f} | {timing.macs / 1e6:.1f} | {timing.cycles:,} | {energy:,.0f} |"
    )


def with_masks(arch: Architecture, size: str) -> Architecture:
    """Return a machine with another memory for masks, and no board that it would have to fit."""
    data = arch.model_dump(mode="json") | {"board": None}
    for memory in data["memories"]:
        if memory["name"] == "masks":
            memory["size"] = size
    return load_data(Architecture, data)


def main() -> None:
    """Print the table."""
    print("| board | masks and indices | bits on chip | in DRAM | again | bytes of mask memory | DRAM MiB | M MAC "
          "| cycles | µJ |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for board in BOARDS:
        for case in CASES:
            print(row(board, case), flush=True)


if __name__ == "__main__":
    main()
