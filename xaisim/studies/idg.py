"""Integrated Decision Gradients: insertion and deletion beside its rivals, paired over pictures, and what each costs.

study(Setting(quick=True), cells, progress)

Maps and scores are computed in fixed point; cycles are those of the machine that makes the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from xaisim.config import UserError
from xaisim.metrics.faithfulness import deletion, insertion
from xaisim.report.chart import Bars, Chart, Line, Panel
from xaisim.studies.bench import Bench, Contender, Contest, Row, alike_text, cheapest_alike, column, mean_interval
from xaisim.studies.cells import Cells
from xaisim.studies.pictures import models_of
from xaisim.studies.study import Cell, Progress, Setting, Study, Table

TITLE = "Integrated Decision Gradients beside its rivals"
SOURCE = (
    "Walker, Jha, Chen and Ewetz 2023, arXiv 2305.20052: on ImageNet networks IDG has higher insertion and lower "
    "deletion areas than IG, left-IG, Guided IG and AGI"
)
MODELS, ARCH = ("resnet18_tiny", "inception_v3_tiny", "cifar_cnn"), "ultra96_v2"
_STEPS = 50
RIVALS = (
    Contender("IDG", "idg", {"n_steps": _STEPS, "n_pilots": _STEPS}),
    Contender("IG", "integrated_gradients", {"n_steps": _STEPS}),
    Contender("left-IG", "left_ig", {"n_steps": _STEPS}),
    Contender("Guided IG", "guided_ig", {"n_steps": _STEPS}),
    Contender("AGI", "agi", {}),
    Contender("IDGI", "idgi", {"n_steps": _STEPS}),
)
AREAS = {"insertion": 1, "deletion": -1}
"""The figures that are judged; 1 where higher is better."""
PILOTS, SAMPLES = (5, 10, 25, 50), (5, 10, 25, 50)
_BATCH = 64


def study(setting: Setting, cells: Cells, progress: Progress) -> Study:
    """Judge every rival and every pair of pilots and samples on every picture."""
    if len(setting.archs) > 1:
        raise UserError("study idg compares methods on one machine: name one")
    contest = Contest("idg", contenders(quick=setting.quick), judged, 100, 8)
    models = models_of(setting, MODELS[:1] if setting.quick else MODELS)
    rows = contest.rows(models, setting.archs or (ARCH,), setting, cells, progress)
    return _study(setting, rows)


def contenders(*, quick: bool) -> list[Contender]:
    """Return the rivals, and IDG with fewer pilots and samples."""
    pilots, samples = (PILOTS[1:3], SAMPLES[1:3]) if quick else (PILOTS, SAMPLES)
    few = [Contender(f"IDG {n}/{m}", "idg", {"n_pilots": n, "n_steps": m}) for n in pilots for m in samples]
    return [*RIVALS, *few]


def judged(bench: Bench, contender: Contender, sample: Any) -> Row:
    """Return the areas of insertion and deletion of one map, and what it cost."""
    target = bench.target(sample)
    made = bench.run(contender, sample, target)
    return {
        "insertion": insertion(bench.scores, sample.x, made.map, target, batch_size=_BATCH).area,
        "deletion": deletion(bench.scores, sample.x, made.map, target, batch_size=_BATCH).area,
        "cycles": made.cycles,
        "uj": made.uj,
        "gradients": made.gradients,
    }


# --- the outcome ------------------------------------------------------------------------------------------------------


def _study(setting: Setting, rows: list[Row]) -> Study:
    models = list(dict.fromkeys(row["model"] for row in rows))
    pairs = [pair for model in models for pair in paired(rows, model)]
    better = sum(pair["verdict"] == "IDG" for pair in pairs)
    worse = sum(pair["verdict"] == "rival" for pair in pairs)
    own = [c.name for c in contenders(quick=setting.quick) if c.method == "idg"]
    cheapest = {model: cheapest_alike(of(rows, model), "IDG", AREAS, own) for model in models}
    any_method = {model: cheapest_alike(of(rows, model), "IDG", AREAS) for model in models}
    verdict = [
        f"IDG is better in {better} of {len(pairs)} paired comparisons, worse in {worse}; else the interval holds 0",
        *(alike_text(found, "IDG", f"{model}: of fewer pilots and samples") for model, found in cheapest.items()),
        *(alike_text(found, "IDG", f"{model}: of all methods") for model, found in any_method.items()),
    ]
    tables = (_quality(rows, models), _pairs_table(pairs), _sweep(rows, models))
    headline = {"comparisons": len(pairs), "idg_better": better, "idg_worse": worse,
                **{f"cheapest_{model}": ratio for model, (_, ratio) in cheapest.items()}}  # fmt: skip
    return Study("idg", TITLE, SOURCE, tuple(verdict), tables, _chart(rows, models), headline, asdict(setting))


def of(rows: Sequence[Row], model: str) -> list[Row]:
    """Return the rows of one network."""
    return [row for row in rows if row["model"] == model]


def paired(rows: Sequence[Row], model: str) -> list[dict[str, Any]]:
    """Return IDG minus each rival, picture by picture, with bootstrap intervals of the mean difference."""
    found = []
    for rival in RIVALS[1:]:
        for key, sign in AREAS.items():
            difference = column(of(rows, model), "IDG", key) - column(of(rows, model), rival.name, key)
            mean, low, high = mean_interval(difference)
            gain = (low * sign, high * sign)
            verdict = "IDG" if min(gain) > 0 else "rival" if max(gain) < 0 else "neither"
            found.append({"model": model, "rival": rival.name, "key": key, "mean": mean, "low": low, "high": high,
                          "won": float((difference * sign > 0).mean()), "verdict": verdict})  # fmt: skip
    return found


def _quality(rows: list[Row], models: Sequence[str]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for model in models:
        for rival in RIVALS:
            parts: list[Cell] = [model, rival.name]
            for key in ("insertion", "deletion"):
                mean, low, high = mean_interval(column(of(rows, model), rival.name, key))
                parts += [mean, f"{low:.3g} to {high:.3g}"]
            parts += [
                float(column(of(rows, model), rival.name, k).mean()) / u for k, u in (("cycles", 1e6), ("uj", 1e3))
            ]
            cells.append((*parts, float(column(of(rows, model), rival.name, "gradients").mean())))
    count = len(column(of(rows, models[0]), "IDG", "insertion"))
    note = (
        f"Means over {count} pictures with 95 % bootstrap intervals. Insertion starts from a blurred picture and "
        "should be high, deletion replaces by the mean and should be low; probabilities of the explained class. "
        f"{_STEPS} points for every path method, {_STEPS} pilots for IDG; AGI as published, with all other classes."
    )
    columns = ("network", "method", "insertion", "95 %", "deletion", "95 %", "million cycles", "mJ", "gradients")
    return Table("Quality and cost", note, columns, cells)


def _pairs_table(pairs: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = [
        (
            p["model"],
            p["rival"],
            p["key"],
            p["mean"],
            f"{p['low']:.3g} to {p['high']:.3g}",
            100 * p["won"],
            p["verdict"],
        )
        for p in pairs
    ]
    note = "IDG minus its rival on the same picture. *Better*: whose side the whole interval lies on."
    columns = ("network", "rival", "area", "mean difference", "95 %", "IDG wins, %", "better")
    return Table("Paired differences", note, columns, cells)


def _sweep(rows: list[Row], models: Sequence[str]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for model in models:
        for name in dict.fromkeys(r["name"] for r in rows if r["method"] == "idg"):
            means = [float(column(of(rows, model), name, key).mean()) for key in ("insertion", "deletion", "cycles")]
            cells.append((model, name, means[0], means[1], means[2] / 1e6))
    note = "IDG N/M: N pilots (forward only) and M samples; IDG alone has as many of both as its rivals have points."
    return Table(
        "Pilots and samples", note, ("network", "pilots/samples", "insertion", "deletion", "million cycles"), cells
    )


def _chart(rows: list[Row], models: Sequence[str]) -> Chart:
    names = [rival.name for rival in RIVALS]
    panels = []
    for key, sign in AREAS.items():
        bars = [
            Bars(model, [sign * pair["mean"] for pair in paired(rows, model) if pair["key"] == key]) for model in models
        ]
        panels.append(Panel(f"{key}: how much better IDG is", "", "difference of areas", bars, names[1:]))
    model = models[-1]
    few = [name for name in dict.fromkeys(r["name"] for r in rows) if name.startswith("IDG ")]
    lines = [
        Line(f"{label}", [float(column(of(rows, model), n, "cycles").mean()) / 1e6 for n in group],
             [float(column(of(rows, model), n, "insertion").mean()) for n in group], joined=False)
        for label, group in (("IDG, fewer pilots and samples", few), *((name, [name]) for name in names))
    ]  # fmt: skip
    panels.append(Panel(f"insertion and cost, {model}", "million cycles", "insertion area", lines, log_x=True))
    return Chart(TITLE, panels)
