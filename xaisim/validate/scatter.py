"""The picture of a scatter: dots over two axes, the points farthest from zero named.

axes = axes_of(scatter); draw_scatter(scatter, "title", "error.png")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from xaisim.report.diff_figure import Axis, tick_text
from xaisim.report.pen import SCALE, Pen, save_picture
from xaisim.validate.section import Scatter

_INK, _QUIET, _LINE, _DOT, _GUIDE = "#1a1c20", "#62666e", "#d5d8dd", "#0072B2", "#E69F00"
_LEFT, _TOP, _WIDE, _TALL, _RIGHT, _BELOW = 84, 92, 720, 320, 40, 58
_NAMED = 8


def axes_of(scatter: Scatter) -> tuple[Axis, Axis]:
    """Return the scales of x and y: x in decades where it spans more than thirty-fold, y around zero."""
    y = [*scatter.y, *scatter.guides]
    return _axis(scatter.x_label, scatter.x, may_log=True), _axis(scatter.y_label, y, may_log=False)


def _axis(label: str, values: Sequence[float], *, may_log: bool) -> Axis:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if may_log and low > 0 and high > 30 * low:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return Axis(label, 10.0**first, 10.0**last, tuple(10.0**e for e in range(first, last + 1)), log=True)
    low, high = min(low, 0.0), max(high, 0.0)
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return Axis(label, first * step, last * step, tuple(n * step for n in range(first, last + 1)))


def _round_step(rough: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is no less than ``rough``."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def named_points(scatter: Scatter) -> list[int]:
    """Return the points whose names are drawn: those farthest from zero."""
    order = sorted(range(len(scatter.y)), key=lambda n: (-abs(scatter.y[n]), n))
    return order[:_NAMED]


def draw_scatter(scatter: Scatter, title: str, path: str | Path) -> None:
    """Write the picture as PNG."""
    width, height = _LEFT + _WIDE + _RIGHT, _TOP + _TALL + _BELOW
    canvas = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    pen = Pen(ImageDraw.Draw(canvas))
    x, y = axes_of(scatter)
    pen.text((24, 22), title, 20, _INK)
    pen.text((24, 58), y.title, 14, _QUIET)
    pen.text((_LEFT + _WIDE, _TOP + _TALL + 32), x.title, 14, _QUIET, "ra")
    for tick in x.ticks:
        pen.line([_spot(x, y, tick, y.low), _spot(x, y, tick, y.high)], _LINE, 1)
        pen.text((_spot(x, y, tick, 0)[0], _TOP + _TALL + 8), tick_text(tick), 12, _QUIET, "ma")
    for tick in y.ticks:
        zero = tick == 0
        pen.line([_spot(x, y, x.low, tick), _spot(x, y, x.high, tick)], _QUIET if zero else _LINE, 1.5 if zero else 1)
        pen.text((_LEFT - 10, _spot(x, y, x.low, tick)[1]), tick_text(tick), 12, _QUIET, "rm")
    for guide in scatter.guides:
        pen.line([_spot(x, y, x.low, guide), _spot(x, y, x.high, guide)], _GUIDE, 1.5)
        pen.text((_LEFT + _WIDE + 6, _spot(x, y, x.high, guide)[1]), f"{guide:+g}", 12, _QUIET, "lm")
    spots = [_spot(x, y, *point) for point in zip(scatter.x, scatter.y, strict=True)]
    for spot in spots:
        pen.dot(spot, 4, _DOT)
    _names(pen, scatter, spots)
    save_picture(canvas, path)


def _names(pen: Pen, scatter: Scatter, spots: Sequence[tuple[float, float]]) -> None:
    """Name the points farthest from zero, beside their dots; a name that would lie on another is left out."""
    taken: list[tuple[float, float, float]] = []
    for n in named_points(scatter):
        (x, y), name = spots[n], scatter.names[n]
        width, right = pen.width(name, 12), x > _LEFT + 0.7 * _WIDE
        left = x - 8 - width if right else x + 8
        if any(left < b and a < left + width and abs(y - other) < 14 for a, b, other in taken):
            continue
        taken.append((left, left + width, y))
        pen.text((left, y), name, 12, _INK, "lm")


def _spot(x: Axis, y: Axis, x_value: float, y_value: float) -> tuple[float, float]:
    return _LEFT + _WIDE * x.share(x_value), _TOP + _TALL * (1 - y.share(y_value))
