from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest

from mesh.databases.sqlite import backlog, connect, group
from mesh.databases.sqlite.backlog import QUEUE_MAX, STALL_S, WAIT_S
from mesh.databases.sqlite.group import CAREFUL_GROUPS, GROUP_S, GROUP_WORK_MAX_S, GROUP_WORK_S
from mesh.databases.sqlite.writer import GROUP_MAX
from mesh.errors import (
    Broken,
    Conflict,
    DatabaseBusy,
    NotFound,
    StorageFull,
)

BIG = b"x" * 100_000


async def test_waiting_functions_share_a_commit(database, add, ids, held, monkeypatch):
    monkeypatch.setattr(group, "GROUP_S", 60.0)  # their share of work is another test's
    monkeypatch.setattr(group, "GROUP_WORK_S", 60.0)
    said = []
    await database.write(lambda tx: tx._statements.connection.set_trace_callback(said.append))
    before = database.groups, database.commits
    async with held(database):
        writes = [database.write(add, f"{n:03}") for n in range(2 * GROUP_MAX)]
    assert await asyncio.gather(*writes) == [f"{n:03}" for n in range(2 * GROUP_MAX)]
    assert database.commits - before[1] == 2 * GROUP_MAX + 1
    assert database.groups - before[0] == 3  # the one that held it, then two full ones
    said.remove("COMMIT")  # of the transaction that began to listen
    assert said.count("BEGIN IMMEDIATE") == said.count("COMMIT") == 3
    assert "SAVEPOINT one" not in said
    assert len(ids(database.read)) == 2 * GROUP_MAX


async def test_lone_function_waits_for_nobody(database, add):
    said = []
    await database.write(lambda tx: tx._statements.connection.set_trace_callback(said.append))
    said.clear()
    await database.write(add, "a")
    assert [text.split()[0] for text in said] == ["BEGIN", "INSERT", "COMMIT"]


def reading(for_s):
    """A function that takes so much CPU time and changes nothing."""

    def read(tx):
        end = time.thread_time() + for_s
        while time.thread_time() < end:
            tx.one(int, "SELECT 1")

    return read


async def groups_of(database, held, function) -> int:
    """How many groups four of it make."""
    before = database.groups
    async with held(database):
        writes = [asyncio.ensure_future(database.write(function)) for _ in range(4)]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)
    return database.groups - before - 1  # the one that held it


async def test_group_ends_after_its_share_of_work(database, held):
    assert await groups_of(database, held, reading(1.1 * GROUP_WORK_MAX_S)) == 4


async def test_group_works_longer_where_commits_take_long(database, add, held, monkeypatch):
    monkeypatch.setattr(group, "GROUP_S", 60.0)

    def trace(said):
        if said == "COMMIT":
            time.sleep(2 * GROUP_WORK_MAX_S)

    await database.write(lambda tx: tx._statements.connection.set_trace_callback(trace))
    await database.write(add, "a")
    assert await groups_of(database, held, reading(1.1 * GROUP_WORK_S)) == 2


async def test_first_of_a_group_fails_alone(database, add, ids, held):
    def fail(tx):
        add(tx, "x")
        raise NotFound("x")

    async with held(database):
        writes = [database.write(fail), database.write(add, "a"), database.write(fail)]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NotFound, str, NotFound]
    assert ids(database.read) == ["a"]


@pytest.fixture
async def said(database):
    """What SQLite is told, statement by statement."""
    found = []
    await database.write(lambda tx: tx._statements.connection.set_trace_callback(found.append))
    found.clear()
    return found


@pytest.fixture
def ran(add):
    """Notes who ran; `fail` raises before it changes something, `spoil` after."""
    order = []

    def keep(tx, name):
        order.append(name)
        return add(tx, name)

    def fail(tx, name):
        order.append(name)
        with contextlib.suppress(Conflict):  # a statement that fails changes nothing either
            tx.execute("INSERT INTO notes (id) VALUES ('b'), (NULL)")
        raise NotFound(name)

    def spoil(tx, name):
        keep(tx, name)
        raise NotFound(name)

    keep.order, keep.fail, keep.spoil = order, fail, spoil
    return keep


