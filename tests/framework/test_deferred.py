"""Deferred work: run after the commit, again until it succeeds, with the trace of who left it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from msgspec import Struct

from mesh import clock, codec, telemetry
from mesh.client import Call
from mesh.errors import DatabaseBusy, ServiceUnavailable
from mesh.framework import ANYONE, Caller, Context, Deferred, Operation, Service, deferred
from mesh.framework.deferred import CONCURRENT_MAX, Counts, DeferredWork
from mesh.tracing.span import Span
from mesh.tracing.store import NEWER
from tests.services.in_process import Clock, Room, room

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0
"""A bound for what takes milliseconds; reaching it is a failure."""


class Do(Struct, frozen=True):
    number: int


PEER = Call("peer", "GET /x", Do, Do)


async def _nothing(ctx, request):
    """Do nothing."""


class Row(Struct):
    key: str
    attempts: int
    error: str | None


class Worker:
    """A room whose deferred work runs; `action` is what it does."""

    def __init__(self) -> None:
        self.room: Room
        self.work: DeferredWork
        self.ran: list[int] = []
        self.contexts: list[Context] = []
        self.begun = asyncio.Semaphore(0)
        self.over = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing: list[Exception] = []
        self.widest = 0
        self.peer_takes = CONCURRENT_MAX
        self.act_first: Callable[[], None] | None = None

    def room_for(self, peers: frozenset[str], most: int) -> int:
        """As a client answers of whom it asks."""
        return min(most, self.peer_takes) if "peer" in peers else most

    async def act(self, ctx: Context, request: Do) -> None:
        """Note what is asked, wait at the gate, fail if told to."""
        self.contexts.append(ctx)
        self.widest = max(self.widest, self.work.running)
        self.begun.release()
        try:
            await self.gate.wait()
            if self.failing:
                raise self.failing.pop(0)
            first, self.act_first = self.act_first, None
            if first is not None:
                first()
            self.ran.append(request.number)
        finally:
            self.over.release()

    async def defer(self, *numbers: int, key: str = "", action: str = "do", **more) -> None:
        def leave(tx):
            for number in numbers:
                tx.defer(action, Do(number), key=key or str(number), **more)

        await self.room.transact(leave)

    async def times(self, seen: asyncio.Semaphore, count: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            for _ in range(count):
                await seen.acquire()

    async def owes(self, due: int = 0, dated: int = 0) -> None:
        """Wait until exactly so much is left; each commit is a chance to look."""
        async with asyncio.timeout(WAIT_S):
            while await self.work.counts() != Counts(due, dated):
                await asyncio.sleep(0)

    def rows(self) -> list[Row]:
        return self.room.database.read.all(
            Row, "SELECT key, attempts, error FROM deferred ORDER BY key"
        )


@contextlib.asynccontextmanager
async def running(worker: Worker):
    """The loop that a process keeps; cancelled at the end, as a process does."""
    task = asyncio.create_task(worker.work.run())
    try:
        yield task
    finally:
        task.cancel()
        worker.gate.set()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(WAIT_S):
                await task


@pytest.fixture
async def worker(tmp_path, monkeypatch):
    monkeypatch.setattr(deferred, "RETRY_S", (0.002, 0.008))
    made = Worker()
    service = Service(
        name="auth",
        summary="Does things later.",
        operations=(Operation("x", "POST /x", _nothing, Do, Do, allow=ANYONE, example=Do(1)),),
        asks=(PEER,),
        deferred=(Deferred("do", made.act, Do), Deferred("ask", made.act, Do, asks=(PEER,))),
    )
    async with room(service, tmp_path) as made.room:

        def context(trace: telemetry.TraceContext, cause: str, deadline_s: float) -> Context:
            return Context(made.room.wires, Caller("service", "auth"), trace, cause, deadline_s)

        made.work = DeferredWork(made.room.database, service.deferred, context, made.room_for)
        object.__setattr__(made.room.wires.vocabulary, "left", made.work.left)
        yield made


async def test_work_runs_after_the_commit_and_is_then_forgotten(worker: Worker):
    async with running(worker):
        await worker.defer(7)
        await worker.times(worker.over)
        await worker.owes()
    assert worker.ran == [7]


async def test_work_left_before_the_start_is_found(worker: Worker):
    await worker.defer(1, 2, 3)
    async with running(worker):
        await worker.times(worker.over, 3)
        await worker.owes()
    assert sorted(worker.ran) == [1, 2, 3]


async def test_work_of_a_failed_transaction_is_never_run(worker: Worker):
    def fails(tx):
        tx.defer("do", Do(1), key="1")
        raise ValueError("no")

    async with running(worker):
        with pytest.raises(ValueError, match="no"):
            await worker.room.transact(fails)
        await worker.defer(2)
        await worker.times(worker.over)
        await worker.owes()
    assert worker.ran == [2]


@pytest.mark.parametrize("error", [ServiceUnavailable("away"), RuntimeError("a bug")])
async def test_work_is_tried_again_until_it_succeeds(worker: Worker, error: Exception):
    worker.failing = [error] * 4
    async with running(worker):
        await worker.defer(1, 2)
        await worker.times(worker.over, 6)
        await worker.owes()
    assert Counter(worker.ran) == {1: 1, 2: 1}


async def test_wait_between_tries_doubles_to_its_bound(worker: Worker, monkeypatch):
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    monkeypatch.setattr(clock, "uniform", uniform)
    worker.failing = [ServiceUnavailable("away")] * 5
    async with running(worker):
        await worker.defer(1)
        await worker.times(worker.over, 6)
        await worker.owes()
    highs = [0.002, 0.004, 0.008, 0.008, 0.008]
    assert asked == [(high / 2, high) for high in highs]


async def test_failed_try_is_counted_and_its_error_kept(worker: Worker, monkeypatch):
    monkeypatch.setattr(deferred, "RETRY_S", (60.0, 60.0))
    worker.failing = [ServiceUnavailable("product is away")]
    async with running(worker):
        await worker.defer(1)
        await worker.times(worker.over)
        async with asyncio.timeout(WAIT_S):
            while not (rows := worker.rows()) or not rows[0].attempts:
                await asyncio.sleep(0)
    assert rows == [Row("1", 1, "product is away")]
    assert await worker.work.counts() == Counts(due=1, dated=0), "a retry is still unrest"


async def test_failure_of_one_does_not_hold_up_the_others(worker: Worker, monkeypatch):
    monkeypatch.setattr(deferred, "RETRY_S", (60.0, 60.0))
    worker.failing = [RuntimeError("a bug")]
    async with running(worker):
        await worker.defer(1)
        await worker.times(worker.over)
        await worker.defer(2, 3)
        await worker.times(worker.over, 2)
        await worker.owes(due=1)
    assert sorted(worker.ran) == [2, 3]


async def test_work_deferred_again_while_it_runs_runs_once_more(worker: Worker):
    worker.gate.clear()
    async with running(worker):
        await worker.defer(1, key="k")
        await worker.times(worker.begun)
        await worker.defer(2, key="k")
        await worker.defer(3, key="k")
        assert worker.work.running == 1, "never twice at once"
        worker.gate.set()
        await worker.times(worker.over, 2)
        await worker.owes()
    assert worker.ran == [1, 3]


async def test_failed_try_does_not_put_off_what_was_deferred_meanwhile(worker: Worker, monkeypatch):
    monkeypatch.setattr(deferred, "RETRY_S", (60.0, 60.0))
    worker.gate.clear()
    worker.failing = [RuntimeError("a bug")]
    async with running(worker):
        await worker.defer(1, key="k")
        await worker.times(worker.begun)
        await worker.defer(2, key="k")
        worker.gate.set()
        await worker.times(worker.over, 2)
        await worker.owes()
    assert worker.ran == [2]


async def test_work_deferred_again_after_failures_begins_its_waits_anew(
    worker: Worker, monkeypatch
):
    monkeypatch.setattr(deferred, "RETRY_S", (60.0, 60.0))
    worker.failing = [RuntimeError("a bug")]
    async with running(worker):
        await worker.defer(1, key="k")
        async with asyncio.timeout(WAIT_S):
            while not worker.rows() or not worker.rows()[0].attempts:
                await asyncio.sleep(0)
        worker.gate.clear()
        await worker.defer(2, key="k")
        assert [row.attempts for row in worker.rows()] == [0]
        worker.gate.set()
        await worker.times(worker.over, 2)
        await worker.owes()
    assert worker.ran == [2]


async def test_undeferred_work_does_not_run(worker: Worker):
    await worker.defer(1, 2)
    await worker.room.transact(lambda tx: tx.undefer("do", key="1"))
    async with running(worker):
        await worker.times(worker.over)
        await worker.owes()
    assert worker.ran == [2]


async def test_work_undeferred_while_it_runs_is_not_tried_again(worker: Worker):
    worker.gate.clear()
    worker.failing = [RuntimeError("a bug")]
    async with running(worker):
        await worker.defer(1)
        await worker.times(worker.begun)
        await worker.room.transact(lambda tx: tx.undefer("do", key="1"))
        worker.gate.set()
        await worker.times(worker.over)
        await worker.owes()
        await worker.defer(2)
        await worker.times(worker.over)
    assert worker.ran == [2]


async def test_dated_work_is_no_unrest_and_runs_at_its_date(worker: Worker, monkeypatch):
    wall = Clock(monkeypatch)
    async with running(worker):
        await worker.defer(1, on_ms=wall.now_ms + 3_600_000)
        await worker.defer(2)
        await worker.times(worker.over)
        await worker.owes(dated=1)
        assert worker.ran == [2]
        wall.forward(3599.999)
        assert await worker.work.counts() == Counts(due=0, dated=1)
        wall.forward(0.001)
        assert await worker.work.counts() == Counts(due=1, dated=0)
        worker.work.wake()
        await worker.times(worker.over)
        await worker.owes()
    assert worker.ran == [2, 1]


async def test_delayed_work_wakes_the_loop_by_itself(worker: Worker):
    async with running(worker):
        await worker.defer(1, after_s=0.3)
        assert await worker.work.counts() == Counts(due=1, dated=0), "a delay is unrest"
        assert worker.ran == []
        await worker.times(worker.over)
        await worker.owes()
    assert worker.ran == [1]


async def test_work_that_is_due_after_the_next_look_asks_for_none(worker: Worker, monkeypatch):
    looks, look = [], worker.work._due
    monkeypatch.setattr(worker.work, "_due", lambda now: (looks.append(now), look(now))[1])
    async with running(worker):
        await worker.defer(1, after_s=60)
        await asyncio.sleep(0)
        seen = len(looks)
        await worker.defer(2, after_s=61)
        await asyncio.sleep(0)
        assert len(looks) == seen
        await worker.defer(3)
        await worker.times(worker.over)
    assert worker.ran == [3]


async def test_work_carries_trace_cause_and_a_deadline(worker: Worker):
    came = telemetry.new_trace()
    before_s = clock.monotonic_s()
    ctx = Context(worker.room.wires, Caller(), came, "evt_cause", before_s + 1)
    worker.failing = [ServiceUnavailable("away")]
    async with running(worker):
        await ctx.write(lambda tx: tx.defer("do", Do(1), key="1"))
        await worker.times(worker.over, 2)
        await worker.owes()
    first, second = worker.contexts
    for found in (first, second):
        assert found.trace.trace_id == came.trace_id
        assert found.cause == "evt_cause"
        left_s = found.deadline_s - before_s
        assert deferred.DEADLINE_S <= left_s < deferred.DEADLINE_S + WAIT_S
    assert len({came.traceparent, first.trace.traceparent, second.trace.traceparent}) == 3


async def test_each_try_is_a_step_of_the_story_of_who_left_it(worker: Worker, tmp_path):
    came = telemetry.new_trace()
    ctx = Context(worker.room.wires, Caller(), came, "evt_cause", clock.monotonic_s() + 1)
    worker.failing = [ServiceUnavailable("away")]
    telemetry.recorder.start(tmp_path)
    try:
        async with running(worker):
            await ctx.write(lambda tx: tx.defer("do", Do(1), key="1"))
            await worker.times(worker.over, 2)
            await worker.owes()
    finally:
        telemetry.recorder.close()
    spans = codec.decode_lines((tmp_path / NEWER).read_bytes(), Span)
    tries = [span for span in spans if span.kind == "deferred"]
    assert {(span.trace_id, span.parent_id) for span in tries} == {(came.trace_id, came.span_id)}
    assert [(span.attributes["attempt"], span.status) for span in tries] == [
        (1, "service-unavailable"),
        (2, ""),
    ]


async def test_no_more_than_the_bound_run_at_once(worker: Worker):
    many = 3 * CONCURRENT_MAX
    worker.gate.clear()
    async with running(worker):
        await worker.defer(*range(CONCURRENT_MAX // 2))
        await worker.times(worker.begun, CONCURRENT_MAX // 2)
        await worker.defer(*range(CONCURRENT_MAX // 2, many))
        await worker.times(worker.begun, CONCURRENT_MAX // 2)
        worker.work.wake()
        await worker.defer(many)
        assert worker.work.running == CONCURRENT_MAX
        assert worker.begun.locked(), "nobody else has begun"
        worker.gate.set()
        await worker.times(worker.over, many + 1)
        await worker.owes()
    assert sorted(worker.ran) == list(range(many + 1))
    assert worker.widest == CONCURRENT_MAX


async def test_work_whose_peer_does_not_answer_is_not_begun_and_holds_up_no_other(worker: Worker):
    worker.peer_takes = 0
    async with running(worker):
        await worker.defer(*range(3 * CONCURRENT_MAX), action="ask")
        await worker.defer(100, 101)
        await worker.times(worker.over, 2)
        await worker.owes(due=3 * CONCURRENT_MAX)
        assert (sorted(worker.ran), worker.work.held) == ([100, 101], {"ask": 0})
        worker.peer_takes = CONCURRENT_MAX
        await worker.times(worker.over, 3 * CONCURRENT_MAX)  # it looks by itself
        await worker.owes()
    assert worker.work.held == {}
    assert worker.widest <= CONCURRENT_MAX


async def test_one_piece_of_work_at_a_time_probes(worker: Worker):
    worker.peer_takes = 1
    worker.gate.clear()
    async with running(worker):
        await worker.defer(1, 2, 3, action="ask")
        await worker.times(worker.begun)
        await worker.defer(100)
        await worker.times(worker.begun)
        assert worker.work.running == 2
        for _ in range(5):
            worker.work.wake()
            await asyncio.sleep(0)
        assert worker.work.running == 2
        worker.gate.set()
        await worker.times(worker.over, 4)
        await worker.owes()
    assert worker.widest == 2


async def test_failed_probe_leaves_the_others_alone(worker: Worker, monkeypatch):
    monkeypatch.setattr(deferred, "RETRY_S", (60.0, 60.0))
    worker.peer_takes = 1

    def fails() -> None:
        worker.peer_takes = 0
        raise ServiceUnavailable("away")

    worker.act_first = fails
    async with running(worker):
        await worker.defer(1, 2, 3, action="ask")
        await worker.times(worker.over)
        await worker.defer(100)
        await worker.times(worker.over)
        await worker.owes(due=3)
    assert worker.ran == [100]
    assert sorted(row.attempts for row in worker.rows()) == [0, 0, 1]


async def test_loop_survives_a_database_that_cannot_be_read(worker: Worker, monkeypatch):
    real, refusals = worker.room.database.read, 3

    class Busy:
        def all(self, *args, **params):
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise DatabaseBusy("too much work")
            return real.all(*args, **params)

        def one(self, *args, **params):
            return real.one(*args, **params)

    await worker.defer(1)
    monkeypatch.setattr(type(worker.room.database), "read", property(lambda _: Busy()))
    async with running(worker):
        await worker.times(worker.over)
        await worker.owes()
    assert (worker.ran, refusals) == ([1], 0)


async def test_loop_survives_a_database_that_cannot_be_written(worker: Worker, monkeypatch):
    real, refusals = worker.room.database.write, 2

    async def write(fn, *args, **kwargs):
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise DatabaseBusy("the queue is full")
        return await real(fn, *args, **kwargs)

    await worker.defer(1)
    monkeypatch.setattr(worker.room.database, "write", write)
    async with running(worker):
        await worker.times(worker.over, 2)
        await worker.owes()
    assert worker.ran == [1, 1], "done and not recorded: it is done again"


async def test_cancellation_ends_the_work_under_way_and_keeps_it_owed(worker: Worker):
    worker.gate.clear()
    async with running(worker) as task:
        await worker.defer(1, 2)
        await worker.times(worker.begun, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert worker.work.running == 0
    assert worker.ran == []
    assert await worker.work.counts() == Counts(due=2, dated=0)
    assert [row.attempts for row in worker.rows()] == [0, 0]
    async with running(worker):
        await worker.times(worker.over, 2 + 2)
        await worker.owes()
    assert sorted(worker.ran) == [1, 2]


async def test_work_of_an_action_no_longer_in_the_table_stays_owed(worker: Worker, monkeypatch):
    """An older program left it; the newer one must run the rest, and not die of it."""
    monkeypatch.setattr(deferred, "RETRY_S", (60.0, 60.0))
    await worker.defer(1)
    await worker.room.transact(
        lambda tx: tx.execute("UPDATE deferred SET action = 'forgotten', key = 'old'")
    )
    async with running(worker):
        await worker.defer(2)
        await worker.times(worker.over)
        await worker.owes(due=1)
        async with asyncio.timeout(WAIT_S):
            while not worker.rows()[0].attempts:
                await asyncio.sleep(0)
    assert worker.ran == [2]
    assert [row.key for row in worker.rows()] == ["old"]
    assert "forgotten" in (worker.rows()[0].error or "")


async def test_work_that_falls_due_during_the_look_is_not_slept_over(worker: Worker, monkeypatch):
    """Time goes on between the look for what is due and the look for what is next."""
    wall = Clock(monkeypatch)
    await worker.defer(1, on_ms=wall.now_ms + 2)

    def ticking() -> int:
        wall.now_ms += 2
        return wall.now_ms

    wall.now_ms -= 1
    monkeypatch.setattr(clock, "now_ms", ticking)
    async with running(worker):
        await worker.times(worker.over)
    assert worker.ran == [1]


async def test_what_waits_for_a_date_costs_a_look_nothing(worker: Worker):
    """A read is aborted beyond a bounded amount of work."""

    def leave(tx):
        tx.execute(
            "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
            " INSERT INTO deferred (action, key, args, due_ms, dated, generation, traceparent, cause)"
            " SELECT 'do', 'dated ' || i, x'', :later, 1, 0, '', '' FROM n",
            later=clock.now_ms() + 3_600_000,
        )

    await worker.room.database.write_aside(leave)
    async with running(worker):
        await worker.defer(7)
        await worker.times(worker.over)
        await worker.owes(dated=30_000)
    assert worker.ran == [7]


async def test_work_of_an_action_that_is_no_more_holds_up_no_other(worker: Worker):
    await worker.room.transact(
        lambda tx: tx.execute(
            "INSERT INTO deferred (action, key, args, due_ms, dated, generation, traceparent, cause)"
            " VALUES ('done-away', 'x', x'', 0, 0, 0, '', '')"
        )
    )
    async with running(worker):
        await worker.defer(7)
        await worker.times(worker.over)
        await worker.owes(due=1)
        async with asyncio.timeout(WAIT_S):
            while not (left := worker.rows())[0].attempts:
                await asyncio.sleep(0)
    assert worker.ran == [7]
    assert "done-away" in (left[0].error or "")
