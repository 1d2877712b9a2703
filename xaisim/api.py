"""The Python API: keyword arguments in, reports or arrays out, with Captum's names where it has them.

report = explain("photo.png", model="resnet18_tiny", method="saliency", arch="zcu104", numerics="fixed8")
maps = attribute(inputs, model="resnet18_tiny", target=3, n_steps=50)
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from pydantic import BaseModel

from xaisim.attribution.device import Device
from xaisim.attribution.host import scores
from xaisim.attribution.methods import METHODS
from xaisim.bits import fewest_bits as fewest_bits_of
from xaisim.compare import diff as diff_experiment
from xaisim.config import UserError, choose, load_data
from xaisim.experiment import Experiment, Options, Prepared, prepare
from xaisim.flow import calibrated
from xaisim.flow import check_memory as check_memory_experiment
from xaisim.flow import explain as explain_experiment
from xaisim.flow import profile as profile_experiment
from xaisim.ir.graph import Array, evaluate
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Formats, joined
from xaisim.report.bits import FoundBits
from xaisim.report.cycles import with_sensitivity
from xaisim.report.diff import Diff
from xaisim.report.report import Report
from xaisim.simulate.memory_check import Checked

_OPTIONS = tuple(Options.model_fields)


def experiment_of(**settings: Any) -> Experiment:
    """Return the experiment that keyword arguments describe; None means the default.

    Method options (the fields of :class:`~xaisim.experiment.Options`) stand beside the others. Raises
    :class:`UserError` with one line per unknown or wrong setting.
    """
    given = {name: _plain(value) for name, value in settings.items() if value is not None}
    base = given.pop("options", {})
    if not isinstance(base, dict):
        raise UserError(f"options: must be a mapping (got {base!r})")
    options = {**base, **{name: given.pop(name) for name in _OPTIONS if name in given}}
    problems = []
    for cls, data in ((Experiment, given), (Options, options)):
        try:
            load_data(cls, data)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return load_data(Experiment, {**given, "options": options})


def _plain(value: Any) -> Any:
    """Return a setting as YAML would have it: paths as text, NumPy numbers as Python's."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def check_memory(image: str | Path | None = None, **settings: Any) -> tuple[Checked, ...]:
    """Run an experiment's schedules on modelled memories and compare every output with the fast values, bit for bit.

    Takes what :func:`explain` takes. Raises :class:`UserError` where anything differs: then the schedule is wrong.
    """
    return check_memory_experiment(experiment_of(image=image, **settings))


def explain(image: str | Path | None = None, **settings: Any) -> Report:
    """Explain one picture on a simulated accelerator and against float64.

    Keywords are the fields of :class:`~xaisim.experiment.Experiment` (``model``, ``weights``, ``method``, ``target``,
    ``arch``, ``numerics``, ``seed``) and the method's options (:class:`~xaisim.experiment.Options`: ``n_steps``, …).
    """
    return explain_experiment(experiment_of(image=image, **settings))


def profile(**settings: Any) -> Report:
    """Time a model, method and architecture without computing values; keywords as for :func:`explain`."""
    return profile_experiment(experiment_of(**settings))


def sensitivity(report: Report, *, remap: bool = False) -> Report:
    """Return a report of this process with ``report.sensitivity``: what 10 % more of each resource would buy.

    With ``remap`` the best mapping is searched for anew in every case, which is slow.
    """
    return with_sensitivity(report, remap=remap)


def diff(a: str, b: str, image: str | Path | None = None, *, split: bool | None = None, **settings: Any) -> Diff:
    """Run a method as ``a`` and as ``b`` and compare every tensor; keywords as for :func:`explain`, less ``numerics``.

    A run is ``float`` or what ``numerics`` takes as text; see :func:`xaisim.compare.diff`.
    """
    return diff_experiment(experiment_of(image=image, **settings), a, b, split=split)


