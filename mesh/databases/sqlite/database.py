"""One service's SQLite database: the writer, the loop's reader and the long reads, as one."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mesh.databases.sqlite import schema
from mesh.databases.sqlite.faults import damaged
from mesh.databases.sqlite.files import Place, size_of
from mesh.databases.sqlite.reader import LoopReader
from mesh.databases.sqlite.scans import Scans
from mesh.databases.sqlite.statements import READS, verb
from mesh.databases.sqlite.writer import Writer
from mesh.errors import Broken
from mesh.snapshot import Cut, doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from mesh.databases.contract import Database, Reader, Transaction, Value
    from mesh.databases.migrations import Migration

T = TypeVar("T")
P = ParamSpec("P")

SCAN_S = 5.0
"""The longest a scan may run: it holds the -wal meanwhile."""

CHECK_S = 600.0
"""The longest the check after a crash may run: some 100 GB at the speed of a cheap disk."""


class SqliteDatabase:
    """`databases.contract.Database` on one SQLite file. Made by `open` only."""

    def __init__(self, place: Place, writer: Writer) -> None:
        self._place = place
        self._writer = writer
        self._reader = LoopReader(place.file, writer.statements.connection, writer.spare)
        self._scans = Scans(place.file, SCAN_S)
        self._check = Scans(place.file, CHECK_S)
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, directory: Path, name: str, patience: int = 1) -> SqliteDatabase:
        """Claim and open `directory/name.db`."""
        place = Place(directory, name)
        writer = Writer(place, patience)
        await writer.start()
        try:
            return cls(place, writer)
        except BaseException:
            await writer.stop()
            raise

    async def migrate(self, migrations: Sequence[Migration]) -> None:
        """Apply those not yet applied, in order, each with its mark in one transaction.

        Raises: SchemaMismatch when an applied one has changed, the file is newer than we are,
            or one says what no schema may say; nothing was applied then. Also when a table could
            not be looked over after a crash; that is seen once it is there.
        """
        for migration in migrations:
            schema.check(migration)
        await self._writer.submit(schema.prepare, aside=True)
        try:
            for migration in await self.write_aside(schema.pending, migrations):
                step = partial(schema.apply, migration=migration)
                await self._writer.submit(step, aside=True)
            await self.write_aside(schema.judge)
        finally:
            self._reader.forget()
        if not self._place.marked:
            await asyncio.to_thread(self._place.mark)

    def write(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]:
        """Run `fn(tx, …)` as one transaction, queued now; awaiting gives its durable result.

        Raises, Cancellation: as in the contract.
        """
        return self._writer.submit(lambda tx: fn(tx, *args, **kwargs))

    def write_delayed(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]:
        """The same, durable some DELAY_S later unless `fn` asks for more."""
        return self._writer.submit(lambda tx: fn(tx, *args, **kwargs), delayed=True)

    def write_aside(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]:
        """The same on the writer's thread, in a commit of its own."""
        return self._writer.submit(lambda tx: fn(tx, *args, **kwargs), aside=True)

    @property
    def read(self) -> Reader:
        """Point reads, inline. Of the event loop only."""
        return self._reader

    async def scan(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """A long read off the event loop; at most SCAN_S seconds, then DatabaseBusy.

        Cancellation: stops the read.
        """
        if verb(sql) not in READS:
            raise Broken("a scan only reads", code="statement", evidence=(sql,))
        return await self._scans.all(shape, sql, params)

    async def hold(self) -> Cut:
        """Let the writer stand until `take`, as in the contract."""
        cut = Cut(self._place.file)

        def submit(stand: Callable[[], None]) -> asyncio.Future[None]:
            return asyncio.ensure_future(self._writer.submit(lambda _: stand(), aside=True))

        try:
            await cut.hold(submit)
        except BaseException:
            await cut.close()
            raise
        return cut

    async def check_after_crash(self) -> None:
        """Search the file for damage if the last process did not close it; nothing otherwise.

        Reads every page beside normal work: run it once ready.

        Raises: DatabaseDamaged, with what was found; DatabaseBusy after CHECK_S.
        """
        if not self._place.unclean:
            return
        try:
            found = [
                each
                for each in await self._check.all(str, "PRAGMA quick_check", {})
                if each != "ok" and not await self._false_alarm(each)
            ]
        finally:
            await self._check.close()
        if found:
            error = damaged(self._place.file, "is damaged")
            error.evidence = tuple(found)
            raise error
        self._place.unclean = False

    async def _false_alarm(self, line: str) -> bool:
        sql = doubt(line)
        return sql is not None and await self._check.all(int, sql, {}) == [0]

    @property
    def commits(self) -> int:
        """Transactions committed since the start: one per function."""
        return self._writer.commits

    @property
    def groups(self) -> int:
        """Commits since the start; one serves many functions when they wait."""
        return self._writer.groups

    @property
    def wal_bytes(self) -> int:
        """The length of the -wal. Over 256 MiB a reader is stuck."""
        return size_of(self._place.wal)

    @property
    def writable(self) -> bool:
        """False after a write found no space, until one succeeds again; false once broken."""
        return self._writer.writable

    async def close(self) -> None:
        """Finish what is queued, then close. Reads are refused at once. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        # The writer goes last: whoever closes last empties and removes the -wal.
        self._reader.close()
        await self._scans.close()
        await self._check.close()
        await self._writer.stop()


if TYPE_CHECKING:
    _keeps_the_contract: type[Database] = SqliteDatabase
