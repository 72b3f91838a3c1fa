"""Events out: rows of the service's own commit, read by the bus from wherever it stands.

It never publishes: the bus copies from here, at its own pace, and a crash on either side is
mended by reading again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec
from mesh.bus import EVENT_BYTES_MAX, Epoch, Event, Link, OutboxState, Position, Trace, chain_hash
from mesh.errors import Broken, TooLarge

if TYPE_CHECKING:
    from mesh.database import Database, Transaction

NONCE_BYTES = 16


class _Head(Struct):
    epoch: int
    seq: int
    hash: bytes
    current: int


def found_epoch(tx: Transaction) -> None:
    """Begin the first epoch of a new database."""
    tx.execute(
        "INSERT INTO mlp_epoch (epoch, base, base_hash, nonce)"
        " VALUES (1, 0, zeroblob(16), :nonce) ON CONFLICT DO NOTHING",
        nonce=bytes.fromhex(clock.random_hex(NONCE_BYTES)),
    )


def append(
    tx: Transaction, *, event_type: str, key: str, trace: Trace, body: bytes, ts_ms: int
) -> None:
    """Add one event to the log, as part of the caller's commit.

    Raises: TooLarge when the body is over EVENT_BYTES_MAX.
    """
    if len(body) > EVENT_BYTES_MAX:
        raise TooLarge(f"an event of {len(body)} bytes; at most {EVENT_BYTES_MAX} are taken")
    head = tx.one(
        _Head,
        "SELECT epoch, seq, hash, (SELECT max(epoch) FROM mlp_epoch) AS current FROM mlp_head",
    )
    if head is None:
        raise Broken("the outbox has no head")
    event_id = clock.uuid7()
    origin = codec.encode(trace)
    seq = head.seq + 1
    digest = chain_hash(
        head.hash, head.current, seq, event_id, event_type, key, ts_ms, origin, body
    )
    tx.execute(
        "INSERT INTO outbox"
        " (seq, epoch, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body)"
        " VALUES (:seq, :epoch, :prev_epoch, :prev_hash, :hash, :id, :type, :key, :ts_ms,"
        " :trace, :body)",
        seq=seq,
        epoch=head.current,
        prev_epoch=head.epoch,
        prev_hash=head.hash,
        hash=digest,
        id=event_id,
        type=event_type,
        key=key,
        ts_ms=ts_ms,
        trace=origin,
        body=body,
    )
    tx.execute(
        "UPDATE mlp_head SET epoch = :epoch, seq = :seq, hash = :hash",
        epoch=head.current,
        seq=seq,
        hash=digest,
    )


class ServiceOutbox:
    """This service's log, as the bus reads it (`buses.contract.Outbox`)."""

    def __init__(self, database: Database, stream: str) -> None:
        """`stream` is the service's name."""
        self._database = database
        self._stream = stream
        self._acked = Position(0, 0)

    async def state(self) -> OutboxState:
        """Epochs, head and oldest row, read afresh."""
        read = self._database.read
        epochs = read.all(
            Epoch, "SELECT epoch, base, base_hash, nonce FROM mlp_epoch ORDER BY epoch LIMIT 10000"
        )
        head = read.one(Link, "SELECT epoch, seq, hash FROM mlp_head")
        tail = read.one(int, "SELECT min(seq) FROM outbox WHERE seq > 0") if head else None
        if head is None:
            raise Broken("the outbox has no head")
        return OutboxState(tuple(epochs), head, tail or head.seq + 1)

    async def after(self, seq: int, *, rows_max: int, bytes_max: int) -> list[Event]:
        """Events beyond `seq`, in order; at least one if there is one, however large."""
        rows = self._database.read.all(
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

    async def acknowledged(self, position: Position) -> None:
        """The bus holds everything up to here.

        Kept in memory alone: the bus says it again at every session, and a commit an
        acknowledgement would cost more than the event did.
        """
        self._acked = max(self._acked, position)

    def counters(self) -> dict[str, int]:
        """Epoch, head and acknowledged sequence, for `mesh wait --for idle`."""
        head = self._database.read.one(Position, "SELECT epoch, seq FROM mlp_head")
        assert head is not None
        return {"epoch": head.epoch, "head": head.seq, "acked": self._acked.seq}
