"""Figures of where the cycles go: units, critical path, stalls by layer, sensitivity, roofline, bandwidth.

cycles_figure(report)                {"data": [...], "layout": {...}} for plotly.js
path_figure(report, launch=1)        the layers of one launch, in program order
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from xaisim.report.events import phase_of
from xaisim.report.figures import PHASE_COLOURS
from xaisim.report.report import LayerRow, Report
from xaisim.report.sentences import of_roof, path_part

Figure = dict[str, Any]

# Okabe and Ito's colours, told apart by colour-blind eyes; grey is what nobody could have used. Two of Paul Tol's for
# what is shared.
CYCLE_COLOURS = {
    "busy": "#0072B2",
    "waiting_for_load": "#E69F00",
    "waiting_for_array": "#56B4E9",
    "waiting_for_vector": "#009E73",
    "waiting_for_store": "#D55E00",
    "buffer_in_use": "#CC79A7",
    "bus_in_use": "#882255",
    "port_in_use": "#999933",
    "finished": "#9AA0A8",
    "host": "#F0E442",
}
PATH_COLOURS = {
    "array busy": "#0072B2",
    "dma busy": "#E69F00",
    "dma latency": "#F6D28B",
    "dma hold": "#882255",
    "vector busy": "#009E73",
    "host busy": "#F0E442",
}
LAYER_COLOURS = {"forward": "#0072B2", "backward": "#D55E00"}
_NO_MARGIN = {"l": 6, "r": 6, "t": 6, "b": 6}
_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
_OTHER = "#777777"


def spoken(name: str) -> str:
    """Return a name of the report as words."""
    return name.replace("_", " ")


def cycles_figure(report: Report) -> Figure:
    """Return busy and idle cycles of every unit as stacked bars; each bar is as long as the whole run."""
    units = list(report.units)
    parts = {"busy": [report.units[u].busy for u in units]}
    for cause in dict.fromkeys(cause for u in units for cause in report.units[u].idle):
        parts[cause] = [report.units[u].idle.get(cause, 0) for u in units]
    data = [
        {
            "type": "bar", "orientation": "h", "name": spoken(part), "y": units, "x": cycles,
            "customdata": [100 * c / report.cycles.total for c in cycles],
            "marker": {"color": CYCLE_COLOURS.get(part, _OTHER)},
            "hovertemplate": "%{y}, " + spoken(part) + "<br>%{x:,} cycles (%{customdata:.1f} %)<extra></extra>",
        }
        for part, cycles in parts.items()
        if any(cycles)
    ]  # fmt: skip
    return {
        "data": data,
        "layout": {
            "barmode": "stack", "bargap": 0.35, "margin": _NO_MARGIN,
            "xaxis": {"title": {"text": "cycles"}, "automargin": True, "range": [0, report.cycles.total]},
            "yaxis": {"automargin": True, "autorange": "reversed", "ticksuffix": " "},
            "legend": _ABOVE,
        },
    }  # fmt: skip


# --- by layer ---------------------------------------------------------------------------------------------------------


def layers_of(report: Report, launch: int) -> tuple[LayerRow, ...]:
    """Return the layers of the launch of that number."""
    counts = [len(t.schedule.stages) for t in report.run.timing.launches]
    first = [0, *accumulate(counts)][launch]
    return report.layers[first : first + counts[launch]]


def path_figure(report: Report, launch: int) -> Figure:
    """Return the critical path's cycles on every layer of a launch, by unit and what they are spent on."""
    rows, kernel = layers_of(report, launch), report.launches[launch].kernel
    place = {row.stage: index for index, row in enumerate(rows)}
    parts: dict[str, list[int]] = {}
    for part in report.critical_path.spent:
        if part.kernel == kernel and part.stage in place:
            column = parts.setdefault(path_part(part), [0] * len(rows))
            column[place[part.stage]] += part.cycles
    order = [name for name in PATH_COLOURS if name in parts] + [name for name in parts if name not in PATH_COLOURS]
    data = [_layer_bars(rows, name, parts[name], PATH_COLOURS.get(name, _OTHER), report.cycles.total) for name in order]
    axis = {"title": {"text": "cycles of the critical path"}, "automargin": True}
    return {"data": data, "layout": {**_layer_layout(rows), "yaxis": axis}}


