"""Delayed durability: who goes without a sync of its own, and when the disk has it all the same.

Syncs are seen where SQLite asks for them, in its file layer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from mesh.databases.sqlite import checkpoints, connect, connections, delay, group, writer
from mesh.databases.sqlite.delay import DELAY_S, WARY_GROUPS
from mesh.errors import NotFound
from tests.databases.conftest import NOTES
from tests.power import recorder
from tests.power.cuts import Disk
from tests.power.recorder import Sync, Write, recorded, why_not

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "recorded")


@pytest.fixture
def notes():
    with recorded() as notes:
        yield notes


@pytest.fixture
async def database(notes, tmp_path):
    opened = await connect("sqlite://", tmp_path / "notes", "notes")
    await opened.migrate([NOTES])
    await opened.write(lambda tx: tx.execute("DELETE FROM notes"))
    await _add(opened.write, "first")  # begins the -wal
    notes.clear()
    yield opened
    await opened.close()


def _add(write, note_id, *, ask=None):
    def fn(tx):
        tx.execute("INSERT INTO notes (id) VALUES (:id)", id=note_id)
        if ask is not None:
            ask(tx)
        return note_id

    return write(fn)


def syncs(notes) -> int:
    return sum(isinstance(each, Sync) for each in notes)


def writes(notes) -> int:
    return sum(isinstance(each, Write) and each.path.endswith("-wal") for each in notes)


def surviving(notes, file) -> list[str]:
    """The notes that a power cut now would leave for sure."""
    disk = Disk()
    for each in notes:
        disk.do(each)
    target = file.parent.parent / "survived"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path, content in disk.after_cut(None).items():
        if path in (str(file), f"{file}-wal"):
            (target / path.rsplit("/", 1)[1]).write_bytes(content)
    connection = sqlite3.connect(target / file.name)
    try:
        return [row[0] for row in connection.execute("SELECT id FROM notes ORDER BY id")]
    finally:
        connection.close()


async def test_delayed_write_is_seen_and_not_synced(database, notes, ids):
    for name in "abc":
        assert await _add(database.write_delayed, name) == name
    assert ids(database.read) == ["a", "b", "c", "first"]
    assert writes(notes) > 0
    assert syncs(notes) == 0


async def test_next_durable_commit_takes_with_it_what_was_delayed(tmp_path, file, ids):
    with recorded() as notes:
        opened = await connect("sqlite://", file.parent, "notes")
        await opened.migrate([NOTES])
        await _add(opened.write, "a")
        await _add(opened.write_delayed, "b")
        before = surviving(notes, file)
        await _add(opened.write, "c")
        after = surviving(notes, file)
        await opened.close()
    assert (before, after) == (["a"], ["a", "b", "c"])


async def test_delayed_write_is_synced_soon_by_itself_and_once(database, notes):
    await _add(database.write_delayed, "a")
    async with asyncio.timeout(60):
        while not syncs(notes):
            await asyncio.sleep(DELAY_S / 10)
    await asyncio.sleep(2 * DELAY_S)
    assert syncs(notes) == 1


async def test_stream_of_delayed_writes_is_synced_now_and_then(database, notes):
    loop = asyncio.get_running_loop()
    begun, count = loop.time(), 0
    while loop.time() < begun + 5 * DELAY_S or syncs(notes) < 2:
        await _add(database.write_delayed, f"{count:06}")
        count += 1
        await asyncio.sleep(0.005)  # so few that no checkpoint comes between, which syncs too
    most = 2 + 2 * (loop.time() - begun) / DELAY_S
    assert 2 <= syncs(notes) <= most < count


@pytest.mark.parametrize(
    "ask",
    [
        lambda tx: tx.after_commit(lambda: None),
        lambda tx: tx.make_durable(),
        lambda tx: tx.scrub(),
    ],
    ids=["after_commit", "make_durable", "scrub"],
)
async def test_function_that_asks_for_it_is_durable_when_it_is_answered(database, notes, ask):
    await _add(database.write_delayed, "a", ask=ask)
    assert syncs(notes) >= 1
    last = max(n for n, each in enumerate(notes) if isinstance(each, Write))
    assert any(isinstance(each, Sync) for each in notes[last:])


async def test_callback_comes_after_the_sync(database, notes):
    seen = []
    await _add(
        database.write_delayed,
        "a",
        ask=lambda tx: tx.after_commit(lambda: seen.append(syncs(notes))),
    )
    assert seen == [1]


async def test_function_that_asks_for_it_keeps_its_place_and_takes_effect_once(database, ids, held):
    order = []

    def said(name, ask=None):
        return lambda tx: (order.append(name), ask and ask(tx))

    async with held(database):
        waiting = [
            _add(database.write_delayed, "a", ask=said("a")),
            _add(database.write_delayed, "b", ask=said("b", lambda tx: tx.make_durable())),
            _add(database.write_delayed, "c", ask=said("c")),
        ]
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "a", "b", "c"], "undone once, with all of its group"
    assert ids(database.read) == ["a", "b", "c", "first"]


async def test_lone_function_that_asks_for_it_runs_again_alone(database, ids):
    ran = []
    await _add(database.write_delayed, "a", ask=lambda tx: (ran.append(1), tx.make_durable()))
    assert len(ran) == 2
    assert ids(database.read) == ["a", "first"]


async def test_function_that_asks_for_it_each_time_is_seldom_run_twice(database):
    ran = []
    for n in range(2 * WARY_GROUPS):
        ask = lambda tx: (ran.append(1), tx.make_durable())  # noqa: E731
        await _add(database.write_delayed, f"{n:03}", ask=ask)
    assert len(ran) == 2 * WARY_GROUPS + 1


async def test_function_that_fails_after_asking_is_not_run_again(database, ids):
    ran = []

    def fail(tx):
        ran.append(1)
        tx.execute("INSERT INTO notes (id) VALUES ('x')")
        tx.make_durable()
        raise NotFound("x")

    with pytest.raises(NotFound):
        await database.write_delayed(fail)
    assert ran == [1]
    assert ids(database.read) == ["first"]


async def test_who_shares_a_group_with_a_durable_function_is_durable(database, notes, held):
    async with held(database):
        waiting = [
            _add(database.write_delayed, "a"),
            _add(database.write, "b"),
            _add(database.write_delayed, "c"),
        ]
    await asyncio.gather(*waiting)
    assert syncs(notes) == 1
    last = max(n for n, each in enumerate(notes) if isinstance(each, Write))
    assert isinstance(notes[last + 1], Sync)


async def test_who_comes_while_a_delayed_group_waits_to_begin_is_durable(
    database, notes, file, ids
):
    foreign = sqlite3.connect(file, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    first = asyncio.ensure_future(_add(database.write_delayed, "a"))
    while not database._writer._ordered:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(_add(database.write, "b"))
    await asyncio.sleep(0.01)
    foreign.execute("ROLLBACK")
    foreign.close()
    await asyncio.gather(first, second)
    last = max(n for n, each in enumerate(notes) if isinstance(each, Write))
    assert any(isinstance(each, Sync) for each in notes[last:])
    assert ids(database.read) == ["a", "b", "first"]


async def test_loop_never_syncs(database, notes, monkeypatch):
    """Nor where the -wal begins anew, whose header SQLite syncs whatever it is told."""
    monkeypatch.setattr(checkpoints, "WAL_BYTES", 32 * 1024)
    monkeypatch.setattr(checkpoints, "LOOK_COMMITS", 4)
    threads = []
    monkeypatch.setattr(
        recorder, "Sync", lambda path: threads.append(threading.get_ident()) or Sync(path)
    )
    for n in range(200):
        await _add(database.write_delayed, f"{n:03}")
    beginnings = sum(isinstance(each, Write) and not each.offset for each in notes)
    assert beginnings > 3, "of the -wal, or of the file"
    assert threads
    assert threading.get_ident() not in threads


async def test_commit_of_what_is_delayed_stays_on_the_loop(database, monkeypatch):
    ran, commit = [], group.Group.commit
    monkeypatch.setattr(
        group.Group, "commit", lambda self: (ran.append(threading.get_ident()), commit(self))
    )
    await _add(database.write_delayed, "a")
    assert ran == [threading.get_ident()]


async def test_close_leaves_everything_durable_even_if_it_cannot_checkpoint(tmp_path, file):
    with recorded() as notes:
        opened = await connect("sqlite://", file.parent, "notes")
        await opened.migrate([NOTES])
        await _add(opened.write, "a")
        foreign = sqlite3.connect(file)  # closing is not the last one's
        foreign.execute("SELECT count(*) FROM notes").fetchone()
        await _add(opened.write_delayed, "b")
        before = surviving(notes, file)
        await opened.close()
        after = surviving(notes, file)
        foreign.close()
    assert (before, after) == (["a"], ["a", "b"])


@pytest.mark.parametrize("locked", [False, True])
async def test_what_a_dead_process_left_unsynced_is_durable_before_it_is_read(
    database, tmp_path, file, ids, monkeypatch, locked
):
    await _add(database.write_delayed, "a")
    image = tmp_path / "image"
    shutil.copytree(file.parent, image)
    foreign = sqlite3.connect(image / file.name, isolation_level=None)
    if locked:
        foreign.execute("BEGIN IMMEDIATE")
    done, fsync, open_writer = [], os.fsync, writer.open_writer
    monkeypatch.setattr(
        os,
        "fsync",
        lambda file: (done.append(Path(f"/proc/self/fd/{file}").readlink()), fsync(file)),
    )
    monkeypatch.setattr(
        writer, "open_writer", lambda file: (done.append("opened"), open_writer(file))[1]
    )
    again = await connect("sqlite://", image, "notes")
    assert done == [image / "notes.db-wal", image, "opened"]
    assert ids(again.read) == ["a", "first"]
    foreign.close()
    await again.close()


async def test_setting_is_made_again_after_it_was_another(database, ask):
    """A PRAGMA runs when it is compiled: one that is kept compiled must still do it."""
    for n in range(3):
        await _add(database.write_delayed, f"d{n}")
        assert database._writer.statements.ask("PRAGMA synchronous") == [(connections.NORMAL,)]
        await _add(database.write, f"f{n}")
        assert database._writer.statements.ask("PRAGMA synchronous") == [(connections.FULL,)]


async def test_nothing_is_delayed_while_the_last_is_overdue(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(delay.clock, "monotonic_s", lambda: now_s)
    found = delay.Delay()
    assert (found.allowed, found.wait_s()) == (True, None)
    found.committed(synced=False)
    now_s += DELAY_S / 2
    found.committed(synced=False)
    assert found.allowed
    now_s += DELAY_S
    assert (found.allowed, found.wait_s()) == (False, 0.0)
    found.committed(synced=True)
    assert (found.allowed, found.wait_s()) == (True, None)
