"""The one that writes a database: it makes many transactions one commit.

Whatever waits when the disk is free becomes one BEGIN … COMMIT, and one answer to all once the disk has
it: with a disk flush of 150 µs that is the difference between a few thousand and a hundred thousand
transactions a second. It never waits for company: a lone function commits at once.

The functions run on the event loop, a few milliseconds of them at a time: on a thread they would
fight the loop for the interpreter at each statement. What may wait for the disk or take long is the
thread's: COMMIT, checkpoints, whoever asked to be run aside. Only one of the two has the
connection: while the thread is at work no function begins, and those that come make the next group.

What a function raises undoes that function alone. Where SQLite itself throws the transaction away (no
space, a rollback written into a statement) all of the group run again, each in a commit of its own, so
that only those fail that fail alone. After an I/O error nothing is ever tried again on this connection:
the kernel may have dropped the pages that it could not write, and only a fresh process reads what the
disk really holds.

Where nobody in a group needs to be durable at once (`delay.py`), its COMMIT is a few writes into the
-wal and stays on the loop. So it does for one who is alone while the disk is quick (`solo.py`): there
function and COMMIT are done when `submit` returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

from mesh import clock
from mesh.databases.sqlite.backlog import QUEUE_MAX, WAIT_S, Backlog, Job
from mesh.databases.sqlite.checkpoints import Checkpoints
from mesh.databases.sqlite.connections import open_writer
from mesh.databases.sqlite.delay import Delay
from mesh.databases.sqlite.faults import broken
from mesh.databases.sqlite.group import Group
from mesh.databases.sqlite.solo import Solo
from mesh.databases.sqlite.statements import CHANGES, Statements
from mesh.errors import DatabaseBroken, DatabaseBusy, MeshError, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.databases.sqlite.files import Place
    from mesh.databases.sqlite.transaction import SqliteTransaction

T = TypeVar("T")

GROUP_MAX = 64
"""Functions in one commit."""

PROBE_S = 1.0
"""While there is no space, an empty change is tried this often, so that `writable` recovers
without anybody's write being refused first."""


