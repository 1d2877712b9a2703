"""A loop nest in the one-line notation of DOSA's data: a mapping that a machine was given, level by level.

    nest = parse_nest("L3[WIO] K8 - L2[WI] N1 K16X - L1[O] C4 P8 C16X - L0[W] P16")
    nest.tile["P"], nest.tile["C"]            # 128 and 64: what lies inside the DRAM loops
    print(nest)                               # the same line again

Levels stand outermost first, with the operands that they keep in brackets; loops stand outermost first within a level,
and ``X`` marks a loop that is unrolled over the array. ``parse_nest`` and ``check_nest`` raise ``NestError``, which
names the rule and the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from xaisim.hardware.array import DIMS

Array = np.ndarray
_UNNAMED = "NQPKSRC"  # loops that a mapping does not name stand outside in this order
_LEVEL = re.compile(r"L(\d)\[([WIO]+)\]\s*(.*)")
_LOOP = re.compile(r"([A-Z])([1-9]\d{0,17})([XY]?)")
MOST_TILES, MOST_BYTES = 1 << 18, 1 << 34
"""What a layer may have of tiles and move of bytes: thirty times the largest that was measured, and no more, as each
tile is rows for the clock and each byte a part of a request."""


class NestError(ValueError):
    """A line that is no nest, or a nest that does not do its layer: the rule and the value."""


class Layer(NamedTuple):
    """A convolution (a matrix product has Q = R = S = 1)."""

    N: int
    C: int
    K: int
    P: int
    Q: int
    R: int
    S: int
    stride: int

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product P×C · C×K."""
        return self.Q == self.R == self.S == self.stride == 1


class Loop(NamedTuple):
    """One loop: ``Loop("K", 16, spatial=True)`` is K16X."""

    dim: str
    extent: int
    spatial: bool = False

    def __str__(self) -> str:
        return f"{self.dim}{self.extent}{'X' if self.spatial else ''}"


class Level(NamedTuple):
    """The loops of one memory and the operands that it keeps."""

    number: int
    keeps: str
    loops: tuple[Loop, ...]

    def __str__(self) -> str:
        return f"L{self.number}[{self.keeps}] {' '.join(map(str, self.loops))}"


class Nest(NamedTuple):
    """Levels from DRAM (L3) over scratchpad (L2) and accumulator (L1) to the registers of the array (L0)."""

    levels: tuple[Level, ...]

    def __str__(self) -> str:
        return " - ".join(map(str, self.levels))

    @property
    def outer(self) -> tuple[Loop, ...]:
        """The DRAM loops, outermost first."""
        return self.levels[0].loops

    @property
    def inner(self) -> tuple[Loop, ...]:
        """All loops below DRAM."""
        return tuple(loop for level in self.levels[1:] for loop in level.loops)

    @property
    def tile(self) -> dict[str, int]:
        """The extent of every dimension in one iteration of the DRAM loops."""
        return extents(self.inner)

    @property
    def spatial(self) -> dict[str, int]:
        """How often every dimension is unrolled over the array."""
        return extents(loop for loop in self.inner if loop.spatial)


def extents(loops: Iterator[Loop] | tuple[Loop, ...]) -> dict[str, int]:
    """Return the product of the loops over every dimension."""
    sizes = dict.fromkeys(DIMS, 1)
    for loop in loops:
        sizes[loop.dim] *= loop.extent
    return sizes


def parse_nest(text: str) -> Nest:
    """Read a nest of levels L3 to L0; raise ``NestError`` with the part that is none."""
    levels = tuple(_parse_level(part) for part in re.split(r"\s+-\s+", text.strip()))
    numbers = [level.number for level in levels]
    if numbers != [3, 2, 1, 0]:
        raise NestError(
            f"a mapping has levels L3, L2, L1, L0 in this order (got {', '.join(f'L{n}' for n in numbers)})"
        )
    if any(loop.spatial for loop in levels[0].loops):
        raise NestError(f"loops over DRAM tiles run one after the other, none is unrolled (got {levels[0]})")
    names = [loop.dim for loop in levels[0].loops]
    for dim in names:
        if names.count(dim) > 1:
            raise NestError(f"each dimension has at most one loop at L3 (got {dim} {names.count(dim)} times)")
    return Nest(levels)


