"""SQLite: one file a service, one thread that writes it, readers that never wait for it.

Refuses to be shared: a lock beside the file keeps every other process out, and within this one
only the writer thread writes or checkpoints (SQLite before 3.51.3 can damage a file in which
two connections do). Nothing outside SQLite may `open()` the file, its `-wal` or its `-shm`
while it is open here, since closing such a descriptor drops SQLite's locks; sizes are read by
`stat`. A process must not fork while a database is open: the child would share its locks and
its descriptors.

Start reading at `database.py`; `writer.py` is the heart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mesh.databases.sqlite.database import SqliteDatabase
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SqliteDatabase", "connect"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


async def connect(url: str, directory: Path, name: str) -> SqliteDatabase:
    """Open `directory/name.db`, made if it never was.

    Args:
        url: `sqlite://` and nothing more: where the file lies is not configurable.

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
    return await SqliteDatabase.open(directory, name)
