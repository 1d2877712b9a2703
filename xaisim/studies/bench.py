"""Methods side by side on pictures: maps in fixed point as a machine makes them, and what each costs there.

bench = Bench(load_model("resnet18_tiny"), "ultra96_v2")
made = bench.run(Contender("IG", "integrated_gradients", {"n_steps": 50}), sample, target=3)
made.map, made.cycles, made.uj; bench.scores(batch)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from xaisim.attribution.device import Launch
from xaisim.attribution.kernels import forward
from xaisim.attribution.methods import METHODS
from xaisim.config import load_data
from xaisim.experiment import Experiment, Prepared, prepare
from xaisim.flow import calibrated
from xaisim.ir.graph import Array
from xaisim.models.images import Sample
from xaisim.models.load import Model
from xaisim.numerics.devices import FixedDevice, FloatDevice
from xaisim.simulate.program import time_program
from xaisim.studies.cells import Cells
from xaisim.studies.pictures import pictures
from xaisim.studies.study import Progress, Setting

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """A method with its options, and the name it has in the study."""

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.method} {sorted(self.options.items())}"


@dataclass(frozen=True, slots=True)
class Made:
    """One explanation: its map (1, C, H, W) in real numbers, and what it took."""

    map: Array
    cycles: int
    uj: float
    gradients: int
    """Backward passes, over all launches and trips."""


class Bench:
    """A network on a machine, its formats calibrated for every contender once."""

    def __init__(self, model: Model, arch: str, *, numerics: str = "fixed16", weights: str | None = None) -> None:
        self.model, self.arch, self.numerics, self.weights = model, arch, numerics, weights
        self._ready: dict[str, tuple[Prepared, FixedDevice]] = {}
        self._costs: dict[tuple[Launch, ...], tuple[int, float]] = {}

    def prepared(self, contender: Contender) -> tuple[Prepared, FixedDevice]:
        """Return a contender's experiment and the device that runs it."""
        if contender.key not in self._ready:
            wanted = {
                "model": self.model.name, "weights": self.weights, "method": contender.method, "arch": self.arch,
                "numerics": self.numerics, "options": dict(contender.options),
            }  # fmt: skip
            p = replace(prepare(load_data(Experiment, wanted)), model=self.model)
            self._ready[contender.key] = (p, p.device(calibrated(p)[0]))
        return self._ready[contender.key]

    def run(self, contender: Contender, sample: Sample, target: int) -> Made:
        """Explain a picture and time what was launched."""
        p, device = self.prepared(contender)
        device.program = []
        found = METHODS[contender.method].run(device, self.model.graph, sample.x, target, **p.options).real()
        program = tuple(device.program)
        if program not in self._costs:
            timing = time_program(program, p.arch, p.wish)
            self._costs[program] = timing.cycles, sum(item.uj for item in timing.energy)
        return Made(found, *self._costs[program], gradients=gradients(program))

    def scores(self, pictures: Array) -> Array:
        """Return the network's logits (N, classes) in fixed point, as the machine computes them."""
        _, device = self.prepared(Contender("inference", "forward"))
        made = device.launch(forward(self.model.graph), {"input": pictures}, trips=len(pictures))
        device.program = []
        return made[self.model.graph.outputs[0]].real()

    def target(self, sample: Sample) -> int:
        """Return the class that the machine predicts: the one that is explained."""
        return int(self.scores(sample.x)[0].argmax())


@dataclass(frozen=True, slots=True)
class Contest:
    """Contenders on pictures: every one on every picture, each judged once and kept."""

    study: str
    contenders: Sequence[Contender]
    judge: Callable[[Bench, Contender, Sample], Row]
    usual: int
    """Pictures, where nothing else is asked for, and in a quick run."""
    quick: int

    def rows(
        self, models: Sequence[Model], archs: Sequence[str], setting: Setting, cells: Cells, progress: Progress
    ) -> list[Row]:
        """Return a row per network, machine, contender and picture, with the contender's name and options."""
        found = []
        for model, arch in itertools.product(models, archs):
            bench, samples = (
                Bench(model, arch, weights=setting.weights),
                pictures(model, setting, self.usual, self.quick),
            )
            pairs = list(itertools.product(self.contenders, samples))
            for number, (contender, sample) in enumerate(pairs):
                progress(f"{model.name}: {contender.name}", number, len(pairs))
                key = (self.study, model.name, model.weights, arch, contender.key, sample.name)
                row = cells.get(key, partial(self.judge, bench, contender, sample))
                named = {"model": model.name, "arch": arch, "name": contender.name, "method": contender.method}
                found.append({**named, **contender.options, **row})
        return found


def gradients(program: tuple[Launch, ...]) -> int:
    """Return how many backward passes a program has: trips of kernels that multiply backwards."""
    return sum(launch.trips for launch in program if launch.graph.macs(backward=True) > 0)


def float_map(model: Model, contender: Contender, p: Prepared, sample: Sample, target: int) -> Array:
    """Return the same map in float64."""
    return METHODS[contender.method].run(FloatDevice(), model.graph, sample.x, target, **p.options).real()


def mean_interval(values: Array, *, resamples: int = 2000, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean over pictures with a bootstrap interval (percentiles; seeded, so always the same)."""
    rng = np.random.default_rng(0)
    values = np.asarray(values, np.float64)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values.mean()), float(low), float(high)


def column(rows: Sequence[Row], name: str, key: str) -> Array:
    """Return one figure of one contender, a value per picture, in the order of pictures."""
    return np.array([row[key] for row in rows if row["name"] == name], np.float64)


MARGIN = 0.05
"""Share of the reference's mean within which a figure counts as kept."""


def cheapest_alike(
    rows: Sequence[Row], reference: str, figures: Mapping[str, int], names: Sequence[str] | None = None
) -> tuple[str, float]:
    """Return the cheapest contender that keeps the reference's quality, and how many times fewer cycles it takes.

    ``figures`` are 1 where higher is better, else -1. Kept: the whole 95 % interval of the paired difference lies above
    a loss of ``MARGIN`` (a test of non-inferiority). ``names`` are those that may be chosen; the reference itself, with
    1, where none of them is shown to keep it.
    """
    full = float(column(rows, reference, "cycles").mean())
    best = (reference, 1.0)
    for name in names or dict.fromkeys(row["name"] for row in rows):
        ratio = full / float(column(rows, name, "cycles").mean())
        if ratio > best[1] and all(_keeps(rows, name, reference, key, sign) for key, sign in figures.items()):
            best = (name, ratio)
    return best


def _keeps(rows: Sequence[Row], name: str, reference: str, key: str, sign: int) -> bool:
    asked = column(rows, reference, key)
    _, worst, _ = mean_interval((column(rows, name, key) - asked) * sign)
    return worst > -MARGIN * abs(float(asked.mean()))


def alike_text(found: tuple[str, float], reference: str, among: str) -> str:
    """Say what :func:`cheapest_alike` found ``among`` those that might have been."""
    name, ratio = found
    if name == reference:
        return f"{among}, none that is cheaper is shown to keep all of {reference} to within {100 * MARGIN:g} %"
    return f"{among}, {name} keeps all of {reference} to within {100 * MARGIN:g} % and takes {ratio:.3g}x fewer cycles"