def _parse_level(part: str) -> Level:
    match = _LEVEL.fullmatch(part)
    if match is None:
        raise NestError(f"a level is written like L1[O] K4 P8 C16X (got {part!r})")
    number, keeps, words = match.groups()
    return Level(int(number), keeps, tuple(_parse_loop(word) for word in words.split()))


def _parse_loop(word: str) -> Loop:
    match = _LOOP.fullmatch(word)
    if match is None or match[1] not in DIMS:
        raise NestError(f"a loop is one of {' '.join(DIMS)} with its extent, such as K4 or C16X (got {word!r})")
    return Loop(match[1], int(match[2]), bool(match[3]))


def check_nest(nest: Nest, layer: Layer, *, side: int, accumulator_rows: int, scratchpad_bytes: int) -> None:
    """Raise ``NestError`` unless the nest covers the layer, fits a ``side``² array and the buffers' capacities.

    ``accumulator_rows`` are sums per column of the array, ``scratchpad_bytes`` those of 8-bit inputs and weights.
    """
    covered = extents((*nest.outer, *nest.inner))
    for dim in DIMS:
        if covered[dim] < getattr(layer, dim):
            raise NestError(f"the loops over {dim} must cover {getattr(layer, dim)} (got {covered[dim]})")
    for dim, times in nest.spatial.items():
        if times > (side if dim in "CK" else 1):
            allowed = f"C and K are unrolled up to {side} times and nothing else is"
            raise NestError(f"{allowed} (got {dim}{times}X)")
    tile = nest.tile
    sums = tile["N"] * tile["P"] * tile["Q"] * math.ceil(tile["K"] / nest.spatial["K"])
    if sums > accumulator_rows:
        raise NestError(f"a tile's sums per column must fit the accumulator's {accumulator_rows} entries (got {sums})")
    held = tile_bytes(tile, layer.stride)
    if held > scratchpad_bytes:
        text = f"a tile's inputs and weights must fit the scratchpad's {scratchpad_bytes} entries (got {held})"
        raise NestError(text)
    _check_size(tile, layer, held)


def _check_size(tile: Mapping[str, int], layer: Layer, held: int) -> None:
    """Raise ``NestError`` where a layer has more tiles, or moves more, than anybody wants to wait for."""
    tiles = math.prod(-(-getattr(layer, dim) // tile[dim]) for dim in DIMS)
    if tiles > MOST_TILES:
        raise NestError(f"a layer may have at most {MOST_TILES} tiles (got {tiles})")
    inputs, outputs = layer.P * layer.Q * layer.stride**2 * layer.C, layer.P * layer.Q * layer.K
    moved = layer.N * (inputs + outputs) + tiles * held
    if moved > MOST_BYTES:
        raise NestError(f"a layer's tiles and arrays may have at most {MOST_BYTES} bytes (got {moved})")


def tile_bytes(tile: Mapping[str, int], stride: int) -> int:
    """Return the words of input and weights that a tile works on."""
    rows, columns = (tile["Q"] - 1) * stride + tile["S"], (tile["P"] - 1) * stride + tile["R"]
    return tile["N"] * tile["C"] * rows * columns + tile["K"] * tile["C"] * tile["R"] * tile["S"]


def tile_positions(nest: Nest, limits: Mapping[str, int], dims: str) -> Array:
    """Return (tiles, 2·dims) where every tile begins along ``dims`` and how far it reaches, in the nest's order.

    A dimension that its tile does not divide ends with a smaller one; one without a DRAM loop that still has several
    tiles (the measured programs make an output more than P of an even kernel) runs outside all others, as there.
    """
    tile, order = nest.tile, [loop.dim for loop in nest.outer]
    order = [dim for dim in _UNNAMED if dim not in order] + order
    steps = [np.arange(0, limits[dim], tile[dim]) for dim in order]
    grids = dict(zip(order, np.meshgrid(*steps, indexing="ij"), strict=True))
    begins = [grids[dim].ravel() for dim in dims]
    reach = [np.minimum(limits[dim] - begin, tile[dim]) for dim, begin in zip(dims, begins, strict=True)]
    return np.stack([*begins, *reach], axis=1).astype(np.int64)
