"""The Python API: keyword arguments in, reports or arrays out, with Captum's names where it has them.

report = explain("photo.png", model="resnet18_tiny", method="saliency", arch="zcu104", numerics="fixed8")
maps = attribute(inputs, model="resnet18_tiny", target=3, n_steps=50)
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from xaisim.attribution.device import Device
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError, load_data
from xaisim.experiment import Experiment, prepare
from xaisim.flow import calibrated
from xaisim.flow import explain as explain_experiment
from xaisim.flow import profile as profile_experiment
from xaisim.ir.graph import Array, evaluate
from xaisim.numerics.devices import FixedDevice, FloatDevice
from xaisim.report.report import Report

_OPTIONS = ("n_steps", "rule", "baseline", "layer")


def experiment_of(**settings: Any) -> Experiment:
    """Return the experiment that keyword arguments describe; None means the default.

    Method options (``n_steps``, ``rule``, ``baseline``, ``layer``) stand beside the others.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    options = {name: given.pop(name) for name in _OPTIONS if name in given}
    if "image" in given:
        given["image"] = str(given["image"])
    if options:
        given["options"] = {**given.get("options", {}), **options}
    return load_data(Experiment, given)


def explain(image: str | None = None, **settings: Any) -> Report:
    """Explain one picture on a simulated accelerator and against float64.

    Keywords are the fields of :class:`~xaisim.experiment.Experiment` (``model``, ``weights``, ``method``, ``target``,
    ``arch``, ``numerics``, ``seed``) and the method's options (``n_steps``, ``rule``, ``baseline``, ``layer``).
    """
    return explain_experiment(experiment_of(image=image, **settings))


def profile(**settings: Any) -> Report:
    """Time a model, method and architecture without computing values; keywords as for :func:`explain`."""
    return profile_experiment(experiment_of(**settings))


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
    ``explainer`` names the attribution method and ``device`` the arithmetic. Deltas are Σ attribution − (F(x) − F(x')),
    one per sample, with F in float64.
    """
    inputs = np.asarray(inputs, np.float64)
    named = baselines if isinstance(baselines, str) else None
    settings |= {"n_steps": n_steps, "rule": method, "baseline": named, "method": explainer}
    p = prepare(experiment_of(**settings))
    if inputs.ndim != 4 or inputs.shape[1:] != p.model.input_shape:
        raise UserError(f"inputs must have shape (N, {', '.join(map(str, p.model.input_shape))}), got {inputs.shape}")
    options = dict(p.options)
    if "baseline" in options and baselines is not None and named is None:
        options["baseline"] = np.broadcast_to(np.asarray(baselines, np.float64), inputs.shape)
    logits = evaluate(p.model.graph, {"input": inputs})[p.model.graph.outputs[0]]
    targets = logits.argmax(axis=1) if target is None else np.broadcast_to(np.asarray(target), len(inputs))
    if targets.min() < 0 or targets.max() >= logits.shape[1]:
        raise UserError(f"targets must be classes 0 to {logits.shape[1] - 1}, got {targets.tolist()}")
    formats = calibrated(p)[0] if device == "fixed" else None
    maps, deltas = [], []
    for i, wanted in enumerate(targets):
        machine: Device = (
            FixedDevice(formats, p.arch.array.accumulator_bits, batch_size=internal_batch_size)
            if formats is not None
            else FloatDevice(batch_size=internal_batch_size)
        )
        mine = {k: v[i % len(v)][None] if k == "baseline" else v for k, v in options.items()}
        result = METHODS[explainer].run(machine, p.model.graph, inputs[i : i + 1], int(wanted), **mine)
        maps.append(result.real())
        if return_convergence_delta:
            start = mine.get("baseline", np.zeros_like(inputs[:1]))
            reference = evaluate(p.model.graph, {"input": start})[p.model.graph.outputs[0]][0, wanted]
            deltas.append(maps[-1].sum() - (logits[i, wanted] - reference))
    stacked = np.concatenate(maps)
    return (stacked, np.array(deltas)) if return_convergence_delta else stacked