def fewest_bits(
    *, sqnr: float | None = None, spearman: float | None = None, scenes: int = 8, validation: int = 32, **settings: Any
) -> FoundBits:
    """Find the fewest bits with which maps have a median of ``sqnr`` (dB), ``spearman`` or both against float64.

    Keywords are those of :func:`explain`; ``numerics`` is where the search starts. See :func:`xaisim.bits.fewest_bits`.
    """
    wish = {name: least for name, least in (("sqnr_db", sqnr), ("spearman", spearman)) if least is not None}
    return fewest_bits_of(experiment_of(**settings), wish, scenes=scenes, validation=validation)


@overload
def attribute(inputs: Array, *, return_convergence_delta: Literal[False] = False, **settings: Any) -> Array: ...
@overload
def attribute(inputs: Array, *, return_convergence_delta: Literal[True], **settings: Any) -> tuple[Array, Array]: ...
def attribute(
    inputs: Array,
    *,
    baselines: Array | float | str | None = None,
    target: int | list[int] | Array | None = None,
    n_steps: int | None = None,
    method: str | None = None,
    internal_batch_size: int | None = None,
    return_convergence_delta: bool = False,
    explainer: str = "integrated_gradients",
    device: Literal["fixed", "float"] = "fixed",
    **settings: Any,
) -> Array | tuple[Array, Array]:
    """Attribute a batch of inputs (N, C, H, W), normalised as the network wants them; returns the maps.

    ``baselines``, ``target``, ``n_steps``, ``method`` (the quadrature), ``internal_batch_size`` and
    ``return_convergence_delta`` mean what they mean in Captum; the default rule here is ``riemann_middle``.
    As there, ``baselines`` is 0 by default, the mean picture after normalisation; a name (``black``) works too. For
    Expected Gradients it is any number of pictures, which all samples draw from.
    ``explainer`` names the attribution method and ``device`` the arithmetic. Deltas are Σ attribution − (F(x) − F(x')),
    one per sample, with F in float64. Raises :class:`UserError` for anything wrong with the arguments.
    """
    named = baselines if isinstance(baselines, str) else None
    settings |= {"n_steps": n_steps, "rule": method, "baseline": named, "method": explainer}
    p = prepare(experiment_of(**settings))
    if "table" in p.options and named is None and p.experiment.options.table is None:
        p = _without_table(p)
    if internal_batch_size is not None and internal_batch_size < 1:
        raise UserError(f"internal_batch_size must be at least 1, got {internal_batch_size}")
    choose("device", device, ("fixed", "float"))
    x = _checked_inputs(inputs, p)
    if "baselines" in p.options and baselines is not None:
        p, baselines = replace(p, options={**p.options, "baselines": _many_starts(baselines, p)}), None
    starts = _starts(baselines, x, p)
    chosen = METHODS[explainer]
    if return_convergence_delta and not chosen.complete:
        complete = ", ".join(name for name, known in METHODS.items() if known.complete)
        raise UserError(f"method {explainer} has no convergence delta; these have one: {complete}")
    logits = evaluate(p.model.graph, {"input": x})[p.model.graph.outputs[0]]
    targets = _targets(target, logits)
    formats = _formats(p, x, starts) if device == "fixed" else None
    machine: Device = (
        p.device(formats, batch_size=internal_batch_size)
        if formats is not None
        else FloatDevice(batch_size=internal_batch_size)
    )
    # A kernel is one class; where nothing is decided by input, all inputs of a class are one batch.
    parts = [np.flatnonzero(targets == t) for t in set(targets)] if chosen.batched else [[i] for i in range(len(x))]
    maps: dict[int, Array] = {}
    for part in parts:
        own = p.options if starts is None else {**p.options, "baseline": starts[part]}
        made = chosen.run(machine, p.model.graph, x[part], int(targets[part[0]]), **own).real()
        maps |= dict(zip(part, np.broadcast_to(made, (len(part), *made.shape[1:])), strict=True))
    stacked = np.stack([maps[i] for i in range(len(x))])
    if starts is None or not return_convergence_delta:
        return stacked
    before = evaluate(p.model.graph, {"input": starts})[p.model.graph.outputs[0]]
    score = p.options["score"]
    differences = [
        scores(logits[i : i + 1], int(t), score)[0] - scores(before[i : i + 1], int(t), score)[0]
        for i, t in enumerate(targets)
    ]
    return stacked, stacked.reshape(len(x), -1).sum(axis=1) - np.array(differences)


