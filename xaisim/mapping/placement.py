"""Placement: which memories each operand passes through, which tensors stay on the chip, and what room tiles have.

ReLU masks and pool indices that fit the memory which holds masks stay there from forward to backward, but those that
the mapping spills. Feature maps stay where a share of their memory is set aside for them (``keep``), and so do weights
and inputs, over all trips (``stay``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.memory import OPERANDS, Sram
from xaisim.hardware.memory import Operand as MemoryClass
from xaisim.ir.graph import Graph
from xaisim.mapping.stages import Operand, Stage, stages, views_of, volume
from xaisim.mapping.streams import Stream, slot_bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor that stays on the chip, and where."""

    memory: str
    address: int
    size: int
    first: int
    """Stage that makes it; −1 for what is loaded once, before the first trip."""
    last: int
    """Last stage that reads it."""
    loader: int = -1
    """Stage as whose operand it is loaded before the first trip; −1 for what a stage makes."""


@dataclass(slots=True)
class Placement:
    """Where everything lives. Lists are by stage index; ``operands`` and ``streams`` run in parallel."""

    free: list[dict[str, int]]
    """Bytes of each on-chip memory that the tiles of a stage may use."""
    resident: dict[str, Kept] = field(default_factory=dict)
    streams: list[tuple[Stream, ...]] = field(default_factory=list)
    operands: list[list[Operand | None]] = field(default_factory=list)

    @property
    def over_trips(self) -> dict[str, Kept]:
        """What stays on the chip over all trips, in the order in which it is loaded."""
        found = [(kept.loader, name) for name, kept in self.resident.items() if kept.loader >= 0]
        return {name: self.resident[name] for _, name in sorted(found)}


def place(
    graph: Graph, arch: Architecture, *, keep: float = 0.0, stay: float = 0.0, points: int = 1,
    spill: Collection[str] = (),
) -> Placement:  # fmt: skip
    """Choose what stays on the chip and describe every stage's streams.

    ``keep`` is the share of a memory that feature maps may take away from tiles, ``stay`` the share that weights and
    inputs may take over all trips; ``points`` path points are in flight; the masks and indices ``spill`` stay nowhere.
    """
    parts = stages(graph)
    placement = Placement([{memory.name: memory.size for memory in arch.on_chip} for _ in parts])
    _keep_masks(graph, parts, arch, placement, points, spill)
    if stay:
        _keep_over_trips(graph, parts, arch, placement, stay)
    if keep:
        _keep_maps(graph, parts, arch, placement, keep, points)
    resident = placement.resident
    for operands, streams in _passing(graph, arch, points > 1):
        placement.operands.append(operands)
        placement.streams.append(tuple(
            stream if operand is None or operand.name not in resident else stream.kept_in(resident[operand.name].memory)
            for operand, stream in zip(operands, streams, strict=True)
        ))  # fmt: skip
    return placement


@lru_cache(maxsize=64)
def _passing(
    graph: Graph, arch: Architecture, several_points: bool
) -> list[tuple[list[Operand | None], list[Stream]]]:  # fmt: skip
    """Return the operands of every stage and their streams, as if nothing stayed on the chip."""
    types, levels = graph.types(), arch.levels
    varying = varying_tensors(graph) if several_points else frozenset()
    chains = {operand: arch.memories_for(operand) for operand in OPERANDS}
    found = []
    for stage in stages(graph):
        bias_bits = types[stage.anchor.args[2]].element_bits if stage.on_array and len(stage.anchor.args) > 2 else 0
        operands: list[Operand | None] = [*stage.operands, *([None] if stage.on_array else []), *stage.outputs]
        found.append((operands, [_stream(o, stage, arch, bias_bits, varying, levels, chains) for o in operands]))
    return found


@lru_cache(maxsize=64)
def varying_tensors(graph: Graph) -> frozenset[str]:
    """Return the tensors that differ between trips: what follows from their own inputs and scalars, up to the sum."""
    varying = {name for name, type in graph.inputs.items() if not type.shape or name in graph.per_trip}
    for node in graph.nodes:
        if node.op != "accumulate" and any(arg in varying for arg in node.args):
            varying.add(node.name)
    return frozenset(varying)


