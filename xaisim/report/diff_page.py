"""The diff as files: numbers, picture and page.

save_diff(diff, "out", command="xaisim diff …")
"""

from __future__ import annotations

from functools import partial
from html import escape
from pathlib import Path

from xaisim.report.diff import Diff, DiffRow
from xaisim.report.diff_figure import diff_figure, diff_info, draw_diff
from xaisim.report.diff_text import facts_of
from xaisim.report.html import document, plot, table
from xaisim.report.save import save_files

DIFF_FILES = ("diff.json", "diff.png", "diff.html")
_HEAD = (
    "tensor", "layer", "operator", "direction", "launch", "kind", "A", "B", "elements", "differing", "SQNR dB",
    "falls by dB", "largest error", "in LSB", "saturated A %", "saturated B %", "zeros A %", "zeros B %", "enters by",
)  # fmt: skip


def save_diff(diff: Diff, directory: str | Path, *, force: bool = False, command: str | None = None) -> list[Path]:
    """Write the files of a diff into ``directory`` as :func:`~xaisim.report.save.save_files` does."""
    return save_files(directory, DIFF_FILES, partial(_write, diff, command), force=force)


def _write(diff: Diff, command: str | None, folder: Path) -> list[str]:
    (folder / "diff.json").write_text(diff.to_json() + "\n", encoding="utf-8")
    draw_diff(diff_info(diff), folder / "diff.png")
    (folder / "diff.html").write_text(diff_html(diff, command=command), encoding="utf-8")
    return list(DIFF_FILES)


def diff_html(diff: Diff, *, command: str | None = None) -> str:
    """Return the page as HTML text."""
    caption = (
        "A row per layer in forward order, the worst of its tensors over all launches; backward runs upwards. "
        "There is no dot where nothing differs."
    )
    sections = {
        "Facts": table(("what", "result"), facts_of(diff)),
        "Layers": plot("layers", "SQNR, largest error and flips of every layer", caption=caption),
        "Tensors": table(_HEAD, [_cells(r) for r in diff.rows], numeric=range(8, 18), sortable=True, tall=True),
        "Reproduce": f"<p><code>{escape(command)}</code></p>" if command else "",
    }
    header = f"<h1>{escape(diff.b)} against {escape(diff.a)}</h1>"
    header += f'<p class="quiet">{escape(diff.method)} on {escape(diff.model)}, class {diff.target}</p>'
    figures = {"layers": diff_figure(diff_info(diff))}
    title = f"{diff.b} against {diff.a}, {diff.method} on {diff.model}"
    return document(title, header, sections, figures, f"xaisim {escape(diff.version)}")


def _cells(row: DiffRow) -> tuple[object, ...]:
    shares = (*row.saturated_fraction, *row.zero_fraction)
    return (
        row.name,
        row.layer,
        row.op,
        "backward" if row.backward else "forward",
        row.kernel,
        str(row.kind),
        *row.formats,
        row.elements,
        row.differing,
        "" if row.sqnr_db is None else f"{row.sqnr_db:.2f}",
        "" if row.growth_db is None else f"{row.growth_db:.2f}",
        f"{row.largest_error:.4g}",
        "" if row.largest_error_lsb is None else f"{row.largest_error_lsb:.4g}",
        *(f"{100 * share:.3g}" for share in shares),
        row.enters_by or "",
    )
