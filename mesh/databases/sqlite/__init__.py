"""SQLite: one file a service, one connection that writes it, readers that never wait for it.

Refuses to be shared: a lock beside the file keeps every other process out, and within this one
only the writer's connection writes or checkpoints (SQLite before 3.51.3 can damage a file in which
two connections do). Nothing outside SQLite may `open()` the file, its `-wal` or its `-shm`
while it is open here, since closing such a descriptor drops SQLite's locks; sizes are read by
`stat`. A process must not fork while a database is open: the child would share its locks and
its descriptors.

Start reading at `database.py`; `writer.py` is the heart.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from mesh.databases.sqlite.connections import open_reader
from mesh.databases.sqlite.copies import Copies, opened
from mesh.databases.sqlite.database import SqliteDatabase
from mesh.databases.sqlite.faults import fault
from mesh.databases.sqlite.files import Place
from mesh.databases.sqlite.rows import filler
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Copies", "SqliteDatabase", "connect", "file_of", "opened", "rows"]

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


async def connect(url: str, directory: Path, name: str, patience: int = 1) -> SqliteDatabase:
    """Open `directory/name.db`, made if it never was.

    Args:
        url: `sqlite://` and nothing more: where the file lies is not configurable.
        patience: how many times its usual time a transaction waits for a disk that stalls.

    Raises: InvalidInput, AlreadyRunning (another process holds it), DatabaseBroken (damaged,
        gone although it was there, or not writable), DatabaseBusy (locked by a foreign program).
    """
    if url != "sqlite://":
        raise InvalidInput(
            f"{url!r} names a place, but the file always lies in the service's own directory",
            hint="write sqlite://",
        )
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} cannot be the name of a database file")
    return await SqliteDatabase.open(directory, name, patience)


def file_of(directory: Path, name: str) -> Path:
    """Where the database lies."""
    return Place(directory, name).file


def rows(file: Path, shape: type[T], sql: str) -> list[T]:
    """Rows of a file that nobody has open. Raises: DatabaseBroken, SchemaMismatch."""
    connection = open_reader(file)
    try:
        cursor = connection.execute(sql)
        fill = filler(shape, tuple(column[0] for column in cursor.description))
        return [fill(row) for row in cursor.fetchall()]
    except sqlite3.Error as error:
        raise fault(error, file) from error
    finally:
        connection.close()
