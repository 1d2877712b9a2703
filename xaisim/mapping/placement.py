"""Placement: which tensors stay on the chip, which streams each stage moves, and what room that leaves for tiles.

ReLU masks and pool indices that fit the memory which holds masks stay there from forward to backward.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.memory import Sram
from xaisim.ir.graph import Graph
from xaisim.mapping.stages import Operand, Stage
from xaisim.mapping.tiling import Stream, slot_bytes


@dataclass(slots=True)
class Placement:
    """Where everything lives. Lists are by stage index; ``operands`` and ``streams`` run in parallel."""

    free: dict[str, int]
    """Bytes of each on-chip memory that tiles may use."""
    resident: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Tensors kept on chip: (memory, address)."""
    streams: list[tuple[Stream, ...]] = field(default_factory=list)
    operands: list[list[Operand | None]] = field(default_factory=list)
    resident_streams: list[list[Stream]] = field(default_factory=list)


def place(graph: Graph, stages: list[Stage], arch: Architecture) -> Placement:
    """Choose resident masks and describe every stage's streams."""
    placement = Placement({memory.name: memory.size for memory in arch.on_chip})
    _keep_masks(stages, arch, placement)
    types = graph.types()
    for stage in stages:
        streams: list[Stream] = []
        operands: list[Operand | None] = []
        kept: list[Stream] = []
        bias_bits = types[stage.anchor.args[2]].element_bits if stage.on_array and len(stage.anchor.args) > 2 else 0
        for operand in [*stage.operands, None, *stage.outputs]:
            if operand is None:
                if stage.on_array:
                    memory = arch.memory_for("psum").name
                    streams.append(Stream("psum", arch.array.stored_sum_bits, memory, moved=False))
                    operands.append(None)
                continue
            stays = operand.name in placement.resident
            stream = Stream(
                role=operand.role,
                bits=operand.type.element_bits,
                memory=placement.resident[operand.name][0] if stays else staging_memory(operand, arch),
                moved=not stays,
                halo=operand.role in ("input", "index"),
                extra_bits_per_k=bias_bits if operand.role == "weight" else 0,
            )
            if stays:
                kept.append(stream)
            else:
                streams.append(stream)
                operands.append(operand)
        placement.streams.append(tuple(streams))
        placement.operands.append(operands)
        placement.resident_streams.append(kept)
    return placement


def staging_memory(operand: Operand, arch: Architecture) -> str:
    """Return the on-chip memory whose buffers the tiles of an operand pass through."""
    memory = arch.memory_for(operand.memory_class)  # type: ignore[arg-type] # one of OPERANDS by construction
    return memory.name if isinstance(memory, Sram) else arch.memory_for("activation").name


def _keep_masks(stages: list[Stage], arch: Architecture, placement: Placement) -> None:
    """Keep masks and indices on chip, largest first; leave room for the tiles of those that do not fit."""
    memory = arch.memory_for("mask")
    if not isinstance(memory, Sram):
        return
    masks = {
        o.name: slot_bytes(o.type.size_bits) for stage in stages for o in stage.outputs if o.memory_class == "mask"
    }
    room = memory.size if memory.holds == ("mask",) else memory.size // 2
    if sum(masks.values()) > room:
        room -= memory.size // 4
    top = memory.size
    for name, size in sorted(masks.items(), key=lambda item: (-item[1], item[0])):
        if size <= room:
            top, room = top - size, room - size
            placement.resident[name] = (memory.name, top)
    placement.free[memory.name] = top
