"""Do the notebook-style examples run from their first cell to their last?"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))
NEEDS = {"pair_saliency": ("saliency",), "quantus_metrics": ("torch", "quantus")}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in NEEDS.get(path.stem, ()):
        pytest.importorskip(package)
    assert path.read_text().startswith("# %% [markdown]\n# # ")
    runpy.run_path(str(path))
    assert capsys.readouterr().out.count("\n") >= 1
