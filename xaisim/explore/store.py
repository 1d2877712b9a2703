"""A sweep's store, read only: one row per design point, while the sweep may go on writing.

    reader = StoreReader("sweep.sqlite")
    store = reader.read()          # title, objectives, points
    reader.details(store.points[0].hash), reader.map("9f…"), reader.stamp()

Whatever cannot be read raises ``UserError`` with one line.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xaisim.config import UserError
from xaisim.sweep.rules import Objective
from xaisim.sweep.store import SCHEMA_VERSION

STATUSES = ("done", "running", "pruned", "failed")


@dataclass(frozen=True, slots=True)
class Point:
    """A design point: what went in, how far it came, what came out."""

    hash: str
    inputs: dict[str, Any]
    status: str
    rung: str | None
    outputs: dict[str, Any]
    error: str | None
    map: str | None
    finished: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Store:
    """All points of a sweep, those that finished first in front."""

    title: str
    version: str
    space: str
    objectives: tuple[Objective, ...]
    points: tuple[Point, ...]


class StoreReader:
    """Opens the file anew for every question, so that nothing is held while a sweep writes."""

    def __init__(self, path: str | Path) -> None:
        """See that the file is a store of the right version; raises :class:`UserError`."""
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{self.path}: " + ("is a folder" if self.path.is_dir() else "no such file"))
        with self._open() as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if not version or not {"points", "meta", "maps"} <= tables:
            raise UserError(f"{self.path}: is a database, but no store of a sweep")
        if version != SCHEMA_VERSION:
            age = "a newer" if version > SCHEMA_VERSION else "an older"
            versions = f"store version {version}, this one reads {SCHEMA_VERSION}"
            raise UserError(f"{self.path}: was made by {age} version of xaisim ({versions})")

    def read(self) -> Store:
        """Return everything but what belongs to single points (:meth:`details`, :meth:`map`)."""
        columns = "hash, inputs, status, rung, outputs, error, maps, finished, seconds"
        with self._open() as db:
            meta = dict(db.execute("SELECT key, value FROM meta"))
            rows = db.execute(f"SELECT {columns} FROM points ORDER BY finished IS NULL, finished, hash").fetchall()
        return Store(
            title=meta.get("title") or self.path.stem,
            version=meta.get("version") or "",
            space=meta.get("space") or "",
            objectives=self._objectives(meta.get("objectives")),
            points=tuple(self._point(row) for row in rows),
        )

    def details(self, hash: str) -> dict[str, Any]:
        """Return a point's command and breakdown; nothing for a point that is not there."""
        with self._open() as db:
            row = db.execute("SELECT command, breakdown FROM points WHERE hash = ?", (hash,)).fetchone()
        return {} if row is None else self._details(hash, *row)

    def all_details(self) -> dict[str, dict[str, Any]]:
        """Return :meth:`details` of all points by hash."""
        with self._open() as db:
            rows = db.execute("SELECT hash, command, breakdown FROM points").fetchall()
        return {hash: self._details(hash, command, breakdown) for hash, command, breakdown in rows}

    def map(self, key: str) -> dict[str, Any] | None:
        """Return the picture and the maps under ``key``."""
        with self._open() as db:
            row = db.execute("SELECT data FROM maps WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._json(row[0], f"map {key}")

    def stamp(self) -> str:
        """Return a short text that changes whenever the points do."""
        with self._open() as db:
            rows = db.execute(
                "SELECT status, count(*), max(started), max(finished), sum(finished) FROM points "
                "GROUP BY status ORDER BY status"
            ).fetchall()
        return json.dumps(rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file read only. A database in WAL mode in a folder without write access opens where it is whole."""
        name = quote(str(self.path.absolute()))
        log = self.path.with_name(self.path.name + "-wal")
        db = None
        try:
            try:
                db = sqlite3.connect(f"file:{name}?mode=ro", uri=True, timeout=10)
                db.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:
                if db is None or (log.exists() and log.stat().st_size):
                    raise
                db.close()
                db = sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)
            yield db
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path}: cannot be read as a store: {error}") from None
        finally:
            if db is not None:
                db.close()

    def _objectives(self, text: str | None) -> tuple[Objective, ...]:
        found = self._json(text, "meta 'objectives'") if text else []
        try:
            pairs = [(str(each["name"]), each["direction"]) for each in found]
        except (TypeError, KeyError):
            raise UserError(f"{self.path}: meta 'objectives' must be a list of name and direction") from None
        wrong = [direction for _, direction in pairs if direction not in ("min", "max")]
        if wrong:
            raise UserError(f"{self.path}: an objective's direction is {wrong[0]!r}; choices: min, max")
        return tuple(Objective(name, direction) for name, direction in pairs)

    def _point(self, row: tuple[Any, ...]) -> Point:
        hash, inputs, status, rung, outputs, error, map, finished, seconds = row
        return Point(
            hash=hash,
            inputs=self._object(inputs, hash, "inputs"),
            status=status,
            rung=rung,
            outputs=self._object(outputs, hash, "outputs"),
            error=error,
            map=map,
            finished=finished,
            seconds=seconds,
        )

    def _details(self, hash: str, command: str | None, breakdown: str | None) -> dict[str, Any]:
        return {"command": command or "", "breakdown": self._object(breakdown, hash, "breakdown")}

    def _object(self, text: str | None, hash: str, what: str) -> dict[str, Any]:
        found = self._json(text, f"{what} of point {hash[:12]}") if text else {}
        if not isinstance(found, dict):
            raise UserError(f"{self.path}: {what} of point {hash[:12]} must be a JSON object")
        return found

    def _json(self, text: str, what: str) -> Any:
        try:
            return json.loads(text, parse_constant=lambda _: None)  # what is not a number is nothing
        except (ValueError, TypeError):
            raise UserError(f"{self.path}: {what}: is not JSON") from None
