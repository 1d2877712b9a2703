"""The accelerator as a user writes it: memories outermost first, MAC array, vector unit, DMA, control, technology.

    arch = load_architecture("pynq_z2")        # a shipped name or a path
    arch.memory_for("weight").size             # bytes
    print(describe(arch))

Everything that is wrong in a file is told at once, with its line (see ``xaisim.config``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, model_validator

from xaisim.changes import changed, parted
from xaisim.config import (
    Config,
    RuleError,
    UserError,
    did_you_mean,
    find_named,
    format_bytes,
    load_data,
    load_yaml,
)
from xaisim.hardware.array import Array
from xaisim.hardware.cost_table import Technology, load_costs
from xaisim.hardware.dram import Dram, DramPort
from xaisim.hardware.fpga import Resources, load_board, misfits, resources
from xaisim.hardware.memory import OPERANDS, Memory, Operand, Sram

Problems = list[tuple[tuple[str | int, ...], str]]


class VectorUnit(Config):
    """Lanes for everything that is no MAC: ReLU rules, pools, additions, requantisation, path updates."""

    lanes: int = Field(ge=1)
    pipeline_cycles: int = Field(ge=0)


class Dma(Config):
    """The engines between DRAM and buffers; every transfer first occupies its engine for ``issue_cycles``.

    One engine moves everything. Of several, the last one stores and the others load; they share the DRAM's bus.
    """

    issue_cycles: int = Field(ge=0)
    engines: int = Field(default=1, ge=1, le=8)


class Control(Config):
    """The host: starting a kernel, and reading a small result back to decide what comes next."""

    launch_cycles: int = Field(ge=0)
    sync_cycles: int = Field(ge=0)
    host_mhz: float | None = Field(default=None, gt=0)
    """Clock of the host, which does one operation per clock of what a method decides; by default the accelerator's."""


class Architecture(Config):
    """One accelerator. ``memories[0]`` is the DRAM, all others are on chip."""

    name: str = Field(min_length=1)
    description: str
    clock_mhz: float = Field(gt=0)
    memories: tuple[Memory, ...] = Field(min_length=2)
    array: Array
    vector: VectorUnit
    dma: Dma
    control: Control
    technology: Technology
    costs: str
    board: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Architecture:
        problems = _memory_problems(self.memories)
        if not problems:  # the rest reads the memories
            problems = _cost_problems(self) + _board_problems(self)
        if problems:
            raise RuleError(problems)
        return self

    @property
    def dram(self) -> DramPort:
        """The memory outside the chip, as this clock sees it."""
        first = self.memories[0]
        assert isinstance(first, Dram)
        return first.port(self.clock_mhz)

    @property
    def on_chip(self) -> tuple[Sram, ...]:
        """The memories on the chip, in the order of the file."""
        return tuple(memory for memory in self.memories if isinstance(memory, Sram))

    @property
    def on_chip_bytes(self) -> int:
        """The size of all on-chip memories together."""
        return sum(memory.size for memory in self.on_chip)

    @property
    def alternatives(self) -> tuple[Architecture, ...]:
        """The machine with its array in each of its forms; itself where the array has no choice."""
        return (self,) if len(self.array.forms) == 1 else _alternatives(self)

    @property
    def peak_macs_per_cycle(self) -> int:
        """The multiplications that the array starts in a cycle when it is full."""
        return self.array.macs_per_cycle

    @property
    def peak_gmacs(self) -> float:
        """Peak throughput in 10⁹ MAC/s."""
        return self.peak_macs_per_cycle * self.clock_mhz / 1000

    def memory(self, name: str) -> Dram | Sram:
        """Return the memory of that name; raise ``KeyError`` if there is none."""
        for memory in self.memories:
            if memory.name == name:
                return memory
        raise KeyError(name)

    def memories_for(self, operand: Operand) -> tuple[Sram, ...]:
        """Return the on-chip memories that hold an operand class, from the DRAM inwards; masks may have none."""
        return tuple(memory for memory in self.on_chip if operand in memory.holds)

    def memory_for(self, operand: Operand) -> Dram | Sram:
        """Return the memory of an operand class next to the array; the DRAM for masks that no other holds."""
        chain = self.memories_for(operand)
        if not chain and operand != "mask":
            raise KeyError(operand)
        return chain[-1] if chain else self.memories[0]

    @property
    def levels(self) -> Mapping[str, int]:
        """Return the level of every on-chip memory: 0 takes tiles from DRAM, 1 takes parts of those, and so on.

        A memory that passes tiles on stands where its operand's chain has it; all others hold the smallest tiles.
        """
        return _levels(self.on_chip)

    def fpga_resources(self) -> Resources:
        """Return the DSP blocks and BRAM36 it takes on its board, or on an UltraScale+ device if it has none."""
        return resources(self, load_board(self.board).dsp_kind if self.board else "dsp48e2")


