"""`hosted.db`: the outbox and the cursors of programs that have no database of ours.

A producer's and a consumer's database like any other, but for several programs, each with a stream
of its own; so unlike the log beside it, it cannot be rebuilt and must not be deleted. One thread
writes; what waits when it is free becomes one commit, answered after the fsync.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from mesh import clock
from mesh.buses.contract import (
    NO_HASH,
    Epoch,
    Event,
    Link,
    OutboxState,
    Position,
    chain_hash,
)
from mesh.buses.zmq.logfile import DAMAGED, connect, explained
from mesh.errors import Conflict, DatabaseDamaged, Overloaded
from mesh.snapshot import Cut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

FILE = "hosted.db"

QUEUE_MAX = 256
"""Changes waiting for the writer; one more is refused."""

GROUP_MAX = 64
"""Changes in one commit."""

KEEP_MS = 7 * 24 * 3600 * 1000
"""Events stay in the outbox so long after the bus has them: a lost log is rebuilt from here."""

SWEEP_ROWS = 1000
"""Deleted in one transaction."""

NONCE_BYTES = 16

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE epoch (
    stream TEXT NOT NULL, epoch INTEGER NOT NULL, base INTEGER NOT NULL,
    base_hash BLOB NOT NULL, nonce BLOB NOT NULL, PRIMARY KEY (stream, epoch)) STRICT;
CREATE TABLE head (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL)
    STRICT;
CREATE TABLE outbox (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
    prev_epoch INTEGER NOT NULL, prev_hash BLOB NOT NULL, hash BLOB NOT NULL, id BLOB NOT NULL,
    type TEXT NOT NULL, key TEXT NOT NULL, ts_ms INTEGER NOT NULL, trace BLOB NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (stream, seq), UNIQUE (stream, id)) STRICT;
CREATE TABLE consumer (
    program TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,
    PRIMARY KEY (program, name)) STRICT;
CREATE TABLE cursor (
    program TEXT NOT NULL, name TEXT NOT NULL, stream TEXT NOT NULL,
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (program, name, stream)) STRICT;
CREATE TABLE diverged (
    program TEXT NOT NULL, name TEXT NOT NULL, stream TEXT NOT NULL, from_epoch INTEGER NOT NULL,
    from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL, new_epoch INTEGER NOT NULL,
    noted_ms INTEGER NOT NULL) STRICT;
PRAGMA user_version = 1;
COMMIT;
"""
VERSION = 1

READ_WHOLE = (
    "SELECT count(stream || seq || hash) FROM head UNION ALL"
    " SELECT count(program || stream || seq) FROM cursor UNION ALL"
    " SELECT count(nonce || base) FROM epoch"
)
"""Few rows, all of which are needed: what is damaged in them is found before anybody is served."""

RESTORE = "`mesh restore NAME` puts a backup in its place"

EVENT = "stream, epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body"


class Draft(Struct, frozen=True):
    """An event to be told: everything but its place. `id` makes telling it again harmless."""

    id: bytes
    type: str
    key: str
    trace: bytes
    body: bytes


class Cursors(Struct, frozen=True):
    """How far a consumer is in each stream; `known` is false before it first came."""

    known: bool
    at: dict[str, Position]


