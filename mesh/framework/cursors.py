"""Where this service stands in each stream it hears; all SQL of that table and nothing but SQL."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock
from mesh.bus import ORIGIN, Cursor, Event, Link
from mesh.framework.handling import ATTEMPTS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mesh.database import Reader, Transaction
    from mesh.framework.attempt import Attempt


KEPT_MS = 3600 * 1000
"""The bus has an event for so long, whoever has it: a small part of the days that it keeps them."""


class MovedError(Exception):
    """The cursor is not where the event expects it: an earlier one failed, or a twin runs."""


class CursorRow(Struct):
    """A consumer's place in one stream, as the table has it."""

    epoch: int
    seq: int
    hash: bytes
    known_epoch: int
    known_base: int

    @property
    def cursor(self) -> Cursor:
        """The same as the bus has it."""
        return Cursor(Link(self.epoch, self.seq, self.hash), self.known_epoch, self.known_base)


def read(source: Reader | Transaction, stream: str) -> CursorRow | None:
    """Where this service stands in a stream; None if it never listened to it."""
    return source.one(
        CursorRow,
        "SELECT epoch, seq, hash, known_epoch, known_base FROM mlp_cursor WHERE stream = :stream",
        stream=stream,
    )


class _Known(Struct):
    known_epoch: int
    known_base: int


class Suspect(Struct, frozen=True):
    """An event at which the process has died, so many times in a row."""

    stream: str
    epoch: int
    seq: int
    deaths: int
    how: str = ""

    def is_of(self, event: Event) -> bool:
        """Whether this is the event."""
        return (event.epoch, event.seq) == (self.epoch, self.seq)


def found(
    tx: Transaction, streams: tuple[str, ...], left: Attempt | None, *, fresh: bool
) -> list[Suspect]:
    """Make what cursors there are not, count a death against its event; returns the suspects.

    Args:
        left: what was being handled when the process ended by itself.
        fresh: somebody has started the service, so an event judged by its deaths gets a new chance.
    """
    for stream in streams:
        tx.execute(
            "INSERT INTO mlp_cursor (stream, epoch, seq, hash, known_epoch, known_base)"
            " VALUES (:stream, 0, 0, :hash, 0, 0) ON CONFLICT DO NOTHING",
            stream=stream,
            hash=ORIGIN.hash,
        )
    if left is not None:
        tx.execute(
            "UPDATE mlp_cursor SET crash_attempts = CASE WHEN attempt_epoch = :epoch"
            " AND attempt_seq = :seq THEN crash_attempts + 1 ELSE 1 END,"
            " attempt_epoch = :epoch, attempt_seq = :seq WHERE stream = :stream AND seq < :seq",
            stream=left.stream,
            epoch=left.epoch,
            seq=left.seq,
        )
    elif fresh:
        tx.execute(
            "UPDATE mlp_cursor SET crash_attempts = 0 WHERE crash_attempts >= :most",
            most=ATTEMPTS_MAX,
        )
    return tx.all(
        Suspect,
        "SELECT stream, attempt_epoch AS epoch, attempt_seq AS seq, crash_attempts AS deaths"
        " FROM mlp_cursor WHERE crash_attempts > 0 AND seq < attempt_seq",
    )


def begin(tx: Transaction, stream: str, link: Link) -> Cursor:
    """Go on from `link` if nothing of this stream was applied yet."""
    tx.execute(
        "UPDATE mlp_cursor SET epoch = :epoch, seq = :seq, hash = :hash"
        " WHERE stream = :stream AND seq = 0",
        epoch=link.epoch,
        seq=link.seq,
        hash=link.hash,
        stream=stream,
    )
    row = read(tx, stream)
    assert row is not None
    return row.cursor


def move(tx: Transaction, first: Event, last: Event) -> Cursor:
    """The cursor, from the predecessor of `first` to `last`, a later one of its chain or itself.

    Returns: where it stands now.
    Raises: MovedError.
    """
    known = tx.one(
        _Known,
        "UPDATE mlp_cursor SET epoch = :epoch, seq = :seq, hash = :hash,"
        " crash_attempts = CASE WHEN attempt_seq <= :seq THEN 0 ELSE crash_attempts END"
        " WHERE stream = :stream AND epoch = :at_epoch AND seq = :at_seq AND hash = :at_hash"
        " RETURNING known_epoch, known_base",
        epoch=last.epoch,
        seq=last.seq,
        hash=last.hash,
        stream=last.stream,
        at_epoch=first.prev_epoch,
        at_seq=first.seq - 1,
        at_hash=first.prev_hash,
    )
    if known is None:
        raise MovedError
    return Cursor(last.link, known.known_epoch, known.known_base)


def come_again(events: Sequence[Event]) -> bool:
    """Whether the bus still has them should a power cut take back that they took effect.

    It may remove what is older than it keeps, days, as soon as it hears that everybody has it.
    """
    return min(event.ts_ms for event in events) > clock.now_ms() - KEPT_MS


def chained(events: Sequence[Event]) -> bool:
    """Whether each is the direct successor of the one before it."""
    return all(
        each.seq == before.seq + 1
        and each.prev_hash == before.hash
        and each.prev_epoch == before.epoch
        for before, each in pairwise(events)
    )


def batches(
    events: Sequence[Event], suspect: Suspect | None, most: int
) -> Iterator[Sequence[Event]]:
    """Runs that share a commit; an event under suspicion is alone, so that it harms no other."""
    start = 0
    for index, event in enumerate(events):
        alone = suspect is not None and suspect.is_of(event)
        if index > start and (alone or index - start == most):
            yield events[start:index]
            start = index
        if alone:
            yield events[index : index + 1]
            start = index + 1
    if start < len(events):
        yield events[start:]
