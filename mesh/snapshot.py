"""One moment of an SQLite file, copied while its owner writes on.

Its owner alone opens the file (`databases/sqlite`, the bus's hosted streams). For one cut through
several files each owner lets its writer stand until all stand; then each fixes its moment with a
read transaction and writes on, and the copies are made from those. Refuses to leave half a copy:
a file has its name only once it is whole, checked and on the disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from mesh import clock
from mesh.errors import Conflict, DatabaseBroken, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_FOLDER = "backups"
_MANIFEST = "manifest.json"
"""Written last: without it a backup is not whole."""

HOLD_S = 0.05
"""A writer stands no longer than this: whoever writes meanwhile waits, and is not refused."""

KEPT_S = 30.0
"""A moment that nobody copies is let go then: it keeps the -wal from being used again."""

COPY_S = 600.0
"""The longest a copy may take, for the same reason."""

PAGES_PER_STEP = 256
"""Copied between two looks at the clock: a megabyte."""

FILE_MODE = 0o600

_NULLS = re.compile(r"NULL value in (\w+)\.(\w+)")


class Cut:
    """One owner's part of a cut: `hold` the writer, `take` the moment, `copy` it, `close`.

    Every step is asked for on the event loop; `stand` alone runs on the writer's thread.
    """

    def __init__(self, file: Path) -> None:
        """Open nothing yet."""
        self._file = file
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._expired = False
        self._connection: sqlite3.Connection | None = None
        self._unclaimed: asyncio.TimerHandle | None = None

    async def hold(self, submit: Callable[[Callable[[], None]], asyncio.Future[None]]) -> None:
        """Return once the writer stands; it goes on at `take`, or after HOLD_S.

        Args:
            submit: runs a function on the writer's thread, in a turn of its own.

        Raises: what keeps the writer from running it.
        """
        loop = asyncio.get_running_loop()
        await self._run(self._open)
        held: asyncio.Future[None] = loop.create_future()

        def stand() -> None:
            loop.call_soon_threadsafe(_settle, held)
            self._go.wait(HOLD_S)
            with self._lock:
                self._expired = not self._go.is_set()

        standing = submit(stand)
        standing.add_done_callback(_seen)
        await asyncio.wait({held, standing}, return_when=asyncio.FIRST_COMPLETED)
        if not held.done():
            standing.result()

    async def take(self) -> None:
        """Fix this moment for KEPT_S; the writer goes on.

        Raises: Conflict when it has gone on already, or the moment has been taken.
        """
        try:
            await self._run(self._begin)
        finally:
            with self._lock:
                expired = self._expired
                self._go.set()
            self._claim()
            self._unclaimed = asyncio.get_running_loop().call_later(KEPT_S, self._drop)
        if expired:
            raise Conflict("the writer could stand no longer", code="cut-missed")

    async def copy(self, target: Path) -> int:
        """Write the moment to `target`, in place of what was there; its size in bytes.

        Raises: Conflict (none was taken), Unavailable (no space, or the copy is damaged).
        """
        connection = self._connection
        if connection is None or not connection.in_transaction:
            raise Conflict("no moment was taken", code="cut-missed")
        self._claim()
        return await self._run(lambda: _copy(connection, target))

    async def close(self) -> None:
        """Let the moment and the writer go. Idempotent."""
        self._go.set()
        self._claim()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._run(connection.close)
        self._pool.shutdown(wait=False)

    def _claim(self) -> None:
        if self._unclaimed is not None:
            self._unclaimed.cancel()
            self._unclaimed = None

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._pool.submit(connection.close)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _open(self) -> None:
        self._connection = _opened(self._file)

    def _begin(self) -> None:
        if self._connection is None or self._connection.in_transaction:
            raise Conflict("the moment has been taken", code="cut-missed")
        _begin(self._connection, self._file)


FOUND_MAX = 5
"""Lines of what a check has found that are told: the first says enough."""


def copy_file(file: Path, target: Path) -> int:
    """Copy a file that nobody has open; its size in bytes. Raises: as `Cut.copy`."""
    connection = _opened(file)
    try:
        _begin(connection, file)
        return _copy(connection, target)
    finally:
        connection.close()


def check(file: Path) -> None:
    """Look a copy over. Raises: DatabaseBroken, with what was found."""
    connection = _opened(file)
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        found = [each for each in found if each != "ok" and not _false_alarm(connection, each)]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    finally:
        connection.close()
    lines = [line for each in found for line in each.splitlines()]
    if lines:
        raise DatabaseBroken(f"{file} is damaged", evidence=tuple(lines[:FOUND_MAX]))


def doubt(line: str) -> str | None:
    """A query that counts what a line of SQLite's checks complains of, where that may be untrue.

    SQLite 3.40 looks for NULL in the wrong place of a table WITHOUT ROWID whose key is not made of
    its first columns. (`typeof`, since it takes `IS NULL` of such a column to be false unread.)
    """
    found = _NULLS.fullmatch(line)
    if found is None:
        return None
    return f'SELECT count(*) FROM "{found[1]}" WHERE typeof("{found[2]}") = \'null\''  # noqa: S608  names that SQLite says


def _false_alarm(connection: sqlite3.Connection, line: str) -> bool:
    sql = doubt(line)
    return sql is not None and connection.execute(sql).fetchone()[0] == 0


def way_back(data: Path, hint: str | None) -> str | None:
    """A hint, with the name of the newest whole backup in a mesh's data before it."""
    newest = _newest_backup(data)
    if newest is None:
        return hint
    return f"`mesh restore {newest}` brings back the newest backup, of all services; {hint}"