class Hosted:
    """The open file. Changes are queued by `write`; reads are bounded and inline."""

    def __init__(self, directory: Path) -> None:
        """Open or make it in `directory`, which the log has locked.

        Raises: LogBroken, SchemaMismatch; DatabaseDamaged: nothing else holds these events.
        """
        self.path = directory.absolute() / FILE
        try:
            self._writer, self._reader = connect(self.path, SCHEMA, VERSION)
            self._reader.execute(READ_WHOLE).fetchall()
        except sqlite3.Error as error:
            why = explained(self.path, error)
            if why.code == DAMAGED:
                raise DatabaseDamaged(f"{self.path}: {error}", hint=RESTORE) from error
            raise why from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hosted-disk")
        self._waiting: deque[tuple[Callable[[sqlite3.Connection], object], asyncio.Future[object]]]
        self._waiting = deque()
        self._busy = False

    @property
    def streams(self) -> list[str]:
        """Every stream that has told something."""
        return [name for (name,) in self._reader.execute("SELECT stream FROM head").fetchall()]

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as a transaction; its result once that is on the disk.

        Raises: what it raises (undone); Overloaded; StorageFull, LogBroken (nothing happened).
        Cancellation: it commits all the same.
        """
        if len(self._waiting) >= QUEUE_MAX:
            raise Overloaded(f"{QUEUE_MAX} changes wait for the disk already")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))  # type: ignore[arg-type]  # a queue of many kinds
        self._kick()
        return await asyncio.shield(future)

    def _kick(self) -> None:
        if self._busy or not self._waiting:
            return
        group = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
        self._busy = True
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._thread, self._commit, [work for work, _ in group])
        done.add_done_callback(lambda found: self._settle(found, [future for _, future in group]))

    def _settle(
        self, found: asyncio.Future[list[object]], futures: list[asyncio.Future[object]]
    ) -> None:
        self._busy = False
        for outcome, future in zip(found.result(), futures, strict=True):
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._kick()

    def _commit(self, group: list[Callable[[sqlite3.Connection], object]]) -> list[object]:
        """One transaction, a savepoint for each; the results, or the errors in their place."""
        outcomes: list[object] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            outcomes += [self._try(work) for work in group]
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            why = explained(self.path, error)
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            return [why] * len(group)
        return outcomes

    def _try(self, work: Callable[[sqlite3.Connection], object]) -> object:
        self._writer.execute("SAVEPOINT one")
        try:
            outcome = work(self._writer)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  it is raised where the answer is awaited
            self._writer.execute("ROLLBACK TO one")
            outcome = error
        self._writer.execute("RELEASE one")
        return outcome

    # The outbox

    def state(self, stream: str) -> OutboxState:
        """Epochs, head and oldest row of one stream."""
        ask = self._reader.execute
        epochs = ask(
            "SELECT epoch, base, base_hash, nonce FROM epoch WHERE stream = ? ORDER BY epoch",
            (stream,),
        ).fetchall()
        head = ask("SELECT epoch, seq, hash FROM head WHERE stream = ?", (stream,)).fetchone()
        first = ask(
            "SELECT seq, prev_epoch, prev_hash FROM outbox WHERE stream = ? ORDER BY seq LIMIT 1",
            (stream,),
        ).fetchone()
        link = Link(*head)
        tail = first[0] if first else link.seq + 1
        before = Link(first[1], first[0] - 1, first[2]) if first else link
        return OutboxState(tuple(Epoch(*row) for row in epochs), link, tail, before)

    def after(self, stream: str, seq: int, rows_max: int, bytes_max: int) -> list[Event]:
        """Events beyond `seq`, in order; at least one if there is one."""
        rows = self._reader.execute(
            f"SELECT {EVENT} FROM outbox WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608  our own columns
            (stream, seq, rows_max),
        ).fetchall()
        total = 0
        for index, row in enumerate(rows):
            total += len(row[-1])
            if index and total > bytes_max:
                rows = rows[:index]
                break
        return [Event(*row) for row in rows]

    async def tell(self, stream: str, draft: Draft) -> tuple[Event, bool]:
        """Store an event durably, or find it stored already: the event, and whether it was there.

        Raises: Conflict (code `idempotency-key-reused`) when the id has another content; as `write`.
        """
        now_ms = clock.now_ms()
        return await self.write(lambda db: _tell(db, stream, draft, now_ms))

    async def sweep(self, stream: str, acked: Position) -> None:
        """Forget events that the bus has had for KEEP_MS."""
        before_ms = clock.now_ms() - KEEP_MS
        await self.write(
            lambda db: (
                db.execute(
                    "DELETE FROM outbox WHERE rowid IN (SELECT rowid FROM outbox WHERE stream = ?"
                    " AND seq <= ? AND ts_ms < ? ORDER BY seq LIMIT ?)",
                    (stream, acked.seq, before_ms, SWEEP_ROWS),
                ).rowcount
            )
        )

    # Cursors

    def cursors(self, program: str, name: str) -> Cursors:
        """Where a consumer stands."""
        key = (program, name)
        known = self._reader.execute(
            "SELECT 1 FROM consumer WHERE program = ? AND name = ?", key
        ).fetchone()
        rows = self._reader.execute(
            "SELECT stream, epoch, seq FROM cursor WHERE program = ? AND name = ? AND seq > 0", key
        ).fetchall()
        return Cursors(known is not None, {row[0]: Position(row[1], row[2]) for row in rows})

    def consumers(self, program: str) -> int:
        """How many consumers a program has."""
        row = self._reader.execute(
            "SELECT count(*) FROM consumer WHERE program = ?", (program,)
        ).fetchone()
        return int(row[0])

    async def move(self, program: str, name: str, at: dict[str, Position]) -> None:
        """Have a consumer stand here, durably. Raises: as `write`."""
        now_ms = clock.now_ms()

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO consumer VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (program, name, now_ms),
            )
            db.executemany(
                "INSERT INTO cursor VALUES (?, ?, ?, ?, ?) ON CONFLICT (program, name, stream)"
                " DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq",
                [(program, name, stream, each.epoch, each.seq) for stream, each in at.items()],
            )

        await self.write(work)

    async def diverge(
        self, program: str, name: str, stream: str, was: Position, base: int, new_epoch: int
    ) -> None:
        """Note that a consumer was given events which a restore has replaced (R9)."""
        row = (program, name, stream, was.epoch, base + 1, was.seq, new_epoch, clock.now_ms())
        await self.write(
            lambda db: db.execute("INSERT INTO diverged VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        )

    # The end

    async def hold(self) -> Cut:
        """Let the writer stand, for a cut through several databases."""
        cut = Cut(self.path)
        loop = asyncio.get_running_loop()

        def submit(stand: Callable[[], None]) -> asyncio.Future[None]:
            return loop.run_in_executor(self._thread, stand)

        try:
            await cut.hold(submit)
        except BaseException:
            await cut.close()
            raise
        return cut

    def close(self) -> None:
        """Finish what the disk has in hand, then close. Idempotent."""
        self._thread.shutdown()
        self._reader.close()
        self._writer.close()


class HostedOutbox:
    """One stream of the file, as the bus reads it (`buses.contract.Outbox`)."""

    def __init__(self, hosted: Hosted, stream: str) -> None:
        self._hosted = hosted
        self._stream = stream
        self.acked = Position(0, 0)

    async def state(self) -> OutboxState:
        """A fresh reading."""
        return self._hosted.state(self._stream)

    async def after(self, seq: int, *, rows_max: int, bytes_max: int) -> list[Event]:
        """Events beyond `seq`, in order."""
        return self._hosted.after(self._stream, seq, rows_max, bytes_max)

    def taken(self, position: Position) -> None:
        """Nobody waits for it."""

    async def acknowledged(self, position: Position) -> None:
        """The bus holds everything up to here durably."""
        self.acked = max(self.acked, position)


def _tell(db: sqlite3.Connection, stream: str, draft: Draft, now_ms: int) -> tuple[Event, bool]:
    row = db.execute(
        f"SELECT {EVENT} FROM outbox WHERE stream = ? AND id = ?",  # noqa: S608  our own columns
        (stream, draft.id),
    ).fetchone()
    if row is not None:
        found = Event(*row)
        if (found.type, found.key, found.body) != (draft.type, draft.key, draft.body):
            raise Conflict(
                "an event with this id was told already, with another content",
                code="idempotency-key-reused",
            )
        return found, True
    epoch, head = _head(db, stream)
    seq = head.seq + 1
    digest = chain_hash(
        head.hash, epoch, seq, draft.id, draft.type, draft.key, now_ms, draft.trace, draft.body
    )
    event = Event(
        *(stream, epoch, seq, head.epoch, head.hash, digest, draft.id, draft.type),
        *(draft.key, now_ms, draft.trace, draft.body),
    )
    db.execute(
        f"INSERT INTO outbox ({EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  our own columns
        (
            *(stream, epoch, seq, head.epoch, head.hash, digest, draft.id, draft.type),
            *(draft.key, now_ms, draft.trace, draft.body),
        ),
    )
    db.execute(
        "UPDATE head SET epoch = ?, seq = ?, hash = ? WHERE stream = ?",
        (epoch, seq, digest, stream),
    )
    return event, False


def _head(db: sqlite3.Connection, stream: str) -> tuple[int, Link]:
    """The newest epoch and the head; both are made with a stream's first event."""
    row = db.execute(
        "SELECT epoch, seq, hash, (SELECT max(epoch) FROM epoch WHERE stream = ?)"
        " FROM head WHERE stream = ?",
        (stream, stream),
    ).fetchone()
    if row is not None:
        return int(row[3]), Link(*row[:3])
    nonce = bytes.fromhex(clock.random_hex(NONCE_BYTES))
    db.execute("INSERT INTO epoch VALUES (?, 1, 0, ?, ?)", (stream, NO_HASH, nonce))
    db.execute("INSERT INTO head VALUES (?, 0, 0, ?)", (stream, NO_HASH))
    return 1, Link(0, 0, NO_HASH)
