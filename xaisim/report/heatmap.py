"""The heatmap: input, float map, fixed-point map and their difference side by side, for a paper or a README.

info = heatmap_info(report)          what is drawn: arrays, scales, outline, captions
draw_heatmap(info, "heatmap.png")    Pillow only
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import plotly.colors
from PIL import Image, ImageDraw, ImageFont

from xaisim.ir.graph import Array
from xaisim.report.report import Report

CLIP_PERCENTILE = 99.5


@dataclass(frozen=True, slots=True)
class Scale:
    """Which numbers the ends of a colour map stand for. Diverging maps are symmetric: white is zero."""

    low: float
    high: float
    colours: str
    """A colour scale of plotly: perceptually ordered and safe for colour-blind eyes."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One map, (H, W), with its caption and scale."""

    caption: str
    values: Array
    scale: Scale


@dataclass(frozen=True, slots=True)
class HeatmapInfo:
    """Everything the picture shows. ``panels`` is (float, fixed, difference), or empty without an attribution."""

    title: str
    image: Array
    """(H, W, 3) uint8."""
    image_caption: str
    outline: Array
    """(segments, 4): x0 y0 x1 y1 along pixel borders around the ground truth; no rows where none is known."""
    panels: tuple[Panel, ...]
    note: str
    """How to read the colours."""
    facts: tuple[str, ...]


def heatmap_info(report: Report) -> HeatmapInfo:
    """Return the panels of a report that was made in this process; raises ``ValueError`` where it saw no picture."""
    run = report.run
    if run.sample is None:
        raise ValueError("a profile sees no picture: there is nothing to draw")
    panels: tuple[Panel, ...] = ()
    note = ""
    if run.attribution is not None and run.reference is not None:
        panels = _panels(
            channel_sum(report.reference), channel_sum(report.attribution), report.attribution_format or ""
        )
        signed = panels[0].scale.low < 0
        note = f"Float and fixed share one scale, clipped at the {CLIP_PERCENTILE} % quantile of the magnitude. "
        note += "Channels are summed; red is positive, blue negative." if signed else "This map has no negative values."
    mask = run.sample.mask
    return HeatmapInfo(
        title=f"{report.method} on {report.model}, class {class_name(report)}",
        image=run.sample.pixels,
        image_caption=run.sample.name + ("" if mask is None else ", ground truth outlined"),
        outline=outline_segments(np.zeros((1, 1), bool) if mask is None else mask),
        panels=panels,
        note=note,
        facts=_facts(report),
    )


def class_name(report: Report) -> str:
    """Return the target class by number, and by name where it has one of its own."""
    label = report.prediction.label if report.prediction else str(report.target)
    return str(report.target) if label in ("", str(report.target)) else f"{report.target} ({label})"


def channel_sum(attribution: Array) -> Array:
    """Return (1, C, H, W) summed over channels: (H, W)."""
    return attribution.reshape(-1, *attribution.shape[-2:]).sum(axis=0)


def _panels(reference: Array, fixed: Array, format: str) -> tuple[Panel, ...]:
    """Return float, fixed and difference with their scales; maps that are nowhere negative get a sequential one."""
    bound = clip_bound(np.stack([reference, fixed]))
    signed = min(reference.min(), fixed.min()) < 0
    shared = Scale(-bound, bound, "RdBu_r") if signed else Scale(0.0, bound, "Viridis")
    difference = fixed - reference
    factor = magnification(bound, difference)
    caption = f"difference x {factor} (fixed - float)" if factor > 1 else "difference (fixed - float)"
    if not difference.any():
        caption = "no difference"
    return (
        Panel("float64", reference, shared),
        Panel(f"fixed point {format}".strip(), fixed, shared),
        Panel(caption, difference, Scale(-bound / factor, bound / factor, "PuOr_r")),
    )


def clip_bound(values: Array) -> float:
    """Return the percentile of |values| at which colours end; the largest where that is zero, 1 where all are."""
    magnitude = np.abs(values)
    return float(np.percentile(magnitude, CLIP_PERCENTILE)) or float(magnitude.max(initial=0)) or 1.0


def magnification(bound: float, difference: Array) -> int:
    """Return the largest power of two, at least 1, that keeps the clipped difference within ``bound``."""
    if not difference.any():
        return 1
    return 1 << max(0, min(60, math.floor(math.log2(bound / clip_bound(difference)))))


