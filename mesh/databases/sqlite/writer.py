"""The one thread that writes a database: it makes many transactions one commit.

Whatever waits when the writer is free becomes one BEGIN … COMMIT, a savepoint for each
function, and one answer to all once the disk has it: with a disk flush of 150 µs that is the
difference between a few thousand and a hundred thousand transactions a second. It never waits
for company: a lone function commits at once.

What a function raises undoes that function alone. Where SQLite itself throws the transaction
away (no space, a rollback written into a statement) nobody is answered, and all of the group
run again, each in a commit of its own, so that only those fail that fail alone. After an I/O
error nothing is ever tried again on this connection: the kernel may have dropped the pages
that it could not write, and only a fresh process reads what the disk really holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, TypeVar, cast

from mesh import clock
from mesh.databases.sqlite.backlog import QUEUE_MAX, WAIT_S, Backlog, Flush, Job
from mesh.databases.sqlite.checkpoints import Checkpoints
from mesh.databases.sqlite.connections import open_writer
from mesh.databases.sqlite.faults import broken
from mesh.databases.sqlite.statements import CHANGES, Statements
from mesh.databases.sqlite.transaction import SqliteTransaction
from mesh.errors import Broken, DatabaseBroken, DatabaseBusy, MeshError, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.databases.sqlite.files import Place

T = TypeVar("T")

GROUP_MAX = 64
"""Functions in one commit."""

GROUP_WORK_S = 0.005
"""No further function joins a group after this much work: the first of them is waiting."""

PROBE_S = 1.0
"""While there is no space, an empty change is tried this often, so that `writable` recovers
without anybody's write being refused first."""


