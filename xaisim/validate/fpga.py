"""Section: DSP blocks of the DPUCZDX8G in all its sizes, as its product guide lists them and as we count them."""

from __future__ import annotations

from typing import NamedTuple

from xaisim.hardware.fpga import dpu_dsps
from xaisim.validate.section import Cell, Section


class Dpu(NamedTuple):
    """One size of the unit: its parallelism and the DSP blocks that the guide lists for low and high DSP usage."""

    name: str
    pixels: int
    inputs: int
    outputs: int
    low: int
    high: int


# PG338, DPUCZDX8G for Zynq UltraScale+ MPSoCs: the tables of architectures and of their resources
LISTED = (
    Dpu("B512", 4, 8, 8, 66, 98),
    Dpu("B800", 4, 10, 10, 102, 142),
    Dpu("B1024", 8, 8, 8, 130, 194),
    Dpu("B1152", 4, 12, 12, 146, 194),
    Dpu("B1600", 8, 10, 10, 202, 282),
    Dpu("B2304", 8, 12, 12, 290, 386),
    Dpu("B3136", 8, 14, 14, 394, 506),
    Dpu("B4096", 8, 16, 16, 514, 642),
)

_TEXT = """
Pixels × input channels × output channels products per cycle of 8 bits, two to a DSP48E2, at twice the clock; *high* DSP
usage adds in DSP blocks what *low* adds in logic.
"""


def section() -> Section:
    """Return the listed DSP blocks beside ours, all of which must be equal."""
    rows: list[tuple[Cell, ...]] = []
    equal = 0
    for dpu in LISTED:
        sizes = (dpu.pixels, dpu.inputs, dpu.outputs)
        low, high = dpu_dsps(*sizes, high=False), dpu_dsps(*sizes, high=True)
        equal += (low == dpu.low) + (high == dpu.high)
        rows.append((dpu.name, "×".join(map(str, sizes)), dpu.low, low, dpu.high, high))
    return Section(
        title="DSP blocks of an FPGA accelerator",
        text=_TEXT,
        columns=("size", "parallelism", "low, listed", "low, ours", "high, listed", "high, ours"),
        rows=rows,
        source="AMD PG338, DPUCZDX8G",
        verdict=f"{equal} of {2 * len(LISTED)} counts equal",
        exact=equal == 2 * len(LISTED),
    )
