"""The validation page: sections as Markdown, with a picture for each that has a scatter.

write_page({"closed_forms": section}, "docs/validation.md")        also docs/validation_<name>.png
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from xaisim.config import UserError
from xaisim.validate.scatter import draw_scatter
from xaisim.validate.section import Cell, Section

MARK = "<!-- written by `xaisim validate -o`: edit the sections, not this file -->"

_HEAD = """# Held against the outside

What the simulator says beside what others published, measured or simulated. All of it is made anew by

```sh
xaisim validate -o docs/validation.md
```

Ours is computed when the page is made; nothing is typed in but the other side's figures and their sources.
"""


def cell_text(cell: Cell) -> str:
    """Return a number as a reader wants it: whole ones in groups of three, others with four digits."""
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return cell


def table_text(section: Section) -> str:
    """Return the table in Markdown; numbers are aligned to the right."""
    numeric = [all(not isinstance(row[n], str) for row in section.rows) for n in range(len(section.columns))]
    lines = [section.columns, ["---:" if number else "---" for number in numeric]]
    lines += [[cell_text(cell) for cell in row] for row in section.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def section_text(section: Section, picture: str | None = None) -> str:
    """Return a section in Markdown, with a link to its picture."""
    parts = [f"## {section.title}", section.text.strip(), f"**{section.verdict}**"]
    if picture is not None and section.scatter is not None:
        parts.append(f"![{section.scatter.y_label} over {section.scatter.x_label}]({picture})")
    if section.rows:
        parts.append(table_text(section))
    if section.source:
        parts.append(f"Source: {section.source}")
    return "\n\n".join(part for part in parts if part) + "\n"


def page_text(sections: Mapping[str, Section], pictures: Mapping[str, str]) -> str:
    """Return the whole page: a summary of verdicts, then the sections."""
    summary = "\n".join(f"- **{s.title}**: {s.verdict}" for s in sections.values()) + "\n"
    parts = [section_text(section, pictures.get(name)) for name, section in sections.items()]
    return "\n".join([MARK, _HEAD, summary, *parts])


def check_page(page: Path) -> None:
    """Raise ``UserError`` unless the page can be written and is no file of somebody else's."""
    if page.suffix != ".md":
        raise UserError(f"{page}: the page is Markdown; name it like validation.md")
    folder = page.absolute().parent
    if page.is_dir() or not folder.is_dir():
        raise UserError(f"{page}: is a folder" if page.is_dir() else f"{page}: there is no folder {page.parent}")
    if page.exists() and not page.read_bytes().startswith(MARK.encode()):
        raise UserError(f"{page}: exists already and is not a page of this command; choose another name")
    if not os.access(page if page.exists() else folder, os.W_OK):
        raise UserError(f"{page}: cannot be written: permission denied")


def write_page(sections: Mapping[str, Section], page: Path) -> Sequence[Path]:
    """Write the page and its pictures beside it; return all files."""
    pictures = {name: f"{page.stem}_{name}.png" for name, section in sections.items() if section.scatter is not None}
    for name, picture in pictures.items():
        scatter = sections[name].scatter
        assert scatter is not None
        draw_scatter(scatter, sections[name].title, page.parent / picture)
    page.write_text(page_text(sections, pictures), encoding="utf-8")
    return [page, *(page.parent / picture for picture in pictures.values())]
