"""What each DRAM preset makes of a stream and of single bursts anywhere, and how fast that is computed.

python benchmarks/dram.py
"""

from __future__ import annotations

import time

import numpy as np

from xaisim.config import load_data, shipped_names
from xaisim.hardware import Dram, DramPort
from xaisim.hardware.dram_service import Pieces, Service, service

SIZE = 1 << 30
CLOCK_MHZ = 1000.0


def reads(address: np.ndarray, size: int) -> Pieces:
    """Return transfers of ``size`` bytes each."""
    one, none = np.ones_like(address), np.zeros_like(address)
    return Pieces(np.arange(len(address)), 8 * address, one, none, one, none, one * 8 * size)


def timed(dram: DramPort, pieces: Pieces) -> tuple[Service, float]:
    """Return the service of reads and the processor's time for it, compiled and warm."""
    write = np.zeros(len(pieces.row), bool)
    service(dram, pieces, write)
    begin = time.process_time()
    return service(dram, pieces, write), time.process_time() - begin


def main() -> None:
    """Print a line per preset."""
    print(
        f"{'preset':12} {'peak GB/s':>9} {'stream':>7} {'refresh':>8} {'64 B ns':>8} {'M bursts/s':>11} {'single':>7}"
    )
    for name in shipped_names("arch_configs/dram"):
        data = {"name": "dram", "kind": "dram", "size": f"{SIZE}B", "timing": name, "energy": "generic"}
        dram = load_data(Dram, data).port(CLOCK_MHZ)
        stream, stream_s = timed(dram, reads(np.arange(64) * (4 << 20), 4 << 20))
        single, single_s = timed(dram, reads(np.random.default_rng(0).integers(0, SIZE // 64, 200_000) * 64, 64))
        rate = stream.bus_bytes.sum() / stream.occupancy_cycles.sum() / dram.bytes_per_cycle
        refresh = stream.refresh_cycles.sum() / stream.occupancy_cycles.sum()
        print(
            f"{name:12} {dram.bytes_per_cycle:9.1f} {rate:7.1%} {refresh:8.1%} {single.occupancy_cycles.mean():8.1f} "
            f"{stream.bursts.sum() / stream_s / 1e6:11.0f} {single.bursts.sum() / single_s / 1e6:7.0f}"
        )


if __name__ == "__main__":
    main()