def outline_segments(mask: Array) -> Array:
    """Return the borders between inside and outside of a mask, (segments, 4) as x0 y0 x1 y1 in pixels."""
    padded = np.pad(mask.astype(bool), 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = np.stack([x, y, x, y + 1], axis=1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = np.stack([x, y, x + 1, y], axis=1)
    return np.concatenate([upright, level])


def _facts(report: Report) -> tuple[str, ...]:
    facts = [
        report.architecture,
        f"{report.cycles.total:,} cycles",
        f"{report.latency_ms:.3g} ms at {report.clock_mhz:g} MHz",
        f"{report.energy_uj.total:,.3g} uJ"
        if report.energy_uj.total < 1e3
        else f"{report.energy_uj.total / 1e3:.3g} mJ",
    ]
    if report.prediction is not None:
        facts.append(f"predicted class {report.prediction.predicted}")
    if report.fidelity is not None:
        facts += [f"SQNR {report.fidelity.sqnr_db:.1f} dB", f"Spearman {report.fidelity.spearman:.4f}"]
    if not report.weights.endswith((".safetensors", ".pth", ".pt")):
        facts.append(report.weights)
    return tuple(facts)


# --- colours ----------------------------------------------------------------------------------------------------------


@cache
def _table(colours: str) -> Array:
    """Return 256 colours of a scale, (256, 3) uint8."""
    samples = plotly.colors.sample_colorscale(colours, 256)
    return np.array([plotly.colors.unlabel_rgb(c) for c in samples]).round().astype(np.uint8)


def colourise(values: Array, scale: Scale) -> Array:
    """Return the colours of (H, W) values, (H, W, 3) uint8; what lies outside the scale gets the colour of its end."""
    position = (values - scale.low) / (scale.high - scale.low)
    return _table(scale.colours)[np.clip(np.floor(position * 256), 0, 255).astype(int)]


# --- drawing ----------------------------------------------------------------------------------------------------------

_PANEL_PX, _GAP, _MARGIN = 340, 28, 36
_INK, _QUIET, _PAPER = (26, 28, 32), (98, 102, 110), (255, 255, 255)
_TITLE, _CAPTION, _SMALL = 26, 19, 16


def draw_heatmap(info: HeatmapInfo, path: str | Path) -> None:
    """Write the picture as PNG: pixels as squares, captions above, colour bars below."""
    height, width = info.image.shape[:2]
    zoom = max(1, -(-256 // min(height, width)), round(_PANEL_PX / max(height, width)))
    box = (width * zoom, height * zoom)
    columns = 1 + len(info.panels)
    full = max(columns * box[0] + (columns - 1) * _GAP, 560)
    lines = _wrapped(info.facts, full)
    top = _MARGIN + _TITLE + 22 + _CAPTION + 12
    below = top + box[1] + (62 if info.panels else 12)
    canvas = Image.new(
        "RGB", (full + 2 * _MARGIN, below + (32 if info.note else 0) + len(lines) * 27 + _MARGIN - 6), _PAPER
    )
    draw = ImageDraw.Draw(canvas)
    _text(draw, (_MARGIN, _MARGIN - 6), info.title, _TITLE, most=full)
    for column in range(columns):
        left = _MARGIN + column * (box[0] + _GAP)
        caption = info.panels[column - 1].caption if column else info.image_caption
        _text(draw, (left, top - _CAPTION - 10), caption, _CAPTION, most=box[0])
        pixels = colourise(info.panels[column - 1].values, info.panels[column - 1].scale) if column else info.image
        canvas.paste(Image.fromarray(pixels).resize(box, Image.Resampling.NEAREST), (left, top))
        _draw_outline(draw, info.outline, (left, top), zoom)
        draw.rectangle((left - 1, top - 1, left + box[0], top + box[1]), outline=(150, 154, 160))
    if info.panels:
        first = _MARGIN + box[0] + _GAP
        _colour_bar(canvas, info.panels[0].scale, first, first + 2 * box[0] + _GAP, top + box[1] + 16)
        last = first + 2 * (box[0] + _GAP)
        _colour_bar(canvas, info.panels[2].scale, last, last + box[0], top + box[1] + 16)
        _text(draw, (_MARGIN, below), info.note, _SMALL, fill=_QUIET, most=full)
    for number, line in enumerate(lines):
        _text(draw, (_MARGIN, below + (32 if info.note else 0) + number * 27), line, _CAPTION, most=full)
    canvas.save(path, optimize=True)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    *,
    fill: tuple[int, int, int] = _INK,
    most: float = math.inf,
    anchor: str = "la",
) -> None:
    """Write one line, in a smaller size where it is wider than ``most`` pixels."""
    while size > 11 and draw.textlength(text, font=_font(size)) > most:
        size -= 1
    draw.text(at, text, fill=fill, font=_font(size), anchor=anchor)


def _wrapped(facts: tuple[str, ...], most: float) -> list[str]:
    """Join facts into as few lines as fit."""
    lines: list[str] = []
    for fact in facts:
        longer = f"{lines[-1]}   ·   {fact}" if lines else fact
        if lines and _font(_CAPTION).getlength(longer) <= most:
            lines[-1] = longer
        else:
            lines.append(fact)
    return lines


def _draw_outline(draw: ImageDraw.ImageDraw, outline: Array, corner: tuple[int, int], zoom: int) -> None:
    """Draw dark lines with a light rim, which show on every colour and hide little of it."""
    segments = outline * zoom + np.tile(corner, 2)
    for reach, fill in ((1, (255, 255, 255)), (0, (20, 20, 20))):
        for x0, y0, x1, y1 in segments.tolist():
            draw.rectangle((x0 - reach, y0 - reach, x1 + reach, y1 + reach), fill=fill)


def _colour_bar(canvas: Image.Image, scale: Scale, left: int, right: int, top: int) -> None:
    """Draw a horizontal bar with its two ends and its middle, and the quarters where there is room."""
    draw = ImageDraw.Draw(canvas)
    ramp = np.linspace(scale.low, scale.high, right - left)[None]
    canvas.paste(Image.fromarray(np.repeat(colourise(ramp, scale), 12, axis=0)), (left, top))
    draw.rectangle((left - 1, top - 1, right, top + 12), outline=(150, 154, 160))
    ticks = [(0.0, "la"), (0.5, "ma"), (1.0, "ra")] + ([(0.25, "ma"), (0.75, "ma")] if right - left > 450 else [])
    for share, anchor in ticks:
        x = left + share * (right - 1 - left)
        draw.line((x, top + 13, x, top + 16), fill=(150, 154, 160))
        value = scale.low + share * (scale.high - scale.low)
        _text(draw, (x, top + 20), f"{value:.2g}" if value else "0", _SMALL, fill=_QUIET, anchor=anchor)
