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
from numba import njit

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
_LOAD, _STORE, _VECTOR = int(Kind.LOAD), int(Kind.STORE), int(Kind.VECTOR)


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


def _rates(arch: Architecture) -> Array:
    """Return bytes per cycle of every memory."""
    return np.array([arch.dram.bytes_per_cycle, *(memory.bytes_per_cycle for memory in arch.on_chip)], np.float64)


def _words(arch: Architecture) -> Array:
    """Return the width of every memory's words in bits; 0 where elements are packed."""
    return np.array([0, *(memory.word_bits or 0 for memory in arch.on_chip)], np.int64)


@njit(cache=True, nogil=True)
def _stored_bytes(elements, bits, word):  # type: ignore[no-untyped-def] # numba
    """Return what ``Sram.stored_bytes`` does."""
    if word == 0:
        return elements * bits / 8
    return -(-elements // max(1, word // bits)) * -(-bits // word) * word / 8


@njit(cache=True, nogil=True)
def _moved(bits, element, word):  # type: ignore[no-untyped-def] # numba
    """Return the bytes that a tile takes of an on-chip memory; a bias counts as so many elements of its weights."""
    return np.ceil(bits / 8) if word == 0 else _stored_bytes(-(-bits // element), element, word)


# --- transfers --------------------------------------------------------------------------------------------------------


def _price_transfers(rows: Array, prices: Prices, plan: Plan, arch: Architecture) -> None:
    memories = {memory.name: index for index, memory in enumerate(arch.memories)}
    hops: list[tuple[int, int]] = []
    streams: list[tuple[int, int]] = []
    for problem in plan.problems:
        for stream in problem.streams:
            chain = [memories[memory] for memory in stream.memories]
            streams.append((chain[0], stream.bits))
            hops += pairwise(chain if stream.kept else [0, *chain])
    _price_moves(
        rows, np.array(hops, np.int64).reshape(-1, 2), np.array(streams, np.int64).reshape(-1, 2), _rates(arch),
        _words(arch), (arch.dram.burst_bytes, arch.dma.issue_cycles, arch.dram.latency_cycles),
        prices.occupy_cycles, prices.port_cycles, prices.latency_cycles, prices.read_bytes, prices.write_bytes,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _price_moves(rows, hops, streams, rates, words, facts, occupy, ports, latency, read, write):  # type: ignore[no-untyped-def] # numba
    """Price loads and stores. ``hops``: outer and inner memory of each; ``streams``: first memory, bits of an element;
    ``facts``: burst bytes of the DRAM, cycles to issue a transfer, latency of the DRAM.
    """
    burst, issue, wait = facts
    for i in range(len(rows)):
        kind = rows[i, w.O_KIND]
        if kind not in (_LOAD, _STORE):
            continue
        bits, stream, hop = rows[i, w.O_BITS], rows[i, w.O_STREAM], rows[i, w.O_HOP]
        if hop < 0:  # a tensor that is loaded as a whole
            outer, inner = 0, streams[stream, 0]
        else:
            outer, inner = hops[hop]
        inside = _moved(bits, streams[stream, 1], words[inner])
        outside = _moved(bits, streams[stream, 1], words[outer])
        if outer == 0:
            pieces = rows[i, w.O_PIECES]
            outside = np.ceil(np.ceil(bits / 8) / max(1, pieces) / burst) * burst * pieces
        # The bus or the outer memory, and the port of the inner one, move at the same time.
        port = np.ceil(inside / rates[inner])
        longer = max(np.ceil(outside / rates[outer]), port)
        occupy[i] = longer + (issue if outer == 0 else 0)
        ports[i] = port if outer == 0 else longer
        latency[i] = wait if outer == 0 and kind == _LOAD else 0
        if kind == _LOAD:
            read[i, outer], write[i, inner] = outside, inside
        else:
            read[i, inner], write[i, outer] = inside, outside


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
    memories = {memory.name: index for index, memory in enumerate(arch.memories)}
    streams: list[tuple[int, int, int, bool]] = []
    stages: list[tuple[int, int]] = []
    for problem in plan.problems:
        for stream in problem.streams:
            in_place = stream.role in ("psum", "tail", "output")
            if in_place or not problem.on_array:  # else the array reads it
                times = 1 if in_place else problem.work_per_output
                streams.append((memories[stream.memory], stream.bits, times, stream.role == "output"))
        stages.append((len(streams), problem.work_per_output))
    vectors = _price_elements(
        rows, np.array(stages, np.int64), np.array(streams, np.int64), _words(arch),
        (arch.vector.lanes, arch.vector.pipeline_cycles), prices.occupy_cycles, prices.read_bytes, prices.write_bytes,
    )  # fmt: skip
    _wait_for_ports(vectors, prices, arch)


@njit(cache=True, nogil=True, error_model="numpy")
def _price_elements(rows, stages, streams, words, facts, occupy, read, write):  # type: ignore[no-untyped-def] # numba
    """Price the vector unit's rows and return which they are. ``stages``: where the streams of each end, operations per
    output; ``streams``: memory, bits, times that an element is read, 1 if it is written; ``facts``: lanes, pipeline.
    """
    lanes, pipeline = facts
    found, count = np.empty(len(rows), np.int64), 0
    for i in range(len(rows)):
        if rows[i, w.O_KIND] != _VECTOR:
            continue
        found[count], count = i, count + 1
        stage, elements = rows[i, w.O_STAGE], rows[i, w.O_T1] - rows[i, w.O_T0]
        for side in range(w.O_REGION, w.O_REGION + 6, 2):
            elements *= rows[i, side + 1] - rows[i, side]
        for s in range(stages[stage - 1, 0] if stage else 0, stages[stage, 0]):
            memory, bits, times, writes = streams[s]
            moved = write if writes else read
            moved[i, memory] += _stored_bytes(elements * times, bits, words[memory])
        occupy[i] = -(-elements * stages[stage, 1] // lanes) + pipeline
    return found[:count]


def _wait_for_ports(rows: Array, prices: Prices, arch: Architecture) -> None:
    """Let no row be shorter than its busiest port, as if memories read and write in the same cycle."""
    _wait(rows, _rates(arch), prices.read_bytes, prices.write_bytes, prices.port_cycles, prices.occupy_cycles)


@njit(cache=True, nogil=True, error_model="numpy")
def _wait(rows, rates, read, write, ports, occupy):  # type: ignore[no-untyped-def] # numba
    for i in rows:
        port = 0.0
        for memory in range(1, len(rates)):
            port = max(port, np.ceil(max(read[i, memory], write[i, memory]) / rates[memory]))
        ports[i] = port
        occupy[i] = max(occupy[i], ports[i])
