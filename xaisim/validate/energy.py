"""Section: energy coefficients beside published points: those that the table is made from and those it never saw."""

from __future__ import annotations

import statistics
from typing import Literal, NamedTuple

from xaisim.config import format_bytes, load_data
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.costs import EnergyModel
from xaisim.validate.section import Cell, Scatter, Section


class Point(NamedTuple):
    """A published energy of one event."""

    what: Literal["add", "multiply", "read", "write"]
    bits: int
    size: int
    """Bytes of the memory; 0 for arithmetic."""
    node_nm: int
    voltage_v: float
    pj: float
    source: str
    used: bool
    """The coefficients are made from it."""


_KIB = 1024
_HOROWITZ = "Horowitz 2014"
_INTERSTELLAR = "Interstellar 2020"
_CACTI = "CACTI 7"

# Where a source names no voltage it is taken as 0.9 V, the one of our table: an assumption.
POINTS = (
    Point("add", 8, 0, 45, 0.9, 0.03, _HOROWITZ, True),
    Point("add", 16, 0, 45, 0.9, 0.05, _HOROWITZ, True),
    Point("add", 32, 0, 45, 0.9, 0.1, _HOROWITZ, True),
    Point("multiply", 8, 0, 45, 0.9, 0.2, _HOROWITZ, True),
    Point("multiply", 32, 0, 45, 0.9, 3.1, _HOROWITZ, True),
    Point("read", 64, 8 * _KIB, 45, 0.9, 10.0, _HOROWITZ, True),
    Point("read", 64, 32 * _KIB, 45, 0.9, 20.0, _HOROWITZ, False),
    Point("read", 64, 1024 * _KIB, 45, 0.9, 100.0, _HOROWITZ, True),
    Point("read", 64, 8 * _KIB, 45, 0.9, 6.1, _CACTI, False),
    Point("read", 64, 64 * _KIB, 45, 0.9, 25.9, _CACTI, False),
    Point("write", 64, 64 * _KIB, 45, 0.9, 19.7, _CACTI, False),
    Point("read", 64, 512 * _KIB, 45, 0.9, 68.4, _CACTI, False),
    Point("read", 64, 64 * _KIB, 65, 0.9, 47.0, _CACTI, False),
    Point("write", 64, 64 * _KIB, 65, 0.9, 37.3, _CACTI, False),
    Point("read", 64, 64 * _KIB, 32, 0.9, 12.9, _CACTI, False),
    Point("write", 64, 64 * _KIB, 32, 0.9, 10.8, _CACTI, False),
    Point("read", 64, 128 * _KIB, 65, 0.9, 18.18, "Timeloop eyeriss_like", False),
    Point("write", 64, 128 * _KIB, 65, 0.9, 14.14, "Timeloop eyeriss_like", False),
    Point("read", 16, 32 * _KIB, 28, 0.9, 9.0, _INTERSTELLAR, False),
    Point("read", 16, 64 * _KIB, 28, 0.9, 13.5, _INTERSTELLAR, False),
    Point("read", 16, 128 * _KIB, 28, 0.9, 20.0, _INTERSTELLAR, False),
)


def architecture_at(point: Point) -> Architecture:
    """Return a machine in the point's technology with a memory of its size."""
    data = load_architecture("edge_systolic_32").model_dump(mode="json")
    data["technology"] = {"node_nm": point.node_nm, "voltage_v": point.voltage_v}
    data["memories"][1]["size"] = format_bytes(point.size or _KIB)
    return load_data(Architecture, data)


def our_pj(point: Point) -> float:
    """Return our energy of the same event."""
    arch = architecture_at(point)
    model = EnergyModel(arch)
    if point.what == "add":
        return model.vector_op_pj(point.bits)
    if point.what == "multiply":  # a MAC without the addition and the register behind it
        return model.mac_pj(point.bits, point.bits, 0)
    return model.memory_pj_per_byte(arch.memories[1].name, point.what) * point.bits / 8


_TEXT = """
Picojoules of one event from `arch_configs/costs/asic_45nm.yaml`, scaled to the point's node (Stillmaker and Baas
2017). Points marked *used* are what the coefficients are made from (the ratio of a write to a read is Timeloop's). The
other points disagree with each other by more than any model could follow: Interstellar's 32 KB in 28 nm takes twice the
energy per bit of Timeloop's 128 KB in 65 nm, though it is a quarter as large and in a newer process. So compare
architectures within one table, not across tables. Where a source names no voltage we take 0.9 V, an assumption.
"""


def section() -> Section:
    """Return published energies beside ours; none has to be equal."""
    rows: list[tuple[Cell, ...]] = []
    errors: dict[bool, list[float]] = {True: [], False: []}
    x, y, names = [], [], []
    for point in POINTS:
        ours = our_pj(point)
        error = 100 * (ours / point.pj - 1)
        errors[point.used].append(abs(error))
        what = f"{point.what}, {point.bits} bit" + (f", {point.size // _KIB} KiB" if point.size else "")
        rows.append(
            (what, f"{point.node_nm} nm", point.source, "used" if point.used else "", point.pj, ours, f"{error:+.0f} %")
        )
        if point.size:
            x.append(point.size / _KIB)
            y.append(error)
            names.append(f"{point.source}, {point.what}, {point.node_nm} nm")
    used, unseen = (statistics.median(errors[key]) for key in (True, False))
    return Section(
        title="Energy of single events",
        text=_TEXT,
        columns=("event", "node", "source", "", "published pJ", "ours pJ", "error"),
        rows=rows,
        source="Horowitz, ISSCC 2014; Yang et al. (Interstellar), ASPLOS 2020; Timeloop's eyeriss_like example; "
        "CACTI 7 through HWComponents-CACTI, one port",
        verdict=f"median error {used:.0f} % on points that were used, {unseen:.0f} % on the other {len(errors[False])}",
        scatter=Scatter("capacity, KiB", "error of memory energy, %", x, y, names),
    )
