"""Who is alone while the disk is quick is committed on the event loop, everybody else on the thread."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar

import pytest

from mesh.databases.sqlite import backlog, checkpoints, connect, delay, group, solo
from mesh.databases.sqlite.solo import QUICK_S, UNKNOWN_COMMITS, WARY_COMMITS, Solo
from mesh.errors import DatabaseBusy, NotFound, StorageFull
from tests.databases.conftest import NOTES, PATIENCE

LOOP, THREAD = "loop", "thread"


def commits_until_allowed(found: Solo) -> int:
    """How many quick ones it takes."""
    count = 0
    while not found.allowed:
        found.committed(QUICK_S)
        count += 1
    return count


@pytest.fixture
def known():
    """Of a disk that has been quick so far."""
    found = Solo()
    assert commits_until_allowed(found) == UNKNOWN_COMMITS
    return found


def test_quick_commits_go_on_as_they_are(known):
    for _ in range(100):
        known.committed(QUICK_S)
        assert known.allowed


def test_who_is_not_alone_has_the_next_few_on_the_thread(known):
    known.beware()
    known.committed(QUICK_S)
    known.beware()
    assert commits_until_allowed(known) == WARY_COMMITS


@pytest.mark.parametrize(
    ("took_s", "commits"),
    [(1.5 * QUICK_S, WARY_COMMITS), (1000.5 * QUICK_S, 1000 * WARY_COMMITS)],
)
def test_slow_commit_has_the_more_on_the_thread_the_longer_it_took(known, took_s, commits):
    known.committed(took_s)
    known.beware()
    known.committed(1.5 * QUICK_S)
    assert commits_until_allowed(known) == commits


@pytest.fixture
def quick(monkeypatch):
    """Any disk is quick, and known to be."""
    monkeypatch.setattr(solo, "QUICK_S", 60.0)
    monkeypatch.setattr(solo, "UNKNOWN_COMMITS", 0)


@pytest.fixture
def trusting(monkeypatch):
    """Nor is anybody wary for having met others."""
    monkeypatch.setattr(solo, "WARY_COMMITS", 0)


@pytest.fixture
async def database(quick, database, committing):
    committing.clear()
    return database


def result(coroutine):
    """What it returns, without a turn of the loop."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


async def test_who_is_alone_is_committed_where_it_is_asked_for(
    database, add, ids, file, committing
):
    answer = database.write(add, "a")
    assert committing == [LOOP]
    assert ids(database.read) == ["a"]
    assert result(answer) == "a"


async def test_commits_go_to_the_thread_until_the_disk_is_known(
    tmp_path, monkeypatch, add, committing
):
    monkeypatch.setattr(solo, "QUICK_S", 60.0)
    opened = await connect("sqlite://", tmp_path / "unknown", "notes")
    await opened.migrate([NOTES])
    committing.clear()
    for n in range(UNKNOWN_COMMITS + 1):
        await opened.write(add, f"{n:03}")
    await opened.close()
    assert committing == [THREAD] * UNKNOWN_COMMITS + [LOOP]


async def test_those_who_come_together_share_a_commit_on_the_thread(database, add, committing):
    before = database.groups
    await asyncio.gather(*(database.write(add, name) for name in "abcd"))
    assert committing == [LOOP, THREAD]
    assert database.groups == before + 2
    committing.clear()
    for n in range(WARY_COMMITS + 1):
        await database.write(add, f"{n}")
    assert committing == [THREAD] * WARY_COMMITS + [LOOP]


async def test_who_has_a_commit_of_its_own_while_others_wait_is_not_alone(
    database, add, held, committing, monkeypatch
):
    """As where functions take long: each is a group of its own."""
    for bound in ("GROUP_WORK_S", "GROUP_WORK_MAX_S", "GROUP_S"):
        monkeypatch.setattr(group, bound, 0.0)
    async with held(database):
        writes = [database.write(add, f"{n}") for n in range(2 * WARY_COMMITS)]
    await asyncio.gather(*writes)
    assert committing == [THREAD] * 2 * WARY_COMMITS


