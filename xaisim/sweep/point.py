"""A point of a space: the experiments that its values make, the hash of them all, the command for each.

    point = point_of(space, {"arch.array.rows": 8, "method.n_steps": 50})
    point.hash, point.inputs, point.command, point.parts[0].experiment

Values go into the texts of an experiment, as one would write them on the command line: ``edge_systolic_16`` and
``arch.array.rows: 8`` become ``edge_systolic_16:array.rows=8``.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from xaisim.attribution.methods import METHODS
from xaisim.changes import joined, parted
from xaisim.config import load_data
from xaisim.experiment import Experiment
from xaisim.hardware.architecture import architecture_data
from xaisim.mapping.choice import FREE

FIELDS = ("model", "weights", "method", "arch", "numerics", "objective", "mapping", "target", "seed")
"""Keys of a space that are an experiment's own."""
BRANCHES = ("arch", "numerics", "mapping")
"""Those of them that have keys below, changed behind a colon; ``method`` has its options."""

Choice = Mapping[str, Any]
"""A value for every key of the space."""


@dataclass(frozen=True, slots=True)
class Part:
    """A workload of a point: its experiment, and how much it counts."""

    name: str
    weight: float
    experiment: Experiment


@dataclass(frozen=True, slots=True)
class Point:
    """One design: the values that were chosen, and what they make of every workload."""

    inputs: dict[str, Any]
    parts: tuple[Part, ...]
    images: tuple[int, ...]
    """How many pictures each rung of values has; none for a point without values."""
    hash: str
    command: str


def make_point(
    choice: Choice, workloads: Sequence[tuple[str, float, Mapping[str, Any]]], images: tuple[int, ...], rules: str
) -> Point:
    """Return the point of a choice; ``rules`` are what else decides how far it is evaluated.

    An option that no workload's method takes here is left out of the inputs, so such points are one. Raises
    :class:`UserError` where an experiment is wrong by itself.
    """
    parts = tuple(Part(name, weight, experiment_with(base, choice)) for name, weight, base in workloads)
    taken = {name for part in parts for name in METHODS[part.experiment.method].options}
    inputs = {key: value for key, value in choice.items() if not _is_option(key) or key[len("method.") :] in taken}
    texts = [[p.name, p.weight, p.experiment.model_dump(mode="json"), file_state(p.experiment)] for p in parts]
    state = json.dumps([texts, images, rules], sort_keys=True, ensure_ascii=False)
    return Point(inputs, parts, images, hashlib.sha256(state.encode()).hexdigest(), _commands(parts, images))


def experiment_with(base: Mapping[str, Any], choice: Choice) -> Experiment:
    """Return a workload with the values of a choice put in; raises :class:`UserError`."""
    data = {**base, **{key: value for key, value in choice.items() if key in FIELDS}}
    for branch in BRANCHES:
        prefix = branch + "."
        below = {key[len(prefix) :]: value for key, value in choice.items() if key.startswith(prefix)}
        if branch == "numerics":  # numerics.weights.bits is numerics.weights
            below = {key.removesuffix(".bits"): value for key, value in below.items()}
        if below:
            data[branch] = _with_changes(data.get(branch), branch, below)
    taken = METHODS[data["method"]].options if data.get("method") in METHODS else {}
    options = {key[len("method.") :]: value for key, value in choice.items() if _is_option(key)}
    own = {name: value for name, value in data.get("options", {}).items() if name in taken or "method" not in choice}
    data["options"] = own | {name: value for name, value in options.items() if name in taken}
    return load_data(Experiment, data)


def _is_option(key: str) -> bool:
    return key.startswith("method.")


def _with_changes(written: Any, branch: str, changes: dict[str, Any]) -> str:
    if isinstance(written, dict):
        return joined("fixed16", {**written, **changes})  # a mapping of numerics starts from the defaults, too
    name, own = parted(written or (FREE if branch == "mapping" else Experiment.model_fields[branch].default), branch)
    return joined(name, {**own, **changes})


def file_state(experiment: Experiment) -> list[Any]:
    """Return what stands in the files that an experiment names, its machine's too."""
    arch, _ = parted(experiment.arch, "architecture")
    return [architecture_data(arch), *contents(experiment)]


def contents(experiment: Experiment) -> tuple[str | None, ...]:
    """Return digests of the files that an experiment names beside its machine; None where it names none."""
    files = [experiment.weights, experiment.mapping, experiment.numerics, experiment.options.table]
    names = [parted(text, "file")[0] for text in files if isinstance(text, str)]
    return tuple(_digest(name) for name in names)


def _digest(name: str) -> str | None:
    path = Path(name)
    if not path.suffix or not path.is_file():
        return None
    return _file_digest(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, _changed_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the command ------------------------------------------------------------------------------------------------------


def _commands(parts: Sequence[Part], images: tuple[int, ...]) -> str:
    return " && ".join(command_for(part.experiment, values=bool(images)) for part in parts)


def command_for(experiment: Experiment, *, values: bool) -> str:
    """Return the shell command that makes an experiment's report."""
    words = ["xaisim", "explain" if values else "profile"]
    words += [experiment.image] if values and experiment.image != "scene:0" else []
    for name in ("model", "weights", "method", "target", "arch", "numerics", "objective", "mapping", "seed"):
        value = getattr(experiment, name)
        if name in ("model", "method", "arch") or value != Experiment.model_fields[name].default:
            words += [f"--{name}", _numerics_text(value) if name == "numerics" else str(value)]
    for name, value in experiment.options.model_dump(exclude_none=True, mode="json").items():
        words += ["-O", f"{name}={json.dumps(value) if isinstance(value, bool) else value}"]
    return shlex.join(words)


def _numerics_text(value: Any) -> str:
    return value if isinstance(value, str) else joined("fixed16", value.model_dump(mode="json", exclude_defaults=True))
