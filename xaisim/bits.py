"""The fewest bits per class of tensors with which attributions are still as faithful as wished.

found = fewest_bits(Experiment(model="cifar_cnn", method="saliency"), {"sqnr_db": 30})
found.found.widths, found.validation, found.tried
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xaisim import metrics
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError
from xaisim.experiment import Experiment, Prepared, prepare
from xaisim.flow import Progress, calibrated, quiet
from xaisim.ir.graph import Array, evaluate
from xaisim.mapping.stages import stages
from xaisim.models.images import calibration_batch, calibration_count, scene_count, test_scene
from xaisim.numerics.devices import DryDevice, FloatDevice
from xaisim.numerics.fewest import fewest
from xaisim.numerics.formats import WIDTHS, Formats, Numerics
from xaisim.report.bits import FoundBits, Trial, figures_text, wish_text


def fewest_bits(
    experiment: Experiment,
    wish: Mapping[str, float],
    *,
    scenes: int = 8,
    validation: int = 32,
    progress: Progress = quiet,
) -> FoundBits:
    """Search for the widths that move the fewest bits while the median figures over ``scenes`` meet the ``wish``.

    ``wish`` maps ``sqnr_db`` or ``spearman`` to its least median. The numerics of the experiment are where the search
    starts: no class gets more bits. Widths that no tensor of the method has are left alone. The first ``scenes``
    calibration scenes are searched on, the first ``validation`` test scenes judge what was found; each is explained
    for the class that the network predicts. Raises :class:`UserError`, also where the start misses the wish.
    """
    _check(experiment, wish, scenes, validation)
    p = prepare(experiment)
    if p.numerics.uniform is not None:
        raise UserError(f"uniform {p.numerics.uniform} gives all tensors one width; start from fixed16 or a .yaml file")
    pictures = calibration_batch(p.model, scenes)
    formats, _ = calibrated(replace(p, sample=replace(p.sample, x=pictures)), progress)
    saving = _savings(p)
    judge = Judge(p, formats, wish, _explained(p, pictures, progress), progress)
    most = {name: getattr(p.numerics, name) for name in WIDTHS if saving[name]}
    widths = fewest(most, judge.meets, saving)
    if widths is None:
        raise UserError(_missed(judge, most))
    found = next(t for t in judge.tried if t.widths == widths)
    unseen = np.concatenate([test_scene(p.model, i).x for i in range(validation)])
    numerics = p.numerics.model_copy(update=widths)
    return FoundBits(
        model=p.model.name,
        method=experiment.method,
        architecture=p.arch.name,
        wish=dict(wish),
        scenes=scenes,
        validation_scenes=validation,
        tried=tuple(judge.tried),
        found=found,
        validation=judge.figures(numerics, _explained(p, unseen, progress), "validate"),
        numerics=numerics,
    )


def _check(experiment: Experiment, wish: Mapping[str, float], scenes: int, validation: int) -> None:
    if not wish:
        raise UserError("a search for the fewest bits needs a wish: a least sqnr (in dB), spearman, or both")
    for name, least in wish.items():
        if not math.isfinite(least) or (name == "spearman" and not 0 < least <= 1):
            allowed = "above 0, at most 1" if name == "spearman" else "a finite number of dB"
            raise UserError(f"{name.removesuffix('_db')} must be {allowed}, got {least:g}")
    if experiment.method == "forward":
        raise UserError("method forward makes no attribution whose bits could be searched for")
    for name, count, there in (("scenes", scenes, calibration_count()), ("validate", validation, scene_count())):
        if not 1 <= count <= there:
            raise UserError(f"{name} must be 1 to {there}, got {count}")


def _missed(judge: Judge, most: Mapping[str, int]) -> str:
    start = judge.tried[0]
    if start.refused:
        return start.refused
    widths = ", ".join(f"{name} {bits}" for name, bits in most.items())
    return (
        f"a median {wish_text(judge.wish)} cannot be reached with {widths}: the best over {len(judge.explained)} "
        f"scenes is {figures_text(start.figures)}, with all of these bits (start from wider --numerics)"
    )


@dataclass(frozen=True, slots=True)
class Explained:
    """A picture (1, C, H, W), the class it is explained for, and its attribution in float64."""

    x: Array
    target: int
    reference: Array


def _explained(p: Prepared, pictures: Array, progress: Progress) -> list[Explained]:
    """Explain pictures (N, C, H, W) in float64, each for its predicted class."""
    graph, found = p.model.graph, []
    for i in range(len(pictures)):
        x = pictures[i : i + 1]
        target = int(evaluate(graph, {"input": x})[graph.outputs[0]].argmax())
        real = METHODS[p.experiment.method].run(FloatDevice(), graph, x, target, **p.options).real()
        found.append(Explained(x, target, real))
        progress("explain in float64", i + 1, len(pictures))
    return found


@dataclass(slots=True)
class Judge:
    """Tries widths on the scenes of the search and keeps a trace."""

    p: Prepared
    formats: Formats
    """As calibrated: ranges hold for every width."""
    wish: Mapping[str, float]
    explained: Sequence[Explained]
    progress: Progress
    tried: list[Trial] = field(default_factory=list)

    def meets(self, widths: Mapping[str, int]) -> bool:
        """Try a point and note it."""
        numerics = self.p.numerics.model_copy(update=dict(widths))
        moved = moved_bits(self.p, numerics)
        try:
            figures = self.figures(numerics, self.explained, f"point {len(self.tried) + 1}")
        except UserError as error:
            self.tried.append(Trial(dict(widths), {}, moved, False, str(error)))
            return False
        meets = all(figures[name] >= least for name, least in self.wish.items())
        self.tried.append(Trial(dict(widths), figures, moved, meets))
        return meets

    def figures(self, numerics: Numerics, explained: Sequence[Explained], what: str) -> dict[str, float]:
        """Return the median of each figure over pictures."""
        formats = Formats(numerics, self.formats.ranges, histograms=self.formats.histograms)
        method = METHODS[self.p.experiment.method]
        sqnr, spearman = [], []
        for i, e in enumerate(explained):
            fixed = method.run(self.p.device(formats), self.p.model.graph, e.x, e.target, **self.p.options).real()
            sqnr.append(metrics.sqnr_db(e.reference, fixed))
            spearman.append(metrics.spearman(e.reference, fixed))
            self.progress(what, i + 1, len(explained))
        return {"sqnr_db": float(np.median(sqnr)), "spearman": float(np.median(spearman))}


def moved_bits(p: Prepared, numerics: Numerics) -> int:
    """Return the bits that one explanation moves if every stage reads its operands and writes its results once."""
    device = p.device(Formats(numerics), DryDevice)
    METHODS[p.experiment.method].run(device, p.model.graph, p.sample.x, 0, **p.options)
    return sum(
        launch.trips * tensor.type.size_bits
        for launch in device.program
        for stage in stages(launch.graph)
        for tensor in (*stage.operands, *stage.outputs)
    )


def _savings(p: Prepared) -> dict[str, int]:
    """Return, per class of tensors, what one bit more of width moves; 0 where the method has no such tensor."""
    whole = moved_bits(p, p.numerics)
    wider = {name: p.numerics.model_copy(update={name: getattr(p.numerics, name) + 1}) for name in WIDTHS}
    return {name: moved_bits(p, numerics) - whole for name, numerics in wider.items()}