def stalls_figure(report: Report, launch: int) -> Figure:
    """Return the stalls before the tiles of every layer of a launch: a row per unit of the chip, causes stacked."""
    rows = layers_of(report, launch)
    units = stalled_units(report, rows)
    data, layout, seen = [], _layer_layout(rows), set[str]()
    for number, unit in enumerate(units):
        axis = f"y{number + 1}" if number else "y"
        top = 1 - number / len(units)
        layout[axis.replace("y", "yaxis")] = {
            "title": {"text": unit, "font": {"size": 11.5}}, "domain": [top - 0.86 / len(units), top],
            "automargin": True, "nticks": 3,
        }  # fmt: skip
        for cause, colour in CYCLE_COLOURS.items():
            cycles = [row.stall_cycles.get(unit, {}).get(cause, 0) for row in rows]
            if any(cycles):
                bars = _layer_bars(rows, spoken(cause), cycles, colour, report.cycles.total)
                data.append(bars | {"yaxis": axis, "legendgroup": cause, "showlegend": cause not in seen})
                seen.add(cause)
    if not units:
        layout["yaxis"] = {"automargin": True}
    layout["xaxis"] |= {"anchor": f"y{len(units)}" if len(units) > 1 else "y"}
    return {"data": data, "layout": layout}


def stalled_units(report: Report, rows: tuple[LayerRow, ...]) -> list[str]:
    """Return the units of the chip that stall before tiles of some layer."""
    return [unit for unit in report.units if unit != "host" and any(unit in row.stall_cycles for row in rows)]


def _layer_bars(rows: tuple[LayerRow, ...], name: str, cycles: list[int], colour: str, total: int) -> Figure:
    return {
        "type": "bar", "name": name, "x": list(range(len(rows))), "y": cycles, "marker": {"color": colour},
        "customdata": [[row.stage, 100 * c / total] for row, c in zip(rows, cycles, strict=True)],
        "hovertemplate": f"%{{customdata[0]}}, {name}<br>%{{y:,}} cycles (%{{customdata[1]:.2f}} % of the run)"
        "<extra></extra>",
    }  # fmt: skip


