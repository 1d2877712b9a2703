"""The picture of a diff: a row per layer, forward and backward beside each other, in error, flips and decibels.

info = diff_info(diff)            arrays
draw_diff(info, "diff.png")       Pillow
diff_figure(info)                 the same as plotly.js takes it
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from xaisim.ir.graph import Array
from xaisim.numerics.twin import Kind
from xaisim.report.diff import Diff, DiffRow
from xaisim.report.diff_text import Line, facts_of, lines_of, steepest
from xaisim.report.figures import PHASE_COLOURS
from xaisim.report.pen import SCALE, Pen, font, save_picture

FORWARD, BACKWARD = 0, 1
_COLOURS = (PHASE_COLOURS["forward"], PHASE_COLOURS["backward"])
_FLIP_COLOURS = (PHASE_COLOURS["path"], PHASE_COLOURS["map"])


@dataclass(frozen=True, slots=True)
class DiffInfo:
    """What is drawn, one column per layer; NaN where there is nothing, or nothing differs."""

    title: str
    facts: tuple[str, ...]
    layers: tuple[str, ...]
    """In the order of the forward pass; backward runs the other way."""
    sqnr_db: Array
    """(2, layers): forward, backward; the worst tensor of the layer over all launches."""
    error_lsb: Array
    """(2, layers): the largest."""
    flips_percent: Array
    """(2, layers): masks, indices."""
    steepest: tuple[tuple[int, int], ...]
    """(direction, layer) where the SQNR falls most."""
    lsb_of: str


def diff_info(diff: Diff) -> DiffInfo:
    """Return the layers of a diff with their worst figures."""
    lines = lines_of(diff)
    layers = _layers(diff, lines)
    place = {name: n for n, name in enumerate(layers)}
    sqnr, error, flips = (np.full((2, len(layers)), np.nan) for _ in range(3))
    for line in lines:
        row, at = line.row, (int(line.row.backward), place[_label(line.row)])
        if row.sqnr_db is not None and row.differing:
            sqnr[at] = np.fmin(sqnr[at], row.sqnr_db)
        if row.largest_error_lsb:
            error[at] = np.fmax(error[at], row.largest_error_lsb)
        for kind, found in enumerate((line.masks, line.indices)):
            if found.differing:
                flips[kind, at[1]] = np.fmax(flips[kind, at[1]], 100 * found.differing / found.elements)
    names = {row.name: (int(row.backward), row) for row in steepest(diff)}
    marks = {(names[line.row.name][0], place[_label(line.row)]) for line in lines if line.row.name in names}
    return DiffInfo(
        title=f"{diff.b} against {diff.a}",
        facts=tuple(f"{name}: {text}".replace("δ", "delta") for name, text in facts_of(diff)[2:]),
        layers=layers,
        sqnr_db=np.clip(sqnr, -20, 160),
        error_lsb=error,
        flips_percent=flips,
        steepest=tuple(sorted(marks)),
        lsb_of=(diff.lsb_of or "").upper(),
    )


def _label(row: DiffRow) -> str:
    return row.layer or row.name


def _layers(diff: Diff, lines: list[Line]) -> tuple[str, ...]:
    """Return the layers in the order of the longest launch's forward pass; those that only backward has come last."""
    longest = sorted(diff.launches, key=lambda kernel: -sum(row.kernel == kernel for row in diff.rows))
    rows = [row for kernel in longest for row in diff.rows if row.kernel == kernel and row.kind is not Kind.CONSTANT]
    drawn = {_label(line.row) for line in lines}
    order = dict.fromkeys(_label(row) for backward in (False, True) for row in rows if row.backward is backward)
    return tuple(name for name in order if name in drawn)


# --- axes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from ``low`` to ``high``, of logarithms where ``log``, with the values that are marked on it."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low)))


