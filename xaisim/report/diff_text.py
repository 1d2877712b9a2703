"""The diff as people read it: a few facts, then a line for every tensor that is stored.

facts_of(diff)      ("result", "SQNR 51.6 dB, …")
lines_of(diff)      rows with the flips of their masks and a remark
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from xaisim.numerics.twin import Kind
from xaisim.report.diff import Diff, DiffRow, Loss, Side


class Flips(NamedTuple):
    """How many stored bits or indices differ, of how many."""

    differing: int = 0
    elements: int = 0

    def more(self, differing: int, elements: int) -> Flips:
        """Return these and others: a layer may have several masks."""
        return Flips(self.differing + differing, self.elements + elements)

    def __str__(self) -> str:
        if not self.elements:
            return ""
        return f"{self.differing:,} ({100 * self.differing / self.elements:.2g} %)" if self.differing else "0"


class Line(NamedTuple):
    """One stored tensor, with what was flipped of the mask or index that belongs to it."""

    row: DiffRow
    masks: Flips
    indices: Flips
    remark: str


def lines_of(diff: Diff) -> list[Line]:
    """Return a line per stored tensor, in the order of execution; weights and unrounded sums have none."""
    remarks = _remarks(diff)
    lines: list[Line] = []
    for row in diff.rows:
        if row.kind in (Kind.VALUE, Kind.INPUT):
            lines.append(Line(row, Flips(), Flips(), remarks.get((row.kernel, row.name), "")))
        elif row.kind in (Kind.MASK, Kind.INDEX):
            at = next((n for n in reversed(range(len(lines))) if _same_layer(lines[n].row, row)), len(lines))
            if at == len(lines):
                lines.append(Line(row, Flips(), Flips(), ""))
            line = lines[at]
            if row.kind is Kind.MASK:
                lines[at] = line._replace(masks=line.masks.more(row.differing, row.elements))
            else:
                lines[at] = line._replace(indices=line.indices.more(row.differing, row.elements))
    return lines


def _same_layer(a: DiffRow, b: DiffRow) -> bool:
    return (a.kernel, a.layer, a.backward) == (b.kernel, b.layer, b.backward)


def steepest(diff: Diff) -> list[DiffRow]:
    """Return where the SQNR falls most, forward and backward, as far as it falls at all."""
    stored = [row for row in diff.rows if row.kind is Kind.VALUE and (row.growth_db or 0) > 0]
    directions = ([row for row in stored if row.backward is backward] for backward in (False, True))
    return [max(rows, key=lambda row: row.growth_db or 0) for rows in directions if rows]


def _remarks(diff: Diff) -> dict[tuple[str, str], str]:
    entries = [row for row in diff.rows if row.enters_by and row.kind is Kind.VALUE]
    remarks = {(row.kernel, row.name): f"enters by {row.enters_by}" for row in entries}
    remarks |= {(row.kernel, row.name): f"falls most: {row.growth_db:.1f} dB" for row in steepest(diff)}
    if diff.first is not None:
        remarks[diff.first.kernel, diff.first.name] = "first difference"
    return remarks


# --- facts ------------------------------------------------------------------------------------------------------------


def facts_of(diff: Diff) -> list[tuple[str, str]]:
    """Return what stands above the table, as (name, text)."""
    options = " ".join(f"{name}={value}" for name, value in diff.options.items())
    facts = [
        ("A", f"{diff.a} (the reference)"),
        ("B", diff.b),
        ("on", f"{' '.join([diff.method, options]).strip()}, {diff.model} ({diff.weights}), {diff.image}"),
        ("class", f"{diff.target}; predicted by A {diff.predicted[0]}, by B {diff.predicted[1]}"),
    ]
    if diff.first is None:
        return [*facts, ("difference", "none")]
    facts.append(("first", place_text(diff)))
    for row in steepest(diff):
        way = "backward" if row.backward else "forward"
        facts.append((f"{way}", f"the SQNR falls most at {row.name}: by {row.growth_db:.1f} to {row.sqnr_db:.1f} dB"))
    facts.append(("result", loss_text(diff.result)))
    if diff.split is not None:
        s = diff.split
        of, reference = side_name(diff, s.of), side_name(diff, s.reference)
        facts.append(("only forward", f"{loss_text(s.forward)}  (forward {of}, backward {reference})"))
        facts.append(("only backward", f"{loss_text(s.backward)}  (forward {reference}, backward {of})"))
    if diff.completeness is not None:
        c = diff.completeness
        text = f"δ {c.delta:+.4g} = {c.delta_integration:+.4g} steps {c.delta_quantisation:+.4g} bits"
        if c.delta_forward is not None and c.delta_backward is not None and c.delta_interaction is not None:
            text += (
                f" ({c.delta_forward:+.3g} forward, {c.delta_backward:+.3g} backward, {c.delta_interaction:+.3g} both)"
            )
        facts.append(("completeness", text))
    return facts


def place_text(diff: Diff) -> str:
    """Return where the first difference is, in words."""
    at = diff.first
    if at is None:
        return "none"
    row = next(row for row in diff.rows if (row.kernel, row.name) == (at.kernel, at.name))
    trip = f", trip {at.trip}" if diff.launches[at.kernel] > 1 and row.kind is not Kind.CONSTANT else ""
    element = f"[{', '.join(map(str, at.index))}]" if at.index else ""
    what = "" if row.kind is Kind.VALUE else f" ({row.kind})"
    return f"{at.name}{element}{what} in {at.kernel!r}{trip}: {at.a:.8g} in A, {at.b:.8g} in B"


def loss_text(loss: Loss) -> str:
    """Return the figures of a result in one line."""
    if loss.sqnr_db == math.inf:
        return "equal"
    return f"SQNR {loss.sqnr_db:.1f} dB, Spearman {loss.spearman:.4f}, top 1 % {100 * loss.topk_1pct:.1f} %"


def side_name(diff: Diff, side: Side) -> str:
    """Return how a run was named."""
    return diff.a if side == "a" else diff.b


# --- table ------------------------------------------------------------------------------------------------------------


def table_of(diff: Diff, rows: int) -> Table:
    """Return the table for a terminal: the ``rows`` lines that tell most, the others counted."""
    side = diff.lsb_of or "b"
    name = side.upper()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tensor", no_wrap=True)
    table.add_column("op", no_wrap=True)
    for head in (f"{name}", "SQNR dB", "error LSB", "saturated", "zeros", "flipped"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    lines = lines_of(diff)
    shown = _telling(lines, rows)
    kernel, left = "", 0
    for number, line in enumerate(lines):
        if number not in shown:
            left += 1
            continue
        left = _left_out(table, left)
        if line.row.kernel != kernel:
            kernel = line.row.kernel
            trips = diff.launches[kernel]
            table.add_row(Text(f"{kernel}, {trips} trips" if trips > 1 else kernel, style="bold"))
        table.add_row(*_cells(line, "ab".index(side)), style="" if line.row.differing else "dim")
    _left_out(table, left)
    return table


def _left_out(table: Table, count: int) -> int:
    if count:
        table.add_row(Text(f"… {count} more (--rows)", style="dim"))
    return 0


def _telling(lines: list[Line], rows: int) -> set[int]:
    """Return the numbers of the lines to show: those with a remark, then those where the SQNR falls most."""
    order = sorted(range(len(lines)), key=lambda n: (not lines[n].remark, -(lines[n].row.growth_db or 0), n))
    shown = set(order[:rows])
    return shown | {n for n in range(1, len(lines) - 1) if {n - 1, n + 1} <= shown}  # no gap of one line


def _cells(line: Line, side: int) -> Iterable[str | Text]:
    row = line.row
    style = "cyan" if row.backward else ""
    yield Text(f"  {row.name}", style=style)
    yield row.op
    yield row.formats[side]
    yield "" if row.sqnr_db is None else "equal" if row.sqnr_db == math.inf else f"{row.sqnr_db:.1f}"
    yield "" if row.largest_error_lsb is None or not row.differing else f"{row.largest_error_lsb:,.4g}"
    number = row.kind in (Kind.VALUE, Kind.INPUT)
    yield _share(row.saturated_fraction[side]) if number else ""
    yield _share(row.zero_fraction[side]) if number else ""
    yield str(line.masks) or str(line.indices)
    yield Text(line.remark, style="bold yellow")


def _share(value: float) -> str:
    return f"{100 * value:.3g} %" if value else "0"
