"""Running one statement on one connection: which are let through, and what comes back.

Only statements that read or change rows pass. Transactions are begun and ended by the writer,
settings are made at the opening, tables by migrations: a function that could say COMMIT would
break the group that it runs in.

Values are named by whoever says a statement, and bound by place: by name SQLite is asked for each name
at each run.
"""

from __future__ import annotations

import re
import sqlite3
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from mesh.databases.sqlite.faults import broken, fault
from mesh.databases.sqlite.rows import Row, filler, is_struct
from mesh.errors import Broken, MeshError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesh.databases.contract import Value

    Params = dict[str, Value]

T = TypeVar("T")

READS = frozenset({"SELECT", "VALUES", "WITH"})
CHANGES = READS | {"DELETE", "INSERT", "UPDATE"}

TEXTS_MAX = 1024
"""Statement texts remembered per connection: far more than a store has, unless it builds them."""

_NOISE = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]""", re.DOTALL
)
_WORD = re.compile(r"\s*(\w*)")
_NAME = re.compile(rf"{_NOISE.pattern}|:(\w+)", re.DOTALL)
_NAMELESS = re.compile(r"[?@$]")
"""How else SQLite would have a value given: beside numbers of ours it would get that of another."""


def bare(sql: str) -> str:
    """The text without comments, strings and quoted names."""
    return _NOISE.sub(" ", sql)


def verb(sql: str) -> str:
    """The first keyword, in capitals; "" when there is none."""
    match = _WORD.match(bare(sql))
    return match.group(1).upper() if match else ""


class _Admitted(NamedTuple):
    """A statement that passes, as SQLite is to see it: `?1`, `?2` … for its names."""

    text: str
    values: Callable[[Params], tuple[Value, ...]]
    """Those it names, in the order of their numbers. Raises: KeyError."""
    verb: str


def _numbered(sql: str) -> tuple[str, Callable[[Params], tuple[Value, ...]]]:
    """The text with its names numbered, and what puts their values in that order."""
    places: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"?{places.setdefault(name, len(places) + 1)}" if name else match.group()

    text = _NAME.sub(number, sql)
    names = tuple(places)
    if len(names) > 1:
        return text, itemgetter(*names)
    return text, lambda params: tuple(params[name] for name in names)


class Statements:
    """One connection's statements. Every error that leaves it is one of ours."""

    def __init__(self, connection: sqlite3.Connection, file: Path, verbs: frozenset[str]) -> None:
        self.connection = connection
        self.fault: MeshError | None = None
        """The last one raised; whoever needs to know sets it to None beforehand."""
        self._file = file
        self._verbs = verbs
        self._cursor = connection.cursor()
        self._admitted: dict[str, _Admitted] = {}
        self._fillers: dict[tuple[type, str], Callable[[Row], object]] = {}
        self._settings: dict[str, int] = {}

    def close(self) -> None:
        """Close the connection."""
        self.let_go()
        self.connection.close()

    def let_go(self) -> None:
        """Leave the connection to others. A cursor that holds a statement would keep it half open."""
        self._cursor.close()

    def forget(self) -> None:
        """The schema has changed: what is known of statements and columns is void."""
        self._admitted.clear()
        self._fillers.clear()

    def control(self, sql: str) -> None:
        """Run one of our own statements that answers nothing (BEGIN, SAVEPOINT, COMMIT)."""
        try:
            self._cursor.execute(sql)
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def ask(self, sql: str) -> list[Row]:
        """Run one of our own statements that may answer rows (PRAGMA, a migration's)."""
        try:
            return self._cursor.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def set(self, name: str, value: int) -> None:
        """Make a setting of the connection, unless this made it last; outside a transaction.

        Raises: DatabaseBroken (it does not hold).
        """
        if self._settings.get(name) != value:
            self._settings.pop(name, None)
            self.ask(f"PRAGMA {name} = {value}")
            found = self.ask(f"PRAGMA {name}")
            if found != [(value,)]:
                raise broken(self._file, f"PRAGMA {name} is {found!r} where {value!r} was set")
            self._settings[name] = value

    def execute(self, sql: str, params: Params) -> int:
        """Run it to its end; returns how many rows it changed."""
        text, values, word = self._admitted.get(sql) or self._admit(sql)
        before = self.connection.total_changes if word == "WITH" else 0
        cursor = self._cursor
        try:
            cursor.execute(text, values(params))
            if cursor.description is not None:
                cursor.fetchall()  # what RETURNING returns; the statement ends with its last row
        except sqlite3.Error as error:
            raise self._fault(error) from error
        except KeyError as error:
            raise self._missing(error) from None
        if cursor.rowcount >= 0:
            return cursor.rowcount
        # Python counts no rows for a statement that begins with WITH.
        if word != "WITH" or self.connection.total_changes == before:
            return 0
        return cast("int", self.ask("SELECT changes()")[0][0])

    def one(self, shape: type[T], sql: str, params: Params) -> T | None:
        """The first row as `shape`; None when there is none, or for NULL as a plain value."""
        rows = self.rows(sql, params)
        if not rows:
            return None
        row = rows[0]
        if row[0] is None and not is_struct(shape):
            return None
        fill = self._fillers.get((shape, sql)) or self._filler(shape, sql)
        return cast("T", fill(row))

    def all(self, shape: type[T], sql: str, params: Params) -> list[T]:
        """Every row as `shape`."""
        rows = self.rows(sql, params)
        fill = self._fillers.get((shape, sql)) or self._filler(shape, sql)
        return cast("list[T]", [fill(row) for row in rows])

    def rows(self, sql: str, params: Params) -> list[Row]:
        """Every row, always to the end: a statement left half read would hold its snapshot."""
        text, values, _ = self._admitted.get(sql) or self._admit(sql)
        try:
            return self._cursor.execute(text, values(params)).fetchall()
        except sqlite3.OperationalError as error:
            self._cursor.close()  # at text that is none Python leaves the statement half read
            self._cursor = self.connection.cursor()
            raise self._fault(error) from error
        except sqlite3.Error as error:
            raise self._fault(error) from error
        except KeyError as error:
            raise self._missing(error) from None

    def _fault(self, error: sqlite3.Error) -> MeshError:
        self.fault = fault(error, self._file)
        return self.fault

    def _missing(self, error: KeyError) -> MeshError:
        return self._fault(sqlite3.ProgrammingError(f"there is no value for :{error.args[0]}"))

    def _admit(self, sql: str) -> _Admitted:
        word = verb(sql)
        if word not in self._verbs:
            raise Broken(
                f"a statement here begins with one of {', '.join(sorted(self._verbs))}",
                code="statement",
                evidence=(sql,),
            )
        if _NAMELESS.search(bare(sql)):
            raise Broken("values are named `:name`", code="statement", evidence=(sql,))
        if len(self._admitted) >= TEXTS_MAX:
            self.forget()
        admitted = self._admitted[sql] = _Admitted(*_numbered(sql), word)
        return admitted

    def _filler(self, shape: type[T], sql: str) -> Callable[[Row], T]:
        """For the statement that has just run."""
        fill = filler(shape, tuple(column[0] for column in self._cursor.description))
        self._fillers[shape, sql] = fill
        return fill
