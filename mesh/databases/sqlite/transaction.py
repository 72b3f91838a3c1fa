"""What a transaction's function is handed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mesh.errors import Broken

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.databases.contract import Value
    from mesh.databases.sqlite.statements import Statements
    from mesh.errors import MeshError

T = TypeVar("T")


class SqliteTransaction:
    """One function's view of the transaction that it shares with its neighbours.

    It is dead once the function has returned, and once SQLite has rolled everything back (a
    statement after that would commit on its own).
    """

    __slots__ = ("_connection", "_over", "_statements", "callbacks", "durable", "scrubs")

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._connection = statements.connection
        self._over = False
        self.callbacks: list[Callable[[], None]] = []
        self.durable = False
        """Asked to be so also where its durability may be delayed."""
        self.scrubs = False

    def one(self, shape: type[T], sql: str, **params: Value) -> T | None:
        """The first row; None when there is none, or for NULL as a plain value."""
        if self._over or not self._connection.in_transaction:
            raise self._dead()
        return self._statements.one(shape, sql, params)

    def all(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """Every row."""
        if self._over or not self._connection.in_transaction:
            raise self._dead()
        return self._statements.all(shape, sql, params)

    def execute(self, sql: str, **params: Value) -> int:
        """Run one statement; returns the number of rows it changed.

        Raises: Conflict (code `constraint`), StorageFull, DatabaseBroken.
        """
        if self._over or not self._connection.in_transaction:
            raise self._dead()
        return self._statements.execute(sql, params)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this on the event loop once the commit is durable, before the caller goes on."""
        self._check()
        self.durable = True
        self.callbacks.append(callback)

    def make_durable(self) -> None:
        """Have the commit on the disk before anybody is answered."""
        self._check()
        self.durable = True

    def scrub(self) -> None:
        """Have the -wal cut soon after the commit; `secure_delete` has overwritten the rest."""
        self._check()
        self.scrubs = self.durable = True

    def define(self, sql: str) -> None:
        """Run a statement that changes the schema. For migrations only."""
        self._check()
        self._statements.ask(sql)
        self._statements.forget()

    def end(self) -> None:
        """The function has returned."""
        self._over = True

    def _check(self) -> None:
        if self._over or not self._connection.in_transaction:
            raise self._dead()

    def _dead(self) -> MeshError:
        if self._over:
            return Broken("a transaction was used after its function had returned")
        return self._statements.fault or Broken("the transaction is gone")
