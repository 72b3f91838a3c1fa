"""Events out: rows of the service's own commit, read by the bus from wherever it stands.

It never publishes: the bus copies from here, at its own pace, and a crash on either side is
mended by reading again.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec, telemetry
from mesh.bus import EVENT_BYTES_MAX, Epoch, Event, Link, OutboxState, Position, Trace, chain_hash
from mesh.errors import Broken, Conflict, StorageFull, TooLarge

if TYPE_CHECKING:
    from mesh.database import Database, Transaction

NONCE_BYTES = 16

KEY_BYTES_MAX = 3072
"""Of the id an event is about: with the stream and the type the bus takes 4096 bytes."""

PENDING_MAX = 1_000_000
"""Events told that the bus has not taken yet: days of an ordinary shop. Beyond, what would tell one
more is refused as for want of space, so that the disk is not filled silently."""

KEEP_MS = 7 * 24 * 3600 * 1000
"""Events that the bus has are kept this long, so that a lost log of the bus can be rebuilt."""

TRIM_ROWS_MAX = 2000
"""Rows removed in one transaction, for the writer's other work."""


PACE_S = 0.05
"""Events told in a row leave this often: each departure is work for the bus and for every hearer, and
here there are requests to answer. What is told after a pause leaves at once."""

WAITING_MAX = 10_000
"""Events whose wait for the bus is timed; while it is away for long, the earliest are not."""


RECENT_MAX = 256
"""Events kept at hand after their commit: the bus asks for them at once, a few at a time, and a look
into the table costs more than the telling did."""

RECENT_BYTES_MAX = 4096
"""The longest body among them."""


class Told(Struct, frozen=True):
    """An event as the one who told it follows it: `trace` is its own step of the story."""

    event: Event
    trace: telemetry.TraceContext
    parent_id: str


class _End(Struct, frozen=True):
    """Where the log ends: its newest event, and the epoch of the next."""

    epoch: int
    seq: int
    hash: bytes
    acked: int
    current: int


def found_epoch(tx: Transaction) -> None:
    """Begin the first epoch of a new database."""
    tx.execute(
        "INSERT INTO mlp_epoch (epoch, base, base_hash, nonce)"
        " VALUES (1, 0, zeroblob(16), :nonce) ON CONFLICT DO NOTHING",
        nonce=bytes.fromhex(clock.random_hex(NONCE_BYTES)),
    )


_INSERT = (
    "INSERT INTO outbox"
    " (seq, epoch, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body, acked)"
    " VALUES (:seq, CASE (SELECT max(epoch) FROM mlp_epoch) WHEN :epoch THEN :epoch END,"
    " :prev_epoch, CASE :seq WHEN 1 THEN :prev_hash ELSE"
    " (SELECT hash FROM outbox WHERE seq = :seq - 1 AND hash = :prev_hash) END,"
    " :hash, :id, :type, :key, :ts_ms, :trace, :body, :acked)"
)
"""One row: of a statement of several SQLite copies each page that changes, to undo it alone."""


class Log:
    """Writes events. Remembers where the log ended when it wrote last, so that nothing is read first.

    That is a guess, since what it wrote may have been undone: a row is taken only if the one that it
    goes on from is there, in the newest epoch, and nothing beyond it; else the end is read.
    """

    __slots__ = ("_end",)

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._end: _End | None = None

    def append(
        self,
        tx: Transaction,
        *,
        event_type: str,
        key: str,
        trace: Trace,
        body: bytes,
        ts_ms: int,
        acked: int = 0,
    ) -> Event:
        """Add one event to the log, as part of the caller's commit; returns it.

        Args:
            acked: up to which event the bus is known to have them; kept beside the event.

        Raises: TooLarge when the body is over EVENT_BYTES_MAX or the key over KEY_BYTES_MAX;
            StorageFull when PENDING_MAX events wait for the bus already.
        """
        if len(key.encode()) > KEY_BYTES_MAX:
            raise TooLarge(
                f"an event's key of {len(key)} characters; at most {KEY_BYTES_MAX} bytes are taken"
            )
        if len(body) > EVENT_BYTES_MAX:
            raise TooLarge(f"an event of {len(body)} bytes; at most {EVENT_BYTES_MAX} are taken")
        said = (clock.uuid7(), event_type, key, ts_ms, codec.encode(trace), body)
        try:
            return self._add(tx, self._end or _read_end(tx), acked, *said)
        except Conflict:
            return self._add(tx, _read_end(tx), acked, *said)

    def _add(
        self,
        tx: Transaction,
        end: _End,
        acked: int,
        event_id: bytes,
        event_type: str,
        key: str,
        ts_ms: int,
        trace: bytes,
        body: bytes,
    ) -> Event:
        acked = max(acked, end.acked)
        if end.seq - acked >= PENDING_MAX:
            raise StorageFull(
                f"{end.seq - acked} events wait for the bus: it takes none, or is away",
                code="outbox-full",
                hint="mesh ps bus",
            )
        epoch, seq, prev_hash = end.current, end.seq + 1, end.hash
        digest = chain_hash(prev_hash, epoch, seq, event_id, event_type, key, ts_ms, trace, body)
        tx.execute(
            _INSERT,
            seq=seq,
            epoch=epoch,
            prev_epoch=end.epoch,
            prev_hash=prev_hash,
            hash=digest,
            id=event_id,
            type=event_type,
            key=key,
            ts_ms=ts_ms,
            trace=trace,
            body=body,
            acked=acked,
        )
        self._end = _End(epoch, seq, digest, acked, epoch)
        return Event(
            *(event_type.split(".", 1)[0], epoch, seq, end.epoch, prev_hash, digest),
            *(event_id, event_type, key, ts_ms, trace, body),
        )


