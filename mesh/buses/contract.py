"""What every bus promises. Read this first.

The producer's outbox *is* the log: positions are given in the producer's own transaction and
never change. A bus is a durable replica of every outbox, and a doorbell. It promises

- durable when acknowledged,
- at least once, in order within a stream (one stream a producer),
- a subscriber names itself and keeps its cursor in its own database, so that effect and cursor
  move in one transaction and each event takes effect once.

A bus therefore needs two things of the program it serves: its outbox to read from (`Outbox`)
and somebody to hand events to (`Inbox`).
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Annotated, Protocol

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mesh.buses.disorder import Disorder

AUDIENCE = "bus"
"""For whom a token is made that is shown to the bus."""

HASH_BYTES = 16
EVENT_BYTES_MAX = 1024 * 1024 - 4096
"""Largest body: one MiB is the largest frame a bus takes, headers included."""

EpochNumber = Annotated[int, Meta(ge=0, le=2**32 - 1)]
SeqNumber = Annotated[int, Meta(ge=0, le=2**62)]
Hash = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
"""Checked when read from outside; the largest position keeps every sum within 64 bits."""

NO_HASH = bytes(HASH_BYTES)
"""The hash before the first event of a stream."""


class Position(Struct, frozen=True, order=True):
    """A place in one stream. `seq` counts from 1 and is contiguous across epochs."""

    epoch: EpochNumber
    seq: SeqNumber


class Link(Struct, frozen=True, gc=False):
    """A position and the chain hash there: enough to recognise one history among several."""

    epoch: EpochNumber
    seq: SeqNumber
    hash: Hash


ORIGIN = Link(0, 0, NO_HASH)
"""The place before the first event of any stream."""


class Epoch(Struct, frozen=True):
    """One life of a producer's history: it replaces all events of older epochs beyond `base`."""

    epoch: EpochNumber
    base: SeqNumber
    base_hash: Hash
    nonce: Annotated[bytes, Meta(max_length=64)]


class Event(Struct, frozen=True, gc=False):
    """One event as it is stored and sent.

    `key` is the id of the entity it tells of, `id` 16 bytes (UUIDv7), `ts_ms` wall time,
    `trace` JSON of `Trace`, `body` JSON of the data.
    """

    stream: str
    epoch: int
    seq: int
    prev_epoch: int
    prev_hash: bytes
    hash: bytes
    id: bytes
    type: str
    key: str
    ts_ms: int
    trace: bytes
    body: bytes

    @property
    def link(self) -> Link:
        """Where this event stands."""
        return Link(self.epoch, self.seq, self.hash)

    @property
    def previous(self) -> Link:
        """Where its predecessor must stand."""
        return Link(self.prev_epoch, self.seq - 1, self.prev_hash)


class Trace(Struct, frozen=True, omit_defaults=True):
    """Where an event comes from: the W3C trace, the whole story's id, and what caused it."""

    traceparent: str = ""
    correlation: str = ""
    cause: str = ""


_FIXED = struct.Struct(f">I{HASH_BYTES}sIIIQI")
_TIME = struct.Struct(">IQI")


def chain_hash(
    prev_hash: bytes,
    epoch: int,
    seq: int,
    event_id: bytes,
    event_type: str,
    key: str,
    ts_ms: int,
    trace: bytes,
    body: bytes,
) -> bytes:
    """blake2b-128 over every part, each prefixed by its length as u32, so no two tuples collide."""
    kind, name = event_type.encode(), key.encode()
    parts = (
        _FIXED.pack(HASH_BYTES, prev_hash, 4, epoch, 8, seq, len(event_id)),
        event_id,
        len(kind).to_bytes(4, "big"),
        kind,
        len(name).to_bytes(4, "big"),
        name,
        _TIME.pack(8, ts_ms, len(trace)),
        trace,
        len(body).to_bytes(4, "big"),
        body,
    )
    return hashlib.blake2b(b"".join(parts), digest_size=HASH_BYTES).digest()


class OutboxState(Struct, frozen=True):
    """What a producer announces: every epoch with its base, the head, the oldest row kept.

    `before` is where the oldest row goes on from: a bus that knows nothing yet begins there.
    """

    epochs: tuple[Epoch, ...]
    head: Link
    tail_seq: int
    before: Link = ORIGIN