def _layer_layout(rows: tuple[LayerRow, ...]) -> Figure:
    """Return stacked bars over layers in program order; of many layers only some have their name below."""
    step = -(-len(rows) // 36)
    shown = range(0, len(rows), step)
    return {
        "barmode": "stack", "bargap": 0.15, "margin": _NO_MARGIN, "legend": _ABOVE,
        "xaxis": {
            "automargin": True, "tickmode": "array", "tickvals": list(shown), "tickangle": -55,
            "ticktext": [rows[index].stage for index in shown], "tickfont": {"size": 10},
            "range": [-0.6, len(rows) - 0.4],
        },
    }  # fmt: skip


# --- what more would buy ----------------------------------------------------------------------------------------------


def sensitivity_figure(report: Report) -> Figure:
    """Return what a tenth more of each resource saves, in percent of the run: predicted, timed again, mapped again."""
    total, gains = report.cycles.total, report.sensitivity
    kinds = {
        "predicted from the critical path": ([gain.predicted_cycles for gain in gains], "#9AA0A8"),
        "timed again, same schedule": ([gain.cycles for gain in gains], "#0072B2"),
        "mapped again": ([gain.remapped_cycles for gain in gains], "#D55E00"),
    }
    names = [gain.resource for gain in gains]
    data = [
        {
            "type": "bar", "orientation": "h", "name": kind, "y": names, "marker": {"color": colour},
            "x": [None if c is None else 100 * (total - c) / total for c in cycles],
            "customdata": [[gain.change, c] for gain, c in zip(gains, cycles, strict=True)],
            "hovertemplate": "%{y}: %{customdata[0]}<br>%{customdata[1]:,} cycles, %{x:.2f} % fewer<extra></extra>",
        }
        for kind, (cycles, colour) in kinds.items()
        if any(c is not None for c in cycles)
    ]  # fmt: skip
    return {
        "data": data,
        "layout": {
            "barmode": "group", "bargap": 0.3, "margin": _NO_MARGIN, "legend": _ABOVE,
            "xaxis": {"title": {"text": "cycles saved, % of the run"}, "automargin": True, "zeroline": True},
            "yaxis": {"automargin": True, "autorange": "reversed", "ticksuffix": " "},
        },
    }  # fmt: skip


# --- roofline ---------------------------------------------------------------------------------------------------------


def roofline_figure(report: Report) -> Figure:
    """Return MAC per cycle over MAC per DRAM byte: the roof, every layer that multiplies, and the whole run.

    The layers that multiply nothing are in ``bandwidth_figure``.

    A layer is as fast as from its first start to its last end. One that moves nothing over the bus stands at the right
    edge.
    """
    arch = report.run.arch
    peak, bandwidth = float(arch.peak_macs_per_cycle), arch.dram.bytes_per_cycle
    traffic = report.traffic_bytes[arch.dram.name]
    macs = report.macs.forward + report.macs.backward
    run = (macs / (traffic.read + traffic.write), macs / report.cycles.total)
    rows = [row for row in report.layers if row.macs]
    every = [run[0], peak / bandwidth, *(row.macs / row.dram_bytes for row in rows if row.dram_bytes)]
    low, high = min(every) / 2, max(every) * 2
    roof = {
        "type": "scatter", "mode": "lines", "name": "roof", "hoverinfo": "skip",
        "x": [low, peak / bandwidth, high], "y": [low * bandwidth, peak, peak],
        "line": {"color": "#8a9099", "width": 2},
    }  # fmt: skip
    data = [roof]
    for name, backward in (("forward", False), ("backward", True)):
        mine = [row for row in rows if row.backward == backward]
        if mine:
            at = [row.macs / row.dram_bytes if row.dram_bytes else high for row in mine]
            points = [(x, row.macs / row.span_cycles, _distance(row)) for x, row in zip(at, mine, strict=True)]
            data.append(_roofline_points(f"{name} layers", points, name))
    whole = f"whole run: {100 * report.roofline.lower_bound_cycles / report.cycles.total:.1f} % of the roof"
    data.append(_roofline_points("whole run", [(*run, whole)], "run"))
    return {
        "data": data,
        "layout": {
            "margin": _NO_MARGIN,
            "xaxis": {"type": "log", "title": {"text": "MAC per DRAM byte"}, "automargin": True, "dtick": 1},
            "yaxis": {"type": "log", "title": {"text": "MAC per cycle"}, "automargin": True, "dtick": 1},
            "legend": _ABOVE,
        },
    }


def bandwidth_figure(report: Report) -> Figure | None:
    """Return DRAM bytes per cycle over DRAM bytes: the bus as the roof, and every layer that multiplies nothing.

    A layer is as fast as from its first start to its last end. One that moves nothing over the bus stands at the left
    edge. None where every layer multiplies.
    """
    stages = [stage for t in report.run.timing.launches for stage in t.schedule.stages]
    rows = [(row, phase_of(stage)) for row, stage in zip(report.layers, stages, strict=True) if not row.macs]
    if not rows:
        return None
    moved = [row.dram_bytes for row, _ in rows if row.dram_bytes] or [1.0]
    low, high, bandwidth = min(moved) / 2, max(moved) * 2, report.run.arch.dram.bytes_per_cycle
    roof = {
        "type": "scatter", "mode": "lines", "name": "bandwidth", "hoverinfo": "skip", "x": [low, high],
        "y": [bandwidth, bandwidth], "line": {"color": "#8a9099", "width": 2},
    }  # fmt: skip
    data = [roof]
    for phase in dict.fromkeys(phase for _, phase in rows):
        mine = [row for row, of in rows if of == phase]
        data.append({
            "type": "scatter", "mode": "markers", "name": phase, "x": [row.dram_bytes or low for row in mine],
            "y": [row.dram_bytes / max(1, row.span_cycles) for row in mine], "text": [_distance(row) for row in mine],
            "marker": {"size": 9, "symbol": "square", "color": PHASE_COLOURS[phase], "opacity": 0.75},
            "hovertemplate": "%{text}<br>%{y:.3g} B/cycle<extra></extra>",
        })  # fmt: skip
    return {
        "data": data,
        "layout": {
            "margin": _NO_MARGIN,
            "xaxis": {"type": "log", "title": {"text": "DRAM bytes"}, "automargin": True, "dtick": 1},
            "yaxis": {"title": {"text": "DRAM bytes per cycle"}, "automargin": True, "rangemode": "tozero"},
            "legend": _ABOVE,
        },
    }


def _distance(row: LayerRow) -> str:
    return (
        f"{row.kernel}: {row.stage}<br>{100 * of_roof(row):.1f} % of the roof: "
        f"{row.span_cycles:,} cycles, the roof is {row.bound_cycles:,}"
    )


def _roofline_points(name: str, points: list[tuple[float, float, str]], style: str) -> Figure:
    x, y, text = zip(*points, strict=True)
    marker: Figure = {"size": 8, "color": LAYER_COLOURS.get(style, "#000000"), "opacity": 0.75}
    if style == "run":
        marker = {"size": 15, "symbol": "diamond", "color": "#F0E442", "line": {"color": "#141414", "width": 1.5}}
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y), "text": list(text),
        "marker": marker, "hovertemplate": "%{text}<br>%{x:.3g} MAC/B, %{y:.3g} MAC/cycle<extra></extra>",
    }  # fmt: skip
