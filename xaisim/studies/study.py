"""What a study is: tables with the paper's figures beside ours, charts, and a few headline numbers.

Study("nuig", "…", (Table(...), ...), charts, headline={"speedup": 3.1})
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xaisim.report.chart import Chart

Cell = str | int | float | None
Progress = Callable[[str, int, int], None]
"""(what, done, of how many)"""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a study runs on; None means what the study chooses."""

    quick: bool = False
    models: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    images: Path | None = None
    """A folder of PNG and JPEG pictures instead of the shipped scenes."""
    count: int | None = None
    """How many pictures."""
    weights: str | None = None
    """A file of weights for the one model that is named."""

    def files(self) -> str:
        """Return a digest of what stands in the files that are named here; empty where none is."""
        named = [Path(name) for name in (*self.archs, *([self.weights] if self.weights else []))]
        if self.images is not None and self.images.is_dir():
            named += sorted(self.images.iterdir())
        state = hashlib.sha256()
        found = [path for path in named if path.is_file()]
        for path in found:
            state.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
        return state.hexdigest()[:12] if found else ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table; ``note`` says what it shows and how it was made."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} cells under {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class Study:
    """A study's outcome. ``verdict`` is what it comes to, the paper's figure beside ours, in a few lines."""

    name: str
    title: str
    source: str
    """The published system."""
    verdict: tuple[str, ...]
    tables: tuple[Table, ...]
    chart: Chart
    headline: Mapping[str, Cell] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return everything as JSON; rows by column."""
        data = asdict(self)
        for table, plain in zip(self.tables, data["tables"], strict=True):
            plain["rows"] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        return json.dumps(data, indent=1, ensure_ascii=False, default=str)


def cell_text(cell: Cell) -> str:
    """Return a number as a reader wants it: whole ones in groups of three, others with three digits."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"


def table_text(table: Table) -> str:
    """Return a table in Markdown; numbers are aligned to the right."""
    numeric = [all(not isinstance(row[n], str) for row in table.rows) for n in range(len(table.columns))]
    lines = [list(table.columns), ["---:" if number else "---" for number in numeric]]
    lines += [[cell_text(cell) for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def study_text(study: Study, picture: str | None = None) -> str:
    """Return a study in Markdown: verdict, picture, tables, source."""
    parts = ["\n".join(f"- **{line}**" for line in study.verdict)]
    if picture is not None:
        parts.append(f"![{study.title}]({picture})")
    for table in study.tables:
        parts += [f"### {table.title}", table.note, table_text(table)]
    parts.append(f"Compared with: {study.source}")
    return "\n\n".join(part.strip() for part in parts if part) + "\n"
