"""Section: the layers of ResNet18 as SCALE-Sim 3.0.0 simulated them, beside the closed form and the machine."""

from __future__ import annotations

from typing import NamedTuple

from xaisim.hardware.array import SystolicArray, systolic_cycles
from xaisim.validate.closed_forms import Conv, machine_cycles
from xaisim.validate.section import Cell, Section


class Run(NamedTuple):
    """Layers of one shape, and the "Total Cycles" that SCALE-Sim reported for each on a 32×32 array."""

    layers: str
    conv: Conv
    dataflow: str
    reported: int


_STEM = Conv(3, 229, 64, 7, 2)
_L1, _L2, _L3, _L4 = (Conv(c, side + 2, c, 3, 1) for c, side in ((64, 56), (128, 28), (256, 14), (512, 7)))
_D2, _D3, _D4 = (Conv(c, 2 * side + 1, 2 * c, 3, 2) for c, side in ((64, 28), (128, 14), (256, 7)))
_S2, _S3, _S4 = (Conv(c, 2 * side - 1, 2 * c, 1, 2) for c, side in ((64, 28), (128, 14), (256, 7)))
_HEAD = Conv(512, 1, 1000, 1, 1)

# As benchmarks/peers/run_scalesim.py prints them; layers of one shape were reported alike.
RUNS = (
    Run("conv1", _STEM, "ws", 126_379),
    Run("layer1.0.conv1, layer1.0.conv2, layer1.1.conv1, layer1.1.conv2", _L1, "ws", 116_279),
    Run("layer2.0.conv1", _D2, "ws", 63_215),
    Run("layer2.0.downsample.0", _S2, "ws", 7_023),
    Run("layer2.0.conv2, layer2.1.conv1, layer2.1.conv2", _L2, "ws", 126_431),
    Run("layer3.0.conv1", _D3, "ws", 83_519),
    Run("layer3.0.downsample.0", _S3, "ws", 9_279),
    Run("layer3.0.conv2, layer3.1.conv1, layer3.1.conv2", _L3, "ws", 167_039),
    Run("layer4.0.conv1", _D4, "ws", 164_735),
    Run("layer4.0.downsample.0", _S4, "ws", 18_303),
    Run("layer4.0.conv2, layer4.1.conv1, layer4.1.conv2", _L4, "ws", 329_471),
    Run("logits", _HEAD, "ws", 48_639),
    Run("layer2.0.downsample.0", _S2, "os", 12_599),
    Run("layer3.0.conv1", _D3, "os", 67_983),
    Run("layer3.0.downsample.0", _S3, "os", 10_639),
    Run("layer4.0.downsample.0", _S4, "os", 10_175),
    Run("logits", _HEAD, "os", 18_367),
    Run("layer2.0.downsample.0", _S2, "is", 11_099),
    Run("layer3.0.conv1", _D3, "is", 88_199),
    Run("layer3.0.downsample.0", _S3, "is", 9_799),
    Run("layer4.0.downsample.0", _S4, "is", 9_695),
    Run("logits", _HEAD, "is", 17_503),
)


def array_of(run: Run) -> SystolicArray:
    """Return the array of a run."""
    data = {"kind": "systolic", "rows": 32, "cols": 32, "dataflow": run.dataflow}
    return SystolicArray.model_validate({**data, "multiplier_bits": 16, "accumulator_bits": 48})


_TEXT = """
A full simulation by SCALE-Sim 3.0.0 (`python benchmarks/timing.py` runs it), with enough bandwidth that it never
stalls, all 21 layers weight stationary and five of them in the other dataflows. It reports the number of its last
cycle, counted from 0: one less than the cycles that have passed. Here cycles are compared; how fast either simulates
them is in benchmarks/README.md, as two ratios: our clock alone, and with mapping.
"""


def section() -> Section:
    """Return what SCALE-Sim reported beside our cycles, all of which must be one more."""
    rows: list[tuple[Cell, ...]] = []
    for run in RUNS:
        array = array_of(run)
        ours = int(systolic_cycles(array, *run.conv.gemm).total)
        shape = "×".join(map(str, run.conv.gemm))
        rows.append((run.layers, shape, run.dataflow, run.reported, ours, machine_cycles(run.conv, array)))
    equal = sum(row[3] + 1 == row[4] == row[5] for row in rows)  # type: ignore[operator] # numbers by construction
    return Section(
        title="ResNet18 in SCALE-Sim 3.0.0",
        text=_TEXT,
        columns=("layers", "M×K×N", "dataflow", "reported", "formula", "machine"),
        rows=rows,
        source="SCALE-Sim 3.0.0 from the Python package index, run on this project's layers",
        verdict=f"{equal} of {len(rows)} equal, cycle for cycle",
        exact=equal == len(rows),
    )
