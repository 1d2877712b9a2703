"""How far maps of few points are from the map of many: what completeness alone does not say.

rows = map_errors(model, samples, density, cells, progress, counts=(6, 12, 24))
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xaisim.attribution.methods import METHODS
from xaisim.experiment import baseline_array
from xaisim.ir.graph import Array, evaluate
from xaisim.models.images import Sample
from xaisim.models.load import Model
from xaisim.numerics.devices import FloatDevice
from xaisim.studies.cells import Cells
from xaisim.studies.profile import SCORE
from xaisim.studies.study import Cell, Progress, Table

COUNTS = (6, 9, 12, 18, 24, 36)
MANY = 257
"""Points of the map that others are held against: Gauss-Legendre's."""
_RULES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("uniform, middle", "integrated_gradients", {"rule": "riemann_middle"}),
    ("uniform, Gauss", "integrated_gradients", {"rule": "gausslegendre"}),
    ("NUIG 4, right", "nuig", {"n_intervals": 4, "rule": "riemann_right"}),
    ("NUIG 4, middle", "nuig", {"n_intervals": 4, "rule": "riemann_middle"}),
    ("fixed table", "riemann_opt", {}),
    ("adaptive", "adaptive_ig", {"stop_at_delta": None}),
)


def map_errors(
    model: Model, samples: Sequence[Sample], density: Array, cells: Cells, progress: Progress
) -> list[dict[str, Any]]:  # fmt: skip
    """Return ‖A − A*‖ / ‖A*‖ by rule, number of points and picture, in float64."""
    found = []
    for number, sample in enumerate(samples):
        progress(f"{model.name}: maps", number, len(samples))
        key = ("nuig", "maps", model.name, model.weights, sample.name)
        for row in cells.get(key, partial(_of_picture, model, sample, density)):
            found.append({"model": model.name, **row})
    return found


def _of_picture(model: Model, sample: Sample, density: Array) -> list[dict[str, Any]]:
    start = baseline_array(model, "black")
    target = int(evaluate(model.graph, {"input": sample.x})[model.graph.outputs[0]][0].argmax())

    def map_of(method: str, options: dict[str, Any]) -> Array:
        own = {"table": density} if "table" in METHODS[method].options else {}
        run = METHODS[method].run
        made = run(FloatDevice(), model.graph, sample.x, target, baseline=start, score=SCORE, **own, **options)
        return np.asarray(made.real())

    exact = map_of("integrated_gradients", {"rule": "gausslegendre", "n_steps": MANY})
    size = float(np.linalg.norm(exact))
    return [
        {"rule": name, "points": count,
         "error": float(np.linalg.norm(map_of(method, {**options, "n_steps": count}) - exact)) / size}
        for name, method, options in _RULES
        for count in COUNTS
    ]  # fmt: skip


def map_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return medians over pictures."""
    cells: list[tuple[Cell, ...]] = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        for name, _, _ in _RULES:
            medians = [
                float(np.median([row["error"] for row in mine if (row["rule"], row["points"]) == (name, count)]))
                for count in COUNTS
            ]
            cells.append((model, name, *medians))
    note = (
        f"‖A − A*‖ / ‖A*‖ with A* from {MANY} points, float64, in the median over pictures. The adaptive method's "
        "weights make most intervals complete whatever their map is, so its δ alone would flatter it; this does not. "
        "Probes are not counted as points."
    )
    return Table("How far the map is from that of many points", note, ("network", "rule", *map(str, COUNTS)), cells)


def adaptive_gain(rows: Sequence[dict[str, Any]], model: str, count: int) -> float:
    """Return the median error of the better NUIG over that of the adaptive method at ``count`` points."""
    medians = {
        name: float(
            np.median([r["error"] for r in rows if (r["model"], r["rule"], r["points"]) == (model, name, count)])
        )
        for name, _, _ in _RULES
    }
    return min(v for name, v in medians.items() if name.startswith("NUIG")) / medians["adaptive"]
