"""A grid of processing elements with register files, such as Eyeriss: row-stationary folding and its closed forms.

    fold = grid_fold(array, dims)                 # where every loop of a tile runs
    grid_cycles(array, dims, fold=fold).stream    # cycles of all passes by cause: load, skew, stream, drain

A processing element slides a piece of a filter row over a row of the input (Chen, Emer and Sze, ISCA 2016).
Eyeriss' mapping parameters are p = held K, q = held C, r = places of C, t = places of K, e = places of P; m and n are
the K and N of a tile.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from xaisim.config import Config, RuleError
from xaisim.hardware.array_base import ArrayBase, FoldTerms, OneOrMore
from xaisim.hardware.spatial import DIMS, Dims, Spatial, ceil_div, larger, smaller

Stride = tuple[int, int]
"""Input rows and columns from one output to the next."""


class PerOperand(Config):
    """A number of words for each operand."""

    input: int = Field(ge=1)
    weight: int = Field(ge=1)
    psum: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.input} input {self.weight} weight {self.psum} psum"


class GridArray(ArrayBase):
    """Processing elements in rows and columns, each with ``registers`` for a window, its weights and its sums.

    ``words_per_cycle``: what the buses between on-chip memory and the grid carry; one word reaches all that need it.
    """

    kind: Literal["grid"]
    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    spatial: OneOrMore[Spatial]
    registers: PerOperand
    words_per_cycle: PerOperand
    pipeline_cycles: int = Field(ge=0)

    @model_validator(mode="after")
    def _check_spatial(self) -> GridArray:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        for index, form in enumerate(self.forms):
            at = self.form_path(index)
            if not form.on_grid:
                text = f"a grid needs what lies along its sides: rows: [...] and cols: [...] (got {form})"
                problems.append((at, text))
            for side in ("rows", "cols"):
                asked, there = [one.most or 1 for one in form.side(side)], getattr(self, side)
                if math.prod(asked) > there:
                    listed = " ".join(getattr(form, side))
                    text = f"{listed} take {math.prod(asked)} places, the grid has {there} {side}"
                    problems.append(((*at, side), text))
        if self.accumulator == "saturate":
            text = "the order of addition in a grid is not modelled; choices: proven, wrap (got 'saturate')"
            problems.append((("accumulator",), text))
        if problems:
            raise RuleError(problems)
        return self

    @property
    def macs_per_cycle(self) -> int:
        """The number of processing elements of all arrays."""
        return self.count * self.rows * self.cols

    def __str__(self) -> str:
        return f"{self.times}grid {self.rows}x{self.cols}, {self.forms_text}, registers {self.registers}"


class GridFold(NamedTuple):
    """Where each loop of a tile runs: over places of the grid, within an element, and in passes one after another."""

    places: dict[str, Any]
    held: dict[str, Any]
    passes: dict[str, Any]

    @property
    def active(self) -> Any:
        """The processing elements that work in a full pass."""
        return _product(self.places.values())

    def __str__(self) -> str:
        parts = (("places", self.places), ("held", self.held), ("passes", self.passes))
        return ", ".join(
            f"{name} {' '.join(f'{dim}{count}' for dim, count in part.items() if count > 1) or 'scalar'}"
            for name, part in parts
        )

    def covers(self, dims: Dims) -> dict[str, Any]:
        """Return the part of each loop that a full pass does."""
        return {dim: smaller(self.places[dim] * self.held[dim], dims[dim]) for dim in DIMS}


def grid_fold(array: GridArray, dims: Dims) -> GridFold:
    """Return how a tile is folded: places as ``Spatial`` says, then as much in every element as its registers hold.

    An element sweeps all its images (N) and output columns (Q). Its window holds s columns of q channels, q as many
    as fit; then p filters, as many as weights and sums fit. K, C and S are cut into equal parts of at most that.
    """
    places = _places(array, dims)
    share = {dim: ceil_div(dims[dim], places[dim]) for dim in DIMS}
    most = array.registers
    s = _equal_parts(share["S"], min(most.input, most.weight))
    q = _equal_parts(share["C"], min(most.input, most.weight) // s)
    p = _equal_parts(share["K"], smaller(most.weight // (q * s), most.psum))
    held = {"N": share["N"], "K": p, "C": q, "P": 1, "Q": share["Q"], "R": 1, "S": s}
    return GridFold(places, held, {dim: ceil_div(share[dim], held[dim]) for dim in DIMS})


def _places(array: GridArray, dims: Dims) -> dict[str, Any]:
    """Return the places of each loop: first what lies along the sides, then what replicates it."""
    places: dict[str, Any] = dict.fromkeys(DIMS, 1)
    left: dict[str, Any] = {"rows": array.rows, "cols": array.cols}
    sides = {side: array.form.side(side) for side in left}
    first = [(side, listed[0]) for side, listed in sides.items() if listed]
    others = [(side, one) for side, listed in sides.items() for one in listed[1:]]
    for side, (dim, most) in first + others:
        wanted = larger(ceil_div(dims[dim], places[dim]), 1)
        here = smaller(wanted, left[side] if most is None else smaller(left[side], most))
        places[dim] = places[dim] * here
        left[side] = left[side] // here
    share = {dim: larger(ceil_div(dims[dim], count), 1) for dim, count in places.items()}
    return {dim: larger(ceil_div(dims[dim], share[dim]), 1) for dim in DIMS}  # equal shares leave no place empty


def _equal_parts(extent: Any, most: Any) -> Any:
    """Return the size of the fewest equal parts of ``extent`` that are no larger than ``most``; at least 1."""
    return larger(ceil_div(extent, larger(ceil_div(extent, larger(most, 1)), 1)), 1)


def grid_cycles(array: GridArray, dims: Dims, *, stride: Stride = (1, 1), fold: GridFold | None = None) -> FoldTerms:
    """Return the cycles of all passes of a tile by cause, as if every pass were full: it is configured once.

    A pass loads its weights, waits for the first window of every element (skew), streams, and drains the last sums
    up the chain of elements that add to one output. While it streams, an element does one product per cycle and the
    buses bring the other inputs and take earlier sums off; the slowest of these sets the pace.
    """
    fold = fold or grid_fold(array, dims)
    one, bus = fold.covers(dims), array.words_per_cycle
    input_rows, input_cols = reach(one["P"], one["R"], stride[0]), reach(one["Q"], one["S"], stride[1])
    inputs = one["N"] * one["C"] * input_rows * input_cols
    images, columns = fold.places["N"], fold.places["Q"]
    window_cols = reach(columns, one["S"], fold.held["Q"] * stride[1])
    windows = images * one["C"] * input_rows * window_cols
    sums, last_sums = (one["K"] * one["P"] * pixels for pixels in (one["N"] * one["Q"], images * columns))
    load = ceil_div(one["K"] * one["C"] * one["R"] * one["S"], bus.weight)
    skew = ceil_div(windows, bus.input)
    stream = larger(
        _product(fold.held.values()),
        larger(ceil_div(inputs - windows, bus.input), ceil_div(sums - last_sums, bus.psum)),
    )
    chain = fold.places["C"] * fold.places["R"] * fold.places["S"] - 1
    drain = ceil_div(last_sums, bus.psum) + chain + array.pipeline_cycles
    passes = _product(fold.passes.values())
    return FoldTerms(passes, passes * load, passes * stream, passes * skew, passes * drain)


def grid_accesses(
    array: GridArray, dims: Dims, accumulate: Any = False, *, stride: Stride = (1, 1), fold: GridFold | None = None
) -> dict[str, Any]:
    """Return the words that a tile reads and writes in on-chip memory, each once per pass that needs it.

    Sums go to memory after every pass and come back for the next one over C, R or S.
    """
    fold = fold or grid_fold(array, dims)
    one, passes = fold.covers(dims), fold.passes
    strips, output_rows = passes["P"], dims["P"]
    rows = strips * dims["R"] + (output_rows - strips) * _advance(dims["R"], one["R"], stride[0])
    columns = dims["S"] + (dims["Q"] - 1) * _advance(dims["S"], one["S"], stride[1])
    outputs = dims["N"] * dims["K"] * dims["P"] * dims["Q"]
    sums = passes["C"] * passes["R"] * passes["S"]
    return {
        "input_reads": dims["N"] * dims["C"] * rows * columns * passes["K"],
        "weight_reads": dims["K"] * dims["C"] * dims["R"] * dims["S"] * strips,
        "psum_reads": outputs * (sums - 1 + accumulate),
        "psum_writes": outputs * sums,
    }


def reach(outputs: Any, size: Any, stride: Any) -> Any:
    """Return the different input elements along an axis that ``outputs`` windows of ``size`` touch."""
    return size + (outputs - 1) * smaller(size, stride)


def _advance(extent: Any, part: Any, stride: int) -> Any:
    """Return the new input elements of one more output, summed over the parts that a filter axis is cut into."""
    full = extent // part
    return full * smaller(part, stride) + smaller(extent - full * part, stride)


def _product(factors: Any) -> Any:
    total: Any = 1
    for factor in factors:
        total = total * factor
    return total
