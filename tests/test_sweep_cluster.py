"""Do workers of Dask fill the same store, whoever of them is killed?"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sweeps import content, ended, space_file, space_of, start

from xaisim.config import UserError
from xaisim.sweep import workers
from xaisim.sweep.evaluate import Result
from xaisim.sweep.point import Point
from xaisim.sweep.run import sweep

pytest.importorskip("distributed")


def children(parent: int) -> list[int]:
    """Return the processes below one, the youngest last."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, after = int(path.parent.name), path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(after[1]) == parent:
            found += [number, *children(number)]
    return sorted(found)


def command_of(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_text()
    except OSError:
        return ""


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.sqlite", tmp_path / "store.sqlite"
    sweep(space_of(tmp_path), whole)
    process = start(str(space_file(tmp_path)), "-o", str(path), "--workers", "2")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _running(path) == 0:
        time.sleep(0.02)
    workers_there = [number for number in children(process.pid) if "spawn_main" in command_of(number)]
    assert workers_there
    os.kill(workers_there[0], signal.SIGKILL)
    ended(process)
    assert content(path) == content(whole)


def _running(path: Path) -> int:
    if not path.exists():
        return 0
    with sqlite3.connect(path) as db:
        if not db.execute("SELECT name FROM sqlite_master").fetchall():
            return 0
        return int(db.execute("SELECT count(*) FROM points").fetchone()[0])


def test_an_existing_cluster_is_attached_to(tmp_path: Path) -> None:
    from distributed import LocalCluster

    space, path, whole = space_of(tmp_path), tmp_path / "store.sqlite", tmp_path / "whole.sqlite"
    sweep(space, whole)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, scheduler_port=0
    ) as cluster:
        found = sweep(space, path, cluster=cluster.scheduler_address)
    assert found.computed == 12
    assert content(path) == content(whole)


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match=r"cluster tcp://127\.0\.0\.1:9: no scheduler there"):
        sweep(space_of(tmp_path), tmp_path / "s.sqlite", cluster="tcp://127.0.0.1:9")


def test_threads_of_the_coordinator_end(tmp_path: Path) -> None:
    before = threading.active_count()
    sweep(space_of(tmp_path), tmp_path / "s.sqlite")
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_point_that_ends_every_worker_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, evaluate = space_of(tmp_path), workers.evaluate_task

    def deadly(rules: object, memo: object, points: list[Point]) -> list[Result]:
        if any('"arch.array.rows": 8' in json.dumps(point.inputs) for point in points):
            os._exit(1)
        return evaluate(rules, memo, points)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "evaluate_task", deadly)
    found = sweep(space, tmp_path / "s.sqlite", workers=2)
    lost = [row for row in found.rows if row.status == "failed"]
    assert [row.inputs["arch.array.rows"] for row in lost] == [8] * 4
    assert all("its worker was lost" in (row.error or "") for row in lost)
    assert found.count("done") > 0
