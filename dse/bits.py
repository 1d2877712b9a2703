"""Fidelity against bits: every gradient method on the three trained networks over the shipped test scenes.

    python dse/bits.py             computes what is missing, then writes docs/bits.md and docs/bits.png
    python dse/bits.py --quick     ten scenes, a few widths, in minutes

Every finished piece is appended to results/bits.jsonl at once; the same command goes on where the last one ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import numpy as np
from bits_report import write_report
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xaisim import metrics
from xaisim.api import experiment_of
from xaisim.attribution.methods import METHODS
from xaisim.experiment import Prepared, code_digest, prepare
from xaisim.flow import calibrated
from xaisim.ir.graph import Array
from xaisim.models.images import scene_count, test_scene
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Formats, Numerics

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny")
METHODS_STUDIED = (
    "saliency", "input_x_gradient", "deconvnet", "guided_backprop", "gradcam", "integrated_gradients"
)  # fmt: skip
CLASSES = ("weights", "activations", "gradients", "path")
"""Tensor classes that are narrowed alone; ``path`` only where there is one."""
MOST_BITS, ATTRIBUTION_EXTRA_BITS = 16, 8
N_STEPS = 50
FIGURES = ("sqnr_db", "cosine", "spearman", "topk_1pct", "topk_5pct", "topk_10pct", "zeros", "mask_flips",
           "index_flips", "prediction")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the study: ``narrowed`` is a tensor class, or ``all``."""

    narrowed: str
    bits: int

    def numerics(self) -> Numerics:
        """Return every class at ``bits``, or one at ``bits`` and the others at 16; attributions have 8 bits more."""
        wide = dict.fromkeys(CLASSES, MOST_BITS)
        if self.narrowed != "all":
            return Numerics(**wide | {self.narrowed: self.bits}, attributions=MOST_BITS + ATTRIBUTION_EXTRA_BITS)
        return Numerics(**dict.fromkeys(CLASSES, self.bits), attributions=self.bits + ATTRIBUTION_EXTRA_BITS)


def settings_of(method: str, widths: tuple[int, ...], narrowed: tuple[str, ...]) -> list[Setting]:
    """Return the settings of one method; classes alone at even widths below 16, where they are all at 16."""
    has_path = "baseline" in METHODS[method].options
    kinds = [kind for kind in narrowed if kind != "path" or has_path]
    return [Setting(k, b) for k in kinds for b in widths if k == "all" or (b < MOST_BITS and b % 2 == 0)]


class Decisions:
    """Keeps the masks and pool indices of a run, a row per sample: what two runs decided can then be compared."""

    def __init__(self, device: FloatDevice) -> None:
        self.device = device
        self.masks: list[Array] = []
        self.indices: list[Array] = []
        self.elements = [0, 0]
        self._ops: dict[str, str] = {}
        self._graph: object = None
        device.watch = self.see

    def see(self, name: str, values: Array) -> None:
        """Take note of one tensor of one window."""
        graph = self.device.program[-1].graph
        if graph is not self._graph:
            self._graph = graph
            self._ops = {n.name: n.op for n in graph.nodes if n.op in ("positive", "pool_index")}
        op = self._ops.get(name)
        if op is None:
            return
        flat = values.reshape(len(values), -1)
        self.elements[op == "pool_index"] += flat.size
        if op == "positive":
            self.masks.append(np.packbits(flat.astype(bool), axis=1))
        else:
            self.indices.append(flat.astype(np.uint8))

    def flips(self, other: Decisions, samples: int) -> tuple[Array, Array]:
        """Return which share of masks and of indices differs, per sample; NaN where none are stored."""
        found = []
        for own, theirs, elements in zip(
            (self.masks, self.indices), (other.masks, other.indices), self.elements, strict=True
        ):
            counts = np.zeros(samples)
            for a, b in zip(own, theirs, strict=True):
                differing = np.bitwise_count(a ^ b) if own is self.masks else a != b
                counts += differing.reshape(samples, -1).sum(axis=1)
            found.append(counts * samples / elements if elements else np.full(samples, np.nan))
        return found[0], found[1]


@dataclass(frozen=True)
class Run:
    """The maps (N, …) of some scenes of one class, the classes predicted, and what was decided."""

    maps: Array
    predicted: Array
    decisions: Decisions | None

    @cached_property
    def sorted(self) -> list[tuple[Array, Array]]:
        """Return of every map its centred ranks, and its elements by falling magnitude: sorted once for all figures."""
        found = []
        for map in self.maps:
            ranks = metrics.ranks(map)
            found.append((ranks - ranks.mean(), np.argsort(-np.abs(map).reshape(-1), kind="stable")))
        return found


