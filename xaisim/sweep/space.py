"""The space file: what is varied, what a point has to keep to, and what makes one better.

    space = load_space("space.yaml")
    space.axes["arch.array.rows"]                     # (8, 16, 32)
    space.point({"arch.array.rows": 8})               # the point of a choice

It is checked in full, every value of every key, before anything runs.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from xaisim.attribution.methods import METHODS
from xaisim.config import Config, KeyPath, RuleError, UserError, did_you_mean, find_named, load_data, load_yaml
from xaisim.experiment import Experiment, Options, check_names, load_network
from xaisim.models.images import scene_count
from xaisim.sweep.axes import values_of
from xaisim.sweep.point import BRANCHES, FIELDS, Choice, Point, contents, experiment_with, file_state, make_point
from xaisim.sweep.rules import OUTPUTS, Constraint, Direction, Objective, check_output, parse_constraint
from xaisim.sweep.timing import program_of

SAMPLERS = ("grid", "random", "sobol", "nsga2", "nsga3", "tpe")
DEFAULT_IMAGES = (2, 8)
_TRIED = 64
"""Combinations with other keys in which a value is tried before it is called wrong."""

_NAMED = re.compile(r"^(architecture|numerics|mapping) '.*?': ")

_OF_NETWORK = {"model", "weights", "seed", "target", "method", "options"}
_DEFAULT_METHOD = Experiment.model_fields["method"].default

Problems = list[tuple[KeyPath, str]]


class Sampler(Config):
    """How points are chosen: its kind, and how many are asked for before their results are looked at."""

    kind: Literal["grid", "random", "sobol", "nsga2", "nsga3", "tpe"]
    generation: Annotated[int, Field(ge=2, le=10_000)] = 10


class Space(Config):
    """A design space. Every point is ``base`` with one value for each key of ``space``, for every workload."""

    title: str = ""
    base: str | dict[str, Any] = Field(default_factory=dict)
    """An experiment, or the name of a shipped one."""
    workloads: list[dict[str, Any]] = Field(default_factory=list)
    """Experiments on top of ``base``, each with a ``name`` and a ``weight`` (1)."""
    space: dict[str, Any] = Field(min_length=1)
    constraints: list[str | dict[str, Any]] = Field(default_factory=list)
    objectives: dict[str, Direction] = Field(min_length=1)
    sampler: Sampler = Sampler(kind="grid")
    points: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """How many different points; by default the whole grid, or 200 for other samplers."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    images: int | list[int] | None = None
    """Pictures that values are judged on: one number, or a few first and then all."""

    @field_validator("sampler", mode="before")
    @classmethod
    def _named_sampler(cls, value: Any) -> Any:
        """Take a sampler's name for the sampler."""
        if isinstance(value, str) and value not in SAMPLERS:
            raise ValueError(f"must be one of {', '.join(SAMPLERS)}{did_you_mean(value, SAMPLERS)}")
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Space:
        """Check in stages: what a stage reads must be right before."""
        for stage in (self._base_problems, self._key_problems, self._rule_problems, self._value_problems):
            problems = stage()
            if problems:
                raise RuleError(problems)
        return self

    # --- what others read ---------------------------------------------------------------------------------------------

    @cached_property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The values of every key, in the order of the file."""
        return {key: values_of(written) for key, written in self.space.items()}

    @property
    def size(self) -> int:
        """How many combinations of values there are."""
        count = 1
        for values in self.axes.values():
            count *= len(values)
        return count

    @cached_property
    def parts(self) -> list[tuple[str, float, dict[str, Any]]]:
        """The workloads: name, weight and experiment as data."""
        base = _base_data(self.base)
        if not self.workloads:
            return [(base.get("model", Experiment.model_fields["model"].default), 1.0, base)]
        rows = []
        for given in self.workloads:
            own = {key: value for key, value in given.items() if key not in ("name", "weight")}
            rows.append((str(given["name"]), float(given.get("weight", 1)), _on_top(base, own)))
        return rows

    @cached_property
    def rules(self) -> tuple[Constraint, ...]:
        """The constraints."""
        return tuple(parse_constraint(written, self._outputs) for written in self.constraints)

    @cached_property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives."""
        return tuple(Objective(name, direction) for name, direction in self.objectives.items())

    @property
    def rungs(self) -> tuple[int, ...]:
        """Pictures per rung of values; none where nothing asks for values."""
        if self.images is not None:
            return (self.images,) if isinstance(self.images, int) else tuple(self.images)
        asked = [*self.objectives, *(rule.output for rule in self.rules)]
        return DEFAULT_IMAGES if any("fidelity." in name for name in asked) else ()

    def point(self, choice: Choice) -> Point:
        """Return the point of a choice; raises :class:`UserError` where its experiment is wrong by itself."""
        return make_point(choice, self.parts, self.rungs, self._rules_text)

    def identity(self) -> str:
        """Return what must be equal for two sweeps to share a store: all but the name and which points are drawn."""
        kept = {"base", "workloads", "space", "constraints", "objectives", "images"}
        files = [file_state(experiment_with(data, {})) for _, _, data in self.parts]
        return json.dumps([self.model_dump(mode="json", include=kept), files], sort_keys=True)

    @cached_property
    def _rules_text(self) -> str:
        return json.dumps([rule.text for rule in self.rules])

    @property
    def _outputs(self) -> tuple[str, ...]:
        names = [str(given.get("name")) for given in self.workloads] if len(self.workloads) > 1 else []
        shared = [name for name in OUTPUTS if name.split(".")[0] not in ("area_mm2", "dsp", "bram", "fits")]
        return (*OUTPUTS, *(f"{name}.{output}" for name in names for output in shared))

    # --- what may be wrong --------------------------------------------------------------------------------------------

    def _base_problems(self) -> Problems:
        problems: Problems = []
        try:
            base = _base_data(self.base)
            _load(base)
        except UserError as error:
            return [(("base",), line.removeprefix("options: ")) for line in str(error).splitlines()]
        names: list[str] = []
        for index, given in enumerate(self.workloads):
            name, weight = given.get("name"), given.get("weight", 1)
            if not isinstance(name, str) or not name or name in names or "." in name:
                problems.append((("workloads", index), "needs a name of its own, without a dot"))
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                problems.append((("workloads", index, "weight"), f"must be a number above 0 (got {weight})"))
            names.append(str(name))
            try:
                own = {key: value for key, value in given.items() if key not in ("name", "weight")}
                load_data(Experiment, own)
                _load(_on_top(base, own))
            except UserError as error:
                problems += [(("workloads", index), line.removeprefix("options: ")) for line in str(error).splitlines()]
        return problems

    def _key_problems(self) -> Problems:
        problems: Problems = []
        for key, written in self.space.items():
            text = _key_problem(key) or self._useless(key)
            if text:
                problems.append((("space", key), text))
                continue
            try:
                values_of(written)
            except RuleError as error:
                problems += [(("space", key, *path), text) for path, text in error.problems]
        return problems

    def _useless(self, key: str) -> str | None:
        """Say that an option is taken by no method of the space; a method that is unknown is told elsewhere."""
        branch, _, option = key.partition(".")
        if branch != "method" or not option:
            return None
        written = self.space.get("method")
        names = [data.get("method", _DEFAULT_METHOD) for _, _, data in self.parts] if written is None else written
        methods = [n for n in names if isinstance(n, str) and n in METHODS] if isinstance(names, list) else []
        if not methods or any(option in METHODS[name].options for name in methods):
            return None
        return f"no method of this space takes it ({', '.join(dict.fromkeys(methods))})"

    def _rule_problems(self) -> Problems:
        problems: Problems = []
        for index, written in enumerate(self.constraints):
            try:
                parse_constraint(written, self._outputs)
            except (ValueError, UserError) as error:
                problems.append((("constraints", index), str(error)))
        for name in self.objectives:
            try:
                check_output(name, self._outputs)
            except ValueError as error:
                problems.append((("objectives", name), str(error)))
        counts = [self.images] if isinstance(self.images, int) else self.images
        if counts is not None and (not 1 <= len(counts) <= 2 or min(counts) < 1 or sorted(set(counts)) != counts):
            problems.append(
                (("images",), f"must be a number of pictures, or [a few, all] with fewer first (got {self.images})")
            )
        if not problems and self.rungs and (text := self._image_problem()):
            problems.append((("images",) if self.images is not None else (), text))
        return problems

    def _image_problem(self) -> str | None:
        others = [data["image"] for _, _, data in self.parts if not data.get("image", "scene:0").startswith("scene:")]
        if others:
            return f"values are judged on the shipped scenes, not on {others[0]!r}"
        if max(self.rungs) > scene_count():
            return f"there are {scene_count()} shipped scenes (got {max(self.rungs)})"
        return None

    def _value_problems(self) -> Problems:
        """Try every value of every key by itself, or else with others that go with it."""
        problems: Problems = []
        for key, values in self.axes.items():
            told = set[str | KeyPath]()
            for index, value in enumerate(values):
                text = self._value_problem(key, value)
                place: KeyPath = (index,) if isinstance(self.space[key], list) else ()
                if text and not {text, place} & told:  # an unknown key is one mistake, and so is a range
                    problems.append((("space", key, *place), text))
                    told |= {text, place}
        return problems

    def _value_problem(self, key: str, value: Any) -> str | None:
        first = None
        for choice in self._around(key, value):
            try:
                for _, _, base in self.parts:
                    _check(experiment_with(base, choice))
                return None
            except UserError as error:
                first = first or _NAMED.sub("", str(error).splitlines()[0])
        return first

    def _around(self, key: str, value: Any) -> Iterator[dict[str, Any]]:
        """Yield choices with a value: it alone, with whole machines and methods, then with values of all keys."""
        yield {key: value}
        yield {**{name: values[0] for name, values in self.axes.items() if name in FIELDS}, key: value}
        rng = random.Random(0)
        for _ in range(_TRIED if len(self.axes) > 1 else 0):
            yield {**{name: rng.choice(values) for name, values in self.axes.items()}, key: value}


