"""Where a study keeps what it has computed, so that one that was stopped goes on where it was.

    cells = Cells(Path("study/cells.sqlite"), code_digest())
    row = cells.get(("resnet18_tiny", "scene:3", "nuig"), lambda: compute(...))     # JSON-able

Each cell is committed as soon as it is there; those of other code are never used.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from xaisim.config import UserError

Key = tuple[str | int | float, ...]


class Cells:
    """A table of finished pieces of work in one SQLite file, or in memory where there is no path."""

    def __init__(self, path: Path | None, version: str) -> None:
        """Open or make the file; raises :class:`UserError` where it cannot be written or is something else."""
        self.version, self._path = version, path
        self.made = self.found = 0
        try:
            self._db = sqlite3.connect(":memory:" if path is None else path, timeout=60, isolation_level=None)
            self._db.execute("CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute("DELETE FROM cells WHERE key = ''")  # sees that it can be written
        except sqlite3.Error as error:
            raise UserError(f"{path}: cannot keep results there: {error}") from None

    def get(self, key: Key, compute: Callable[[], Any]) -> Any:
        """Return the value under ``key``, computing and keeping it where it is not there yet."""
        text = json.dumps([self.version, *key], ensure_ascii=False)
        try:
            row = self._db.execute("SELECT value FROM cells WHERE key = ?", (text,)).fetchone()
            if row is not None:
                self.found += 1
                return json.loads(row[0])
            value = json.dumps(compute(), ensure_ascii=False)
            self._db.execute("INSERT OR IGNORE INTO cells VALUES (?, ?)", (text, value))
        except sqlite3.Error as error:
            raise UserError(f"{self._path}: cannot keep results there: {error}") from None
        self.made += 1
        return json.loads(value)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Cells:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