@lru_cache(maxsize=256)
def _levels(on_chip: tuple[Sram, ...]) -> Mapping[str, int]:
    """Return what ``Architecture.levels`` does; the mapper asks for it with every stream."""
    chains = [[memory for memory in on_chip if operand in memory.holds] for operand in OPERANDS]
    depth = max(len(chain) for chain in chains)
    passing = {memory.name: at for chain in chains for at, memory in enumerate(chain[:-1])}
    return MappingProxyType({memory.name: passing.get(memory.name, depth - 1) for memory in on_chip})


@lru_cache(maxsize=64)
def _alternatives(arch: Architecture) -> tuple[Architecture, ...]:
    return tuple(arch.model_copy(update={"array": array}) for array in arch.array.alternatives)


def load_architecture(name_or_path: str | Path) -> Architecture:
    """Return a shipped architecture by name, or one from a YAML file; raise ``UserError`` with every problem.

    Single keys can be changed behind a colon: ``pynq_z2:clock_mhz=150,memories.weights.size=64KiB``.
    """
    name, changes = parted(str(name_or_path), "architecture")
    if not changes:
        return load_yaml(Architecture, find_named("arch_configs", name, kind="architecture"))
    where, base = f"architecture {str(name_or_path)!r}", architecture_data(name)
    try:
        data = changed(base, changes)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return load_data(Architecture, data, where)


def architecture_data(name: str) -> dict[str, Any]:
    """Return a checked architecture as plain data, with the keys that its file has; for those who change some."""
    path = find_named("arch_configs", name, kind="architecture")
    try:
        content = path.read_bytes()
    except OSError:  # ``load_yaml`` tells it in our words
        content = b""
    return _data(path, content)


@lru_cache(maxsize=64)
def _data(path: Path, _content: bytes) -> dict[str, Any]:
    return load_yaml(Architecture, path).model_dump(mode="json", exclude_unset=True)


def describe(arch: Architecture) -> str:
    """Return a readable block in a stable form, one line per part."""
    array = arch.array
    tree = "\n".join(f"  {memory}" for memory in arch.memories)
    return "\n".join(
        (
            f"{arch.name}: {arch.description}",
            f"clock      {arch.clock_mhz:g} MHz, {arch.technology}, energies from {arch.costs}",
            f"array      {array}, {array.widths}",
            f"peak       {arch.peak_macs_per_cycle} MAC/cycle, {arch.peak_gmacs:g} GMAC/s",
            f"vector     {arch.vector.lanes} lanes, pipeline {arch.vector.pipeline_cycles} cycles",
            f"dma        {_several(arch.dma.engines, 'engine')}issue {arch.dma.issue_cycles} cycles",
            f"control    launch {arch.control.launch_cycles} cycles, sync {arch.control.sync_cycles} cycles, "
            f"host at {arch.control.host_mhz or arch.clock_mhz:g} MHz",
            f"on chip    {format_bytes(arch.on_chip_bytes)}",
            f"memories\n{tree}",
            *_describe_board(arch),
        )
    )


