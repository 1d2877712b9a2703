"""The price of a row: cycles of its unit, multiplications, and bytes of every memory.

prices = price(out.row, plan, arch)
array_terms(tiles, plan, arch)[0]       {"load": 64, "stream": 256, "skew": 120, "drain": 0, "port": 0} of a stage
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array as MacArray
from xaisim.hardware.array import array_accesses, array_cycles, fold_terms
from xaisim.hardware.memory import Sram
from xaisim.ir.kernels import phases
from xaisim.mapping import tables as w
from xaisim.mapping.plan import Plan
from xaisim.mapping.streams import Problem
from xaisim.mapping.tiles import Kind, TileGraph

Array = np.ndarray


@dataclass(slots=True)
class Prices:
    """Columns of ``TileGraph`` that follow from the architecture."""

    occupy_cycles: Array
    port_cycles: Array
    latency_cycles: Array
    macs: Array
    read_bytes: Array
    write_bytes: Array
    reads_sums: Array
    """Whether the array reads the sums back that it writes."""


def price(rows: Array, plan: Plan, arch: Architecture) -> Prices:
    """Return what every row costs: cycles of its unit, multiplications, and bytes by memory."""
    n, memories = len(rows), len(arch.memories)
    occupy, ports, latency, macs = np.zeros((4, n), np.int64)
    moved = np.zeros((2, n, memories))
    prices = Prices(occupy, ports, latency, macs, moved[0], moved[1], np.zeros(n, np.bool_))
    _price_transfers(rows, prices, plan, arch)
    _price_arrays(rows, prices, plan, arch)
    _price_vector(rows, prices, plan, arch)
    prices.occupy_cycles[rows[:, w.O_KIND] == Kind.SYNC] = arch.control.sync_cycles
    return prices


def _srams(arch: Architecture) -> dict[str, tuple[int, Sram]]:
    """Return every on-chip memory with its column."""
    return {memory.name: (i, memory) for i, memory in enumerate(arch.memories) if isinstance(memory, Sram)}


# --- transfers --------------------------------------------------------------------------------------------------------


def _price_transfers(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    kind = rows[:, w.O_KIND]
    moves = np.flatnonzero((kind == Kind.LOAD) | (kind == Kind.STORE))
    own = rows[moves]
    rates = np.array([arch.dram.bytes_per_cycle, *(memory.bytes_per_cycle for memory in arch.on_chip)])
    outer, inner = _ends(own, plan, [memory.name for memory in arch.memories])
    by_dma = outer == 0
    pieces, burst = own[:, w.O_PIECES], arch.dram.burst_bytes
    bus = np.ceil(np.ceil(own[:, w.O_BITS] / 8) / np.maximum(1, pieces) / burst) * burst * pieces
    inside = _moved_on_chip(own, inner, plan, arch)
    outside = np.where(by_dma, bus, _moved_on_chip(own, outer, plan, arch))
    # The bus or the outer memory, and the port of the inner one, move at the same time.
    port = np.ceil(inside / rates[inner])
    longer = np.maximum(np.ceil(outside / rates[outer]), port)
    loads = own[:, w.O_KIND] == Kind.LOAD
    prices.occupy_cycles[moves] = longer + np.where(by_dma, arch.dma.issue_cycles, 0)
    prices.port_cycles[moves] = np.where(by_dma, port, longer)
    prices.latency_cycles[moves] = np.where(by_dma & loads, arch.dram.latency_cycles, 0)
    prices.read_bytes[moves, np.where(loads, outer, inner)] = np.where(loads, outside, inside)
    prices.write_bytes[moves, np.where(loads, inner, outer)] = np.where(loads, inside, outside)


def _moved_on_chip(rows: Array, ends: Array, plan: Plan, arch: Architecture) -> Array:
    """Return the bytes that transfers move in the on-chip memory at one end of each."""
    moved = np.ceil(rows[:, w.O_BITS] / 8)
    if any(memory.word_bits for memory in arch.on_chip):
        bits = np.array([stream.bits for problem in plan.problems for stream in problem.streams], np.int64)
        element = bits[rows[:, w.O_STREAM]]
        for index, memory in _srams(arch).values():
            at = ends == index
            if memory.word_bits:  # a bias counts as so many elements of its weights
                moved[at] = memory.stored_bytes(-(-rows[at, w.O_BITS] // element[at]), element[at])
    return moved


def _ends(rows: Array, plan: Plan, memories: list[str]) -> tuple[Array, Array]:
    """Return the outer and the inner memory of every transfer."""
    hops: list[tuple[int, int]] = []
    first: list[int] = []
    for problem in plan.problems:
        for stream in problem.streams:
            chain = [memories.index(memory) for memory in stream.memories]
            first.append(chain[0])
            hops += list(pairwise(chain if stream.kept else [0, *chain]))
    ends = np.array([*hops, (0, 0)], np.int64)[rows[:, w.O_HOP]]
    whole = rows[:, w.O_HOP] < 0  # a tensor that is loaded as a whole
    return np.where(whole, 0, ends[:, 0]), np.where(whole, np.array(first)[rows[:, w.O_STREAM]], ends[:, 1])


# --- array ------------------------------------------------------------------------------------------------------------


def _price_arrays(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    """Price the array's rows stage by stage; equal stages of equal mappings have equal rows."""
    computes = np.flatnonzero(rows[:, w.O_KIND] == Kind.COMPUTE)
    srams, alone = _srams(arch), _alone(arch)
    firsts = np.searchsorted(rows[computes, w.O_STAGE], np.arange(len(plan.stages) + 1))
    for s, (a, b) in enumerate(pairwise(firsts.tolist())):
        if a == b:
            continue
        mine, problem = computes[a:b], plan.problems[s]
        array = alone[plan.mappings[s].spatial]
        cycles, macs, words = _array_work(problem, array, rows[mine, w.O_REGION : w.O_T1 + 1].tobytes())
        by_role = {stream.role: stream for stream in problem.streams}
        for role, name in (("input", "input_reads"), ("weight", "weight_reads"), ("psum", "psum_reads")):
            at, memory = srams[by_role[role].memory]
            prices.read_bytes[mine, at] += memory.stored_bytes(words[name], by_role[role].bits)
        at, memory = srams[by_role["psum"].memory]
        prices.write_bytes[mine, at] = memory.stored_bytes(words["psum_writes"], by_role["psum"].bits)
        prices.occupy_cycles[mine], prices.macs[mine] = cycles, macs
        prices.reads_sums[mine] = words["psum_reads"] > 0
    _wait_for_ports(computes, prices, arch)


