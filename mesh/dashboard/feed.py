"""Gathers what a screen shows, each kind at its own pace, into rings that do not grow.

Nothing here waits for a terminal, and nothing that is missing stops the rest: a bus that is away,
a supervisor that does not answer, are said on the screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from mesh import bus, clock, codec
from mesh.dashboard.frame import Details, Follower, Frame, Stream, Told
from mesh.errors import MeshError, NotRunning
from mesh.orchestrator import logs
from mesh.orchestrator.contract import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.bus import Arrived, Bus, StreamHead
    from mesh.dashboard.frame import LogLine
    from mesh.dashboard.source import Source
    from mesh.orchestrator.reader import Line
    from mesh.tracing.stories import Summary
    from mesh.tracing.waterfall import Waterfall

EVENTS_MAX = 500
LINES_MAX = 300
"""Kept: some screens full, so that one can look back. Lines are kept of each program."""

LINES_FIRST = 100
"""Of each log, read at the start."""

BODY_BYTES_MAX = 2048
"""Of an event's data: more than a screen of it is read elsewhere."""

STATUS_S = 1.0
"""Figures are told once a second."""

CHANGE_S = 0.1
"""Between two looks at the status, however many changes there are."""

HEADS_S = 1.0
HEADS_WAIT_S = 2.0
ASIDES_S = 1.0
RETRY_S = 1.0
"""Before a bus that could not be reached is tried again."""

BITE_S = 0.25
"""Between two looks at the events and at the logs: as often as is drawn."""

BITES_MAX = 4
BITE_EVENTS = 256
"""Batches of events taken in that time at most, and the size of a full one: 4,096 events a second.
Whoever tells more has the rest counted, as nobody reads it."""

BACKLOG_BYTES_MAX = 256 * 1024
"""Of one log at one look: a megabyte a second. Of more the newest is read, the rest counted."""

Found = TypeVar("Found")


