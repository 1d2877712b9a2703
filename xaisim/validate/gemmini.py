"""Section: layers on Gemmini's RTL, each with its own mapping and buffers, beside our cycles.

rows = read_rows("gemmini_rtl.csv")         # refuses what is no row, with file, row, rule and value
timed = time_rows(rows)
summary(timed).mape_pct
"""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from xaisim.config import UserError
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.array import SystolicArray
from xaisim.hardware.soc import Soc, load_soc
from xaisim.mapping.commands.lower import lower_nest
from xaisim.mapping.commands.nest import Layer, Nest, NestError, check_nest, parse_nest
from xaisim.simulate.clock import run_trip
from xaisim.validate.gemmini_tiles import tile_machine_cycles
from xaisim.validate.section import Cell, Scatter, Section

SHIPPED = Path(__file__).resolve().parent / "data" / "gemmini_rtl.csv"
SYSTEM = "gemmini_16"
_COUNTS = (*Layer._fields, "accumulator_entries", "scratchpad_entries", "pe")
_COLUMNS = (*_COUNTS, "mapping", "rtl_cycles")
_PUBLISHED = "analytical_cycles"
_SOURCE = (
    "Hong et al., DOSA, MICRO 2023: measurements of Gemmini's RTL in FireSim (github.com/ucb-bar/dosa, BSD-2-Clause)"
)


class Row(NamedTuple):
    """One measurement."""

    number: int
    layer: Layer
    nest: Nest
    accumulator_rows: int
    scratchpad_bytes: int
    rtl_cycles: float
    published_cycles: float | None
    """What the analytical model says that was published with the data."""


class Timed(NamedTuple):
    """A measurement and our cycles."""

    row: Row
    cycles: int

    @property
    def error(self) -> float:
        """Ours over measured, less one."""
        return self.cycles / self.row.rtl_cycles - 1


class Summary(NamedTuple):
    """Errors over a set of rows, in percent."""

    rows: int
    mape_pct: float
    median_pct: float
    worst_pct: float


class Refused(NamedTuple):
    """A row of a file that was left out, and why."""

    number: int
    reason: str


def read_rows(path: str | Path = SHIPPED, soc: Soc | None = None) -> list[Row]:
    """Return the rows of a CSV file; raise ``UserError`` with file, row, rule and value for the first wrong one."""
    return _read(path, soc, skip=False)[0]


def read_good_rows(path: str | Path, soc: Soc | None = None) -> tuple[list[Row], list[Refused]]:
    """Return the rows that can be timed and those that cannot; raise ``UserError`` where none can be."""
    rows, refused = _read(path, soc, skip=True)
    if not rows:
        raise UserError(f"{path}: none of {len(refused)} rows can be timed; the first: {refused[0].reason}")
    return rows, refused


def _read(path: str | Path, soc: Soc | None, *, skip: bool) -> tuple[list[Row], list[Refused]]:
    arch = load_architecture((soc or load_soc(SYSTEM)).architecture)
    rows: list[Row] = []
    refused: list[Refused] = []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: missing column {', '.join(missing)}; needed: {', '.join(_COLUMNS)}")
            for number, cells in enumerate(reader, start=1):
                try:
                    rows.append(_row(number, cells, arch))
                except _RowError as error:
                    told = f"row {number}: {error}"
                    if not skip:
                        raise UserError(f"{path}: {told}") from None
                    refused.append(Refused(number, told))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no CSV text: {error}") from None
    if not rows and not refused:
        raise UserError(f"{path}: has no rows below its heading")
    return rows, refused


class _RowError(ValueError):
    """A cell that is wrong: its column, the rule and the value."""


def _row(number: int, cells: dict[str, Any], arch: Architecture) -> Row:
    counts = {name: _number(cells, name, whole=True) for name in _COUNTS}
    layer = Layer(*(int(counts[name]) for name in Layer._fields))
    array = arch.array
    assert isinstance(array, SystolicArray)
    if counts["pe"] != array.macs_per_cycle:
        raise _RowError(f"pe: {arch.name} has {array.macs_per_cycle} (got {counts['pe']:g})")
    if layer.N != 1:
        raise _RowError(f"N: the measured programs run one picture (got {layer.N})")
    accumulator, scratchpad = int(counts["accumulator_entries"]), int(counts["scratchpad_entries"])
    try:
        nest = parse_nest(str(cells["mapping"] or ""))
        check_nest(nest, layer, side=array.rows, accumulator_rows=accumulator, scratchpad_bytes=scratchpad)
    except NestError as error:
        raise _RowError(f"mapping: {error}") from None
    published = _number(cells, _PUBLISHED) if cells.get(_PUBLISHED) else None
    measured = _number(cells, "rtl_cycles")
    return Row(number, layer, nest, accumulator, scratchpad, measured, published)