def _newest_backup(data: Path) -> str | None:
    """The name of the newest whole backup in a mesh's data; None where none is to be seen."""
    try:
        folders = [each for each in (data / _FOLDER).iterdir() if not each.name.startswith(".")]
    except OSError:
        return None
    made = {each: each / _MANIFEST for each in folders if (each / _MANIFEST).is_file()}
    return max(made, key=lambda each: made[each].stat().st_mtime_ns).name if made else None


def sync_directory(directory: Path) -> None:
    """Have the names in it on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Have its bytes on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(file: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(file.absolute()))}?mode=ro"
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=1.0
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    except sqlite3.Error as error:
        raise DatabaseBroken(f"{file} cannot be read: {error}") from error
    return connection


def _begin(connection: sqlite3.Connection, file: Path) -> None:
    """A read transaction begins with its first read, not with BEGIN."""
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise DatabaseBroken(f"{file} cannot be read: {error}") from error


def _copy(source: sqlite3.Connection, target: Path) -> int:
    draft = target.with_name(f"{target.name}.part")
    until_s = clock.monotonic_s() + COPY_S

    def look(_status: int, _left: int, _all: int) -> None:
        if clock.monotonic_s() > until_s:
            raise Unavailable(f"a copy took longer than {COPY_S:g} s")

    draft.unlink(missing_ok=True)
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        made = sqlite3.connect(draft, isolation_level=None)
        try:
            source.backup(made, pages=PAGES_PER_STEP, progress=look, sleep=0)
            made.execute("PRAGMA journal_mode = delete")  # one file, whoever reads it
        finally:
            made.close()
        _check_draft(draft)
        sync_file(draft)
        draft.replace(target)
        sync_directory(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"{target} could not be written: {error}", code="copy-failed") from error
    finally:
        draft.unlink(missing_ok=True)
    return target.stat().st_size


def _seen(standing: asyncio.Future[None]) -> None:
    """A failure after the writer stood shows in what was taken; nobody waits for it here."""
    if not standing.cancelled():
        standing.exception()


def _check_draft(draft: Path) -> None:
    """A damaged copy is no backup; whether its source is damaged too is for its owner to find."""
    try:
        check(draft)
    except DatabaseBroken as error:
        raise Unavailable(
            f"the copy of {draft.stem} is damaged, and so may be the database",
            code="copy-damaged",
            evidence=error.evidence,
        ) from error


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
