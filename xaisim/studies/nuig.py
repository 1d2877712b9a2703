"""Non-uniform interpolation: how few points reach a wanted completeness, and what that costs in cycles.

study(Setting(quick=True), cells, progress)

The completeness of any rule at any number of points follows from F along the path alone: its slope at a point is all
that a sum needs. F is tabulated in float64 for every picture; the counts found are then run for real and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from xaisim.attribution.methods import METHODS
from xaisim.attribution.paths import path
from xaisim.attribution.sampling import density_of
from xaisim.experiment import Experiment, Options, baseline_array, prepare
from xaisim.ir.graph import Array
from xaisim.models.images import Sample, calibration_batch
from xaisim.models.load import Model
from xaisim.numerics.devices import DryDevice, FloatDevice
from xaisim.numerics.formats import Formats
from xaisim.report.chart import Bars, Chart, Line, Panel
from xaisim.simulate.program import time_program
from xaisim.studies.cells import Cells
from xaisim.studies.floor import floor_table, floors_of
from xaisim.studies.map_error import adaptive_gain, map_errors, map_table
from xaisim.studies.pictures import models_of, pictures
from xaisim.studies.profile import (
    MOST_POINTS,
    SCORE,
    Profile,
    Rule,
    adaptive_deltas,
    deltas,
    fewest,
    lasting,
    profile_of,
    rules,
)
from xaisim.studies.study import Cell, Progress, Setting, Study, Table

TITLE = "Non-uniform interpolation: points and cycles at equal completeness"
SOURCE = (
    "Bhat and Raychowdhury 2023, arXiv 2302.11107: 2.6x to 3.6x less latency than uniform points at equal convergence "
    "(InceptionV3, ImageNet, GPU), the probe included, which takes 0.2 % to 3.2 %"
)
MODELS, ARCHS = ("resnet18_tiny", "inception_v3_tiny"), ("pynq_z2", "edge_systolic_16")
THRESHOLDS = (0.05, 0.02, 0.01, 0.005)
_CALIBRATION = 32
_TIMED = (8, 16, 32, 64, 128, 256, MOST_POINTS)
"""Points at which methods are timed; whatever the rule, its loop is the same."""


# --- computing --------------------------------------------------------------------------------------------------------


def study(setting: Setting, cells: Cells, progress: Progress) -> Study:
    """Find the fewest points of every rule on every picture, and their cycles on every machine."""
    found: list[dict[str, Any]] = []
    profiles: dict[str, Array] = {}
    floors: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    for model in models_of(setting, MODELS):
        samples = pictures(model, setting, 100, 12)
        density = np.array(cells.get(("nuig", "density", model.name, model.weights), partial(learnt, model)))
        key = ("nuig", model.name, model.weights, setting.quick)
        for number, sample in enumerate(samples):
            progress(f"{model.name}: {sample.name}", number, len(samples))
            row = cells.get((*key, sample.name), partial(judged, model, sample, density, setting.quick))
            found.append({"model": model.name, "picture": sample.name, **row})
        profiles[model.name] = np.array([row["profile"] for row in found if row["model"] == model.name])
        maps += map_errors(model, samples[: 2 if setting.quick else 12], density, cells, progress)
        floors += floors_of(model, samples[: 4 if setting.quick else 16], setting, cells, progress)
    archs = setting.archs or (ARCHS[:1] if setting.quick else ARCHS)
    return _study(setting, found, profiles, floors, maps, partial(_cycles, cells), archs)


def judged(model: Model, sample: Sample, density: Array, quick: bool) -> dict[str, Any]:
    """Return the fewest points of every rule at every threshold, the change of the score, and its profile."""
    profile = profile_of(model, sample)
    found = {rule.name: deltas(profile, rule) for rule in rules(density, quick=quick)}
    found["adaptive"], own = adaptive_deltas(profile, density)
    counts = {
        kind: {name: [pick(each, threshold) for threshold in THRESHOLDS] for name, each in found.items()}
        for kind, pick in (("fewest", fewest), ("lasting", lasting))
    }
    stopped = [fewest(own, threshold) or MOST_POINTS for threshold in THRESHOLDS]
    low, high = (float(v) for v in profile.values(np.array([0.0, 1.0])))
    shares = (profile.values(np.linspace(0, 1, 17)) - low) / (high - low)
    return {
        **counts,
        "stopped": stopped,
        "stopped_delta": [float(found["adaptive"][count - 1]) for count in stopped],
        "change": high - low,
        "profile": shares.tolist(),
        "table_error": table_error(model, sample, profile),
    }


def table_error(model: Model, sample: Sample, profile: Profile) -> float:
    """Run one rule for real, in float64, and return how far its δ is from that of the table."""
    options: dict[str, Any] = {"n_steps": 12, "rule": "riemann_middle", "score": profile.score}
    start = baseline_array(model, "black")
    method = METHODS["integrated_gradients"]
    total = method.run(FloatDevice(), model.graph, sample.x, profile.target, baseline=start, **options).real().sum()
    real = abs(float(total) - profile.change()) / abs(profile.change())
    return abs(real - profile.delta(path("riemann_middle", 12)))


def learnt(model: Model) -> list[float]:
    """Return the density of points that RiemannOpt's fixed table has, from the calibration scenes."""
    middles = (np.arange(64) + 0.5) / 64
    batch = calibration_batch(model, _CALIBRATION)
    rows = [profile_of(model, Sample("calibration", np.zeros(0), x[None])).slopes(middles) for x in batch]
    return [float(v) for v in density_of(np.array(rows))]


