"""A core at work in Amaranth's simulator: operands as memories would give them, results and cycles as they come out.

run = simulate(design, [Product(x, w)])[0]       run.values (M, N), run.cycles, run.terms
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from xaisim.rtl.design import TERMS, Design, Extents
from xaisim.rtl.ports import late_requests, requests

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Product:
    """Integers x (M, K) · w (K, N) + initial (N,) or (M, N), shifted right by ``shift``.

    ``initial`` is a bias per filter, or a sum of its own for every output (not: output stationary and saturating).
    """

    x: Array
    w: Array
    initial: Array | None = None
    shift: int = 0
    lift: Array | None = None
    """Bits per filter (N,) to shift sums left behind the array; ``initial`` joins after that."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, K, N."""
        return self.x.shape[0], self.x.shape[1], self.w.shape[1]


class Run(NamedTuple):
    """What came out of a product."""

    values: Array
    cycles: int
    """From the cycle after ``start`` to ``done``."""
    terms: dict[str, int]
    """Cycles of load, stream, skew and drain, as the hardware counted them."""
    start: int = 0
    """The cycle in which ``start`` was taken."""
    tail: int | None = None
    """Cycles from ``done`` until the last result was in the output register; negative if it was there before."""


class Vectors:
    """The memories around an array: for each port, packed vectors by (base, index), with noise beyond the edge."""

    def __init__(self, design: Design, product: Product, seed: int = 0) -> None:
        self.design, self.product = design, product
        self.extents: Extents = design.extents(*product.sizes)
        self._noise = np.random.default_rng(seed)

    @cached_property
    def left(self) -> list[list[int]]:
        """Packed lanes of the left operand, by fold of the rows and index."""
        d = self.design
        matrix = self.product.w.T if d.array.dataflow == "is" else self.product.x
        lanes = matrix.T if d.stationary else matrix  # (rows, stream)
        return self._packed(lanes, d.array.rows, d.left.bits, d.left.low, d.left.high)

    @cached_property
    def top(self) -> list[list[int]]:
        """Packed lanes of the top operand, by fold of the columns and index."""
        d = self.design
        matrix = self.product.x.T if d.array.dataflow == "is" else self.product.w  # (index, cols)
        beyond = -len(matrix) % d.array.rows if d.stationary else 0
        noise = self._noise.integers(d.top.low, d.top.high, (beyond, matrix.shape[1]), endpoint=True)
        lanes = np.concatenate([matrix, noise]).T
        return self._packed(lanes, d.array.cols, d.top.bits, d.top.low, d.top.high)

    @cached_property
    def initial(self) -> list[list[int]]:
        """Packed first sums, by fold of the columns and index."""
        bits = self.design.first_bits
        return self._packed_outputs(self.product.initial, bits, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    @cached_property
    def lift(self) -> list[list[int]]:
        """Packed lifts, by fold of the columns and index."""
        return self._packed_outputs(self.product.lift, self.design.lift.bit_length(), 0, self.design.lift)

    def _packed_outputs(self, given: Array | None, bits: int, low: int, high: int) -> list[list[int]]:
        """Pack one value per output (M, N), or per filter."""
        d, (M, _, N) = self.design, self.product.sizes
        every = np.zeros((M, N), np.int64) if given is None else np.broadcast_to(given, (M, N))
        lanes = every if d.array.dataflow == "is" else every.T
        if not d.stationary and not late_requests(d):
            assert (every == every[:1]).all(), "output stationary sums that saturate start from one value per filter"
            lanes = lanes[:, :1]
        return self._packed(lanes, d.array.cols, bits, low, high)

    def _packed(self, lanes: Array, width: int, bits: int, low: int, high: int) -> list[list[int]]:
        beyond = -len(lanes) % width
        noise = self._noise.integers(low, high, (beyond, lanes.shape[1]), np.int64, endpoint=True)
        whole = np.concatenate([lanes.astype(np.int64), noise]).reshape(-1, width, lanes.shape[1])
        mask = (1 << bits) - 1
        return [
            [sum((int(v) & mask) << (bits * i) for i, v in enumerate(vector)) for vector in fold.T] for fold in whole
        ]

    def at(self, name: str, index: int, base: int) -> int:
        """Return the vector that a request names."""
        width = self.design.array.rows if name == "left" else self.design.array.cols
        vectors: list[list[int]] = getattr(self, name)
        return vectors[base // width][index]


def collected(design: Design, product: Product, columns: Sequence[Sequence[int]]) -> Array:
    """Return the outputs (M, N) from what each column of the array gave off, in order."""
    array, extents = design.array, design.extents(*product.sizes)
    out = np.zeros((extents.rows if not design.stationary else extents.stream, extents.cols), np.int64)
    for c, values in enumerate(columns):
        given = iter(values)
        for col in range(c, extents.cols, array.cols):
            if design.stationary:
                out[:, col] = [next(given) for _ in range(extents.stream)]
                continue
            for row in range(0, extents.rows, array.rows):
                last = min(row + array.rows, extents.rows)
                out[row:last, col] = [next(given) for _ in range(last - row)][::-1]
        assert next(given, None) is None, "a column gave off more than its share"
    return out.T if array.dataflow == "is" else out


def simulate(design: Design, products: Sequence[Product], pause: int = 0) -> list[Run]:
    """Run products one after the other, each started as soon as the array is ready, or ``pause`` cycles later."""
    from amaranth.sim import Simulator

    from xaisim.rtl.core import Core

    record = _Record(Core(design), [Vectors(design, product, seed) for seed, product in enumerate(products)], pause)
    simulator = Simulator(record.core)
    simulator.add_clock(1e-9)
    simulator.add_testbench(record.run)
    simulator.run()
    return record.runs()


class _Record:
    """Plays the products and writes down what the core does, cycle by cycle."""

    def __init__(self, core: Any, vectors: list[Vectors], pause: int) -> None:
        self.core, self.vectors, self.pause = core, vectors, pause
        self.design = vectors[0].design
        rows = [outputs_per_column(self.design, product.extents)[0] for product in vectors]
        of = [product for product, count in zip(vectors, rows, strict=True) for _ in range(count)]
        self.leaving = {name: iter(of) for name in late_requests(self.design)}
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.terms: list[dict[str, int]] = []
        self.given: list[list[tuple[int, int]]] = [[] for _ in range(self.design.array.cols)]  # (cycle, value)

    async def run(self, ctx: Any) -> None:
        """Drive the core, a turn of the loop per cycle."""
        core, cycle, to_start, wait, quiet = self.core, 0, 0, 0, 0
        tail = self.design.array.rows + 2
        while quiet <= tail:
            if to_start < len(self.vectors) and wait == 0 and ctx.get(core.ready):
                next_up = self.vectors[to_start]
                for name, extent in next_up.extents._asdict().items():
                    ctx.set(getattr(core, name), extent)
                if hasattr(core, "shift"):
                    ctx.set(core.shift, next_up.product.shift)
                ctx.set(core.start, 1)
                self.starts.append(cycle)
                to_start, wait = to_start + 1, self.pause
            elif wait and not ctx.get(core.busy):
                wait -= 1
            asked = {
                name: self._answer(
                    name, to_start, *(ctx.get(getattr(core, f"{name}_{at}")) for at in ("index", "base"))
                )
                for name in requests(self.design)
                if ctx.get(getattr(core, f"{name}_fetch"))
            }
            await ctx.tick()
            cycle += 1
            ctx.set(core.start, 0)
            for name, vector in asked.items():
                ctx.set(getattr(core, f"{name}_data"), vector)
            self._note(ctx, core, cycle)
            quiet = 0 if ctx.get(core.busy) or to_start < len(self.vectors) else quiet + 1

    def _answer(self, name: str, started: int, index: int, base: int) -> int:
        """Return the vector asked for: of the product that runs, or whose results leave while another one runs."""
        of = next(self.leaving[name]) if name in self.leaving else self.vectors[started - 1]
        return of.at(name, index, base)

    def _note(self, ctx: Any, core: Any, cycle: int) -> None:
        if ctx.get(core.done):
            self.ends.append(cycle)
            self.terms.append({t: ctx.get(getattr(core, f"{t}_cycles")) for t in TERMS})
        valid = ctx.get(core.out_valid)
        if valid:
            data, bits = ctx.get(core.out_data), self.design.outputs.bits
            for c in range(self.design.array.cols):
                if valid >> c & 1:
                    self.given[c].append((cycle, signed_value(data >> (c * bits), self.design.outputs)))

    def runs(self) -> list[Run]:
        """Return one run per product."""
        runs, taken = [], [0] * self.design.array.cols
        for vectors, start, end, terms in zip(self.vectors, self.starts, self.ends, self.terms, strict=True):
            counts = outputs_per_column(self.design, vectors.extents)
            parts = [given[first : first + n] for given, first, n in zip(self.given, taken, counts, strict=True)]
            taken = [first + n for first, n in zip(taken, counts, strict=True)]
            values = collected(self.design, vectors.product, [[value for _, value in part] for part in parts])
            last = max(cycle for part in parts for cycle, _ in part)
            runs.append(Run(values, end - start - 1, terms, start, last - end))
        assert taken == [len(given) for given in self.given], "more results than products have outputs"
        return runs


def outputs_per_column(design: Design, extents: Extents) -> list[int]:
    """Return how many results each column of the array gives off for one product."""
    each = extents.stream if design.stationary else extents.rows
    return [each * len(range(c, extents.cols, design.array.cols)) for c in range(design.array.cols)]


def signed_value(data: int, format: Any) -> int:
    """Return the integer that the lowest bits stand for."""
    value = data & ((1 << format.bits) - 1)
    return value - (1 << format.bits) if format.signed and value >> (format.bits - 1) else value