def run(p: Prepared, formats: Formats | None, x: Array, target: int) -> Run:
    """Explain scenes ``x`` (N, C, H, W) of one class: all at once, or one by one where path points are the batch.

    Decisions are kept of single gradients: on a path they would cost more than the run itself.
    """
    method, graph = METHODS[p.experiment.method], p.model.graph
    device = FloatDevice() if formats is None else p.device(formats)
    predicted = METHODS["forward"].run(device, graph, x, target).real().argmax(axis=1)
    if not method.batched:
        maps = [method.run(device, graph, x[n : n + 1], target, **p.options).real() for n in range(len(x))]
        return Run(np.concatenate(maps), predicted, None)
    decisions = Decisions(device)
    device.batch_size = len(x)  # one window: the rows of both runs are the scenes
    return Run(method.run(device, graph, x, target, **p.options).real(), predicted, decisions)


def figures_of(reference: Run, fixed: Run) -> dict[str, list[float]]:
    """Return every figure of every scene; 1 in ``prediction`` where both predict the same class."""
    rows: dict[str, list[float]] = {name: [] for name in FIGURES}
    for real, found, (ranks, order), (own_ranks, own_order) in zip(
        reference.maps, fixed.maps, reference.sorted, fixed.sorted, strict=True
    ):
        rows["sqnr_db"].append(metrics.sqnr_db(real, found))
        rows["cosine"].append(metrics.cosine(real, found))
        rows["spearman"].append(metrics.cosine(ranks, own_ranks))
        for percent in (1, 5, 10):
            k = max(1, round(percent / 100 * found.size))
            rows[f"topk_{percent}pct"].append(len(np.intersect1d(order[:k], own_order[:k])) / k)
        rows["zeros"].append(float((found == 0).mean()))
    flips = (np.full(len(fixed.maps), np.nan),) * 2
    if fixed.decisions is not None and reference.decisions is not None:
        flips = fixed.decisions.flips(reference.decisions, len(fixed.maps))
    rows["mask_flips"], rows["index_flips"] = (shares.tolist() for shares in flips)
    rows["prediction"] = (reference.predicted == fixed.predicted).astype(float).tolist()
    return rows


# --- the study --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """What is computed and kept as one line: some scenes of one class under one setting."""

    model: str
    method: str
    setting: Setting
    scenes: tuple[int, ...]

    def places(self) -> set[tuple[str, str, Setting, int]]:
        """Return what this line holds figures of, scene by scene."""
        return {(self.model, self.method, self.setting, scene) for scene in self.scenes}


def groups(scenes: int, most: int = 16) -> list[tuple[int, ...]]:
    """Return the first ``scenes`` scenes, those of a class together, at most ``most`` at once; early scenes first."""
    from xaisim.models.load import load_model

    model = load_model(MODELS[0], values=False)
    by_class: dict[int, list[int]] = {}
    for index in range(scenes):
        by_class.setdefault(int(test_scene(model, index).label or 0), []).append(index)
    parts = [tuple(i[n : n + most]) for i in by_class.values() for n in range(0, len(i), most)]
    return sorted(parts, key=lambda part: part[0])


def compute(jobs: list[Job], store: Path, progress: Progress) -> None:
    """Compute every job and append it to ``store``; calibrates once per network and method."""
    if store.exists() and not store.read_bytes().endswith(b"\n"):
        with store.open("a", encoding="utf-8") as file:  # the last line was cut off: begin behind it
            file.write("\n")
    task = progress.add_task("", total=len(jobs))
    pairs = dict.fromkeys((job.model, job.method) for job in jobs)
    for model, method in pairs:
        mine = [job for job in jobs if (job.model, job.method) == (model, method)]
        progress.update(task, description=f"{model} {method}: calibrate")
        steps = METHODS[method].few(N_STEPS)
        p = prepare(experiment_of(model=model, method=method, **steps))
        ranges = calibrated(p)[0].ranges
        for scenes in dict.fromkeys(job.scenes for job in mine):
            samples = [test_scene(p.model, index) for index in scenes]
            x, target = np.concatenate([s.x for s in samples]), int(samples[0].label or 0)
            reference = run(p, None, x, target)
            for job in (job for job in mine if job.scenes == scenes):
                s = job.setting
                progress.update(task, description=f"{model} {method}: {s.narrowed} {s.bits} bits")
                found = figures_of(reference, run(p, Formats(s.numerics(), ranges), x, target))
                _append(store, job, found)
                progress.advance(task)