def _several(count: int, what: str) -> str:
    return "" if count == 1 else f"{count} {what}s, "


def _describe_board(arch: Architecture) -> list[str]:
    if arch.board is None:
        return []
    board, need = load_board(arch.board), arch.fpga_resources()
    not_modelled = f"LUT and FF not modelled ({board.lut} and {board.ff} there)"
    return [
        f"board      {arch.board} ({board.device}): DSP {need.dsp}/{board.dsp}, BRAM36 {need.bram36}/{board.bram36}, "
        f"URAM 0/{board.uram}; {not_modelled}"
    ]


def _memory_problems(memories: tuple[Dram | Sram, ...]) -> Problems:
    """Check that the first memory is the only DRAM, names differ, and each operand has exactly one place."""
    problems: Problems = []
    if not isinstance(memories[0], Dram):
        problems.append((("memories", 0, "kind"), "the first memory must be the dram (got 'sram')"))
    for index, memory in enumerate(memories[1:], start=1):
        if isinstance(memory, Dram):
            problems.append((("memories", index, "kind"), "only the first memory may be a dram (got 'dram')"))
    first_index: dict[str, int] = {}
    for index, memory in enumerate(memories):
        if first_index.setdefault(memory.name, index) != index:
            text = f"name already used by memories[{first_index[memory.name]}] (got {memory.name!r})"
            problems.append((("memories", index, "name"), text))
    return problems + _operand_problems(memories)


def _operand_problems(memories: tuple[Dram | Sram, ...]) -> Problems:
    problems: Problems = []
    holder: dict[str, str] = {}
    for index, memory in enumerate(memories):
        holds = memory.holds if isinstance(memory, Sram) else ()
        for operand, times in Counter(holds).items():
            first = holder.setdefault(operand, memory.name)
            if times > 1:
                problems.append((("memories", index, "holds"), f"{operand} is named {times} times"))
            elif first != memory.name and operand in ("psum", "mask"):
                text = f"{operand} must be held by exactly one on-chip memory, {first!r} already holds it"
                problems.append((("memories", index, "holds"), text))
    problems += _level_problems(memories)
    missing = [operand for operand in OPERANDS if operand not in holder and operand != "mask"]
    if missing:
        problems.append((("memories",), f"no on-chip memory holds {', '.join(missing)}"))
    return problems


def _level_problems(memories: tuple[Dram | Sram, ...]) -> Problems:
    """A memory that passes tiles on must stand at the same level for all operands that it passes on."""
    problems: Problems = []
    at: dict[int, tuple[int, str]] = {}
    for operand in OPERANDS:
        chain = [i for i, memory in enumerate(memories) if isinstance(memory, Sram) and operand in memory.holds]
        for level, index in enumerate(chain[:-1]):
            first, other = at.setdefault(index, (level, operand))
            if first != level:
                text = f"it passes {other} on at level {first} and {operand} at level {level}; these must be one level"
                problems.append((("memories", index, "holds"), text))
    return problems


def _cost_problems(arch: Architecture) -> Problems:
    try:
        rows = load_costs(arch.costs).dram
    except UserError as error:
        return [(("costs",), str(error))]
    if arch.dram.energy in rows:
        return []
    near = did_you_mean(arch.dram.energy, rows)
    text = f"{arch.costs} has no DRAM row {arch.dram.energy!r}{near or ';'} choices: {', '.join(rows)}"
    return [(("memories", 0, "energy"), text)]


def _board_problems(arch: Architecture) -> Problems:
    if arch.board is None:
        return []
    try:
        board = load_board(arch.board)
    except UserError as error:
        return [(("board",), str(error))]
    return [(("board",), text) for text in misfits(resources(arch, board.dsp_kind), board)]
