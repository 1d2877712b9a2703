"""Where a model's path bends, learnt once and kept in a file: RiemannOpt's fixed table of points.

table = load_table("resnet18_tiny", None)      what ships with a model; or a file that ``xaisim fit-path`` wrote
table.densities["probability"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from xaisim.config import Config, UserError, data_root, load_yaml

Density = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=4096)]
"""Points per length on equal parts of the path from baseline to picture; its mean is 1."""


class PathTable(Config):
    """What was learnt of one model's paths."""

    description: str = ""
    model: str
    baseline: float | str
    """Where the paths began."""
    densities: dict[Literal["logit", "probability"], Density]


def load_table(model: str, file: str | None) -> PathTable:
    """Return the table in a file, or the one that ships with a model; raises :class:`UserError` where there is none."""
    if file is not None:
        return load_yaml(PathTable, file)
    shipped = _shipped(model)
    if not shipped.is_file():
        known = ", ".join(sorted(path.stem for path in shipped.parent.glob("*.yaml")))
        raise UserError(
            f"no table of points ships for {model}; learn one with 'xaisim fit-path {model}' (shipped: {known})"
        )
    return load_yaml(PathTable, shipped)


def table_ships(model: str, baseline: float | str) -> bool:
    """Return whether a table ships for a model's paths from a baseline."""
    return _shipped(model).is_file() and load_table(model, None).baseline == baseline


def _shipped(model: str) -> Path:
    return data_root() / "workloads" / "paths" / f"{model}.yaml"
