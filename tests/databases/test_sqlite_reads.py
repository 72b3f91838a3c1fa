from __future__ import annotations

import asyncio
import time

import pytest

from mesh.databases.sqlite.reader import STEPS_MAX
from mesh.databases.sqlite.scans import Scans
from mesh.errors import DatabaseBusy

COUNT = """
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < :most)
SELECT count(*) FROM n
"""
ENDLESS = 10**12


async def test_read_is_stopped_at_its_bound(database):
    begun = time.monotonic()
    for _ in range(3):
        with pytest.raises(DatabaseBusy):
            database.read.one(int, COUNT, most=ENDLESS)
    assert time.monotonic() - begun < 1
    assert database.read.one(int, COUNT, most=1000) == 1000  # some 13,000 steps


async def test_read_is_never_stopped_for_what_others_did(database, add):
    await database.write(add, "a")
    for _ in range(STEPS_MAX):  # ten times the bound in all; SQLite's own counter never starts anew
        assert database.read.one(str, "SELECT id FROM notes WHERE id = :id", id="a") == "a"


async def test_read_holds_no_snapshot(database, add, ids):
    for n in range(5):
        assert len(ids(database.read)) == n
        assert database.read.one(str, "SELECT id FROM notes ORDER BY id DESC") == (
            f"{n - 1}" if n else None
        )
        await database.write(add, str(n))


async def test_read_remembers_only_so_many_texts(database):
    statements = database._reader._statements
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
    assert time.monotonic() - begun < 1
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
    assert time.monotonic() - begun < 1


async def test_scan_ends_when_its_caller_is_cancelled(database, until):
    task = asyncio.ensure_future(database.scan(int, COUNT, most=ENDLESS))
    await until(lambda: database._scans._connection is not None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    begun = time.monotonic()
    assert await database.scan(int, "SELECT 1") == [1]
    assert time.monotonic() - begun < 1


async def test_close_stops_a_scan(database, until):
    task = asyncio.ensure_future(database.scan(int, COUNT, most=ENDLESS))
    await until(lambda: database._scans._connection is not None)
    begun = time.monotonic()
    await database.close()
    assert time.monotonic() - begun < 1
    with pytest.raises(DatabaseBusy):
        await task