def _cycles(cells: Cells, model: str, arch: str, method: str, options: Mapping[str, Any]) -> int:
    """Return the cycles of a method, host and probes included."""
    key = ("nuig", "cycles", model, arch, method, str(sorted(options.items())))
    return int(cells.get(key, partial(timed, model, arch, method, options)))


def timed(model: str, arch: str, method: str, options: Mapping[str, Any]) -> int:
    """Time a method by shapes."""
    p = prepare(Experiment(model=model, method=method, arch=arch, options=Options(**options)), values=False)
    device = p.device(Formats(p.numerics), DryDevice)
    METHODS[method].run(device, p.model.graph, p.sample.x, 0, **p.options)
    return time_program(device.program, p.arch).cycles


# --- the outcome ------------------------------------------------------------------------------------------------------

Cycles = Callable[[str, str, str, Mapping[str, Any]], int]


def cost(cycles: Cycles, model: str, arch: str, rule: Rule | None, points: int) -> float:
    """Return the cycles of a rule with so many points; None is our adaptive method.

    Timed at a few numbers of points and read off straight lines between them: a point more costs what it costs. A
    number without small divisors lets fewer points be in flight, and would take more.
    """
    if rule is None:
        method, options = "adaptive_ig", {"stop_at_delta": THRESHOLDS[-1], "score": SCORE}
    else:
        method, options = rule.method, {key: value for key, value in rule.options.items() if key != "rule"}
        if method != "idg":
            options["score"] = SCORE
    few, more = _TIMED[:2] if points <= _TIMED[0] else next(pair for pair in pairwise(_TIMED) if points <= pair[1])
    start, end = (cycles(model, arch, method, {**options, "n_steps": n}) for n in (few, more))
    return start + (points - few) * (end - start) / (more - few)


def compared(
    found: Sequence[dict[str, Any]], cycles: Cycles, archs: Sequence[str], quick: bool
) -> Iterator[dict[str, Any]]:
    """Yield, per network, machine, threshold and rule, points and cycles beside uniform ones on the same pictures."""
    by_name = {rule.name: rule for rule in rules(np.ones(1), quick=quick)}
    for model in dict.fromkeys(row["model"] for row in found):
        rows = [row for row in found if row["model"] == model]
        for arch in archs:
            for place, threshold in enumerate(THRESHOLDS):
                for name in (*by_name, "adaptive"):
                    case = {"model": model, "arch": arch, "threshold": threshold, "rule": name}
                    kinds = {kind: _counted(rows, cycles, case, kind, place, by_name) for kind in ("fewest", "lasting")}
                    yield case | {f"{kind} {key}": value for kind, own in kinds.items() for key, value in own.items()}