def axes_of(info: DiffInfo) -> tuple[Axis, Axis, Axis]:
    """Return the scales of the three panels."""
    known = info.sqnr_db[np.isfinite(info.sqnr_db)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 100.0)
    low, high = 20 * math.floor(min(low, 0.0) / 20), 20 * math.ceil((high + 1) / 20)
    decibels = Axis("SQNR, dB", low, high, tuple(float(t) for t in range(int(low), int(high) + 1, 20)))
    error = _decades(f"largest error, LSB of {info.lsb_of}" if info.lsb_of else "largest error", info.error_lsb, 0.1)
    return decibels, error, _decades("flipped, %", info.flips_percent, 0.001)


def _decades(title: str, values: Array, least: float) -> Axis:
    known = values[np.isfinite(values) & (values > 0)]
    low = math.floor(math.log10(min(float(known.min()), least))) if known.size else math.log10(least)
    high = max(math.ceil(math.log10(float(known.max()) * 1.01)), low + 2) if known.size else low + 2
    step = max(1, math.ceil((high - low) / 6))
    return Axis(
        title, 10.0**low, 10.0**high, tuple(10.0**e for e in range(int(low), int(high) + 1, int(step))), log=True
    )


def tick_text(value: float) -> str:
    """Return a mark as short as it can be."""
    return f"{value:g}" if 1e-4 < value < 1e5 or value <= 0 else f"1e{math.log10(value):.0f}"


# --- Pillow -----------------------------------------------------------------------------------------------------------

_INK, _QUIET, _LINE, _BAND = "#1a1c20", "#62666e", "#d5d8dd", "#f5f6f8"
_ROW, _MARGIN, _GAP, _WIDTHS = 22, 28, 44, (440, 300, 230)


def draw_diff(info: DiffInfo, path: str | Path) -> None:
    """Write the picture as PNG: three panels that share their rows."""
    small = font(14)
    left = _MARGIN + int(max((small.getlength(name) / SCALE for name in info.layers), default=0)) + 14
    width = left + sum(_WIDTHS) + 2 * _GAP + _MARGIN
    notes = _folded(info.facts, width - 2 * _MARGIN)
    top = _MARGIN + 40 + 20 * len(notes) + 66
    height = top + _ROW * len(info.layers) + 62
    canvas = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    draw = Pen(ImageDraw.Draw(canvas))
    draw.text((_MARGIN, _MARGIN), info.title, 22, _INK)
    for number, line in enumerate(notes):
        draw.text((_MARGIN, _MARGIN + 38 + 20 * number), line, 14, _QUIET)
    for n, name in enumerate(info.layers):
        if n % 2 == 0:
            draw.box((_MARGIN, top + n * _ROW, width - _MARGIN, top + (n + 1) * _ROW), _BAND)
        draw.text((left - 10, top + (n + 0.5) * _ROW), name, 14, _INK, "rm")
    panels = ((info.sqnr_db, _COLOURS), (info.error_lsb, _COLOURS), (info.flips_percent, _FLIP_COLOURS))
    legends = (("forward", "backward"), ("forward", "backward"), ("ReLU masks", "pool indices"))
    x = left
    for axis, (values, colours), names, span in zip(axes_of(info), panels, legends, _WIDTHS, strict=True):
        _panel(draw, (x, top, span, _ROW * len(info.layers)), axis, values, colours, names)
        if values is info.sqnr_db:
            _rings(draw, (x, top, span), axis, info)
        x += span + _GAP
    save_picture(canvas, path)


def _panel(
    draw: Pen,
    box: tuple[int, int, int, int],
    axis: Axis,
    values: Array,
    colours: tuple[str, str],
    names: tuple[str, str],
) -> None:
    """Draw one scale with its two series: dots, and lines between neighbours that both have a value."""
    x, top, span, tall = box
    draw.text((x, top - 56), axis.title, 15, _INK)
    at = float(x)
    for name, colour in zip(names, colours, strict=True):
        draw.dot((at + 5, top - 27), 4.5, colour)
        draw.text((at + 14, top - 27), name, 13, _QUIET, "lm")
        at += 14 + draw.width(name, 13) + 18
    for tick in axis.ticks:
        place = x + span * axis.share(tick)
        draw.line([(place, top), (place, top + tall)], _LINE, 1)
        draw.text((place, top + tall + 6), tick_text(tick), 12, _QUIET, "ma")
    for series, colour in zip(values, colours, strict=True):
        spots = [
            (x + span * axis.share(float(v)), top + (n + 0.5) * _ROW) if np.isfinite(v) else None
            for n, v in enumerate(series)
        ]
        for one, other in pairwise(spots):
            if one and other:
                draw.line([one, other], colour, 1.6)
        for spot in filter(None, spots):
            draw.dot(spot, 4, colour)