@lru_cache(maxsize=64)
def varying_stages(graph: Graph) -> tuple[bool, ...]:
    """Return whether each stage makes something that differs between trips."""
    varying = varying_tensors(graph)
    return tuple(any(node.name in varying for node in stage.nodes) for stage in stages(graph))


def _stream(
    operand: Operand | None, stage: Stage, arch: Architecture, bias_bits: int,
    varying: frozenset[str], depth: Mapping[str, int], chains: dict[MemoryClass, tuple[Sram, ...]],
) -> Stream:  # fmt: skip
    if operand is None:
        chain = chains["psum"]
        point = any(node.name in varying for node in stage.nodes)
        names, levels = tuple(m.name for m in chain), tuple(depth[m.name] for m in chain)
        return Stream("psum", arch.array.stored_sum_bits, names, levels, moved=False, point=point)
    chain = chains[operand.memory_class] or chains["activation"]  # type: ignore[index] # one of OPERANDS
    return Stream(
        role=operand.role,
        bits=operand.type.element_bits,
        memories=tuple(memory.name for memory in chain),
        levels=tuple(depth[memory.name] for memory in chain),
        halo=operand.role in ("input", "index"),
        extra_bits_per_k=bias_bits if operand.role == "weight" else 0,
        point=operand.name in varying,
    )


def staging_memories(operand: Operand, arch: Architecture) -> tuple[Sram, ...]:
    """Return the on-chip memories whose buffers the tiles of an operand pass through, from the DRAM inwards."""
    chain = arch.memories_for(operand.memory_class)  # type: ignore[arg-type] # one of OPERANDS by construction
    return chain or arch.memories_for("activation")


