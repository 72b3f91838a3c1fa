"""Reads on the event loop's own thread: a few microseconds each, and stopped if they are not.

A connection that only reads finds the pages it remembers void after each commit of another's, and reads
them anew; the writer's own knows what it has written. So the writer's is read by while it has no use for it.

Not for scans: `scans.py` is.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, TypeVar

from mesh.databases.sqlite.connections import open_reader
from mesh.databases.sqlite.statements import READS, Statements
from mesh.errors import DatabaseBusy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from mesh.databases.contract import Value

T = TypeVar("T")
R = TypeVar("R")

STEPS_MAX = 20_000
"""Steps of SQLite's virtual machine that one read may take: about a millisecond of the loop."""

_STEPS_BETWEEN = 1000
"""Steps between two looks. SQLite counts them per prepared statement and never starts anew, so
a look can come early; a single handler at STEPS_MAX would stop an innocent read now and then."""


_ONLY_READS = frozenset({"SELECT"})
"""What the writer's connection is shown: WITH could begin a change, which ours alone refuses."""


class LoopReader:
    """Reads of what is committed, inline. For the thread that made it."""

    def __init__(self, file: Path, writers: sqlite3.Connection, spare: Callable[[], bool]) -> None:
        """`spare`: whether nobody has the `writers` connection just now."""
        connection = open_reader(file)
        connection.set_progress_handler(self._look, _STEPS_BETWEEN)
        self._statements = Statements(connection, file, READS)
        self._borrowed = Statements(writers, file, _ONLY_READS)
        self._spare = spare
        self._thread = get_ident()
        self._looks = 0
        self._closed = False

    def one(self, shape: type[T], sql: str, **params: Value) -> T | None:
        """The first row; None when there is none, or for NULL as a plain value.

        Raises: DatabaseBusy beyond STEPS_MAX; SchemaMismatch when the row does not fit.
        """
        self._begin()
        if self._may_borrow(sql):
            return self._borrow(self._borrowed.one, shape, sql, params)
        return self._statements.one(shape, sql, params)

    def all(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """Every row. Raises as `one` does."""
        self._begin()
        if self._may_borrow(sql):
            return self._borrow(self._borrowed.all, shape, sql, params)
        return self._statements.all(shape, sql, params)

    def forget(self) -> None:
        """The schema has changed."""
        self._statements.forget()
        self._borrowed.forget()

    def close(self) -> None:
        """Refuse further reads. Idempotent."""
        self._closed = True
        self._borrowed.let_go()
        self._statements.close()

    def _begin(self) -> None:
        if self._closed:
            raise DatabaseBusy("the database is closed")
        self._looks = 0

    def _may_borrow(self, sql: str) -> bool:
        # Our own refuses another thread by itself; the writer's is used by two, in turns.
        return sql.startswith("SELECT ") and get_ident() == self._thread and self._spare()

    def _borrow(
        self,
        read: Callable[[type[T], str, dict[str, Value]], R],
        shape: type[T],
        sql: str,
        params: dict[str, Value],
    ) -> R:
        """Read by the writer's connection, which is bounded for as long as that takes."""
        connection = self._borrowed.connection
        connection.set_progress_handler(self._look, _STEPS_BETWEEN)
        try:
            return read(shape, sql, params)
        finally:
            connection.set_progress_handler(None, 0)

    def _look(self) -> bool:
        self._looks += 1
        return self._looks > STEPS_MAX // _STEPS_BETWEEN