def _rings(draw: Pen, corner: tuple[int, int, int], axis: Axis, info: DiffInfo) -> None:
    """Ring the dots where the SQNR falls most and say so below the panel."""
    x, top, span = corner
    for direction, n in info.steepest:
        value = float(info.sqnr_db[direction, n])
        if math.isfinite(value):
            draw.ring((x + span * axis.share(value), top + (n + 0.5) * _ROW), 8.5, _COLOURS[direction])
    if np.isfinite(info.sqnr_db).any():
        note = "ring: falls most; no dot: nothing differs. Forward runs downwards, backward upwards."
        draw.text((x, top + len(info.layers) * _ROW + 30), note, 13, _QUIET)


def _folded(facts: tuple[str, ...], most: float) -> list[str]:
    """Break every fact into lines no wider than ``most``."""
    lines = []
    for fact in facts:
        line = ""
        for word in fact.split(" "):
            longer = f"{line} {word}" if line else word
            if line and font(14).getlength(longer) / SCALE > most:
                lines.append(line)
                longer = f"    {word}"
            line = longer
        lines.append(line)
    return lines


# --- plotly -----------------------------------------------------------------------------------------------------------


def diff_figure(info: DiffInfo) -> dict[str, Any]:
    """Return the picture as plotly.js takes it; the page chooses colours of text and grid."""
    series = [
        ("forward", "x", info.sqnr_db[0], _COLOURS[0], "dB"),
        ("backward", "x", info.sqnr_db[1], _COLOURS[1], "dB"),
        ("forward", "x2", info.error_lsb[0], _COLOURS[0], "LSB"),
        ("backward", "x2", info.error_lsb[1], _COLOURS[1], "LSB"),
        ("ReLU masks", "x3", info.flips_percent[0], _FLIP_COLOURS[0], "% flipped"),
        ("pool indices", "x3", info.flips_percent[1], _FLIP_COLOURS[1], "% flipped"),
    ]
    rows = list(range(len(info.layers)))
    data = [
        {
            "type": "scatter", "mode": "lines+markers", "name": name, "xaxis": axis, "y": rows,
            "x": [float(v) if np.isfinite(v) else None for v in values], "text": list(info.layers),
            "legendgroup": name, "showlegend": axis != "x2", "marker": {"color": colour, "size": 7},
            "line": {"color": colour, "width": 1.5},
            "hovertemplate": f"%{{text}}, {name}<br>%{{x:.4g}} {unit}<extra></extra>",
        }
        for name, axis, values, colour, unit in series
    ]  # fmt: skip
    layout: dict[str, Any] = {
        "height": 130 + 19 * len(rows), "margin": {"l": 6, "r": 6, "t": 6, "b": 6},
        "yaxis": {"automargin": True, "range": [len(rows) - 0.5, -0.5], "tickvals": rows, "ticktext": list(info.layers),
                  "ticksuffix": " ", "zeroline": False},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    }  # fmt: skip
    for name, axis, domain in zip(
        ("xaxis", "xaxis2", "xaxis3"), axes_of(info), ((0, 0.44), (0.48, 0.76), (0.8, 1)), strict=True
    ):
        ends = [math.log10(v) if axis.log else v for v in (axis.low, axis.high)]
        layout[name] = {
            "title": {"text": axis.title}, "domain": list(domain), "type": "log" if axis.log else "linear",
            "range": ends, "tickvals": list(axis.ticks), "ticktext": [tick_text(t) for t in axis.ticks],
            "automargin": True, "anchor": "y",
        }  # fmt: skip
    return {"data": data, "layout": layout}
