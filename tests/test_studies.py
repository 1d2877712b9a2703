"""Do studies say what was computed, go on where they were stopped, and refuse what they cannot use?"""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from xaisim.cli import main
from xaisim.config import UserError
from xaisim.report.chart import Bars, Chart, Line, Panel, axes_of, draw_chart
from xaisim.studies import edge, gradcam
from xaisim.studies.cells import Cells
from xaisim.studies.study import Setting, Table, table_text


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["study", *map(str, arguments)])


def silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


# Cells ----------------------------------------------------------------------------------------------------------------


def test_what_is_computed_once_is_found_again_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cells.sqlite"
    with Cells(path, "a") as cells:
        assert cells.get(("x", 1), lambda: {"value": 2.5}) == {"value": 2.5}
    with Cells(path, "a") as cells:
        assert cells.get(("x", 1), lambda: pytest.fail("computed again")) == {"value": 2.5}
        assert (cells.made, cells.found) == (0, 1)


def test_cells_of_other_code_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "cells.sqlite"
    for version in ("a", "b"):
        with Cells(path, version) as cells:
            assert cells.get(("x",), lambda version=version: version) == version  # type: ignore[misc]


def test_a_study_that_was_stopped_loses_no_finished_piece(tmp_path: Path) -> None:
    path = tmp_path / "cells.sqlite"

    def stop_at_third(_what: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    setting = Setting(models=("cifar_cnn",), archs=("pynq_z2",))
    with Cells(path, "a") as cells, pytest.raises(KeyboardInterrupt):
        edge.study(setting, cells, stop_at_third)
    with Cells(path, "a") as cells:
        again = edge.study(setting, cells, silent)
        assert cells.found == 2
    with Cells(None, "a") as fresh:
        assert again == edge.study(setting, fresh, silent)


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cells.sqlite"
    path.write_text("not a database, and long enough to be looked at " * 30)
    with pytest.raises(UserError, match=r"cells\.sqlite: cannot keep results there: file is not a database"):
        Cells(path, "a")


# The studies ----------------------------------------------------------------------------------------------------------


def test_folding_makes_gradcam_cheaper_and_no_mask_is_kept() -> None:
    row = gradcam.measured("resnet18_tiny", "pynq_z2")
    static, head, full = (row[way] for way in gradcam.WAYS)
    assert 0 < static < head < full
    assert static < 0.005 * row["inference"]
    assert full > row["inference"] * 0.9
    assert [row[f"{way}, bits"] for way in gradcam.WAYS] == [0, 0, 188_416 + 65_536]
    assert row["static, MAC"] == 128 * 4 * 4


def test_least_memory_is_pool_indices_and_flat_masks() -> None:
    row = edge.measured("cifar_cnn", "saliency", "pynq_z2")
    assert row["least_bits"] == 24_704
    assert edge.measured("cifar_cnn", "deconvnet", "pynq_z2")["least_bits"] == 24_576
    outputs = 2 * 32 * 32 * 32 + 32 * 16 * 16 + 2 * 64 * 16 * 16 + 64 * 8 * 8 + 128 + 10
    assert row["framework_bits"] == 32 * outputs
    assert row["forward_mac"] == 25_003_264
    assert row["backward_mac"] == 25_003_264 - 128 * 10, "the class's row of the head is a constant"
    assert row["total_ms"] == pytest.approx(row["inference_ms"] * (1 + row["overhead"]))
    assert math.isclose(sum(row["causes"].values()), 1)


def test_the_command_writes_table_picture_and_json_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    first = run("edge", "--quick", "-o", folder)
    assert first.exit_code == 0, first.output
    assert {path.name for path in folder.iterdir()} == {"cells.sqlite", "edge.md", "edge.png", "edge.json"}
    data = json.loads((folder / "edge.json").read_text())
    assert [row["method"] for row in data["tables"][0]["rows"]] == list(edge.METHODS)
    assert (folder / "edge.md").read_text().startswith(f"# {edge.TITLE}\n")
    with Image.open(folder / "edge.png") as picture:
        assert min(picture.size) > 300
    with sqlite3.connect(folder / "cells.sqlite") as database:
        before = database.execute("SELECT count(*) FROM cells").fetchone()
    again = run("edge", "--quick", "-o", folder, "--json")
    assert json.loads(again.stdout) == data
    with sqlite3.connect(folder / "cells.sqlite") as database:
        assert database.execute("SELECT count(*) FROM cells").fetchone() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grdcam",), "error: unknown study 'grdcam'; did you mean 'gradcam'?"),
        (("edge", "--weights", "a.pth"), "error: study edge times shapes alone: it takes no --images and no --weights"),
        (("edge", "--model", "resnet"), "error: unknown model 'resnet'"),
        (("edge", "--arch", "pynq"), "error: unknown architecture 'pynq'"),
    ],
)
def test_a_wrong_setting_is_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = run(*arguments, "-o", tmp_path / "study")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("edge", "--quick", "-o", tmp_path)
    assert (result.exit_code, [path.name for path in tmp_path.iterdir()]) == (2, ["thesis.tex"])
    assert "is not empty and is no study's folder (it has thesis.tex)" in result.stderr


# Tables and charts ----------------------------------------------------------------------------------------------------


def test_numbers_stand_on_the_right() -> None:
    table = Table("t", "", ("who", "n"), [("a", 1234), ("b|c", None)])
    assert table_text(table) == "| who | n |\n| --- | ---: |\n| a | 1,234 |\n| b\\|c | – |"
    with pytest.raises(ValueError, match="a row of 1 cells under 2 columns"):
        Table("t", "", ("who", "n"), [("a",)])


LINES = Panel("p", "x", "y", (Line("a", (1, 10, 1000), (0.5, 0.02, 3.0)),), log_x=True, log_y=True)
BARS = Panel("p", "", "y", (Bars("a", (0.2, None)), Bars("b", (0.7, 0.1))), ("one", "two"), guides=((0.9, "goal"),))


@pytest.mark.parametrize("panel", [LINES, BARS])
def test_axes_hold_everything_that_is_drawn(panel: Panel) -> None:
    x, y = axes_of(panel)
    values: list[Any] = [v for s in panel.series for v in s.y if v is not None] + [height for height, _ in panel.guides]
    assert y.low <= min(values)
    assert max(values) <= y.high
    assert x.low < x.high
    assert list(y.ticks) == sorted(y.ticks)


def test_a_chart_shows_its_series_in_their_colours(tmp_path: Path) -> None:
    draw_chart(Chart("t", (LINES, BARS)), tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    for wanted in ((0, 114, 178), (213, 94, 0)):
        assert any(sum(abs(a - b) for a, b in zip(wanted, c, strict=True)) < 24 for c in colours)
