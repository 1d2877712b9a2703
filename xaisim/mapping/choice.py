"""What may be chosen when a kernel is mapped, and the file in which a user says it.

    load_mapping("mapping.yaml").choice("gradient of class 3", "latency")      Choice

``xaisim show mapping`` prints such a file, so a mapping can be printed, changed and used again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from xaisim.changes import changed, parted
from xaisim.config import Config, UserError, did_you_mean, load_data, load_yaml
from xaisim.hardware.array import Array
from xaisim.mapping.nest import LOOPS, Mapping, level_text, parse_level
from xaisim.mapping.streams import Problem
from xaisim.mapping.tiling import Objective

_DOSA = re.compile(r"\s*L3\[[WIO]+\]")
MOST_KEPT = 0.9
MOST_POINTS = 64


class GivenStage(NamedTuple):
    """What a user says of a stage."""

    name: str
    levels: tuple[str, ...]
    """The text of every level of loops; none where tiles are to be found."""
    tile: str = ""
    """The tile that the loops leave, or nothing."""
    spatial: str = ""
    """The form of the array, or nothing."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice that decides the mapping of a kernel, up to the tiles that the cost bound finds."""

    objective: Objective = "latency"
    keep: float = 0.0
    """Share of a memory that feature maps may take, which then stay on the chip."""
    stay: float = 0.0
    """Share of a memory that weights and inputs may take, which then stay on the chip over all trips."""
    points: int = 1
    """Path points that a trip works on: weights are loaded once for all of them."""
    recompute: tuple[str, ...] = ()
    """ReLU masks and pool indices that backward computes again instead of keeping them, sorted."""
    spill: tuple[str, ...] = ()
    """Those that wait in DRAM although they may fit on the chip, sorted."""
    spatial: int | None = None
    """The form of the array in which all stages run; None lets every stage have the one of least bound."""
    stages: tuple[GivenStage, ...] = ()
    source: str = ""
    """The file and kernel that give them, for messages: ``mine.yaml: kernels.gradient``."""


class KernelMapping(Config):
    """The mapping of one kernel; what is left out is chosen."""

    keep_on_chip: Annotated[float, Field(ge=0, le=MOST_KEPT)] | None = None
    keep_over_trips: Annotated[float, Field(ge=0, le=MOST_KEPT)] | None = None
    points_in_flight: Annotated[int, Field(ge=1, le=MOST_POINTS)] | None = None
    recompute: list[str] | None = None
    spill: list[str] | None = None
    stages: dict[str, dict[str, str]] = Field(default_factory=dict)


class MappingFile(Config):
    """Mappings of the kernels of a program, by name without the class: ``gradient``, ``path gradient``."""

    kernels: dict[str, KernelMapping]


@dataclass(frozen=True, slots=True)
class GivenMapping:
    """A mapping file and where it stands."""

    file: MappingFile
    source: str

    def kernel(self, name: str) -> KernelMapping:
        """Return what the file says of a kernel, or an empty mapping."""
        return self.file.kernels.get(kernel_key(name), KernelMapping())

    def stages(self, name: str) -> tuple[GivenStage, ...]:
        """Return the stages of a kernel that are given; raise ``UserError`` for a level that does not exist."""
        found = []
        for stage, lines in self.kernel(name).stages.items():
            names = [key for key in lines if key not in ("tile", "spatial")]
            if not names and ("tile" in lines or "spatial" not in lines):
                where = f"{self.source}: kernels.{kernel_key(name)}.stages.{stage}"
                raise UserError(f"{where}: a stage is given by its loops: write dram, or leave the stage out")
            expected = level_names(len(names))
            if names and names != expected:
                where = f"{self.source}: kernels.{kernel_key(name)}.stages.{stage}"
                raise UserError(f"{where}: levels must be {', '.join(expected)} in this order (got {', '.join(names)})")
            levels = tuple(lines[key] for key in names)
            found.append(GivenStage(stage, levels, lines.get("tile", ""), lines.get("spatial", "")))
        return tuple(found)

    def check_kernels(self, names: Sequence[str]) -> None:
        """Raise ``UserError`` for a kernel that the program does not launch."""
        known = [kernel_key(name) for name in names]
        for key in self.file.kernels:
            if key not in known:
                near = did_you_mean(key, known) or ";"
                raise UserError(
                    f"{self.source}: kernels.{key}: the program launches no such kernel{near} choices: "
                    f"{', '.join(dict.fromkeys(known))}"
                )


