"""The SQLite file of a store: opened to write or to read, with errors that say what to do.

with told(path):
    db = opened(path)             # to write; there afterwards, if it was not
    db = opened_to_read(path)     # in a folder without write access, too
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xaisim.config import UserError

_NO_FILE_BESIDE_IT = (sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_CANTOPEN)


def opened(path: Path) -> sqlite3.Connection:
    """Return a database to write; raises ``sqlite3.Error``."""
    db = _connected(path, "mode=rwc")
    _set_journal(db)
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def opened_to_read(path: Path) -> sqlite3.Connection:
    """Return a database that cannot be written; raises ``sqlite3.Error``.

    To read one that is written ahead, SQLite makes files beside it. Where it may not, the file is read as one that
    nobody changes, unless a log beside it has the rest.
    """
    try:
        return _connected(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NO_FILE_BESIDE_IT or _has_log(path):
            raise
        return _connected(path, "mode=ro&immutable=1")


def answered(db: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Return the answer to a user's question of a database that cannot be written; raises ``sqlite3.Error``.

    No other file is opened (``VACUUM INTO`` attaches one, too), and nothing is set.
    """
    db.set_authorizer(_may_be_asked)
    try:
        return db.execute(sql)
    finally:
        db.set_authorizer(None)


def _may_be_asked(action: int, _first: str | None, second: str | None, *_: str | None) -> int:
    sets = action == sqlite3.SQLITE_PRAGMA and second is not None
    return sqlite3.SQLITE_DENY if sets or action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into a :class:`UserError` of one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(f"{path}: {_reason(error)}") from None


def _connected(path: Path, options: str) -> sqlite3.Connection:
    name = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    address = f"file:{name}?{options}"
    db = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None, check_same_thread=False)
    db.execute("SELECT 1 FROM sqlite_master").fetchone()  # a file is looked at when it is first asked
    return db


def _set_journal(db: sqlite3.Connection) -> None:
    """Write ahead; where the file system cannot (most that go over a network), keep SQLite's older journal."""
    try:
        db.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "readonly" in str(error) or "read-only" in str(error):
            raise
        db.execute("PRAGMA journal_mode = DELETE")


def _has_log(path: Path) -> bool:
    logs = (path.with_name(path.name + ending) for ending in ("-wal", "-journal"))
    return any(log.exists() and log.stat().st_size for log in logs)


def _reason(error: sqlite3.Error) -> str:
    known = {
        "unable to open database file": "cannot be opened (no permission, or no room on the disk)",
        "attempt to write a readonly database": "is read-only",
        "database or disk is full": "the disk is full; what is finished is kept",
        "disk I/O error": "the disk cannot be written (full, or a fault); what is finished is kept",
        "not authorized": "only what reads the store itself is answered",
        "file is not a database": "is no store: not an SQLite file",
        "database is locked": "another process holds it for more than a minute",
    }
    return known.get(str(error), str(error))
