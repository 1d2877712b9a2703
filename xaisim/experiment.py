"""An experiment as a user writes it, in YAML or as options, and everything it names made ready.

prepare(Experiment(model="resnet18_tiny", method="saliency"))
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from xaisim.attribution.kernels import Upsampling
from xaisim.attribution.methods import METHODS
from xaisim.attribution.path_kernels import MOST_TRIPS
from xaisim.attribution.paths import PATH_RULES
from xaisim.attribution.smoothing import LEAST_SIGMA, MOST_SIGMA
from xaisim.attribution.tables import load_table, table_ships
from xaisim.config import (
    Config,
    RuleError,
    UserError,
    choose,
    data_root,
    did_you_mean,
    find_named,
    load_data,
    load_yaml,
)
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.costs import load_costs
from xaisim.ir.graph import Array
from xaisim.mapping.choice import load_mapping
from xaisim.mapping.order import arrange
from xaisim.mapping.tiling import Objective
from xaisim.models.images import Sample, calibration_batch, calibration_count, load_image, normalise, test_scene
from xaisim.models.load import Model, load_model
from xaisim.models.networks import NETWORKS
from xaisim.numerics.devices import DryDevice, FixedDevice
from xaisim.numerics.formats import NAMED_NUMERICS, Formats, Numerics, load_numerics, parse_override
from xaisim.simulate.mapper import Wish
from xaisim.version import __version__

BASELINES = ("black", "white", "mean", "noise")
_MOST_BASELINE = 1000.0  # normalised pixels lie within a few units


def checked_baseline(value: Any) -> Any:
    """Return a name of ``BASELINES`` or a number as it is; raise ``ValueError`` for anything else."""
    if isinstance(value, str):
        if value not in BASELINES:
            raise ValueError(f"must be {', '.join(BASELINES)} or a number{did_you_mean(value, BASELINES)}")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be {', '.join(BASELINES)} or a number")
    elif not abs(value) <= _MOST_BASELINE:
        raise ValueError(f"must lie in -{_MOST_BASELINE:g} to {_MOST_BASELINE:g}, where normalised pixels are")
    return value


def _checked_numerics(value: Any) -> Any:
    """Check a mapping of numerics by itself, so that only its own problems are told."""
    if isinstance(value, dict):
        try:
            return load_data(Numerics, value, "numerics")
        except UserError as error:
            raise RuleError([((), line.removeprefix("numerics: ")) for line in str(error).splitlines()]) from None
    if not isinstance(value, str | Numerics):
        raise ValueError("must be a name such as fixed16 or a mapping such as {weights: 8}")
    return value


DEFAULT_BASELINE = "black"  # no light, as in Sundararajan et al. 2017

Baseline = Annotated[float | str, BeforeValidator(checked_baseline)]


class Options(Config):
    """Options of methods; each method takes those it knows and refuses the others."""

    n_steps: Annotated[int, Field(ge=1, le=MOST_TRIPS)] | None = None
    """Points on the path."""
    rule: str | None = None
    """Quadrature on the path, a name from ``PATH_RULES``."""
    baseline: Baseline | None = None
    """Where the path starts: ``black`` (default), ``white``, ``mean`` (zero after normalisation), ``noise`` (uniform
    pixels, the same every time) or a number after normalisation."""
    layer: str | None = None
    """Feature map that GradCAM looks at; by default the last one before pooling."""
    upsample: Upsampling | None = None
    """How GradCAM's map is brought to the picture's size: bilinear, nearest, or none at all."""
    relu: bool | None = None
    """Whether GradCAM leaves out what speaks against the class."""
    score: Literal["logit", "probability"] | None = None
    """What is explained: the class's logit, or its softmax probability."""
    n_intervals: Annotated[int, Field(ge=1, le=256)] | None = None
    """Intervals of the path that get points of their own."""
    n_pilots: Annotated[int, Field(ge=2, le=MOST_TRIPS)] | None = None
    """Forward passes that say where IDG takes its samples."""
    stop_at_delta: Annotated[float, Field(gt=0, le=1)] | None = None
    """Refine the path until |δ| is at most this share of |F(x) − F(x')|; ``n_steps`` is then the most."""
    at_once: Annotated[int, Field(ge=1, le=64)] | None = None
    """Intervals that adaptive_ig halves per launch."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the largest F on the path at which left-IG ends."""
    slope: Literal["dot", "difference"] | None = None
    """IDG's dF/dα: the gradient times (x − x'), or the finite difference over its width."""
    table: str | None = None
    """Density of points on the path: a file of ``xaisim fit-path``; by default what ships with the model."""
    exponent: Annotated[float, Field(ge=0, le=4)] | None = None
    """Points of an interval in proportion to |change of F| to this power."""
    n_samples: Annotated[int, Field(ge=1, le=MOST_TRIPS)] | None = None
    """Noisy copies of the picture, or baselines, that are averaged over."""
    sigma: Annotated[float, Field(ge=LEAST_SIGMA, le=MOST_SIGMA)] | None = None
    """Standard deviation of the noise, in the network's normalised input space."""
    stdev_spread: Annotated[float, Field(gt=0, le=10)] | None = None
    """Standard deviation of the noise as a share of the picture's range; in place of ``sigma``."""
    variant: Literal["plain", "squared", "vargrad"] | None = None
    """What SmoothGrad averages: gradients, their squares, or squares less the square of the mean."""
    noise: Literal["host", "lfsr"] | None = None
    """Who makes the noise: the host, which writes it to DRAM before the launch, or shift registers on the chip."""
    n_iterations: Annotated[int, Field(ge=1, le=100)] | None = None
    """Steps of adaptive noising's search for σ, at most; each tries two σ."""
    criterion: Literal["autvc", "aupc"] | None = None
    """What adaptive noising makes least: how noisy the map is, or how well the class survives what it points at."""
    baselines: Annotated[int, Field(ge=1, le=4096)] | None = None
    """How many of the shipped calibration scenes Expected Gradients starts from; by default all."""
    points: Literal["random", "midpoint"] | None = None
    """Where on the way from its baseline a sample of Expected Gradients lies."""
    max_sigma: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Deviation, in pixels, of the Gaussian that Blur IG begins with."""
    noise_seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    """Seed of noise and of drawn points: the same numbers on every machine and device."""
    fraction: Annotated[float, Field(ge=0.01, le=1)] | None = None
    """Share of all features that Guided IG moves at once."""
    max_dist: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far from its place on the straight path, as a share of it, Guided IG lets a feature be."""
    step_size: Annotated[float, Field(gt=0, le=1)] | None = None
    """Step of AGI along a sign, as a share of the pixels' range from black to white."""
    max_iter: Annotated[int, Field(ge=1, le=200)] | None = None
    """Steps of AGI towards a class, at most."""
    k_classes: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Other classes that AGI steps towards, those of highest score; all where there are not as many."""
    reference_compat: bool | None = None
    """Do as the authors' published code does where that differs from the definition."""


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
    numerics: Annotated[str | Numerics, BeforeValidator(_checked_numerics)] = "fixed16"
    objective: Objective = "latency"
    """What the mapping is chosen for: latency, energy, or their product edp."""
    mapping: str | None = None
    """A mapping file, as ``xaisim show mapping`` prints it; what it leaves out is chosen."""
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
    wish: Wish
    """What the mapping is to be good at, and what of it is given."""

    @property
    def shown_options(self) -> dict[str, Any]:
        """Options as they go into the report: those that are set, the baseline by its name."""
        arrays = ("baseline", "baselines", "pixel_range", "table")
        shown = {name: value for name, value in self.options.items() if name not in arrays and value is not None}
        if "baselines" in self.options:
            shown["baselines"] = len(self.options["baselines"])
        if "table" in self.options:
            named = self.experiment.options.table or "shipped"
            shown["table"] = "none" if self.options["table"] is None else named
        if "baseline" in self.options:
            shown["baseline"] = (
                DEFAULT_BASELINE if self.experiment.options.baseline is None else self.experiment.options.baseline
            )
        return shown

    def device(
        self, formats: Formats, kind: type[FixedDevice] = FixedDevice, *, batch_size: int | None = None
    ) -> FixedDevice:
        """Return a device that computes as the architecture does: its accumulators, in its order."""
        array = self.arch.array
        return kind(
            formats,
            array.accumulator_bits,
            policy=array.accumulator,
            psum_bits=array.psum_bits,
            arrange=partial(arrange, arch=self.arch),
            batch_size=batch_size,
        )

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
            _digest(self.options.get("table")),
            str(e.target),
            self.numerics.model_dump_json(),
            self.arch.model_dump_json(exclude={"description"}),
            load_costs(self.arch.costs).model_dump_json(),
            str(e.seed),
            e.objective,
            self.wish.given.file.model_dump_json() if self.wish.given else "",
            code_digest(),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def code_digest() -> str:
    """Return a digest of the package's code and of the pictures that formats are calibrated on."""
    state = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        state.update(source.read_bytes())
    state.update((data_root() / "workloads" / "data" / "calibration_scenes.npz").read_bytes())
    return state.hexdigest()