def _without_table(p: Prepared) -> Prepared:
    """Leave out the shipped density of points, which is for another start of the path than an array."""
    method = p.experiment.method
    if METHODS[method].options["table"] is not None:
        raise UserError(f"method {method}: the table that ships is for baselines='black'; or give table, a file")
    return replace(p, options={**p.options, "table": None})


def _checked_inputs(inputs: Array, p: Prepared) -> Array:
    shape = ", ".join(map(str, p.model.input_shape))
    try:
        x = np.asarray(inputs, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"inputs must be an array of numbers of shape (N, {shape})") from None
    if x.ndim != 4 or x.shape[1:] != p.model.input_shape or len(x) == 0:
        raise UserError(f"inputs must have shape (N, {shape}), got {x.shape}")
    if not np.isfinite(x).all():
        raise UserError("inputs must be finite numbers")
    return x


def _starts(baselines: Array | float | str | None, x: Array, p: Prepared) -> Array | None:
    """Return one start of the path per sample, or None for a method without a path."""
    if "baseline" not in p.options:
        if baselines is not None:
            raise UserError(f"method {p.experiment.method} takes no baselines")
        return None
    start = p.options["baseline"] if isinstance(baselines, str) else 0.0 if baselines is None else baselines
    try:
        starts = np.array(np.broadcast_to(np.asarray(start, np.float64), x.shape))
    except (TypeError, ValueError):
        raise UserError(f"baselines must be a number or have the inputs' shape {x.shape}") from None
    if not np.isfinite(starts).all():
        raise UserError("baselines must be finite numbers")
    return starts


def _many_starts(baselines: Array | float | str, p: Prepared) -> Array:
    """Return pictures (M, C, H, W) that paths may begin at."""
    shape = ", ".join(map(str, p.model.input_shape))
    try:
        starts = np.asarray(baselines, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"baselines must be an array of numbers of shape (M, {shape})") from None
    if starts.ndim != 4 or starts.shape[1:] != p.model.input_shape or len(starts) == 0:
        raise UserError(f"baselines must have shape (M, {shape}), got {starts.shape}")
    if not np.isfinite(starts).all():
        raise UserError("baselines must be finite numbers")
    return starts


def _targets(target: int | list[int] | Array | None, logits: Array) -> Array:
    """Return one class per sample: the predicted one where none is given."""
    if target is None:
        return logits.argmax(axis=1)
    given, count = np.asarray(target), logits.shape[1]
    if given.dtype.kind not in "iu" or given.shape not in ((), (len(logits),)):
        raise UserError(f"target must be one class or a list of {len(logits)}, got {target!r}")
    if given.min() < 0 or given.max() >= count:
        raise UserError(f"target must be of classes 0 to {count - 1}, got {given.tolist()}")
    return np.broadcast_to(given, len(logits))


_REMEMBERED = 16
_known_formats: OrderedDict[str, Formats] = OrderedDict()


def _formats(p: Prepared, x: Array, starts: Array | None) -> Formats:
    """Return the formats for a batch; those of equal settings are calibrated once a process."""
    shipped = p.experiment.weights is None and p.model.trained
    state = hashlib.sha256(p.content_hash().encode())
    for part in (None if shipped else x, starts):
        state.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
    key = state.hexdigest()
    if key not in _known_formats:
        _known_formats[key] = _calibrated_for(p, x, starts)
        if len(_known_formats) > _REMEMBERED:
            _known_formats.popitem(last=False)
    return _known_formats[key]


def _calibrated_for(p: Prepared, x: Array, starts: Array | None) -> Formats:
    """Calibrate with the paths' own starts; where no calibration pictures belong to the weights, on ``x`` itself."""
    p = replace(p, sample=replace(p.sample, x=x))
    if starts is None or p.numerics.uniform is not None:
        return calibrated(p)[0]
    # Whatever lies between the lowest and the highest start is as far from any picture as one of these at most.
    ends = np.unique([starts.min(axis=0), starts.max(axis=0)], axis=0)
    return joined([calibrated(replace(p, options={**p.options, "baseline": start[None]}))[0] for start in ends])
