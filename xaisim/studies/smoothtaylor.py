"""SmoothTaylor and adaptive noising: how smooth and how faithful maps are over σ and R, and what that costs.

study(Setting(quick=True), cells, progress)

Maps and the scores of AUPC are computed in fixed point; cycles and energy are those of the machine that makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from xaisim.config import UserError
from xaisim.metrics.faithfulness import aupc
from xaisim.metrics.noise import autvc
from xaisim.report.chart import Chart, Line, Panel
from xaisim.studies.bench import Bench, Contender, Contest, Row, alike_text, cheapest_alike, column, mean_interval
from xaisim.studies.cells import Cells
from xaisim.studies.pictures import models_of
from xaisim.studies.study import Cell, Progress, Setting, Study, Table

TITLE = "SmoothTaylor: noise, faithfulness and what they cost"
SOURCE = (
    "Goh, Lapuschkin, Weber, Samek and Binder 2020, arXiv 2004.10484 (ImageNet networks): less noise "
    "and higher sensitivity than Integrated Gradients; best σ 0.3 to 0.5; adaptive noising improves on a fixed σ"
)
MODEL, ARCH = "resnet18_tiny", "ultra96_v2"
SIGMAS = (1e-3, 1e-2, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)
SMOOTHGRAD_SIGMAS = (0.1, 0.3, 1.0)
"""SmoothGrad is a rival, not what is studied: fewer of them."""
COUNTS = (10, 50, 150)
_SIGMA, _COUNT = 0.5, 150
_DRAWS = 50
ADAPTIVE = ("adaptive AUTVC", "adaptive AUPC")
BETTER = {"aupc": -1, "autvc": -1}
"""The figures that are judged; -1 where lower is better."""


def contenders(*, quick: bool) -> list[Contender]:
    """Return everything that is compared."""
    sigmas, counts = (SIGMAS[2::3], COUNTS[:2]) if quick else (SIGMAS, COUNTS)
    most = counts[-1]
    found = [Contender("IG, from the mean", "integrated_gradients", {"n_steps": 50, "baseline": "mean"}),
             Contender("IG, from black", "integrated_gradients", {"n_steps": 50, "baseline": "black"}),
             Contender("IG, from noise", "integrated_gradients", {"n_steps": 50, "baseline": "noise"})]  # fmt: skip
    found += [Contender(f"SmoothGrad σ {s:g}", "smoothgrad", _noise(s, most)) for s in SMOOTHGRAD_SIGMAS]
    found += [Contender(f"SmoothTaylor σ {s:g}", "smooth_taylor", _noise(s, most)) for s in sigmas]
    found += [Contender(f"SmoothTaylor R {r}", "smooth_taylor", _noise(_SIGMA, r)) for r in counts]
    for criterion in ("autvc", "aupc"):
        options = {"criterion": criterion, "n_samples": most, "noise": "lfsr", "n_iterations": 5 if quick else 20}
        found.append(Contender(f"adaptive {criterion.upper()}", "adaptive_smooth_taylor", options))
    return found


def _noise(sigma: float, count: int) -> dict[str, Any]:
    return {"sigma": sigma, "n_samples": count, "noise": "lfsr"}


def study(setting: Setting, cells: Cells, progress: Progress) -> Study:
    """Judge every contender on every picture."""
    if len(setting.models) > 1 or len(setting.archs) > 1:
        raise UserError("study smoothtaylor compares methods on one network and one machine: name one of each")
    contest = Contest("smoothtaylor", contenders(quick=setting.quick), judged, 50, 6)
    models = models_of(setting, (MODEL,))
    rows = contest.rows(models, setting.archs or (ARCH,), setting, cells, progress)
    return _study(setting, rows)


def judged(bench: Bench, contender: Contender, sample: Any) -> Row:
    """Return AUPC and AUTVC of one map, and what it cost."""
    target = bench.target(sample)
    made = bench.run(contender, sample, target)
    return {
        "aupc": aupc(bench.scores, sample.x, made.map, target, draws=_DRAWS, batch_size=_DRAWS).area,
        "autvc": autvc(made.map).area,
        "cycles": made.cycles,
        "uj": made.uj,
        "gradients": made.gradients,
    }


# --- the outcome ------------------------------------------------------------------------------------------------------


def _study(setting: Setting, rows: list[Row]) -> Study:
    names = list(dict.fromkeys(row["name"] for row in rows))
    trends = trend_rows(rows, names)
    held = sum(row[3] == "yes" for row in trends)
    taylor = [name for name in names if name.startswith("SmoothTaylor")]
    smooth = {key: min(taylor, key=lambda n: float(column(rows, n, key).mean())) for key in BETTER}
    best = {key: min(names, key=lambda n: float(column(rows, n, key).mean())) for key in ("aupc", "autvc")}
    cheapest = {name: cheapest_alike(rows, name, BETTER) for name in ADAPTIVE}
    verdict = (
        f"{held} of {len(trends)} published trends hold here",
        *(f"lowest {key.upper()}: {best[key]}, {column(rows, best[key], key).mean():.3g}, beside "
          f"{column(rows, smooth[key], key).mean():.3g} of {smooth[key]}" for key in ("aupc", "autvc")),
        *(alike_text(found, adaptive, "of all methods") for adaptive, found in cheapest.items()),
    )  # fmt: skip
    headline = {"trends": len(trends), "trends_held": held,
                **{f"cheapest_{name.split()[1].lower()}": ratio for name, (_, ratio) in cheapest.items()}}  # fmt: skip
    tables = (_table(rows, names), _trend_table(trends))
    return Study("smoothtaylor", TITLE, SOURCE, verdict, tables, _chart(rows, names), headline, asdict(setting))


def _table(rows: list[Row], names: Sequence[str]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for name in names:
        parts: list[Cell] = [name]
        for key in ("aupc", "autvc"):
            mean, low, high = mean_interval(column(rows, name, key))
            parts += [mean, f"{low:.3g} to {high:.3g}"]
        cycles, uj, gradients = (float(column(rows, name, key).mean()) for key in ("cycles", "uj", "gradients"))
        cells.append((*parts, gradients, cycles / 1e6, uj / 1e3))
    pictures_ = len(column(rows, names[0], "aupc"))
    note = (
        f"Means over {pictures_} pictures with 95 % bootstrap intervals; lower is better. Noise is made on the chip. "
        "*Gradients*, cycles and energy are those of one explanation, metrics that a search asks for included."
    )
    columns = ("method", "AUPC", "95 %", "AUTVC", "95 %", "gradients", "million cycles", "mJ")
    return Table("Quality and cost", note, columns, cells)


def trend_rows(rows: list[Row], names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Return every published trend with what was found and whether it holds."""
    taylor = sorted({(row["sigma"], row["name"]) for row in rows if row["name"].startswith("SmoothTaylor σ")})
    counts = sorted({(row["n_samples"], row["name"]) for row in rows if row["name"].startswith("SmoothTaylor R")})
    means = {(name, key): float(column(rows, name, key).mean()) for name in names for key in ("aupc", "autvc")}
    found = []
    for key in ("aupc", "autvc"):
        curve = [means[name, key] for _, name in taylor]
        lowest = int(np.argmin(curve))
        inside = 0 < lowest < len(curve) - 1
        text = f"lowest at σ {taylor[lowest][0]:g}; " + ", ".join(
            f"{s:g}: {m:.3g}" for (s, _), m in zip(taylor, curve, strict=True)
        )
        found.append((f"{key.upper()} over σ is a U", "best 0.3 to 0.5", text, "yes" if inside else "no"))
        falling = [means[name, key] for _, name in counts]
        text = ", ".join(f"R {r}: {m:.3g}" for (r, _), m in zip(counts, falling, strict=True))
        falls = all(a > b for a, b in pairwise(falling))
        found.append((f"{key.upper()} falls as R grows", "both fall", text, "yes" if falls else "no"))
        best, ig = min(curve), min(means[name, key] for name in names if name.startswith("IG"))
        found.append((f"SmoothTaylor's {key.upper()} is below IG's", "yes", f"{best:.3g} against {ig:.3g}",
                      "yes" if best < ig else "no"))  # fmt: skip
    fixed = f"SmoothTaylor R {counts[-1][0]}"
    by = {key: (means["adaptive AUTVC", key], means[fixed, key]) for key in ("autvc", "aupc")}
    text = f"AUTVC {by['autvc'][1]:.3g} -> {by['autvc'][0]:.3g}, AUPC {by['aupc'][1]:.3g} -> {by['aupc'][0]:.3g}"
    holds = by["autvc"][0] < by["autvc"][1] and by["aupc"][0] > by["aupc"][1]
    against = f"against σ {_SIGMA:g}"
    found.append(("adaptive AUTVC lowers AUTVC and worsens AUPC", against, text, "yes" if holds else "no"))
    lower = means["adaptive AUPC", "aupc"] < means[fixed, "aupc"]
    text = f"{means[fixed, 'aupc']:.3g} -> {means['adaptive AUPC', 'aupc']:.3g}"
    found.append(("adaptive AUPC lowers AUPC", against, text, "yes" if lower else "no"))
    return found


