"""Learn where a model's paths bend, once, so that no picture needs a probe: RiemannOpt's table.

table = fit_path("resnet18_tiny", scenes=16)
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from ruamel.yaml import YAML

from xaisim.attribution.points import Points, ends_of
from xaisim.attribution.sampling import density_of
from xaisim.attribution.tables import PathTable
from xaisim.config import UserError
from xaisim.experiment import DEFAULT_BASELINE, baseline_array
from xaisim.ir.graph import Array, evaluate
from xaisim.models.images import calibration_batch, calibration_count
from xaisim.models.load import Model, load_model
from xaisim.numerics.devices import FloatDevice

Progress = Callable[[str, int, int], None]
_SCORES = ("logit", "probability")


def fit_path(
    model: str,
    *,
    weights: str | None = None,
    baseline: float | str = DEFAULT_BASELINE,
    scenes: int = 16,
    parts: int = 32,
    progress: Progress | None = None,
) -> PathTable:
    """Return the density of points that makes ½ Σ |g'(α_i)| Δα_i² least, on average over calibration scenes.

    g(α) = ∇F · (x − x') of the predicted class is taken at ``parts`` + 1 places in float64. The minimum is known in
    closed form: equal shares of ∫ √|g'|. Raises :class:`UserError`.
    """
    if not 1 <= scenes <= calibration_count():
        raise UserError(f"scenes must be 1 to {calibration_count()}, got {scenes}")
    if not 2 <= parts <= 1024:
        raise UserError(f"parts must be 2 to 1024, got {parts}")
    loaded = load_model(model, weights)
    start = baseline_array(loaded, baseline)
    slopes: dict[str, list[Array]] = {score: [] for score in _SCORES}
    for done, x in enumerate(calibration_batch(loaded, scenes)[:, None]):
        for score in _SCORES:
            slopes[score].append(_slopes(loaded, x, start, score, parts))
        if progress:
            progress("fit the path", done + 1, scenes)
    densities = {score: [round(float(d), 4) for d in density_of(np.array(slopes[score]))] for score in _SCORES}
    description = f"learnt on {scenes} calibration scenes with {loaded.weights}"
    return PathTable(description=description, model=model, baseline=baseline, densities=densities)  # type: ignore[arg-type]


def _slopes(model: Model, x: Array, start: Array, score: str, parts: int) -> Array:
    """Return dF/dα of the predicted class at parts + 1 places."""
    target = int(evaluate(model.graph, {"input": x})[model.graph.outputs[0]][0].argmax())
    points = Points(FloatDevice(), model.graph, ends_of(x, start), target, score)
    points.launch(np.linspace(0, 1, parts + 1))
    return points.slopes


def table_yaml(table: PathTable) -> str:
    """Return the table as a file for ``-O table=FILE``."""
    yaml = YAML()
    yaml.width = 120
    text = io.StringIO()
    yaml.dump(table.model_dump(mode="json"), text)
    return text.getvalue()
