"""What travels: one frozen struct a kind of frame. `wire.py` says how they look as bytes.

The names and numbers are those of the protocol's frame table. `session` is the random number of
one conversation (R1); `req` numbers the questions inside it, and an answer repeats the number of
its question, so a copy of an old frame is recognised whenever it arrives.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mesh.buses.contract import (
    ORIGIN,
    Epoch,
    EpochNumber,
    Event,
    Link,
    Position,
    SeqNumber,
    StreamHead,
)

FenceReason = Literal["FORK", "BEHIND", "OLD_EPOCH", "AUTH", "PROTO"]
NakReason = Literal["GAP", "CRC", "TOOBIG", "NOSPACE", "BUSY", "EPOCH"]
ResetReason = Literal["TRIMMED", "FORK", "AUTH", "PROTO"]

Name = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=2**31)]

EVERYTHING = "*"
"""In the place of a stream: the whole log, in order of arrival."""


class Hello(Struct, frozen=True):
    """Producer: here is my whole lineage and my head. Said before any PUT."""

    session: int
    req: int
    stream: Name
    epochs: tuple[Epoch, ...]
    head: Link
    tail_seq: SeqNumber
    token: str = ""
    before: Link = ORIGIN


class Welcome(Struct, frozen=True):
    """Bus: I hold this much durably; go on from there, with so much unacknowledged at most."""

    session: int
    req: int
    head: Link
    credit_msgs: int
    credit_bytes: int


class Recheck(Struct, frozen=True):
    """Bus: your head looks older than mine; read it afresh and say HELLO again."""

    session: int
    req: int
    head: Link


class Fenced(Struct, frozen=True):
    """Bus: I take nothing more from you. `req` 0: because of a PUT, else of that HELLO."""

    session: int
    req: int
    reason: FenceReason
    detail: str


class Put(Struct, frozen=True):
    """Producer: these events, in order."""

    session: int
    events: tuple[Event, ...]


class Ack(Struct, frozen=True):
    """Bus: everything up to here is durable."""

    session: int
    position: Position


class Nak(Struct, frozen=True):
    """Bus: not taken; my durable head is here."""

    session: int
    reason: NakReason
    head: Link


class Ping(Struct, frozen=True):
    """Are you there?"""

    session: int


class Pong(Struct, frozen=True):
    """I am."""

    session: int


class Evt(Struct, frozen=True):
    """Feed: one stream has grown up to `head`; usually the events themselves come along.

    They are on their producer's disk, and on the bus's a moment later (R5).
    """

    instance: int
    stream: Name
    head: Link
    events: tuple[Event, ...]


class Beat(Struct, frozen=True):
    """One stream as a heartbeat shows it."""

    stream: Name
    epoch: EpochNumber
    base: SeqNumber
    head: Link
    tail_seq: SeqNumber


class Heartbeat(Struct, frozen=True):
    """Feed: every stream's head; `instance` is new in each life of the bus."""

    instance: int
    beats: tuple[Beat, ...]


class Attach(Struct, frozen=True):
    """Consumer: I have applied this stream up to `cursor`."""

    session: int
    consumer: Name
    stream: Name
    cursor: Link
    known_epoch: EpochNumber
    token: str = ""


class Attached(Struct, frozen=True):
    """Bus: the stream's lineage and head.

    Of `EVERYTHING`: the head's `seq` is the last arrival number, and the one epoch's nonce is
    the log's own identity, new when the log was made anew.
    """

    session: int
    epochs: tuple[Epoch, ...]
    head: Link
    tail_seq: SeqNumber


class Reset(Struct, frozen=True):
    """Bus: this conversation is over. PROTO: attach again. `req` 0: the answer to an ATTACH."""

    session: int
    reason: ResetReason
    req: int = 0


class Get(Struct, frozen=True):
    """Consumer: the events after this position. Of `EVERYTHING`, `after.seq` is an arrival."""

    session: int
    req: int
    stream: Name
    after: Position
    rows_max: Count
    bytes_max: Count


class Batch(Struct, frozen=True):
    """Bus: the answer to one GET.

    Of `EVERYTHING` with their arrival numbers, and with every stream's head if no row was wanted.
    """

    session: int
    req: int
    head: Link
    events: tuple[Event, ...]
    arrivals: tuple[int, ...] = ()
    heads: tuple[StreamHead, ...] = ()


class Committed(Struct, frozen=True):
    """Consumer: my cursor, for retention and for the display of lag."""

    session: int
    stream: Name
    cursor: Position
    known_epoch: EpochNumber


ToBus = Hello | Put | Ping | Attach | Get | Committed
ToProducer = Welcome | Recheck | Fenced | Ack | Nak | Pong
ToConsumer = Attached | Reset | Batch
OnFeed = Evt | Heartbeat
Frame = ToBus | ToProducer | ToConsumer | OnFeed