def _digest(*arrays: Array | None) -> str:
    state = hashlib.sha256()
    for array in arrays:
        state.update(b"?" if array is None else np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def prepare(experiment: Experiment, *, values: bool = True) -> Prepared:
    """Load what the experiment names, checking every name and option before anything is computed.

    ``values=False`` loads shapes only, for a profile. Raises :class:`UserError`.
    """
    arch, wish, numerics = check_names(experiment)
    model, options = load_network(experiment, values=values)
    sample = _sample(model, experiment.image) if values else _blank(model)
    prepared = Prepared(experiment, model, sample, arch, numerics, options, wish)
    if numerics.overrides:
        _check_overrides(prepared)
    return prepared


def load_network(experiment: Experiment, *, values: bool) -> tuple[Model, dict[str, Any]]:
    """Return the network and the method's arguments for it; raises :class:`UserError`, for its class, too."""
    model = load_model(experiment.model, experiment.weights, seed=experiment.seed, values=values)
    if experiment.target is not None and experiment.target >= len(model.classes):
        raise UserError(
            f"target {experiment.target} does not exist: {model.name} has classes 0 to {len(model.classes) - 1}"
        )
    return model, _options(experiment, model)


def check_names(experiment: Experiment) -> tuple[Architecture, Wish, Numerics]:
    """Load the machine, the wish and the numbers of an experiment and check its names; its network is not loaded.

    Raises :class:`UserError` with every problem.
    """
    problems: list[str] = []
    with _noted(problems):
        choose("model", experiment.model, NETWORKS)
    with _noted(problems):
        choose("method", experiment.method, METHODS)
        _check_options(experiment)
    with _noted(problems):
        arch = load_architecture(experiment.arch)
    with _noted(problems):
        wish = Wish(experiment.objective, load_mapping(experiment.mapping) if experiment.mapping else None)
    with _noted(problems):
        numerics = load_numerics(experiment.numerics) if isinstance(experiment.numerics, str) else experiment.numerics
    if problems:
        raise UserError("\n".join(problems))
    _check_widths(numerics, arch)
    return arch, wish, numerics


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Keep a user's mistake for later, so that all of them are told at once."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def _check_widths(numerics: Numerics, arch: Architecture) -> None:
    """Refuse operands that are wider than the array's multipliers."""
    width = arch.array.multiplier_bits
    wide = [f"{name} {bits}" for name, bits in _operand_widths(numerics).items() if bits > width]
    if wide:
        fitting = [name for name, each in NAMED_NUMERICS.items() if max(_operand_widths(each).values()) <= width]
        hint = f"; numerics that fit: {', '.join(fitting)}" if fitting else ""
        raise UserError(f"{arch.name} has {width}-bit multipliers; too wide: {', '.join(wide)} bits{hint}")


def _operand_widths(numerics: Numerics) -> dict[str, int]:
    """Return the bits of what the multipliers read."""
    return {name: getattr(numerics, name) for name in ("weights", "activations", "gradients")}


def _check_overrides(p: Prepared) -> None:
    """Refuse overrides of tensors that are not there, and ones wider than the multipliers that read them."""
    formats = Formats(p.numerics)
    dry = p.device(formats, DryDevice)
    METHODS[p.experiment.method].run(dry, p.model.graph, p.sample.x, p.experiment.target or 0, **p.options)
    for name in p.numerics.overrides:
        if name not in formats.asked:
            near = did_you_mean(name, formats.asked) or ";"
            raise UserError(
                f"numerics.overrides: no tensor {name!r} is given a format in {p.experiment.method} on {p.model.name}"
                f"{near} choices: {', '.join(sorted(formats.asked))}"
            )
    _check_modes(p.numerics, {node.name for launch in dry.program for node in launch.graph.nodes})
    for graph in (launch.graph for launch in dry.program):
        types = graph.types()
        for arg in {arg for node in graph.nodes if node.op in ("conv", "linear") for arg in node.args[:2]}:
            if types[arg].element_bits > p.arch.array.multiplier_bits:
                raise UserError(
                    f"{p.arch.name} has {p.arch.array.multiplier_bits}-bit multipliers; too wide: {arg} in {types[arg]}"
                )


def _check_modes(numerics: Numerics, computed: set[str]) -> None:
    """Refuse rounding and overflow modes of what the host converts (inputs, weights): always nearest, saturating."""
    for name, text in numerics.overrides.items():
        own = parse_override(text)
        mode = own.rounding or own.overflow
        if mode is not None and name not in computed:
            raise UserError(
                f"numerics.overrides: {name} is converted by the host, to nearest and saturating; "
                f"{mode} can only be for a tensor that the machine computes"
            )


def _check_options(experiment: Experiment) -> None:
    options = experiment.options.model_dump(exclude_none=True)
    known = METHODS[experiment.method].options
    for name in options:
        if name not in known:
            takes = ", ".join(known) or "no options"
            raise UserError(f"method {experiment.method} takes no option {name!r}; it takes {takes}")
    if experiment.options.rule is not None:
        choose("rule", experiment.options.rule, PATH_RULES)
    check = METHODS[experiment.method].check
    if check is not None:
        try:
            check(**{name: options.get(name, default) for name, default in known.items()})
        except ValueError as error:
            raise UserError(str(error)) from None


def _sample(model: Model, image: str) -> Sample:
    if not image.startswith("scene:"):
        return load_image(model, image)
    number = image.removeprefix("scene:")
    if not (number.isascii() and number.isdigit()):
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
    if "baselines" in options:
        options["baselines"] = _scenes(model, given.get("baselines", calibration_count()))
    if "baseline" in options:
        options["baseline"] = baseline_array(model, given.get("baseline", DEFAULT_BASELINE))
    if "pixel_range" in options:
        options["pixel_range"] = (baseline_array(model, "black"), baseline_array(model, "white"))
    if "table" in options:
        baseline = given.get("baseline", DEFAULT_BASELINE)
        options["table"] = _density(model, given.get("table"), baseline, options["score"], known["table"] is None)
    return options


def _scenes(model: Model, count: int) -> Array:
    """Return the first calibration scenes as starts of paths, (count, C, H, W)."""
    if count > calibration_count():
        raise UserError(f"options: baselines: there are {calibration_count()} calibration scenes, not {count}")
    return calibration_batch(model, count)


def _density(model: Model, file: str | None, baseline: float | str, score: str, optional: bool) -> Array | None:
    """Return the density of points that was learnt for a model's paths from a baseline.

    None where none ships for them and the method can do without.
    """
    if file is None and optional and not table_ships(model.name, baseline):
        return None
    table = load_table(model.name, file)
    where = file or f"the shipped table of {model.name}"
    if (table.model, table.baseline) != (model.name, baseline):
        raise UserError(
            f"{where} was learnt for {table.model} from baseline {table.baseline}, not for {model.name} from "
            f"{baseline}; see 'xaisim fit-path'"
        )
    if score not in table.densities:
        raise UserError(f"{where} has no density for score {score}; choices: {', '.join(table.densities)}")
    return np.array(table.densities[score])


def baseline_array(model: Model, baseline: float | str) -> Array:
    """Return the start of a path in the normalised input space, (1, C, H, W)."""
    if isinstance(baseline, str):
        if baseline == "mean":
            return np.zeros((1, *model.input_shape))
        _, height, width = model.input_shape
        if baseline == "noise":
            return normalise(model, np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
        return normalise(model, np.full((height, width, 3), 0 if baseline == "black" else 255, np.uint8))
    return np.full((1, *model.input_shape), float(baseline))