async def test_who_runs_again_because_of_another_is_not_alone(database, add, ids, held, committing):
    def roll_back(tx):
        tx.execute("INSERT OR ROLLBACK INTO notes (id) VALUES ('0'), ('0')")

    async with held(database):
        writes = [database.write(add, f"{n}") for n in range(2 * WARY_COMMITS)]
        writes.append(database.write(roll_back))
    await asyncio.gather(*writes, return_exceptions=True)
    assert committing == [THREAD] * 2 * WARY_COMMITS
    assert len(ids(database.read)) == 2 * WARY_COMMITS


async def test_after_a_stall_the_loop_turns_while_the_disk_has_a_commit(
    database, add, ids, committing, monkeypatch
):
    monkeypatch.setattr(solo, "QUICK_S", 0.01)
    commit = group.Group.commit
    monkeypatch.setattr(group.Group, "commit", lambda self: (time.sleep(0.11), commit(self)))
    await database.write(add, "stalled")
    assert committing == [LOOP], "nobody knew"
    committing.clear()
    loop, gate = asyncio.get_running_loop(), threading.Event()

    def stalled(self):
        loop.call_soon_threadsafe(gate.set)
        assert gate.wait(20), "the loop did not turn meanwhile"
        gate.clear()
        commit(self)

    monkeypatch.setattr(group.Group, "commit", stalled)
    for n in range(10 * WARY_COMMITS):
        await asyncio.sleep(0)
        await database.write(add, f"{n:03}")
    assert committing == [THREAD] * 10 * WARY_COMMITS
    assert len(ids(database.read)) == 10 * WARY_COMMITS + 1


async def test_function_that_fails_alone_is_undone(database, add, ids, committing):
    def spoil(tx):
        add(tx, "x")
        raise NotFound("x")

    with pytest.raises(NotFound):
        database.write(spoil).send(None)
    await asyncio.sleep(0)
    assert result(database.write(add, "a")) == "a"
    assert committing == [LOOP]
    assert ids(database.read) == ["a"]


async def test_function_that_changes_nothing_is_answered_at_once(database, ids, committing):
    assert result(database.write(ids)) == []
    assert committing == []


async def test_functions_asked_for_in_one_turn_run_in_that_order(database, ran_in_order):
    writes = [database.write(ran_in_order, name) for name in "cab"]
    assert ran_in_order.order == ["c"]
    writes.append(database.write_aside(ran_in_order, "d"))
    writes.append(database.write_delayed(ran_in_order, "e"))
    await asyncio.gather(*writes)
    assert ran_in_order.order == ["c", "a", "b", "d", "e"]


@pytest.fixture
def ran_in_order(add):
    def ran(tx, name):
        ran.order.append(name)
        add(tx, name)

    ran.order = []
    return ran


@pytest.mark.parametrize("wary", [0, WARY_COMMITS])
async def test_loop_turns_between_the_writes_of_who_never_stops(
    database, add, committing, monkeypatch, wary
):
    monkeypatch.setattr(solo, "WARY_COMMITS", wary)
    loop, turns, begun = asyncio.get_running_loop(), 0, []

    def turn():
        nonlocal turns
        turns += 1
        ticking = loop.call_soon(turn)
        if len(begun) == 50:
            ticking.cancel()

    def note(tx, n):
        begun.append(turns)
        add(tx, f"{n:03}")

    turn()
    for n in range(50):
        await database.write(note, n)
    assert LOOP in committing
    assert sorted(set(begun)) == begun, "each in a turn of its own"


async def test_callback_may_ask_for_a_write(database, add, ids, committing):
    asked = []

    def fn(tx):
        tx.after_commit(lambda: asked.append(database.write(add, "b")))
        add(tx, "a")

    answer = database.write(fn)
    assert committing == [LOOP]
    assert len(asked) == 1
    assert ids(database.read) == ["a"], "the other is begun once the callbacks are over"
    result(answer)
    assert await asked[0] == "b"
    assert ids(database.read) == ["a", "b"]


