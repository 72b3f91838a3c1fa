"""What only a process of its own can show: kills, a full disk, an exit without closing."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time

import pytest

from mesh.databases.sqlite import connect

pytestmark = pytest.mark.e2e

ALONE = """
from mesh.databases.sqlite import solo
solo.UNKNOWN_COMMITS, solo.QUICK_S = 0, 60.0
"""
"""Whoever is alone is committed on the event loop, from the first commit on and on any disk."""

WRITES = """
import asyncio, pathlib, sys
from mesh.database import Migration, connect

async def main():
    database = await connect("sqlite://", pathlib.Path(sys.argv[1]), "notes")
    await database.migrate([Migration("test", 1, "CREATE TABLE notes (id INTEGER PRIMARY KEY);")])
    next_id = iter(range((database.read.one(int, "SELECT max(id) FROM notes") or 0) + 1, 10**9))
    insert = "INSERT INTO notes (id) VALUES (:id)"
    async def one():
        for note_id in next_id:
            await database.write(lambda tx: tx.execute(insert, id=note_id))
            print(note_id, flush=True)
    await asyncio.gather(*(one() for _ in range(int(sys.argv[2]))))

asyncio.run(main())
"""

FULL_DISK = """
import asyncio, os, pathlib, sys
from mesh.database import Migration, connect
from mesh.errors import StorageFull

async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)

async def main():
    place = pathlib.Path(sys.argv[1])
    database = await connect("sqlite://", place / "notes", "notes")
    await database.migrate([Migration("test", 1, "CREATE TABLE notes (id INTEGER PRIMARY KEY, raw BLOB);")])
    def add(tx, note_id):
        tx.execute("INSERT INTO notes (id, raw) VALUES (:id, :raw)", id=note_id, raw=bytes(20_000))
    count = lambda: database.read.one(int, "SELECT count(*) FROM notes")
    kept = 0
    try:
        while True:
            await asyncio.gather(*(database.write(add, kept + n) for n in range(1)))
            kept += 1
    except StorageFull:
        pass
    assert kept > 10, kept
    for attempt in range(50):                 # it stays refused, and harms nothing
        try:
            await database.write(add, 10_000 + attempt)
            kept += 1
        except StorageFull:
            assert not database.writable
    assert count() == kept, (count(), kept)
    os.system(f"mount -o remount,size=64m {place}")
    await until(lambda: database.writable)    # by itself
    await database.write(add, 20_000)
    assert count() == kept + 1
    await database.close()
    again = await connect("sqlite://", place / "notes", "notes")
    assert again.read.one(int, "SELECT count(*) FROM notes") == kept + 1
    assert await again.scan(str, "SELECT 'ok'") == ["ok"]
    await again.close()
    print("kept", kept)

asyncio.run(main())
"""

IO_ERROR = """
import asyncio, pathlib, resource, sys
from mesh.database import Migration, connect
from mesh.errors import DatabaseBroken

async def main():
    database = await connect("sqlite://", pathlib.Path(sys.argv[1]), "notes")
    await database.migrate([Migration("test", 1, "CREATE TABLE notes (id INTEGER PRIMARY KEY, raw BLOB);")])
    def add(tx, note_id, size):
        tx.execute("INSERT INTO notes (id, raw) VALUES (:id, :raw)", id=note_id, raw=bytes(size))
    await database.write(add, 1, 1)
    await asyncio.sleep(0)
    wal = database.wal_bytes
    # No file may grow further: the write fails with EFBIG, which SQLite calls an I/O error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal, resource.RLIM_INFINITY))
    answers = await asyncio.gather(
        *(getattr(database, sys.argv[2])(add, n, 100_000) for n in range(2, 102)),
        return_exceptions=True,
    )
    assert {type(answer) for answer in answers} == {DatabaseBroken}, answers
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        await database.write(add, 102, 1)
    except DatabaseBroken:
        pass
    else:
        raise AssertionError("tried again on the same connection")
    assert not database.writable
    assert database.read.all(int, "SELECT id FROM notes") == [1]
    await database.close()
    assert database.wal_bytes == wal, "the -wal was copied into the file by closing"

asyncio.run(main())
assert pathlib.Path(sys.argv[1], "notes.db-wal").exists()
"""


@pytest.mark.parametrize(
    ("write", "prelude"),
    [("write", ""), ("write", ALONE), ("write_delayed", "")],
    ids=["thread", "loop", "delayed"],
)
async def test_io_error_in_a_commit_breaks_all_that_follows_until_a_fresh_start(
    tmp_path, write, prelude
):
    found = subprocess.run(
        [sys.executable, "-c", prelude + IO_ERROR, tmp_path, write],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "notes.db-wal").exists()  # nor did the end of the process close it
    database = await connect("sqlite://", tmp_path, "notes")
    assert database.read.all(int, "SELECT id FROM notes") == [1]
    await database.check_after_crash()
    await database.write(lambda tx: tx.execute("INSERT INTO notes (id) VALUES (2)"))
    await database.close()


@pytest.mark.parametrize(("prelude", "writers"), [("", 8), (ALONE, 1)], ids=["thread", "loop"])
async def test_kill_loses_nothing_that_was_answered(tmp_path, prelude, writers):
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    told = 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", prelude + WRITES, tmp_path / "notes", str(writers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        first = child.stdout.readline()
        assert first, f"seed {seed}"
        time.sleep(chance.uniform(0, 0.2))  # a random moment, not a wait for anything
        child.kill()
        acknowledged = [int(first), *map(int, child.stdout.read().split()[:-1])]
        child.wait(10)
        child.stdout.close()
        database = await connect("sqlite://", tmp_path / "notes", "notes")
        found = set(await database.scan(int, "SELECT id FROM notes"))
        assert found.issuperset(acknowledged), f"seed {seed}"
        await database.check_after_crash()
        await database.close()
        told += len(acknowledged)
    assert told > 50


@pytest.mark.parametrize("prelude", ["", ALONE], ids=["thread", "loop"])
async def test_full_disk_refuses_writes_and_recovers_with_space(tmp_path, prelude):
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) for a file system of its own")
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    mounted = f'mount -t tmpfs -o size=2m tmpfs "{tmp_path}"'
    if subprocess.run([*private, "sh", "-c", mounted], capture_output=True, check=False).returncode:
        pytest.skip("unprivileged mounts are not allowed here")
    found = subprocess.run(
        [
            *private,
            "sh",
            "-c",
            f'{mounted} && exec "$0" "$@"',
            sys.executable,
            "-c",
            prelude + FULL_DISK,
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("kept")


async def test_process_ends_when_the_database_was_not_closed(tmp_path):
    script = """
import asyncio, pathlib, sys
from mesh.database import connect
async def main():
    database = await connect("sqlite://", pathlib.Path(sys.argv[1]), "notes")
    await database.write(lambda tx: tx.one(int, "SELECT 1"))
    await database.scan(int, "SELECT 1")
    raise SystemExit(7)
asyncio.run(main())
"""
    found = subprocess.run([sys.executable, "-c", script, tmp_path], timeout=20, check=False)
    assert found.returncode == 7
