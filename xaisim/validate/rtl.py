"""Section: the array as hardware, simulated, beside the model: cycles term by term, and every bit of every output."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.config import load_data
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import SystolicArray
from xaisim.ir.types import FixedPoint
from xaisim.mapping.schedule import Schedule, map_kernel
from xaisim.rtl.bench import Product, Run, simulate
from xaisim.rtl.design import TERMS, Design
from xaisim.rtl.model import expected
from xaisim.rtl.replay import tile_products
from xaisim.validate.closed_forms import Conv, conv_graph, roomy_architecture
from xaisim.validate.section import Cell, Section

TITLE = "The array in RTL"

KINDS: dict[str, dict[str, object]] = {
    "os": {"dataflow": "os"},
    "os, drain": {"dataflow": "os", "drain": True},
    "ws": {"dataflow": "ws"},
    "is": {"dataflow": "is"},
    "ws, pipelined": {"dataflow": "ws", "folds": "pipelined"},
}
SIZES = ((8, 8), (3, 7), (1, 6))
SHAPES = ((13, 21, 10), (2, 30, 9))
"""M, K, N: folds with an edge each way, and fewer pixels than a pipelined fold needs."""

_TILED = Conv(8, 7, 9, 3, 1)


class Held(NamedTuple):
    """Products on one array: cycles and wrong bits."""

    rtl_cycles: int
    model_cycles: int
    terms_equal: bool
    bits: int
    wrong: int

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.rtl_cycles == self.model_cycles and self.terms_equal and self.wrong == 0


def array_of(kind: str, rows: int, cols: int, **widths: object) -> SystolicArray:
    """Return an array, by default of 8 bits, whose 18-bit sums saturate, so that their order counts too."""
    data = {"kind": "systolic", "rows": rows, "cols": cols, **KINDS[kind]}
    narrow = {"multiplier_bits": 8, "accumulator_bits": 18, "accumulator": "saturate"}
    return load_data(SystolicArray, {**data, **narrow, **widths})


def hold(array: SystolicArray, shapes: tuple[tuple[int, int, int], ...]) -> list[Held]:
    """Run products of random operands back to back, with bias and requantisation to unsigned 8 bits."""
    design = Design(array, FixedPoint(8, 0, False), FixedPoint(8, 0), FixedPoint(8, 0, False), shifts=(9, 9))
    drawn = np.random.default_rng(0)
    products = [
        Product(drawn.integers(0, 256, (M, K)), drawn.integers(-128, 128, (K, N)), drawn.integers(-999, 999, N), 9)
        for M, K, N in shapes
    ]
    found = []
    for product, run in zip(products, simulate(design, products), strict=True):
        values, terms = expected(design, product)
        equal = run.terms == {term: getattr(terms, term) for term in TERMS}
        found.append(Held(run.cycles, terms.total, equal, values.size * 8, wrong_bits(run, values, 8)))
    return found


def wrong_bits(run: Run, values: np.ndarray, bits: int) -> int:
    """Return in how many of their bits the outputs differ."""
    return int(np.bitwise_count((run.values ^ values) & ((1 << bits) - 1)).sum())


def tiled_schedule(array: SystolicArray) -> Schedule:
    """Return a convolution in tiles, its channels in several parts, on a machine whose ports hold nothing up."""
    data = roomy_architecture(array).model_dump(mode="json")
    for memory in data["memories"][1:]:
        memory["size"] = "1KiB"
    data["memories"][0] |= {"burst_bytes": 64, "bytes_per_cycle": 64}
    return map_kernel(conv_graph(_TILED), load_data(Architecture, data))


def hold_schedule(array: SystolicArray) -> tuple[int, Held]:
    """Run every computation of a schedule; return their number and what they come to."""
    schedule = tiled_schedule(array)
    conv = schedule.stages[0].anchor
    drawn, c = np.random.default_rng(0), _TILED
    x, w = drawn.integers(-99, 99, (c.C, c.H, c.H)), drawn.integers(-99, 99, (c.K, c.C, c.R, c.R))
    tiles = tile_products(schedule, conv, x, w, drawn.integers(-999, 999, c.K))
    word = FixedPoint(16, 0)
    design = Design(array, word, word, FixedPoint(array.stored_sum_bits, 0))
    held = []
    for tile, run in zip(tiles, simulate(design, [tile.product for tile in tiles]), strict=True):
        cycles = int(schedule.tiles.occupy_cycles[tile.row])
        wrong = wrong_bits(run, tile.sums, array.stored_sum_bits)
        held.append(Held(run.cycles, cycles, run.cycles == cycles, tile.sums.size * array.stored_sum_bits, wrong))
    return len(held), Held(
        sum(one.rtl_cycles for one in held),
        sum(one.model_cycles for one in held),
        all(one.equal for one in held),
        sum(one.bits for one in held),
        sum(one.wrong for one in held),
    )


def section() -> Section:
    """Return every kind of array in several sizes on several products, and a schedule tile by tile on each kind."""
    rows: list[tuple[Cell, ...]] = []
    all_held: list[Held] = []
    for kind in KINDS:
        for size in SIZES:
            for (M, K, N), held in zip(SHAPES, hold(array_of(kind, *size), SHAPES), strict=True):
                all_held.append(held)
                rows.append((kind, "{}×{}".format(*size), f"{M}×{K} · {K}×{N}", *_cells(held)))
    for kind in KINDS:
        count, held = hold_schedule(array_of(kind, 6, 5, multiplier_bits=16, accumulator_bits=48, accumulator="proven"))
        all_held.append(held)
        rows.append((kind, "6×5", f"{count} tiles of a convolution", *_cells(held)))
    equal = sum(held.equal for held in all_held)
    bits, wrong = sum(held.bits for held in all_held), sum(held.wrong for held in all_held)
    return Section(
        title=TITLE,
        text=_TEXT,
        columns=("array", "size", "product", "RTL cycles", "model", "bits", "wrong bits"),
        rows=rows,
        source="our own RTL (`xaisim rtl`, docs/rtl.md), simulated by Amaranth's simulator",
        verdict=f"{equal} of {len(rows)} equal, cycle for cycle and term for term; {wrong:,} of {bits:,} bits wrong",
        exact=equal == len(rows),
    )


def _cells(held: Held) -> tuple[Cell, ...]:
    return held.rtl_cycles, held.model_cycles, held.bits, held.wrong


_TEXT = """\
The circuit that `xaisim rtl` writes, clock by clock. Cycles are those in which its controller is busy; what it counts
of load, stream, skew and drain must equal the terms of `systolic_cycles` too. Products have unsigned 8-bit inputs,
8-bit weights, sums of 18 bits that saturate in the order of the machine, a bias, and unsigned 8-bit outputs. *Tiles of
a convolution* are every computation of a mapped schedule, its channels in several parts and partial sums going back in;
there sums have 48 bits, and cycles are those of the schedule's rows. The tests hold more, and the emitted Verilog."""