async def test_function_may_ask_for_another(database, add, ids, committing):
    asked = []

    def fn(tx):
        asked.append(database.write(add, "b"))
        add(tx, "a")

    await database.write(fn)
    assert await asked[0] == "b"
    assert committing == [THREAD], "the one was not alone, as it turned out"
    assert ids(database.read) == ["a", "b"]


async def test_what_a_function_does_to_its_context_stays_there(database):
    said = ContextVar("said", default="nothing")
    assert result(database.write(lambda _: (said.set("something"), said.get())[1])) == "something"
    assert said.get() == "nothing"


async def test_delayed_writes_wait_for_company(database, add, monkeypatch):
    monkeypatch.setattr(group, "GROUP_S", 60.0)  # their share of work is another test's
    monkeypatch.setattr(group, "GROUP_WORK_S", 60.0)
    monkeypatch.setattr(delay, "DELAY_S", 60.0)
    before = database.groups
    await asyncio.gather(database.write_delayed(add, "a"), database.write_delayed(add, "b"))
    assert database.groups == before + 1


async def test_cancelled_caller_has_been_committed(database, add, ids, committing):
    async def cancelled():
        asyncio.current_task().cancel()
        await database.write(add, "a")
        await asyncio.sleep(20)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(cancelled())
    assert committing == [LOOP]
    assert ids(database.read) == ["a"]


async def test_closing_in_the_same_turn_keeps_it(tmp_path, quick, add, ids):
    for name in "ab":
        opened = await connect("sqlite://", tmp_path / "closing", "notes")
        await opened.migrate([NOTES])
        await opened.write(add, name)
        await opened.close()
    opened = await connect("sqlite://", tmp_path / "closing", "notes")
    assert ids(opened.read) == ["a", "b"]
    await opened.close()


async def test_checkpoints_are_the_threads_all_the_same(
    trusting, database, add, committing, monkeypatch
):
    monkeypatch.setattr(checkpoints, "WAL_BYTES", 32 * 1024)
    monkeypatch.setattr(checkpoints, "LOOK_COMMITS", 4)
    ran, run = [], checkpoints.Checkpoints.run
    monkeypatch.setattr(
        checkpoints.Checkpoints, "run", lambda self: (ran.append(threading.get_ident()), run(self))
    )
    for n in range(200):
        await database.write(add, f"{n:03}")
        await asyncio.sleep(0)
    assert committing.count(LOOP) > 20
    assert len(ran) > 3
    assert threading.get_ident() not in ran


async def test_full_storage_is_told_and_recovered_from(
    trusting, database, add, nearly_full, committing
):
    big = bytes(100_000)
    await asyncio.sleep(0)
    with pytest.raises(StorageFull):
        database.write(add, "big", big).send(None)
    assert not database.writable
    await nearly_full()
    committing.clear()
    await asyncio.sleep(0)
    assert result(database.write(add, "big", big)) == "big"
    assert committing == [LOOP]
    assert database.writable


async def test_foreign_lock_is_waited_for_as_long_as_for_any_other(
    database, add, foreign, monkeypatch
):
    monkeypatch.setattr(backlog, "STALL_S", 0.3 / PATIENCE)
    begun = time.monotonic()
    with pytest.raises(DatabaseBusy, match="begin within"):
        await database.write(add, "a")
    assert time.monotonic() - begun < group.BUSY_MS / 2000


async def test_commit_follows_on_the_loop_when_a_foreign_lock_is_gone(
    database, add, ids, foreign, committing
):
    writing = asyncio.ensure_future(database.write(add, "a"))
    await asyncio.sleep(0.01)
    assert not writing.done()
    foreign.execute("ROLLBACK")
    assert await writing == "a"
    assert committing == [LOOP]
    assert ids(database.read) == ["a"]
