"""The result page: one HTML file with everything in it, readable offline, in light and dark, wide and narrow.

write_page(report, "report.html", command="xaisim explain")

Figures come from ``figures.py``, the look from ``page.css``, sorting and zooming from ``page.js``.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from xaisim.report import figures
from xaisim.report.cycle_figures import spoken
from xaisim.report.figures import Figure
from xaisim.report.heatmap import HeatmapInfo, class_name, heatmap_info
from xaisim.report.html import document, plot, table
from xaisim.report.page_cycles import cycles_section, figures_of_cycles, launch_choice, longest_launch
from xaisim.report.report import Accumulators, Completeness, Fidelity, Localisation, Report
from xaisim.report.sentences import bytes_text, energy_text, of_roof, recomputed_text, time_text, verdict


def write_page(report: Report, path: str | Path, *, command: str | None = None) -> None:
    """Write the page of a report that was made in this process; ``command`` is what reproduces it."""
    Path(path).write_text(page_html(report, command=command), encoding="utf-8")


def page_html(report: Report, *, command: str | None = None) -> str:
    """Return the whole page as HTML text."""
    info = heatmap_info(report) if report.run.sample is not None else None
    title = f"{report.method} on {report.model}, {report.architecture}"
    sections = {
        "Maps": _maps(info) if info else "",
        "Fidelity": _fidelity(report),
        "Cycles": cycles_section(report),
        "Energy": _energy(report),
        "Timeline": _timeline(report),
        "Layers": _layers(report),
        "Memory": _memory(report),
        "Reproduce": _reproduce(report, command),
    }
    header = f"""<h1>{escape(report.method)} on {escape(report.model)}</h1>
