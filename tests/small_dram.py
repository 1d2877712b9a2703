"""A small DRAM with round figures, and transfers for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xaisim.config import load_data
from xaisim.hardware import Dram, DramPort, DramTiming
from xaisim.hardware.dram_service import Pieces, Service

# A small DRAM with a clock of 1 ns, whose every rule can be made the one that binds. Bursts of 64 B take 4 clocks.
SMALL: dict[str, Any] = {
    "name": "small", "standard": "none", "source": "this test", "channels": 1, "interleave": None, "bus_bits": 64,
    "burst_length": 8, "bank_groups": 2, "banks": 8, "row_size": "1KiB", "tck_ns": 1.0, "transfers_per_clock": 2,
    "CL": 10, "CWL": 8, "RCD": 9, "RP": 11, "RAS": 30, "RC": 41, "CCD_S": 4, "CCD_L": 6, "RRD_S": 4, "RRD_L": 5,
    "FAW": 20, "RTP": 7, "WR": 12, "RTW": 8, "WTR": 5, "refresh_every_ns": 7800.0, "refresh_ns": 260.0,
    "address_map": "RoBaBgCo", "page_policy": "open", "lookahead_bursts": 8, "controller_ns": 30.0,
}  # fmt: skip
TIMES = ["CL", "CWL", "RCD", "RP", "RAS", "CCD_S", "CCD_L", "RRD_S", "RRD_L", "FAW", "RTP", "WR", "RTW", "WTR"]
LONG_GAP = 10_000  # cycles behind a transfer in which every rule that it set runs out
Run = tuple[int, int, int, int, int, int]


def dram(size: str = "1MiB", **changes: Any) -> DramPort:
    """Return the small DRAM with some keys changed (RC follows), seen by a machine with its own clock."""
    timing = {**SMALL, **changes}
    timing["RC"] = timing["RAS"] + timing["RP"]
    data = {"name": "dram", "kind": "dram", "size": size, "timing": timing, "energy": "generic"}
    return load_data(Dram, data).port(1000 / timing["tck_ns"])


def preset(name: str, clock_mhz: float = 200.0) -> DramPort:
    data = {"name": "dram", "kind": "dram", "size": "1GiB", "timing": name, "energy": "generic"}
    return load_data(Dram, data).port(clock_mhz)


def timing_of(memory: DramPort) -> DramTiming:
    assert memory.timing is not None
    return memory.timing


def at(row: int, bank: int = 0, group: int = 0, burst: int = 0) -> int:
    """Return an address of the small DRAM: rows of 16 bursts, 2 groups of 4 banks."""
    return (((row * 4 + bank) * 2 + group) * 16 + burst) * 64


def pieces(address: int, *, inner: tuple[int, int] = (1, 0), outer: tuple[int, int] = (1, 0), size: int = 64) -> Run:
    """Return runs of ``size`` bytes, (count, stride in bytes) per axis: a transfer or a part of one."""
    return (address, *outer, *inner, size)


class Stream(NamedTuple):
    """What ``service`` is given."""

    pieces: Pieces
    is_write: np.ndarray


def transfers(*rows: Run | list[Run], writes: Any = 0) -> Stream:
    """Return transfers, each of one kind of runs or of several."""
    parts = [(i, *run) for i, row in enumerate(rows) for run in (row if isinstance(row, list) else [row])]
    transfer, address, outer, outer_stride, inner, inner_stride, size = np.array(parts, np.int64).T
    bits = (8 * address, outer, 8 * outer_stride, inner, 8 * inner_stride, 8 * size)
    return Stream(Pieces(transfer, *bits), np.broadcast_to(np.array(writes, np.int64), len(rows)))


def clocks(s: Service) -> list[int]:
    """Return what transfers take without refresh."""
    return (s.occupancy_cycles - s.refresh_cycles).tolist()


SAME_ROW, OTHER_GROUP, OTHER_BANK = (
    pieces(0, inner=(2, 64)),
    pieces(0, inner=(2, at(0, 0, 1))),
    pieces(0, inner=(2, at(0, 1))),
)
NEXT_ROW = pieces(0, inner=(2, at(1)))
SIX_BANKS = pieces(0, inner=(3, at(0, 1)), outer=(2, at(0, 0, 1)))
SIMPLE = {
    "name": "dram", "kind": "dram", "size": "1GiB", "bytes_per_cycle": 16, "latency_cycles": 40, "burst_bytes": 64,
    "energy": "ddr3",
}  # fmt: skip
