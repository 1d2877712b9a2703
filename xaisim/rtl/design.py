"""What is generated: a systolic array, the number formats it works in, and the sizes of its counters and memory.

    design = Design(array, inputs=FixedPoint(8, 4), weights=FixedPoint(8, 6), outputs=FixedPoint(8, 4))
    design.extents(M=30, K=20, N=10)        # what the hardware counts: elements on rows, on columns, streamed

Weight and input stationary are one circuit: the operand that stays and the one that streams change places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xaisim.config import UserError, load_data
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import SystolicArray
from xaisim.hardware.memory import Sram
from xaisim.ir.types import FixedPoint

TERMS = ("load", "stream", "skew", "drain")
"""The terms of ``systolic_cycles``; the hardware counts the cycles of each."""

LEAST_SLOT = 4
"""Cycles after which a pipelined fold may follow the one before at the earliest; see ``systolic_cycles``."""


class Extents(NamedTuple):
    """A product as the controller counts it: elements along the rows and columns of the array, and streamed ones."""

    rows: int
    cols: int
    stream: int


@dataclass(frozen=True)
class Design:
    """One array in RTL. Raises ``UserError`` if its parts do not fit each other."""

    array: SystolicArray
    inputs: FixedPoint
    weights: FixedPoint
    outputs: FixedPoint
    shifts: tuple[int, int] = (0, 0)
    """The least and the most that ``shift`` may be: fraction bits of the sums less those of the outputs."""
    depth: int = 256
    """Sums per column that the accumulator memory holds: the longest stream over several row folds."""
    extent_bits: int = 16
    """Width of the counters of rows, columns and stream."""
    initial: bool = True
    """Sums start from a port (a bias, or earlier partial sums) instead of zero; see ``joins_late``."""
    lift: int = 0
    """The most bits that the sums of a filter are shifted left behind the array: weights with a scale per channel."""

    def __post_init__(self) -> None:
        if len(self.array.forms) > 1:
            choices = ", ".join(self.array.forms)
            raise UserError(f"dataflow: a circuit has one, the array lists several; name one of them: {choices}")
        width = self.array.multiplier_bits
        for name, format in (("inputs", self.inputs), ("weights", self.weights)):
            if format.bits > width:
                raise UserError(f"{name} {format}: may not be wider than multiplier_bits {width}")
        least, most = self.shifts
        if not -64 <= least <= most <= 128:
            raise UserError(f"shifts: must rise and lie between -64 and 128 (got {least} to {most})")
        if not 0 <= self.lift <= 62:
            raise UserError(f"lift: must lie between 0 and 62 (got {self.lift})")
        if self.depth < 1 or not 2 <= self.extent_bits <= 32:
            raise UserError(f"depth and extent_bits: must be at least 1 and 2 (got {self.depth}, {self.extent_bits})")

    @property
    def stationary(self) -> bool:
        """Whether an operand stays in the array: dataflows ws and is."""
        return self.array.dataflow != "os"

    @property
    def saturates(self) -> bool:
        """Whether sums are clamped, so that the order of addition counts."""
        return self.array.accumulator == "saturate"

    @property
    def joins_late(self) -> bool:
        """Whether first values join on the way out: behind a lift, and output stationary if the order is all the same.

        Output stationary sums that saturate start from one value per column, which is there with the operands.
        """
        return self.initial and (self.lift > 0 or not (self.stationary or self.saturates))

    @property
    def leaving_bits(self) -> int:
        """Width of a sum when it is requantised: as stored, or lifted and with its bias, in 64 bits at most."""
        stored = self.array.stored_sum_bits
        return min(64, stored + self.lift + self.initial) if self.lift else stored

    @property
    def first_bits(self) -> int:
        """Width of what a sum starts from."""
        return self.leaving_bits if self.lift else self.array.accumulator_bits

    @property
    def pipelined(self) -> bool:
        """Whether the weights of the next fold come in while this one streams."""
        return self.array.folds == "pipelined"

    @property
    def left(self) -> FixedPoint:
        """The operand that enters at the left and moves right."""
        return self.weights if self.array.dataflow == "is" else self.inputs

    @property
    def top(self) -> FixedPoint:
        """The operand that enters at the top: it moves down (os) or stays."""
        return self.inputs if self.array.dataflow == "is" else self.weights

    @property
    def skew(self) -> int:
        """Cycles from the first element of the array to the last one."""
        return self.array.rows + self.array.cols - 2

    @property
    def place_bits(self) -> int:
        """Width of a row, column or step number: one may lie beyond the last element by up to an array."""
        largest = max(1 << self.extent_bits, 2 * self.skew, LEAST_SLOT)
        return (largest + self.array.rows + self.array.cols).bit_length()

    def extents(self, M: int, K: int, N: int) -> Extents:
        """Return the product M×K · K×N as counted; raise ``UserError`` if it does not fit counters or memory."""
        extents = Extents(*{"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[self.array.form])
        if min(extents) < 1 or max(extents) >= 1 << self.extent_bits:
            raise UserError(f"M, K, N: must lie between 1 and {(1 << self.extent_bits) - 1} (got {M}, {K}, {N})")
        if self.stationary and extents.rows > self.array.rows and extents.stream > self.depth:
            text = f"{extents.stream} sums per column do not fit an accumulator memory of {self.depth}"
            raise UserError(f"M, K, N: {text} (got {M}, {K}, {N})")
        return extents

    def parameters(self) -> dict[str, Any]:
        """Return what was chosen, by name, for a person or a script."""
        array = self.array
        return {
            "rows": array.rows,
            "cols": array.cols,
            "dataflow": array.dataflow,
            "folds": array.folds,
            "drain": array.drain,
            "inputs": str(self.inputs),
            "weights": str(self.weights),
            "outputs": str(self.outputs),
            "rounding": self.outputs.rounding.value,
            "overflow": self.outputs.overflow.value,
            "accumulator": array.accumulator,
            "accumulator_bits": array.accumulator_bits,
            "psum_bits": array.stored_sum_bits,
            "shifts": list(self.shifts),
            "depth": self.depth if self.stationary else 0,
            "extent_bits": self.extent_bits,
            "initial": self.initial,
            "lift": self.lift,
        }


def design_of(
    arch: Architecture,
    *,
    formats: Mapping[str, FixedPoint] | None = None,
    depth: int | None = None,
    lift: int = 0,
    **changes: Any,
) -> Design:
    """Return the array of an architecture, with ``changes`` such as ``dataflow="ws"``; ``UserError`` if it has none.

    ``formats`` of inputs, weights and outputs are signed and as wide as the multipliers if not given. The accumulator
    memory is one buffer of the one that holds partial sums. Any shift that leaves a bit of a sum is possible.
    """
    if not isinstance(arch.array, SystolicArray):
        raise UserError(f"{arch.name}: RTL is made of systolic arrays (got array kind {arch.array.kind!r})")
    given = {name: value for name, value in changes.items() if value is not None}
    listed = dict(zip(arch.array.forms, arch.array.alternatives, strict=True))
    start = listed.get(given.get("dataflow"), arch.array)
    array = load_data(SystolicArray, {**start.model_dump(mode="json"), **given}, "options: array")
    if depth is None:
        memory = arch.memory_for("psum")
        buffer = memory.size // (memory.buffers if isinstance(memory, Sram) else 1)
        depth = max(1, 8 * buffer // (array.cols * array.stored_sum_bits))
    word = FixedPoint(array.multiplier_bits, 0)
    inputs, weights, outputs = ((formats or {}).get(name, word) for name in ("inputs", "weights", "outputs"))
    design = Design(array, inputs, weights, outputs, depth=depth, lift=lift)
    return replace(design, shifts=(0, design.leaving_bits - 1))
