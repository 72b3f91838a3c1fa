"""Real SQLite under virtual time: the framework's own transactions, run at once and by one thread.

Each database is in memory and every commit is durable: a life that ends loses what it had not
committed, and nothing else. What a disk may lose below that is `tests/power`'s matter.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import clock
from mesh.bus import NO_HASH
from mesh.databases.sqlite.statements import CHANGES, READS, Statements
from mesh.databases.sqlite.transaction import SqliteTransaction
from mesh.framework import identity
from mesh.framework.outbox import Log, ServiceOutbox, found_epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.bus import Trace

SCHEMA = Path(identity.__file__).parent / "schema"
NOWHERE = Path(":memory:")


class Dead(BaseException):
    """The process ends here."""


def fresh(*more: str) -> bytes:
    """A database with the framework's tables, as its bytes."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for file in sorted(SCHEMA.glob("*.sql")):
        connection.executescript(file.read_text("utf-8"))
    for sql in more:
        connection.executescript(sql)
    content = connection.serialize()
    connection.close()
    return content


class _Reader:
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def one(self, shape, sql: str, **params):
        return self._statements.one(shape, sql, params)

    def all(self, shape, sql: str, **params):
        return self._statements.all(shape, sql, params)


class Store:
    """A database as the framework sees it. `mortal` is asked before and after each commit."""

    writable = True

    def __init__(self, content: bytes) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.deserialize(content)
        self._statements = Statements(self._connection, NOWHERE, CHANGES)
        self.read = _Reader(Statements(self._connection, NOWHERE, READS))
        self.mortal: Callable[[], None] = lambda: None

    async def write(self, fn, *args, **kwargs):
        return self.transact(fn, *args, **kwargs)

    write_delayed = write_aside = write

    def transact(self, fn, *args, **kwargs):
        self.mortal()
        self._statements.control("BEGIN IMMEDIATE")
        tx = SqliteTransaction(self._statements)
        try:
            answer = fn(tx, *args, **kwargs)
        except BaseException:
            self._statements.control("ROLLBACK")
            raise
        self._statements.control("COMMIT")
        tx.end()
        self.mortal()
        return answer

    def snapshot(self) -> bytes:
        return self._connection.serialize()

    def close(self) -> None:
        self.read = None
        self._statements.close()


class Waits:
    """Runs what is `async` in the framework and waits for nothing here."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __call__(self, work: Coroutine):
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._loop.close()


class Teller:
    """A producer's database with its outbox."""

    def __init__(self, content: bytes, stream: str) -> None:
        self.store = Store(content)
        self.store.transact(found_epoch)
        self.outbox = ServiceOutbox(self.store, stream)
        self._log = Log()

    def tell(self, trace: Trace, body: bytes) -> None:
        self.store.transact(
            self._log.append, event_type="s.thing_told", key="k", trace=trace, body=body, ts_ms=0
        )

    def begin_epoch(self) -> None:
        """What a restore does to the database that it has brought back."""
        self.store.transact(_begin_epoch)


def _begin_epoch(tx) -> None:
    tx.execute(
        "INSERT INTO mlp_epoch (epoch, base, base_hash, nonce)"
        " SELECT (SELECT max(epoch) FROM mlp_epoch) + 1, seq,"
        " CASE seq WHEN 0 THEN :none ELSE hash END, :nonce FROM mlp_head",
        none=NO_HASH,
        nonce=bytes.fromhex(clock.random_hex(16)),
    )
