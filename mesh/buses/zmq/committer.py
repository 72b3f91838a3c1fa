"""Group commit: what has come within COMMIT_PACE_S becomes the next transaction.

Nobody hears of an event later because of it (R5): an event is shown before, and only its producer's
outbox, and who reads the log itself, wait for the disk. So commits have a pace, and most of them
carry several PUTs. It holds the only thread of the broker, and gives it nothing but waits for the
disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mesh import clock
from mesh.buses.zmq.log import Advancing, Group, Log, Seen
from mesh.buses.zmq.protocol.timing import CREDIT_BYTES, CREDIT_MSGS, TIMER_SLACK_S
from mesh.errors import LogBroken, StorageFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.buses.contract import Event, Link

COMMIT_PACE_S = 0.05
"""From the beginning of one commit to that of the next. What comes after a pause goes at once."""

HURRY_EVENTS = CREDIT_MSGS // 4
HURRY_BYTES = CREDIT_BYTES // 4
"""Waiting events for which the next commit begins as soon as the disk is free: a producer's credit
must last until it is acknowledged."""

GROUP_EVENTS_MAX = 256
GROUP_BYTES_MAX = 8 * 1024 * 1024
"""What one commit takes: a few milliseconds of inserting between two turns of the loop."""

PENDING_EVENTS_MAX = 4096
PENDING_BYTES_MAX = 32 * 1024 * 1024
"""Events waiting for a commit; beyond, the broker leaves its ingest socket unread."""

EVENT_OVERHEAD_BYTES = 256
"""An event's header and names, for the bounds in bytes."""

Done = Callable[[Exception | None], None]


def weight(events: Sequence[Event]) -> int:
    """About what these take in memory and on the wire."""
    return sum(len(each.body) + len(each.trace) + EVENT_OVERHEAD_BYTES for each in events)


