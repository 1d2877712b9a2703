"""The accelerator that a user describes: architecture, array closed forms, energy coefficients, FPGA resources."""

from xaisim.hardware.architecture import Architecture, Control, Dma, VectorUnit, describe, load_architecture
from xaisim.hardware.array import (
    DIMS,
    FoldTerms,
    GridArray,
    GridFold,
    SystolicArray,
    UnrolledArray,
    array_accesses,
    array_cycles,
    gemm_of_conv,
    grid_accesses,
    grid_cycles,
    grid_fold,
    systolic_cycles,
    unrolled_cycles,
)
from xaisim.hardware.costs import CostTable, EnergyModel, load_costs
from xaisim.hardware.dram import Dram, DramPort, DramTiming, load_dram_timing
from xaisim.hardware.fpga import Board, Resources, load_board, resources
from xaisim.hardware.memory import OPERANDS, Memory, Operand, Sram

__all__ = [
    "DIMS",
    "OPERANDS",
    "Architecture",
    "Board",
    "Control",
    "CostTable",
    "Dma",
    "Dram",
    "DramPort",
    "DramTiming",
    "EnergyModel",
    "FoldTerms",
    "GridArray",
    "GridFold",
    "Memory",
    "Operand",
    "Resources",
    "Sram",
    "SystolicArray",
    "UnrolledArray",
    "VectorUnit",
    "array_accesses",
    "array_cycles",
    "describe",
    "gemm_of_conv",
    "grid_accesses",
    "grid_cycles",
    "grid_fold",
    "load_architecture",
    "load_board",
    "load_costs",
    "load_dram_timing",
    "resources",
    "systolic_cycles",
    "unrolled_cycles",
]
