"""Section: what published DRAM timings say about single reads, row cycles and streams, beside the walk's clocks.

The published clocks are typed in here; the presets in ``arch_configs/dram`` are other files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.config import load_data
from xaisim.hardware.dram import Dram, DramPort
from xaisim.hardware.dram_service import Pieces, Service, service
from xaisim.validate.section import Cell, Section

MIB = 1 << 20
_IDLE = 100_000  # cycles between transfers: every rule has run out


class Published(NamedTuple):
    """Clocks of one preset, and the organisation that its closed forms need."""

    name: str
    tck_ns: float
    CL: int
    RCD: int
    RP: int
    RC: int
    burst: int
    RRD_S: int
    channels: int
    groups: int
    burst_bytes: int


PUBLISHED = (
    Published("ddr3_1600k", 1.25, 11, 11, 11, 39, 4, 5, 1, 1, 64),
    Published("ddr4_2400r", 0.833, 16, 16, 16, 55, 4, 4, 1, 4, 64),
    Published("lpddr4_3200", 0.625, 28, 29, 29, 97, 8, 16, 2, 1, 32),
    Published("lpddr5_6400", 1.25, 17, 15, 15, 49, 2, 4, 4, 4, 32),
    Published("hbm2_2000", 1.0, 14, 14, 14, 48, 2, 4, 16, 4, 32),
)


def section() -> Section:
    """Return every preset's closed forms beside the walk's clocks."""
    rows = [row for published in PUBLISHED for row in _rows(published)]
    equal = sum(row[3] == row[4] for row in rows)
    text = (
        "In memory clocks, refresh aside: until the first data of a read are there, from a closed bank, from one in "
        "which another row is open, and from an open row; a hundred reads of two rows of one bank in turn; and a "
        "stream of 1 MiB per channel, whose bursts follow each other on the bus once the first rows are open."
    )
    source = (
        "JEDEC clocks as tabulated in Ramulator 2.1 (python/ramulator/dram, 2026) and DRAMSys (configs/memspec); "
        "latency of a row miss and peak of a stream are what Ramulator's own tests compare its models with"
    )
    columns = ("preset", "case", "sum", "published", "ours")
    verdict = f"{equal} of {len(rows)} equal"
    return Section("DRAM timings", text, columns, rows, source, verdict, exact=equal == len(rows))


def _rows(p: Published) -> list[tuple[Cell, ...]]:
    memory = _port(p)
    row_of_bank = memory.size // 2
    single = _serve(memory, (0, 1, 0), (row_of_bank, 1, 0), (row_of_bank, 1, 0)).first_data_cycles.tolist()
    pairs = _serve(memory, (0, 50, row_of_bank))
    stream = _serve(memory, (0, 0, p.channels * MIB))
    # Rows of the first bank groups open RRD_S apart, where that is more than a burst.
    opening = (p.groups - 1) * max(0, p.RRD_S - p.burst)
    bursts = MIB // p.burst_bytes
    return [
        (p.name, "read, closed bank", "RCD + CL + burst", p.RCD + p.CL + p.burst, single[0]),
        (p.name, "read, other row open", "RP + RCD + CL + burst", p.RP + p.RCD + p.CL + p.burst, single[1]),
        (p.name, "read, open row", "CL + burst", p.CL + p.burst, single[2]),
        (p.name, "two rows in turn", "RCD + 99 RC + burst", p.RCD + 99 * p.RC + p.burst, _clocks(pairs)),
        (
            p.name,
            "stream",
            f"RCD + {opening} + {bursts} · {p.burst}",
            p.RCD + opening + bursts * p.burst,
            _clocks(stream),
        ),
    ]


def _port(p: Published) -> DramPort:
    """Return the preset as a machine sees it whose clock is the memory's."""
    data = {"name": "dram", "kind": "dram", "size": "1GiB", "timing": p.name, "energy": "generic"}
    return load_data(Dram, data).port(1000 / p.tck_ns)


def _serve(memory: DramPort, *reads: tuple[int, int, int]) -> Service:
    """Serve reads of (address, pairs, distance of the second of a pair); no pairs: ``distance`` bytes in a row."""
    address, pairs, distance = np.array(reads, np.int64).T
    inner = np.where((pairs > 0) & (distance > 0), 2, 1)
    size = np.where(pairs > 0, memory.burst_bytes, distance)
    order, none = np.arange(len(address)), np.zeros_like(address)
    pieces = Pieces(order, 8 * address, np.maximum(pairs, 1), none, inner, 8 * distance, 8 * size)
    return service(memory, pieces, none, gap_cycles=_IDLE)


def _clocks(served: Service) -> int:
    return int(served.occupancy_cycles[0] - served.refresh_cycles[0])
