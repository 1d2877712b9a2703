"""Memories as a user writes them: one DRAM outside, SRAM buffers on chip.

    Sram(name="weights", kind="sram", size="128KiB", holds=("weight",), bytes_per_cycle=256, buffers=2)

Operand classes are ``activation``, ``gradient``, ``weight``, ``psum`` (sums between array and vector unit) and ``mask``
(ReLU masks and pool indices).
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from xaisim.config import Bytes, Config, format_bytes

Operand = Literal["activation", "gradient", "weight", "psum", "mask"]
OPERANDS: tuple[Operand, ...] = get_args(Operand)


class Dram(Config):
    """The memory outside the chip: a bus with a bandwidth, a latency and a smallest burst.

    ``latency_cycles`` delays when a transfer's data is there; it does not occupy the bus. Every contiguous segment
    is rounded up to ``burst_bytes``. ``energy`` names a DRAM row of the cost table.
    """

    name: str = Field(min_length=1)
    kind: Literal["dram"]
    size: Bytes
    bytes_per_cycle: float = Field(gt=0)
    latency_cycles: int = Field(ge=0)
    burst_bytes: int = Field(ge=1)
    energy: str

    def __str__(self) -> str:
        rate = f"{self.bytes_per_cycle:g} B/cycle, latency {self.latency_cycles}, burst {self.burst_bytes} B"
        return f"{self.name}: {self.energy} {format_bytes(self.size)}, {rate}"


class Sram(Config):
    """A buffer on chip.

    ``size`` is the whole of it, both halves of a double buffer included. ``bytes_per_cycle`` is its port towards
    the array and the vector unit. ``buffers`` is the number of tiles in flight per operand (1: no double buffering).
    """

    name: str = Field(min_length=1)
    kind: Literal["sram"]
    size: Bytes
    holds: tuple[Operand, ...] = Field(min_length=1)
    bytes_per_cycle: float = Field(gt=0)
    buffers: int = Field(ge=1)

    def __str__(self) -> str:
        rate = f"{self.bytes_per_cycle:g} B/cycle, {self.buffers} buffer{'s' if self.buffers > 1 else ''}"
        return f"{self.name}: sram {format_bytes(self.size)}, {rate}, holds {' '.join(self.holds)}"


Memory = Annotated[Dram | Sram, Field(discriminator="kind")]
