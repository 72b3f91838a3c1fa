"""One group of functions on its way to the disk: BEGIN, each in turn, COMMIT.

What a function raises undoes that function alone. Most that raise have changed nothing; where one has,
the group is undone and runs again with a savepoint for each, which all the others are spared: for a
savepoint SQLite copies each page that changes after it. What takes the whole transaction with it (no
space, an I/O error, a rollback written into a statement) is kept as `lost`, and then nothing of the
group has happened. Whoever has the connection runs it: the event loop all but the COMMIT of a
change, the writer's thread that, or either of them everything.
"""

from __future__ import annotations

import contextlib
from types import CoroutineType
from typing import TYPE_CHECKING

from mesh import clock
from mesh.databases.sqlite.backlog import Flush, Job
from mesh.databases.sqlite.connections import BUSY_MS, FULL, NORMAL
from mesh.databases.sqlite.transaction import SqliteTransaction
from mesh.errors import Broken, DatabaseBroken, DatabaseBusy, MeshError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.databases.sqlite.statements import Statements


GROUP_WORK_S = 0.005
"""No further function joins a group after this much work: the event loop has other things to do,
and the first of them is waiting…"""

GROUP_WORK_MAX_S = 0.01
"""…but where commits take longer, so may the work, up to this: with a slow disk or a crowded machine
few functions a commit would leave the loop idle just when there is most to do."""

GROUP_S = 0.03
"""Nor after this long, whatever it was spent on: a machine that has others to serve stops us for
milliseconds."""


CAREFUL_GROUPS = 16
"""So many have savepoints once a function raised when it had changed something: where one does it others
will, and each would have its group run twice."""


class Group:
    """Some functions that become one commit."""

    __slots__ = (
        "_before",
        "_statements",
        "careful",
        "delayed",
        "durable",
        "flush",
        "jobs",
        "kept",
        "locked",
        "lost",
        "scrubs",
    )

    def __init__(self, statements: Statements, *, delayed: bool = False, careful: int = 0) -> None:
        """Nothing has begun.

        Args:
            delayed: COMMIT does not sync, as is to be said before BEGIN.
            careful: for how many groups, this one the first, each function has a savepoint.
        """
        self.delayed = delayed
        self.careful = careful
        self.durable = False
        """Whether one that could have been delayed asked not to be."""
        self.jobs: list[Job] = []
        """Those taken, each with its own result or error."""
        self.kept = 0
        """How many of them stand in the transaction."""
        self.lost: Exception | None = None
        """Why nothing of it was kept."""
        self.locked: DatabaseBusy | None = None
        """Why it could not begin: another program holds the file."""
        self.scrubs = False
        """Whether one of them wants no bytes left of what it deleted."""
        self.flush = Flush(0.0, 0.0, 0)
        """Nothing, unless it came to a COMMIT."""
        self._statements = statements
        self._before = statements.connection.total_changes

    @property
    def changed(self) -> bool:
        """Whether rows were changed, so that the COMMIT has something to write."""
        return self._statements.connection.total_changes > self._before

    def begin(self) -> bool:
        """BEGIN without a wait; False, and `locked`, while another program holds the file."""
        try:
            self._statements.set("synchronous", NORMAL if self.delayed else FULL)
            self._statements.control("BEGIN IMMEDIATE")
        except DatabaseBusy as error:
            self.locked = error
            return False
        except Exception as error:  # noqa: BLE001  unknown is worse than broken: all must hear of it
            self.lost = error
        return True

    def begin_waiting(self) -> None:
        """The same, waiting for that program BUSY_MS at most. On the writer's thread."""
        self.locked = None
        try:
            self._statements.ask(f"PRAGMA busy_timeout = {BUSY_MS}")
            try:
                if not self.begin():
                    self.lost = self.locked
            finally:
                self._statements.ask("PRAGMA busy_timeout = 0")
        except MeshError as error:
            self._lose(error)

    def fill(self, take: Callable[[], Job | None], limit: int, commit_s: float = 0.0) -> None:
        """Run up to `limit` functions; none is begun after GROUP_S, or so much work as a commit takes.

        One at least is taken, so that somebody is told where it could not begin.

        Args:
            commit_s: how long the latest commit took.
        """
        jobs = self.jobs
        work_s = min(max(commit_s, GROUP_WORK_S), GROUP_WORK_MAX_S)
        begun_s, worked_s = clock.monotonic_s(), clock.work_s()
        try:
            while len(jobs) < limit and (job := take()) is not None:
                jobs.append(job)
                if self.lost is not None:
                    return
                if not self._place(job):
                    if job.error is not None and not self.kept:
                        break  # it is undone with the transaction
                    self._start_over()
                took_s = clock.monotonic_s() - begun_s
                if took_s > work_s and (took_s > GROUP_S or clock.work_s() - worked_s > work_s):
                    break
        except Exception as error:  # noqa: BLE001  as above
            self._lose(error)
        else:
            if not self.kept:
                self._undo()

    def commit(self) -> None:
        """Make it durable, or only seen by others where that is delayed."""
        start_s = clock.monotonic_s()
        try:
            self._statements.control("COMMIT")
        except Exception as error:  # noqa: BLE001  as above
            self._lose(error)
        self.flush = Flush(start_s, clock.monotonic_s(), len(self.jobs))

    def tell(self) -> None:
        """Record how each function fared, if it is part of a story. On the event loop."""
        for job in self.jobs:
            job.tell(self.flush)

    def whole(self, take: Callable[[], Job | None]) -> None:
        """All of it for one function. On the writer's thread."""
        self.begin_waiting()
        self.fill(take, 1)
        if self.kept:
            self.commit()

    def _place(self, job: Job) -> bool:
        """Run one; False where it must not stay as it is, and the group knows how to run it instead."""
        if self.delayed and not job.delayed:  # it came while BEGIN waited
            self.delayed = False
            return False
        control, connection = self._statements.control, self._statements.connection
        before = connection.total_changes
        if self.careful:
            control("SAVEPOINT one")
        durable = self._call(job)
        if self.careful:
            if job.error is not None:
                control("ROLLBACK TO one")
            control("RELEASE one")
        elif job.error is not None and connection.total_changes != before:
            self.careful = CAREFUL_GROUPS
            return False
        if job.error is None:
            if self.delayed and durable:
                self.delayed = False
                return False
            self.kept += 1
        return True

    def _start_over(self) -> None:
        """Undo all, and run all again. Raises: why it could not begin again."""
        standing = False
        while not standing:
            self._undo()
            self.kept, self.scrubs = 0, False
            self.begin()
            error = self.locked or self.lost
            if error is not None:
                raise error
            standing = all(map(self._place, self.jobs))

    def _call(self, job: Job) -> bool:
        """Run one function; returns whether it asked to be durable.

        Raises: the fault that took the whole transaction with it.
        """
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
            self.scrubs = self.scrubs or tx.scrubs
        if isinstance(statements.fault, DatabaseBroken):
            raise statements.fault
        if not statements.connection.in_transaction:
            raise statements.fault or Broken("a function ended the transaction that it ran in")
        self.durable = self.durable or (job.delayed and tx.durable)
        return tx.durable

    def _lose(self, error: Exception) -> None:
        self.lost = error
        self.kept = 0
        self._undo()

    def _undo(self) -> None:
        if self._statements.connection.in_transaction:
            with contextlib.suppress(MeshError):
                self._statements.control("ROLLBACK")