def _read_end(tx: Transaction) -> _End:
    end = tx.one(
        _End,
        "SELECT epoch, seq, hash, acked, (SELECT max(epoch) FROM mlp_epoch) AS current FROM mlp_head",
    )
    if end is None:
        raise Broken("the outbox has no head")
    return end


class ServiceOutbox:
    """This service's log, as the bus reads it (`buses.contract.Outbox`)."""

    def __init__(self, database: Database, stream: str) -> None:
        """`stream` is the service's name."""
        self._database = database
        self._stream = stream
        self._acked = Position(0, 0)
        self._waiting: deque[tuple[Told, float]] = deque(maxlen=WAITING_MAX)
        self._recent: deque[Event] = deque(maxlen=RECENT_MAX)
        """The last that this process told, without a gap; what is durable in the table never changes."""
        self.told_events = 0

    def told(self, told: Told) -> None:
        """An event was committed, and waits for the bus from now on."""
        self.told_events += 1
        self._waiting.append((told, clock.monotonic_s()))
        event, recent = told.event, self._recent
        if event.stream != self._stream or len(event.body) > RECENT_BYTES_MAX:
            recent.clear()
            return
        if recent and recent[-1].seq + 1 != event.seq:
            recent.clear()
        recent.append(event)

    def taken(self, position: Position) -> None:
        """The bus has everything up to here: tell how long it waited."""
        waiting = self._waiting
        if not waiting or waiting[0][0].event.seq > position.seq:
            return
        now_s = clock.monotonic_s()
        while waiting and waiting[0][0].event.seq <= position.seq:
            told, since_s = waiting.popleft()
            event = told.event
            telemetry.record(
                "outbox",
                told.trace,
                told.parent_id,
                event.type,
                since_s,
                now_s,
                values=(event.type, event.key, event.seq),
            )

    async def state(self) -> OutboxState:
        """Epochs, head and oldest row, read afresh."""
        read = self._database.read
        epochs = read.all(
            Epoch, "SELECT epoch, base, base_hash, nonce FROM mlp_epoch ORDER BY epoch LIMIT 10000"
        )
        head = read.one(Link, "SELECT epoch, seq, hash FROM mlp_head")
        if head is None:
            raise Broken("the outbox has no head")
        before = read.one(
            Link,
            "SELECT prev_epoch AS epoch, seq - 1 AS seq, prev_hash AS hash FROM outbox"
            " ORDER BY outbox.seq LIMIT 1",
        )
        before = before or head
        return OutboxState(tuple(epochs), head, before.seq + 1, before)

    async def after(self, seq: int, *, rows_max: int, bytes_max: int) -> list[Event]:
        """Events beyond `seq`, in order; at least one if there is one, however large."""
        rows = self._at_hand(seq, rows_max) or self._database.read.all(
            Event,
            "SELECT :stream AS stream, seq, epoch, prev_epoch, prev_hash, hash, id, type, key,"
            " ts_ms, trace, body FROM outbox WHERE seq > :seq ORDER BY seq LIMIT :rows_max",
            stream=self._stream,
            seq=seq,
            rows_max=rows_max,
        )
        total = 0
        for index, row in enumerate(rows):
            total += len(row.body)
            if index and total > bytes_max:
                return rows[:index]
        return rows

    def _at_hand(self, seq: int, rows_max: int) -> list[Event]:
        if not self._recent:
            return []
        skipped = seq + 1 - self._recent[0].seq
        return list(islice(self._recent, skipped, skipped + rows_max)) if skipped >= 0 else []

    async def acknowledged(self, position: Position) -> None:
        """The bus holds everything up to here.

        Kept in memory alone: the bus says it again at every session, and a commit an
        acknowledgement would cost more than the event did.
        """
        self._acked = max(self._acked, position)

    @property
    def acked_seq(self) -> int:
        """Up to which event the bus has them, as far as this process knows."""
        return self._acked.seq

    @property
    def waiting(self) -> int | None:
        """Events that the bus has not acknowledged yet; None while it has said nothing."""
        if not self._acked.seq:
            return None
        head = self._database.read.one(int, "SELECT seq FROM mlp_head") or 0
        return max(0, head - self._acked.seq)

    async def trim(self, *, keep_ms: int = KEEP_MS) -> int:
        """Remove what the bus has and what is old enough; returns how many, TRIM_ROWS_MAX at most.

        The newest row always stays, and what was told by an epoch the bus has not acknowledged.
        """
        before_ms = clock.now_ms() - keep_ms
        oldest = self._database.read.one(int, "SELECT ts_ms FROM outbox ORDER BY seq LIMIT 1")
        if oldest is None or oldest >= before_ms:
            return 0
        return await self._database.write_aside(_trim, self._acked.seq, before_ms)

    def counters(self) -> dict[str, int]:
        """Epoch, head and acknowledged sequence, for `mesh wait --for idle`."""
        head = self._database.read.one(Position, "SELECT epoch, seq FROM mlp_head")
        assert head is not None
        return {"epoch": head.epoch, "head": head.seq, "acked": self._acked.seq}


def _trim(tx: Transaction, acked: int, before_ms: int) -> int:
    return tx.execute(
        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT :most)"
        " AND seq <= :acked AND seq < (SELECT seq FROM mlp_head) AND seq < coalesce("
        " (SELECT min(seq) FROM (SELECT seq, ts_ms FROM outbox ORDER BY seq LIMIT :most)"
        " WHERE ts_ms >= :before_ms), :all)",
        most=TRIM_ROWS_MAX,
        acked=acked,
        before_ms=before_ms,
        all=acked + 1,
    )
