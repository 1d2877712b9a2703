"""The shell of an HTML page: one file with everything in it, readable offline, and the tables and plots in it.

document("title", "<h1>…</h1>", {"Layers": table(head, rows)}, figures, footer="xaisim 0.1")

The look comes from ``page.css``, sorting and zooming from ``page.js``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

_HERE = Path(__file__).parent
# Nothing is fetched: the browser itself refuses anything that is not in this file.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def document(
    title: str, header: str, sections: Mapping[str, str], figures: Mapping[str, dict[str, Any]], footer: str
) -> str:
    """Return a whole page: ``sections`` by heading, those without text left out; ``figures`` by their place's name."""
    shown = {name: text for name, text in sections.items() if text}
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in shown)
    body = "".join(f'<section id="{n.lower()}"><h2>{n}</h2>{text}</section>\n' for n, text in shown.items())
    data = json.dumps(figures, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - xaisim</title>
<link rel="icon" href="data:,">
<style>{(_HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
{header}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}</main>
<footer>{footer}</footer>
<noscript><p>The figures need JavaScript; all numbers stand in the tables.</p></noscript>
<script type="application/json" id="figures">{data}</script>
<script>{get_plotlyjs()}</script>
<script>{(_HERE / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def plot(name: str, label: str, *, kind: str = "", caption: str = "", per_launch: str = "", height: int = 0) -> str:
    """Return the place of a figure, as high as its kind or ``height`` pixels.

    With ``per_launch`` it shows ``<per_launch><number>`` of the launch chosen.
    """
    mark = f' data-per-launch="{per_launch}"' if per_launch else ""
    mark += f' style="height: {height}px"' if height else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><div class="plot {kind}"{mark} data-figure="{name}" role="img" aria-label="{escape(label)}"></div>'
        f"{below}</figure>"
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Iterable[int] = (),
    sortable: bool = False,
    tall: bool = False,
    foot: Sequence[str] = (),
) -> str:
    """Return a table that scrolls inside its own frame; ``numeric`` columns are set flush right."""
    right = set(numeric)
    heads = "".join(
        f'<th scope="col"{_flush(i in right)}>'
        + (f'<button type="button">{name}</button>' if sortable else name)
        + "</th>"
        for i, name in enumerate(head)
    )
    body = "".join("<tr>" + "".join(_cell(cell, i, i in right) for i, cell in enumerate(row)) + "</tr>" for row in rows)
    end = "".join(f"<td{_flush(i in right)}>{escape(text)}</td>" for i, text in enumerate(foot))
    last = f"<tfoot><tr>{end}</tr></tfoot>" if foot else ""
    label = escape(f"table of {head[0]}, {head[1]}")
    return (
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{last}</table></div>"
    )


def _flush(right: bool) -> str:
    return ' class="n"' if right else ""


def _cell(value: object, index: int, right: bool) -> str:
    if isinstance(value, int):
        return f'<td class="n" data-value="{value}">{value:,}</td>'
    text = escape(str(value))
    if index == 0:
        return f'<th scope="row">{text}</th>'
    mark = f' class="{text}"' if text in ("forward", "backward") else _flush(right)
    return f"<td{mark}>{text}</td>"