<p class="quiet">class {escape(class_name(report))} on {escape(report.architecture)} at {report.clock_mhz:g} MHz</p>
<p class="verdict">{escape(verdict(report))}</p>
{_headline(report)}"""
    footer = f"xaisim {escape(report.meta.version)}, result {escape(report.meta.hash)}"
    return document(title, header, sections, page_figures(report, info), footer)


def page_figures(report: Report, info: HeatmapInfo | None) -> dict[str, Figure]:
    """Return all figures of the page by the name of their place."""
    drawn = {**figures_of_cycles(report), "energy": figures.energy_figure(report)}
    drawn |= {f"gantt{number}": figures.gantt_figure(t) for number, t in enumerate(report.run.timing.launches)}
    if info is not None:
        drawn["image"] = figures.image_figure(info)
        drawn |= {f"map{number}": figures.map_figure(panel, info.outline) for number, panel in enumerate(info.panels)}
    return drawn


# --- parts ------------------------------------------------------------------------------------------------------------


def _headline(report: Report) -> str:
    facts = [
        ("cycles", f"{report.cycles.total:,}"),
        ("time", time_text(report.latency_ms)),
        ("energy", energy_text(report.energy_uj.total)),
        ("multipliers at work", f"{100 * report.utilisation:.1f} <small>%</small>"),
        ("of the roofline", f"{100 * report.roofline.lower_bound_cycles / report.cycles.total:.1f} <small>%</small>"),
    ]
    if report.cycles.explanation:
        facts.insert(3, ("explaining / inference", f"{report.overhead:.3g}"))
    if report.prediction is not None:
        truth = "" if report.prediction.truth is None else f" <small>truth {report.prediction.truth}</small>"
        facts.append(("predicted class", f"{report.prediction.predicted}{truth}"))
    if report.fidelity is not None:
        facts.append(("SQNR", f"{report.fidelity.sqnr_db:.1f} <small>dB</small>"))
        facts.append(("Spearman", f"{report.fidelity.spearman:.4f}"))
    if report.localisation is not None:
        facts.append(("pointing game", "hit" if report.localisation.pointing_hit else "miss"))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    columns = len(facts) if len(facts) < 8 else -(-len(facts) // 2)
    return f'<dl class="facts" style="--columns: {columns}">{items}</dl>'


def _maps(info: HeatmapInfo) -> str:
    captions = [info.image_caption, *(panel.caption for panel in info.panels)]
    names = ["image", *(f"map{number}" for number in range(len(info.panels)))]
    plots = "".join(
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="plot" data-figure="{name}" role="img"'
        f' aria-label="{escape(f"{caption}, {info.title}")}"></div></figure>'
        for name, caption in zip(names, captions, strict=True)
    )
    note = f"{info.note} Drag to zoom all maps, double-click to zoom out." if info.note else ""
    alone = "" if info.panels else " alone"
    return f'<p class="quiet">{escape(note)}</p><div class="maps{alone}">{plots}</div>'


def _fidelity(report: Report) -> str:
    """Fixed point against float64, the sum rule of path methods, and the ground truth: one row, one sentence."""
    head = ("measure", "value", "what it says")
    left = ""
    if report.fidelity is not None:
        left = "<h3>Against float64</h3>" + table(head, _fidelity_rows(report.fidelity), numeric=(1,))
    if report.accumulators is not None:
        left += "<h3>Accumulators</h3>" + table(head, _accumulator_rows(report.accumulators), numeric=(1,))
    right = ""
    if report.prediction is not None:
        score, reference = f"{report.prediction.score:.5g}", f"{report.prediction.reference_score:.5g}"
        rows = [("fixed point", score, "score (logit) of the explained class"), ("float64", reference, "the same")]
        right += "<h3>Score</h3>" + table(head, rows, numeric=(1,))
    if report.completeness is not None:
        right += "<h3>Completeness</h3>" + table(head, _completeness_rows(report.completeness), numeric=(1,))
    if report.localisation is not None:
        right += "<h3>Localisation</h3>" + table(head, _localisation_rows(report.localisation), numeric=(1,))
    return f'<div class="two"><div>{left}</div><div>{right}</div></div>' if left else right


def _completeness_rows(c: Completeness) -> list[tuple[str, str, str]]:
    return [
        ("score difference", f"{c.score_difference:.5g}", "F(x) - F(x'), what the attributions should add up to"),
        ("delta", f"{c.delta:.3g}", "what their sum misses, in all"),
        ("delta of integration", f"{c.delta_integration:.3g}", "of this, left by the finite number of path points"),
        ("delta of quantisation", f"{c.delta_quantisation:.3g}", "of this, added by fixed point"),
    ]


def _localisation_rows(where: Localisation) -> list[tuple[str, str, str]]:
    hit = "hit" if where.pointing_hit else "miss"
    return [
        ("pointing game", hit, "whether the largest magnitude lies in the ground truth"),
        ("relevance mass", f"{100 * where.relevance_mass:.1f} %", "share of all magnitude inside the ground truth"),
        ("rank accuracy", f"{100 * where.relevance_rank:.1f} %", "of as many of the strongest pixels as it has"),
        ("area of the truth", f"{100 * where.mask_fraction:.1f} %", "both for a map that knows nothing"),
    ]


def _accumulator_rows(a: Accumulators) -> list[tuple[str, str, str]]:
    does = {"wrap": "wrap: the top bits of a larger sum are lost", "saturate": "saturate: a larger sum is clamped"}
    return [
        ("width", f"{a.bits} bits", does[a.policy]),
        ("stored sums", f"{a.psum_bits} bits", "width of a sum in memory, partial or whole"),
        ("sums", f"{a.sums:,}", "that the array made, over all launches and points"),
        ("overflowed", f"{a.overflowed:,}", "of these are not the exact sum"),
    ]


def _fidelity_rows(f: Fidelity) -> list[tuple[str, str, str]]:
    rows = [
        ("SQNR", f"{f.sqnr_db:.2f} dB", "signal to quantisation noise of the whole map; 6 dB are one bit"),
        ("NRMSE", f"{100 * f.nrmse:.3g} %", "root mean squared error over the range of the float map"),
        ("largest error", f"{f.max_error_lsb:,.1f} LSB", "in last bits of the map's format"),
        ("cosine", f"{f.cosine:.6f}", "angle between the two maps; 1 is the same direction"),
        ("Pearson", f"{f.pearson:.6f}", "the same of the maps less their means"),
        ("Spearman", f"{f.spearman:.5f}", "agreement of ranks over all elements; 1 is the same order"),
    ]
    if f.ssim is not None:
        rows.append(("SSIM", f"{f.ssim:.5f}", "likeness of structure in windows of 11 x 11 pixels; 1 is equal"))
    rows += [
        ("top 1 %", f"{100 * f.topk_1pct:.1f} %", "of the strongest 1 % of elements that both maps name"),
        ("top 5 %", f"{100 * f.topk_5pct:.1f} %", "the same for 5 %"),
        ("top 10 %", f"{100 * f.topk_10pct:.1f} %", "the same for 10 %"),
    ]
    if f.topk_1000 is not None:
        rows.append(("top 1000", f"{100 * f.topk_1000:.1f} %", "the same for 1000 elements"))
    rows += [
        ("equal signs", f"{100 * f.sign_agreement:.2f} %", "of elements, zero counted as a sign of its own"),
        ("exact zeros", f"{100 * f.zero_fraction:.2f} %", "of elements that fixed point rounds away: they tie in rank"),
        ("saturated", f"{100 * f.saturated_fraction:.4f} %", "of rounded values that lie at a bound of their format"),
    ]
    if f.mask_flip_rate is not None:
        rows.append(
            ("ReLU masks flipped", f"{100 * f.mask_flip_rate:.4f} %", "of stored bits that differ from float64")
        )
    if f.index_flip_rate is not None:
        rows.append(("pool indices changed", f"{100 * f.index_flip_rate:.4f} %", "of stored ones, against float64"))
    return rows


def _energy(report: Report) -> str:
    rows = [
        (c.component, c.what, f"{c.count:,.0f}", f"{c.pj_each:.4g}", f"{c.count * c.pj_each * 1e-6:,.4g}")
        for c in report.energy_uj.counts
    ]
    total = report.energy_uj.total
    numbers = table(
        ("component", "event", "count", "pJ each", "µJ"), rows, numeric=(2, 3, 4),
        foot=("total", "", "", "", f"{total:,.4g}"),
    )  # fmt: skip
    sources = "".join(f"<li>{escape(source)}</li>" for source in report.energy_uj.sources)
    caption = (
        f"Energy by component, {energy_text(total)} in all: every event counted, times a coefficient with a source."
    )
    return (
        plot("energy", "bars of energy by component", kind="energy", caption=caption)
        + f"<details><summary>Counts and coefficients</summary>{numbers}</details>"
        + (f"<h3>Sources of the coefficients</h3><ul>{sources}</ul>" if sources else "")
    )


def _timeline(report: Report) -> str:
    caption = (
        "The first trip of the launch. Neighbouring tiles of one layer on one unit are drawn as one block, paler the "
        "longer the unit waits within; timeline.json has the single tiles and opens in Perfetto. "
        "Drag to zoom, double-click to zoom out."
    )
    rows = [
        (r.kernel, f"{r.count:,}", f"{r.trips:,}", f"{r.start_cycle:,}", f"{r.cycles:,}", f"{r.prologue_cycles:,}",
         f"{r.period_cycles:,}", f"{r.host_cycles:,}", f"{r.tiles:,}")
        for r in report.launches
    ]  # fmt: skip
    numbers = table(
        ("launch", "launches", "trips", "first start cycle", "cycles of one",
         "before the first trip", "cycles per trip", "host cycles", "tiles per trip"),
        rows, numeric=range(1, 9),
    )  # fmt: skip
    label = "what DMA, array and vector unit did over time"
    place = plot(f"gantt{longest_launch(report)}", label, kind="gantt", caption=caption, per_launch="gantt")
    return launch_choice(report) + place + numbers


def _layers(report: Report) -> str:
    if not report.layers:
        return ""
    head = (
        "launch",
        "layer",
        "operators",
        "direction",
        "trips",
        "MACs",
        "array",
        "vector",
        "DMA",
        "DRAM bytes",
        "path",
        "slack",
        "of the roof",
        "tiling",
    )
    many = len({row.kernel for row in report.layers}) > 1
    columns = [index for index in range(len(head)) if many or index]
    rows = []
    for r in report.layers:
        direction = "backward" if r.backward else "forward"
        whole = (
            r.kernel, r.stage, r.op.replace("+", " + "), direction, r.trips, r.macs, r.array_cycles,
            r.vector_cycles, r.dma_cycles, round(r.dram_bytes),
            r.path_cycles, r.slack_cycles, f"{100 * of_roof(r):.0f} %", r.tiling,
        )  # fmt: skip
        rows.append(tuple(whole[index] for index in columns))
    names = tuple(head[index] for index in columns)
    numeric = [names.index(name) for name in head[4:13]]
    numbers = table(names, rows, numeric=numeric, sortable=True, tall=len(rows) > 14)
    text = (
        "Busy cycles of each unit, bytes on the DRAM bus and cycles of the critical path, over all trips; how many "
        "cycles late a layer's tiles could be; its speed against the roofline. A column's heading sorts by it."
    )
    return f'<p class="quiet">{text}</p>{numbers}'


def _memory(report: Report) -> str:
    names = dict.fromkeys([*report.traffic_bytes, *report.memory.peak_bytes])
    rows = []
    for name in names:
        traffic, peak = report.traffic_bytes.get(name), report.memory.peak_bytes.get(name)
        moved = ("", "") if traffic is None else (bytes_text(traffic.read), bytes_text(traffic.write))
        size = report.run.arch.memory(name).size
        used = "" if peak is None else f"{bytes_text(peak)} of {bytes_text(size)}"
        rows.append((name, *moved, used))
    masks, indices = report.memory.mask_bits, report.memory.index_bits
    text = "Nothing is kept from forward for backward."
    if masks or indices:
        text = (
            f"Backward needs {masks:,} bits of ReLU masks and {indices:,} bits of pool indices kept from forward: "
            f"{report.memory.on_chip_bits:,} on the chip, {report.memory.spilled_bits:,} in DRAM."
        )
    if report.memory.recomputed_bits:
        text += f" {recomputed_text(report)}."
    if report.dram is not None:
        d = report.dram
        text += (
            f" {d.row_hits:,} DRAM bursts found their row open, {d.row_misses:,} their bank closed, "
            f"{d.row_conflicts:,} another row. The bus turned {d.turn_rounds:,} times, "
            f"refresh took {d.refresh_cycles:,} cycles."
        )
    return f"<p>{text}</p>" + table(("memory", "read", "written", "fullest moment"), rows, numeric=(1, 2, 3))


def _reproduce(report: Report, command: str | None) -> str:
    options = ", ".join(f"{name} {value}" for name, value in report.options.items()) or "none"
    numerics = ", ".join(
        f"{spoken(name)} {value}" for name, value in report.numerics.items() if value not in (None, {}, [], "")
    )
    rows = [
        ("command", f"<code>{escape(command)}</code>" if command else ""),
        ("model", escape(report.model)),
        ("weights", escape(report.weights)),
        ("method", escape(report.method)),
        ("options", escape(options)),
        ("numbers", escape(numerics)),
        ("calibration", escape(report.calibration)),
        ("attribution format", escape(report.attribution_format or "")),
        (
            "architecture",
            escape(report.run.arch.description and f"{report.architecture}: {report.run.arch.description}"),
        ),
        ("seed", str(report.meta.seed)),
        ("version", escape(report.meta.version)),
        ("result hash", f"<code>{escape(report.meta.hash)}</code>"),
    ]
    lines = "".join(f'<tr><th scope="row">{name}</th><td>{text}</td></tr>' for name, text in rows if text)
    return f'<div class="scroll" tabindex="0"><table><tbody>{lines}</tbody></table></div>'