def _number(cells: dict[str, Any], name: str, *, whole: bool = False) -> float:
    text = str(cells[name] or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e18 or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise _RowError(f"{name}: must be {kind} of at least 1 (got {text!r})")
    return value


def time_row(row: Row, soc: Soc) -> int:
    """Return the cycles of one row: its nest lowered to tiles and run on the clock, the mean over base addresses."""
    runs = [run_trip(lower_nest(row.nest, row.layer, soc, base_offset=offset)) for offset in soc.base_offsets]
    return round(statistics.fmean(int(run.end.max()) for run in runs))


def time_rows(rows: Sequence[Row], soc: Soc | None = None) -> list[Timed]:
    """Time all rows, as many at once as there are cores; the kernels need no lock."""
    system = soc or load_soc(SYSTEM)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cycles = list(pool.map(lambda row: time_row(row, system), rows))
    return [Timed(row, count) for row, count in zip(rows, cycles, strict=True)]


def summary(timed: Sequence[Timed]) -> Summary:
    """Return mean, median and largest absolute error."""
    errors = [100 * abs(t.error) for t in timed]
    return Summary(len(errors), statistics.fmean(errors), statistics.median(errors), max(errors))


def group_name(row: Row) -> str:
    """Return which measured program a row is from: rows with the same buffers were run as one."""
    kind = "products" if row.layer.is_product else "convolutions"
    return f"{row.accumulator_rows} × {row.scratchpad_bytes // 1024} KiB, {kind}"


def groups(timed: Sequence[Timed]) -> dict[str, list[Timed]]:
    """Return the rows by ``group_name``, in the order of the file."""
    found: dict[str, list[Timed]] = {}
    for t in timed:
        found.setdefault(group_name(t.row), []).append(t)
    return found


_TEXT = """
Every row is a layer that ran on Gemmini's RTL (16×16, int8, weight stationary) in FireSim with the mapping that it
names. Ours is that mapping lowered to commands and run on the clock (docs/gemmini.md): physical terms only, the same
for every row. What no source gives was read from 84 of the rows; rows {unseen}, the largest layers, were
left out of that and have a mean error of {unseen_mean:.1f} %. Beside it stands the analytical model published with the
data.

The error is that of this model of commands (`benchmarks/gemmini.py`). `xaisim profile --arch gemmini_16` is another:
the tile machine that all presets share, with tiles that its mapper chooses and without Gemmini's host, caches and
window of requests. It is optimistic: over these rows it takes {tile_machine:.2f} times the measured cycles (median; the
last column), {least:.2f} times at worst.
"""
UNSEEN = (*range(28, 38), *range(66, 76), *range(104, 114))
"""Shipped rows that no term was read from."""


def section() -> Section:
    """Return the shipped rows by measured program, with every row in the plot."""
    timed = time_rows(read_rows())
    total, ratios = summary(timed), _tile_machine_ratios(timed)
    rows: list[tuple[Cell, ...]] = []
    for name, members in {**groups(timed), "all": timed}.items():
        found, ratio = summary(members), statistics.median(ratios[t.row.number] for t in members)
        rows.append((name, found.rows, *(round(x, 1) for x in found[1:]), _published(members), round(ratio, 2)))
    unseen = summary([t for t in timed if t.row.number in UNSEEN])
    return Section(
        title="Gemmini: layers on its RTL",
        text=_TEXT.format(
            unseen="28–37, 66–75 and 104–113", unseen_mean=unseen.mape_pct,
            tile_machine=statistics.median(ratios.values()), least=min(ratios.values()),
        ),
        columns=("accumulator × scratchpad", "rows", "mean error %", "median %", "worst %", "published model, mean %",
                 "tile machine ÷ RTL"),
        rows=rows,
        source=_SOURCE,
        verdict=f"model of commands: mean error {total.mape_pct:.1f} %, median {total.median_pct:.1f} % over "
        f"{total.rows} rows; the tile machine of `xaisim profile` is optimistic",
        scatter=Scatter(
            x_label="measured cycles",
            y_label="error, %",
            x=[t.row.rtl_cycles for t in timed],
            y=[100 * t.error for t in timed],
            names=[f"row {t.row.number}" for t in timed],
            guides=(-10.0, 10.0),
        ),
    )  # fmt: skip


def _tile_machine_ratios(timed: Sequence[Timed]) -> dict[int, float]:
    """Return the tile machine's cycles over the measured ones, by number of the row."""
    arch = load_architecture(load_soc(SYSTEM).architecture)
    cycles = {layer: tile_machine_cycles(layer, arch) for layer in {t.row.layer for t in timed}}
    return {t.row.number: cycles[t.row.layer] / t.row.rtl_cycles for t in timed}


def _published(timed: Sequence[Timed]) -> float | None:
    errors = [abs(t.row.published_cycles / t.row.rtl_cycles - 1) for t in timed if t.row.published_cycles]
    return round(100 * statistics.fmean(errors), 1) if errors else None
