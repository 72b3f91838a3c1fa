from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time

from mesh.databases.sqlite.checkpoints import IDLE_COMMITS, IDLE_S, LOOK_COMMITS, RETRY_S
from mesh.databases.sqlite.connections import WAL_BYTES

MIB = 1024 * 1024


async def fill(database, add, mib, *, block=256 * 1024, prefix=""):
    longest = 0
    for n in range(mib * MIB // block):
        await database.write(add, f"{prefix}{n:05}", bytes(block))
        longest = max(longest, database.wal_bytes)
    return longest


async def test_wal_has_a_bound_when_work_never_ends(database, add):
    longest = await fill(database, add, 64)
    assert longest <= WAL_BYTES + LOOK_COMMITS * 270 * 1024
    assert longest > WAL_BYTES  # the bound was met
    await fill(database, add, 1, prefix="next")
    assert database.wal_bytes <= WAL_BYTES + MIB


async def test_wal_does_not_grow_again_while_commits_are_alike(database, add):
    assert await fill(database, add, 24, block=48 * 1024) > WAL_BYTES
    assert await fill(database, add, 40, block=48 * 1024, prefix="next") <= WAL_BYTES


async def test_one_large_commit_does_not_hurry_those_after_it_for_long(database, add):
    await database.write(add, "large", bytes(16 * MIB))
    await fill(database, add, 24, block=48 * 1024)
    copied = database._writer._checkpoints
    assert 0.8 * WAL_BYTES < copied._full_at * 14 * 4120 < WAL_BYTES  # 48 KiB are 12 to 14 pages


async def test_wal_is_emptied_while_nobody_writes(database, add, file, until):
    for n in range(IDLE_COMMITS):
        await database.write(add, f"{n:05}", b"x" * 1000)
    await until(lambda: file.stat().st_size > IDLE_COMMITS * 1000)
    wal = database.wal_bytes
    await database.write(add, "next")
    assert database.wal_bytes == wal  # its beginning is written over, which is the faster way


async def test_few_commits_cause_no_checkpoint(database, add, file, ask):
    for n in range(20):
        await database.write(add, f"{n:05}")
    assert database._writer._checkpoints.idle_wait_s() is None
    assert file.stat().st_size == 4096


async def test_reader_that_stays_delays_checkpoints_but_no_writer(
    database, add, file, until, machine
):
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM notes").fetchone()
    waits = []
    for n in range(100):
        begun = time.monotonic()
        await database.write(add, f"{n:05}", bytes(MIB))
        waits.append((begun, time.monotonic()))
    assert database.wal_bytes > 64 * MIB
    end = time.monotonic() + 2 * RETRY_S
    while time.monotonic() < end:  # idle slots, in which cutting it is tried and hindered
        begun = time.monotonic()
        await database.write(add, f"{begun}")
        waits.append((begun, time.monotonic()))
        await asyncio.sleep(2 * IDLE_S)
    late = [(begun, ended) for begun, ended in waits if ended - begun >= 0.25]
    assert [wait for wait in late if machine.since_s(*wait) >= 0.25] == []
    assert database.wal_bytes > 64 * MIB
    reader.close()
    await until(lambda: database.wal_bytes == 0)  # beyond 64 MiB it is cut as soon as can be


SECRET = b"canary-4be1" * 100


def holding(file):
    return [path.name for path in file.parent.iterdir() if b"canary-4be1" in path.read_bytes()]


def delete(tx, id_, *, scrubs):
    tx.execute("DELETE FROM notes WHERE id = :id", id=id_)
    if scrubs:
        tx.scrub()


async def test_what_was_deleted_is_nowhere_in_the_files_soon_after_it_is_scrubbed(
    database, add, file, until
):
    for n in range(20):
        await database.write(add, f"{n:05}", SECRET)
    for n in range(20):
        await database.write(delete, f"{n:05}", scrubs=False)
    assert holding(file), "a plain deletion leaves copies in the -wal"
    await database.write(add, "last", SECRET)
    await database.write(delete, "last", scrubs=True)
    await until(lambda: not holding(file))
    assert database.wal_bytes == 0


async def test_scrubbing_waits_for_a_reader_and_goes_on_under_load(database, add, file, until):
    await database.write(add, "one", SECRET)
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM notes").fetchone()
    await database.write(delete, "one", scrubs=True)
    await asyncio.sleep(2 * IDLE_S)
    assert holding(file)
    reader.close()
    busy = True

    async def work():
        n = 0
        while busy:
            await database.write(add, f"busy{n}")
            n += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        await until(lambda: not holding(file))
        busy = False


async def test_what_a_failed_transaction_would_have_scrubbed_stays(database, add, file):
    def fails(tx):
        delete(tx, "one", scrubs=True)
        raise RuntimeError

    await database.write(add, "one", SECRET)
    with contextlib.suppress(RuntimeError):
        await database.write(fails)
    assert database._writer._checkpoints.idle_wait_s() is None
