"""Compare two runs of one experiment: which tensor parts them first, and which half loses what.

found = diff(Experiment(model="cifar_cnn", method="saliency"), "float", "fixed8")
found.first, found.rows, found.split

A run is ``float`` or whatever ``--numerics`` takes, such as ``fixed16:overrides.relu1=trn``; ``fixed16:naive`` computes
by the definitions instead of the fast kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from xaisim.attribution.device import Device, Tensor
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError
from xaisim.experiment import Experiment, Prepared, prepare
from xaisim.flow import Progress, calibrated, quiet, score_difference
from xaisim.ir.graph import Array, evaluate
from xaisim.numerics.devices import FloatDevice
from xaisim.numerics.formats import Formats, Numerics, load_numerics
from xaisim.numerics.mixed import MixedDevice
from xaisim.numerics.twin import TwinDevice, TwinTensor
from xaisim.report.diff import CompletenessSplit, Diff, Side, Split, first_difference, loss, rows_of
from xaisim.version import __version__


@dataclass(frozen=True, slots=True)
class RunSpec:
    """How one of two runs computes; without numerics in float64."""

    text: str
    numerics: Numerics | None
    naive: bool = False
    """Computed by the definitions, node by node, instead of by the fast kernels."""


_NAIVE = ":naive"


def parse_run(text: str) -> RunSpec:
    """Read ``float`` or numerics as :func:`load_numerics` does, ``:naive`` behind them; raises :class:`UserError`."""
    name = text.removesuffix(_NAIVE)
    if text == "float":
        return RunSpec(text, None)
    if name == "float":
        raise UserError(f"run {text!r}: float64 has no fast kernels; {_NAIVE} can follow fixed-point numerics")
    try:
        return RunSpec(text, load_numerics(name), text.endswith(_NAIVE))
    except UserError as error:
        told = str(error).replace("unknown numerics", "unknown run").replace("choices: ", "choices: float, ")
        raise UserError(told) from None


@dataclass(frozen=True, slots=True)
class Runs:
    """Two runs of one experiment, ready to go: a fresh device of either by side."""

    p: Prepared
    specs: tuple[RunSpec, RunSpec]
    formats: tuple[Formats | None, Formats | None]

    def device(self, side: Side) -> FloatDevice:
        """Return a device that computes as run A or B does."""
        number = "ab".index(side)
        formats = self.formats[number]
        if formats is None:
            return FloatDevice()
        device = self.p.device(formats)
        device.naive = self.specs[number].naive
        return device

    def run(self, device: Device, target: int) -> Tensor:
        """Run the method."""
        p = self.p
        return METHODS[p.experiment.method].run(device, p.model.graph, p.sample.x, target, **p.options)


def load_runs(experiment: Experiment, a: str, b: str, *, progress: Progress = quiet) -> Runs:
    """Check both runs, load what they share and find their formats; raises :class:`UserError`."""
    specs = (parse_run(a), parse_run(b))
    prepared: list[Prepared | None] = []
    for spec in specs:
        if spec.numerics is None:
            prepared.append(None)
            continue
        try:
            prepared.append(prepare(experiment.model_copy(update={"numerics": spec.numerics})))
        except UserError as error:
            raise _of_run(spec, error) from None
    p = prepared[0] or prepared[1] or prepare(experiment.model_copy(update={"numerics": "fixed16"}))
    formats = _formats(prepared, progress)
    return Runs(p, specs, (formats[0], formats[1]))


def _of_run(spec: RunSpec, error: UserError) -> UserError:
    """Return the error with the run it is about, once for every line."""
    return UserError("\n".join(f"{spec.text}: {line}" for line in str(error).splitlines()))


def _formats(prepared: list[Prepared | None], progress: Progress) -> list[Formats | None]:
    """Calibrate each fixed-point run, once for both where they calibrate alike."""
    found: list[Formats | None] = []
    for p in prepared:
        before = next((f for f in found if f is not None and p is not None and _alike(f.numerics, p.numerics)), None)
        if p is None:
            found.append(None)
        elif before is not None:
            found.append(Formats(p.numerics, before.ranges, histograms=before.histograms))
        else:
            found.append(calibrated(p, progress)[0])
    return found


def _alike(a: Numerics, b: Numerics) -> bool:
    """Return whether two numerics ask the same of calibration: widths and modes come after it."""
    keys = {"uniform", "calibration", "percentile"}
    return a.uniform is None and a.model_dump(include=keys) == b.model_dump(include=keys)


def diff(experiment: Experiment, a: str, b: str, *, split: bool | None = None, progress: Progress = quiet) -> Diff:
    """Run ``experiment`` as ``a`` and as ``b``, tensor by tensor, for the class that A predicts where none is given.

    ``split`` asks for the loss by halves; by default where one run is ``float``. Raises :class:`UserError`.
    """
    runs = load_runs(experiment, a, b, progress=progress)
    p = runs.p
    predicted = (_predicted(runs, "a"), _predicted(runs, "b"))
    target = predicted[0] if experiment.target is None else experiment.target
    twin = TwinDevice(runs.device("a"), runs.device("b"), progress=partial(_named, progress, "compare"))
    result = runs.run(twin, target)
    assert isinstance(result, TwinTensor)
    real: dict[Side, Array] = {"a": result.real(), "b": result.twin.real()}
    lsb_of: Side | None = "b" if runs.formats[1] else "a" if runs.formats[0] else None
    rows = rows_of(twin.tallies, lsb_of)
    reference: Side = "b" if a != "float" and b == "float" else "a"
    one_float = (a == "float") != (b == "float")
    wanted = (one_float if split is None else split) and experiment.method != "forward"
    by_halves = _by_halves(runs, target, reference, progress) if wanted else None
    return Diff(
        version=__version__,
        model=p.model.name,
        weights=p.model.weights,
        image=experiment.image,
        method=experiment.method,
        options=p.shown_options,
        target=target,
        a=a,
        b=b,
        predicted=predicted,
        launches={launch.kernel: launch.trips for launch in twin.program},
        lsb_of=lsb_of,
        equal=not any(row.differing for row in rows),
        first=first_difference(twin.tallies),
        result=loss(real["a"], real["b"]),
        rows=rows,
        split=None if by_halves is None else _split(real, reference, *by_halves),
        completeness=_completeness(p, target, real, reference, by_halves) if one_float else None,
    )


def _named(progress: Progress, what: str, kernel: str, done: int, total: int) -> None:
    progress(f"{what}: {kernel}", done, total)


def _predicted(runs: Runs, side: Side) -> int:
    """Return the class that a run predicts."""
    p = runs.p
    try:
        logits = METHODS["forward"].run(runs.device(side), p.model.graph, p.sample.x, 0)
    except UserError as error:  # an accumulator that cannot hold a sum
        raise _of_run(runs.specs["ab".index(side)], error) from None
    return int(logits.real()[0].argmax())


def _other(side: Side) -> Side:
    return "a" if side == "b" else "b"


def _by_halves(runs: Runs, target: int, reference: Side, progress: Progress) -> tuple[Array, Array]:
    """Return the results with only the forward half, and with only the backward half, not as in the reference."""
    maps = []
    halves = ((_other(reference), reference), (reference, _other(reference)))
    for number, (front, back) in enumerate(halves):
        progress("one half at a time", number, len(halves))
        mixed = MixedDevice(runs.device(front), runs.device(back), runs.p.model.graph)
        maps.append(runs.run(mixed, target).real())
    return maps[0], maps[1]


def _split(real: dict[Side, Array], reference: Side, forward: Array, backward: Array) -> Split:
    base, of = real[reference], _other(reference)
    return Split(
        reference=reference,
        of=of,
        forward=loss(base, forward),
        backward=loss(base, backward),
        both=loss(base, real[of]),
    )


def _completeness(
    p: Prepared, target: int, real: dict[Side, Array], reference: Side, halves: tuple[Array, Array] | None
) -> CompletenessSplit | None:
    """Split what a path method's sum misses of F(x) − F(x'); ``reference`` is the float run."""
    logits = evaluate(p.model.graph, {"input": p.sample.x})[p.model.graph.outputs[0]][0]
    difference = score_difference(p, logits, target)
    if difference is None:
        return None
    base, fixed = float(real[reference].sum()), float(real[_other(reference)].sum())
    integration, quantisation = base - difference, fixed - base
    parts: dict[str, float] = {}
    if halves is not None:
        forward, backward = (float(half.sum()) - base for half in halves)
        parts = {"delta_forward": forward, "delta_backward": backward}
        parts["delta_interaction"] = quantisation - (forward + backward)
    return CompletenessSplit(
        of=_other(reference),
        score_difference=difference,
        delta=integration + quantisation,
        delta_integration=integration,
        delta_quantisation=quantisation,
        **parts,
    )
