"""An experiment as a user writes it, in YAML or as options, and everything it names made ready.

prepare(Experiment(model="resnet18_tiny", method="saliency"))
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from xaisim import __version__
from xaisim.attribution.methods import METHODS
from xaisim.attribution.paths import PATH_RULES, path
from xaisim.config import Config, UserError, choose, find_named, load_yaml
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.ir.graph import Array
from xaisim.models.images import Sample, load_image, normalise, test_scene
from xaisim.models.load import Model, load_model
from xaisim.numerics.formats import Numerics, load_numerics

Baseline = float | Literal["black", "white", "mean"]
BASELINES = ("black", "white", "mean")


class Options(Config):
    """Options of methods; each method takes those it knows and refuses the others."""

    n_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Points on the path."""
    rule: str | None = None
    """Quadrature on the path, a name from ``PATH_RULES``."""
    baseline: Baseline | None = None
    """Where the path starts: ``black``, ``white``, ``mean`` (zero after normalisation) or a number there."""
    layer: str | None = None
    """Feature map that GradCAM looks at; by default the last one before pooling."""


class Experiment(Config):
    """What to explain, how, in which numbers and on which machine."""

    description: str = ""
    model: str = "resnet18_tiny"
    weights: str | None = None
    """A .safetensors or .pth file, or ``random``; by default what ships with the model."""
    image: str = "scene:0"
    """A PNG, JPEG or .npy file, or ``scene:N`` for the N-th shipped test scene."""
    method: str = "integrated_gradients"
    options: Options = Options()
    target: Annotated[int, Field(ge=0)] | None = None
    """The class to explain; by default the predicted one."""
    arch: str = "pynq_z2"
    numerics: str | Numerics = "fixed16"
    seed: Annotated[int, Field(ge=0)] = 0


def load_experiment(name: str) -> Experiment:
    """Return a shipped experiment by name, or one from a YAML file."""
    return load_yaml(Experiment, find_named("workloads", name, kind="workload"))


@dataclass(frozen=True, slots=True)
class Prepared:
    """An experiment with everything it names loaded."""

    experiment: Experiment
    model: Model
    sample: Sample
    arch: Architecture
    numerics: Numerics
    options: dict[str, Any]
    """Options of the method as its function takes them."""

    @property
    def shown_options(self) -> dict[str, Any]:
        """Options as they go into the report: the baseline by its name."""
        shown = {name: value for name, value in self.options.items() if name != "baseline"}
        if "baseline" in self.options:
            shown["baseline"] = (
                self.experiment.options.baseline if self.experiment.options.baseline is not None else 0.0
            )
        return shown

    def content_hash(self) -> str:
        """Return a hash of everything that decides the result."""
        e = self.experiment
        parts = [
            __version__,
            e.model,
            _digest(*(c.value for _, c in sorted(self.model.graph.constants.items()))),
            _digest(self.sample.x),
            e.method,
            json.dumps(self.shown_options, sort_keys=True, default=str),
            str(e.target),
            self.numerics.model_dump_json(),
            self.arch.model_dump_json(exclude={"description"}),
            str(e.seed),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _digest(*arrays: Array | None) -> str:
    state = hashlib.sha256()
    for array in arrays:
        state.update(b"?" if array is None else np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def prepare(experiment: Experiment, *, values: bool = True) -> Prepared:
    """Load what the experiment names, checking every name and option before anything is computed.

    ``values=False`` loads shapes only, for a profile. Raises :class:`UserError`.
    """
    choose("method", experiment.method, METHODS)
    arch = load_architecture(experiment.arch)
    numerics = load_numerics(experiment.numerics) if isinstance(experiment.numerics, str) else experiment.numerics
    _check_widths(numerics, arch)
    _checked_names(experiment)
    model = load_model(experiment.model, experiment.weights, seed=experiment.seed, values=values)
    if experiment.target is not None and experiment.target >= len(model.classes):
        raise UserError(
            f"target {experiment.target} does not exist: {model.name} has classes 0 to {len(model.classes) - 1}"
        )
    sample = _sample(model, experiment.image) if values else _blank(model)
    options = _options(experiment, model)
    return Prepared(experiment, model, sample, arch, numerics, options)


def _check_widths(numerics: Numerics, arch: Architecture) -> None:
    """Refuse operands that are wider than the array's multipliers."""
    width = arch.array.multiplier_bits
    wide = [
        f"{name} {bits}"
        for name, bits in (
            ("weights", numerics.weights),
            ("activations", numerics.activations),
            ("gradients", numerics.gradients),
        )
        if bits > width
    ]
    if wide:
        raise UserError(f"{arch.name} has {width}-bit multipliers; too wide: {', '.join(wide)} bits")


def _checked_names(experiment: Experiment) -> None:
    options = experiment.options.model_dump(exclude_none=True)
    known = METHODS[experiment.method].options
    for name in options:
        if name not in known:
            takes = ", ".join(known) or "no options"
            raise UserError(f"method {experiment.method} takes no option {name!r}; it takes {takes}")
    if experiment.options.rule is not None:
        choose("rule", experiment.options.rule, PATH_RULES)
    if "n_steps" in known:
        try:
            path(experiment.options.rule or known["rule"], experiment.options.n_steps or known["n_steps"])
        except ValueError as error:
            raise UserError(str(error)) from None


def _sample(model: Model, image: str) -> Sample:
    if not image.startswith("scene:"):
        return load_image(model, image)
    number = image.removeprefix("scene:")
    if not number.isdigit():
        raise UserError(f"image {image!r}: a shipped scene is written scene:N with a number N, e.g. scene:7")
    return test_scene(model, int(number))


def _blank(model: Model) -> Sample:
    channels, height, width = model.input_shape
    return Sample("no image", np.zeros((height, width, channels), np.uint8), np.zeros((1, *model.input_shape)))


def _options(experiment: Experiment, model: Model) -> dict[str, Any]:
    """Return the method's keyword arguments."""
    given = experiment.options.model_dump(exclude_none=True)
    known = METHODS[experiment.method].options
    options: dict[str, Any] = {name: given.get(name, default) for name, default in known.items()}
    if "layer" in options:
        layers = {node.name: node.type.shape for node in model.graph.nodes if len(node.type.shape) == 3}
        layer = given.get("layer", model.features)
        options["layer"] = choose(f"layer of {model.name}", layer, layers)
    if "baseline" in options:
        options["baseline"] = baseline_array(model, given.get("baseline", 0.0))
    return options


def baseline_array(model: Model, baseline: Baseline) -> Array:
    """Return the start of a path in the normalised input space, (1, C, H, W)."""
    if isinstance(baseline, str):
        if baseline == "mean":
            return np.zeros((1, *model.input_shape))
        _, height, width = model.input_shape
        return normalise(model, np.full((height, width, 3), 0 if baseline == "black" else 255, np.uint8))
    return np.full((1, *model.input_shape), float(baseline))
