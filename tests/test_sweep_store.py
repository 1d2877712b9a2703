"""Does a store lose or repeat anything, whoever writes to it and whatever happens to them?"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import content, ended, space_file, space_of, start

from xaisim.cli import main
from xaisim.config import UserError
from xaisim.sweep import store as store_module
from xaisim.sweep.evaluate import Result
from xaisim.sweep.run import sweep
from xaisim.sweep.store import SCHEMA_VERSION, Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was filled without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "store.sqlite"
    sweep(space_of(folder), path)
    return path


def test_a_finished_sweep_computes_nothing_again(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(whole, path)
    again = sweep(space_of(tmp_path), path)
    assert (len(again.rows), again.computed) == (12, 0)
    assert content(path) == content(whole)


@pytest.mark.slow
def test_twenty_kills_lose_and_repeat_nothing(whole: Path, tmp_path: Path) -> None:
    assert content(killed_at_random(tmp_path, times=20)) == content(whole)


def test_kills_lose_and_repeat_nothing(whole: Path, tmp_path: Path) -> None:
    assert content(killed_at_random(tmp_path, times=3)) == content(whole)


def killed_at_random(folder: Path, *, times: int) -> Path:
    """Kill a sweep ``times`` times, each after it has begun to work, let it end, and return its store."""
    rng, path, space = random.Random(times), folder / "store.sqlite", str(space_file(folder))
    finished: set[str] = set()
    for _ in range(times):
        process = start(space, "-o", str(path))
        while process.poll() is None and not _owned_by(path, process.pid):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        _forget_memo(path)  # else the second run would find everything there and be through at once
        now = _finished(path)
        assert finished <= now, "a finished point is gone"
        finished = now
        if rng.random() < 0.5:  # some points once more, so that there is something left to kill
            finished -= _undo(path, rng)
    ended(start(space, "-o", str(path)))
    return path


def _finished(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with sqlite3.connect(path) as db:
        tables = db.execute("SELECT name FROM sqlite_master").fetchall()
        return {key for (key,) in db.execute("SELECT hash FROM points WHERE status != 'running'")} if tables else set()


def _owned_by(path: Path, pid: int) -> bool:
    """Return whether a process has claimed a point yet."""
    if not path.exists():
        return False
    with sqlite3.connect(path) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'points'").fetchone():
            return False
        return db.execute("SELECT 1 FROM points WHERE owner LIKE ?", (f"%:{pid}:%",)).fetchone() is not None


def _undo(path: Path, rng: random.Random) -> set[str]:
    if not path.exists():
        return set()
    gone = {key for key in sorted(_finished(path)) if rng.random() < 0.5}
    with sqlite3.connect(path) as db:
        db.executemany("DELETE FROM points WHERE hash = ?", [(key,) for key in gone])
    return gone


def _forget_memo(path: Path) -> None:
    for file in path.parent.glob(path.name + ".memo*"):
        file.unlink()


def test_two_sweeps_fill_one_store_without_doing_a_point_twice(whole: Path, tmp_path: Path) -> None:
    path, space = tmp_path / "store.sqlite", str(space_file(tmp_path))
    started = [start(space, "-o", str(path), "--json") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert sum(json.loads(text)["computed"] for text in said) == 12  # no point was done by both
    assert content(path) == content(whole)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM points WHERE status = 'running'").fetchone() == (0,)


def test_a_claim_is_respected_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(tmp_path)
    point = space.point({key: values[0] for key, values in space.axes.items()})
    with Store.create(tmp_path / "s.sqlite", {}) as mine, Store.create(tmp_path / "s.sqlite", {}) as other:
        other.owner = f"elsewhere:1:{SCHEMA_VERSION}"
        assert other.claim([point]) == [point]
        assert mine.claim([point]) == []
        monkeypatch.setattr(store_module.time, "time", lambda: time.monotonic() + 1e10)  # the lease has ended
        assert mine.claim([point]) == [point]


def test_the_claim_of_a_dead_process_is_void_at_once(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    point = space.point({key: values[0] for key, values in space.axes.items()})
    with Store.create(tmp_path / "s.sqlite", {}) as store:
        child = subprocess.Popen(["sleep", "0"])
        host = store.owner.split(":")[0]
        dead = f"{host}:{child.pid}:1"
        child.wait()
        mine, store.owner = store.owner, dead
        assert store.claim([point]) == [point]
        store.owner = mine
        assert store.claim([point]) == [point]


def test_a_finished_point_is_never_written_again(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    point = space.point({key: values[0] for key, values in space.axes.items()})
    with Store.create(tmp_path / "s.sqlite", {}) as store:
        store.claim([point])
        store.finish([(point, Result("done", "clock", {"cycles": 1}))])
        store.finish([(point, Result("failed", None, error="late"))])
        assert store.finished()[point.hash].status == "done"
        assert store.claim([point]) == []


def test_a_sweep_that_is_stopped_lets_go_of_its_points(tmp_path: Path) -> None:
    path, space = tmp_path / "store.sqlite", space_of(tmp_path)

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(space, path, progress=stop)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT status, count(*) FROM points GROUP BY 1").fetchall() == [("done", 3)]


# --- faults -----------------------------------------------------------------------------------------------------------


def told(*arguments: str) -> str:
    """Run a command that must fail with exit code 2, and return its lines."""
    result = CliRunner().invoke(main, ["sweep", *arguments])
    assert result.exit_code == 2, result.output
    return result.output


def test_a_store_that_is_read_only_says_so(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(whole, path)
    connect = sqlite3.connect  # a test may run as root, whom no permission stops

    def read_only(target: str, **options: object) -> sqlite3.Connection:
        return connect(str(target).replace("mode=rwc", "mode=ro"), **options)  # type: ignore[call-overload]

    monkeypatch.setattr(store_module.sqlite3, "connect", read_only)
    line = told(str(space_file(tmp_path)), "-o", str(path))
    assert line == f"error: {path}: is read-only\n"
    assert content(path) == content(whole)


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """A folder to be locked and one to write into, both within reach of any user."""
    with tempfile.TemporaryDirectory() as name:
        kept, out = Path(name) / "kept", Path(name) / "out"
        Path(name).chmod(0o755)
        kept.mkdir()
        out.mkdir()
        out.chmod(0o777)
        yield kept, out


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Take the right to write into a folder; of root, whom no permission stops, all rights."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    os.seteuid(os.getuid() or 65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)


@pytest.mark.parametrize(
    "command",
    [
        "sweep front {store}",
        "sweep query {store} VALUES(1)",
        "sweep export {store} -o {out}/points.csv",
        "explore {store} --html {out}/page.html",
    ],
)
def test_a_store_in_a_folder_that_cannot_be_written_is_read(
    whole: Path, places: tuple[Path, Path], tmp_path: Path, command: str
) -> None:
    def run(kept: Path, out: Path) -> str:
        result = CliRunner().invoke(main, command.format(store=kept / whole.name, out=out).split())
        assert result.exit_code == 0, result.output
        return result.output.replace(str(out), "OUT")

    for folder in (tmp_path, places[0]):
        shutil.copy(whole, folder)
    expected = run(tmp_path, tmp_path)  # what it imports may lie where root alone can go, so it does that here
    with locked(places[0]):
        assert run(*places) == expected
    assert [file.name for file in places[0].iterdir()] == [whole.name]


def test_a_store_whose_log_cannot_be_read_is_not_shown_without_it(
    whole: Path, places: tuple[Path, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    with closing(sqlite3.connect(path)) as db:
        with db:
            db.execute("INSERT INTO meta VALUES ('later', 'yes')")
        for name in (path.name, f"{path.name}-wal"):
            shutil.copy(tmp_path / name, places[0])
    with locked(places[0]), pytest.raises(UserError, match=r"store\.sqlite: cannot be opened"):
        Store.read(places[0] / path.name)


def test_a_row_that_is_broken_is_named(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(whole, path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE points SET hash = 'abc', outputs = '{' WHERE rowid = 3")
    assert told("front", str(path)) == f"error: {path}: outputs of point abc is no JSON object\n"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE points SET outputs = '{\"latency_ms\": NaN, \"area_mm2\": 1}' WHERE hash = 'abc'")
    with Store.read(path) as store:
        assert store.finished()["abc"].outputs == {"latency_ms": None, "area_mm2": 1}


def test_a_full_disk_loses_nothing_that_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, finish, calls = tmp_path / "store.sqlite", Store.finish, []

    def full(store: Store, done: object) -> None:
        calls.append(done)
        if len(calls) == 4:
            store._db.execute(f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0]}")
            filler = "x" * 200_000
            store._db.execute("INSERT INTO meta VALUES ('filler', ?)", (filler,))
        finish(store, done)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "finish", store_module._told(full))
    with pytest.raises(UserError, match=r"store\.sqlite: the disk is full; what is finished is kept"):
        sweep(space_of(tmp_path), path)
    monkeypatch.setattr(Store, "finish", finish)
    assert sweep(space_of(tmp_path), path).computed == 9


@pytest.mark.parametrize(("version", "age"), [(SCHEMA_VERSION + 1, "a newer"), (SCHEMA_VERSION + 7, "a newer")])
def test_a_store_of_another_version_is_left_alone(whole: Path, tmp_path: Path, version: int, age: str) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(whole, path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    line = told(str(space_file(tmp_path)), "-o", str(path))
    assert line == (
        f"error: {path}: was made by {age} version of xaisim (store version {version}, this one is {SCHEMA_VERSION}); "
        "nothing was changed, give another store\n"
    )
    assert content(path) == content(whole)


def test_an_older_version_is_told_as_one(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(whole, path)
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", 2)
    assert "was made by an older version of xaisim (store version 1, this one is 2)" in told("front", str(path))


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    space = space_file(tmp_path)
    database = tmp_path / "other.sqlite"
    with sqlite3.connect(database) as db:
        db.execute("CREATE TABLE things (name TEXT)")
    assert told(str(space), "-o", str(database)) == f"error: {database}: is a database, but no store of a sweep\n"
    assert told(str(space), "-o", str(space)) == f"error: {space}: is no store: not an SQLite file\n"
    assert told(str(space), "-o", str(tmp_path)) == f"error: {tmp_path}: is a folder; a store is a file\n"
    missing = tmp_path / "no" / "s.sqlite"
    assert told(str(space), "-o", str(missing)) == f"error: {missing}: there is no folder {missing.parent}\n"
    assert told("front", str(missing)) == f"error: {missing}: no such store; 'xaisim sweep' makes one\n"


def test_a_store_of_another_space_or_of_other_code_is_not_mixed(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    shutil.copy(whole, path)
    other = space_file(tmp_path, space_file(tmp_path).read_text().replace("8, 16, 32", "8, 16"), "other.yaml")
    expected = f"error: {path}: holds another space, 'twelve points'; give another store (-o)\n"
    assert told(str(other), "-o", str(path)) == expected
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 'old' WHERE key = 'code'")
    assert "was filled by other code" in told(str(space_file(tmp_path)), "-o", str(path))
    assert sweep(space_of(tmp_path), path, any_code=True).computed == 0