def _keep_masks(
    graph: Graph, stages: Sequence[Stage], arch: Architecture, placement: Placement, points: int, spill: Collection[str]
) -> None:  # fmt: skip
    """Keep masks and indices on chip; where they do not all fit, a quarter is left for the tiles of the others.

    A place is theirs to the end, unless backward makes masks again: those may lie where one is no longer read. What a
    reshape shows is read from DRAM.
    """
    chain = arch.memories_for("mask")
    if not chain:
        return
    memory = chain[-1]
    views = views_of(graph)
    viewed = {source.name for name in views.nodes for source in views.sources(name)}
    outside = viewed | set(spill)
    masks = [(o, s) for s in stages for o in s.outputs if o.memory_class == "mask" and o.name not in outside]
    last: dict[str, int] = {}
    if any(stage.anchor.backward for _, stage in masks):
        last = {source.name: s.index for s in stages for o in s.operands if o.memory_class == "mask"
                for source in views.sources(o.name)}  # fmt: skip
    made = []
    for operand, stage in masks:
        size = points * slot_bytes(operand.type.size_bits)
        made.append((operand.name, Kept(memory.name, 0, size, stage.index, last.get(operand.name, len(stages)))))
    room = memory.size if memory.holds == ("mask",) else memory.size // 2
    for lowest in (memory.size - room, memory.size - room + memory.size // 4):
        kept = _packed(made, stages, memory, lowest)
        if len(kept) == len(made):
            break
    placement.resident |= kept
    top = min((k.address for k in kept.values()), default=memory.size)
    for free in placement.free:
        free[memory.name] = top


def _packed(
    made: list[tuple[str, Kept]], stages: Sequence[Stage], memory: Sram, lowest: int
) -> dict[str, Kept]:  # fmt: skip
    """Give addresses from ``lowest`` on: to what is stored, largest first, then to what is computed again.

    What is stored lives together when forward ends; what is made later may lie where something is no longer read.
    """
    kept: dict[str, Kept] = {}
    for name, wish in sorted(made, key=lambda item: (stages[item[1].first].anchor.backward, -item[1].size, item[0])):
        address = _gap(kept.values(), memory, wish, lowest)
        if address is not None:
            kept[name] = replace(wish, address=address)
    return kept


def _keep_over_trips(
    graph: Graph, stages: Sequence[Stage], arch: Architecture, placement: Placement, stay: float
) -> None:  # fmt: skip
    """Keep weights and inputs over all trips, those first whose bytes are moved most for the work done on them.

    A tensor is loaded as the operand of one stage, with that stage's biases. What the host chooses inside the kernel,
    what is read through a view, and what every trip has of its own are not among them.
    """
    views, types = views_of(graph), graph.types()
    readers: dict[str, list[tuple[Stage, Operand]]] = {}
    barred: set[str] = set()
    for stage in stages:
        for operand in stage.operands:
            for source in views.sources(operand.name):
                if source.name in graph.constants or source.name in graph.inputs:
                    readers.setdefault(source.name, []).append((stage, operand))
                    if source.name != operand.name or operand.chosen or source.name in graph.per_trip:
                        barred.add(source.name)
    wishes = []
    for name, users in readers.items():
        biased = [(s, o) for s, o in users if o.role == "weight" and len(s.anchor.args) > 2]
        biases = {stage.anchor.args[2] for stage, _ in biased}
        if name in barred or len(biases) > 1:
            continue
        loader, operand = (biased or users)[0]
        bits = types[name].size_bits + sum(types[bias].size_bits for bias in biases)
        outputs = min(int(np.prod(volume(s.anchor.type.shape)[1:])) if o.role == "weight" else 1 for s, o in users)
        memory = staging_memories(operand, arch)[0].name
        if all(staging_memories(o, arch)[0].name == memory for _, o in users):
            wishes.append((outputs / len(users), slot_bytes(bits), name, loader.index, memory))
    room = {memory.name: int(stay * memory.size) for memory in arch.on_chip}
    for _, size, name, index, memory in sorted(wishes):
        top = min(free[memory] for free in placement.free) // 8 * 8
        if size <= room[memory] and size <= top:
            room[memory] -= size
            placement.resident[name] = Kept(memory, top - size, size, -1, len(stages), index)
            for free in placement.free:
                free[memory] = top - size


def _keep_maps(
    graph: Graph, stages: Sequence[Stage], arch: Architecture, placement: Placement, keep: float, points: int
) -> None:
    """Keep the feature maps that save most traffic for the room and the time that they take.

    Only maps that are read whole and as they are: what a concat, slice or reshape shows is read from DRAM.
    """
    views, readers = views_of(graph), Counter[str]()
    varying = varying_tensors(graph) if points > 1 else frozenset()
    made: dict[str, tuple[Operand, int]] = {}
    last: dict[str, int] = {}
    barred = set(graph.outputs)
    for stage in stages:
        own = {o.name for o in stage.outputs}
        made |= {o.name: (o, stage.index) for o in stage.outputs if o.memory_class in ("activation", "gradient")}
        for operand in stage.operands:
            for source in views.sources(operand.name):
                if source.name != operand.name or operand.name in own:
                    barred.add(source.name)
                last[source.name] = stage.index
                readers[source.name] += 1
    wishes = []
    for name, (operand, first) in made.items():
        if name in last and name not in barred:
            size = slot_bytes(operand.type.size_bits * (points if name in varying else 1))
            wishes.append((-(1 + readers[name]) / (1 + last[name] - first), size, first, name))
    for _, size, first, name in sorted(wishes):
        memory = staging_memories(made[name][0], arch)[0]
        wish = Kept(memory.name, 0, size, first, last[name])
        over_trips = sum(k.size for k in placement.over_trips.values() if k.memory == memory.name)
        lowest = max(0, memory.size * (1 - keep) - over_trips)
        address = _gap(placement.resident.values(), memory, wish, lowest)
        if address is not None:
            placement.resident[name] = replace(wish, address=address)
            for s in range(first, last[name] + 1):
                placement.free[s][memory.name] = min(placement.free[s][memory.name], address)


def _gap(others: Iterable[Kept], memory: Sram, wish: Kept, lowest: float) -> int | None:
    """Return the highest address from ``lowest`` on at which a tensor fits beside all that live with it."""
    alive = [
        (k.address + k.size, k.address)
        for k in others
        if k.memory == memory.name and k.first <= wish.last and wish.first <= k.last
    ]
    top = memory.size
    for stop, start in sorted(alive, reverse=True):  # those that follow each other in time may overlap in address
        if top - stop >= wish.size:
            break
        top = min(top, start)
    address = top - wish.size
    return address if address >= lowest else None
