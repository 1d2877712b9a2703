"""Figures of the result page: plain dictionaries in plotly.js' format, made from a report.

gantt_info(launch)        what is drawn: blocks as columns
gantt_figure(launch)      {"data": [...], "layout": {...}}

Colours of text and grid are left to the page, which follows the reader's light or dark setting.
"""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
import plotly.colors
from PIL import Image

from xaisim.ir.graph import Array
from xaisim.mapping.tiles import TileGraph
from xaisim.report.events import phase_of
from xaisim.report.heatmap import HeatmapInfo, Panel, Scale
from xaisim.report.report import Report
from xaisim.report.sentences import energy_text
from xaisim.simulate.clock import Trace
from xaisim.simulate.program import TimedLaunch

Figure = dict[str, Any]

# Okabe and Ito's colours, told apart by colour-blind eyes.
PHASE_COLOURS = {"forward": "#0072B2", "backward": "#D55E00", "path": "#009E73", "map": "#CC79A7"}
_NO_MARGIN = {"l": 6, "r": 6, "t": 6, "b": 6}


# --- maps -------------------------------------------------------------------------------------------------------------


def image_figure(info: HeatmapInfo) -> Figure:
    """Return the input picture, one square per pixel, with the ground truth outlined."""
    buffer = io.BytesIO()
    Image.fromarray(info.image).save(buffer, "PNG")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    hover = "row %{y}, column %{x}<br>red, green, blue %{z}<extra></extra>"
    return {
        "data": [{"type": "image", "source": source, "hovertemplate": hover}, *_outline_traces(info.outline)],
        "layout": _map_layout(info.image.shape[:2]),
    }


def map_figure(panel: Panel, outline: Array) -> Figure:
    """Return one map with its values on hover."""
    heatmap = {
        "type": "heatmap",
        "z": packed(panel.values),
        "zmin": panel.scale.low,
        "zmax": panel.scale.high,
        "colorscale": _colour_stops(panel.scale),
        "colorbar": {
            "orientation": "h", "y": 0, "yanchor": "top", "ypad": 6, "thickness": 9, "len": 1.0, "xpad": 0,
            "outlinewidth": 0, "nticks": 5, "tickfont": {"size": 11}, "exponentformat": "e",
        },
        "hovertemplate": "row %{y}, column %{x}<br>%{z:.5g}<extra></extra>",
    }  # fmt: skip
    return {"data": [heatmap, *_outline_traces(outline)], "layout": _map_layout(panel.values.shape)}


def _colour_stops(scale: Scale) -> list[list[Any]]:
    """Return a colour scale as plotly.js takes it."""
    return [[float(at), str(colour)] for at, colour in plotly.colors.get_colorscale(scale.colours)]


