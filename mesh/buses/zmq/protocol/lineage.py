"""Which history a position belongs to, when a producer was restored and went on differently.

Epoch e replaces every event of older epochs beyond its base, so all epochs together say which
events are current; the newest alone does not once there were two restores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.buses.contract import ORIGIN, Epoch, Event, Link, chain_hash
from mesh.buses.zmq.protocol.timing import FRAME_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable


def newest(epochs: tuple[Epoch, ...]) -> int:
    """The number of the newest epoch; 0 if there is none."""
    return max((each.epoch for each in epochs), default=0)


def replaced(epochs: Iterable[Epoch], epoch: int, seq: int) -> bool:
    """True if a newer epoch has replaced what stood at this position (R6, R7)."""
    return any(each.epoch > epoch and seq > each.base for each in epochs)


def owner(epochs: Iterable[Epoch], seq: int) -> int:
    """The epoch that the current event number `seq` belongs to; 0 for the origin."""
    return max((each.epoch for each in epochs if each.base < seq), default=0)


def base_of(epoch: Epoch, epochs: Iterable[Epoch]) -> Link:
    """The place the epoch goes on from, in the history of those before it."""
    before = (each for each in epochs if each.epoch < epoch.epoch)
    return Link(owner(before, epoch.base), epoch.base, epoch.base_hash) if epoch.base else ORIGIN


def cut(head: Link, known: tuple[Epoch, ...], new: Iterable[Epoch]) -> Link:
    """Where `head` falls back to when `new` epochs join the `known` ones, oldest first (R6)."""
    lineage = known
    for epoch in sorted(new, key=lambda each: each.epoch):
        if head.seq > epoch.base and head.epoch < epoch.epoch:
            head = base_of(epoch, lineage)
        lineage = (*lineage, epoch)
    return head


def extends(event: Event, head: Link) -> bool:
    """True if the event is the direct successor of `head` in the same history (R4, R7)."""
    return (
        event.seq == head.seq + 1
        and event.prev_hash == head.hash
        and event.prev_epoch == head.epoch
    )


def intact(event: Event) -> bool:
    """True if the event's hash is that of its content."""
    return event.hash == chain_hash(
        event.prev_hash,
        event.epoch,
        event.seq,
        event.id,
        event.type,
        event.key,
        event.ts_ms,
        event.trace,
        event.body,
    )


EVENT_HEAD_BYTES = 112
"""What one event takes on the wire beyond its texts: its header and five lengths."""

NAMES_BYTES = 4096
"""Stream, type and key together, at most."""


def size(event: Event) -> int:
    """Bytes of one event on the wire; characters count once, except where it hardly fits a frame."""
    content = EVENT_HEAD_BYTES + len(event.trace) + len(event.body)
    names = len(event.stream) + len(event.type) + len(event.key)
    if content + NAMES_BYTES > FRAME_BYTES_MAX:
        names = len(f"{event.stream}{event.type}{event.key}".encode())
    return content + names