def _trend_table(trends: list[tuple[str, str, str, str]]) -> Table:
    note = "What the paper reports of its networks, and what these pictures and this network show."
    return Table("Trends", note, ("trend", "published", "here", "holds"), trends)


def _chart(rows: list[Row], names: Sequence[str]) -> Chart:
    panels = []
    for key in ("aupc", "autvc"):
        lines = []
        for kind in ("SmoothTaylor σ", "SmoothGrad σ"):
            points = sorted({(row["sigma"], row["name"]) for row in rows if row["name"].startswith(kind)})
            means = [float(column(rows, name, key).mean()) for _, name in points]
            lines.append(Line(kind.removesuffix(" σ"), [sigma for sigma, _ in points], means))
        from_ends = [name for name in names if name.startswith("IG, from")][:2]
        guides = [(float(column(rows, name, key).mean()), "IG " + name.split()[-1]) for name in from_ends]
        title = f"{key.upper()} over sigma, lower is better"
        panels.append(Panel(title, "sigma", key.upper(), lines, log_x=True, guides=guides))
    cost = []
    for name in [name for name in names if not name.startswith("Smooth") or name.startswith("SmoothTaylor R")]:
        cycles, noise = (float(column(rows, name, key).mean()) for key in ("cycles", "autvc"))
        cost.append(Line(name, [cycles / 1e6], [noise], joined=False))
    panels.append(Panel("AUTVC and cost", "million cycles", "AUTVC", cost, log_x=True))
    return Chart(TITLE, panels)
