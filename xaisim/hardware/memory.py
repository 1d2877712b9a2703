"""Memories as a user writes them: one DRAM outside (``hardware/dram.py``), SRAM buffers on chip.

    Sram(name="weights", kind="sram", size="128KiB", holds=("weight",), bytes_per_cycle=256, buffers=2)

Operand classes are ``activation``, ``gradient``, ``weight``, ``psum`` (sums between array and vector unit) and ``mask``
(ReLU masks and pool indices).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, model_validator

from xaisim.config import Bytes, Config, RuleError, format_bytes
from xaisim.hardware.dram import Dram

Operand = Literal["activation", "gradient", "weight", "psum", "mask"]
OPERANDS: tuple[Operand, ...] = get_args(Operand)


class Sram(Config):
    """A buffer on chip.

    ``size`` is the whole of it, both halves of a double buffer included. ``bytes_per_cycle`` is its port towards
    the array and the vector unit. ``buffers`` is the number of tiles in flight per operand (1: no double buffering).

    ``banks``: the memory lies in so many equal ranges, a power of two, each with ``ports`` ports of that width: one
    that reads and one that writes, or one for both. Units that need the same port take turns. Without it every unit has
    its own port.

    ``word_bits``: elements lie in words of that width, which hold whole elements only and are read and written as a
    whole; wider elements take several. Without it elements are packed.
    """

    name: str = Field(min_length=1)
    kind: Literal["sram"]
    size: Bytes
    holds: tuple[Operand, ...] = Field(min_length=1)
    bytes_per_cycle: float = Field(gt=0)
    buffers: int = Field(ge=1, le=1024)
    banks: int | None = Field(default=None, ge=1, le=1024)
    ports: Literal[1, 2] = 2
    word_bits: int | None = Field(default=None, ge=1, le=65536)

    @model_validator(mode="after")
    def _check_banks(self) -> Sram:
        if self.banks is None and self.ports == 1:
            raise RuleError([(("ports",), "ports are those of a bank; give banks, too (got 1)")])
        if self.banks is not None and self.banks & (self.banks - 1):
            near = 1 << self.banks.bit_length()
            text = f"must be a power of two, such as {near // 2} or {near} (got {self.banks})"
            raise RuleError([(("banks",), text)])
        if self.banks is not None and self.size % self.banks:
            text = f"must divide the size of {self.size} bytes into equal banks (got {self.banks})"
            raise RuleError([(("banks",), text)])
        return self

    @property
    def bank_bytes(self) -> int:
        """The size of a bank; of the whole memory if it is not divided."""
        return self.size // (self.banks or 1)

    def stored_bytes(self, elements: Any, bits: Any) -> Any:
        """Return the bytes that move when ``elements`` of so many bits, side by side, are read or written."""
        if self.word_bits is None:
            return elements * bits / 8
        words = -(-elements // np.maximum(1, self.word_bits // bits)) * -(-bits // self.word_bits)
        return words * self.word_bits / 8

    def __str__(self) -> str:
        rate = f"{self.bytes_per_cycle:g} B/cycle, {self.buffers} buffer{'s' if self.buffers > 1 else ''}"
        banks = "" if self.banks is None else f", {self.banks} bank{'s' if self.banks > 1 else ''} of {self.ports} port"
        banks += "s" if self.banks is not None and self.ports > 1 else ""
        words = "" if self.word_bits is None else f", words of {self.word_bits} bits"
        return f"{self.name}: sram {format_bytes(self.size)}, {rate}{banks}{words}, holds {' '.join(self.holds)}"


Memory = Annotated[Dram | Sram, Field(discriminator="kind")]