class Committer:
    """Collects what streams want durable, and commits it group by group."""

    def __init__(
        self,
        log: Log,
        *,
        settled: Callable[[Group, tuple[Link, ...]], None],
        refused: Callable[[set[str]], None],
        broken: Callable[[Exception], None],
    ) -> None:
        """Ask nothing of the disk yet.

        Args:
            settled: the group is durable.
            refused: no space for these streams; everything that waited is dropped.
            broken: the log cannot go on.
        """
        self._log = log
        self._settled = settled
        self._refused = refused
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._orders: SimpleQueue[tuple[Callable[[], None], Done] | None]
        self._orders = SimpleQueue()  # at most one order and the end
        self._disk = threading.Thread(target=self._main, name="bus disk", daemon=True)
        self._disk.start()
        self._resting = asyncio.Event()
        self._resting.set()
        self._closing = False
        self._over = False
        self._committing = False
        self._hurried = False
        self._begin_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[Sequence[Event], int]] = deque()
        self._count = self._bytes = 0
        self._advances: list[Advancing] = []
        self._quarantines: list[tuple[str, str]] = []
        self._seen: dict[tuple[str, str], Seen] = {}
        self._trims: dict[str, int] = {}

    def append(self, events: Sequence[Event]) -> None:
        """These, of one stream, after all that was given before."""
        held = weight(events)
        self._waiting.append((events, held))
        self._count += len(events)
        self._bytes += held

    def advance(self, step: Advancing) -> None:
        """New epochs of a stream of which nothing else waits."""
        self._advances.append(step)

    def quarantine(self, stream: str, why: str) -> None:
        """Why nothing more is taken from this stream's producer."""
        self._quarantines.append((stream, why))

    def see(self, seen: Seen) -> None:
        """A consumer's cursor: only the newest matters, and alone it is in no hurry."""
        self._seen[seen.stream, seen.who.name] = seen

    def trim(self, stream: str, seq: int) -> None:
        """Events up to this one may go; that is in no hurry either."""
        self._trims[stream] = seq

    @property
    def full(self) -> bool:
        """True while nothing more should be read from producers."""
        return self._count >= PENDING_EVENTS_MAX or self._bytes >= PENDING_BYTES_MAX

    @property
    def unsettled(self) -> bool:
        """True while events wait for the disk."""
        return self._committing or bool(self._waiting)

    def hurry(self) -> None:
        """Somebody has missed what waits here, and is answered when it is durable."""
        self._hurried = True
        self.kick()

    def kick(self, *, cursors_too: bool = False) -> None:
        """Give the disk its next work, if there is some, its time has come, and it is free."""
        refused = self._start(cursors_too=cursors_too)
        if refused is not None:
            self._refuse(refused)

    def _start(self, *, cursors_too: bool = False) -> Group | None:
        """Begin a checkpoint or a commit; returns a group for which there was no space."""
        if self._over or not self._resting.is_set():
            return None
        due = self._due(cursors_too=cursors_too)
        if self._log.checkpoint_due(idle=not due):
            self._on_disk(self._log.checkpoint, self._checkpointed)
            return None
        if not due:
            return None
        group = Group(
            tuple(self._advances),
            self._take(),
            tuple(self._quarantines),
            tuple(self._seen.values()),
            tuple(self._trims.items()),
        )
        self._advances.clear()
        self._quarantines.clear()
        self._seen.clear()
        self._trims.clear()
        self._hurried = False
        try:
            found = self._log.stage(group)
        except StorageFull:
            return group
        except LogBroken as error:
            self._fail(error)
        else:
            self._committing = bool(group.events)
            self._begin_at = clock.monotonic_s() + COMMIT_PACE_S
            self._on_disk(self._log.commit, lambda error: self._committed(group, found, error))
        return None

    def _due(self, *, cursors_too: bool) -> bool:
        """Whether a commit should begin now; if it is only too early, it is looked at again."""
        if self._advances or self._quarantines or (cursors_too and (self._seen or self._trims)):
            return True
        if not self._waiting:
            return False
        much = self._count >= HURRY_EVENTS or self._bytes >= HURRY_BYTES
        if self._closing or self._hurried or much:
            return True
        wait_s = self._begin_at - clock.monotonic_s()
        if wait_s > 0 and self._timer is None:
            self._timer = self._loop.call_later(wait_s + TIMER_SLACK_S, self._look)
        return wait_s <= 0

    def _look(self) -> None:
        self._timer = None
        self.kick()

    def _take(self) -> tuple[Event, ...]:
        """Whole PUTs, up to the bounds of a group."""
        taken: list[Event] = []
        held = 0
        while self._waiting:
            events, more = self._waiting[0]
            if taken and (
                len(taken) + len(events) > GROUP_EVENTS_MAX or held + more > GROUP_BYTES_MAX
            ):
                break
            self._waiting.popleft()
            taken.extend(events)
            held += more
        self._count -= len(taken)
        self._bytes -= held
        return tuple(taken)

    def _on_disk(self, work: Callable[[], None], done: Done) -> None:
        self._resting.clear()
        self._orders.put((work, done))

    def _main(self) -> None:
        while (order := self._orders.get()) is not None:
            work, done = order
            error: Exception | None = None
            try:
                work()
            except Exception as failed:  # noqa: BLE001  a dead thread would answer nobody
                error = failed
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                self._loop.call_soon_threadsafe(self._finished, done, error)
            del order, work, done, error

    def _finished(self, done: Done, error: Exception | None) -> None:
        self._resting.set()
        self._committing = False
        done(error)

    def _committed(self, group: Group, found: tuple[Link, ...], error: Exception | None) -> None:
        """Put the disk to work again before telling anybody of what it has done."""
        if error is None:
            refused = self._start()
            self._settled(group, found)
            if refused is not None:
                self._refuse(refused)
        elif isinstance(error, StorageFull):
            self._refuse(group)
        else:
            self._fail(error)
        self.kick()

    def _checkpointed(self, error: Exception | None) -> None:
        if error is not None:
            self._fail(error)
        self.kick()

    def _fail(self, error: Exception) -> None:
        self._over = True
        self._broken(error)

    def _refuse(self, group: Group) -> None:
        names = {event.stream for event in group.events}
        names |= {events[0].stream for events, _ in self._waiting}
        names |= {step.stream for step in (*group.advances, *self._advances)}
        self._waiting.clear()
        self._count = self._bytes = 0
        self._advances.clear()
        self._quarantines = [*group.quarantines, *self._quarantines]
        self._seen = {(each.stream, each.who.name): each for each in group.seen} | self._seen
        self._trims = dict(group.trims) | self._trims
        self._refused(names)

    async def close(self) -> None:
        """Commit what waits, then end. What there is no space for is its producer's to send again."""
        self._closing = True
        self.kick(cursors_too=True)
        await self._resting.wait()
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._orders.put(None)
        await asyncio.to_thread(self._disk.join)