class Outbox(Protocol):
    """A producer's own log, as the bus reads it."""

    async def state(self) -> OutboxState:
        """A fresh reading."""

    async def after(self, seq: int, *, rows_max: int, bytes_max: int) -> list[Event]:
        """Events beyond `seq`, in order; at least one if there is one, however large.

        Only such as a power cut cannot take back: they may be heard before the bus has them on disk.
        """

    def taken(self, position: Position) -> None:
        """The bus has everything up to here; told at once, to be noted and no more."""

    async def acknowledged(self, position: Position) -> None:
        """The bus holds everything up to here durably. Informative, and may come twice."""


class Cursor(Struct, frozen=True):
    """How far a consumer has applied one stream, and the newest epoch it knows of."""

    link: Link = ORIGIN
    known_epoch: int = 0
    known_base: int = 0


class Applied(Struct, frozen=True):
    """How an attempt to apply events ended: the cursor now, and when to offer the next again."""

    cursor: Cursor
    retry_after_s: float | None = None


class Inbox(Protocol):
    """A consumer, as the bus hands it events."""

    async def cursor(self, stream: str) -> Cursor:
        """A fresh reading."""

    async def apply(self, stream: str, events: Sequence[Event]) -> Applied:
        """Apply in order, each with its cursor in one transaction; stop at the first failure.

        Only events that extend the cursor are offered. An event whose handler failed is
        offered again after `retry_after_s`; the bus holds the stream there meanwhile.
        """

    async def notice(self, stream: str, epoch: Epoch, base: Link) -> Cursor:
        """A newer epoch exists: note it, flag effects of replaced events, step back to its base.

        `base` is where the epoch begins: after two restores only the bus's list of epochs says
        which of them the event there belongs to.

        Every epoch beyond the cursor's `known_epoch` is told, oldest first, before any event of
        it is offered; the answer must know at least that epoch.
        """

    async def begin(self, stream: str, link: Link) -> Cursor:
        """The oldest event that is kept goes on from `link`: begin there.

        Told only to a cursor at the origin: who is new to a stream hears what there still is.
        """


class Follower(Struct, frozen=True):
    """One consumer of a stream, as the bus knows it: how far it said it is, and when.

    `required`: nothing is trimmed that it has not applied.
    """

    name: str
    cursor: Position
    known_epoch: EpochNumber
    seen_ms: int
    required: bool


class StreamHead(Struct, frozen=True):
    """The bus's newest durable event of one stream, its newest epoch, and who follows it."""

    stream: str
    head: Link
    tail_seq: int
    epoch: EpochNumber = 0
    followers: tuple[Follower, ...] = ()


class Arrived(Struct, frozen=True):
    """An event with its place in the bus's order of arrival.

    Causes come first, unless the bus has died, or was full, after it had shown one.
    """

    arrival: int
    event: Event


class Bus(Protocol):
    """One program's connection to the bus. Absence of the bus is never an error here: it waits."""

    async def start(self) -> None:
        """Connect in the background; returns at once."""

    def relay(self, outbox: Outbox, *, pace_s: float | None = None) -> None:
        """Begin to copy this producer's outbox to the bus, from wherever the bus stands.

        Args:
            pace_s: how long what is told in a row may wait for company, if not as long as the bus
                thinks best; what is told after a pause goes at once.
        """

    def wake(self) -> None:
        """The outbox has grown. Cheap; call it after every commit that told something."""

    def subscribe(self, streams: Sequence[str], inbox: Inbox) -> None:
        """Begin to hand these streams to the inbox, from its cursors on."""

    def disturb(self, way: Disorder) -> None:
        """Hear the feed by this way, which faults on purpose make a bad one.

        Nothing is lost by it, nor handed over twice: what does not come as it was sent is fetched.
        """

    @property
    def state(self) -> str:
        """`connecting`, `live`, or `fenced: why`, which needs an operator."""

    @property
    def lag(self) -> int | None:
        """Events that the bus has and the subscribed inboxes have not; None if nothing is known."""

    @property
    def lags(self) -> dict[str, int]:
        """The same of each stream of which something is known."""

    async def heads(self, *, timeout_s: float) -> list[StreamHead]:
        """Every stream the bus knows, with its head. Raises BusUnavailable."""

    def arrivals(self, after: int, *, follow: bool) -> AsyncGenerator[list[Arrived], None]:
        """Batches of the whole log beyond arrival number `after`, in order of arrival.

        Args:
            after: 0 for everything; negative -n for the last n.
            follow: go on waiting for more, also for a bus that goes away and comes back; no
                event comes twice. Else end at the head found at the start.

        Raises: BusUnavailable when the bus cannot be reached for 5 s, at the start at the latest.
        """

    async def close(self) -> None:
        """Stop relaying and delivering; what is being applied is finished first. Idempotent."""
