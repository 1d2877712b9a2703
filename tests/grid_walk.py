"""A grid of processing elements, walked product by product and cycle by cycle: the slow definition of its schedule.

walk = walk_tile(array, dims, stride)         # walk.cycles["stream"], walk.words["input_reads"], walk.products
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from xaisim.hardware.array import DIMS, GridArray

Index = tuple[int, ...]  # of DIMS


@dataclass
class Walk:
    """What was seen: products, the elements that did any, words over each bus, cycles of all passes by cause."""

    products: list[Index] = field(default_factory=list)
    elements: set[tuple[int, int]] = field(default_factory=set)
    words: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("input_reads", "weight_reads", "sums"), 0))
    cycles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("load", "skew", "stream", "drain"), 0))
    passes: int = 0


def walk_tile(array: GridArray, dims: dict[str, int], stride: tuple[int, int]) -> Walk:
    """Walk all passes of a tile on one array. Its time is that of as many full passes: it is configured once."""
    walk, steps = Walk(), lay_out(array, dims)
    starts = [range(0, dims[dim], places * held) for dim, (places, held, _) in steps.items()]
    full: dict[str, int] | None = None
    for start in itertools.product(*starts):
        work = one_pass(steps, dims, dict(zip(DIMS, start, strict=True)))
        moved, cycles = pass_cycles(array, work, steps, stride)
        full = full or cycles  # the first is full
        assert sum(cycles.values()) <= sum(full.values())  # a narrow pass may wait less and stream more
        walk.products += [product for done in work.values() for product in done]
        walk.elements |= set(work)
        walk.words = {name: walk.words[name] + moved[name] for name in walk.words}
        walk.passes += 1
    assert full is not None
    walk.cycles = {cause: walk.passes * cycles for cause, cycles in full.items()}
    return walk


Layout = dict[str, tuple[int, int, list[tuple[str, int, int]]]]
"""By dimension: places in all, indices that an element holds, and (side, step, places) on each side that has it."""


def lay_out(array: GridArray, dims: dict[str, int]) -> Layout:
    """Place dimensions one after the other, one more place at a time, then fill registers one word at a time."""
    order = [(side, index) for side in ("rows", "cols") for index in range(len(array.spatial.side(side)))]
    order.sort(key=lambda entry: entry[1] > 0)  # what lies along a side comes before what replicates it
    used, at = {"rows": 1, "cols": 1}, {dim: [] for dim in DIMS}  # type: ignore[var-annotated]
    for side, index in order:
        dim, most = array.spatial.side(side)[index]
        already = count_of(at[dim])
        here = 1
        while used[side] * (here + 1) <= getattr(array, side) and here * already < dims[dim] and here != most:
            here += 1
        at[dim].append((side, used[side], here))
        used[side] *= here
    layout: Layout = {}
    held = dict.fromkeys(DIMS, 1)
    for dim in "NQSCKPR":
        share = -(-dims[dim] // count_of(at[dim]))
        if dim in "NQ":
            held[dim] = share
        elif dim in "SCK":
            while held[dim] < share and fits(array, held | {dim: held[dim] + 1}):
                held[dim] += 1
            parts = -(-share // held[dim])
            held[dim] = -(-share // parts)
        layout[dim] = (-(-dims[dim] // share), held[dim], at[dim])
    return {dim: layout[dim] for dim in DIMS}


def count_of(sides: list[tuple[str, int, int]]) -> int:
    """Return the places of a dimension on both sides."""
    count = 1
    for _, _, here in sides:
        count *= here
    return count


def fits(array: GridArray, held: dict[str, int]) -> bool:
    """Say whether window, weights and sums fit an element's registers."""
    window = held["C"] * held["S"]
    most = array.registers
    return window <= most.input and window * held["K"] <= most.weight and held["K"] <= most.psum


def one_pass(layout: Layout, dims: dict[str, int], start: dict[str, int]) -> dict[tuple[int, int], list[Index]]:
    """Return the products of every element in one pass, in order: window by window, q channels × s columns × p."""
    work: dict[tuple[int, int], list[Index]] = {}
    for place in itertools.product(*(range(layout[dim][0]) for dim in DIMS)):
        where = {"rows": 0, "cols": 0}
        span = {}
        for dim, at in zip(DIMS, place, strict=True):
            _, held, sides = layout[dim]
            first = start[dim] + at * held
            span[dim] = range(first, min(first + held, dims[dim]))
            for side, step, here in sides:
                where[side] += (at % here) * step
                at //= here
        loops = itertools.product(*(span[dim] for dim in "NPQRSCK"))
        done = [(n, k, c, p, q, r, s) for n, p, q, r, s, c, k in loops]
        if done:
            element = (where["rows"], where["cols"])
            assert element not in work
            work[element] = done
    return work


def pass_cycles(
    array: GridArray, work: dict[tuple[int, int], list[Index]], layout: Layout, stride: tuple[int, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return (words moved, cycles by cause) of one pass, cycle by cycle."""

    def input_of(product: Index) -> Index:
        n, _, c, p, q, r, s = product
        return n, c, p * stride[0] + r, q * stride[1] + s

    def sum_of(product: Index) -> Index:
        n, k, _, p, q, _, _ = product
        return n, k, p, q

    weights, inputs, sums, windows, last = (set[Index]() for _ in range(5))
    for (row, col), done in work.items():
        assert row < array.rows
        assert col < array.cols
        own = {(k, c, r, s) for _, k, c, _, _, r, s in done}
        assert len(own) <= array.registers.weight
        weights |= own
        for _, group in itertools.groupby(done, key=lambda product: (product[0], product[4])):  # one output column
            column = list(group)
            window, ends = {input_of(product) for product in column}, {sum_of(product) for product in column}
            assert len(window) <= array.registers.input
            assert len(ends) <= array.registers.psum
            inputs |= window
            sums |= ends
            windows |= window if column[0] == done[0] else set()
            last |= ends if column[-1] == done[-1] else set()
    bus = array.words_per_cycle
    chain = 1
    for dim in "CRS":
        chain *= layout[dim][0]
    left = [len(done) for done in work.values()]
    stream, to_bring, to_take = 0, len(inputs - windows), len(sums - last)
    while any(left) or to_bring > 0 or to_take > 0:
        left = [max(0, products - 1) for products in left]
        to_bring, to_take, stream = to_bring - bus.input, to_take - bus.psum, stream + 1
    moved = {"input_reads": len(inputs), "weight_reads": len(weights), "sums": len(sums)}
    return moved, {
        "load": beats(len(weights), bus.weight),
        "skew": beats(len(windows), bus.input),
        "stream": stream,
        "drain": beats(len(last), bus.psum) + chain - 1 + array.pipeline_cycles,
    }


def beats(words: int, per_cycle: int) -> int:
    """Count the cycles of a bus until all words are over."""
    cycles = 0
    while words > 0:
        words, cycles = words - per_cycle, cycles + 1
    return cycles


def outputs_of(dims: dict[str, Any]) -> int:
    """Return the output elements of a tile."""
    return int(dims["N"] * dims["K"] * dims["P"] * dims["Q"])
