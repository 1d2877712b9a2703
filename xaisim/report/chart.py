"""Charts with Pillow: panels side by side, each with lines, dots or bars over one pair of axes.

draw_chart(Chart("title", (Panel("cost", "steps", "δ", (Line("uniform", x, y),), log_y=True),)), "chart.png")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from xaisim.report.diff_figure import Axis, tick_text
from xaisim.report.pen import SCALE, Pen, save_picture

_INK, _QUIET, _LINE = "#1a1c20", "#62666e", "#d5d8dd"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#000000")
"""Distinct also for colour-blind readers (Okabe and Ito 2008), one more of ours."""
_LEFT, _TOP, _WIDE, _TALL, _RIGHT, _BELOW, _ROW = 76, 86, 420, 300, 48, 62, 20
_MARGIN = 24


@dataclass(frozen=True, slots=True)
class Line:
    """A series of points, joined by a line where ``joined``."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Bars:
    """A series of bars, one per category of its panel; None leaves a gap."""

    name: str
    y: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. With ``categories`` its series are bars, else lines."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Line | Bars]
    categories: Sequence[str] = ()
    log_x: bool = False
    log_y: bool = False
    guides: Sequence[tuple[float, str]] = ()
    """Heights that are marked across the panel, with what they are."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels side by side under one title."""

    title: str
    panels: Sequence[Panel]


def axis_of(label: str, values: Sequence[float], *, log: bool, zero: bool = False) -> Axis:
    """Return a scale with round marks around ``values``; with ``zero`` bars stand on its lowest mark."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
    low, high = min(known), max(known)
    if log:
        room = 0.1 if zero else -1e-9  # the shortest bar must be seen
        first, last = math.floor(math.log10(low) - room), math.ceil(math.log10(high) - 1e-9)
        last = max(last, first + 1)
        return Axis(label, 10.0**first, 10.0**last, tuple(10.0**e for e in range(first, last + 1)), log=True)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    rough = (high - low or abs(high) or 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(label, first * step, last * step, tuple(round(n * step, 12) for n in range(first, last + 1)))


def axes_of(panel: Panel) -> tuple[Axis, Axis]:
    """Return the scales of a panel; bars stand on zero, or on a power of ten."""
    bars = bool(panel.categories)
    ys = [y for s in panel.series for y in s.y if y is not None] + [height for height, _ in panel.guides]
    y = axis_of(panel.y_label, ys, log=panel.log_y, zero=bars)
    if bars:
        return Axis(panel.x_label, 0, max(1, len(panel.categories)), ()), y
    return axis_of(panel.x_label, [v for s in panel.series if isinstance(s, Line) for v in s.x], log=panel.log_x), y


def draw_chart(chart: Chart, path: str | Path) -> None:
    """Write the picture as PNG."""
    rows = max((len(panel.series) for panel in chart.panels), default=0)
    one = _LEFT + _WIDE + _RIGHT
    height = _TOP + _TALL + _BELOW + _ROW * ((rows + 1) // 2) + 12
    canvas = Image.new("RGB", (one * len(chart.panels) * SCALE, height * SCALE), "white")
    pen = Pen(ImageDraw.Draw(canvas))
    pen.text((_MARGIN, 16), chart.title, 19, _INK)
    for number, panel in enumerate(chart.panels):
        _draw_panel(pen, panel, number * one + _LEFT)
    save_picture(canvas, path)


def _draw_panel(pen: Pen, panel: Panel, left: float) -> None:
    x, y = axes_of(panel)
    pen.text((left - _LEFT + _MARGIN, 46), panel.title, 14, _INK)
    pen.text((left - _LEFT + _MARGIN, 65), y.title, 12, _QUIET)
    pen.text((left + _WIDE, _TOP + _TALL + 28), x.title, 12, _QUIET, "ra")
    for tick in y.ticks:
        height = _TOP + _TALL * (1 - y.share(tick))
        pen.line([(left, height), (left + _WIDE, height)], _LINE, 1)
        pen.text((left - 8, height), tick_text(tick), 11, _QUIET, "rm")
    for tick in x.ticks:
        at = left + _WIDE * x.share(tick)
        pen.line([(at, _TOP), (at, _TOP + _TALL)], _LINE, 1)
        pen.text((at, _TOP + _TALL + 6), tick_text(tick), 11, _QUIET, "ma")
    for number, series in enumerate(panel.series):
        colour = COLOURS[number % len(COLOURS)]
        if isinstance(series, Line):
            _draw_line(pen, series, colour, left, x, y)
        else:
            _draw_bars(pen, panel, number, colour, left, y)
        _legend(pen, series.name, number, colour, left)
    lowest = math.inf  # of the names written so far: none lies on another
    for height, name in sorted(panel.guides):
        level = _TOP + _TALL * (1 - y.share(height))
        pen.line([(left, level), (left + _WIDE, level)], _INK, 1.5)
        lowest = min(level, lowest - 13)
        pen.text((left + _WIDE + 4, lowest), name, 11, _INK, "lm")
    for number, name in enumerate(panel.categories):
        at = left + _WIDE * (number + 0.5) / len(panel.categories)
        pen.text((at, _TOP + _TALL + 8), name, 11, _QUIET, "ma")


def _draw_line(pen: Pen, series: Line, colour: str, left: float, x: Axis, y: Axis) -> None:
    spots = [
        (left + _WIDE * x.share(a), _TOP + _TALL * (1 - y.share(b)))
        for a, b in zip(series.x, series.y, strict=True)
        if math.isfinite(b) and (b > 0 or not y.log)
    ]
    if series.joined and len(spots) > 1:
        pen.line(spots, colour, 2)
    for spot in spots:
        pen.dot(spot, 3.5, colour)


def _draw_bars(pen: Pen, panel: Panel, number: int, colour: str, left: float, y: Axis) -> None:
    room = _WIDE / max(1, len(panel.categories))
    width = room * 0.8 / len(panel.series)
    base = _TOP + _TALL * (1 - y.share(y.low if y.log else 0.0))
    for place, value in enumerate(panel.series[number].y):
        if value is None:
            continue
        start = left + room * (place + 0.1) + width * number
        top = _TOP + _TALL * (1 - y.share(value))
        pen.box((start, min(top, base), start + width * 0.92, max(top, base)), colour)


def _legend(pen: Pen, name: str, number: int, colour: str, left: float) -> None:
    at = left - _LEFT + _MARGIN + (number % 2) * (_LEFT + _WIDE) / 2
    height = _TOP + _TALL + 56 + (number // 2) * _ROW
    pen.box((at, height - 5, at + 10, height + 5), colour)
    pen.text((at + 16, height), name, 12, _INK, "lm")
