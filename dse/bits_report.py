"""The table and the plot of the bits study: medians and means over scenes with bootstrap confidence intervals.

write_report(pieces, docs, command)     the text between the marks of bits.md, and bits.png
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from xaisim.report.pen import SCALE, Pen, save_picture

Array = np.ndarray
Cells = dict[tuple[str, str, str, int], dict[str, Array]]
"""(network, method, what is narrowed, bits) → figure → one value per scene."""

RESAMPLES, CONFIDENCE = 2000, 0.95
MEANS = ("mask_flips", "index_flips", "zeros", "prediction")
TITLES = {
    "sqnr_db": "SQNR, dB",
    "spearman": "Spearman's rank correlation",
    "cosine": "Cosine",
    "topk_1pct": "Top 1 % kept",
}
WANTED = {"sqnr_db": 20.0, "spearman": 0.9, "topk_1pct": 0.9}
START, END = "<!-- made by dse/bits.py: do not edit -->", "<!-- end of what dse/bits.py made -->"


class Estimate(NamedTuple):
    """A figure over scenes and its confidence interval."""

    value: float
    low: float
    high: float
    scenes: int


def collect(pieces: Iterable[tuple[Any, Mapping[str, Sequence[float]]]]) -> Cells:
    """Join the pieces of every setting, each scene once, in the order of scenes; 16 bits count for every class."""
    scenes: dict[tuple[str, str, str, int], dict[int, dict[str, float]]] = {}
    for job, figures in pieces:
        cell = scenes.setdefault((job.model, job.method, job.setting.narrowed, job.setting.bits), {})
        for place, scene in enumerate(job.scenes):
            cell[scene] = {name: values[place] for name, values in figures.items()}
    cells: Cells = {}
    for key, cell in scenes.items():
        names = next(iter(cell.values()))
        cells[key] = {name: np.array([cell[scene][name] for scene in sorted(cell)]) for name in names}
    kinds = {(model, method, narrowed) for model, method, narrowed, _ in cells}
    for model, method, narrowed in kinds:
        if (model, method, "all", 16) in cells:
            cells[model, method, narrowed, 16] = cells[model, method, "all", 16]
    return cells


def estimate(name: str, values: Array) -> Estimate:
    """Return the median (of rates the mean) over scenes with its percentile bootstrap interval.

    Scenes are drawn with replacement; the same seed for every cell.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan, 0)
    middle = np.mean if name in MEANS else np.median
    drawn = values[np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(middle(drawn, axis=1), [tail, 100 - tail], method="nearest")
    return Estimate(float(middle(values)), float(low), float(high), len(values))


def write_report(pieces: Iterable[tuple[Any, Mapping[str, Sequence[float]]]], docs: Path, command: str) -> None:
    """Write ``bits.md`` (what stands outside the marks is kept) and ``bits.png`` into ``docs``."""
    cells = collect(pieces)
    estimates = {(*key, name): estimate(name, v) for key, figures in cells.items() for name, v in figures.items()}
    body = "\n\n".join([START, *_sections(cells, estimates), f"Made by `{command}`.", END])
    path = docs / "bits.md"
    text = path.read_text(encoding="utf-8") if path.exists() else f"# Fidelity against bits\n\n{START}\n{END}\n"
    before, rest = text.split(START, 1)
    path.write_text(before + body + rest.split(END, 1)[1], encoding="utf-8")
    draw(estimates, docs / "bits.png")


# --- tables -----------------------------------------------------------------------------------------------------------

Estimates = dict[tuple[str, str, str, int, str], Estimate]


def _known(estimates: Estimates, place: int) -> list[Any]:
    return list(dict.fromkeys(key[place] for key in estimates))


def _sections(cells: Cells, estimates: Estimates) -> list[str]:
    models, methods = _known(estimates, 0), _known(estimates, 1)
    counts = sorted({len(figures["sqnr_db"]) for figures in cells.values()})
    scenes = (
        f"{counts[0]} to {counts[-1]} scenes (smaller numbers in brackets)"
        if len(counts) > 1
        else f"{counts[0]} scenes"
    )
    method = (
        f"Over {scenes}. Medians over scenes (means of rates) with {100 * CONFIDENCE:.0f} % percentile bootstrap "
        f"intervals from {RESAMPLES:,} resamples of the scenes."
        + (" The study is not complete; the same command goes on." if len(counts) > 1 else "")
    )
    parts = [method, "![Fidelity against bits](bits.png)", _fewest(estimates, models, methods)]
    for model in models:
        parts.append(f"## {model}")
        for figure, title in TITLES.items():
            parts.append(f"### {title}: all classes equally wide")
            parts.append(_uniform(estimates, model, methods, figure))
        parts += ["### Decisions: all classes equally wide", _decisions(estimates, model)]
        narrowed = _narrowed(estimates, model, methods)
        if narrowed:
            parts += ["### SQNR, dB: one class narrowed, the others at 16 bits", narrowed]
    return parts


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(e: Estimate | None, most: int, percent: bool = False) -> str:
    if e is None or math.isnan(e.value):
        return ""
    scale = 100 if percent else 1
    few = f" ({e.scenes})" if e.scenes < most else ""
    return f"{_number(scale * e.value)} [{_number(scale * e.low)}, {_number(scale * e.high)}]{few}"


def _number(value: float) -> str:
    """Return three digits, and as many nines as tell a value from 1."""
    return f"{value:.3g}" if not 0.9 < value < 1 else f"{value:.{min(6, 1 - math.floor(math.log10(1 - value)))}f}"


def _most(estimates: Estimates) -> int:
    return max(e.scenes for e in estimates.values())


def _fewest(estimates: Estimates, models: list[str], methods: list[str]) -> str:
    """Return the fewest bits from which on every wider setting reaches what is wanted, too."""
    rows = []
    for method in methods:
        row = [method]
        for model in models:
            widths = sorted({k[3] for k in estimates if k[:3] == (model, method, "all")}, reverse=True)
            row.append(" / ".join(_least(estimates, (model, method), widths, name) for name in WANTED))
        rows.append(row)
    wanted = " / ".join(f"{TITLES[name].split(',')[0]} ≥ {value:g}" for name, value in WANTED.items())
    return f"Fewest bits for a median {wanted}, all classes equally wide:\n\n{_table(['method', *models], rows)}"


def _least(estimates: Estimates, where: tuple[str, str], widths: list[int], name: str) -> str:
    fewest = None
    for bits in widths:
        if not estimates[(*where, "all", bits, name)].value >= WANTED[name]:
            break
        fewest = bits
    return "more" if fewest is None and widths else str(fewest or "")


def _uniform(estimates: Estimates, model: str, methods: list[str], figure: str) -> str:
    widths = sorted({k[3] for k in estimates if k[0] == model and k[2] == "all"})
    rows = [
        [str(b), *(_text(estimates.get((model, m, "all", b, figure)), _most(estimates)) for m in methods)]
        for b in widths
    ]
    return _table(["bits", *methods], rows)


def _decisions(estimates: Estimates, model: str) -> str:
    """Return rates in percent of saliency's run, and the zeros of the maps of saliency and integrated gradients."""
    columns = {
        "prediction kept, %": ("saliency", "prediction"),
        "ReLU masks flipped, %": ("saliency", "mask_flips"),
        "pool indices flipped, %": ("saliency", "index_flips"),
        "zeros in saliency, %": ("saliency", "zeros"),
        "zeros in integrated gradients, %": ("integrated_gradients", "zeros"),
    }
    widths = sorted({k[3] for k in estimates if k[0] == model and k[2] == "all"})
    rows = [
        [
            str(b),
            *(
                _text(estimates.get((model, m, "all", b, f)), _most(estimates), percent=True)
                for m, f in columns.values()
            ),
        ]
        for b in widths
    ]
    return _table(["bits", *columns], rows)


def _narrowed(estimates: Estimates, model: str, methods: list[str]) -> str:
    keys = [k for k in estimates if k[0] == model and k[2] != "all" and k[3] in range(4, 16, 2) and k[4] == "sqnr_db"]
    widths = sorted({k[3] for k in keys})
    rows = []
    for method in methods:
        for narrowed in dict.fromkeys(k[2] for k in keys if k[1] == method):
            cells = (estimates.get((model, method, narrowed, b, "sqnr_db")) for b in widths)
            rows.append([method, narrowed, *(_text(e, _most(estimates)) for e in cells)])
    return _table(["method", "narrowed", *(f"{b} bits" for b in widths)], rows) if rows else ""


# --- plot -------------------------------------------------------------------------------------------------------------

COLOURS = {  # Okabe and Ito
    "saliency": "#0072B2", "input_x_gradient": "#56B4E9", "deconvnet": "#E69F00", "guided_backprop": "#D55E00",
    "gradcam": "#009E73", "integrated_gradients": "#CC79A7",
    "all": "#1a1c20", "weights": "#0072B2", "activations": "#E69F00", "gradients": "#009E73", "path": "#CC79A7",
}  # fmt: skip
_INK, _QUIET, _LINE = "#1a1c20", "#62666e", "#dfe2e6"
_PANEL, _GAP, _MARGIN, _LEFT = (330, 210), (26, 74), 28, 64


class Series(NamedTuple):
    """A line: one estimate per width."""

    name: str
    bits: list[int]
    points: list[Estimate]


def panels(estimates: Estimates) -> list[tuple[str, tuple[float, float], list[list[Series]]]]:
    """Return the rows of the plot: title, limits, and the series of every network."""
    models, methods = _known(estimates, 0), _known(estimates, 1)
    rows = [
        ("SQNR in dB, all classes equally wide", "sqnr_db", [[(m, "all", m) for m in methods]]),
        ("Spearman, all classes equally wide", "spearman", [[(m, "all", m) for m in methods]]),
    ]
    kinds = [kind for kind in ("all", "weights", "activations", "gradients", "path") if kind in _known(estimates, 2)]
    for method in ("saliency", "integrated_gradients"):
        if method in methods and len(kinds) > 1:
            title = f"SQNR in dB of {method.replace('_', ' ')}, one class narrowed"
            rows.append((title, "sqnr_db", [[(method, kind, kind) for kind in kinds]]))
    made = []
    for title, figure, (wanted,) in rows:
        lines = [[_series(estimates, model, *what, figure) for what in wanted] for model in models]
        lines = [[s for s in group if s.bits] for group in lines]
        values = [v for group in lines for s in group for e in s.points for v in (e.low, e.high) if math.isfinite(v)]
        limits = (0.0, 1.0) if figure == "spearman" else (min(0.0, *values), max(values)) if values else (0.0, 1.0)
        made.append((title, limits, lines))
    return made


def _series(estimates: Estimates, model: str, method: str, narrowed: str, name: str, figure: str) -> Series:
    bits = sorted({k[3] for k in estimates if k[:3] == (model, method, narrowed)})
    points = [(b, estimates[model, method, narrowed, b, figure]) for b in bits]
    points = [(b, e) for b, e in points if math.isfinite(e.value)]
    return Series(name, [b for b, _ in points], [e for _, e in points])


def draw(estimates: Estimates, path: Path) -> None:
    """Write the plot: a column per network, a row per question; bands are the confidence intervals."""
    models, rows = _known(estimates, 0), panels(estimates)
    width = _LEFT + len(models) * (_PANEL[0] + _GAP[0]) + _MARGIN
    height = _MARGIN + 30 + len(rows) * (_PANEL[1] + _GAP[1] + 24) + _MARGIN
    canvas = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    pen = Pen(ImageDraw.Draw(canvas))
    for n, model in enumerate(models):
        pen.text((_LEFT + n * (_PANEL[0] + _GAP[0]), _MARGIN), model, 19, _INK)
    top = _MARGIN + 44
    for title, limits, groups in rows:
        pen.text((_LEFT, top), title, 15, _INK)
        names = list(dict.fromkeys(s.name for group in groups for s in group))
        _legend(pen, (_LEFT + pen.width(title, 15) + 24, top), names)
        for n, group in enumerate(groups):
            corner = (_LEFT + n * (_PANEL[0] + _GAP[0]), top + 28)
            _draw_panel(pen, corner, limits, group, ticks=n == 0)
        top += _PANEL[1] + _GAP[1] + 24
    save_picture(canvas, path)


def _legend(pen: Pen, at: tuple[float, float], names: list[str]) -> None:
    x, y = at
    for name in names:
        pen.line([(x, y + 9), (x + 20, y + 9)], COLOURS[name], 2.4)
        pen.text((x + 26, y + 1), name.replace("_", " "), 13, _QUIET)
        x += 26 + pen.width(name, 13) + 20


def _draw_panel(
    pen: Pen, corner: tuple[float, float], limits: tuple[float, float], group: list[Series], *, ticks: bool
) -> None:
    left, top = corner
    wide, tall = _PANEL
    low, high = limits

    def spot(bits: float, value: float) -> tuple[float, float]:
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return left + wide * (bits - 4) / 12, top + tall * (1 - share)

    step = 0.2 if high <= 1 else 10 if high - low < 80 else 20
    for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1):
        pen.line([spot(4, n * step), spot(16, n * step)], _LINE, 1)
        if ticks:
            pen.text((left - 8, spot(4, n * step)[1]), f"{n * step:g}", 12, _QUIET, "rm")
    for bits in range(4, 17, 2):
        pen.line([spot(bits, low), spot(bits, high)], _LINE, 1)
        pen.text((spot(bits, low)[0], top + tall + 6), str(bits), 12, _QUIET, "ma")
    pen.text((left + wide / 2, top + tall + 24), "bits", 12, _QUIET, "ma")
    for series in group:
        upper = [spot(b, e.high) for b, e in zip(series.bits, series.points, strict=True)]
        lower = [spot(b, e.low) for b, e in zip(series.bits, series.points, strict=True)]
        for (a, b), (c, d) in zip(pairwise(upper), pairwise(lower), strict=True):
            pen.area([a, b, d, c], _pale(COLOURS[series.name]))
    for series in group:
        spots = [spot(b, e.value) for b, e in zip(series.bits, series.points, strict=True)]
        if len(spots) > 1:
            pen.line(spots, COLOURS[series.name], 1.8)
        for at in spots:
            pen.dot(at, 3, COLOURS[series.name])


def _pale(colour: str) -> str:
    """Return a colour mixed with three parts of white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{(part + 3 * 255) // 4:02x}" for part in parts)
