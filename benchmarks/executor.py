"""Run every method of every trained network on every preset, tile by tile on modelled memories, and compare the bits.

    python benchmarks/executor.py [--network cifar_cnn] [--preset pynq_z2] [--method saliency] [--jobs 2] [--json]

Prints a line per network, method and preset; exit code 1 if a bit differs. A row is a transfer or a computation.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tiles are small, and methods run side by side

from xaisim.attribution.methods import METHODS
from xaisim.config import shipped_names
from xaisim.validate.executor import NETWORKS, table


def main() -> int:
    """Print the table; return 1 if any output differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", choices=NETWORKS, help="may be repeated; default: all three")
    parser.add_argument(
        "--preset", action="append", help="name or file; may be repeated; default: all that are shipped"
    )
    parser.add_argument("--method", action="append", choices=list(METHODS), help="may be repeated; default: all")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="methods at a time; default: one per core"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    chosen = parser.parse_args()
    presets = chosen.preset or shipped_names("arch_configs")
    # The largest come first, so that all cores have work to the end.
    networks, methods = chosen.network or NETWORKS[::-1], chosen.method or list(METHODS)[::-1]
    lines, start = [], time.perf_counter()
    for line in table(networks, methods, presets, chosen.jobs):
        lines.append(line)
        if not chosen.json:
            print(f"{line.network:18} {line.method:20} {line.preset:20} {line.launches:2} launches {line.rows:7,} rows "
                  f"{line.numbers:7,} numbers, {line.differing} differ", flush=True)  # fmt: skip
    differing, seconds = sum(line.differing for line in lines), time.perf_counter() - start
    total = {"cases": len(lines), "rows": sum(line.rows for line in lines), "differing": differing, "seconds": seconds}
    if chosen.json:
        print(json.dumps({"lines": [line._asdict() for line in lines], **total}, indent=2))
    else:
        print(f"{len(lines)} cases, {total['rows']:,} rows in {seconds:.0f} s, {differing} numbers differ")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