async def apart(work: Callable[[], Found]) -> Found:
    """Run it in a thread of its own, which nobody waits for any more when this is cancelled.

    Raises: what `work` raises.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Found] = loop.create_future()

    def tell(result: Found | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # there is one where no error is

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  (raised again where it is awaited)
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return await answer


def told_of(arrived: Arrived) -> Told:
    """An event as it is shown."""
    event = arrived.event
    trace_id = ""
    if event.trace:
        with contextlib.suppress(MeshError):
            parent = codec.decode(event.trace, bus.Trace).traceparent
            trace_id = parent.split("-")[1] if parent.count("-") == TRACEPARENT_DASHES else ""
    return Told(
        arrival=arrived.arrival,
        at_ms=event.ts_ms,
        type=event.type,
        stream=event.stream,
        epoch=event.epoch,
        sequence=event.seq,
        subject=event.key,
        id=clock.uuid_text(event.id),
        trace_id=trace_id,
        body=event.body[:BODY_BYTES_MAX].decode("utf-8", "replace"),
    )


TRACEPARENT_DASHES = 3


class Feed:
    """What is known so far; `frame` is one moment of it.

    Args:
        changed: called whenever there may be something new to draw.

    Attributes:
        ended: whether the mesh is gone.
    """

    def __init__(self, source: Source, changed: Callable[[], None]) -> None:
        """Nothing is known yet."""
        self.ended = False
        self._changed = changed
        self._source = source
        self._status: Status | None = None
        self._look = asyncio.Event()
        self._told: deque[Told] = deque(maxlen=EVENTS_MAX)
        self._lines: dict[str, deque[LogLine]] = {}
        self._numbers = 0
        self._streams: tuple[Stream, ...] = ()
        self._heads: dict[str, tuple[int, float]] = {}
        self._parked: frozenset[tuple[str, str, int]] = frozenset()
        self._traces: tuple[Summary, ...] = ()
        self._quiet: dict[str, str] = {}
        self._dropped = self._missed_bytes = 0
        self._merged: tuple[LogLine, ...] | None = ()
        self.details: Details | None = None
        self.waterfall: Waterfall | None = None

    @property
    def status(self) -> Status | None:
        """The latest; None before the first."""
        return self._status

    def frame(self) -> Frame:
        """This moment. Raises: AssertionError before the first status."""
        assert self._status is not None
        if self._merged is None:
            lines = [line for ring in self._lines.values() for line in ring]
            self._merged = tuple(sorted(lines, key=lambda line: line.number))
        return Frame(
            status=self._status,
            at_ms=clock.now_ms(),
            streams=self._streams,
            parked=self._parked,
            told=tuple(self._told),
            traces=self._traces,
            waterfall=self.waterfall,
            logs=self._merged,
            details=self.details,
            dropped=self._dropped,
            missed_bytes=self._missed_bytes,
            quiet="; ".join(filter(None, self._quiet.values())),
        )

    async def run(self) -> None:
        """Gather until the mesh is gone or this is cancelled."""
        self._watch()
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(work()) for work in (self._events, self._logs, self._asides)
            ]
            await self._statuses()
            for task in others:
                task.cancel()

    def look(self) -> None:
        """Have the status read at once: something was done to it."""
        self._look.set()

    def _watch(self) -> None:
        """Have changes of state looked at when they happen; ends with the mesh."""
        loop = asyncio.get_running_loop()

        def work() -> None:
            with contextlib.suppress(MeshError, RuntimeError):  # gone; our loop closed
                for _ in self._source.changes():
                    loop.call_soon_threadsafe(self._look.set)
                loop.call_soon_threadsafe(self._look.set)

        threading.Thread(target=work, daemon=True).start()

    async def _statuses(self) -> None:
        while True:
            self._look.clear()
            try:
                said = await apart(self._source.status)
            except NotRunning:
                self.ended = True
                self._changed()
                return
            except MeshError as error:
                self._say("status", str(error))
            else:
                self._say("status", "")
                self._status = codec.convert(said, Status)
                self._changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_S):
                    await self._look.wait()
            await asyncio.sleep(CHANGE_S)

    def _say(self, of: str, text: str) -> None:
        if self._quiet.get(of, "") != text:
            self._quiet[of] = text
            self._changed()

    async def _events(self) -> None:
        """Follow the bus; one that is away is tried again and again."""
        while True:
            wire = None
            try:
                wire = await apart(self._source.bus)
                await wire.start()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read_heads(wire))
                    group.create_task(self._read_events(wire))
            except* MeshError as errors:
                self._say("bus", str(errors.exceptions[0]))
            finally:
                if wire is not None:
                    await wire.close()
            await asyncio.sleep(RETRY_S)

    async def _read_heads(self, wire: Bus) -> None:
        while True:
            try:
                heads = await wire.heads(timeout_s=HEADS_WAIT_S)
            except MeshError as error:
                self._say("bus", str(error))
            else:
                self._say("bus", "")
                self._take_heads(heads, clock.monotonic_s())
            await asyncio.sleep(HEADS_S)

    def _take_heads(self, heads: list[StreamHead], now_s: float) -> None:
        found = []
        for each in sorted(heads, key=lambda each: each.stream):
            sequence = each.head.seq
            before, at_s = self._heads.get(each.stream, (sequence, 0.0))
            per_s = max(0, sequence - before) / (now_s - at_s) if at_s else None
            self._heads[each.stream] = sequence, now_s
            followers = tuple(
                Follower(
                    one.name, one.cursor.epoch, one.cursor.seq, max(0, sequence - one.cursor.seq)
                )
                for one in sorted(each.followers, key=lambda one: one.name)
            )
            found.append(Stream(each.stream, each.head.epoch, sequence, per_s, followers))
        self._streams = tuple(found)
        self._changed()

    async def _read_events(self, wire: Bus) -> None:
        """In bites; whoever is too far behind goes on with the newest, and counts the rest."""
        while True:
            at_s, bites = clock.monotonic_s(), 0
            async with contextlib.aclosing(wire.arrivals(-EVENTS_MAX, follow=True)) as batches:
                async for batch in batches:
                    self._take_events(batch)
                    bites += 1
                    left_s = at_s + BITE_S - clock.monotonic_s()
                    if left_s <= 0:
                        at_s, bites = clock.monotonic_s(), 0
                    elif len(batch) < BITE_EVENTS:
                        await asyncio.sleep(left_s)
                        at_s, bites = clock.monotonic_s(), 0
                    elif bites == BITES_MAX:
                        await asyncio.sleep(left_s)
                        break

    def _take_events(self, batch: list[Arrived]) -> None:
        if self._told and batch[0].arrival > self._told[-1].arrival + 1:
            self._dropped += batch[0].arrival - self._told[-1].arrival - 1
        last = self._told[-1].arrival if self._told else 0
        remade = batch[-1].arrival < last
        self._told.extend(told_of(each) for each in batch if remade or each.arrival > last)
        self._changed()

    async def _logs(self) -> None:
        follower = await apart(lambda: logs.Follower(self._source.logs, LINES_FIRST))
        for line in follower.so_far():
            self._take_line(line)
        while True:
            if follower.behind:
                follower.skip(BACKLOG_BYTES_MAX)
            for line in follower.read():
                self._take_line(line)
            self._missed_bytes += sum(follower.missed().values())
            await asyncio.sleep(BITE_S)

    def _take_line(self, line: Line) -> None:
        self._numbers += 1
        ring = self._lines.setdefault(line.name, deque(maxlen=LINES_MAX))
        ring.append(self._source.log_line(self._numbers, line))
        self._merged = None
        self._changed()

    async def _asides(self) -> None:
        """What costs its teller a look: traces, parked events."""
        while True:
            with contextlib.suppress(MeshError):
                self._traces = tuple(await apart(self._source.traces))
            parked = self._status is not None and any(
                one.parked for row in self._status.services for one in row.hears or ()
            )
            with contextlib.suppress(MeshError):
                self._parked = await apart(self._source.parked) if parked else frozenset()
            self._changed()
            await asyncio.sleep(ASIDES_S)
