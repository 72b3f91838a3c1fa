"""What SQLite's error codes mean to a caller. The only place that knows them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from mesh.errors import (
    Broken,
    Conflict,
    DatabaseBroken,
    DatabaseBusy,
    DatabaseDamaged,
    MeshError,
    StorageFull,
    TooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RESTORE = (
    "`mesh restore NAME` puts a backup in its place; "
    "or move every file beside it with the same stem away, to begin with an empty one"
)

_PRIMARY = 0xFF
"""The low byte of an extended result code is the plain one (sqlite.org/rescode.html)."""


def broken(file: Path, why: str) -> DatabaseBroken:
    """The file cannot be used as it is; the hint says what mends it."""
    return DatabaseBroken(f"{file}: {why}", hint=RESTORE)


def damaged(file: Path, why: str) -> DatabaseDamaged:
    """What is in the file is not to be trusted; likewise."""
    return DatabaseDamaged(f"{file}: {why}", hint=RESTORE)


def _constraint(_file: Path, text: str) -> MeshError:
    return Conflict(
        "a constraint of the database forbids this", code="constraint", evidence=(text,)
    )


def _full(file: Path, _text: str) -> MeshError:
    return StorageFull(f"no space is left for {file}")


def _locked(file: Path, _text: str) -> MeshError:
    return DatabaseBusy(f"{file} is locked by another program")


def _stopped(_file: Path, _text: str) -> MeshError:
    return DatabaseBusy("a read was stopped at its bound")


def _too_large(_file: Path, text: str) -> MeshError:
    return TooLarge(text)


def _wrong(_file: Path, text: str) -> MeshError:
    return Broken(f"a statement is wrong: {text}", code="statement")


_MEANING: dict[int, Callable[[Path, str], MeshError]] = {
    sqlite3.SQLITE_BUSY: _locked,
    sqlite3.SQLITE_CANTOPEN: broken,
    sqlite3.SQLITE_CONSTRAINT: _constraint,
    sqlite3.SQLITE_CORRUPT: damaged,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_INTERRUPT: _stopped,
    sqlite3.SQLITE_IOERR: broken,
    # The -shm could not grow: the file system is full, and nothing else is wrong.
    sqlite3.SQLITE_IOERR_SHMSIZE: _full,
    sqlite3.SQLITE_LOCKED: _locked,
    sqlite3.SQLITE_NOLFS: broken,
    sqlite3.SQLITE_NOTADB: damaged,
    sqlite3.SQLITE_PERM: broken,
    sqlite3.SQLITE_PROTOCOL: _locked,
    # Plain READONLY is a write on a reader, a mistake of ours. These are the file's:
    sqlite3.SQLITE_READONLY_CANTINIT: broken,
    sqlite3.SQLITE_READONLY_CANTLOCK: broken,
    sqlite3.SQLITE_READONLY_DBMOVED: broken,
    sqlite3.SQLITE_READONLY_DIRECTORY: broken,
    sqlite3.SQLITE_READONLY_RECOVERY: broken,
    sqlite3.SQLITE_READONLY_ROLLBACK: broken,
    sqlite3.SQLITE_TOOBIG: _too_large,
}


def fault(error: sqlite3.Error, file: Path) -> MeshError:
    """The same fact as one of ours.

    Python's own complaints (a parameter missing, or of no storable type) carry no code.
    """
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    meaning = _MEANING.get(code) or _MEANING.get(code & _PRIMARY, _wrong)
    text = str(error)
    return meaning(
        file, f"{text} ({error.sqlite_errorname})" if meaning in (broken, damaged) else text
    )
