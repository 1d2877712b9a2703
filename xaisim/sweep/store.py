"""The store of a sweep: one SQLite file with a row per point, safe for several writers and against kills.

    with Store.create(Path("store.sqlite"), meta) as store:
        mine = store.claim(points)           # those that nobody else has or had
        store.finish(mine[0], result)

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
from typing import Any, Concatenate, ParamSpec, TypeVar

from xaisim.config import UserError
from xaisim.sweep.evaluate import Result
from xaisim.sweep.owner import holds, own_name
from xaisim.sweep.point import Point

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


def _told(method: Callable[Concatenate[Store, P], R]) -> Callable[Concatenate[Store, P], R]:
    """Turn errors of SQLite into one line."""

    @wraps(method)
    def run(store: Store, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(store, *args, **kwargs)
        except sqlite3.Error as error:
            raise UserError(f"{store.path}: {_reason(error)}") from None

    return run


class Store:
    """An open store. Every method raises :class:`~xaisim.config.UserError` where the file cannot be used."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path, self._db = path, db
        self.owner = own_name()

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, str]) -> Store:
        """Open a store to write, making it where there is none; ``meta`` is kept of who came first."""
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
        store = cls(path, _connected(path, f"file:{_quoted(path)}?mode=rwc"))
        try:
            with store._transaction():
                if not store._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in _SCHEMA.split(";\n"):
                        store._db.execute(statement)
                    store._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                store._check_schema()
                store._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(meta.items()))
        except sqlite3.Error as error:
            raise UserError(f"{path}: {_reason(error)}") from None
        return store

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open a store that is there, to read alone."""
        if not path.is_file():
            raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such store'}; 'xaisim sweep' makes one")
        try:
            store = cls(path, _connected(path, f"file:{_quoted(path)}?mode=ro"))
            store._check_schema()
        except sqlite3.Error as error:
            raise UserError(f"{path}: {_reason(error)}") from None
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

    @_told
    def finished(self, hashes: Iterable[str] | None = None) -> dict[str, Row]:
        """Return finished points by hash: all of them, or those of ``hashes``."""
        columns = "hash, inputs, status, rung, outputs, error, command"
        query = f"SELECT {columns} FROM points WHERE status != 'running'"
        if hashes is None:
            rows = self._db.execute(f"{query} ORDER BY rowid").fetchall()
        else:
            one = f"{query} AND hash = ?"
            rows = [row for wanted in hashes for row in self._db.execute(one, (wanted,)).fetchall()]
        return {row[0]: _row(row) for row in rows}

    @_told
    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return (columns, rows) of any statement that reads; the inputs and outputs are JSON, see ``->>``."""
        cursor = self._db.execute(sql)
        return [column[0] for column in cursor.description or ()], cursor.fetchall()

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


def _connected(path: Path, uri: str) -> sqlite3.Connection:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; a store is a file")
    try:
        db = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None, check_same_thread=False)
        if uri.endswith("rwc"):
            _set_journal(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise UserError(f"{path}: {_reason(error)}") from None
    return db


def _set_journal(db: sqlite3.Connection) -> None:
    """Write ahead; where the file system cannot (most that go over a network), keep SQLite's older journal."""
    try:
        db.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "readonly" in str(error) or "read-only" in str(error):
            raise
        db.execute("PRAGMA journal_mode = DELETE")


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _reason(error: sqlite3.Error) -> str:
    told = {
        "unable to open database file": "cannot be opened (no permission, or no room on the disk)",
        "attempt to write a readonly database": "is read-only",
        "database or disk is full": "the disk is full; what is finished is kept",
        "disk I/O error": "the disk cannot be written (full, or a fault); what is finished is kept",
        "file is not a database": "is no store: not an SQLite file",
        "database is locked": "another process holds it for more than a minute",
    }
    return told.get(str(error), str(error))


def _row(row: Sequence[Any]) -> Row:
    key, inputs, status, rung, outputs, error, command = row
    return Row(key, json.loads(inputs), status, rung, json.loads(outputs or "{}"), error, command)