def _counted(
    rows: Sequence[dict[str, Any]], cycles: Cycles, case: Mapping[str, Any], kind: str, place: int,
    by_name: Mapping[str, Rule],
) -> dict[str, Any]:  # fmt: skip
    """Return points and cycles of a case, those of uniform points under the same rule, and how they compare."""
    reference = "uniform, right" if case["rule"].endswith("right") else "uniform, middle"

    def taken(row: dict[str, Any], who: str) -> float:
        points = row[kind][who][place]
        return cost(cycles, case["model"], case["arch"], by_name.get(who), MOST_POINTS if points is None else points)

    own, uniform = (np.array([taken(row, who) for row in rows], np.float64) for who in (case["rule"], reference))
    counts = [row[kind][case["rule"]][place] for row in rows]
    return {
        "points": float(np.median([MOST_POINTS if count is None else count for count in counts])),
        "failed": sum(count is None for count in counts),
        "cycles": float(own.mean()),
        "speedup": float(uniform.mean() / own.mean()),
    }


def _study(
    setting: Setting, found: list[dict[str, Any]], profiles: Mapping[str, Array], floors: list[dict[str, Any]],
    maps: list[dict[str, Any]], cycles: Cycles, archs: Sequence[str],
) -> Study:  # fmt: skip
    rows = list(compared(found, cycles, archs, setting.quick))
    probes = [_probe_share(cycles, model, arch, rows) for model in profiles for arch in archs]
    error = float(np.median([row["table_error"] for row in found]))
    verdict, headline = [], {"pictures": len(found), "probe_high": max(probes)}
    for kind, told in (
        ("fewest", "at the smallest number that an oracle knows"),
        ("lasting", "at a number that lasts"),
    ):
        speed = [row[f"{kind} speedup"] for row in rows if row["rule"].startswith("NUIG")]
        ratios = [_against_nuig(rows, row, kind) for row in rows if row["rule"] == "adaptive"]
        verdict.append(
            f"{told}, NUIG is {min(speed):.2f}x to {max(speed):.2f}x as fast as uniform points with the same rule; our "
            f"adaptive points take {min(ratios):.2f}x to {max(ratios):.2f}x fewer cycles than the best NUIG"
        )
        headline |= {f"{kind}_nuig_low": min(speed), f"{kind}_nuig_high": max(speed),
                     f"{kind}_adaptive_low": min(ratios), f"{kind}_adaptive_high": max(ratios)}  # fmt: skip
    verdict += [
        f"NUIG's probe is {100 * min(probes):.1f} % to {100 * max(probes):.1f} % of its cycles",
        f"the table of F is off by {error:.1g} in δ (median), against runs of the method",
    ]
    gains = [adaptive_gain(maps, model, 12) for model in profiles]
    verdict.append(
        f"at 12 points the error of NUIG's map is {min(gains):.2f}x to {max(gains):.2f}x that of our adaptive one"
    )
    tables = (_speed_table(rows), _own_delta(found), map_table(maps), _profile_table(profiles), floor_table(floors))
    return Study("nuig", TITLE, SOURCE, tuple(verdict), tables, _chart(rows, profiles), headline, asdict(setting))


def _against_nuig(rows: Sequence[dict[str, Any]], ours: dict[str, Any], kind: str) -> float:
    """Return the cycles of the best NUIG, whichever rule and number of intervals, over ours in the same case."""
    same = [r for r in rows if all(r[k] == ours[k] for k in ("model", "arch", "threshold"))]
    rivals = [r[f"{kind} cycles"] for r in same if r["rule"].startswith("NUIG")]
    return float(min(rivals) / ours[f"{kind} cycles"])


def _probe_share(cycles: Cycles, model: str, arch: str, rows: Sequence[dict[str, Any]]) -> float:
    """Return the share of NUIG's cycles that is not points: 4 intervals, and what lasts at δ 0.02."""
    case = (model, arch, 0.02, "NUIG 4, middle")
    row = next(r for r in rows if (r["model"], r["arch"], r["threshold"], r["rule"]) == case)
    options = {"n_steps": max(4, round(row["lasting points"])), "score": SCORE, "rule": "riemann_middle"}
    whole = cycles(model, arch, "nuig", {**options, "n_intervals": 4})
    return 1 - cycles(model, arch, "integrated_gradients", options) / whole


