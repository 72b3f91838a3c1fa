"""What the bus knows of one stream, and what goes into and out of its `step` (in `broker.py`)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from mesh.buses.contract import ORIGIN, Epoch, Event, Link, Position
from mesh.buses.zmq.protocol.frames import Get, Hello, ToBus, ToConsumer, ToProducer


class Received(Struct, frozen=True):
    """Input: a frame of this peer."""

    peer: bytes
    frame: ToBus


class Appended(Struct, frozen=True):
    """Input: everything up to here is durable now."""

    head: Link


class Advanced(Struct, frozen=True):
    """Input: the new epochs are durable; `found` is what the log holds at the new head."""

    found: Link


class Failed(Struct, frozen=True):
    """Input: what was being committed could not be, for want of space. Nothing happened."""


class Outlived(Struct, frozen=True):
    """Input: nobody needs the events up to this number any more (R11)."""

    seq: int


class LogRead(Struct, frozen=True):
    """Input: the log's answer to `ReadLog`."""

    peer: bytes
    get: Get
    events: tuple[Event, ...]


class Gone(Struct, frozen=True):
    """Input: this peer cannot be reached."""

    peer: bytes


class Reply(Struct, frozen=True):
    """Output: send this to the peer; if that is not possible, say `Gone`."""

    peer: bytes
    frame: ToProducer | ToConsumer


class Append(Struct, frozen=True):
    """Output: make these durable after all that was given before; answer `Appended` or `Failed`."""

    events: tuple[Event, ...]


class Advance(Struct, frozen=True):
    """Output: in one transaction record these epochs, and what lies beyond `head` as ghosts.

    Answer `Advanced`; if the log holds another hash at `head`, change nothing.
    """

    epochs: tuple[Epoch, ...]
    head: Link


class Quarantine(Struct, frozen=True):
    """Output: record why nothing more is taken from this stream's producer."""

    why: str


class Publish(Struct, frozen=True):
    """Output: show these on the feed."""

    events: tuple[Event, ...]


class ReadLog(Struct, frozen=True):
    """Output: read events after the position, within the bounds; answer `LogRead`."""

    peer: bytes
    get: Get


class Record(Struct, frozen=True):
    """Output: remember how far this consumer is."""

    consumer: str
    cursor: Position
    known_epoch: int


class Trim(Struct, frozen=True):
    """Output: the events up to this number may be removed; nobody is served them from now on."""

    seq: int


class Session(Struct, frozen=True):
    """A producer's conversation: the last HELLO answered, and how."""

    peer: bytes
    number: int
    req: int
    open: bool
    rechecked: bool


class Attachment(Struct, frozen=True):
    """A consumer's conversation; `held` is its question whose answer waits for the commit."""

    peer: bytes
    number: int
    consumer: str
    held: Get | None = None


class Stream(Struct, frozen=True):
    """What the bus knows of one stream.

    `advancing` are epochs being made durable and `goal` the head then; `waiting` is the HELLO to
    answer after that, or after the commit under way.
    """

    name: str
    epochs: tuple[Epoch, ...] = ()
    head: Link = ORIGIN
    staged: Link = ORIGIN
    tail_seq: int = 1
    quarantined: str = ""
    full: bool = False
    sessions: tuple[Session, ...] = ()
    consumers: tuple[Attachment, ...] = ()
    advancing: tuple[Epoch, ...] = ()
    goal: Link = ORIGIN
    waiting: tuple[bytes, Hello] | None = None
    nak_at: float | None = None


Verdict = Literal["next", "again", "EPOCH", "GAP", "FORK", "DAMAGED"]
Input = Received | Appended | Advanced | Failed | Outlived | LogRead | Gone
Output = Reply | Append | Advance | Quarantine | Publish | ReadLog | Record | Trim
Step = tuple[Stream, tuple[Output, ...]]
