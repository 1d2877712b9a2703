"""What survives quantisation: fixed point against float64 over the shipped test scenes.

    python dse/fidelity.py --scenes 320 -o docs/fidelity.json     prints a Markdown table, writes every figure

Every scene is explained for its true class; formats are calibrated once per model and method on the shipped
calibration scenes, which share no digit with the test scenes.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from xaisim.api import experiment_of
from xaisim.attribution import metrics
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError
from xaisim.experiment import prepare
from xaisim.flow import calibrated
from xaisim.models.images import scene_count, test_scene
from xaisim.numerics.devices import FloatDevice

MODELS = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny")
KEYS = ("sqnr_db", "spearman", "cosine", "topk_1pct", "zero_fraction")


def compare(model: str, method: str, numerics: tuple[str, ...], scenes: int) -> dict[str, dict[str, list[float]]]:
    """Return the metrics of every scene, by numerics."""
    setups = {name: prepare(experiment_of(model=model, method=method, numerics=name)) for name in numerics}
    formats = {name: calibrated(p)[0] for name, p in setups.items()}
    results: dict[str, dict[str, list[float]]] = {name: {key: [] for key in KEYS} for name in numerics}
    for index in range(scenes):
        p = setups[numerics[0]]
        sample = test_scene(p.model, index)
        target = int(sample.label or 0)
        real = METHODS[method].run(FloatDevice(), p.model.graph, sample.x, target, **p.options).real()
        for name in numerics:
            device = setups[name].device(formats[name])
            fixed = METHODS[method].run(device, p.model.graph, sample.x, target, **p.options).real()
            row = results[name]
            row["sqnr_db"].append(metrics.sqnr_db(real, fixed))
            row["spearman"].append(metrics.spearman(real, fixed))
            row["cosine"].append(metrics.cosine(real, fixed))
            row["topk_1pct"].append(metrics.top_k_intersection(real, fixed, 0.01))
            row["zero_fraction"].append(float((fixed == 0).mean()))
    return results


@click.command()
@click.option("--scenes", default=64, show_default=True, help="Test scenes, from the first on.")
@click.option("--models", default=",".join(MODELS), show_default=True)
@click.option("--methods", default="saliency,integrated_gradients", show_default=True)
@click.option("--numerics", default="fixed16,fixed8", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write every figure of every scene as JSON.")
def main(scenes: int, models: str, methods: str, numerics: str, output: Path | None) -> None:
    """Print median [first, third quartile] of each metric."""
    if not 1 <= scenes <= scene_count():
        raise click.BadParameter(f"there are 1 to {scene_count()} test scenes, got {scenes}")
    everything: dict[str, object] = {"scenes": scenes, "results": {}}
    click.echo("| model | method | numerics | SQNR dB | Spearman | cosine | top 1 % | zeros |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for model in models.split(","):
        for method in methods.split(","):
            try:
                found = compare(model, method, tuple(numerics.split(",")), scenes)
            except UserError as error:
                raise click.ClickException(str(error)) from None
            everything["results"][f"{model}/{method}"] = found  # type: ignore[index]
            for name, row in found.items():
                cells = " | ".join(_quartiles(row[key]) for key in KEYS)
                click.echo(f"| {model} | {method} | {name} | {cells} |")
    if output is not None:
        output.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


if __name__ == "__main__":
    main()
