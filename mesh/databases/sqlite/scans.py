"""Long reads beside everything else, through aiosqlite on a connection of their own.

One at a time, each with a deadline: a long reader holds its snapshot, and with it the -wal.
Rows are shaped on aiosqlite's thread, so that the event loop only sees the finished list.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import aiosqlite

from mesh import clock
from mesh.databases.sqlite.connections import open_reader
from mesh.databases.sqlite.faults import fault
from mesh.databases.sqlite.rows import filler
from mesh.errors import DatabaseBusy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesh.databases.contract import Value
    from mesh.databases.sqlite.rows import Row

T = TypeVar("T")

STEPS_BETWEEN = 10_000
"""Steps of SQLite's virtual machine between two looks at the clock: about half a millisecond."""

_CHUNK_ROWS = 64
"""What aiosqlite fetches per hop when a cursor is iterated, which never happens here."""


class _Bound:
    """Until when one read may run; moved to the past by whoever wants it stopped."""

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s


def _shaper(shape: type[T]) -> Callable[[sqlite3.Cursor, Row], T]:
    """A row factory; it learns the columns with the first row."""
    fill: Callable[[Row], T] | None = None

    def shaped(cursor: sqlite3.Cursor, row: Row) -> T:
        nonlocal fill
        if fill is None:
            fill = filler(shape, tuple(column[0] for column in cursor.description))
        return fill(row)

    return shaped


def _made_by_a_daemon(connector: Callable[[], sqlite3.Connection]) -> aiosqlite.Connection:
    """A connection whose thread does not keep a failing process from ending.

    aiosqlite starts an ordinary thread, and the interpreter waits for those; but a thread is a
    daemon by default when the one that makes it is.
    """
    made: list[aiosqlite.Connection] = []
    maker = threading.Thread(
        target=lambda: made.append(aiosqlite.Connection(connector, _CHUNK_ROWS)), daemon=True
    )
    maker.start()
    maker.join()
    return made[0]


class Scans:
    """Reads of at most `seconds` each, on a connection that the first of them opens."""

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._seconds = seconds
        self._connection: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()
        self._current = _Bound(0.0)
        self._running: dict[asyncio.Task[object], _Bound] = {}
        self._closed = False

    async def all(self, shape: type[T], sql: str, params: dict[str, Value]) -> list[T]:
        """Every row as `shape`. Waiting for a turn counts as time spent.

        Raises: DatabaseBusy at the deadline, or once closed; SchemaMismatch when a row does not
            fit.
        Cancellation: stops the read.
        """
        if self._closed:
            raise DatabaseBusy("the database is closed")
        bound = _Bound(clock.monotonic_s() + self._seconds)
        task = asyncio.ensure_future(self._run(bound, shape, sql, params))
        self._running[task] = bound
        task.add_done_callback(self._over)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            bound.until_s = 0.0
            raise

    async def close(self) -> None:
        """Stop what runs, then close. Idempotent."""
        self._closed = True
        for bound in self._running.values():
            bound.until_s = 0.0
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _run(
        self, bound: _Bound, shape: type[T], sql: str, params: dict[str, Value]
    ) -> list[T]:
        async with self._turn:
            if self._late(bound):
                raise DatabaseBusy(f"other long reads took all of {self._seconds:g} s")
            try:
                connection = await self._opened()
                self._current = bound
                # typed as a class in aiosqlite; SQLite takes any function
                connection.row_factory = cast("type", _shaper(shape))
                return cast("list[T]", await connection.execute_fetchall(sql, params))
            except sqlite3.Error as error:
                raise fault(error, self._file) from error

    async def _opened(self) -> aiosqlite.Connection:
        if self._connection is None:
            connection = _made_by_a_daemon(partial(open_reader, self._file))
            self._connection = await connection
            await connection.set_progress_handler(
                lambda: int(self._late(self._current)), STEPS_BETWEEN
            )
        return self._connection

    @staticmethod
    def _late(bound: _Bound) -> bool:
        return clock.monotonic_s() > bound.until_s

    def _over(self, task: asyncio.Task[object]) -> None:
        del self._running[task]
        if not task.cancelled():
            task.exception()  # its reader may have been cancelled: then nobody else asks
