"""Events in: each takes effect once, its cursor moving in the transaction of the effect.

What has arrived together takes effect in one transaction with one move of the cursor, a
compare-and-set on where it stood: nothing is skipped unseen and nothing is applied twice. Where a
listener fails all of it is undone and run again event by event, so that the one at fault stands alone:
it holds its stream while other streams go on; `handling.py` says for how long, and when it is set aside.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock, codec, notify, telemetry
from mesh.bus import Applied, Cursor, Epoch, Event, Link
from mesh.errors import Conflict, DatabaseBroken, Unavailable
from mesh.figures import WINDOW_S
from mesh.framework import cursors, divergence, handling, parked
from mesh.framework.handling import Failure, Troubles
from mesh.framework.reaction import Reaction
from mesh.framework.transaction import Tx, Vocabulary
from mesh.histogram import Window

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mesh.database import Database, Transaction
    from mesh.framework.attempt import AttemptMark
    from mesh.framework.service import Listener

BATCH_MAX = 32
"""Events that share one transaction and one move of the cursor: a millisecond or two of work."""

TWIN_S = 0.05
"""After the cursor was found elsewhere: it is read again, and that is where to go on."""

PAUSE_S = 0.5
"""While the database takes no writes, nothing is handed to listeners; looked at this often."""

HALTED_S = 30.0
"""A halted stream is asked for so seldom that it costs nothing."""

WELL = Troubles()
"""Nothing fails; the one that is kept then, so that asking costs nothing."""

CRASHED = "Crashed"
"""The class of an error that nobody could catch: the process ended with the listener at work."""

log = telemetry.logger("framework.inbox")


class ListenerExitedError(Exception):
    """The listener asked the interpreter to exit; that is not its to decide."""


class ServiceInbox:
    """This service as a consumer (`buses.contract.Inbox`)."""

    def __init__(
        self,
        database: Database,
        vocabulary: Vocabulary,
        listeners: Sequence[Listener],  # type: ignore[type-arg]  # each row has types of its own
        *,
        mark: AttemptMark | None = None,
        broken: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """`listeners`: at most one for each event type.

        Args:
            mark: where the event at work is noted, for who comes after a crash.
            broken: told when the database is not to be trusted any more.
        """
        self._database = database
        self._vocabulary = vocabulary
        self._listeners = {row.event: row for row in listeners}
        self._mark = mark
        self._broken = broken
        self._troubles = WELL
        self._suspects: dict[str, cursors.Suspect] = {}
        self.streams = tuple(sorted({row.stream for row in listeners}))
        self.events_applied = 0
        self.windows = {stream: Window(WINDOW_S) for stream in self.streams}
        """From the telling commit to the one that applied it; who reads them turns them."""

    async def prepare(self, died: str = "") -> None:
        """Make a cursor for each stream, so that moving it is always a compare-and-set.

        Args:
            died: how the process before this one ended, if nobody wished it to: an event that it
                was at then is blamed.
        """
        left = self._mark.take() if self._mark is not None else None
        rows = await self._database.write(
            cursors.found, self.streams, left if died else None, fresh=not died
        )
        self._suspects = {
            row.stream: codec.replace(row, how=died or "a crash before") for row in rows
        }
        now_s = clock.monotonic_s()
        ages_s = await parked.recent_ages_s(
            self._database, handling.OUTAGE_S, handling.OUTAGE_EVENTS
        )
        if ages_s:
            self._troubles = Troubles(parked_s=tuple(now_s - age_s for age_s in ages_s))

    async def cursor(self, stream: str) -> Cursor:
        """Where this service stands in a stream."""
        row = cursors.read(self._database.read, stream)
        return row.cursor if row is not None else Cursor()

    async def apply(self, stream: str, events: Sequence[Event]) -> Applied:
        """Apply in order, each with its cursor in one transaction; stop at the first failure."""
        if stream in self._troubles.halted:
            return Applied(await self.cursor(stream), HALTED_S)
        if not self._database.writable:
            return Applied(await self.cursor(stream), PAUSE_S)
        answer = None
        for batch in cursors.batches(events, self._suspects.get(stream), BATCH_MAX):
            answer = await self._hand(batch)
            if answer.retry_after_s is not None:
                return answer
        return answer or Applied(await self.cursor(stream))

    async def _hand(self, batch: Sequence[Event]) -> Applied:
        """One transaction for all; where that fails one for each, to find what does."""
        stream = batch[0].stream
        suspect = self._suspects.get(stream)
        if suspect is not None and suspect.is_of(batch[0]):
            return await self._face(batch[0], suspect)
        if len(batch) > 1 and (stream in self._troubles.failing or not cursors.chained(batch)):
            return await self._one_by_one(batch)
        last = {(each.type, each.key): each for each in batch}
        reactions = [self._reaction(each, last=last[each.type, each.key] is each) for each in batch]
        try:
            cursor = await self._write(batch, reactions)
        except Exception as error:  # noqa: BLE001  whatever it is, it is judged alone
            if len(batch) > 1:
                return await self._one_by_one(batch)
            self._tell(batch[0], reactions[0], error)
            return await self._failed(batch[0], error)
        for event, reaction in zip(batch, reactions, strict=True):
            self._tell(event, reaction)
        return Applied(cursor)

    async def _one_by_one(self, batch: Sequence[Event]) -> Applied:
        """Each in its own transaction, which share a commit; stop at the first failure."""
        reactions = [self._reaction(event) for event in batch]
        outcomes = await asyncio.gather(
            *(self._write([each], [how]) for each, how in zip(batch, reactions, strict=True)),
            return_exceptions=True,
        )
        cursor = Cursor()
        for event, reaction, outcome in zip(batch, reactions, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                self._tell(event, reaction, outcome)
                return await self._failed(event, outcome)
            self._tell(event, reaction)
            cursor = outcome
        return Applied(cursor)

    def _applied(self, event: Event) -> None:
        self.events_applied += 1
        self.windows[event.stream].add((clock.now_ms() - event.ts_ms) / clock.MS_PER_S)
        if self._troubles is not WELL and event.type in self._listeners:
            left = handling.succeeded(self._troubles, event.stream)
            self._troubles = WELL if left == WELL else left

    async def _face(self, event: Event, suspect: cursors.Suspect) -> Applied:
        """An event that the process died on: try it alone, or judge it."""
        if suspect.deaths >= handling.ATTEMPTS_MAX:
            self._suspects.pop(event.stream)
            why = (CRASHED, f"the process ended while handling it: {suspect.how}")
            return await self._judge(event, why, suspect.deaths)
        notify.excuse(wanted=True)
        try:
            answer = await self._one_by_one([event])
        finally:
            notify.excuse(wanted=False)
        if answer.retry_after_s is None:
            self._suspects.pop(event.stream)
        return answer

    def _reaction(self, event: Event, *, last: bool = True) -> Reaction | None:
        """What is done about it. `last`: of those that came together and are about the same."""
        row = self._listeners.get(event.type)
        return Reaction(event) if row is not None and (last or not row.newest) else None

    def _write(
        self, batch: Sequence[Event], reactions: Sequence[Reaction | None]
    ) -> Awaitable[Cursor]:
        """Queue the transaction now, as part of the first listener's step."""
        first = next(filter(None, reactions), None)
        if first is None:
            telemetry.current_trace.set(None)
        else:
            first.enter()
        database = self._database
        if any(row.aside for each in batch if (row := self._listeners.get(each.type))):
            return database.write_aside(self._apply, batch, reactions)
        write = database.write_delayed if cursors.come_again(batch) else database.write
        return write(self._apply, batch, reactions)

    def _tell(
        self, event: Event, reaction: Reaction | None, error: BaseException | None = None
    ) -> None:
        """Record how the event and its listener fared."""
        if reaction is not None:
            failing = self._troubles.failing.get(event.stream)
            tried = failing.failures if failing and failing.seq == event.seq else 0
            suspect = self._suspects.get(event.stream)
            died = suspect.deaths if suspect and suspect.is_of(event) else 0
            react = self._listeners[event.type].react
            reaction.end(getattr(react, "__name__", event.type), 1 + tried + died, error)
        if error is None:
            self._applied(event)

    def _apply(
        self, inner: Transaction, batch: Sequence[Event], reactions: Sequence[Reaction | None]
    ) -> Cursor:
        cursor = cursors.move(inner, batch[0], batch[-1])
        for event, reaction in zip(batch, reactions, strict=True):
            if reaction is not None:
                reaction.enter()
                self._react(inner, self._listeners[event.type], event, reaction)
        return cursor

    def _react(
        self,
        inner: Transaction,
        listener: Listener,  # type: ignore[type-arg]
        event: Event,
        reaction: Reaction,
    ) -> None:
        if self._mark is not None:
            self._mark.set(event.stream, event.epoch, event.seq)
        try:
            reaction.begin()
            data = codec.decode(event.body, listener.reads)
            tx = Tx(inner, self._vocabulary, reaction.trace, reaction.cause, reaction.correlation)
            listener.react(tx, data)
        except (SystemExit, KeyboardInterrupt) as error:
            raise ListenerExitedError(f"the listener asked to exit: {error!r}") from error
        finally:
            if self._mark is not None:
                self._mark.clear()

    async def _failed(self, event: Event, error: BaseException) -> Applied:
        """The cursor stands before `event`: say when to offer it again, or set it aside."""
        if isinstance(error, cursors.MovedError):
            return Applied(await self.cursor(event.stream), TWIN_S)
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, DatabaseBroken):
            self._broken(error)
        passes = isinstance(error, Unavailable | DatabaseBroken)
        log.log(
            telemetry.WARNING if passes else telemetry.ERROR,
            "an event could not be applied",
            exc_info=None if passes else error,
            extra=telemetry.facts(
                stream=event.stream, seq=event.seq, type=event.type, error=str(error)
            ),
        )
        return await self._judge(event, parked.described(error), 0 if passes else 1)

    async def _judge(self, event: Event, why: tuple[str, str], tries: int) -> Applied:
        listener = self._listeners.get(event.type)
        if listener is None:  # nothing of it can be parked: only the cursor was to move
            tries = 0
        halt = listener is not None and listener.halt
        failure = Failure(event.stream, event.epoch, event.seq, ": ".join(why), tries, halt)
        self._troubles, verdict, wait_s = handling.failed(
            self._troubles, failure, clock.monotonic_s()
        )
        if verdict == "park":
            return await self._park(event, why)
        if verdict == "halt":
            log.critical(self._troubles.halted[event.stream])
        cursor = await self.cursor(event.stream)
        return Applied(cursor, clock.uniform(wait_s / 2, wait_s))

    async def _park(self, event: Event, why: tuple[str, str]) -> Applied:
        listener = self._listeners[event.type]
        attempts = self._troubles.failing[event.stream].attempts
        name = f"{listener.react.__module__}.{listener.react.__qualname__}"
        try:
            await self._database.write(_park_one, event, name, why, attempts)
        except (cursors.MovedError, Unavailable, DatabaseBroken) as error:
            return await self._failed(event, error)
        log.error(
            "an event was parked",
            extra=telemetry.facts(
                stream=event.stream,
                seq=event.seq,
                id=event_id(event),
                type=event.type,
                handler=name,
                attempts=attempts,
                error=": ".join(why),
            ),
        )
        self._troubles = handling.parked(self._troubles, event.stream, clock.monotonic_s())
        return Applied(await self.cursor(event.stream), 0.0)

    async def notice(self, stream: str, epoch: Epoch, base: Link) -> Cursor:
        """A newer epoch exists: note it, flag effects of replaced events, step back to `base`."""
        return await self._database.write(divergence.note_epoch, stream, epoch, base)

    async def begin(self, stream: str, link: Link) -> Cursor:
        """This service is new to the stream: begin where the oldest event goes on from."""
        cursor = await self._database.write(cursors.begin, stream, link)
        log.warning(
            "this service is new to a stream and hears what is still kept of it",
            extra=telemetry.facts(stream=stream, first=link.seq + 1),
        )
        return cursor

    async def retry(self, about: bytes) -> str:
        """Offer a parked event to its listener again; gone from the parked if that works.

        Returns: "" or why it failed again.
        Raises: NotFound (no such event); Conflict (nobody listens to its type any more);
            Unavailable (nothing was tried, or it failed for a reason that passes).
        """
        row = parked.found(self._database.read, about)
        listener = self._listeners.get(row.type)
        if listener is None:
            raise Conflict(
                f"nothing listens to {row.type} here any more",
                code="unheard",
                hint="mesh events parked drop",
            )
        try:
            await self._database.write_aside(self._retry_one, listener, about)
        except (Unavailable, DatabaseBroken):
            raise
        except Exception as error:
            why = parked.described(error)
            await self._database.write(parked.count_failure, about, why)
            log.error("a parked event failed again", exc_info=error)  # noqa: TRY400  it is shown too
            return ": ".join(why)
        log.info("a parked event was applied", extra=telemetry.facts(id=clock.uuid_text(about)))
        return ""

    def _retry_one(
        self,
        inner: Transaction,
        listener: Listener,  # type: ignore[type-arg]
        about: bytes,
    ) -> None:
        event = parked.remove(inner, about).event
        self._react(inner, listener, event, Reaction(event))

    async def drop(self, about: bytes) -> None:
        """Give up on a parked event for good. Raises: NotFound."""
        row = await self._database.write(parked.remove, about)
        place = telemetry.facts(stream=row.stream, seq=row.seq, type=row.type, error=row.error)
        log.warning("the parked event %s was dropped", clock.uuid_text(about), extra=place)

    def counters(self) -> list[dict[str, object]]:
        """Each stream's cursor, state and parked events, for `wait --for idle` and `events lag`."""
        return [
            {
                "stream": stream,
                "seq": row.seq if (row := cursors.read(self._database.read, stream)) else 0,
                "state": handling.state(self._troubles, stream),
                "parked": parked.count(self._database.read, stream),
            }
            for stream in self.streams
        ]

    def complaints(self) -> list[str]:
        """What degrades this service as a consumer, in words."""
        diverged = [
            f"{row.stream} was restored, and events {row.from_seq} to {row.to_seq} that it took back"
            " had taken effect here: see mesh events diverged"
            for row in divergence.unresolved(self._database.read)
        ]
        return [*handling.complaints(self._troubles, clock.monotonic_s()), *diverged]


def event_id(event: Event) -> str:
    """The event's id as CloudEvents and causes carry it."""
    return clock.uuid_text(event.id)


def _park_one(
    tx: Transaction, event: Event, handler: str, why: tuple[str, str], attempts: int
) -> None:
    cursors.move(tx, event, event)
    parked.insert(tx, event, handler, why, attempts)
