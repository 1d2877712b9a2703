"""Layers on Gemmini's RTL beside our cycles, each row with its own mapping and buffers.

    python benchmarks/gemmini.py [CSV] [--rows] [--json] [--skip] [--tile-machine] [--terms] [--system NAME]

CSV has the columns of ``xaisim/validate/data/gemmini_rtl.csv``, which is read by default. ``--json`` prints
``mape_pct`` and ``median_pct`` over all rows; with ``--rows`` the rows too. A row that cannot be timed ends the
command; with ``--skip`` it is named on stderr and under ``skipped``. ``--tile-machine`` times each row's layer as
``xaisim profile`` does, too. ``--terms`` prints for every term that was read from rows which rows follow it most.
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from xaisim.config import UserError
from xaisim.hardware.architecture import load_architecture
from xaisim.hardware.soc import Soc, load_soc
from xaisim.validate.gemmini import (
    SHIPPED,
    SYSTEM,
    UNSEEN,
    Row,
    Timed,
    groups,
    read_good_rows,
    read_rows,
    summary,
    time_rows,
)
from xaisim.validate.gemmini_tiles import tile_machine_cycles


def as_dict(timed: Timed, tile_machine: int | None) -> dict[str, object]:
    """Return a row as plain data."""
    row = timed.row
    more = {} if tile_machine is None else {"tile_machine_cycles": tile_machine}
    return {
        "row": row.number,
        **row.layer._asdict(),
        "accumulator_entries": row.accumulator_rows,
        "scratchpad_entries": row.scratchpad_bytes,
        "mapping": str(row.nest),
        "rtl_cycles": row.rtl_cycles,
        "cycles": timed.cycles,
        "error_pct": round(100 * timed.error, 3),
        **more,
    }


def print_tables(timed: list[Timed], tiles: list[int] | list[None], *, rows: bool) -> None:
    """Print errors by measured program, and row by row if asked."""
    console = Console()
    table = Table("accumulator × scratchpad", "rows", "mean %", "median %", "worst %")
    for name, members in {**groups(timed), "all": timed}.items():
        found = summary(members)
        table.add_row(name, str(found.rows), *(f"{x:.1f}" for x in found[1:]))
    if rows:
        for t, generic in zip(timed, tiles, strict=True):
            other = "" if generic is None else f"{generic:12d}"
            ours = f"{t.row.rtl_cycles:12.0f} {t.cycles:12d} {100 * t.error:+7.1f} % {other}"
            console.print(f"{t.row.number:4d} {ours} {t.row.nest}")
    console.print(table)


TERMS = {
    "host": ("layer_cycles", "conv_tile_cycles", "matmul_tile_cycles", "send_cycles"),
    "window": ("cycles",),
    "reads": ("round_trip_cycles", "command_cycles", "finish_cycles"),
    "writes": ("round_trip_cycles", "beat_cycles", "start_cycles"),
    "llc": ("latency_cycles", "evict_cycles", "dram_cycles"),
}
"""What of the system was read from rows."""


def print_terms(rows: list[Row], soc: Soc) -> None:
    """Print the eight rows that each term changes most, in percent for a tenth more of it (measured with a quarter)."""
    now = [t.cycles for t in time_rows(rows, soc)]
    for part, names in TERMS.items():
        for name in names:
            value = getattr(getattr(soc, part), name)
            step = max(1, round(value / 4))
            more = getattr(soc, part).model_copy(update={name: value + step})
            then = time_rows(rows, soc.model_copy(update={part: more}))
            per_tenth = [10 * value / step * (t.cycles / c - 1) for t, c in zip(then, now, strict=True)]
            found = sorted(zip(per_tenth, (row.number for row in rows), strict=True), reverse=True)[:8]
            print(f"{part}.{name} {value}:", ", ".join(f"row {n} {change:+.2f} %" for change, n in found), flush=True)


def main() -> int:
    """Read, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="?", default=str(SHIPPED), metavar="CSV")
    parser.add_argument("--rows", action="store_true", help="every row, not only the summary")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--skip", action="store_true", help="leave rows out that cannot be timed, and name them")
    parser.add_argument("--tile-machine", action="store_true", help="each row on the machine of xaisim profile, too")
    parser.add_argument("--terms", action="store_true", help="which of the rows that terms were read from follow each")
    parser.add_argument("--system", default=SYSTEM, help="a system of arch_configs/soc, or a file")
    options = parser.parse_args()
    try:
        soc = load_soc(options.system)
        rows, skipped = read_good_rows(options.csv, soc) if options.skip else (read_rows(options.csv, soc), [])
        if options.terms:
            print_terms([row for row in rows if row.number not in UNSEEN], soc)
            return 0
        timed = time_rows(rows, soc)
        arch = load_architecture(soc.architecture)
        wanted = options.rows or options.tile_machine
        tiles = [tile_machine_cycles(row.layer, arch) if options.tile_machine else None for row in rows]
    except UserError as error:
        for problem in str(error).splitlines():
            print(f"error: {problem}", file=sys.stderr)
        return 2
    if skipped:
        print(f"skipped {len(skipped)} of {len(skipped) + len(rows)} rows of {options.csv}", file=sys.stderr)
        for refused in skipped:
            print(f"skipped: {refused.reason}", file=sys.stderr)
    if options.json:
        found = {**summary(timed)._asdict(), "skipped": [refused._asdict() for refused in skipped]}
        by_row = [as_dict(t, generic) for t, generic in zip(timed, tiles, strict=True)]
        print(json.dumps({**found, **({"by_row": by_row} if wanted else {})}))
    else:
        print_tables(timed, tiles, rows=wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
