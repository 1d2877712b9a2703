"""FPGA resources: what an architecture needs, what a board has, and whether it fits.

    resources(arch)                      # Resources(dsp=144, bram36=119)
    load_board("pynq_z2").dsp            # 220

DSP and block-RAM counts follow the blocks' geometry (UG479, UG473, UG579, UG573); LUTs and flip-flops of the
control around them are not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from pydantic import Field

from xaisim.config import Config, find_named, load_yaml
from xaisim.hardware.array import Array, GridArray
from xaisim.hardware.memory import Sram

BRAM18_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
"""Depth and width in bits of half a BRAM36 (7 series UG473, UltraScale UG573)."""

LUT_RAM_WORDS = 64
"""Depth of a six-input LUT as RAM (7 series UG474, UltraScale UG574)."""

_MULTIPLIER_BITS = {"dsp48e1": (25, 18), "dsp48e2": (27, 18)}  # signed; UG479, UG579

DspKind = Literal["dsp48e1", "dsp48e2"]


class Board(Config):
    """What the FPGA of a board has."""

    device: str
    dsp_kind: DspKind
    lut: int = Field(ge=0)
    ff: int = Field(ge=0)
    bram36: int = Field(ge=0)
    uram: int = Field(ge=0)
    dsp: int = Field(ge=0)
    source: str


class Resources(NamedTuple):
    """What an architecture takes of an FPGA."""

    dsp: int
    bram36: int


class Vector(Protocol):
    """Anything with a number of lanes."""

    @property
    def lanes(self) -> int: ...


class Chip(Protocol):
    """The parts of an architecture that take FPGA resources."""

    @property
    def array(self) -> Array: ...
    @property
    def vector(self) -> Vector: ...
    @property
    def on_chip(self) -> Sequence[Sram]: ...


def load_board(name: str) -> Board:
    """Return a board of ``arch_configs/boards``; raise ``UserError`` with the choices for an unknown one."""
    return load_yaml(Board, find_named("arch_configs/boards", name, kind="board"))


def dsps(macs: int, bits: int, kind: DspKind = "dsp48e2") -> int:
    """Return the DSP blocks that do ``macs`` signed multiply-accumulates of ``bits`` × ``bits`` per cycle.

    A DSP48E2 does two of 8 bits or fewer that share an operand. Wider operands than the multiplier are split into
    pieces one bit narrower than its ports (the lower ones are unsigned): 32 bits take 2 × 2 blocks.
    """
    if bits <= 8 and kind == "dsp48e2":
        return -(-macs // 2)
    wide, narrow = _MULTIPLIER_BITS[kind]
    per_mac = -(-(bits - 1) // (wide - 1)) * -(-(bits - 1) // (narrow - 1))
    return macs * per_mac


def dpu_dsps(pixels: int, in_channels: int, out_channels: int, *, high: bool) -> int:
    """Return the DSP blocks of a DPUCZDX8G of the given parallelism, exact for all its sizes (PG338).

    Two 8-bit MACs per block at twice the clock, plus two blocks; ``high`` DSP usage adds the accumulators.
    """
    multipliers = dsps(pixels * in_channels * out_channels, 8) // 2
    return multipliers + 2 + (pixels * out_channels if high else 0)


def bram36s(depth: int, width_bits: int, *, banks: int = 1, double: bool = False) -> int:
    """Return the BRAM36 of a buffer of ``depth`` words: the best of B·⌈W/w⌉·⌈(D/B)/d⌉ over the BRAM18 shapes.

    ``double`` doubles the depth for a second buffer.
    """
    words = -(-depth * (2 if double else 1) // banks)
    return -(-banks * _bram18s(words, width_bits) // 2)


def _bram18s(depth: int, width_bits: int) -> int:
    """Return the halves of BRAM36 of a memory of one bank in the best of their shapes."""
    return min(-(-width_bits // width) * -(-depth // height) for height, width in BRAM18_SHAPES)


def register_bram36s(array: Array) -> int:
    """Return the BRAM36 of a grid's register files: half of one for each file too deep for a LUT RAM, 64 words."""
    if not isinstance(array, GridArray):
        return 0
    files, width = array.registers, array.multiplier_bits
    words = ((files.input, width), (files.weight, width), (files.psum, array.accumulator_bits))
    per_element = sum(_bram18s(depth, bits) for depth, bits in words if depth > LUT_RAM_WORDS)
    return -(-array.macs_per_cycle * per_element // 2)


def buffer_bram36s(memory: Sram) -> int:
    """Return the BRAM36 of an on-chip memory: a bank's port gives the width, its size (all buffers) the depth."""
    width_bytes, banks = int(-(-memory.bytes_per_cycle // 1)), memory.banks or 1
    return bram36s(banks * -(-memory.bank_bytes // width_bytes), width_bytes * 8, banks=banks)


def resources(chip: Chip, kind: DspKind = "dsp48e2") -> Resources:
    """Return the DSP blocks and BRAM36 of an architecture; a vector lane has a multiplier like the array's.

    Register files of a grid's elements count where they are block RAM.
    """
    multipliers = chip.array.macs_per_cycle
    bits = chip.array.multiplier_bits
    dsp = dsps(multipliers, bits, kind) + dsps(chip.vector.lanes, bits, kind)
    buffers = sum(buffer_bram36s(memory) for memory in chip.on_chip)
    return Resources(dsp, buffers + register_bram36s(chip.array))


def misfits(need: Resources, board: Board) -> list[str]:
    """Return one text per kind of block of which ``need`` takes more than the board has."""
    pairs = (("DSP", need.dsp, board.dsp), ("BRAM36", need.bram36, board.bram36))
    return [f"needs {wants} {name}, {board.device} has {has}" for name, wants, has in pairs if wants > has]
