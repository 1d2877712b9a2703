"""What quantisation adds to the completeness error of a path: below it, more points do not help.

rows = floors_of(model, samples, setting, cells, progress)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xaisim.attribution.methods import METHODS
from xaisim.models.images import Sample
from xaisim.models.load import Model
from xaisim.numerics.devices import FloatDevice
from xaisim.studies.bench import Bench, Contender
from xaisim.studies.cells import Cells
from xaisim.studies.profile import SCORE, profile_of
from xaisim.studies.study import Cell, Progress, Setting, Table

_WIDTHS = (8, 10, 12, 16)


def floors_of(
    model: Model, samples: Sequence[Sample], setting: Setting, cells: Cells, progress: Progress
) -> list[dict[str, Any]]:
    """Return what quantisation alone adds to δ, by width of all numbers."""
    found = []
    for width in _WIDTHS:
        numerics = f"fixed16:weights={width},activations={width},gradients={width},attributions={width + 8}"
        bench = Bench(model, "pynq_z2", numerics=numerics, weights=setting.weights)
        contender = Contender("IG", "integrated_gradients", {"n_steps": 64, "score": SCORE})
        for number, sample in enumerate(samples):
            progress(f"{model.name}: {width} bits", number, len(samples))
            key = ("nuig", "floor", model.name, model.weights, width, sample.name)
            found.append(
                {"model": model.name, "bits": width, "floor": cells.get(key, partial(floor, bench, contender, sample))}
            )
    return found


def floor(bench: Bench, contender: Contender, sample: Sample) -> float:
    """Return |Σ fixed − Σ float| over |F(x) − F(x')| for the same points."""
    profile = profile_of(bench.model, sample, cells=1)
    p, _ = bench.prepared(contender)
    made = bench.run(contender, sample, profile.target).map
    method = METHODS[contender.method]
    exact = method.run(FloatDevice(), bench.model.graph, sample.x, profile.target, **p.options).real()
    return abs(float(made.sum() - exact.sum())) / abs(profile.change())


def floor_table(floors: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for model in dict.fromkeys(row["model"] for row in floors):
        for bits in _WIDTHS:
            own = np.array([row["floor"] for row in floors if (row["model"], row["bits"]) == (model, bits)])
            if len(own):
                cells.append((model, bits, 100 * float(np.median(own)), 100 * float(own.max())))
    note = "What quantisation adds to δ, fixed point against float64 on the same 64 points: more do not help."
    return Table("The floor under δ", note, ("network", "bits", "median, %", "worst, %"), cells)
