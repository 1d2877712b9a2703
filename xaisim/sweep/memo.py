"""What was computed once is never computed again: results under the hash of all they depend on, in one SQLite file.

    memo = Memo(Path("store.memo.sqlite"))
    memo.get_many(["ab12…"]), memo.put_many({"ab12…": {"cycles": 7}})

Several processes may use one file. It is only a cache: it can be deleted at any time, and where it cannot be
written the results are kept in this process alone.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from xaisim.experiment import code_digest

_KEPT = 20_000
"""Results that a process keeps beside the file."""


def key_of(*parts: Any) -> str:
    """Return the key of results that depend on ``parts`` and on this very code."""
    text = json.dumps([code_digest(), *parts], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Memo:
    """Results by key; JSON-able mappings."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.found = self.made = 0
        self._near: OrderedDict[str, Any] = OrderedDict()
        self._db = _opened(path) if path is not None else None

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return what is there of ``keys``."""
        wanted = list(dict.fromkeys(keys))
        found = {key: self._near[key] for key in wanted if key in self._near}
        missing = [key for key in wanted if key not in found]
        if missing and self._db is not None:
            marks = ",".join("?" * len(missing))
            try:
                rows = self._db.execute(f"SELECT key, value FROM memo WHERE key IN ({marks})", missing).fetchall()
            except sqlite3.Error:  # a cache that is broken is a cache that is empty
                rows = []
            for key, value in rows:
                found[key] = json.loads(value)
                self._keep(key, found[key])
        self.found += len(found)
        return found

    def put_many(self, results: Mapping[str, Any]) -> None:
        """Keep results; what is there already stays."""
        for key, value in results.items():
            self._keep(key, value)
        self.made += len(results)
        if self._db is not None and results:
            rows = [(key, json.dumps(value)) for key, value in results.items()]
            try:
                self._db.executemany("INSERT OR IGNORE INTO memo VALUES (?, ?)", rows)
            except sqlite3.Error:  # the disk is full, or another holds it for too long
                self._db = None

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the result under ``key``, computing it where it is not there."""
        found = self.get_many([key])
        if key not in found:
            found[key] = json.loads(json.dumps(compute()))  # the same whether it was read back or not
            self.put_many(found)
        return found[key]

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()

    def _keep(self, key: str, value: Any) -> None:
        self._near[key] = value
        if len(self._near) > _KEPT:
            self._near.popitem(last=False)


def _opened(path: Path) -> sqlite3.Connection | None:
    """Return the open file, or None where there can be none."""
    try:
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")  # a cache may lose its last entries, and costs nothing per entry
        db.execute("CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    except sqlite3.Error:
        return None
    return db
