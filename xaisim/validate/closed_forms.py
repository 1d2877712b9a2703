"""Section: closed forms of arrays as published, beside our formula and beside the machine on the clock.

``published_cycles`` counts fold by fold and tile by tile, as the sources say it, and shares nothing with
``hardware.array.systolic_cycles``.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np

from xaisim.attribution.device import Kernel
from xaisim.config import load_data
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.array import Array, SystolicArray, UnrolledArray, systolic_cycles, unrolled_cycles
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType
from xaisim.mapping.schedule import map_kernel
from xaisim.mapping.tiles import Unit
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats, Numerics
from xaisim.simulate.clock import run_loop
from xaisim.validate.section import Cell, Section


class Conv(NamedTuple):
    """A convolution without padding: input C·H·H, K filters of R·R."""

    C: int
    H: int
    K: int
    R: int
    stride: int

    @property
    def side(self) -> int:
        """Rows and columns of the output."""
        return (self.H - self.R) // self.stride + 1

    @property
    def gemm(self) -> tuple[int, int, int]:
        """M, K, N of the product M×K · K×N."""
        return self.side**2, self.C * self.R**2, self.K


class Case(NamedTuple):
    """A product on an array, and its cycles where a source prints them."""

    name: str
    conv: Conv
    rows: int
    cols: int
    dataflow: str
    folds: str = "serialised"
    drain: bool = False
    printed: int | None = None


_GEMM = Conv(256, 16, 128, 1, 1)  # M 256, K 256, N 128
_ALEXNET = Conv(3, 227, 96, 11, 4)  # conv1: M 3025, K 363, N 96
_ODD = Conv(37, 9, 45, 3, 2)  # M 16, K 333, N 45: no dimension fills the array

CASES = (
    Case("256×256 · 256×128", _GEMM, 32, 32, "os", printed=10_176),
    Case("256×256 · 256×128", _GEMM, 32, 32, "os", drain=True),
    Case("256×256 · 256×128", _GEMM, 32, 32, "ws", printed=11_200),
    Case("256×256 · 256×128", _GEMM, 32, 32, "is", printed=14_208),
    Case("256×256 · 256×128", _GEMM, 32, 32, "ws", "pipelined"),
    Case("AlexNet conv1", _ALEXNET, 32, 32, "ws", printed=112_284),
    Case("AlexNet conv1", _ALEXNET, 32, 32, "ws", "pipelined"),
    Case("AlexNet conv1", _ALEXNET, 12, 14, "os"),
    Case("16×333 · 333×45", _ODD, 32, 16, "os"),
    Case("16×333 · 333×45", _ODD, 32, 16, "os", drain=True),
    Case("16×333 · 333×45", _ODD, 32, 16, "ws"),
    Case("16×333 · 333×45", _ODD, 32, 16, "is"),
    Case("16×333 · 333×45", _ODD, 16, 32, "ws", "pipelined"),
    Case("16×333 · 333×45", _ODD, 8, 8, "ws", "pipelined"),
)


def published_cycles(case: Case) -> int:
    """Count cycles as the sources do: SCALE-Sim fold by fold, ONNXim weight tile by weight tile."""
    M, K, N = case.conv.gemm
    H, W = case.rows, case.cols
    if case.folds == "pipelined":
        starts = [2 * H - 1]  # the first preload into an empty array
        for _ in range(math.ceil(K / H) * math.ceil(N / W) - 1):
            starts.append(starts[-1] + max(M, 4, H))  # each tile needs its own preload
        return starts[-1] + H + W - 2 + max(M, 4)
    on_rows, on_cols, streamed = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[case.dataflow]
    now = 0
    for _ in range(math.ceil(on_rows / H)):
        for _ in range(math.ceil(on_cols / W)):
            now += (H if case.dataflow != "os" else 0) + streamed + (H + W - 2) + (H if case.drain else 0)
    return now


def array_of(case: Case) -> SystolicArray:
    """Return the array of a case."""
    return SystolicArray.model_validate({
        "kind": "systolic", "rows": case.rows, "cols": case.cols, "dataflow": case.dataflow, "folds": case.folds,
        "drain": case.drain, "multiplier_bits": 16, "accumulator_bits": 48,
    })  # fmt: skip


def roomy_architecture(array: Array) -> Architecture:
    """Return a machine around an array that nothing holds up: every port is wide enough, and one tile holds it all.

    A transfer moves a whole MiB, so the mapper gains nothing by cutting the product into tiles.
    """
    data = load_architecture("edge_systolic_32").model_dump(mode="json")
    for memory in data["memories"]:
        memory["bytes_per_cycle"] = 1 << 20
        memory["size"] = "1GiB"
    data["memories"][0]["burst_bytes"] = 1 << 20
    data["array"] = array.model_dump(mode="json")
    data["dma"]["issue_cycles"] = 0
    data["vector"] = {"lanes": 1 << 20, "pipeline_cycles": 0}
    return load_data(Architecture, {**data, "name": "roomy"})


def conv_graph(conv: Conv) -> Graph:
    """Return the convolution in 16 bits as the machine runs it."""
    builder = GraphBuilder()
    x = builder.input("input", TensorType((conv.C, conv.H, conv.H)))
    w = builder.constant("w", None, TensorType((conv.K, conv.C, conv.R, conv.R)))
    builder.layer = "conv"
    builder.add("conv", "conv", x, w, stride=(conv.stride,) * 2, padding=(0, 0, 0, 0))
    device = DryDevice(Formats(Numerics()), accumulator_bits=48)
    device.launch(Kernel("forward", builder.build("conv")), {"input": np.zeros((1, conv.C, conv.H, conv.H))})
    return device.program[0].graph


def machine_cycles(conv: Conv, array: Array) -> int:
    """Return the cycles that the array is busy when the product is mapped, lowered and run on the clock."""
    schedule = map_kernel(conv_graph(conv), roomy_architecture(array))
    return int(run_loop(schedule.tiles, 1).busy[Unit.ARRAY])


# Timeloop's eyeriss_like exercise: 3 input channels, 3 filter rows and 14 output columns side by side on 12 x 14
# elements, so 126 of 168 work; it reports 10,838,016 products and 86,016 cycles.
_TIMELOOP = Conv(3, 225, 32, 3, 2)
_TIMELOOP_CYCLES = 86_016


def _timeloop_row() -> tuple[Cell, ...]:
    """Return the unrolled array: one cycle per step of the loops that are left."""
    array = UnrolledArray.model_validate({
        "kind": "unrolled", "spatial": {"C": 3, "R": 3, "Q": 14}, "pipeline_cycles": 0, "multiplier_bits": 16,
        "accumulator_bits": 48,
    })  # fmt: skip
    side, conv = _TIMELOOP.side, _TIMELOOP
    counted = sum(1 for _ in product(range(conv.K), range(side), range(0, side, 14), range(conv.R)))
    dims = {"N": 1, "K": conv.K, "C": conv.C, "P": side, "Q": side, "R": conv.R, "S": conv.R}
    ours = int(unrolled_cycles(array, dims))
    return "eyeriss_like", "C3 R3 Q14", "unrolled", _TIMELOOP_CYCLES, counted, ours, machine_cycles(conv, array)


_TEXT = """
A product M×K · K×N on one array, operands always at hand. *Published* counts fold by fold (SCALE-Sim: load, stream,
skew and, where the paper has it and the code does not, an output-stationary drain) or weight tile by weight tile
(ONNXim's pipelined `systolic_ws`, whose authors report 0.23 % against Gemmini's RTL); *printed* is a figure that the
source itself states. *Formula* is `systolic_cycles`; *machine* is how long the array is busy when the product is
mapped to one tile, lowered to rows and run on the clock. With fewer than `rows` pixels per pipelined tile our formula
charges the last tile like all others, max(M, 4, rows) cycles; ONNXim's ends rows − max(M, 4) cycles earlier. The last
line is an unrolled array: Timeloop's `eyeriss_like` exercise, a step of the loops that are left per cycle.
"""


def section() -> Section:
    """Return published cycles beside the formula's and the machine's, all of which must be equal."""
    rows: list[tuple[Cell, ...]] = []
    for case in CASES:
        array = array_of(case)
        ours = int(systolic_cycles(array, *case.conv.gemm).total)
        folds = case.folds + (", drain" if case.drain else "")
        shape = f"{case.rows}×{case.cols} {case.dataflow}"
        machine = machine_cycles(case.conv, array)
        rows.append((case.name, shape, folds, case.printed, published_cycles(case), ours, machine))
    rows.append(_timeloop_row())
    equal = sum(set(row[3:]) - {None} == {row[4]} for row in rows)
    return Section(
        title="Closed forms of arrays",
        text=_TEXT,
        columns=("product", "array", "folds", "printed", "published", "formula", "machine"),
        rows=rows,
        source="SCALE-Sim v2/v3 (Samajdar et al., ISPASS 2020; Raj et al., 2025), ONNXim (Ham et al., CAL 2024), "
        "Timeloop (Parashar et al., ISPASS 2019)",
        verdict=f"{equal} of {len(rows)} equal, cycle for cycle",
        exact=equal == len(rows),
    )
