"""The broker's durable log: a replica of every outbox, on SQLite.

Everything here can be rebuilt from the outboxes, so a damaged file is set aside as evidence and
made anew; what it refuses is to call anything durable before `commit` has returned. One connection
writes and alone checkpoints; another reads, on the event loop, a bounded batch at a time. Inserts
run on the event loop too, since a thread would fight for the interpreter lock row by row; only
`commit` and `checkpoint`, which wait for the disk, belong on a thread.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, telemetry
from mesh.buses.contract import Arrived, Epoch, Event, Follower, Link, Position
from mesh.buses.zmq import statements
from mesh.buses.zmq.logfile import (
    DAMAGE,
    FILE,
    connect,
    explained,
    hold,
    set_aside,
    wal_path,
)
from mesh.buses.zmq.protocol.lineage import newest, size
from mesh.buses.zmq.protocol.stream import Stream
from mesh.errors import StorageFull

if TYPE_CHECKING:
    from pathlib import Path

WAL_IDLE_BYTES = 8 * 1024 * 1024
"""Once so much is written, the next idle moment is used for a checkpoint: some 20 ms of work."""

WAL_BYTES_MAX = 64 * 1024 * 1024
"""Beyond this a checkpoint does not wait for an idle moment, and shrinks the file."""

LOG_BYTES_MAX = 4 * 1024**3
"""Beyond this no event is taken: the outboxes hold them (R11). Eight million of 400 bytes."""

TRIM_ROWS_MAX = 2000
"""Events removed in one commit: one to two milliseconds of the loop, less than ten of the disk."""

COMMIT_BYTES = 24 * 1024
"""What one commit writes beside its events: pages of index, tree and stream row."""

_log = telemetry.logger("bus")


class Advancing(Struct, frozen=True):
    """New epochs of a stream, and the head it falls back to."""

    stream: str
    epochs: tuple[Epoch, ...]
    head: Link


class Seen(Struct, frozen=True):
    """How far a consumer of this stream said it is."""

    stream: str
    who: Follower


class Group(Struct, frozen=True):
    """What one commit makes durable, in this order.

    `quarantines` are streams with the reason, `trims` with the last event that goes.
    """

    advances: tuple[Advancing, ...] = ()
    events: tuple[Event, ...] = ()
    quarantines: tuple[tuple[str, str], ...] = ()
    seen: tuple[Seen, ...] = ()
    trims: tuple[tuple[str, int], ...] = ()


class Log:
    """The open log. `commit` and `checkpoint` may run on another thread, one at a time."""

    def __init__(self, directory: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        """Open or make the log in `directory`, which is locked until `close`.

        Args:
            bytes_max: of what is in use; beyond it events are refused, never dropped.

        Raises: AlreadyRunning; SchemaMismatch; LogBroken.
        """
        self.path = directory.absolute() / FILE
        self.bytes_max = bytes_max
        self._lock = hold(directory)
        try:
            self._connect()
        except BaseException:
            os.close(self._lock)
            raise

    def _connect(self) -> None:
        try:
            self.streams = self._open()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGE:
                raise explained(self.path, error) from error
            kept = set_aside(self.path)
            _log.warning("%s: %s; made anew, kept as %s", self.path, error, kept.name)
            self.streams = self._open()
        self.life: bytes = self._reader.execute("SELECT id FROM life").fetchone()[0]
        self.arrival = self._staged = self._reader.execute(statements.LAST_ARRIVAL).fetchone()[0]
        self._unsettled = WAL_IDLE_BYTES
        self._page_bytes = int(self._writer.execute("PRAGMA page_size").fetchone()[0])
        self.used_bytes = self._measured()

    def _open(self) -> tuple[Stream, ...]:
        self._writer, self._reader = connect(self.path)
        try:
            return self._recover()
        except sqlite3.Error:
            self._reader.close()
            self._writer.close()
            raise

    def _recover(self) -> tuple[Stream, ...]:
        """Every stream as it was when last committed."""
        streams: list[Stream] = []
        rows = self._reader.execute(
            "SELECT stream, head_epoch, head_seq, head_hash, tail_seq, state FROM stream"
        )
        for name, epoch, seq, hash_, tail_seq, state in rows.fetchall():
            head = Link(epoch, seq, hash_)
            if self._at(name, head) != head:
                damage = sqlite3.DatabaseError(f"{name} does not end at its head")
                damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise damage
            epochs = self._reader.execute(
                "SELECT epoch, base, base_hash, nonce FROM epoch WHERE stream = ? ORDER BY epoch",
                (name,),
            )
            lineage = tuple(Epoch(*row) for row in epochs.fetchall())
            streams.append(Stream(name, lineage, head, head, tail_seq, state))
        return tuple(streams)

    def followers(self) -> list[Seen]:
        """Every consumer that is known. Raises: LogBroken."""
        try:
            rows = self._reader.execute(
                "SELECT stream, name, epoch, seq, known_epoch, seen_ms, required FROM consumer"
            ).fetchall()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        return [
            Seen(stream, Follower(name, Position(epoch, seq), known, seen_ms, bool(required)))
            for stream, name, epoch, seq, known, seen_ms, required in rows
        ]

    def _measured(self) -> int:
        """The bytes in use. In the writer's transaction where there is one: else it locks anew."""
        pages, free = (
            self._writer.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count")
        )
        return int(pages - free) * self._page_bytes

    def _at(self, stream: str, place: Link) -> Link:
        """What the log holds at that number; `place` itself if it holds nothing there (any more)."""
        row = self._writer.execute(
            "SELECT epoch, hash FROM log WHERE stream = ? AND seq = ?", (stream, place.seq)
        ).fetchone()
        return place if row is None else Link(row[0], place.seq, row[1])

    # Writing

    def stage(self, group: Group) -> tuple[Link, ...]:
        """Begin a transaction and write the group into it.

        Returns: for each advance what the log holds at its head; another hash there means that
            nothing was done for it.
        Raises: StorageFull (also for events beyond `bytes_max`), LogBroken; the transaction is
            gone then.
        """
        bytes_ = sum(len(event.body) + len(event.trace) for event in group.events)
        if group.events and self.used_bytes + bytes_ > self.bytes_max:
            raise StorageFull(f"the event log {self.path} holds {self.bytes_max} bytes")
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            found = tuple(self._advance(each) for each in group.advances)
            self._append(group.events)
            self._writer.executemany(
                "UPDATE stream SET state = ? WHERE stream = ?",
                [(why, name) for name, why in group.quarantines],
            )
            self._see(group.seen)
            self._trim(group.trims)
        except sqlite3.Error as error:
            raise self._undone(error) from error
        self._unsettled += COMMIT_BYTES + bytes_ * 3 // 2
        return found

    def commit(self) -> None:
        """Make durable what was staged. Waits for the disk.

        Raises: StorageFull, LogBroken; nothing of it has happened then.
        """
        try:
            used_bytes = self._measured()
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._undone(error) from error
        self.arrival = self._staged
        self.used_bytes = used_bytes

    def _undone(self, error: sqlite3.Error) -> Exception:
        self._staged = self.arrival
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as worse:
            return explained(self.path, worse)
        return explained(self.path, error)

    def _advance(self, step: Advancing) -> Link:
        name, head, epoch = step.stream, step.head, newest(step.epochs)
        found = self._at(name, head) if head.seq else head
        if found != head:
            return found
        beyond = (name, head.seq)
        self._writer.execute(statements.MAKE_GHOSTS, (epoch, clock.now_ms(), *beyond))
        self._writer.execute("DELETE FROM log WHERE stream = ? AND seq > ?", beyond)
        self._writer.executemany(
            "INSERT INTO epoch (stream, epoch, base, base_hash, nonce) VALUES (?, ?, ?, ?, ?)",
            [(name, e.epoch, e.base, e.base_hash, e.nonce) for e in step.epochs],
        )
        base = next(each.base for each in step.epochs if each.epoch == epoch)
        place = (head.epoch, head.seq, head.hash, head.seq + 1)
        self._writer.execute(statements.ADVANCE, (name, epoch, base, *place))
        return found

    def _append(self, events: tuple[Event, ...]) -> None:
        heads: dict[str, Event] = {event.stream: event for event in events}
        first = self._staged + 1
        self._writer.executemany(
            statements.INSERT,
            [
                (arrival, e.stream, e.epoch, e.seq, e.prev_epoch, e.prev_hash, e.hash, e.id,
                 e.type, e.key, e.ts_ms, e.trace, e.body)
                for arrival, e in enumerate(events, first)
            ],
        )  # fmt: skip
        self._staged += len(events)
        self._writer.executemany(
            "UPDATE stream SET head_epoch = ?, head_seq = ?, head_hash = ? WHERE stream = ?",
            [(e.epoch, e.seq, e.hash, e.stream) for e in heads.values()],
        )

    def _see(self, seen: tuple[Seen, ...]) -> None:
        self._writer.executemany(
            statements.SEE,
            [
                (each.stream, who.name, who.cursor.epoch, who.cursor.seq, who.known_epoch,
                 who.seen_ms, who.required)
                for each in seen
                for who in [each.who]
            ],
        )  # fmt: skip

    def _trim(self, trims: tuple[tuple[str, int], ...]) -> None:
        for stream, seq in trims:
            self._writer.execute("DELETE FROM log WHERE stream = ? AND seq <= ?", (stream, seq))
            self._writer.execute(
                "UPDATE stream SET tail_seq = ? WHERE stream = ? AND tail_seq <= ?",
                (seq + 1, stream, seq),
            )

    def checkpoint_due(self, *, idle: bool) -> bool:
        """True when enough is written for a checkpoint, given whether the writer has work."""
        return self._unsettled >= (WAL_IDLE_BYTES if idle else WAL_BYTES_MAX)

    def checkpoint(self) -> None:
        """Move what is committed into the file itself. Waits for the disk. Raises: LogBroken."""
        large = wal_path(self.path).stat().st_size > WAL_BYTES_MAX
        try:
            busy, written, moved = self._writer.execute(
                "PRAGMA wal_checkpoint(TRUNCATE)" if large else "PRAGMA wal_checkpoint(PASSIVE)"
            ).fetchone()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        self._unsettled = 0 if written == moved and not busy else WAL_IDLE_BYTES // 2

    # Reading: inline on the event loop, so always bounded

    def read(self, stream: str, after: int, rows_max: int, bytes_max: int) -> tuple[Event, ...]:
        """Committed events of one stream beyond `after`; at least one if there is one.

        Raises: LogBroken.
        """
        rows = self._rows(statements.READ, (stream, after, rows_max), bytes_max)
        return tuple(event for _, event in rows)

    def outlived(self, stream: str, tail: int, last: int, before_ms: int) -> int:
        """The last of the events `tail` to `last` up to which all are older, TRIM_ROWS_MAX at most.

        Returns: `tail - 1` if there is none.
        Raises: LogBroken.
        """
        last = min(last, tail + TRIM_ROWS_MAX - 1)
        try:
            young = self._reader.execute(
                statements.FIRST_YOUNG, (stream, tail, last, before_ms)
            ).fetchone()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        return last if young[0] is None else int(young[0]) - 1

    def arrivals(self, after: int, rows_max: int, bytes_max: int) -> tuple[Arrived, ...]:
        """Committed events of all streams beyond arrival number `after`. Raises: LogBroken."""
        rows = self._rows(statements.READ_ARRIVALS, (after, rows_max), bytes_max)
        return tuple(Arrived(arrival, event) for arrival, event in rows)

    def arrival_after(self, stream: str, seq: int) -> int | None:
        """The arrival number of a stream's first committed event beyond `seq`. Raises: LogBroken."""
        try:
            row = self._reader.execute(statements.ARRIVAL_AFTER, (stream, seq)).fetchone()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        return None if row is None else int(row[0])

    def _rows(
        self, sql: str, values: tuple[str | int, ...], bytes_max: int
    ) -> list[tuple[int, Event]]:
        found: list[tuple[int, Event]] = []
        held = 0
        try:
            cursor = self._reader.execute(sql, values)
            for arrival, *columns in cursor:
                event = Event(*columns)
                held += size(event)
                if found and held > bytes_max:
                    break
                found.append((arrival, event))
            cursor.close()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        return found

    # The end

    def close(self) -> None:
        """Settle and let go. What was staged and not committed is forgotten. Idempotent."""
        if self._lock < 0:
            return
        self._reader.close()
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        self._writer.close()
        os.close(self._lock)
        self._lock = -1