class Writer:
    """Runs functions as transactions, in the order of the calls of `submit`.

    `submit`, `stop` and the answers belong to the event loop, everything else to the thread.
    """

    def __init__(self, place: Place) -> None:
        self.commits = 0
        """Functions made durable."""
        self.groups = 0
        """Commits to the disk; `commits / groups` is how well they share."""
        self.writable = True
        self.broken: DatabaseBroken | None = None
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog()
        self._sweep: asyncio.TimerHandle | None = None
        self._flush_s = 0.0
        self._stopping = False
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, name="database writer", daemon=True)
        self._statements: Statements
        self._checkpoints: Checkpoints

    # ── on the event loop ────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Claim the file and open it. Raises: AlreadyRunning, DatabaseBroken, DatabaseBusy."""
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._backlog.end()
            raise

    def submit(self, work: Callable[[SqliteTransaction], T]) -> Coroutine[object, object, T]:
        """Queue a function now; the coroutine is the wait for its answer."""
        job = Job(work, self._loop.create_future(), clock.monotonic_s() + WAIT_S, self.groups)
        if self._stopping:
            job.fail(DatabaseBusy("the database is closed"))
        elif not self._backlog.put(job):
            job.fail(DatabaseBusy(f"{QUEUE_MAX} transactions wait already"))
        elif self._sweep is None:
            self._sweep = self._loop.call_later(WAIT_S, self._expire)
        return _answer_of(cast("asyncio.Future[T]", job.future))

    async def stop(self) -> None:
        """Finish what is queued, then close the file and let go of it. Idempotent.

        A broken file stays open and locked until the process ends: closing it would write.
        """
        self._stopping = True
        self._backlog.end()
        await asyncio.shield(self._stopped)
        if self.broken is None:
            self._thread.join()

    def _expire(self) -> None:
        """Refuse those that have waited too long; come again for the next."""
        now_s = clock.monotonic_s()
        for job in self._backlog.overdue(now_s, self.groups):
            waited_s = now_s - job.begin_by_s + WAIT_S
            job.fail(DatabaseBusy(f"no transaction could begin within {waited_s:.2f} s"))
        look_s = self._backlog.next_look_s(now_s)
        self._sweep = None
        if look_s is not None:
            self._sweep = self._loop.call_later(look_s - now_s, self._expire)

    def _deliver(self, jobs: list[Job], flush: Flush) -> None:
        for job in jobs:
            job.answer()
            job.tell(flush)
            if job.error is None:
                self.commits += 1
                for callback in job.callbacks:
                    self._call_back(callback)

    def _call_back(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  the others were promised theirs
            self._loop.call_exception_handler(
                {"message": "an after_commit callback failed", "exception": error}
            )

    # ── on the writer thread ─────────────────────────────────────────────────────────────────

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
        self._serve()
        if self.broken is None:
            self._statements.close()
            self._place.release()
        self._post(_settle, self._stopped, None)
        if self.broken is not None:
            threading.Event().wait()  # a closed connection would checkpoint: keep it, and the lock

    def _open(self) -> None:
        connection = open_writer(self._place.file)
        self._statements = Statements(connection, self._place.file, CHANGES)
        self._checkpoints = Checkpoints(self._statements, self._place.wal)
        if self._place.marked and not self._statements.ask("SELECT 1 FROM sqlite_master LIMIT 1"):
            connection.close()
            raise broken(self._place.file, "holds no table, but a database was here")

    def _serve(self) -> None:
        while not self._backlog.finished:
            if self._backlog.wait(self._idle_wait_s()):
                self._group(self._backlog.take, GROUP_MAX)
            else:
                self._maintain()

    def _idle_wait_s(self) -> float | None:
        if self.broken is not None:
            return None
        return self._checkpoints.idle_wait_s() if self.writable else PROBE_S

    def _maintain(self) -> None:
        """Use a slot in which nobody waits."""
        if not self.writable:
            self._attend(self._probe)
        elif self._checkpoints.idle_wait_s() is not None:
            self._attend(self._checkpoints.run)

    def _attend(self, upkeep: Callable[[], None]) -> None:
        try:
            upkeep()
        except (DatabaseBusy, StorageFull):
            pass  # nothing is lost, and there will be another slot
        except Exception as error:  # noqa: BLE001  a dead thread would answer nobody
            self._break(error)

    def _probe(self) -> None:
        ask = self._statements.ask
        ask(f"PRAGMA user_version = {ask('PRAGMA user_version')[0][0]!r}")
        self.writable = True

    def _break(self, error: Exception) -> DatabaseBroken:
        if not isinstance(error, DatabaseBroken):
            error = broken(self._place.file, f"the writer failed: {error!r}")
        self.broken = error
        self.writable = False
        return error

    def _group(self, take: Callable[[], Job | None], limit: int) -> None:
        """Make up to `limit` functions one commit, and answer them."""
        jobs: list[Job] = []
        lost = self._attempt(take, limit, jobs)
        if lost is not None and self.broken is None and len(jobs) > 1:
            for job in jobs:
                self._group(partial(next, iter([job]), None), 1)
            return
        for job in jobs:
            if lost is not None and (job.error is None or self.broken is not None):
                job.error = lost
            if isinstance(lost, StorageFull) or isinstance(job.error, StorageFull):
                self.writable = False
        if jobs:
            self._post(self._deliver, jobs, Flush(self._flush_s, clock.monotonic_s(), len(jobs)))
        if lost is None and self._checkpoints.overdue():
            self._attend(self._checkpoints.run)

    def _attempt(
        self, take: Callable[[], Job | None], limit: int, jobs: list[Job]
    ) -> MeshError | None:
        """BEGIN, run, COMMIT. Returns why nothing of it was kept, or None when all went well.

        What has been taken is appended to `jobs`, each with its own result or error.
        """
        control = self._statements.control
        connection = self._statements.connection
        before = connection.total_changes
        try:
            if self.broken is not None:
                raise self.broken  # noqa: TRY301  answered like any other failure to begin
            control("BEGIN IMMEDIATE")
            kept = self._fill(take, limit, jobs)
            self._flush_s = clock.monotonic_s()
            if kept:
                control("COMMIT")
                self.groups += 1
                self.writable = self.writable or connection.total_changes > before
        except Exception as error:  # noqa: BLE001  unknown is worse than broken: all must hear of it
            if not jobs and (job := take()) is not None:
                jobs.append(job)  # could not begin: the first in line is told, so the line moves
            if isinstance(error, DatabaseBroken) or not isinstance(error, MeshError):
                return self._break(error)
            return error
        finally:
            if connection.in_transaction:
                with contextlib.suppress(MeshError):
                    control("ROLLBACK")
        return None

    def _fill(self, take: Callable[[], Job | None], limit: int, jobs: list[Job]) -> int:
        """Run functions in the open transaction; returns how many of them stand in it.

        Raises: whatever took the whole transaction away.
        """
        control = self._statements.control
        kept = 0
        until_s = clock.monotonic_s() + GROUP_WORK_S
        while len(jobs) < limit and (job := take()) is not None:
            jobs.append(job)
            if kept:
                control("SAVEPOINT one")
                self._call(job)
                if job.error is not None:
                    control("ROLLBACK TO one")
                control("RELEASE one")
            else:
                self._call(job)
                if job.error is not None:
                    break  # the first needs no savepoint: undoing it undoes nobody else
            kept += job.error is None
            if clock.monotonic_s() > until_s:
                break
        return kept

    def _call(self, job: Job) -> None:
        """Run one function. Raises: the fault that took the whole transaction with it."""
        statements = self._statements
        statements.fault = None
        tx = SqliteTransaction(statements)
        job.begin()
        try:
            job.result = job.work(tx)
            if isinstance(job.result, CoroutineType):
                job.result.close()
                job.error = TypeError("a transaction is a plain function, not a coroutine")
        except BaseException as error:  # noqa: BLE001  it is raised where the answer is awaited
            job.error = error
        finally:
            tx.end()
        if job.error is None:
            job.callbacks = tx.callbacks
            if tx.scrubs:
                self._checkpoints.scrub()
        if isinstance(statements.fault, DatabaseBroken):
            raise statements.fault
        if not statements.connection.in_transaction:
            raise statements.fault or Broken("a function ended the transaction that it ran in")

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(callback, *args)


async def _answer_of(future: asyncio.Future[T]) -> T:
    return await future


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