async def test_function_that_raises_before_a_change_has_nobody_run_again(
    database, ids, held, said, ran
):
    async with held(database):
        writes = [
            database.write(ran.fail, "x"),
            database.write(ran, "a"),
            database.write(ran.fail, "y"),
            database.write(ran, "b"),
        ]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NotFound, str, NotFound, str]
    assert ran.order == ["x", "a", "y", "b"]
    assert said.count("COMMIT") == 2  # of the one that held it, and of the group
    assert "SAVEPOINT one" not in said
    assert ids(database.read) == ["a", "b"]


async def test_function_that_raises_after_a_change_has_its_group_run_again_with_savepoints(
    database, ids, held, said, ran
):
    async with held(database):
        writes = [
            database.write(ran, "a"),
            database.write(ran.spoil, "x"),
            database.write(ran, "b"),
            database.write(ran.spoil, "y"),
            database.write(ran, "c"),
        ]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, NotFound, str, NotFound, str]
    assert ran.order == ["a", "x", "a", "x", "b", "y", "c"], "once is enough"
    assert said.count("COMMIT") == 2
    assert said.count("SAVEPOINT one") == said.count("RELEASE one") == 5
    assert said.count("ROLLBACK TO one") == 2
    assert ids(database.read) == ["a", "b", "c"]


async def test_groups_after_such_a_one_are_careful_for_a_while(database, held, said, ran):
    for n in range(2 * CAREFUL_GROUPS):
        async with held(database):
            writes = [database.write(ran, f"{n:03}"), database.write(ran.spoil, "x")]
        await asyncio.gather(*writes, return_exceptions=True)
    assert ran.order.count("x") <= 2 * CAREFUL_GROUPS + 4
    said.clear()
    for n in range(CAREFUL_GROUPS + 1):
        await database.write(ran, f"later {n:03}")
    said.clear()
    await database.write(ran, "last")
    assert "SAVEPOINT one" not in said


async def test_group_that_cannot_begin_again_runs_each_alone(
    database, file, ids, held, ran, monkeypatch
):
    foreign = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    begun = []

    def trace(said):
        if said == "BEGIN IMMEDIATE":
            begun.append(said)
            if len(begun) == 2:  # of the group's second run
                foreign.execute("BEGIN IMMEDIATE")
                threading.Timer(0.1, foreign.execute, ["ROLLBACK"]).start()

    async with held(database):
        listen = database.write(lambda tx: tx._statements.connection.set_trace_callback(trace))
        writes = [
            database.write_aside(ids),
            database.write(ran, "a"),
            database.write(ran.spoil, "x"),
        ]
        begun.clear()
    answers = await asyncio.gather(listen, *writes, return_exceptions=True)
    assert [type(answer) for answer in answers[2:]] == [str, NotFound]
    assert ids(database.read) == ["a"]
    foreign.close()


async def test_full_storage_is_told_to_whom_it_concerns_only(database, add, ids, held, nearly_full):
    async with held(database):
        writes = [
            database.write(add, "a"),
            database.write(add, "big", BIG),
            database.write(add, "b"),
        ]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, StorageFull, str]
    assert ids(database.read) == ["a", "b"]


async def test_writable_is_false_until_a_write_succeeds_again(database, add, ids, nearly_full):
    with pytest.raises(StorageFull):
        await database.write(add, "big", BIG)
    assert not database.writable
    assert ids(database.read) == []  # reading goes on
    await database.write(ids)  # so does a transaction that changes nothing: that proves nothing
    assert not database.writable
    await nearly_full()
    await database.write(add, "big", BIG)
    assert database.writable


async def test_writable_recovers_by_itself_when_nobody_writes(database, add, nearly_full, until):
    before = database.commits
    with pytest.raises(StorageFull):
        await database.write(add, "big", BIG)
    await until(lambda: database.writable)
    assert database.commits == before


