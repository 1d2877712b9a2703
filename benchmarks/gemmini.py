"""Layers on Gemmini's RTL beside our cycles, each row with its own mapping and buffers.

    python benchmarks/gemmini.py [CSV] [--rows] [--json] [--system NAME]

CSV has the columns of ``xaisim/validate/data/gemmini_rtl.csv``, which is read by default. ``--json`` prints
``mape_pct`` and ``median_pct`` over all rows; with ``--rows`` the rows too.
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from xaisim.config import UserError
from xaisim.hardware.soc import load_soc
from xaisim.validate.gemmini import SHIPPED, SYSTEM, Timed, groups, read_rows, summary, time_rows


def as_dict(timed: Timed) -> dict[str, object]:
    """Return a row as plain data."""
    row = timed.row
    return {
        "row": row.number,
        **row.layer._asdict(),
        "accumulator_entries": row.accumulator_rows,
        "scratchpad_entries": row.scratchpad_bytes,
        "mapping": str(row.nest),
        "rtl_cycles": row.rtl_cycles,
        "cycles": timed.cycles,
        "error_pct": round(100 * timed.error, 3),
    }


def print_tables(timed: list[Timed], *, rows: bool) -> None:
    """Print errors by measured program, and row by row if asked."""
    console = Console()
    table = Table("accumulator × scratchpad", "rows", "mean %", "median %", "worst %")
    for name, members in {**groups(timed), "all": timed}.items():
        found = summary(members)
        table.add_row(name, str(found.rows), *(f"{x:.1f}" for x in found[1:]))
    if rows:
        for t in timed:
            console.print(
                f"{t.row.number:4d} {t.row.rtl_cycles:12.0f} {t.cycles:12d} {100 * t.error:+7.1f} %  {t.row.nest}"
            )
    console.print(table)


def main() -> int:
    """Read, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="?", default=str(SHIPPED), metavar="CSV")
    parser.add_argument("--rows", action="store_true", help="every row, not only the summary")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--system", default=SYSTEM, help="a system of arch_configs/soc, or a file")
    options = parser.parse_args()
    try:
        soc = load_soc(options.system)
        timed = time_rows(read_rows(options.csv, soc), soc)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        found = summary(timed)._asdict()
        print(json.dumps({**found, **({"by_row": [as_dict(t) for t in timed]} if options.rows else {})}))
    else:
        print_tables(timed, rows=options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
