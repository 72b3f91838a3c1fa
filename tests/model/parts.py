"""The parts of one state of the whole: what each party has on disk, and what it has in mind.

What a party has in mind is the state of the shipped rules; disks are as small as they can be.
"""

from __future__ import annotations

from msgspec import Struct

from mesh.buses.contract import (
    NO_HASH,
    ORIGIN,
    Cursor,
    Epoch,
    Event,
    Link,
    OutboxState,
    chain_hash,
)
from mesh.codec import replace

STREAM = "s"
FIRST = Epoch(1, 0, NO_HASH, b"1")


class OutboxDisk(Struct, frozen=True):
    """A producer's database. `events` are numbered from 1; those before `tail` are trimmed.

    `ever` are all events ever told, also those a restore has taken back.
    """

    epochs: tuple[Epoch, ...] = (FIRST,)
    events: tuple[Event, ...] = ()
    ever: tuple[Event, ...] = ()
    tail: int = 1

    @property
    def head(self) -> Link:
        return self.events[-1].link if self.events else ORIGIN

    def state(self) -> OutboxState:
        before = self.events[self.tail - 2].link if self.tail > 1 else ORIGIN
        return OutboxState(self.epochs, self.head, self.tail, before)

    def after(self, seq: int, rows_max: int) -> tuple[Event, ...]:
        start = max(seq, self.tail - 1)
        return self.events[start : start + rows_max]

    def tell(self) -> OutboxDisk:
        """One more event, in one transaction with its effect."""
        last, epoch = self.head, self.epochs[-1].epoch
        body = b"%d" % len(self.ever)
        rest = (body.rjust(16, b"0"), "t", "k", 0, b"{}", body)
        hash_ = chain_hash(last.hash, epoch, last.seq + 1, *rest)
        event = Event(STREAM, epoch, last.seq + 1, last.epoch, last.hash, hash_, *rest)
        return replace(self, events=(*self.events, event), ever=(*self.ever, event))

    def restored(self, base: int, *, new_epoch: bool = True) -> OutboxDisk:
        """As it was at event `base`, from a backup that was trimmed as far as possible."""
        events = self.events[:base]
        number = self.epochs[-1].epoch + 1
        hash_ = events[-1].hash if events else NO_HASH
        epochs = (*self.epochs, Epoch(number, base, hash_, b"%d" % number))
        return OutboxDisk(
            epochs if new_epoch else self.epochs, events, self.ever, min(self.tail, base + 1)
        )


class BusDisk(Struct, frozen=True):
    """The bus's database. `log` is numbered from 1; those before `tail` are trimmed."""

    epochs: tuple[Epoch, ...] = ()
    log: tuple[Event, ...] = ()
    tail: int = 1
    quarantined: str = ""

    @property
    def head(self) -> Link:
        return self.log[-1].link if self.log else ORIGIN

    def after(self, seq: int, rows_max: int) -> tuple[Event, ...]:
        start = max(seq, self.tail - 1)
        return self.log[start : start + rows_max]


class InboxDisk(Struct, frozen=True):
    """A consumer's database: the cursor, what took effect in order, which of it was flagged."""

    cursor: Cursor = Cursor()
    effects: tuple[Event, ...] = ()
    diverged: frozenset[Event] = frozenset()

    @property
    def live(self) -> tuple[Event, ...]:
        return tuple(each for each in self.effects if each not in self.diverged)

    def applied(self, event: Event) -> InboxDisk:
        """Effect and cursor in one transaction."""
        return replace(
            self,
            cursor=replace(self.cursor, link=event.link),
            effects=(*self.effects, event),
        )

    def noticed(self, epoch: Epoch, base: Link) -> InboxDisk:
        """As `framework/inbox` does it: flag, step back, remember, in one transaction."""
        if epoch.epoch <= self.cursor.known_epoch:
            return self
        link, diverged = self.cursor.link, self.diverged
        if link.epoch < epoch.epoch and link.seq > epoch.base:
            diverged |= {each for each in self.live if each.seq > epoch.base}
            link = base
        cursor = Cursor(link, epoch.epoch, epoch.base)
        return replace(self, cursor=cursor, diverged=diverged)
