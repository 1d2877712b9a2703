"""The MAC array: what a user writes, and closed forms for its cycles and operand words on one tile.

    systolic_cycles(array, M=256, K=256, N=128).total        # 10176 on 32x32, output stationary

A tile is ``dims``: extents of the loop nest N K C P Q R S, each an int or an int64 array (many tiles at once).
Sources: SCALE-Sim v2/v3 for serialised folds, ONNXim's ``systolic_ws`` for pipelined ones.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from xaisim.config import RuleError
from xaisim.hardware.array_base import AccumulatorPolicy, ArrayBase, FoldTerms, OneOrMore
from xaisim.hardware.grid import GridArray, GridFold, Stride, grid_accesses, grid_cycles, grid_fold
from xaisim.hardware.spatial import DIMS, Count, Dims, Spatial, ceil_div, larger

__all__ = [
    "DIMS", "AccumulatorPolicy", "Array", "Count", "Dims", "FoldTerms", "GridArray", "GridFold", "Spatial", "Stride",
    "SystolicArray", "UnrolledArray", "array_accesses", "array_cycles", "fold_terms", "gemm_of_conv", "grid_accesses",
    "grid_cycles", "grid_fold", "systolic_cycles", "unrolled_cycles",
]  # fmt: skip


class UnrolledArray(ArrayBase):
    """Multipliers and adder trees that unroll some loops fully and start an iteration of the others each interval.

    With an ``initiation_interval`` of more than one cycle an iteration takes turns on as many fewer multipliers.
    Of several unrollings the largest says how many there are; the others leave some idle.
    """

    kind: Literal["unrolled"]
    spatial: OneOrMore[Spatial]
    pipeline_cycles: int = Field(ge=0)
    initiation_interval: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check_spatial(self) -> UnrolledArray:
        rule = "an unrolled array has no sides: write unrollings such as {K: 16, C: 8}"
        problems = [(self.form_path(i), f"{rule} (got {form})") for i, form in enumerate(self.forms) if form.on_grid]
        if problems:
            raise RuleError(problems)
        return self

    @property
    def macs_per_cycle(self) -> int:
        """The number of multipliers of all arrays."""
        unrolled = max(math.prod(extent for _, extent in form.items()) for form in self.forms)
        return self.count * ceil_div(unrolled, self.initiation_interval)

    def __str__(self) -> str:
        interval = "" if self.initiation_interval == 1 else f", initiation interval {self.initiation_interval}"
        return f"{self.times}unrolled {self.forms_text}, pipeline {self.pipeline_cycles} cycles{interval}"


class SystolicArray(ArrayBase):
    """A grid of processing elements; operands move one element per cycle.

    ``drain``: an output-stationary fold also shifts its results out through the rows before the next one starts.
    Without it, results leave through a shadow register while the next fold streams. Of several dataflows, pipelined
    folds are those of ws, and the drain that of os.
    """

    form_key: ClassVar[str] = "dataflow"

    kind: Literal["systolic"]
    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    dataflow: OneOrMore[Literal["os", "ws", "is"]]
    folds: Literal["serialised", "pipelined"] = "serialised"
    drain: bool = False

    @model_validator(mode="after")
    def _check_modes(self) -> SystolicArray:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        got = " and ".join(repr(form) for form in self.forms)
        if self.folds == "pipelined" and "ws" not in self.forms:
            problems.append((("folds",), f"pipelined folds need dataflow ws (got dataflow {got})"))
        if self.drain and "os" not in self.forms:
            problems.append((("drain",), f"only dataflow os has a drain (got dataflow {got})"))
        if problems:
            raise RuleError(problems)
        return self

    @property
    def macs_per_cycle(self) -> int:
        """The number of processing elements of all arrays."""
        return self.count * self.rows * self.cols

    def in_form(self, form: Any) -> Self:
        """Return the array without the choice; folds are pipelined in ws alone, and only os has a drain."""
        folds = self.folds if form == "ws" else "serialised"
        return self.model_copy(update={"dataflow": form, "folds": folds, "drain": self.drain and form == "os"})

    def __str__(self) -> str:
        drain = ", drain" if self.drain else ""
        return f"{self.times}systolic {self.rows}x{self.cols} {self.forms_text}, folds {self.folds}{drain}"


Array = Annotated[UnrolledArray | SystolicArray | GridArray, Field(discriminator="kind")]


def gemm_of_conv(dims: Dims) -> tuple[Any, Any, Any]:
    """Return (M, K, N) of a convolution as a matrix product: output pixels, products per output, filters."""
    return dims["N"] * dims["P"] * dims["Q"], dims["C"] * dims["R"] * dims["S"], dims["K"]


def systolic_cycles(array: SystolicArray, M: Any, K: Any, N: Any) -> FoldTerms:
    """Return the cycles of the product M×K · K×N with operands always at hand, exact.

    Serialised folds: ⌈rows dim/R⌉·⌈cols dim/C⌉ folds of load + T + (R + C − 2) + drain. Pipelined (ws): weight
    tiles follow each other after max(M, 4, R) cycles, the first preload into an empty array costs 2R − 1 more.
    """
    rows, cols = array.rows, array.cols
    on_rows, on_cols, streamed = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[array.form]
    folds = ceil_div(on_rows, rows) * ceil_div(on_cols, cols)
    skew = rows + cols - 2
    if array.folds == "pipelined":
        stream = larger(streamed, 4)
        wait_for_preload = larger(stream, rows) - stream
        return FoldTerms(folds, folds * wait_for_preload + 2 * rows - 1, folds * stream, skew + 0 * folds, 0 * folds)
    load = 0 if array.form == "os" else rows
    drain = rows if array.drain else 0
    return FoldTerms(folds, folds * load, folds * streamed, folds * skew, folds * drain)


def unrolled_cycles(array: UnrolledArray, dims: Dims) -> Any:
    """Return one initiation interval per iteration of the loops that are left, plus the depth of the pipeline."""
    iterations: Any = 1
    for dim, extent in array.form.items():
        iterations = iterations * ceil_div(dims[dim], extent)
    return iterations * array.initiation_interval + array.pipeline_cycles


def array_cycles(array: Array, dims: Dims, *, stride: Stride = (1, 1)) -> Any:
    """Return the cycles that the chip's arrays, in their only form, need for one tile, operands always at hand.

    ``stride`` tells a grid how much of the input neighbouring outputs share; other arrays do not use that.
    """
    if isinstance(array, UnrolledArray):
        _, share = array.shares(dims)[0]  # the first has the largest
        return unrolled_cycles(array, share)
    return fold_terms(array, dims, stride=stride).total


def fold_terms(array: SystolicArray | GridArray, dims: Dims, *, stride: Stride = (1, 1)) -> FoldTerms:
    """Return what ``array_cycles`` of an array with folds (or passes) are spent on."""
    _, share = array.shares(dims)[0]
    if isinstance(array, GridArray):
        return grid_cycles(array, share, stride=stride)
    return systolic_cycles(array, *gemm_of_conv(share))


def array_accesses(array: Array, dims: Dims, *, accumulate: Any = False, stride: Stride = (1, 1)) -> dict[str, Any]:
    """Return the words that one tile reads and writes in on-chip memory: input, weight, psum reads, psum writes.

    ``accumulate`` (bool or array of bool): the tile adds to partial sums that earlier tiles left in memory.
    Lanes, rows and columns beyond the tile's edge read nothing.
    """
    words: dict[str, Any] = {}
    for number, share in array.shares(dims):
        for name, count in _accesses_of_one(array, share, accumulate, stride).items():
            words[name] = words.get(name, 0) + number * count
    return words


def _accesses_of_one(array: Array, dims: Dims, accumulate: Any, stride: Stride) -> dict[str, Any]:
    if isinstance(array, UnrolledArray):
        return _unrolled_accesses(array, dims, accumulate)
    if isinstance(array, GridArray):
        return grid_accesses(array, dims, accumulate, stride=stride)
    return _systolic_accesses(array, *gemm_of_conv(dims), accumulate)


def _unrolled_accesses(array: UnrolledArray, dims: Dims, accumulate: Any) -> dict[str, Any]:
    """Reduction loops run innermost with partial sums in registers; an operand is multicast to all its users."""
    repeats = {dim: ceil_div(dims[dim], extent) for dim, extent in array.form.items()}
    pixels = dims["N"] * dims["P"] * dims["Q"]
    products = dims["C"] * dims["R"] * dims["S"]
    outputs = pixels * dims["K"]
    return {
        "input_reads": pixels * products * repeats["K"],
        "weight_reads": products * dims["K"] * repeats["N"] * repeats["P"] * repeats["Q"],
        "psum_reads": outputs * accumulate,
        "psum_writes": outputs,
    }


def _systolic_accesses(array: SystolicArray, M: Any, K: Any, N: Any, accumulate: Any) -> dict[str, Any]:
    """The stationary operand is read once; a streamed one once per fold of the dimension that it lacks."""
    outputs = M * N
    if array.form == "os":
        inputs, weights, passes = M * K * ceil_div(N, array.cols), K * N * ceil_div(M, array.rows), 1
    elif array.form == "ws":
        inputs, weights, passes = M * K * ceil_div(N, array.cols), K * N, ceil_div(K, array.rows)
    else:
        inputs, weights, passes = M * K, K * N * ceil_div(M, array.cols), ceil_div(K, array.rows)
    return {
        "input_reads": inputs,
        "weight_reads": weights,
        "psum_reads": outputs * (passes - 1 + accumulate),
        "psum_writes": outputs * passes,
    }