class Writer:
    """Runs functions as transactions, in the order of the calls of `submit`.

    Everything belongs to the event loop but what the thread is handed by `_order`.
    """

    def __init__(self, place: Place, patience: int = 1) -> None:
        self.commits = 0
        """Functions made durable."""
        self.groups = 0
        """Commits to the disk; `commits / groups` is how well they share."""
        self.writable = True
        self.broken: DatabaseBroken | None = None
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._backlog = Backlog(patience)
        self._delay = Delay()
        self._solo = Solo()
        self._alone: deque[Job] = deque()
        """A group that was lost: each of it runs again, in a commit of its own."""
        self._careful = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._upkeep: asyncio.TimerHandle | None = None
        self._due = False
        """A turn is about to come."""
        self._turning = False
        """A turn is under way."""
        self._ordered = False
        """The thread has the connection."""
        self._commit_s = 0.0
        """How long the latest commit took, until the loop heard of it."""
        self._finished: tuple[Callable[..., None], Exception | None] | None = None
        """What the thread has done, until the loop has heard of it."""
        self._stopping = False
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._orders: SimpleQueue[tuple[Callable[[], None], Callable[..., None]] | None]
        self._orders = SimpleQueue()  # at most one order and the end
        self._thread = threading.Thread(target=self._main, name="database writer", daemon=True)
        self.statements: Statements
        """Of the one connection that changes the file."""
        self._checkpoints: Checkpoints

    async def start(self) -> None:
        """Claim the file and open it. Raises: AlreadyRunning, DatabaseBroken, DatabaseBusy."""
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._orders.put(None)
            raise

    def submit(
        self,
        work: Callable[[SqliteTransaction], T],
        *,
        aside: bool = False,
        delayed: bool = False,
    ) -> Coroutine[object, object, T]:
        """Queue a function now, or run it if nobody waits; the coroutine is the wait for its answer.

        Args:
            aside: run it on the thread, in a commit of its own.
            delayed: it need not be durable yet then.
        """
        begin_by_s = clock.monotonic_s() + WAIT_S
        future = self._loop.create_future()
        job = Job(work, future, begin_by_s, self.groups, aside=aside, delayed=delayed)
        if self._stopping:
            job.fail(DatabaseBusy("the database is closed"))
        elif not self._backlog.put(job):
            job.fail(DatabaseBusy(f"{QUEUE_MAX} transactions wait already"))
        else:
            if self._ordered or self._turning or len(self._backlog) > 1:
                self._solo.beware()
            elif self._solo.allowed and not self._due and not delayed:
                self._context.run(self._turn)
            if not future.done():
                self._wake()
                if self._sweep is None:
                    self._sweep = self._loop.call_later(WAIT_S, self._expire, begin_by_s)
                if len(self._backlog) >= GROUP_MAX:
                    self._hurry()
        return cast("Coroutine[object, object, T]", job.answered())

    async def stop(self) -> None:
        """Finish what is queued, then close the file and let go of it. Idempotent.

        A broken file stays open and locked until the process ends: closing it would write.
        """
        self._stopping = True
        self._wake()
        await asyncio.shield(self._stopped)
        if self.broken is None:
            self._thread.join()

    def spare(self) -> bool:
        """Whether nobody has `statements`: no function has begun that is not seen by all."""
        return not (self._ordered or self._turning) and self.broken is None

    def _expire(self, look_s: float) -> None:
        """Refuse those that have waited too long; come again for the next. `look_s`: due then."""
        now_s = clock.monotonic_s()
        for job in self._backlog.overdue(look_s, now_s, self.groups):
            waited_s = now_s - job.begin_by_s + WAIT_S
            job.fail(DatabaseBusy(f"no transaction could begin within {waited_s:.2f} s"))
        next_s = self._backlog.next_look_s(now_s)
        self._sweep = None
        if next_s is not None:
            self._sweep = self._loop.call_later(next_s - now_s, self._expire, next_s)

    # ── turns ────────────────────────────────────────────────────────────────────────────────

    def _wake(self) -> None:
        """Have a turn, once whoever is at it on the loop has asked for all that it has to."""
        if not self._ordered and not self._due:
            self._due = True
            self._loop.call_soon(self._turn, context=self._context)

    def _hurry(self) -> None:
        """So many are asked for in one go of the loop: do now what was to come after it."""
        if not self._turning:
            self._context.run(self._hear)
            self._context.run(self._turn)

    def _turn(self) -> None:
        """Begin the next group, if anybody waits."""
        self._due = False
        if self._ordered:
            return
        self._turning = True
        try:
            self._begin()
        finally:
            self._turning = False

    def _begin(self) -> None:
        if not self._alone and not self._backlog:
            self._rest()
            return
        may = not self._alone and self._delay.allowed and not self._checkpoints.restarts
        delayed = may and self._backlog.all_delayed(GROUP_MAX)
        group = Group(self.statements, delayed=delayed, careful=self._careful)
        group.lost = self.broken
        if self.broken is not None:
            self._fill(group)
        elif not self._alone and self._backlog.next_is_aside:
            job = self._backlog.take()
            take = partial(next, iter([job]), None)
            self._order(partial(group.whole, take), partial(self._ended, group))
        elif group.begin():
            self._fill(group)
        else:
            self._order(group.begin_waiting, partial(self._fill, group))

    def _fill(self, group: Group, failed: Exception | None = None) -> None:
        """Run who waits in the group's transaction, and hand it on."""
        group.lost = group.lost or failed
        if self._alone:
            group.fill(self._alone.popleft, 1)
        else:
            take = self._backlog.take if group.lost else self._backlog.take_short
            group.fill(take, GROUP_MAX, self._commit_s)
        if group.durable:
            self._delay.beware()
        self._careful = max(0, group.careful - 1)
        if group.kept and group.changed and not group.delayed:
            then = partial(self._committed, group, clock.monotonic_s())
            if self._solo.allowed:
                group.commit()
                then()
            else:
                self._order(group.commit, then)
            return
        if group.kept:
            group.commit()  # there is nothing to write, or nobody waits for the disk
        self._ended(group)

    def _committed(self, group: Group, since_s: float, failed: Exception | None = None) -> None:
        self._commit_s = clock.monotonic_s() - since_s
        self._solo.committed(self._commit_s)
        if len(group.jobs) > 1 or self._backlog or self._alone:
            self._solo.beware()
        self._ended(group, failed)

    def _ended(self, group: Group, failed: Exception | None = None) -> None:
        """A group is durable, or nothing of it has happened: answer it, and go on."""
        lost, jobs = group.lost or failed, group.jobs
        if lost is not None and (
            isinstance(lost, DatabaseBroken) or not isinstance(lost, MeshError)
        ):
            lost = self._break(lost)
        if lost is not None and self.broken is None and len(jobs) > 1:
            self._alone.extend(jobs)
        else:
            self._close(group, lost)
        if lost is None and group.kept and group.changed and self._checkpoints.overdue():
            self._order(self._checkpoints.run, self._attended)
        else:
            self._wake()

    def _close(self, group: Group, lost: MeshError | None) -> None:
        if lost is None and group.kept:
            self.groups += 1
            self.writable = self.writable or group.changed
            if group.changed:
                self._delay.committed(synced=not group.delayed)
            if group.scrubs:
                self._checkpoints.scrub()
        for job in group.jobs:
            if lost is not None and (job.error is None or self.broken is not None):
                job.error = lost
            if isinstance(lost, StorageFull) or isinstance(job.error, StorageFull):
                self.writable = False
        for job in group.jobs:
            job.answer()
            if job.error is None:
                self.commits += 1
                job.call_back()
        self._loop.call_soon(group.tell)  # those who wait go first

    def _break(self, error: Exception) -> DatabaseBroken:
        if not isinstance(error, DatabaseBroken):
            error = broken(self._place.file, f"the writer failed: {error!r}")
        self.broken = error
        self.writable = False
        return error

    # ── while nobody waits ───────────────────────────────────────────────────────────────────

    def _rest(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            self._upkeep = None
        if self.broken is None and self._stopping and self._delay.wait_s() is not None:
            self._order(self._checkpoints.sync, self._synced)
        elif self._stopping:
            self._orders.put(None)
        elif self.broken is None:
            waits_s = (self._checkpoints.idle_wait_s(), self._delay.wait_s())
            wait_s = min((each for each in waits_s if each is not None), default=None)
            if not self.writable:
                wait_s = PROBE_S
            if wait_s is not None:
                self._upkeep = self._loop.call_later(wait_s, self._maintain)

    def _maintain(self) -> None:
        """Use a slot in which nobody waits."""
        self._upkeep = None
        if self._ordered or self._due:
            return  # the next rest comes here again
        if not self.writable or self._delay.wait_s() == 0.0:
            self._order(self._checkpoints.sync, self._synced)
        elif self._checkpoints.idle_wait_s() is not None:
            self._order(self._checkpoints.run, self._attended)
        else:
            self._rest()

    def _synced(self, failed: Exception | None) -> None:
        self.writable = failed is None or (self.writable and isinstance(failed, DatabaseBusy))
        if failed is None or self._stopping:  # closing checkpoints, and so syncs too if it can
            self._delay.committed(synced=True)
        else:
            self._delay.again()
        self._attended(failed)

    def _attended(self, failed: Exception | None) -> None:
        # Where it was busy or full nothing is lost, and there will be another slot.
        if failed is not None and not isinstance(failed, DatabaseBusy | StorageFull):
            self._break(failed)
        self._wake()

    # ── the thread ───────────────────────────────────────────────────────────────────────────

    def _order(self, work: Callable[[], None], then: Callable[..., None]) -> None:
        """Have the thread do `work`, and go on here by `then(why it failed, or None)`."""
        self._ordered = True
        self._orders.put((work, then))

    def _hear(self) -> None:
        """Go on from what the thread has done, if it has: the disk is kept busy."""
        if self._finished is None:
            return
        (then, failed), self._finished = self._finished, None
        self._ordered = False
        self._turning = self._due = True
        try:
            then(failed)
        finally:
            self._turning = False
            self._turn()

    def _main(self) -> None:
        try:
            self._place.claim()
            self._open()
        except BaseException as error:  # noqa: BLE001  it is raised on the loop's side
            self._place.release()
            self._post(_settle, self._opened, error)
            self._post(_settle, self._stopped, None)
            return
        self._post(_settle, self._opened, None)
        while (order := self._orders.get()) is not None:
            work, then = order
            failed: Exception | None = None
            try:
                work()
            except Exception as error:  # noqa: BLE001  a dead thread would answer nobody
                failed = error
            self._finished = (then, failed)
            del work, then, order, failed
            self._post(self._hear)
        if self.broken is None:
            self.statements.close()
            self._place.release()
        self._post(_settle, self._stopped, None)
        if self.broken is not None:
            threading.Event().wait()  # a closed connection would checkpoint: keep it, and the lock

    def _open(self) -> None:
        connection = open_writer(self._place.file)
        self.statements = Statements(connection, self._place.file, CHANGES)
        self._checkpoints = Checkpoints(self.statements, self._place.wal)
        if self._place.marked and not self.statements.ask("SELECT 1 FROM sqlite_master LIMIT 1"):
            connection.close()
            raise broken(self._place.file, "holds no table, but a database was here")

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(callback, *args, context=self._context)


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