async def test_function_that_swallows_full_storage_is_not_told_it_succeeded(
    database, add, ids, held, nearly_full
):
    tried = []

    def swallow(tx):
        add(tx, "before")
        try:
            add(tx, "big", BIG)
        except StorageFull:
            tried.append("again")
        try:
            add(tx, "after")  # would commit on its own: SQLite has ended the transaction
        except StorageFull:
            tried.append("refused")

    async with held(database):
        writes = [database.write(add, "a"), database.write(swallow), database.write(add, "b")]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, StorageFull, str]
    assert ids(database.read) == ["a", "b"]
    assert tried == ["again", "refused"] * 2  # in the group, then alone


async def test_statement_that_rolls_everything_back_harms_only_itself(database, add, ids, held):
    def roll_back(tx):
        add(tx, "mine")
        tx.execute("INSERT OR ROLLBACK INTO notes (id) VALUES ('mine')")

    calls = []

    def told(tx, note_id):
        tx.after_commit(lambda: calls.append(note_id))
        return add(tx, note_id)

    async with held(database):
        writes = [
            database.write(told, "a"),
            database.write(roll_back),
            database.write(told, "b"),
        ]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, Conflict, str]
    assert ids(database.read) == ["a", "b"]
    assert calls == ["a", "b"]


async def test_write_is_refused_when_it_cannot_begin_in_time(database, add, ids, held):
    database._writer._backlog._patience = 1
    async with held(database):
        begun = time.monotonic()
        with pytest.raises(DatabaseBusy):
            await database.write(add, "late")
        assert time.monotonic() - begun >= STALL_S
    await database.write(add, "a")
    assert ids(database.read) == ["a"]


async def test_patient_database_waits_longer_for_a_writer_that_stands(
    tmp_path, applied, add, held, monkeypatch
):
    monkeypatch.setattr(backlog, "STALL_S", 0.3)
    patient = await connect("sqlite://", tmp_path / "patient", "patient", 1000)
    try:
        await patient.migrate(applied)
        async with held(patient):
            late = asyncio.ensure_future(patient.write(add, "late"))
            await asyncio.sleep(3 * backlog.STALL_S)
        assert await late == "late"
    finally:
        await patient.close()


async def test_nobody_is_refused_for_the_time_that_the_loop_was_held_up(database, add, ids):
    many = 3 * GROUP_MAX
    writes = [asyncio.ensure_future(database.write(add, f"{n:03}")) for n in range(many)]
    await asyncio.sleep(0)
    time.sleep(1.5 * STALL_S)
    await asyncio.gather(*writes)
    assert len(ids(database.read)) == many


async def test_write_is_refused_sooner_when_others_are_begun_before_it(
    database, add, ids, monkeypatch
):
    """More is asked than the writer can do: what comes last waits a quarter of a second."""
    monkeypatch.setattr(backlog, "STALL_S", 3600.0)  # nobody is refused for a disk that stalls

    def slow(tx, note_id):
        time.sleep(1.1 * GROUP_S)
        return add(tx, note_id)

    begun = time.monotonic()
    writes = [database.write(slow, f"{n:03}") for n in range(60)]
    last = database.write(add, "last")
    with pytest.raises(DatabaseBusy, match="could begin within"):
        await last
    assert time.monotonic() - begun >= WAIT_S
    answers = await asyncio.gather(*writes, return_exceptions=True)
    done = [each for each in answers if isinstance(each, str)]
    assert ids(database.read) == done == [f"{n:03}" for n in range(len(done))]
    assert {type(each) for each in answers} == {str, DatabaseBusy}


async def test_write_is_refused_at_once_when_too_many_wait(database, add, ids, held):
    async with held(database):
        waiting = [database.write(add, f"{n:03}") for n in range(QUEUE_MAX)]
        with pytest.raises(DatabaseBusy, match=str(QUEUE_MAX)):
            await database.write(add, "one too many")
    await asyncio.gather(*waiting)
    assert len(ids(database.read)) == QUEUE_MAX


async def test_cancelled_callers_leave_nothing_open(database, add, ids, ask):
    for n in range(200):
        task = asyncio.ensure_future(database.write(add, f"{n:03}"))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await database.write(add, "last")  # runs after all of them
    assert len(ids(database.read)) == 201
    assert await database.write(lambda tx: tx.execute("DELETE FROM notes")) == 201


