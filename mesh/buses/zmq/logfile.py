"""The log's file: its schema, its connections, its lock, and what becomes of a damaged one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING

from mesh import clock
from mesh.binding import bind_as_they_are
from mesh.errors import AlreadyRunning, InvalidInput, LogBroken, SchemaMismatch, StorageFull

if TYPE_CHECKING:
    from pathlib import Path

FILE = "bus.db"
LOCK = "bus.lock"
EVIDENCE_MAX = 2
"""Damaged logs kept; the oldest goes when another joins them."""

CACHE_KIB = 4 * 1024
"""What a transaction of 256 ordinary events dirties, several times over, before SQLite spills. The
log is written at its end and read near it: more only makes the bus grow for hours."""

DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""Primary result codes that mean the file is not what we wrote."""

DAMAGED = "log-damaged"
"""The code of a LogBroken whose file is to be set aside."""

_WRITER: dict[str, int | str] = {
    "journal_mode": "wal",
    "synchronous": 2,
    "temp_store": 2,
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    "secure_delete": 1,
    "wal_autocheckpoint": 0,
    "cache_size": -CACHE_KIB,
}

_READER: dict[str, int | str] = {
    "query_only": 1,
    "busy_timeout": 0,
    "temp_store": 2,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    "cache_size": -CACHE_KIB,
}

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE life (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL) STRICT;
INSERT INTO life VALUES (1, randomblob(16));
CREATE TABLE log (
    arrival INTEGER PRIMARY KEY,
    stream TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    prev_epoch INTEGER NOT NULL, prev_hash BLOB NOT NULL, hash BLOB NOT NULL, id BLOB NOT NULL,
    type TEXT NOT NULL, key TEXT NOT NULL, ts_ms INTEGER NOT NULL, trace BLOB NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (stream, seq)) STRICT;
CREATE TABLE stream (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, base INTEGER NOT NULL,
    head_epoch INTEGER NOT NULL, head_seq INTEGER NOT NULL, head_hash BLOB NOT NULL,
    tail_seq INTEGER NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE epoch (
    stream TEXT NOT NULL, epoch INTEGER NOT NULL, base INTEGER NOT NULL,
    base_hash BLOB NOT NULL, nonce BLOB NOT NULL, PRIMARY KEY (stream, epoch)) STRICT;
CREATE TABLE ghost (
    arrival INTEGER NOT NULL, new_epoch INTEGER NOT NULL, noted_ms INTEGER NOT NULL,
    stream TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    prev_epoch INTEGER NOT NULL, prev_hash BLOB NOT NULL, hash BLOB NOT NULL, id BLOB NOT NULL,
    type TEXT NOT NULL, key TEXT NOT NULL, ts_ms INTEGER NOT NULL, trace BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (stream, epoch, seq)) STRICT;
CREATE TABLE consumer (
    stream TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    known_epoch INTEGER NOT NULL, seen_ms INTEGER NOT NULL, required INTEGER NOT NULL,
    PRIMARY KEY (stream, name)) STRICT;
PRAGMA user_version = 1;
COMMIT;
"""
SCHEMA_VERSION = 1


def wal_path(path: Path) -> Path:
    """The write-ahead log beside the file."""
    return path.with_name(path.name + "-wal")


def hold(directory: Path) -> int:
    """Make the directory ours alone and lock it; returns the lock's descriptor.

    Raises: AlreadyRunning, InvalidInput (not ours to write).
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(directory / LOCK, flags, 0o600)
    except OSError as error:
        raise InvalidInput(f"the bus cannot log in {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise AlreadyRunning(f"another bus holds {directory}") from None
    return lock


def connect(
    path: Path, schema: str = _SCHEMA, version: int = SCHEMA_VERSION
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Writer and reader of the log, or of another file of the bus, made if there is none.

    Args:
        schema: a script that makes `version` of the file.

    Raises: sqlite3.DatabaseError; SchemaMismatch (a newer version has written it).
    """
    if not path.exists():
        # SQLite takes the mode of -wal and -shm from the file; never opened here again (Q6).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    bind_as_they_are()
    with contextlib.ExitStack() as opened:
        writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        opened.callback(writer.close)
        _configure(writer, _WRITER)
        found = writer.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            writer.executescript(schema)
        elif found != version:
            raise SchemaMismatch(f"{path} is of version {found}, this is {version}")
        reader = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        opened.callback(reader.close)
        _configure(reader, _READER)
        opened.pop_all()
    return writer, reader


def _configure(connection: sqlite3.Connection, wanted: dict[str, int | str]) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for name, value in wanted.items():
        ask = f"PRAGMA {name}"
        connection.execute(f"{ask} = {value}")
        found = connection.execute(ask).fetchone()
        # An SQLite without mmap answers nothing at all about it.
        if found is not None and found[0] != value:
            raise LogBroken(f"SQLite keeps {name} at {found[0]!r}, not {value!r}")


def set_aside(path: Path) -> Path:
    """Rename a damaged log and its write-ahead log; returns where it is kept as evidence."""
    kept = path.with_name(f"{path.name}.damaged-{clock.now_ms()}")
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(kept.with_name(kept.name + suffix))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    evidence = sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))
    for old in evidence[:-EVIDENCE_MAX]:
        old.unlink()
        old.with_name(old.name + "-wal").unlink(missing_ok=True)
    return kept


def explained(path: Path, error: sqlite3.Error) -> StorageFull | LogBroken:
    """What an error of SQLite means here."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"no space for the event log {path}")
    if code in DAMAGE:
        return LogBroken(f"the event log {path} is damaged: {error}", code=DAMAGED)
    return LogBroken(f"the event log {path} cannot be used: {error}")
