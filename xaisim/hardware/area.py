"""Silicon area of a machine that is a chip of its own: the multipliers, adders, registers and memories it names.

    area(load_architecture("edge_systolic_16")).total_mm2
    area(load_architecture("pynq_z2"))                 # None: a board has DSP blocks and block RAM instead

Coefficients stand with their source in ``arch_configs/costs``. Not in it: wiring and the room that placement leaves,
controllers, DMA engines, the host, buses, pads, clock tree, second ports of memories, and the DRAM and its interface.
"""

from __future__ import annotations

from typing import NamedTuple

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import Array, GridArray, UnrolledArray
from xaisim.hardware.cost_table import AreaCost, load_costs, scale_area


class Area(NamedTuple):
    """Areas in mm² at the machine's node."""

    array_mm2: float
    vector_mm2: float
    memory_mm2: float

    @property
    def total_mm2(self) -> float:
        """All of it."""
        return sum(self)


def area(arch: Architecture) -> Area | None:
    """Return the area of a machine; None for a board, and where its cost table has no areas."""
    cost = load_costs(arch.costs).area
    if arch.board is not None or cost is None:
        return None
    array, bits, sums = arch.array, arch.array.multiplier_bits, arch.array.accumulator_bits
    lane = _multiplier_um2(bits, cost) + sums * (cost.adder_um2_per_bit + cost.register_um2_per_bit)
    memory_bits = 8 * sum(memory.size for memory in arch.on_chip)
    scale = scale_area(cost.node_nm, arch.technology.node_nm) * 1e-6
    return Area(
        array.macs_per_cycle * _element_um2(array, cost) * scale,
        arch.vector.lanes * lane * scale,
        memory_bits * cost.sram_um2_per_bit * scale,
    )


def _element_um2(array: Array, cost: AreaCost) -> float:
    """Return the area of one multiplier with its adder and registers.

    An unrolled array's multipliers share accumulators, one per adder tree; a systolic element holds two operands and a
    sum, and one of a grid its register files.
    """
    bits, sums = array.multiplier_bits, array.accumulator_bits
    arithmetic = _multiplier_um2(bits, cost) + sums * cost.adder_um2_per_bit
    if isinstance(array, GridArray):
        stored = (array.registers.input + array.registers.weight) * bits + array.registers.psum * sums
    elif isinstance(array, UnrolledArray):
        stored = 2 * bits + sums / max(form.C * form.R * form.S for form in array.forms)
    else:
        stored = 2 * bits + sums
    return arithmetic + stored * cost.register_um2_per_bit


def _multiplier_um2(bits: int, cost: AreaCost) -> float:
    return cost.multiplier_um2_per_bit2 * bits**2 + cost.multiplier_um2_per_bit * bits
