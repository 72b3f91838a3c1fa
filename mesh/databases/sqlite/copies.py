"""Several copies side by side on one connection, for questions that go through more than one file.

Only for copies: a service's own connections may attach nothing. Nothing can be written here.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from mesh.databases.sqlite.connections import READER
from mesh.databases.sqlite.faults import broken, fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mesh.databases.contract import Value

BESIDE_MAX = 9
"""Files beside the first: SQLite attaches ten, and one is kept for its own use."""

CACHE_KIB = 64 * 1024
"""A query over 10^5 orders and their lines turns no page twice."""


class Copies:
    """An open connection to one copy, with others beside it under their names."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file

    def ask(
        self, sql: str, params: Mapping[str, Value], most: int
    ) -> tuple[list[tuple[Value, ...]], int]:
        """The first `most` rows, and how many there are in all.

        Raises: Broken (the statement is wrong), DatabaseBroken.
        """
        try:
            cursor = self._connection.execute(sql, dict(params))
            first = cursor.fetchmany(most)
            return first, len(first) + sum(1 for _ in cursor)
        except sqlite3.Error as error:
            raise fault(error, self._file) from error

    def rows(self, sql: str, params: Mapping[str, Value]) -> Iterator[tuple[Value, ...]]:
        """Every row, one after another: for tables that do not fit into memory.

        Raises: as `ask`.
        """
        try:
            yield from self._connection.execute(sql, dict(params))
        except sqlite3.Error as error:
            raise fault(error, self._file) from error


@contextmanager
def opened(file: Path, beside: Mapping[str, Path]) -> Iterator[Copies]:
    """One copy, and others under their names. Raises: DatabaseBroken; Broken (too many)."""
    if len(beside) > BESIDE_MAX:
        raise broken(file, f"at most {BESIDE_MAX} copies can be read beside it")
    try:
        connection = sqlite3.connect(_uri(file), uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise fault(error, file) from error
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, len(beside))
        for name, other in beside.items():
            connection.execute(f'ATTACH ? AS "{name}"', (_uri(other),))
        for name, value in {**READER, "cache_size": -CACHE_KIB}.items():
            connection.execute(f"PRAGMA {name} = {value}")
        yield Copies(connection, file)
    except sqlite3.Error as error:
        raise fault(error, file) from error
    finally:
        connection.close()


def _uri(file: Path) -> str:
    return f"file:{quote(str(file.absolute()))}?mode=ro"
