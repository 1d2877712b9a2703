"""Energy of one event on one architecture: cost-table coefficients scaled to its node and voltage.

energy = EnergyModel(load_architecture("pynq_z2"))
energy.mac_pj(16, 16, 48)                            # one multiply-accumulate
energy.memory_pj_per_byte("weights", "read")
energy.scaling_notes()                               # what was scaled by how much, and whose numbers they are
"""

from __future__ import annotations

import math
from typing import Literal

from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import GridArray
from xaisim.hardware.cost_table import Coefficient, CostTable, load_costs, nearest_node_nm, scale_energy
from xaisim.hardware.dram import Dram

__all__ = ["CostTable", "EnergyModel", "load_costs"]


class EnergyModel:
    """Picojoules per event. Every coefficient is scaled from its own node and voltage; DRAM never is."""

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        self._table = load_costs(arch.costs)

    def mac_pj(self, a_bits: int, w_bits: int, acc_bits: int) -> float:
        """Return the energy of one MAC: a × w product, addition and register write in accumulator width.

        The fit for n × n bits is taken at n = √(a·w), as energy grows with the product of the widths.
        """
        cost, n = self._table.multiplier, math.sqrt(a_bits * w_bits)
        product = (cost.pj_per_bit2 * n**2 + cost.pj_per_bit * n) * self._scale(cost)
        register = self._table.register_write
        return product + self.vector_op_pj(acc_bits) + register.pj_per_bit * acc_bits * self._scale(register)

    def register_files_pj(self, array: GridArray, a_bits: int, w_bits: int) -> float:
        """Return the energy of a grid element's files per MAC: an input and a weight read, a sum read and written.

        Filling the files is not counted: their words are used many times.
        """
        files, width, sums = array.registers, array.multiplier_bits, array.accumulator_bits
        accesses = ((a_bits, files.input * width), (w_bits, files.weight * width), (2 * sums, files.psum * sums))
        return sum(bits * self.register_pj_per_bit(size / 8) for bits, size in accesses)

    def register_pj_per_bit(self, size_bytes: float) -> float:
        """Return the energy of a bit read from or written to a register file, in proportion to its size."""
        cost = self._table.register_write
        return cost.pj_per_bit * size_bytes / cost.reference_size * self._scale(cost)

    def vector_op_pj(self, bits: int) -> float:
        """Return the energy of one operation of a vector lane, counted as an addition."""
        return self._table.adder.pj_per_bit * bits * self._scale(self._table.adder)

    def memory_pj_per_byte(self, memory_name: str, access: Literal["read", "write"]) -> float:
        """Return the energy of reading or writing one byte; raise ``KeyError`` for an unknown memory.

        A bank is an SRAM of its own size; the wires between banks cost nothing.
        """
        memory = self._arch.memory(memory_name)
        if isinstance(memory, Dram):
            return 8 * self._table.dram[memory.energy].pj_per_bit
        cost = self._table.sram
        growth = (memory.bank_bytes / cost.reference_size) ** cost.size_exponent
        direction = cost.write_over_read if access == "write" else 1.0
        return 8 * cost.read_pj_per_bit * growth * direction * self._scale(cost)

    def scaling_notes(self) -> list[str]:
        """Return a sentence per coefficient: its source, the scaling applied and the nodes that it used."""
        table = self._table
        costs = {
            "adder": table.adder,
            "multiplier": table.multiplier,
            "register write": table.register_write,
            "sram": table.sram,
        }
        notes = [f"{label}: {cost.source}; {self._scaling_note(cost)}" for label, cost in costs.items()]
        dram = self._arch.dram.energy
        notes.append(f"dram ({dram}): {table.dram[dram].source}; not scaled")
        notes.append("scaling: Stillmaker and Baas, Integration 58 (2017), E = a V^2 + b V + c per node")
        if self._arch.board:
            notes.append(
                "board: these are energies of dedicated circuits; the same in programmable logic takes more, about "
                "14 times in LUTs and less in DSP and RAM blocks (Kuon and Rose, TCAD 2007); not included"
            )
        return notes

    def _scaling_note(self, cost: Coefficient) -> str:
        target = self._arch.technology
        nodes = {node: nearest_node_nm(node) for node in (cost.node_nm, target.node_nm)}
        used = ", ".join(f"{near} nm stands for {node:g} nm" for node, near in nodes.items() if near != node)
        return f"x{self._scale(cost):.4g} from {cost} to {target}" + (f" ({used})" if used else "")

    def _scale(self, cost: Coefficient) -> float:
        target = self._arch.technology
        return scale_energy(cost.node_nm, cost.voltage_v, target.node_nm, target.voltage_v)
