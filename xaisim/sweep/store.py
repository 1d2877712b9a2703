"""The store of a sweep: one SQLite file with a row per point, safe for several writers and against kills.

    with Store.create(Path("store.sqlite"), meta) as store:
        mine = store.claim(points)           # those that nobody else has or had
        store.finish([(mine[0], result)])
    with Store.read(Path("store.sqlite")) as store:
        store.finished(), store.points(), store.objectives()

A finished row is never written again. A point is claimed before it is computed; the claim is a lease that its owner
renews, and it is void at once where the owner is a process of this machine that is gone.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args

from xaisim.config import UserError
from xaisim.sweep.database import answered, opened, opened_to_read, told
from xaisim.sweep.evaluate import Result
from xaisim.sweep.owner import holds, own_name
from xaisim.sweep.point import Point
from xaisim.sweep.rules import Direction, Objective

SCHEMA_VERSION = 1
LEASE_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE points (
  hash TEXT PRIMARY KEY, inputs TEXT NOT NULL, status TEXT NOT NULL, rung TEXT, outputs TEXT, error TEXT, command TEXT,
  breakdown TEXT, maps TEXT, owner TEXT, started REAL, finished REAL, seconds REAL, lease REAL
);
CREATE TABLE maps (key TEXT PRIMARY KEY, data TEXT);
CREATE INDEX running ON points (owner) WHERE status = 'running';
"""
_CLAIM = """
INSERT INTO points (hash, inputs, status, command, owner, started, lease) VALUES (?, ?, 'running', ?, ?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET owner = excluded.owner, started = excluded.started, lease = excluded.lease
WHERE status = 'running' AND owner IS ?
"""

_COLUMNS = "hash, inputs, status, rung, outputs, error, command, maps, finished, seconds"
_JSON = json.JSONDecoder(parse_constant=lambda _: None)  # what is not a number is nothing

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Row:
    """A point as the store has it."""

    hash: str
    inputs: dict[str, Any]
    status: str
    rung: str | None
    outputs: dict[str, Any]
    error: str | None
    command: str | None
    maps: str | None
    """The key of its maps."""
    finished: float | None
    """When, in seconds of the clock; None while it is running."""
    seconds: float | None


def _told(method: Callable[Concatenate[Store, P], R]) -> Callable[Concatenate[Store, P], R]:
    """Turn errors of SQLite into one line."""

    @wraps(method)
    def run(store: Store, *args: P.args, **kwargs: P.kwargs) -> R:
        with told(store.path):
            return method(store, *args, **kwargs)

    return run


