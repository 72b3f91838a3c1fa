from __future__ import annotations

import asyncio
import time

import pytest

from mesh.databases.sqlite.database import SCAN_S
from mesh.databases.sqlite.reader import STEPS_MAX
from mesh.databases.sqlite.scans import Scans
from mesh.errors import DatabaseBusy, MeshError

COUNT = """
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < :most)
SELECT count(*) FROM n
"""
ENDLESS = 10**12


COUNTED = f"SELECT n FROM ({COUNT.replace('count(*)', 'count(*) AS n')})"
"""The same by the connection of the writer, which is shown nothing that could begin a change."""


@pytest.mark.parametrize("count", [COUNT, COUNTED], ids=["own", "writers"])
async def test_read_is_stopped_at_its_bound(database, count):
    begun = time.monotonic()
    for _ in range(3):
        with pytest.raises(DatabaseBusy):
            database.read.one(int, count, most=ENDLESS)
    assert time.monotonic() - begun < SCAN_S
    assert database.read.one(int, count, most=1000) == 1000  # some 13,000 steps


async def test_bound_of_a_read_is_none_for_the_writer(database):
    with pytest.raises(DatabaseBusy):
        database.read.one(int, COUNTED, most=ENDLESS)
    assert await database.write(lambda tx: tx.one(int, COUNTED, most=STEPS_MAX)) == STEPS_MAX


@pytest.mark.parametrize("spare", [True, False])
async def test_read_is_never_stopped_for_what_others_did(database, add, monkeypatch, spare):
    await database.write(add, "a")
    monkeypatch.setattr(database._reader, "_spare", lambda: spare)
    for _ in range(STEPS_MAX):  # ten times the bound in all; SQLite's own counter never starts anew
        assert database.read.one(str, "SELECT id FROM notes WHERE id = :id", id="a") == "a"


async def test_read_is_by_the_writers_connection_while_nobody_has_it(database, add, held):
    def readers():
        return [len(each._admitted) for each in (database._reader._statements, borrowed)]

    borrowed = database._reader._borrowed
    await database.write(add, "a")
    assert database.read.one(int, "SELECT 1") == 1
    assert readers() == [0, 1]
    async with held(database):
        assert database.read.one(int, "SELECT 2") == 2
    assert readers() == [1, 1]


async def test_read_within_a_transaction_sees_what_is_committed(database, add, ids):
    await database.write(add, "a")

    def write_and_read(tx):
        add(tx, "b")
        return ids(database.read), ids(tx)

    assert await database.write(write_and_read) == (["a"], ["a", "b"])
    assert ids(database.read) == ["a", "b"]


async def test_read_is_of_the_loop_alone(database):
    """On another thread it would see what a function has not finished."""
    with pytest.raises(MeshError, match="thread"):
        await asyncio.to_thread(database.read.one, int, "SELECT 1")


async def test_read_changes_nothing(database, add, ids):
    await database.write(add, "a")
    for sql in (
        "DELETE FROM notes",
        "WITH n AS (SELECT 1) DELETE FROM notes",
        " DELETE FROM notes",
    ):
        with pytest.raises(MeshError):
            database.read.all(str, sql)
    assert ids(database.read) == ["a"]


async def test_read_holds_no_snapshot(database, add, ids):
    for n in range(5):
        assert len(ids(database.read)) == n
        assert database.read.one(str, "SELECT id FROM notes ORDER BY id DESC") == (
            f"{n - 1}" if n else None
        )
        await database.write(add, str(n))


@pytest.mark.parametrize("spare", [True, False])
async def test_read_that_fails_half_way_holds_none_either(database, add, monkeypatch, spare):
    await database.write(add, "a", b"\xff")
    monkeypatch.setattr(database._reader, "_spare", lambda: spare)
    with pytest.raises(MeshError, match="UTF-8"):
        database.read.all(str, "SELECT CAST(raw AS TEXT) FROM notes")
    await database.write(add, "b")
    checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
    assert await asyncio.to_thread(database._writer.statements.ask, checkpoint) == [(0, 0, 0)]


async def test_read_remembers_only_so_many_texts(database):
    statements = database._reader._borrowed
    for n in range(3000):
        assert database.read.one(int, f"SELECT {n}") == n
    assert len(statements._admitted) <= 1024
    assert len(statements._fillers) <= 1024


@pytest.fixture
async def scans(database, file):
    short = Scans(file, 0.05)
    yield short
    await short.close()


async def test_scan_is_stopped_at_its_deadline(scans):
    begun = time.monotonic()
    with pytest.raises(DatabaseBusy):
        await scans.all(int, COUNT, {"most": ENDLESS})
    assert time.monotonic() - begun < SCAN_S
    assert await scans.all(int, COUNT, {"most": 100}) == [100]


async def test_scan_lets_the_loop_turn_meanwhile(scans):
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    turning = asyncio.ensure_future(turn())
    with pytest.raises(DatabaseBusy):
        await scans.all(int, COUNT, {"most": ENDLESS})
    turning.cancel()
    assert turns > 5


async def test_scan_waiting_for_its_turn_spends_its_own_time(scans):
    first = asyncio.ensure_future(scans.all(int, COUNT, {"most": ENDLESS}))
    second = asyncio.ensure_future(scans.all(int, COUNT, {"most": ENDLESS}))
    begun = time.monotonic()
    answers = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseBusy, DatabaseBusy]
    assert time.monotonic() - begun < SCAN_S


async def test_scan_ends_when_its_caller_is_cancelled(database, until):
    task = asyncio.ensure_future(database.scan(int, COUNT, most=ENDLESS))
    await until(lambda: database._scans._connection is not None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    begun = time.monotonic()
    assert await database.scan(int, "SELECT 1") == [1]
    assert time.monotonic() - begun < SCAN_S


async def test_close_stops_a_scan(database, until):
    task = asyncio.ensure_future(database.scan(int, COUNT, most=ENDLESS))
    await until(lambda: database._scans._connection is not None)
    begun = time.monotonic()
    await database.close()
    assert time.monotonic() - begun < SCAN_S
    with pytest.raises(DatabaseBusy):
        await task