FREE = "free"
"""The name of the mapping in which everything is chosen, to change single keys of."""


def load_mapping(path: str | Path) -> GivenMapping:
    """Return the mappings of a YAML file; raise ``UserError`` with every problem.

    Single keys can be changed behind a colon: ``mine.yaml:kernels.gradient.keep_on_chip=0.5``, or given alone with
    ``free``: ``free:kernels.path gradient.points_in_flight=5``.
    """
    name, changes = parted(str(path), "mapping")
    if changes:
        data = {"kernels": {}} if name == FREE else load_mapping(name).file.model_dump(mode="json", exclude_unset=True)
        return GivenMapping(load_data(MappingFile, changed(data, changes), f"mapping {str(path)!r}"), str(path))
    if _DOSA.match(str(path)) or (Path(path).is_file() and _DOSA.match(Path(path).read_bytes()[:99].decode("latin-1"))):
        raise UserError(
            f"{path}: is a nest in DOSA's notation, for Gemmini's commands: python benchmarks/gemmini.py times it; "
            "--mapping reads what 'xaisim show mapping' prints"
        )
    return GivenMapping(load_yaml(MappingFile, path), str(path))


def kernel_key(name: str) -> str:
    """Return a kernel's name without the class it explains."""
    return re.sub(r" of class \d+$", "", name)


def level_names(count: int) -> list[str]:
    """Return the names of levels in a file: ``dram``, then ``level 1`` between memories on the chip, and so on."""
    return ["dram", *(f"level {level}" for level in range(1, count))]


def mapping_lines(mapping: Mapping, problem: Problem, array: Array) -> dict[str, str]:
    """Return a stage's mapping as it stands in a file: loops of every level, the tile inside, the array's form."""
    names = level_names(len(mapping.levels))
    lines = {name: level_text(loops) for name, loops in zip(names, mapping.levels, strict=True)}
    lines["tile"] = tile_text(mapping.tile(problem.nest))
    if problem.on_array and len(array.forms) > 1:
        lines["spatial"] = str(array.forms[mapping.spatial])
    return lines


def tile_text(tile: dict[str, int]) -> str:
    """Return ``K16 C64 P8 Q56``; path points only where there are several."""
    return " ".join(f"{dim}{tile[dim]}" for dim in LOOPS if dim != "T" or tile[dim] > 1)


def given_form(problem: Problem, text: str, array: Array) -> int:
    """Read the array's form of a stage; raise ``ValueError`` with the choices for one that it has not."""
    if not problem.on_array:
        raise ValueError(f"spatial: it does not run on the array (got {text!r})")
    known = list(map(str, array.forms))
    if text not in known:
        near = did_you_mean(text, known) or ";"
        raise ValueError(f"spatial: no form of this array (got {text!r}){near} choices: {'; '.join(known)}")
    return known.index(text)


def given_mapping(problem: Problem, levels: tuple[str, ...], tile: str, depth: int) -> Mapping:
    """Read a stage's loops; raise ``ValueError`` unless loops and tile cover the nest."""
    if len(levels) != depth:
        raise ValueError(f"this architecture has {depth} level{'s' if depth > 1 else ''} of loops (got {len(levels)})")
    sizes = {dim: int(getattr(problem.nest, dim)) for dim in LOOPS}
    mapping = Mapping(tuple(parse_level(text, sizes) for text in levels))
    for part in tile.split():
        dim, size = part[:1], part[1:]
        if dim not in LOOPS or not size.isdecimal():
            raise ValueError(f"a tile is written 'K16 C64 P8 Q56' (got {part!r})")
        if int(size) != sizes[dim]:
            whole = int(getattr(problem.nest, dim))
            raise ValueError(
                f"loops and tile do not cover the nest: the loops over {dim} leave {sizes[dim]} of {whole}, "
                f"the tile has {size}"
            )
    order = "".join(loop.dim for loops in mapping.levels for loop in loops)
    if problem.accumulates and "T" in order and order.rindex("T") < max(map(order.rfind, "KPQ")):
        raise ValueError("this stage sums over path points, so T must run inside K, P and Q")
    if problem.accumulates and "C" in order and "T" in order and order.index("C") < order.rindex("T"):
        raise ValueError("this stage sums over path points, so C must run inside T")
    return mapping
