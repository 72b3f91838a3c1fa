"""Opening SQLite the one way we do: every setting is made, read back, and must hold."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from mesh.binding import bind_as_they_are
from mesh.clock import MS_PER_S
from mesh.databases.sqlite.faults import broken, fault

if TYPE_CHECKING:
    from pathlib import Path

STATEMENTS_CACHED = 256
"""Prepared statements kept per connection: several times what one service's store holds."""

BUSY_MS = 5000
"""How long the writer waits for a foreign program that holds the file, before a transaction."""

WAL_BYTES = 8 * 1024 * 1024
"""The length that the -wal keeps: 200 to 600 commits, so that a checkpoint is beyond the p99."""

FULL, NORMAL = 2, 1
"""`synchronous`: each commit syncs the -wal, and with it all that went before; or none does."""

WRITER: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": FULL,  # a commit is on the disk before anybody is answered
    "temp_store": 2,  # memory: a spill to /tmp fails inside the sandbox
    "foreign_keys": 1,
    "busy_timeout": 0,  # the event loop waits for nobody; group.py waits on the thread
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,  # an I/O error must be an error code, not a signal
    "secure_delete": 1,  # what is erased leaves no bytes behind
    "wal_autocheckpoint": 0,  # checkpoints.py decides
    "journal_size_limit": WAL_BYTES,
}
READER: dict[str, str | int] = {
    "query_only": 1,
    "temp_store": 2,
    "busy_timeout": 0,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    "wal_autocheckpoint": 0,
}


def _open(
    file: Path, mode: str, settings: dict[str, str | int], *, one_thread: bool
) -> sqlite3.Connection:
    bind_as_they_are()
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(file.absolute()))}?mode={mode}",
            uri=True,
            isolation_level=None,  # BEGIN is said by us, never implied
            cached_statements=STATEMENTS_CACHED,
            timeout=BUSY_MS / MS_PER_S,  # until busy_timeout is set below
            check_same_thread=one_thread,
        )
    except sqlite3.Error as error:
        raise fault(error, file) from error
    try:
        # No extension can be loaded either: Python leaves that off unless it is asked for.
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        for name, value in settings.items():
            _set(connection, file, name, value)
    except sqlite3.Error as error:
        connection.close()
        raise fault(error, file) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _set(connection: sqlite3.Connection, file: Path, name: str, value: str | int) -> None:
    connection.execute(f"PRAGMA {name} = {value}").fetchall()
    row = connection.execute(f"PRAGMA {name}").fetchone()
    found = row[0] if row else 0  # a build without mmap answers nothing
    if found != value:
        raise broken(file, f"PRAGMA {name} is {found!r} where {value!r} was set")


def open_writer(file: Path) -> sqlite3.Connection:
    """The one connection that writes and checkpoints. For one thread at a time.

    Raises: DatabaseBroken, DatabaseBusy.
    """
    return _open(file, "rw", WRITER, one_thread=False)


def open_reader(file: Path) -> sqlite3.Connection:
    """A connection that can only read; opened while a writer is. For the calling thread only.

    Raises: DatabaseBroken, DatabaseBusy.
    """
    return _open(file, "ro", READER, one_thread=True)
