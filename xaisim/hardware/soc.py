"""What stands around an accelerator that takes commands: host, command queues, request engines, caches, memory.

    soc = load_soc("gemmini_16")        # a shipped name or a path; soc.architecture names its array and buffers
    soc.l2.size                         # bytes

The mapper's schedules move whole tiles over one bus. Schedules of commands (``xaisim/mapping/commands``) go through
what is written here: every row of a transfer is a request, with a cache in its way.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from xaisim.config import Bytes, Config, RuleError, find_named, load_yaml


class Host(Config):
    """The processor that works out each tile's arguments and sends its commands, in cycles of the accelerator."""

    layer_cycles: int = Field(ge=0)
    conv_tile_cycles: int = Field(ge=0)
    matmul_tile_cycles: int = Field(ge=0)
    send_cycles: int = Field(ge=0)
    """From a free place among the tiles in flight to the commands having arrived."""


class Window(Config):
    """How far the array may run ahead: a preload's place is free again ``cycles`` after its product was fed."""

    products: int = Field(ge=1, le=64)
    cycles: int = Field(ge=0)
    least_rows: int = Field(ge=1)
    """A product of fewer rows takes as long as one of these."""


class Reads(Config):
    """The engine that fetches rows: every row becomes aligned requests of a power of two of bytes."""

    smallest: Bytes
    largest: Bytes
    beat: Bytes
    """What an answer brings per cycle."""
    in_flight: int = Field(ge=1, le=64)
    commands_in_flight: int = Field(ge=1, le=8)
    queued_commands: int = Field(ge=1, le=64)
    round_trip_cycles: int = Field(ge=0)
    command_cycles: int = Field(ge=0)
    finish_cycles: int = Field(ge=0)
    """From the last answer to the command being over."""


class Writes(Config):
    """The engine that stores rows: partial lines are written to the cache in beats."""

    in_flight: int = Field(ge=1, le=64)
    round_trip_cycles: int = Field(ge=0)
    beat_cycles: int = Field(ge=0)
    start_cycles: int = Field(ge=0)
    """From the array's last product to the first row leaving the accumulator."""


class Cache(Config):
    """A set-associative cache with random replacement that allocates on reads and writes."""

    size: Bytes
    ways: int = Field(ge=1, le=64)
    line: Bytes

    @model_validator(mode="after")
    def _check(self) -> Cache:
        lines = self.size // self.line
        if self.sets * self.ways * self.line != self.size or self.sets & (self.sets - 1) or self.line & (self.line - 1):
            text = f"size, ways and line must give a power of two of sets (got {lines} lines in {self.ways} ways)"
            raise RuleError([((), text)])
        return self

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.size // self.line // self.ways


class LastLevel(Cache):
    """The cache in front of the DRAM: in-order, one access at a time, and only another block overtakes a miss."""

    misses: int = Field(ge=1, le=8)
    access_cycles: int = Field(ge=1)
    """A request's line occupies it for so long, hit or written."""
    latency_cycles: int = Field(ge=0)
    fill_cycles: int = Field(ge=0)
    """A block from DRAM occupies it for so long."""
    evict_cycles: int = Field(ge=0)
    """So does a changed block on its way to DRAM."""
    dram_cycles: int = Field(ge=0)
    """From a miss to its block beginning to arrive."""


class Soc(Config):
    """An accelerator of ``architecture`` in its system."""

    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    architecture: str
    base_offsets: tuple[int, ...] = Field(min_length=1)
    """Bytes between the arrays' addresses in memory and a multiple of the L2's line; of several, the mean is taken."""
    host: Host
    window: Window
    reads: Reads
    writes: Writes
    l2: Cache
    llc: LastLevel

    @model_validator(mode="after")
    def _check(self) -> Soc:
        if self.llc.line % self.l2.line:
            text = f"must be a multiple of l2.line {self.l2.line} (got {self.llc.line})"
            raise RuleError([(("llc", "line"), text)])
        if self.reads.largest != self.l2.line:
            text = f"must be l2.line, {self.l2.line} bytes (got {self.reads.largest})"
            raise RuleError([(("reads", "largest"), text)])
        for index, offset in enumerate(self.base_offsets):
            if not 0 <= offset < self.l2.line:
                text = f"must be from 0 to less than l2.line {self.l2.line} (got {offset})"
                raise RuleError([(("base_offsets", index), text)])
        return self


def load_soc(name_or_path: str | Path) -> Soc:
    """Return a shipped system by name, or one from a YAML file; raise ``UserError`` with every problem."""
    return load_yaml(Soc, find_named("arch_configs/soc", name_or_path, kind="system"))
