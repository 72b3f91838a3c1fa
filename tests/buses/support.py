"""A producer's and a consumer's database, as small as they can be, and a broker to start and kill."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import bus, clock
from mesh.bus import (
    NO_HASH,
    ORIGIN,
    Applied,
    Cursor,
    Epoch,
    Event,
    Link,
    OutboxState,
    Position,
    chain_hash,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from mesh.bus import Broker, Bus

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0
"""Longest wait for anything in these tests; what is waited for takes milliseconds."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY, epoch INTEGER, prev_epoch INTEGER, prev_hash BLOB, hash BLOB, id BLOB,
    type TEXT, key TEXT, ts_ms INTEGER, trace BLOB, body BLOB);
CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, base INTEGER, hash BLOB, nonce BLOB);
CREATE TABLE IF NOT EXISTS cursor (
    stream TEXT PRIMARY KEY, epoch INTEGER, seq INTEGER, hash BLOB, known_epoch INTEGER,
    known_base INTEGER);
CREATE TABLE IF NOT EXISTS effect (n INTEGER PRIMARY KEY, stream TEXT, seq INTEGER, body BLOB);
"""


def open_database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    return connection


class FileOutbox:
    """An outbox in a real file. Events are told in groups, each one transaction."""

    def __init__(self, path: Path, stream: str) -> None:
        self.stream = stream
        self.db = open_database(path)
        self.acked = Position(0, 0)
        if not self.db.execute("SELECT 1 FROM epochs").fetchone():
            self.db.execute("INSERT INTO epochs VALUES (1, 0, ?, ?)", (NO_HASH, clock.uuid7()))

    def head(self) -> Link:
        row = self.db.execute("SELECT epoch, seq, hash FROM outbox ORDER BY seq DESC LIMIT 1")
        found = row.fetchone()
        return Link(*found) if found else ORIGIN

    def tell(self, *bodies: bytes, kind: str = "thing.happened", key: str = "k") -> list[Event]:
        """One transaction with one event a body."""
        (epoch,) = self.db.execute("SELECT max(epoch) FROM epochs").fetchone()
        last, events = self.head(), []
        for body in bodies:
            rest = (clock.uuid7(), kind, key, clock.now_ms(), b"{}", body)
            hash_ = chain_hash(last.hash, epoch, last.seq + 1, *rest)
            place = (epoch, last.seq + 1, last.epoch, last.hash, hash_)
            events.append(Event(self.stream, *place, *rest))
            last = events[-1].link
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (e.seq, e.epoch, e.prev_epoch, e.prev_hash, e.hash, e.id, e.type, e.key, e.ts_ms,
                 e.trace, e.body)
                for e in events
            ],
        )  # fmt: skip
        self.db.execute("COMMIT")
        return events

    def restore(self, base: int) -> None:
        """Go back to event `base` under a new epoch, as `mesh restore` does."""
        self.db.execute("DELETE FROM outbox WHERE seq > ?", (base,))
        self.db.execute(
            "INSERT INTO epochs SELECT max(epoch) + 1, ?, ?, ? FROM epochs",
            (base, self.head().hash, clock.uuid7()),
        )

    def lose(self, base: int) -> None:
        """Go back to event `base` without a word, as a copied file does."""
        self.db.execute("DELETE FROM outbox WHERE seq > ?", (base,))

    def trim(self, seq: int) -> None:
        """Forget what is older, as a service does once the bus has it."""
        self.db.execute("DELETE FROM outbox WHERE seq <= ?", (seq,))

    async def state(self) -> OutboxState:
        rows = self.db.execute("SELECT epoch, base, hash, nonce FROM epochs ORDER BY epoch")
        oldest = self.db.execute(
            "SELECT prev_epoch, seq - 1, prev_hash FROM outbox ORDER BY seq LIMIT 1"
        ).fetchone()
        before = Link(*oldest) if oldest else self.head()
        epochs = tuple(Epoch(*row) for row in rows.fetchall())
        return OutboxState(epochs, self.head(), before.seq + 1, before)

    async def after(self, seq: int, *, rows_max: int, bytes_max: int) -> list[Event]:
        rows = self.db.execute(
            "SELECT epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body"
            " FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, rows_max),
        )
        events, held = [], 0
        for row in rows.fetchall():
            held += len(row[-1])
            if events and held > bytes_max:
                break
            events.append(Event(self.stream, *row))
        return events

    def taken(self, position: Position) -> None:
        pass

    async def acknowledged(self, position: Position) -> None:
        self.acked = max(self.acked, position)


class FileInbox:
    """An inbox in a real file: effect and cursor in one transaction, a batch at a time.

    `handle` may raise for an event; it is offered again after `retry_s`.
    """

    def __init__(
        self,
        path: Path,
        *,
        handle: Callable[[Event], None] | None = None,
        retry_s: float = 0.01,
    ) -> None:
        self.db = open_database(path)
        self.retry_s = retry_s
        self.handle = handle
        self.noticed: list[tuple[str, int]] = []
        self.grown = asyncio.Event()

    async def cursor(self, stream: str) -> Cursor:
        row = self.db.execute(
            "SELECT epoch, seq, hash, known_epoch, known_base FROM cursor WHERE stream = ?",
            (stream,),
        ).fetchone()
        return Cursor(Link(*row[:3]), row[3], row[4]) if row else Cursor()

    async def apply(self, stream: str, events: Sequence[Event]) -> Applied:
        cursor = await self.cursor(stream)
        done, retry_s = [], None
        for event in events:
            assert event.previous == (done[-1].link if done else cursor.link)
            if self.handle is not None:
                try:
                    self.handle(event)
                except RuntimeError:
                    retry_s = self.retry_s
                    break
            done.append(event)
        if done:
            cursor = Cursor(done[-1].link, cursor.known_epoch, cursor.known_base)
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(
                "INSERT INTO effect (stream, seq, body) VALUES (?, ?, ?)",
                [(stream, event.seq, event.body) for event in done],
            )
            self._move(stream, cursor)
            self.db.execute("COMMIT")
            self.grown.set()
        return Applied(cursor, retry_s)

    async def notice(self, stream: str, epoch: Epoch, base: Link) -> Cursor:
        self.noticed.append((stream, epoch.epoch))
        link = (await self.cursor(stream)).link
        if link.epoch < epoch.epoch and link.seq > epoch.base:
            link = base
        self._move(stream, Cursor(link, epoch.epoch, epoch.base))
        return await self.cursor(stream)

    async def begin(self, stream: str, link: Link) -> Cursor:
        known = await self.cursor(stream)
        self._move(stream, Cursor(link, known.known_epoch, known.known_base))
        return await self.cursor(stream)

    def _move(self, stream: str, cursor: Cursor) -> None:
        link = cursor.link
        place = (link.epoch, link.seq, link.hash, cursor.known_epoch, cursor.known_base)
        self.db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?, ?, ?)", (stream, *place))

    def effects(self, stream: str) -> list[tuple[int, bytes]]:
        """Sequence and body of everything applied, in the order of its application."""
        rows = self.db.execute(
            "SELECT seq, body FROM effect WHERE stream = ? ORDER BY n", (stream,)
        )
        return rows.fetchall()

    async def has(self, stream: str, count: int) -> None:
        """Wait until so many events have been applied."""
        async with asyncio.timeout(WAIT_S):
            while len(self.effects(stream)) < count:
                self.grown.clear()
                await self.grown.wait()


class BrokerProcess:
    """A broker in a process of its own, to be killed and started again."""

    def __init__(self, broker: Broker, directory: Path) -> None:
        self.broker = broker
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        read, write = os.pipe()
        module, function = self.broker.entry.split(":")
        code = f"from {module} import {function}; {function}(*{self.broker.args!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "MESH_NOTIFY_FD": str(write)},
            pass_fds=(write,),
        )
        os.close(write)
        with os.fdopen(read, "rb") as words:
            assert b"READY=1\n" in iter(words.readline, b""), self.process.wait()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_S)


@contextlib.asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Bus]:
    """A started connection, closed at the end."""
    connection = bus.connect(url, name=name)
    await connection.start()
    try:
        yield connection
    finally:
        await connection.close()


async def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait for a condition that nothing announces."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, what or "the condition never came true"
        await asyncio.sleep(0.005)
