"""Transactions that wait for the writer, in the order in which they were asked for.

Of the event loop alone: it puts, takes and refuses.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
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
"""Between two looks at who has waited too long."""

LATE_S = 0.005
"""A look that comes later than this shows that the event loop was held up, by its own work or by
others on the machine: nobody could begin then, and it does not count as waiting."""

US_PER_S = 1_000_000


class Flush(NamedTuple):
    """When one commit was made durable, on the monotonic clock, and how many shared it."""

    start_s: float
    end_s: float
    group: int


class Job:
    """One function that waits for its transaction, and how it went."""

    __slots__ = (
        "aside",
        "begin_by_s",
        "begun_s",
        "callbacks",
        "delayed",
        "error",
        "future",
        "groups",
        "held_up_s",
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
        *,
        aside: bool,
        delayed: bool,
    ) -> None:
        """Nothing has run.

        Args:
            groups: commits so far.
            begin_by_s: now and WAIT_S.
            aside: off the event loop.
            delayed: it need not be durable yet when it is answered.
        """
        self.aside = aside
        self.delayed = delayed
        self.trace = telemetry.current_trace.get()
        self.begun_s = 0.0
        self.work = work
        self.future = future
        self.begin_by_s = begin_by_s
        self.groups = groups
        self.held_up_s = 0.0
        """For how long the loop had been held up in all when this began to wait."""
        self.result: object = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[], None]] = []

    def overdue(self, now_s: float, groups: int, held_up_s: float, stall_s: float) -> bool:
        """Whether it has waited too long, after `groups` commits and so much held up in all.

        Longer than `stall_s` is too long in any case.
        """
        over_s = now_s - self.begin_by_s - (held_up_s - self.held_up_s)
        return over_s >= (0 if groups - self.groups >= PASSED_OVER else stall_s - WAIT_S)

    def begin(self) -> None:
        """Forget an earlier run. Where it is about to run."""
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

    def call_back(self) -> None:
        """Tell whoever was to hear of its commit. On the event loop."""
        for callback in self.callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  the others were promised theirs
                self.future.get_loop().call_exception_handler(
                    {"message": "an after_commit callback failed", "exception": error}
                )

    async def answered(self) -> object:
        """Wait for the answer."""
        return await self.future

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
    """A bounded queue. Its `patience` with a writer that does not get on: STALL_S so many times."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._jobs: deque[Job] = deque()
        self._held_up_s = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._jobs)

    @property
    def next_is_aside(self) -> bool:
        """Whether the one that has waited longest runs aside."""
        return bool(self._jobs) and self._jobs[0].aside

    def all_delayed(self, most: int) -> bool:
        """Whether none of the next `most` needs to be durable when it is answered."""
        return all(job.delayed for job in islice(self._jobs, most))

    def put(self, job: Job) -> bool:
        """Add one at the end; False when QUEUE_MAX wait already."""
        if len(self._jobs) >= QUEUE_MAX:
            return False
        job.held_up_s = self._held_up_s
        self._jobs.append(job)
        return True

    def take(self) -> Job | None:
        """The one that has waited longest; None when there is none."""
        return self._jobs.popleft() if self._jobs else None

    def take_short(self) -> Job | None:
        """The same, unless it is one that runs aside."""
        return self._jobs.popleft() if self._jobs and not self._jobs[0].aside else None

    def overdue(self, look_s: float, now_s: float, groups: int) -> list[Job]:
        """Take out those that have waited too long, after `groups` commits in all.

        Args:
            look_s: when this was to be asked.
        """
        if now_s - look_s > LATE_S:
            self._held_up_s += now_s - look_s
        late: list[Job] = []
        stall_s = STALL_S * self._patience
        while self._jobs and self._jobs[0].overdue(now_s, groups, self._held_up_s, stall_s):
            late.append(self._jobs.popleft())
        return late

    def next_look_s(self, now_s: float) -> float | None:
        """When the one that waits longest may be overdue; None when none waits."""
        return max(self._jobs[0].begin_by_s, now_s + STALL_LOOK_S) if self._jobs else None