def _alone(arch: Architecture) -> tuple[MacArray, ...]:
    """Return one of the arrays, in each of its forms: a row is what one of them does."""
    return arch.array.model_copy(update={"count": 1}).alternatives


@lru_cache(maxsize=1024)
def _array_work(problem: Problem, array: MacArray, columns: bytes) -> tuple[Array, Array, dict[str, Array]]:
    """Return cycles, MACs and words read and written by the array for each row, summed over the phases."""
    ends = _row_ends(columns)
    cycles, macs = np.zeros(len(ends), np.int64), np.zeros(len(ends), np.int64)
    words = {
        name: np.zeros(len(ends), np.int64) for name in ("input_reads", "weight_reads", "psum_reads", "psum_writes")
    }
    stride = problem.nest.rows.stride, problem.nest.columns.stride
    for dims, some in _phases(problem, ends):
        cycles += np.where(some, array_cycles(array, dims, stride=stride), 0)
        macs += np.where(some, math.prod(dims.values()), 0)
        for name, count in array_accesses(array, dims, accumulate=ends[:, 6] > 0, stride=stride).items():
            words[name] = words[name] + np.where(some, count, 0)
    return cycles, macs, words


def _row_ends(columns: bytes) -> Array:
    """Return (rows, 10) ends k0 k1 p0 p1 q0 q1 c0 c1 t0 t1."""
    return np.frombuffer(columns, np.int64).reshape(-1, 10)


