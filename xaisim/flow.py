"""The verbs in order: prepare, calibrate, explain on two devices, time, measure. Read this file first.

report = explain(Experiment(model="resnet18_tiny", method="integrated_gradients", arch="pynq_z2"))
report = profile(Experiment(model="resnet18", method="saliency"))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from xaisim.attribution import kernels
from xaisim.attribution.device import Tensor
from xaisim.attribution.host import scores
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError
from xaisim.experiment import Experiment, Prepared, prepare
from xaisim.ir.graph import Array, evaluate
from xaisim.ir.machine import selected
from xaisim.models.images import calibration_batch
from xaisim.numerics.calibrate import calibrate
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice, batch_size_for
from xaisim.numerics.formats import Formats
from xaisim.numerics.observe import Watch
from xaisim.report.measure import Values, measure
from xaisim.report.report import Report
from xaisim.simulate.memory_check import Checked, RecordingDevice, check
from xaisim.simulate.program import time_program

Progress = Callable[[str, int, int], None]
"""(what, done, of how many)"""

_CALIBRATION_SCENES = 32


def quiet(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


def explain(experiment: Experiment, *, progress: Progress = quiet) -> Report:
    """Explain one picture in fixed point and in float64, and time it on the architecture.

    The report carries the maps (``report.attribution``, ``report.reference``) and the traces (``report.run``).
    Raises :class:`~xaisim.config.UserError` for anything wrong with the input.
    """
    selected()  # a wrong XAISIM_KERNELS is told before anything is computed
    p = prepare(experiment)
    formats, calibration = calibrated(p, progress)
    fixed = p.device(formats)
    target, predicted, score = explained_class(p, fixed)
    method, watch, reference_watch = METHODS[experiment.method], Watch(), Watch()
    float_device = FloatDevice()
    for device, w, what in ((fixed, watch, "fixed point"), (float_device, reference_watch, "float reference")):
        device.batch_size = batch_size_for(p.model.graph)  # the same for both, so that masks compare batch by batch
        device.watch, device.progress = w.on(device), partial(_kernel_progress, progress, what)
    fixed.class_known = experiment.target is not None
    attribution: Tensor | None = method.run(fixed, p.model.graph, p.sample.x, target, **p.options)
    reference = method.run(float_device, p.model.graph, p.sample.x, target, **p.options)
    logits = evaluate(p.model.graph, {"input": p.sample.x})[p.model.graph.outputs[0]][0]
    if experiment.method == "forward":
        attribution = None
    values = Values(
        sample=p.sample,
        predicted=predicted,
        score=score[target],
        reference_score=float(logits[target]),
        attribution=attribution,
        reference=None if attribution is None else reference.real(),
        watch=watch,
        reference_watch=reference_watch,
        score_difference=score_difference(p, logits, target),
    )
    return _timed(p, fixed, target, calibration, values, progress)


def profile(experiment: Experiment, *, progress: Progress = quiet) -> Report:
    """Time an experiment without computing values: shapes and trip counts are enough."""
    p = prepare(experiment, values=False)
    dry = p.device(Formats(p.numerics), DryDevice)
    target = experiment.target or 0
    dry.class_known = experiment.target is not None
    METHODS[experiment.method].run(dry, p.model.graph, p.sample.x, target, **p.options)
    return _timed(p, dry, target, "none: a profile has no values", None, progress)


def check_memory(experiment: Experiment, *, progress: Progress = quiet) -> tuple[Checked, ...]:
    """Run every launch of an experiment on modelled memories, tile by tile, and compare with the fast values.

    Raises :class:`~xaisim.config.UserError` where a number differs or rows of the schedule get into each other's way.
    """
    p = prepare(experiment)
    device = p.device(calibrated(p, progress)[0], RecordingDevice)
    assert isinstance(device, RecordingDevice)
    device.class_known = experiment.target is not None
    METHODS[experiment.method].run(device, p.model.graph, p.sample.x, explained_class(p, device)[0], **p.options)
    checked = []
    for run in device.runs:
        progress(f"check: {run.kernel}", 0, 1)
        try:
            checked.append(check(run, p.arch, wish=p.wish))
        except ValueError as error:
            raise UserError(f"the schedule of {run.kernel} for {p.arch.name} is wrong: {error}") from None
        if not checked[-1].equal:
            raise UserError(f"the schedule for {p.arch.name} is wrong: {checked[-1]}")
    return tuple(checked)


def calibrated(p: Prepared, progress: Progress = quiet) -> tuple[Formats, str]:
    """Return the formats of an experiment and a sentence on where they come from."""
    if p.numerics.uniform is not None:
        return Formats(p.numerics), f"uniform {p.numerics.uniform}"
    if p.experiment.weights is None and p.model.trained:
        samples = calibration_batch(p.model, _CALIBRATION_SCENES)
        where = f"{len(samples)} shipped calibration scenes"
    else:
        samples, where = p.sample.x, "the explained picture itself"
    ranges = calibrate(
        METHODS[p.experiment.method],
        p.model.graph,
        samples,
        p.options,
        p.numerics,
        targets=() if p.experiment.target is None else (p.experiment.target,),
        progress=partial(progress, "calibrate"),
    )
    kind = {"max": "largest value", "percentile": f"{p.numerics.percentile:g} % percentile", "min_error": "least error"}
    formats = Formats(p.numerics, ranges.largest, histograms=ranges.histograms)
    return formats, f"{kind[p.numerics.calibration]} on {where}"


def _kernel_progress(progress: Progress, what: str, kernel: str, done: int, total: int) -> None:
    progress(f"{what}: {kernel}", done, total)


def explained_class(p: Prepared, fixed: FixedDevice) -> tuple[int, int, Array]:
    """Return (class to explain, class predicted in fixed point, logits); the launch is not part of the program."""
    probe = p.device(fixed.formats)
    graph = p.model.graph
    logits = probe.launch(kernels.forward(graph), {"input": p.sample.x})[graph.outputs[0]].real()[0]
    predicted = int(np.argmax(logits))
    return (predicted if p.experiment.target is None else p.experiment.target), predicted, logits


def score_difference(p: Prepared, logits: Array, target: int) -> float | None:
    """Return F(x) − F(x') for methods whose attribution sums to it; ``logits`` are those of the picture."""
    if not METHODS[p.experiment.method].complete:
        return None
    start = evaluate(p.model.graph, {"input": p.options["baseline"]})[p.model.graph.outputs[0]]
    low, high = (scores(rows, target, p.options["score"])[0] for rows in (start, logits[None]))
    return float(high - low)


def _timed(
    p: Prepared, device: FixedDevice, target: int, calibration: str, values: Values | None, progress: Progress
) -> Report:
    """Time the recorded program and inference alone, and measure."""
    if p.wish.given:
        p.wish.given.check_kernels([launch.kernel for launch in device.program])
    inference = p.device(device.formats, FixedDevice if values else DryDevice)
    METHODS["forward"].run(inference, p.model.graph, p.sample.x, target)
    return measure(
        model=p.model,
        method=p.experiment.method,
        options=p.shown_options,
        target=target,
        arch=p.arch,
        numerics=p.numerics,
        calibration=calibration,
        content_hash=p.content_hash(),
        seed=p.experiment.seed,
        timing=time_program(device.program, p.arch, p.wish, progress=lambda kernel: progress(f"time: {kernel}", 0, 1)),
        inference=time_program(inference.program, p.arch, p.wish),
        values=values,
    )
