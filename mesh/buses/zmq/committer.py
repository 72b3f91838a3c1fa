"""Group commit: what waits when the disk has finished becomes the next transaction. No timer.

It holds the only thread of the broker, and gives it nothing but waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mesh.buses.zmq.log import Advancing, Group, Log, Seen
from mesh.errors import LogBroken, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesh.buses.contract import Event, Link

GROUP_EVENTS_MAX = 256
GROUP_BYTES_MAX = 8 * 1024 * 1024
"""What one commit takes: a few milliseconds of inserting between two turns of the loop."""

PENDING_EVENTS_MAX = 4096
PENDING_BYTES_MAX = 32 * 1024 * 1024
"""Events waiting for a commit; beyond, the broker leaves its ingest socket unread."""

EVENT_OVERHEAD_BYTES = 256
"""An event's header and names, for the bounds in bytes."""


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
        broken: Callable[[BaseException], None],
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
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="bus-disk")
        self._busy = False
        self._closed = False
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

    def kick(self, *, cursors_too: bool = False) -> None:
        """Give the disk its next work, if there is some and it is free."""
        refused = self._start(cursors_too=cursors_too)
        if refused is not None:
            self._refuse(refused)

    def _start(self, *, cursors_too: bool = False) -> Group | None:
        """Begin a checkpoint or a commit; returns a group for which there was no space."""
        upkeep = self._seen or self._trims
        due = self._waiting or self._advances or self._quarantines or (cursors_too and upkeep)
        if self._busy or self._closed:
            return None
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
        try:
            found = self._log.stage(group)
        except StorageFull:
            return group
        except LogBroken as error:
            self._fail(error)
        else:
            self._on_disk(self._log.commit, lambda error: self._committed(group, found, error))
        return None

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

    def _on_disk(
        self, work: Callable[[], None], done: Callable[[BaseException | None], None]
    ) -> None:
        def finished(future: asyncio.Future[None]) -> None:
            self._busy = False
            done(future.exception())

        self._busy = True
        self._loop.run_in_executor(self._disk, work).add_done_callback(finished)

    def _committed(
        self, group: Group, found: tuple[Link, ...], error: BaseException | None
    ) -> None:
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

    def _checkpointed(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
        self.kick()

    def _fail(self, error: BaseException) -> None:
        self._closed = True
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
        """Wait for the commit under way; what still waited is the producers' to send again."""
        self._closed = True
        await asyncio.to_thread(self._disk.shutdown)
