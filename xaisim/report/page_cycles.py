"""The page's section on cycles: units, critical path, stalls by layer, what more would buy, roofline.

cycles_section(report)           HTML text, with places for the figures of cycle_figures(report)
"""

from __future__ import annotations

from html import escape

from xaisim.report import cycle_figures as figures
from xaisim.report.cycle_figures import Figure, spoken
from xaisim.report.html import plot, table
from xaisim.report.report import Report
from xaisim.report.sentences import gains_text, path_part, path_text


def figures_of_cycles(report: Report) -> dict[str, Figure]:
    """Return the section's figures by the name of their place; those of a launch end in its number."""
    drawn = {"cycles": figures.cycles_figure(report), "roofline": figures.roofline_figure(report)}
    bandwidth = figures.bandwidth_figure(report)
    if bandwidth is not None:
        drawn["bandwidth"] = bandwidth
    for number in range(len(report.launches)):
        drawn[f"path{number}"] = figures.path_figure(report, number)
        drawn[f"stalls{number}"] = figures.stalls_figure(report, number)
    if report.sensitivity:
        drawn["sensitivity"] = figures.sensitivity_figure(report)
    return drawn


def launch_choice(report: Report) -> str:
    """Return a box to choose a launch, for every figure of one; nothing where there is one launch."""
    longest = longest_launch(report)
    options = "".join(
        f'<option value="{number}"{" selected" if number == longest else ""}>{escape(launch.kernel)}</option>'
        for number, launch in enumerate(report.launches)
    )
    many = len(report.launches) > 1
    return f'<p><label>Launch <select class="launch">{options}</select></label></p>' if many else ""


def longest_launch(report: Report) -> int:
    """Return the number of the launch that takes longest; its figures are shown first."""
    return max(
        range(len(report.launches)), key=lambda number: report.launches[number].cycles * report.launches[number].count
    )


def cycles_section(report: Report) -> str:
    """Return the section."""
    roof = (
        "Every layer that multiplies, at the speed from its first start to its last end, and the whole run. The roof "
        "is the array at its peak or the DRAM bus at its bandwidth; the table of layers has each one's distance."
    )
    others = (
        "All other layers: pools, additions, masks, points and sums of the path. They multiply nothing, so their roof "
        "is the DRAM bus alone; at the left edge stand those that move nothing over it."
    )
    multiply_all = all(row.macs for row in report.layers)
    return (
        _units(report)
        + "<h3>Critical path</h3>"
        + _path(report)
        + _gains(report)
        + "<h3>Roofline</h3>"
        + plot("roofline", "MAC per cycle over MAC per DRAM byte", kind="roofline", caption=roof)
        + (
            ""
            if multiply_all
            else plot("bandwidth", "DRAM bytes per cycle over DRAM bytes", caption=others, height=300)
        )
    )


def _units(report: Report) -> str:
    total, roofline = report.cycles.total, report.roofline
    bound = "arithmetic" if roofline.compute_cycles >= roofline.dram_cycles else "DRAM traffic"
    share = 100 * roofline.lower_bound_cycles / total
    parts = f"Inference takes {report.cycles.inference:,} of {total:,} cycles"
    if report.cycles.explanation:
        parts += f", explaining the other {report.cycles.explanation:,}"
    text = (
        f"{parts}. The {bound} alone takes {roofline.lower_bound_cycles:,} cycles, so this schedule "
        f"cannot be faster; this run reaches {share:.1f} % of that speed."
    )
    caption = f"Busy and idle cycles of every unit. Each bar adds up to {total:,} cycles; idle has one cause at a time."
    causes = _causes(report)
    rows = [
        (name, unit.busy, f"{100 * unit.busy / total:.1f} %", *(unit.idle.get(cause, 0) for cause in causes))
        for name, unit in report.units.items()
    ]
    numbers = table(("unit", "busy", "busy share", *map(spoken, causes)), rows, numeric=range(1, 3 + len(causes)))
    return (
        f"<p>{escape(text)}</p>"
        + plot("cycles", "stacked bars of busy and idle cycles of every unit", kind="cycles", caption=caption)
        + f"<details><summary>All numbers</summary>{numbers}</details>"
    )


def _causes(report: Report) -> list[str]:
    used = {cause for unit in report.units.values() for cause, cycles in unit.idle.items() if cycles}
    return [cause for cause in figures.CYCLE_COLOURS if cause in used]


def _path(report: Report) -> str:
    path, longest = report.critical_path, longest_launch(report)
    text = (
        f"Some unit keeps the run waiting in each of its {path.cycles:,} cycles: {path_text(path)}. "
        "What is not on this path could be later without making the run longer: the table of layers has their slack."
    )
    loops = "".join(
        f"<li>{escape(p.kernel)}: a trip every {p.cycles:,} cycles, decided by {_shares(report, index)}</li>"
        for index, p in enumerate(path.periods)
    )
    spent = table(
        ("launch", "layer", "unit", "waits for", "cycles", "share"),
        [(p.kernel, p.stage, p.unit, p.what, p.cycles, f"{100 * p.cycles / path.cycles:.2f} %") for p in path.spent],
        numeric=(4, 5), sortable=True, tall=len(path.spent) > 14,
    )  # fmt: skip
    units = len(figures.stalled_units(report, report.layers))
    on_path = "Cycles of the critical path on every layer, in program order. A layer without a bar runs beside others."
    stalls = "How long each unit stood idle before its tiles of a layer, by what it waited for last."
    return (
        f"<p>{escape(text)}</p>"
        + (f"<ul>{loops}</ul>" if loops else "")
        + launch_choice(report)
        + plot(f"path{longest}", "critical path by layer", kind="path", caption=on_path, per_launch="path")
        + f"<details><summary>All parts of the path</summary>{spent}</details>"
        + "<h3>Stalls by layer</h3>"
        + plot(
            f"stalls{longest}",
            "stalls of each unit by layer",
            caption=stalls,
            per_launch="stalls",
            height=150 + 100 * units,
        )
    )


def _shares(report: Report, index: int) -> str:
    """Say what the circuit of a loop is made of."""
    period, parts = report.critical_path.periods[index], dict[str, int]()
    for part in period.spent:
        name = path_part(part)
        parts[name] = parts.get(name, 0) + part.cycles
    whole = max(1, period.cycles * period.trips)
    most = sorted(parts.items(), key=lambda item: -item[1])[:4]
    return escape(", ".join(f"{name} {100 * cycles / whole:.1f} %" for name, cycles in most))


def _gains(report: Report) -> str:
    if not report.sensitivity:
        return ""
    head = ("resource", "10 % more", "predicted", "timed again", "mapped again")
    rows = [
        (
            gain.resource,
            gain.change,
            *(_saved(report, c) for c in (gain.predicted_cycles, gain.cycles, gain.remapped_cycles)),
        )
        for gain in report.sensitivity
    ]
    caption = (
        "Cycles that 10 % more of one resource saves. The prediction is the critical path with new durations: where "
        "the same schedule saves less when it is timed again, another chain of tiles has become the longest. Constants "
        "are whole cycles and lose at least one."
    )
    numbers = table(head, rows, numeric=(2, 3, 4))
    return (
        f"<h3>What 10 % more would buy</h3><p>{escape(_sentence(gains_text(report)))}</p>"
        + plot("sensitivity", "cycles saved by more of each resource", kind="sensitivity", caption=caption)
        + f"<details><summary>All numbers</summary>{numbers}</details>"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _saved(report: Report, cycles: int | None) -> str:
    return "" if cycles is None else f"{cycles:,} ({100 * (cycles / report.cycles.total - 1):+.2f} %)"