def load_space(path: str | Path) -> Space:
    """Return a space from a YAML file; raise :class:`UserError` with every problem, each with its line."""
    return load_yaml(Space, find_named("dse", path, kind="space"))


def _base_data(base: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(base, str):
        return load_yaml(Experiment, find_named("workloads", base, kind="workload")).model_dump(
            mode="json", exclude_defaults=True
        )
    load_data(Experiment, dict(base))
    return dict(base)


def _on_top(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return an experiment with another's keys on top; options are those of the method and go with it."""
    start = {key: value for key, value in base.items() if key != "options" or "method" not in own}
    both = {**start.get("options", {}), **own.get("options", {})}
    return {**start, **own, "options": both}


def _load(data: Mapping[str, Any]) -> None:
    _check(experiment_with(data, {}))


def _check(experiment: Experiment) -> None:
    """Check all that an experiment names: files, network and class, and the kernels of a mapping."""
    arch, wish, _ = check_names(experiment)
    wrong = _network_problem(experiment.model_dump_json(include=_OF_NETWORK), contents(experiment))
    if wrong:
        raise UserError(wrong)
    if wish.given:
        wish.given.check_kernels([launch.kernel for launch in program_of(experiment, arch)])


@lru_cache(maxsize=4096)
def _network_problem(text: str, _files: tuple[str | None, ...]) -> str | None:
    """Say what is wrong with network, class or options, whatever the machine."""
    try:
        load_network(Experiment.model_validate_json(text), values=False)
    except UserError as error:
        return str(error)
    return None


def _key_problem(key: str) -> str | None:
    """Say what is wrong with a key of a space, or nothing."""
    branch, dot, rest = key.partition(".")
    if dot and branch == "method":
        taken = {name for method in METHODS.values() for name in method.options} & set(Options.model_fields)
        return None if rest in taken else f"unknown option of a method{_hint(rest, sorted(taken))}"
    if dot and branch in BRANCHES and rest:
        return None  # what stands below is checked with its values
    if not dot and key in FIELDS:
        return None
    known = (*FIELDS, *(f"{name}.KEY" for name in BRANCHES), "method.OPTION")
    return f"unknown key{_hint(branch if dot else key, known)}"


def _hint(value: str, known: tuple[str, ...] | list[str]) -> str:
    return f"{did_you_mean(value, known) or ';'} choices: {', '.join(known)}"


def space_text(path: str | Path) -> str:
    """Return a space file as it stands."""
    return find_named("dse", path, kind="space").read_text(encoding="utf-8-sig")