def check_place(path: Path) -> None:
    """Raise :class:`UserError` where there can be no store."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; a store is a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")


class Store:
    """An open store. Every method raises :class:`~xaisim.config.UserError` where the file cannot be used."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path, self._db = path, db
        self.owner = own_name()

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, str]) -> Store:
        """Open a store to write, making it where there is none; ``meta`` is kept of who came first."""
        check_place(path)
        with told(path):
            store = cls(path, opened(path))
            with store._transaction():
                if not store._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in _SCHEMA.split(";\n"):
                        store._db.execute(statement)
                    store._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                store._check_schema()
                store._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(meta.items()))
        return store

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open a store that is there, to read alone."""
        if not path.is_file():
            raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such store'}; 'xaisim sweep' makes one")
        with told(path):
            store = cls(path, opened_to_read(path))
            store._check_schema()
        return store

    def _check_schema(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version == 0 or not {"meta", "points", "maps"} <= tables:
            raise UserError(f"{self.path}: is a database, but no store of a sweep")
        if version != SCHEMA_VERSION:
            age = "a newer" if version > SCHEMA_VERSION else "an older"
            raise UserError(
                f"{self.path}: was made by {age} version of xaisim (store version {version}, this one is "
                f"{SCHEMA_VERSION}); nothing was changed, give another store"
            )

    # --- reading ------------------------------------------------------------------------------------------------------

    @_told
    def meta(self) -> dict[str, str]:
        """Return all that is known about the store."""
        return dict(self._db.execute("SELECT key, value FROM meta").fetchall())

    def objectives(self) -> list[Objective]:
        """Return what the sweep makes small or large."""
        text = self.meta().get("objectives") or "[]"
        try:
            goals = [Objective(goal["name"], goal["direction"]) for goal in json.loads(text)]
        except (ValueError, KeyError, TypeError):
            wrong = f"is no list of names and directions (got {text[:40]!r})"
            raise UserError(f"{self.path}: meta.objectives: {wrong}") from None
        for goal in goals:
            if goal.direction not in get_args(Direction):
                raise UserError(f"{self.path}: meta.objectives: the direction of {goal.name!r} must be min or max")
        return goals

    @_told
    def finished(self, hashes: Iterable[str] | None = None) -> dict[str, Row]:
        """Return finished points by hash: all of them, or those of ``hashes``."""
        query = f"SELECT {_COLUMNS} FROM points WHERE status != 'running'"
        if hashes is None:
            rows = self._db.execute(f"{query} ORDER BY rowid").fetchall()
        else:
            one = f"{query} AND hash = ?"
            rows = [row for wanted in hashes for row in self._db.execute(one, (wanted,)).fetchall()]
        return {row[0]: self._row(row) for row in rows}

    @_told
    def points(self) -> list[Row]:
        """Return all points: those that are finished, by time, then those that are running."""
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM points ORDER BY finished IS NULL, finished, hash").fetchall()
        return [self._row(row) for row in rows]

    @_told
    def details(self, hash: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the command and the breakdown of points by hash: of all of them, or of one."""
        where, given = ("", ()) if hash is None else (" WHERE hash = ?", (hash,))
        rows = self._db.execute(f"SELECT hash, command, breakdown FROM points{where}", given).fetchall()
        return {
            key: {"command": command or "", "breakdown": self._object(parts or "{}", f"breakdown of point {key[:12]}")}
            for key, command, parts in rows
        }

    @_told
    def map(self, key: str) -> dict[str, Any] | None:
        """Return the picture and the maps under a key; None where there are none."""
        row = self._db.execute("SELECT data FROM maps WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._object(row[0], f"map {key}")

    @_told
    def stamp(self) -> str:
        """Return a short text that changes whenever the points do."""
        parts = "status, count(*), max(started), max(finished), sum(finished)"
        return json.dumps(self._db.execute(f"SELECT {parts} FROM points GROUP BY status ORDER BY status").fetchall())

    @_told
    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return (columns, rows) of any statement that reads; the inputs and outputs are JSON, see ``->>``."""
        cursor = answered(self._db, sql)
        return [column[0] for column in cursor.description or ()], cursor.fetchall()

    def _row(self, columns: Sequence[Any]) -> Row:
        key, inputs, status, rung, outputs, *rest = columns
        given = self._object(inputs, f"inputs of point {key[:12]}")
        found = self._object(outputs or "{}", f"outputs of point {key[:12]}")
        return Row(key, given, status, rung, found, *rest)

    def _object(self, text: str, what: str) -> dict[str, Any]:
        try:
            found = _JSON.decode(text)
        except (ValueError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.path}: {what} is no JSON object")
        return found

    # --- writing ------------------------------------------------------------------------------------------------------

    @_told
    def claim(self, points: Sequence[Point]) -> list[Point]:
        """Return those of ``points`` that are ours now: new ones, and those whose owner is gone or has let go."""
        now, mine = time.time(), []
        with self._transaction():
            for point in points:
                found = self._db.execute("SELECT status, owner, lease FROM points WHERE hash = ?", (point.hash,))
                status, owner, lease = found.fetchone() or ("running", None, 0.0)
                if status != "running" or (owner is not None and owner != self.owner and holds(owner, lease, now)):
                    continue
                inputs = json.dumps(point.inputs, ensure_ascii=False)
                row = (point.hash, inputs, point.command, self.owner, now, now + LEASE_SECONDS, owner)
                self._db.execute(_CLAIM, row)
                mine.append(point)
        return mine

    @_told
    def renew(self) -> None:
        """Keep what we have claimed for another lease."""
        self._db.execute(
            "UPDATE points SET lease = ? WHERE owner = ? AND status = 'running'",
            (time.time() + LEASE_SECONDS, self.owner),
        )

    @_told
    def release(self) -> None:
        """Let go of what we have claimed and not finished."""
        self._db.execute("DELETE FROM points WHERE owner = ? AND status = 'running'", (self.owner,))

    @_told
    def forget_failed(self) -> None:
        """Take out failed points, so that they are done again."""
        self._db.execute("DELETE FROM points WHERE status = 'failed'")

    @_told
    def finish(self, done: Sequence[tuple[Point, Result]]) -> None:
        """Write results, all or none of them; a point that is finished already stays as it is."""
        now = time.time()
        with self._transaction():
            for point, r in done:
                key = None
                if r.maps is not None:
                    key, data = r.maps
                    self._db.execute("INSERT OR IGNORE INTO maps VALUES (?, ?)", (key, json.dumps(data)))
                outputs, parts = json.dumps(r.outputs), None if r.breakdown is None else json.dumps(r.breakdown)
                self._db.execute(
                    "UPDATE points SET status = ?, rung = ?, outputs = ?, error = ?, breakdown = ?, maps = ?, "
                    "finished = ?, seconds = ?, lease = NULL WHERE hash = ? AND status = 'running'",
                    (r.status, r.rung, outputs, r.error, parts, key, now, r.seconds, point.hash),
                )

    @_told
    def note(self, key: str, value: str) -> None:
        """Write a line about the store."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
