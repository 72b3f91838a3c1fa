"""Reads on the event loop's own thread: a few microseconds each, and stopped if they are not.

Not for scans: `scans.py` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mesh.databases.sqlite.connections import open_reader
from mesh.databases.sqlite.statements import READS, Statements
from mesh.errors import DatabaseBusy

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.databases.contract import Value

T = TypeVar("T")

STEPS_MAX = 20_000
"""Steps of SQLite's virtual machine that one read may take: about a millisecond of the loop."""

_STEPS_BETWEEN = 1000
"""Steps between two looks. SQLite counts them per prepared statement and never starts anew, so
a look can come early; a single handler at STEPS_MAX would stop an innocent read now and then."""


class LoopReader:
    """Reads of what is committed, inline. For the thread that made it."""

    def __init__(self, file: Path) -> None:
        connection = open_reader(file)
        connection.set_progress_handler(self._look, _STEPS_BETWEEN)
        self._statements = Statements(connection, file, READS)
        self._looks = 0
        self._closed = False

    def one(self, shape: type[T], sql: str, **params: Value) -> T | None:
        """The first row; None when there is none, or for NULL as a plain value.

        Raises: DatabaseBusy beyond STEPS_MAX; SchemaMismatch when the row does not fit.
        """
        self._begin()
        return self._statements.one(shape, sql, params)

    def all(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """Every row. Raises as `one` does."""
        self._begin()
        return self._statements.all(shape, sql, params)

    def forget(self) -> None:
        """The schema has changed."""
        self._statements.forget()

    def close(self) -> None:
        """Refuse further reads. Idempotent."""
        self._closed = True
        self._statements.close()

    def _begin(self) -> None:
        if self._closed:
            raise DatabaseBusy("the database is closed")
        self._looks = 0

    def _look(self) -> bool:
        self._looks += 1
        return self._looks > STEPS_MAX // _STEPS_BETWEEN
