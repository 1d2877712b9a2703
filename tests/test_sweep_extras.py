"""Is a package that is not installed told in one line, with what to install, and does everything else go on?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sweeps import SMALL, space_of

from xaisim.config import UserError
from xaisim.sweep.run import sweep
from xaisim.sweep.table import export


@pytest.mark.parametrize(
    ("package", "kind", "told"),
    [
        ("optuna", "nsga2", "sampler nsga2 needs optuna: pip install 'xaisim[dse]'"),
        ("optuna", "tpe", "sampler tpe needs optuna: pip install 'xaisim[dse]'"),
        ("scipy.stats", "sobol", "sampler sobol needs scipy: pip install 'xaisim[dse]'"),
    ],
)
def test_a_sampler_names_its_extra(
    package: str, kind: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        sweep(space_of(tmp_path, SMALL + f"sampler: {kind}\n"), tmp_path / "s.sqlite")
    assert str(error.value) == told


def test_workers_name_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"several workers need Dask: pip install 'xaisim\[cluster\]'"):
        sweep(space_of(tmp_path), tmp_path / "s.sqlite", workers=2)


def test_a_grid_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("optuna", "moocore", "scipy", "distributed", "dask", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    found = sweep(space_of(tmp_path), tmp_path / "s.sqlite")
    assert (len(found.rows), found.hypervolume) == (12, None)
    assert export(tmp_path / "s.sqlite", tmp_path / "s.csv") == 12
    with pytest.raises(UserError, match=r"Parquet needs pyarrow: pip install 'xaisim\[parquet\]'; or export to .csv"):
        export(tmp_path / "s.sqlite", tmp_path / "s.parquet")
    with pytest.raises(UserError, match=r"hypervolume needs moocore: pip install 'xaisim\[dse\]'"):
        export(tmp_path / "s.sqlite", tmp_path / "s.csv", hypervolume=True)