def _append(store: Path, job: Job, figures: dict[str, list[float]]) -> None:
    """Write one line; a line is whole or, after a crash, ignored when it is read."""
    rounded = {name: [float(f"{value:.6g}") for value in values] for name, values in figures.items()}
    line = {
        "code": code_digest()[:16], "model": job.model, "method": job.method, "narrowed": job.setting.narrowed,
        "bits": job.setting.bits, "scenes": list(job.scenes), "figures": rounded,
    }  # fmt: skip
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(store: Path, *, any_code: bool) -> Iterator[tuple[Job, dict[str, list[float]]]]:
    """Yield what is stored, made by this state of the code or, with ``any_code``, by whichever."""
    if not store.exists():
        return
    for text in store.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # cut off
            continue
        if any_code or line["code"] == code_digest()[:16]:
            setting = Setting(line["narrowed"], line["bits"])
            yield Job(line["model"], line["method"], setting, tuple(line["scenes"])), line["figures"]


@click.command()
@click.option("--scenes", type=click.IntRange(1), help="Test scenes, from the first on.  [default: all]")
@click.option("--models", default=",".join(MODELS), show_default=True)
@click.option("--methods", default=",".join(METHODS_STUDIED), show_default=True)
@click.option("--widths", default=",".join(map(str, range(4, 17))), show_default=True)
@click.option("--narrowed", default=",".join(("all", *CLASSES)), show_default=True, help="Which classes get the width.")
@click.option("--store", type=click.Path(path_type=Path), help="Where pieces are kept.  [default: results/bits.jsonl]")
@click.option("--any-code", is_flag=True, help="Keep pieces that another state of the code made.")
@click.option("--report-only", is_flag=True, help="Compute nothing, write the report of what is there.")
@click.option("--docs", type=click.Path(path_type=Path), default=ROOT / "docs", help="Where bits.md and bits.png go.")
@click.option("--quick", is_flag=True, help="Ten scenes, 4, 8 and 16 bits, into results/bits-quick.")
def main(
    scenes: int | None, models: str, methods: str, widths: str, narrowed: str, store: Path | None, any_code: bool,
    report_only: bool, docs: Path, quick: bool,
) -> None:  # fmt: skip
    """Compute what is missing of the study, then write its table and plot."""
    if quick:
        scenes, widths, docs = scenes or 10, "4,8,16", ROOT / "results" / "bits-quick"
        store = store or docs / "bits.jsonl"
    store, scenes = store or ROOT / "results" / "bits.jsonl", min(scenes or scene_count(), scene_count())
    store.parent.mkdir(parents=True, exist_ok=True)
    wanted_models, wanted_methods = (
        _chosen(text, known) for text, known in ((models, MODELS), (methods, METHODS_STUDIED))
    )
    kinds = _chosen(narrowed, ("all", *CLASSES))
    bits = tuple(int(width) for width in _chosen(widths, tuple(map(str, range(4, MOST_BITS + 1)))))
    done = {scene for job, _ in read(store, any_code=any_code) for scene in job.places()}
    others = sum(1 for job, _ in read(store, any_code=True) if not job.places() <= done)
    if others:
        click.echo(
            f"{others} pieces of {store} were made by another state of the code; --any-code keeps them", err=True
        )
    jobs = [
        Job(model, method, setting, part)
        for model in wanted_models
        for method in wanted_methods
        for part in groups(scenes)
        for setting in settings_of(method, bits, kinds)
    ]
    missing = [job for job in jobs if not job.places() <= done]
    if missing and not report_only:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), refresh_per_second=1) as progress:
            compute(missing, store, progress)
    docs.mkdir(parents=True, exist_ok=True)
    write_report([(j, f) for j, f in read(store, any_code=any_code)], docs, " ".join(["python", *sys.argv]))
    click.echo(f"written to {docs / 'bits.md'} and {docs / 'bits.png'}")


def _chosen(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in ``text``; raise a usage error for one that is not there."""
    names = tuple(name.strip() for name in text.split(","))
    wrong = [name for name in names if name not in known]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(known)}")
    return names


if __name__ == "__main__":
    main()