def _speed_table(rows: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = [
        (r["model"], r["arch"], 100 * r["threshold"], r["rule"], r["lasting points"], r["lasting failed"],
         r["lasting cycles"] / 1e6, r["lasting speedup"], r["fewest points"], r["fewest cycles"] / 1e6,
         r["fewest speedup"])
        for r in rows
    ]  # fmt: skip
    columns = ("network", "machine", "δ, %", "points by", "points that last", "pictures without", "million cycles",
               "speed-up", "fewest points", "million cycles", "speed-up")  # fmt: skip
    note = (
        "The class's softmax probability from a black picture; medians over pictures of points, means of cycles of the "
        "whole explanation, inference, probes and host included, timed at 8, 16, … 512 points and straight between. "
        "Points *last* if every number up to twice as many has |δ| within the threshold, too; "
        "the *fewest* meet it once, perhaps by luck, and only an oracle knows them. *Speed-up*: cycles of "
        "uniform points under the same rule (right for right, else middle) over these. Where none of 512 will do, 512 "
        "are counted."
    )
    return Table("Points and cycles at equal completeness", note, columns, cells)


def _own_delta(found: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for model in dict.fromkeys(row["model"] for row in found):
        for place, threshold in enumerate(THRESHOLDS):
            rows = [row for row in found if row["model"] == model]
            deltas_ = np.array([row["stopped_delta"][place] for row in rows])
            points = float(np.median([row["stopped"][place] for row in rows]))
            cells.append((model, 100 * threshold, points, 100 * float(np.median(deltas_)),
                          100 * float(np.quantile(deltas_, 0.9)), float((deltas_ <= threshold).mean())))  # fmt: skip
    note = (
        "The adaptive method stops when √ Σ e² over its intervals is small, which is an estimate: errors "
        "may all have one sign. What its map has then:"
    )
    columns = ("network", "asked for, %", "points", "δ, median, %", "nine of ten below, %", "share that keeps it")
    return Table("Does the adaptive method keep its promise?", note, columns, cells)


def _profile_table(profiles: Mapping[str, Array]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for model, shares in profiles.items():
        steps = np.abs(np.diff(shares[:, ::2], axis=1))
        cells.append((model, *(100 * float(v) for v in (steps / steps.sum(axis=1, keepdims=True)).mean(axis=0))))
    columns = ("network", *(f"{i}/8 to {i + 1}/8" for i in range(8)))
    note = "Where on the path the probability changes: the mean share of all change in each eighth, %."
    return Table("The path's profile", note, columns, cells)


def _chart(rows: list[dict[str, Any]], profiles: Mapping[str, Array]) -> Chart:
    model, arch = rows[0]["model"], rows[0]["arch"]
    mine = [r for r in rows if (r["model"], r["arch"]) == (model, arch)]
    some = ("uniform, right", "uniform, middle", "uniform, Gauss", "NUIG 4, right", "NUIG 4, middle", "fixed table")
    shown = [name for name in dict.fromkeys(r["rule"] for r in mine) if name in (*some, "adaptive")]
    lines = [
        Line(name, [100 * r["threshold"] for r in mine if r["rule"] == name],
             [r["lasting cycles"] / 1e6 for r in mine if r["rule"] == name])
        for name in shown
    ]  # fmt: skip
    middle = [r for r in mine if r["threshold"] == 0.02]
    names = [r["rule"] for r in middle if r["rule"] in shown[1:]]
    bars = [Bars("speed-up", [r["lasting speedup"] for r in middle if r["rule"] in names])]
    course = [
        Line(name, np.linspace(0, 1, 17).tolist(), shares.mean(axis=0).tolist()) for name, shares in profiles.items()
    ]
    short = [name.replace("uniform, ", "").replace("NUIG 4, ", "NUIG ").replace("fixed ", "") for name in names]
    error = "completeness error, % of the change of F"
    return Chart(
        TITLE,
        [
            Panel(f"{model} on {arch}, points that last", error, "million cycles", lines, log_x=True, log_y=True),
            Panel("Speed-up over uniform points at an error of 2 %", "", "x", bars, short, guides=((1.0, "1x"),)),
            Panel("The path's profile", "place on the path", "share of the change of F so far", course),
        ],
    )
