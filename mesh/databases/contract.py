"""What every database promises. Read this first.

Five ways in, by what they may hold up:

- `write`: a transaction is a plain synchronous function of `tx`. It cannot await, so it cannot
  ask anybody while it holds the writer, and a cancelled request cannot leave it half done. It may
  run on the event loop: a few statements, no waiting.
- `write_delayed`: the same with delayed durability, for what is done again should it be lost.
- `write_aside`: the same for what takes longer or waits for a disk.
- `read`: a bounded point read, answered inline.
- `scan`: a long read on a connection of its own.

Portable SQL only: named parameters `:name`, TEXT ids, INTEGER milliseconds and minor units,
`ON CONFLICT`, `RETURNING`; no `PRAGMA`, `AUTOINCREMENT`, `rowid`, `INSERT OR REPLACE`,
`datetime('now')`, DEFERRABLE, ON CONFLICT ROLLBACK or RAISE(ROLLBACK).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mesh.databases.migrations import Migration

T = TypeVar("T")
P = ParamSpec("P")

Value = str | int | float | bytes | None
"""What a column or a parameter holds."""


class Reader(Protocol):
    """Reads. `shape` is a struct, filled by column name, or the type of the first column."""

    def one(self, shape: type[T], sql: str, **params: Value) -> T | None:
        """The first row, or None when there is none."""

    def all(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """Every row, in the statement's order; the statement has a LIMIT or a bounded set."""


class Transaction(Reader, Protocol):
    """One atomic change. Valid only inside the function it was handed to."""

    def execute(self, sql: str, **params: Value) -> int:
        """Run one statement; returns the number of rows it changed.

        Raises: Conflict (code `constraint`) when a constraint forbids it.
        """

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this on the event loop once the commit is durable, never if it is rolled back.

        It is called also when the task that asked for the transaction was cancelled. Implies
        `make_durable`.
        """

    def make_durable(self) -> None:
        """Have the commit on the disk before anybody is answered; so it is but in `write_delayed`."""

    def scrub(self) -> None:
        """Soon after this commit, leave no bytes anywhere of what was deleted or replaced so far.

        As soon as no read stands in the way; until then it is tried again. Implies `make_durable`.
        """


class Copies(Protocol):
    """A copy of a database, with others beside it under their names; read only."""

    def ask(
        self, sql: str, params: Mapping[str, Value], most: int
    ) -> tuple[list[tuple[Value, ...]], int]:
        """The first `most` rows, and how many there are in all. Raises: Broken, DatabaseBroken."""

    def rows(self, sql: str, params: Mapping[str, Value]) -> Iterator[tuple[Value, ...]]:
        """Every row, one after another. Raises: Broken, DatabaseBroken."""


class Cut(Protocol):
    """This database's part of one cut through several, its writer standing."""

    async def take(self) -> None:
        """Fix this moment; the writer goes on.

        Raises: Conflict (code `cut-missed`) when it has gone on already.
        """

    async def copy(self, target: Path) -> int:
        """Write the moment to a file of its own: whole, checked and on the disk, or not at all.

        Returns: its size in bytes.
        Raises: Conflict (no moment was taken), DatabaseBroken, Unavailable.
        """

    async def close(self) -> None:
        """Let go of the moment, and of the writer. Idempotent."""


class Database(Protocol):
    """One service's own database. Nothing else opens it while it runs."""

    async def migrate(self, migrations: Sequence[Migration]) -> None:
        """Apply those not yet applied, in order, each with its mark in one transaction.

        Raises: SchemaMismatch when an applied one has changed, or the file is newer than we are.
        """

    async def write(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn(tx, …)` as one transaction; returns its result once the commit is durable.

        Functions that wait at the same time share one commit; whatever one of them raises rolls
        back that one alone. They run in the order of the calls of `write`, so two calls made
        without an await between them run in that order, one after the other. A function may be
        run again, what it did undone: it changes nothing but by `tx`.

        Raises: what `fn` raises (rolled back); DatabaseBusy (queue full, or waited too long;
            nothing happened); StorageFull (nothing happened; reads go on); DatabaseBroken (the
            process should end and open the file afresh).
        Cancellation: the transaction runs and commits all the same.
        """

    async def write_delayed(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same with delayed durability: returns once it is committed and others see it.

        A crash of the process loses nothing of it. A power cut may take it back, whole and with all
        that was committed so after it, but nothing that some later durable commit has followed; a
        fraction of a second later it is durable by itself. For what is then done again by
        itself, and of which nothing leaves the process before: a function that calls
        `after_commit`, `scrub` or `make_durable` is committed as by `write`. (PostgreSQL: `synchronous_commit` off, and on again `LOCAL`ly;
        SQL Server: DELAYED_DURABILITY.)

        Raises, Cancellation: as `write`.
        """

    async def write_aside(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same in a commit of its own and off the event loop; in its turn among all writes.

        Nobody else writes meanwhile: what is long is to be cut into pieces.
        """

    @property
    def read(self) -> Reader:
        """Point reads, inline, of what is committed; aborted beyond a bounded amount of work.

        Its methods raise DatabaseBusy at that bound.
        """

    async def scan(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """A long read off the event loop; at most SCAN_S seconds, then DatabaseBusy."""

    async def hold(self) -> Cut:
        """Let the writer stand, some 50 ms at most, until `take`; returns once it stands.

        Raises: DatabaseBusy, DatabaseBroken.
        """

    async def check_after_crash(self) -> None:
        """Look the whole file over if it was not closed cleanly last time; else return at once.

        Takes time and disk, not the writer: to be called once the service answers.

        Raises: DatabaseBroken; DatabaseBusy when it took too long.
        """

    @property
    def commits(self) -> int:
        """Transactions committed since the start: one per function, however many shared a commit."""

    @property
    def writable(self) -> bool:
        """False after a write found no space, until one succeeds again."""

    async def close(self) -> None:
        """Finish what is queued, then close. Idempotent."""