def _phases(problem: Problem, ends: Array) -> Iterator[tuple[dict[str, Any], Array]]:
    """Yield the loop extents of each row's part in every phase, and which rows have one."""
    k0, k1, p0, p1, q0, q1, c0, c1, t0, t1 = ends.T
    dy, dx = problem.dilation
    nest = problem.nest
    for a, _, rows, _, _ in phases(nest.R, nest.rows.padding, dy, nest.P):
        for b, _, columns, _, _ in phases(nest.S, nest.columns.padding, dx, nest.Q):
            p, q = _residues(p0, p1, a, dy), _residues(q0, q1, b, dx)
            some = (p > 0) & (q > 0) & bool(rows and columns)
            if some.any():
                yield {"N": t1 - t0, "K": k1 - k0, "C": c1 - c0, "P": p, "Q": q, "R": rows, "S": columns}, some


def _residues(start: Array, stop: Array, residue: int, modulus: int) -> Array:
    """Count integers in [start, stop) that are ``residue`` modulo ``modulus``."""
    return (stop - residue + modulus - 1) // modulus - (start - residue + modulus - 1) // modulus


def array_terms(tiles: TileGraph, plan: Plan, arch: Architecture) -> list[dict[str, int] | None]:
    """Return what the array's cycles on each stage are spent on, None for one that has no folds.

    ``load``, ``stream``, ``skew`` and ``drain`` are those of all folds (passes of a grid), ``port`` what tiles take
    longer because of a memory port; they sum to the cycles of all arrays in one trip.
    """
    ends = np.concatenate([tiles.region, tiles.channels, tiles.points], axis=1)
    found: list[dict[str, int] | None] = []
    for s, problem in enumerate(plan.problems):
        mine = np.flatnonzero((tiles.kind == Kind.COMPUTE) & (tiles.stage == s))
        array, stride = _alone(arch)[plan.mappings[s].spatial], (problem.nest.rows.stride, problem.nest.columns.stride)
        if len(mine) == 0 or array.kind == "unrolled":
            found.append(None)
            continue
        terms = dict.fromkeys(("load", "stream", "skew", "drain"), 0)
        for dims, some in _phases(problem, ends[mine]):
            each = fold_terms(array, dims, stride=stride)
            for name in terms:
                terms[name] += int(np.where(some, getattr(each, name), 0).sum())
        found.append({**terms, "port": int(tiles.occupy_cycles[mine].sum()) - sum(terms.values())})
    return found


# --- vector unit and ports --------------------------------------------------------------------------------------------


def _price_vector(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    """Price the vector unit's rows: the anchor's windows and the fused tail in one pass."""
    vectors = np.flatnonzero(rows[:, w.O_KIND] == Kind.VECTOR)
    own, srams = rows[vectors], _srams(arch)
    region = own[:, w.O_REGION : w.O_REGION + 6]
    elements = (region[:, 1::2] - region[:, 0::2]).prod(axis=1) * (own[:, w.O_T1] - own[:, w.O_T0])
    firsts = np.searchsorted(own[:, w.O_STAGE], np.arange(len(plan.stages) + 1))
    for problem, (a, b) in zip(plan.problems, pairwise(firsts.tolist()), strict=True):
        for stream in problem.streams:
            in_place = stream.role in ("psum", "tail", "output")
            if problem.on_array and not in_place:
                continue  # the array reads it
            at, memory = srams[stream.memory]
            times = 1 if in_place else problem.work_per_output
            moved = prices.write_bytes if stream.role == "output" else prices.read_bytes
            moved[vectors[a:b], at] += memory.stored_bytes(elements[a:b] * times, stream.bits)
    work = np.array([problem.work_per_output for problem in plan.problems])[own[:, w.O_STAGE]]
    prices.occupy_cycles[vectors] = -(-elements * work // arch.vector.lanes) + arch.vector.pipeline_cycles
    _wait_for_ports(vectors, prices, arch)


def _wait_for_ports(rows: Array, prices: Prices, arch: Architecture) -> None:
    """Let no row be shorter than its busiest port, as if memories read and write in the same cycle."""
    rates = np.array([memory.bytes_per_cycle for memory in arch.on_chip])
    busiest = np.maximum(prices.read_bytes[rows, 1:], prices.write_bytes[rows, 1:])
    prices.port_cycles[rows] = np.ceil(busiest / rates).max(axis=1)
    prices.occupy_cycles[rows] = np.maximum(prices.occupy_cycles[rows], prices.port_cycles[rows])