async def test_transaction_is_dead_once_its_function_has_returned(database, add):
    kept = []
    await database.write(kept.append)
    for use in (
        lambda tx: tx.execute("DELETE FROM notes"),
        lambda tx: tx.one(int, "SELECT 1"),
        lambda tx: tx.all(int, "SELECT 1"),
        lambda tx: tx.after_commit(print),
    ):
        with pytest.raises(Broken, match="returned"):
            use(kept[0])
        with pytest.raises(Broken, match="returned"):
            await database.write(lambda _, use=use: use(kept[0]))


async def test_write_refuses_a_coroutine_function(database, add, ids):
    async def wrong(tx):
        add(tx, "a")

    with pytest.raises(TypeError, match="plain function"):
        await database.write(wrong)
    assert ids(database.read) == []


async def test_write_carries_what_a_future_cannot(database, held):
    def exhausted(tx):
        return next(iter(()))

    async with held(database):
        writes = [database.write(exhausted), database.write(lambda tx: "answered")]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, str]


async def test_callback_that_fails_keeps_nobody_from_theirs(database):
    reported = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(type(context["exception"]))
    )
    called = asyncio.Event()

    def fn(tx):
        tx.after_commit(lambda: 1 / 0)
        tx.after_commit(called.set)
        return "answered"

    assert await database.write(fn) == "answered"
    assert called.is_set()
    assert reported == [ZeroDivisionError]


async def test_foreign_lock_makes_writes_busy_not_broken(database, add, ids, foreign, monkeypatch):
    monkeypatch.setattr(group, "BUSY_MS", 50)
    with pytest.raises(DatabaseBusy):
        await database.write(add, "a")
    with pytest.raises(DatabaseBusy):
        await database.write_aside(add, "a")
    foreign.execute("ROLLBACK")
    await database.write(add, "b")
    assert ids(database.read) == ["b"]


async def test_foreign_lock_is_waited_for_while_the_loop_turns(database, add, ids, foreign):
    waiting = asyncio.ensure_future(database.write(add, "a"))
    longest = 0.0
    for _ in range(20):
        begun = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - begun)
    assert not waiting.done()
    foreign.execute("ROLLBACK")
    assert await waiting == "a"
    assert ids(database.read) == ["a"]
    assert longest < group.BUSY_MS / 2000


async def test_loop_turns_while_the_disk_has_a_commit(database, add, ids, monkeypatch):
    """A disk that stalls holds up whoever writes, and nobody else."""
    gate, at_it = threading.Event(), asyncio.Event()
    loop, commit = asyncio.get_running_loop(), group.Group.commit

    def stalled(self):
        loop.call_soon_threadsafe(at_it.set)
        assert gate.wait(20), "the loop did not turn meanwhile"
        commit(self)

    monkeypatch.setattr(group.Group, "commit", stalled)
    begun = []
    first = asyncio.ensure_future(database.write(add, "a"))
    await at_it.wait()
    second = asyncio.ensure_future(database.write(lambda tx: begun.append(add(tx, "b"))))
    await asyncio.sleep(0.02)
    assert not begun, "no function begins while a commit is under way"
    assert not first.done()
    assert ids(database.read) == []
    gate.set()
    await asyncio.gather(first, second)
    assert ids(database.read) == ["a", "b"]


async def test_functions_run_on_the_loop_and_its_changes_are_committed_elsewhere(
    database, add, monkeypatch
):
    ran, commit = [], group.Group.commit
    monkeypatch.setattr(
        group.Group, "commit", lambda self: (ran.append(threading.get_ident()), commit(self))
    )
    here = threading.get_ident()
    assert await database.write(lambda tx: add(tx, "a") and threading.get_ident()) == here
    assert await database.write_aside(lambda tx: threading.get_ident()) != here
    assert here not in ran


async def test_groups_are_never_larger_than_their_bound(database, add, held):
    sizes = []
    close = database._writer._close
    database._writer._close = lambda one, lost: (sizes.append(len(one.jobs)), close(one, lost))
    async with held(database):
        writes = [database.write(add, f"{n:03}") for n in range(100)]
    await asyncio.gather(*writes)
    assert sum(sizes) == 101
    assert max(sizes) <= GROUP_MAX
