"""Transactions that wait for the writer, in the order in which they were asked for.

The event loop puts, the writer thread takes; both may be at it at once.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mesh import clock, telemetry
from mesh.errors import MeshError, Refused

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mesh.databases.sqlite.transaction import SqliteTransaction

QUEUE_MAX = 256
"""Functions that may wait: at the rate of a busy disk about the wait below."""

WAIT_S = 0.25
"""Longest wait to be begun while the writer gets on: more is overload, and gets worse by waiting."""

STALL_S = 1.0
"""Longest wait for a writer that does not get on. A single flush on a busy disk stalls for a quarter
of a second and more now and then; that passes, and a caller from outside waits two seconds."""

PASSED_OVER = 2
"""Commits while one waits that show that the writer gets on: the first was under way already."""

STALL_LOOK_S = 0.05

US_PER_S = 1_000_000

_FOREVER = -1.0


class Flush(NamedTuple):
    """When one commit was made durable, on the monotonic clock, and how many shared it."""

    start_s: float
    end_s: float
    group: int


class Job:
    """One function that waits for its transaction, and how it went."""

    __slots__ = (
        "begin_by_s",
        "begun_s",
        "callbacks",
        "error",
        "future",
        "groups",
        "result",
        "trace",
        "work",
    )

    def __init__(
        self,
        work: Callable[[SqliteTransaction], object],
        future: asyncio.Future[object],
        begin_by_s: float,
        groups: int,
    ) -> None:
        """`groups`: commits so far; `begin_by_s`: now and WAIT_S."""
        self.trace = telemetry.current_trace.get()
        self.begun_s = 0.0
        self.work = work
        self.future = future
        self.begin_by_s = begin_by_s
        self.groups = groups
        self.result: object = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[], None]] = []

    def overdue(self, now_s: float, groups: int) -> bool:
        """Whether it has waited too long, after `groups` commits in all."""
        over_s = now_s - self.begin_by_s
        return over_s >= (0 if groups - self.groups >= PASSED_OVER else STALL_S - WAIT_S)

    def begin(self) -> None:
        """Forget an earlier run. On the writer thread."""
        self.begun_s = clock.monotonic_s()
        telemetry.current_trace.set(self.trace)
        self.result = self.error = None
        self.callbacks = []

    def answer(self) -> None:
        """Tell whoever waits, if anybody still does. On the event loop."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):  # a future cannot carry this one
            wrapped = RuntimeError("a transaction's function raised StopIteration")
            wrapped.__cause__ = self.error
            self.future.set_exception(wrapped)
        else:
            self.future.set_exception(self.error)

    def tell(self, flush: Flush) -> None:
        """Record how long it waited, ran and was flushed, if it is part of a story."""
        if self.trace is None:
            return
        error = self.error
        status = error.code if isinstance(error, MeshError) else type(error).__name__
        telemetry.leaf(
            "commit",
            self.trace,
            "commit" if error is None else "rollback",
            self.begin_by_s - WAIT_S,
            max(flush.end_s, self.begun_s),
            "" if error is None or isinstance(error, Refused) else status,
            (
                int((self.begun_s - self.begin_by_s + WAIT_S) * US_PER_S),
                int((flush.end_s - flush.start_s) * US_PER_S),
                flush.group,
            ),
        )

    def fail(self, error: MeshError) -> None:
        """Answer with an error; nothing has happened. On the event loop."""
        self.error = error
        self.answer()


class Backlog:
    """A bounded queue between the event loop and the writer thread."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._ended = False
        self._asleep = False
        self._bell = threading.Lock()  # held while nobody has rung; a Condition is 5 times slower
        self._bell.acquire()

    def put(self, job: Job) -> bool:
        """Add one at the end; False when QUEUE_MAX wait already."""
        with self._lock:
            if len(self._jobs) >= QUEUE_MAX:
                return False
            self._jobs.append(job)
            self._ring()
        return True

    def take(self) -> Job | None:
        """The one that has waited longest; None when there is none."""
        with self._lock:
            return self._jobs.popleft() if self._jobs else None

    def overdue(self, now_s: float, groups: int) -> list[Job]:
        """Take out those that have waited too long, after `groups` commits in all."""
        late: list[Job] = []
        with self._lock:
            while self._jobs and self._jobs[0].overdue(now_s, groups):
                late.append(self._jobs.popleft())
        return late

    def next_look_s(self, now_s: float) -> float | None:
        """When the one that waits longest may be overdue; None when none waits."""
        with self._lock:
            return max(self._jobs[0].begin_by_s, now_s + STALL_LOOK_S) if self._jobs else None

    def end(self) -> None:
        """Nothing more will be put."""
        with self._lock:
            self._ended = True
            self._ring()

    @property
    def finished(self) -> bool:
        """Ended, and nothing waits any more."""
        return self._ended and not self._jobs

    def wait(self, timeout_s: float | None) -> bool:
        """Block until there is something to take, or the end; False after `timeout_s` of neither.

        For the writer thread alone.
        """
        with self._lock:
            if self._jobs or self._ended:
                return True
            self._asleep = True
        rung = self._bell.acquire(timeout=_FOREVER if timeout_s is None else timeout_s)
        with self._lock:
            if not rung and not self._asleep:  # it rang between the two lines above
                self._bell.acquire()
                return True
            self._asleep = False
        return rung

    def _ring(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.release()
