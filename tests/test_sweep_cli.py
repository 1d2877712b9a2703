"""Do the sweep's commands say what is wrong with what was typed, and overwrite nothing that was not theirs?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sweeps import SMALL, space_file

from xaisim.cli import main
from xaisim.config import UserError
from xaisim.sweep.run import sweep
from xaisim.sweep.space import load_space

FEW = SMALL.replace("[8, 16, 32]", "[8]").replace("[32KiB, 64KiB]", "[32KiB]")


def typed(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, words)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    sweep(load_space(space_file(folder, FEW)), folder / "s.sqlite")
    return folder / "s.sqlite"


def test_a_command_with_a_slip_is_not_taken_for_a_space(store: Path) -> None:
    told = typed("fron", store)
    assert (told.exit_code, "no space and no command 'fron'; did you mean 'front'?" in told.output) == (2, True)


def test_an_export_replaces_a_file_only_when_told(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text("mine")
    told = typed("export", store, "-o", file)
    assert (told.exit_code, file.read_text()) == (2, "mine")
    assert "exists already; choose another name or use --force" in told.output
    assert typed("export", store, "-o", file, "--force").exit_code == 0
    assert len(file.read_text().splitlines()) == 3


def test_columns_of_one_name_lose_nothing(store: Path) -> None:
    twice = typed("query", store, "SELECT hash, hash FROM points", "--json")
    assert (twice.exit_code, "two columns are called 'hash'; tell them apart with AS" in twice.output) == (2, True)
    apart = typed("query", store, "SELECT hash, status AS s FROM points", "--json")
    assert [set(row) for row in json.loads(apart.output)] == [{"hash", "s"}] * 2


@pytest.mark.parametrize(
    "sql",
    [
        "VACUUM INTO '{0}'",
        "ATTACH '{0}' AS other",
        "DELETE FROM points",
        "PRAGMA user_version = 9",
        "CREATE TABLE t (a)",
    ],
)
def test_a_question_changes_nothing(store: Path, tmp_path: Path, sql: str) -> None:
    other, before = tmp_path / "other.sqlite", store.read_bytes()
    told = typed("query", store, sql.format(other))
    assert (told.exit_code, other.exists(), store.read_bytes() == before) == (2, False, True)
    assert len(told.output.strip().splitlines()) == 1


def test_a_question_may_look_into_breakdowns(store: Path) -> None:
    asked = "SELECT key, value FROM json_each((SELECT breakdown ->> '$.cycles' FROM points LIMIT 1))"
    rows = dict(line.split("\t") for line in typed("query", store, asked).output.splitlines()[1:])
    assert int(rows["array busy"]) > 0


@pytest.mark.parametrize("place", ["folder", "text.sqlite", "nowhere/s.sqlite"])
def test_a_sweep_that_is_refused_leaves_nothing(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.sqlite").write_text("no store " * 100)
    space = space_file(tmp_path, FEW)
    before = sorted(tmp_path.rglob("*"))
    told = typed(space, "-o", tmp_path / place, "--workers", "2")
    assert (told.exit_code, len(told.output.splitlines()), sorted(tmp_path.rglob("*"))) == (2, 1, before)


def test_a_sweep_without_one_good_point_ends_with_one(tmp_path: Path) -> None:
    impossible = FEW.replace("arch.memories.weights.size: [32KiB]", "arch.memories.activations.size: [64B, 128KiB]")
    path = space_file(tmp_path, impossible.replace("arch: edge", "numerics: fixed16, arch: edge"))
    some = typed(path, "-o", tmp_path / "s.sqlite")
    assert (some.exit_code, "2 failed" in some.output) == (0, True), some.output
    space = space_file(tmp_path, impossible.replace("64B, 128KiB", "64B"), "none.yaml")
    try:
        load_space(space)
    except UserError:
        pytest.fail("that it fits nowhere is no mistake in the file")
    none = typed(space, "-o", tmp_path / "none.sqlite")
    assert (none.exit_code, "no front: no point is done" in none.output) == (1, True), none.output


def test_a_cluster_that_is_not_there_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaisim.sweep.workers._CONNECT_SECONDS", 1)
    told = typed(space_file(tmp_path, FEW), "-o", tmp_path / "s.sqlite", "--cluster", "tcp://127.0.0.1:9")
    assert (told.exit_code, list(tmp_path.glob("s.sqlite*"))) == (2, [])