def _outline_traces(outline: Array) -> list[Figure]:
    """Return the outline as a dark line on a light one; ``None`` lifts the pen between segments."""
    x: list[float | None] = []
    y: list[float | None] = []
    for x0, y0, x1, y1 in (outline - 0.5).tolist():  # pixel centres have whole numbers
        x += [x0, x1, None]
        y += [y0, y1, None]
    both = {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip", "showlegend": False}
    return [both | {"line": {"color": c, "width": w}} for c, w in (("#ffffff", 3), ("#141414", 1.4))] if x else []


def _map_layout(shape: tuple[int, ...]) -> Figure:
    height, width = shape
    hidden = {"visible": False, "constrain": "domain"}
    return {
        "margin": {"l": 0, "r": 0, "t": 0, "b": 34},
        "xaxis": {**hidden, "range": [-0.5, width - 0.5]},
        "yaxis": {**hidden, "range": [height - 0.5, -0.5], "scaleanchor": "x"},
        "dragmode": "zoom",
    }


def packed(values: Array) -> Figure:
    """Return an array as plotly.js reads it without parsing numbers: float32 in base 64."""
    data = base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")
    return {"dtype": "f4", "bdata": data, "shape": ", ".join(map(str, values.shape))}


# --- energy ----------------------------------------------------------------------------------------------------------


def energy_figure(report: Report) -> Figure:
    """Return the energy of every component in microjoules, largest first."""
    items = sorted(report.energy_uj.by_component.items(), key=lambda item: -item[1])
    total = report.energy_uj.total or 1.0
    return {
        "data": [
            {
                "type": "bar", "orientation": "h", "y": [name for name, _ in items], "x": [uj for _, uj in items],
                "text": [f"{energy_text(uj)}, {100 * uj / total:.1f} %" for _, uj in items],
                "textposition": ["auto" if uj > 0.4 * total else "outside" for _, uj in items], "cliponaxis": False,
                "marker": {"color": PHASE_COLOURS["forward"]},
                "hovertemplate": "%{y}: %{x:,.4g} µJ<extra></extra>",
            }
        ],
        "layout": {
            "bargap": 0.35, "margin": _NO_MARGIN, "showlegend": False,
            "xaxis": {"title": {"text": "µJ"}, "automargin": True, "rangemode": "tozero"},
            "yaxis": {"automargin": True, "autorange": "reversed", "ticksuffix": " "},
        },
    }  # fmt: skip


# --- timeline ---------------------------------------------------------------------------------------------------------


class GanttInfo(NamedTuple):
    """Blocks of neighbouring tiles of one stage on one unit, as columns; cycles count from the launch's first."""

    unit: Array
    stage: Array
    start: Array
    end: Array
    """When the unit is free after the last tile."""
    busy: Array
    """Busy cycles within the block."""
    tiles: Array


def gantt_info(t: TimedLaunch) -> GanttInfo:
    """Merge the first trip's tiles into blocks: what stands next to each other on a unit and belongs to one stage.

    What goes ahead of the first trip is there, too.
    """
    parts = _blocks(t.schedule.tiles, t.timing.first)
    if t.schedule.prologue and t.timing.prologue:
        parts = _blocks(t.schedule.prologue.tiles, t.timing.prologue.first) + parts
    return GanttInfo(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _blocks(tiles: TileGraph, trace: Trace) -> list[list[Array]]:
    parts: list[list[Array]] = []
    for unit in range(len(tiles.units)):
        rows = np.flatnonzero(tiles.unit == unit)
        if not len(rows):
            continue
        stage = tiles.stage[rows]
        first = np.concatenate([[0], np.flatnonzero(stage[1:] != stage[:-1]) + 1])
        last = np.concatenate([first[1:], [len(rows)]]) - 1
        occupied = tiles.occupy_cycles[rows]
        start = trace.start[rows]
        busy = np.add.reduceat(occupied, first)
        free = (start + occupied)[last]
        parts.append([np.full(len(first), unit), stage[first], start[first], free, busy, last - first + 1])
    return parts


def gantt_figure(t: TimedLaunch) -> Figure:
    """Return what each unit did in a launch's first trip."""
    info = gantt_info(t)
    stages, seats = t.schedule.stages, t.schedule.tiles.units
    phases = np.array([phase_of(stage) for stage in stages])[info.stage]
    rim = {"width": 0.5 if len(info.unit) < 500 else 0, "color": "rgba(255,255,255,0.55)"}
    data = []
    for phase in dict.fromkeys(phases.tolist()):
        mine = phases == phase
        names = [stages[s].name for s in info.stage[mine]]
        share = 100 * info.busy[mine] / np.maximum(1, info.end[mine] - info.start[mine])
        data.append(
            {
                "type": "bar", "orientation": "h", "name": phase, "hovertext": names,
                "text": [name if s >= 50 else "" for name, s in zip(names, share, strict=True)],
                "y": [seats[u].name for u in info.unit[mine]],
                "base": info.start[mine].tolist(), "x": (info.end - info.start)[mine].tolist(),
                "customdata": [list(row) for row in zip(
                    info.start[mine].tolist(), info.end[mine].tolist(), info.busy[mine].tolist(),
                    share.round(1).tolist(), info.tiles[mine].tolist(), strict=True)],
                "marker": {
                    "color": PHASE_COLOURS[phase], "line": rim, "opacity": (0.3 + 0.007 * share).round(3).tolist(),
                },
                "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
                "insidetextfont": {"size": 11, "color": "#ffffff"},
                "hovertemplate": "%{hovertext} on %{y}<br>cycles %{customdata[0]:,} to %{customdata[1]:,}<br>"
                "busy %{customdata[2]:,} (%{customdata[3]} %), %{customdata[4]:,} tiles<extra></extra>",
            }
        )  # fmt: skip
    order = [seat.name for seat in seats]
    return {
        "data": data,
        "layout": {
            "barmode": "overlay", "bargap": 0.3, "margin": _NO_MARGIN, "uniformtext": {"mode": "hide", "minsize": 10},
            "xaxis": {"title": {"text": "cycles since the launch began"}, "automargin": True,
                      "range": [0, int(info.end.max())]},
            "yaxis": {"automargin": True, "categoryorder": "array", "categoryarray": order[::-1], "fixedrange": True,
                      "ticksuffix": " "},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        },
    }  # fmt: skip
