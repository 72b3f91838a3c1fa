"""Work left for after a commit: run until it succeeds, with the trace and cause of who left it.

Work that asks a service of which no good is expected is not begun, but for one piece as a probe: each
piece tries again by itself, so many of them would ask it far oftener than it is needed.

The row is deleted only if nobody deferred the same work again meanwhile; then it runs once more.
It is the only timer a service has.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec, telemetry
from mesh.errors import Broken, MeshError, Unavailable
from mesh.framework.parked import described

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesh.database import Database, Transaction
    from mesh.framework.context import Context
    from mesh.framework.service import Deferred

CONCURRENT_MAX = 16
"""Pieces of work under way at once: deferred work must leave room for requests."""

DEADLINE_S = 5.0
"""For one try."""

RETRY_S = (0.05, 5.0)
"""First and longest wait before the next try; doubling, with jitter."""

US_PER_MS = 1000

HELD_LOOK_S = 0.1
"""Between two looks at whether work that is held back may go on."""

IDLE_S = 30.0
"""Longest sleep without a wake-up."""

_DUE = (
    "SELECT action, key, args, due_ms, generation, attempts, traceparent, cause FROM deferred"
    " WHERE action = :action AND due_ms <= :now ORDER BY due_ms LIMIT :most"
)
_ACTIONS = (
    "WITH RECURSIVE one (action) AS (SELECT min(action) FROM deferred UNION ALL"
    " SELECT (SELECT min(action) FROM deferred d WHERE d.action > one.action) FROM one"
    " WHERE one.action IS NOT NULL)"
)
"""The actions of which something waits: a few steps in the index, however much it is."""

_WAITING = f"{_ACTIONS} SELECT action FROM one WHERE action IS NOT NULL"  # noqa: S608  our own
_NEXT = (
    f"{_ACTIONS} SELECT min((SELECT min(due_ms) FROM deferred d"  # noqa: S608  likewise
    " WHERE d.action = one.action AND due_ms > :now)) FROM one"
)

log = telemetry.logger("framework.deferred")


def _all(_: frozenset[str], most: int) -> int:
    return most


class Work(Struct, frozen=True):
    """One row."""

    action: str
    key: str
    args: bytes
    due_ms: int
    generation: int
    attempts: int
    traceparent: str
    cause: str


class Counts(Struct, frozen=True):
    """Rows that wait: `due` for their next try, `dated` for a business date."""

    due: int
    dated: int


class DeferredWork:
    """Runs this service's deferred work."""

    def __init__(
        self,
        database: Database,
        rows: Sequence[Deferred],  # type: ignore[type-arg]  # each row has types of its own
        context: Callable[[telemetry.TraceContext, str, float], Context],
        room: Callable[[frozenset[str], int], int] = _all,
    ) -> None:
        """Nothing runs yet.

        Args:
            database: where the rows lie.
            rows: what can be deferred.
            context: makes one from a trace, a cause and a deadline on the monotonic clock.
            room: how many pieces that ask these services may begin now, of at most so many.
        """
        self._database = database
        self._rows = {row.name: row for row in rows}
        self._context = context
        self._room = room
        self._peers = {row.name: frozenset(call.service for call in row.asks) for row in rows}
        self._everybody = frozenset[str]().union(*self._peers.values())
        self._holding = False
        self._running: set[tuple[str, str]] = set()
        self._woken = asyncio.Event()
        self._until_s = 0.0
        """When the loop looks again by itself, on the monotonic clock."""

    @property
    def running(self) -> int:
        """Pieces of work under way."""
        return len(self._running)

    @property
    def held(self) -> dict[str, int]:
        """Actions that are held back, and how many pieces of each may begin: one as a probe, or none."""
        if self._room(self._everybody, CONCURRENT_MAX) == CONCURRENT_MAX:
            return {}
        rooms = {name: self._room(each, CONCURRENT_MAX) for name, each in self._peers.items()}
        return {name: room for name, room in rooms.items() if room < CONCURRENT_MAX}

    def wake(self) -> None:
        """Something has finished."""
        self._woken.set()

    def left(self, due_ms: int) -> None:
        """Something was deferred: a look for it is made now, unless one comes before it is due."""
        if clock.monotonic_s() + (due_ms - clock.now_ms()) / clock.MS_PER_S < self._until_s:
            self._woken.set()

    async def run(self) -> None:
        """Run what is due, for ever. Cancellation lets the current commit finish, no more."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                now = clock.now_ms()  # one for both looks: nothing may fall due between them
                try:
                    for work in self._due(now):
                        self._running.add((work.action, work.key))
                        group.create_task(self._perform(work))
                    sleep_s = self._sleep_s(now)
                except Unavailable:
                    sleep_s = RETRY_S[0]
                self._until_s = clock.monotonic_s() + sleep_s
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(sleep_s):
                        await self._woken.wait()

    def _due(self, now: int) -> list[Work]:
        places = CONCURRENT_MAX - len(self._running)
        if places <= 0:
            return []
        held = self.held
        self._holding = bool(held)
        probed = {peer for action, _ in self._running for peer in self._peers.get(action, ())}
        found: list[Work] = []
        for action in self._database.read.all(str, _WAITING):
            room, peers = held.get(action, places), self._peers.get(action, frozenset())
            if room and (action not in held or probed.isdisjoint(peers)):
                rows = self._look(action, now, room)
                if rows and action in held:
                    probed |= peers
                found += rows
        return sorted(found, key=lambda row: row.due_ms)[:places]

    def _look(self, action: str, now: int, most: int) -> list[Work]:
        most_rows = most + len(self._running)
        found = self._database.read.all(Work, _DUE, action=action, now=now, most=most_rows)
        return [row for row in found if (row.action, row.key) not in self._running][:most]

    def _sleep_s(self, now: int) -> float:
        """Until the next row is due; a row that runs already wakes us itself."""
        if len(self._running) >= CONCURRENT_MAX:
            return IDLE_S
        next_ms = self._database.read.one(int, _NEXT, now=now)
        longest_s = HELD_LOOK_S if self._holding else IDLE_S
        if next_ms is None:
            return longest_s
        return min(longest_s, (next_ms - now) / clock.MS_PER_S + 0.001)

    def _row(self, action: str) -> Deferred:  # type: ignore[type-arg]  # each row has types of its own
        row = self._rows.get(action)
        if row is None:
            raise Broken(f"this service has no deferred action {action!r} any more")
        return row

    async def _perform(self, work: Work) -> None:
        came = telemetry.parse_traceparent(work.traceparent) or telemetry.new_trace()
        trace = came.child()
        telemetry.current_trace.set(trace)
        begun_s = clock.monotonic_s()
        waited_us = max(0, clock.now_ms() - work.due_ms) * US_PER_MS
        context = self._context(trace, work.cause, begun_s + DEADLINE_S)
        status = ""
        try:
            row = self._row(work.action)
            await row.action(context, codec.decode(work.args, row.takes))
            await self._database.write(_done, work)
        except Exception as error:  # noqa: BLE001  whatever it is, the work stays owed
            status = error.code if isinstance(error, MeshError) else type(error).__name__
            await self._failed(work, error)
        finally:
            telemetry.record(
                "deferred",
                trace,
                came.span_id,
                work.action,
                begun_s,
                clock.monotonic_s(),
                status,
                (work.key, work.attempts + 1, waited_us),
            )
            self._running.discard((work.action, work.key))
            self.wake()

    async def _failed(self, work: Work, error: Exception) -> None:
        wait_s = min(RETRY_S[1], RETRY_S[0] * 2 ** min(work.attempts, 16))
        ours = isinstance(error, Unavailable)
        log.log(
            telemetry.WARNING if ours else telemetry.ERROR,
            "deferred work failed; it will be tried again",
            exc_info=None if ours else error,
            extra=telemetry.facts(
                action=work.action, key=work.key, attempts=work.attempts + 1, error=str(error)
            ),
        )
        due_ms = clock.now_ms() + int(clock.uniform(wait_s / 2, wait_s) * clock.MS_PER_S)
        try:
            await self._database.write(_postpone, work, due_ms, described(error)[1])
        except Unavailable:
            await asyncio.sleep(RETRY_S[0])

    async def counts(self) -> Counts:
        """What waits, for `mesh wait --for idle`."""
        (found,) = await self._database.scan(
            Counts,
            "SELECT (SELECT count(*) FROM deferred WHERE dated = 0)"
            " + (SELECT count(*) FROM deferred WHERE dated = 1 AND due_ms <= :now) AS due,"
            " (SELECT count(*) FROM deferred WHERE dated = 1 AND due_ms > :now) AS dated",
            now=clock.now_ms(),
        )
        return found


def _done(tx: Transaction, work: Work) -> None:
    tx.execute(
        "DELETE FROM deferred WHERE action = :action AND key = :key AND generation = :generation",
        action=work.action,
        key=work.key,
        generation=work.generation,
    )


def _postpone(tx: Transaction, work: Work, due_ms: int, error: str) -> None:
    tx.execute(
        "UPDATE deferred SET due_ms = :due_ms, attempts = attempts + 1, error = :error"
        " WHERE action = :action AND key = :key AND generation = :generation",
        due_ms=due_ms,
        error=error,
        action=work.action,
        key=work.key,
        generation=work.generation,
    )
