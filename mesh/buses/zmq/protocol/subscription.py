"""Where the delivery of one stream stands, and what goes into and out of its `step` (`consumer.py`)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from mesh.buses.contract import ORIGIN, Applied, Cursor, Epoch, Event, Link
from mesh.buses.zmq.protocol.frames import Attached, Batch, Beat, Evt, Reset
from mesh.buses.zmq.protocol.timing import Begin, Reborn, Reconnect, Send, Tick, Unsent

BUFFER_EVENTS_MAX = 4096
BUFFER_BYTES_MAX = 4 * 1024 * 1024
"""What is held for an inbox that is slower than the bus; the rest stays there."""

Verdict = Literal["taken", "full", "gap", "other", "damaged"]


class ReadCursor(Struct, frozen=True):
    """Output: read the inbox's cursor afresh; answer with `CursorRead`."""


class CursorRead(Struct, frozen=True):
    """Input: the inbox's cursor."""

    cursor: Cursor


class Notice(Struct, frozen=True):
    """Output: tell the inbox of this epoch, whose base stands at `base`; answer `Noticed`."""

    epoch: Epoch
    base: Link


class Noticed(Struct, frozen=True):
    """Input: the inbox's cursor after it has noted an epoch."""

    cursor: Cursor


class Start(Struct, frozen=True):
    """Output: tell the inbox, which is at the origin, to go on from here; answer `CursorRead`."""

    link: Link


class Apply(Struct, frozen=True):
    """Output: hand these to the inbox; answer with `Handled`."""

    events: tuple[Event, ...]


class Handled(Struct, frozen=True):
    """Input: how far the inbox came."""

    applied: Applied


class InboxFailed(Struct, frozen=True):
    """Input: the inbox raised in place of an answer; its cursor is not known now."""


class Consumer(Struct, frozen=True):
    """Where the delivery of one stream stands. `busy`: the inbox has been asked something."""

    name: str
    stream: str
    phase: Literal[
        "detached", "attaching", "rewind", "waiting", "catchup", "live", "astray", "fenced"
    ] = "detached"
    fence: str = ""
    session: int = 0
    req: int = 0
    attempt: int = 0
    failures: int = 0
    cursor: Cursor = Cursor()
    epochs: tuple[Epoch, ...] = ()
    head: Link = ORIGIN
    tail_seq: int = 1
    buffer: tuple[Event, ...] = ()
    buffer_bytes: int = 0
    ahead: tuple[Event, ...] = ()
    ahead_bytes: int = 0
    busy: bool = False
    asked_at: float | None = None
    heard_at: float = 0.0
    polled_at: float = 0.0
    not_before: float = 0.0
    reported: int = 0
    reported_at: float = 0.0

    @property
    def end(self) -> Link:
        """Where the next event must continue: the end of the buffer, else the cursor."""
        return self.buffer[-1].link if self.buffer else self.cursor.link

    @property
    def attached(self) -> bool:
        """True while the bus and this side agree where to go on."""
        return self.phase in {"waiting", "catchup", "live"}

    @property
    def hungry(self) -> bool:
        """True if events from the feed can be of use; else its word that there is news will do."""
        return (
            self.attached
            and len(self.buffer) < BUFFER_EVENTS_MAX
            and self.buffer_bytes <= BUFFER_BYTES_MAX
            and self.head.seq - self.end.seq <= BUFFER_EVENTS_MAX
        )


FromInbox = CursorRead | Noticed | Handled | InboxFailed
Input = Begin | Unsent | Reborn | Tick | FromInbox | Attached | Reset | Batch | Evt | Beat
Output = ReadCursor | Notice | Start | Apply | Send | Reconnect
Step = tuple[Consumer, tuple[Output, ...]]
