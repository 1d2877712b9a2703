"""Energy coefficients as data: a cost table, each coefficient with its source, node and voltage.

    table = load_costs("asic_45nm")
    scale_energy(45, 0.9, 32, 0.9)       # 0.642: the same circuit in 32 nm

Areas stand in the same table. Scaling between nodes and voltages follows Stillmaker and Baas, Integration 58 (2017).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field

from xaisim.config import Bytes, Config, find_named, load_yaml

# Stillmaker and Baas 2017: relative switching energy at V volts is a·V² + b·V + c.
ENERGY_POLYNOMIALS: dict[int, tuple[float, float, float]] = {
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}


# The same, table of areas: a circuit's area in other nodes as a share of that in 45 nm.
AREAS: dict[int, float] = {
    130: 6.4, 90: 2.8, 65: 1.5, 45: 1, 32: 0.46, 20: 0.21, 16: 0.19, 14: 0.17, 10: 0.1, 7: 0.059,
}  # fmt: skip


class Technology(Config):
    """A process node and its supply. Below 0.6 V the scaling polynomials no longer fall with the voltage."""

    node_nm: float = Field(ge=5, le=180)
    voltage_v: float = Field(ge=0.6, le=1.5)

    def __str__(self) -> str:
        return f"{self.node_nm:g} nm {self.voltage_v:g} V"


class Coefficient(Technology):
    """The node and voltage that a coefficient holds at, and where it is from."""

    source: str = Field(min_length=1)


class AdderCost(Coefficient):
    """An integer addition."""

    pj_per_bit: float = Field(gt=0)


class MultiplierCost(Coefficient):
    """An integer multiplication of n × n bits: ``pj_per_bit2``·n² + ``pj_per_bit``·n."""

    pj_per_bit2: float = Field(gt=0)
    pj_per_bit: float = Field(ge=0)


class RegisterCost(Coefficient):
    """A read or write of a register file of ``reference_size``; it grows in proportion to the size."""

    pj_per_bit: float = Field(ge=0)
    reference_size: Bytes


class SramCost(Coefficient):
    """An on-chip memory: energy per bit grows with (size / reference size)^exponent."""

    read_pj_per_bit: float = Field(gt=0)
    reference_size: Bytes
    size_exponent: float = Field(ge=0, le=1)
    write_over_read: float = Field(gt=0)


class DramCost(Config):
    """Memory outside the chip, interface included. Never scaled with the chip's node."""

    pj_per_bit: float = Field(gt=0)
    source: str = Field(min_length=1)


class AreaCost(Config):
    """Area of cells and memory macros, in µm² at ``node_nm``."""

    adder_um2_per_bit: float = Field(gt=0)
    multiplier_um2_per_bit2: float = Field(gt=0)
    """A multiplier of n × n bits takes this times n² and the next times n."""
    multiplier_um2_per_bit: float = Field(ge=0)
    register_um2_per_bit: float = Field(gt=0)
    sram_um2_per_bit: float = Field(gt=0)
    node_nm: float = Field(ge=5, le=180)
    source: str = Field(min_length=1)


class CostTable(Config):
    """All coefficients that a run uses: energies, and areas where the table has them."""

    adder: AdderCost
    multiplier: MultiplierCost
    register_write: RegisterCost
    sram: SramCost
    dram: dict[str, DramCost]
    area: AreaCost | None = None


def load_costs(name: str) -> CostTable:
    """Return a table of ``arch_configs/costs`` (or a file); raise ``UserError`` with the choices if unknown.

    Parsing takes longer than timing a small network, so a table is remembered by its content.
    """
    path = find_named("arch_configs/costs", name, kind="cost table")
    try:
        content = path.read_bytes()
    except OSError:  # ``load_yaml`` tells it in our words
        content = b""
    return _table(path, content)


@lru_cache(maxsize=16)
def _table(path: Path, _content: bytes) -> CostTable:
    return load_yaml(CostTable, path)


def nearest_node_nm(node_nm: float) -> int:
    """Return the tabulated node nearest to ``node_nm``; the smaller one if two are equally near."""
    return min(ENERGY_POLYNOMIALS, key=lambda node: (abs(node - node_nm), node))


def scale_energy(from_nm: float, from_v: float, to_nm: float, to_v: float) -> float:
    """Return the factor that takes a circuit's energy from one node and voltage to another."""
    return _relative_energy(to_nm, to_v) / _relative_energy(from_nm, from_v)


def scale_area(from_nm: float, to_nm: float) -> float:
    """Return the factor that takes a circuit's area from one node to another."""
    return AREAS[nearest_node_nm(to_nm)] / AREAS[nearest_node_nm(from_nm)]


def _relative_energy(node_nm: float, voltage_v: float) -> float:
    a, b, c = ENERGY_POLYNOMIALS[nearest_node_nm(node_nm)]
    return a * voltage_v**2 + b * voltage_v + c
