"""Events in: each takes effect once, its cursor moving in the transaction of the effect.

A listener that fails is tried again, after growing waits, and the stream stands still at that
event meanwhile; other streams go on. Nothing is skipped and nothing is applied twice: the cursor
is moved by compare-and-set on where it stood.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec, telemetry
from mesh.bus import ORIGIN, Applied, Cursor, Epoch, Event, Link, Trace
from mesh.errors import Broken, Unavailable
from mesh.framework.transaction import Tx, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.database import Database, Transaction
    from mesh.framework.service import Listener

PIPELINE_MAX = 32
"""Events whose transactions wait for the writer together, sharing its commit."""

RETRY_S = (0.05, 30.0)
"""First and longest wait before a failed event is offered again; doubling, with jitter."""

log = telemetry.logger("framework.inbox")


class _Row(Struct):
    epoch: int
    seq: int
    hash: bytes
    known_epoch: int
    known_base: int


class _CursorMovedError(Exception):
    """The cursor is not where the event expects it: an earlier one failed, or a twin runs."""


def _row(found: _Row | None) -> Cursor:
    if found is None:
        return Cursor()
    return Cursor(Link(found.epoch, found.seq, found.hash), found.known_epoch, found.known_base)


_SELECT = "SELECT epoch, seq, hash, known_epoch, known_base FROM mlp_cursor WHERE stream = :stream"


class ServiceInbox:
    """This service as a consumer (`buses.contract.Inbox`)."""

    def __init__(
        self,
        database: Database,
        vocabulary: Vocabulary,
        listeners: Sequence[Listener],  # type: ignore[type-arg]  # each row has types of its own
    ) -> None:
        """`listeners`: at most one for each event type."""
        self._database = database
        self._vocabulary = vocabulary
        self._listeners = {row.event: row for row in listeners}
        self._failures: dict[str, tuple[int, int]] = {}
        self.streams = tuple(sorted({row.stream for row in listeners}))
        self.events_applied = 0

    async def prepare(self) -> None:
        """Make a cursor for each stream, so that moving it is always a compare-and-set."""
        await self._database.write(_found_cursors, self.streams)

    async def cursor(self, stream: str) -> Cursor:
        """Where this service stands in a stream."""
        return _row(self._database.read.one(_Row, _SELECT, stream=stream))

    async def apply(self, stream: str, events: Sequence[Event]) -> Applied:
        """Apply in order, each with its cursor in one transaction; stop at the first failure."""
        for start in range(0, len(events), PIPELINE_MAX):
            batch = events[start : start + PIPELINE_MAX]
            outcomes = await asyncio.gather(
                *(self._database.write(self._apply_one, event) for event in batch),
                return_exceptions=True,
            )
            for event, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    return await self._failed(stream, event, outcome)
                self.events_applied += 1
            self._failures.pop(stream, None)
        return Applied(await self.cursor(stream))

    def _apply_one(self, inner: Transaction, event: Event) -> None:
        moved = inner.execute(
            "UPDATE mlp_cursor SET epoch = :epoch, seq = :seq, hash = :hash"
            " WHERE stream = :stream AND epoch = :at_epoch AND seq = :at_seq AND hash = :at_hash",
            epoch=event.epoch,
            seq=event.seq,
            hash=event.hash,
            stream=event.stream,
            at_epoch=event.prev_epoch,
            at_seq=event.seq - 1,
            at_hash=event.prev_hash,
        )
        if moved != 1:
            raise _CursorMovedError
        listener = self._listeners.get(event.type)
        if listener is None:
            return
        came = codec.decode(event.trace, Trace)
        context = telemetry.parse_traceparent(came.traceparent) or telemetry.new_trace()
        trace = Trace(context.child().traceparent, came.correlation, event_id(event))
        listener.react(Tx(inner, self._vocabulary, trace), codec.decode(event.body, listener.reads))

    async def _failed(self, stream: str, event: Event, error: BaseException) -> Applied:
        """The cursor stands before `event`; say when to offer it again."""
        cursor = await self.cursor(stream)
        if isinstance(error, _CursorMovedError):
            return Applied(cursor, RETRY_S[0])
        if not isinstance(error, Exception):
            raise error
        seq, failures = self._failures.get(stream, (0, 0))
        failures = failures + 1 if seq == event.seq else 1
        self._failures[stream] = (event.seq, failures)
        wait_s = min(RETRY_S[1], RETRY_S[0] * 2 ** min(failures - 1, 16))
        log.log(
            telemetry.WARNING if isinstance(error, Unavailable) else telemetry.ERROR,
            "an event could not be applied; it will be tried again",
            exc_info=None if isinstance(error, Unavailable) else error,
            extra=telemetry.facts(
                stream=stream, seq=event.seq, type=event.type, failures=failures, error=str(error)
            ),
        )
        return Applied(cursor, clock.uniform(wait_s / 2, wait_s))

    async def notice(self, stream: str, epoch: Epoch, base: Link) -> Cursor:
        """A newer epoch exists: note it, flag effects of replaced events, step back to `base`."""
        return await self._database.write(_note_epoch, stream, epoch, base)

    def counters(self) -> list[dict[str, object]]:
        """Each stream's cursor, for `mesh wait --for idle`."""
        return [
            {
                "stream": stream,
                "seq": _row(self._database.read.one(_Row, _SELECT, stream=stream)).link.seq,
            }
            for stream in self.streams
        ]


def event_id(event: Event) -> str:
    """The event's id as CloudEvents and causes carry it."""
    return clock.uuid_text(event.id)


def _found_cursors(tx: Transaction, streams: tuple[str, ...]) -> None:
    for stream in streams:
        tx.execute(
            "INSERT INTO mlp_cursor (stream, epoch, seq, hash, known_epoch, known_base)"
            " VALUES (:stream, 0, 0, :hash, 0, 0) ON CONFLICT DO NOTHING",
            stream=stream,
            hash=ORIGIN.hash,
        )


def _note_epoch(tx: Transaction, stream: str, epoch: Epoch, base: Link) -> Cursor:
    row = tx.one(_Row, _SELECT, stream=stream)
    if row is None:
        raise Broken(f"no cursor for stream {stream!r}")
    if epoch.epoch <= row.known_epoch:
        return _row(row)
    if row.epoch < epoch.epoch and row.seq > epoch.base:
        tx.execute(
            "INSERT INTO mlp_diverged (stream, from_epoch, from_seq, to_seq, new_epoch, noted_ms)"
            " VALUES (:stream, :from_epoch, :from_seq, :to_seq, :new_epoch, :now)",
            stream=stream,
            from_epoch=row.epoch,
            from_seq=epoch.base + 1,
            to_seq=row.seq,
            new_epoch=epoch.epoch,
            now=clock.now_ms(),
        )
        tx.execute(
            "UPDATE mlp_cursor SET epoch = :epoch, seq = :seq, hash = :hash WHERE stream = :stream",
            epoch=base.epoch,
            seq=base.seq,
            hash=base.hash,
            stream=stream,
        )
    tx.execute(
        "UPDATE mlp_cursor SET known_epoch = :epoch, known_base = :base WHERE stream = :stream",
        epoch=epoch.epoch,
        base=epoch.base,
        stream=stream,
    )
    return _row(tx.one(_Row, _SELECT, stream=stream))
