"""How close the database comes to SQLite itself, and to aiosqlite: `python benchmarks/database.py`.

Every figure is durable (synchronous=FULL) and taken on one event loop (uvloop). Each round runs
all ways one after the other, so that a ratio compares neighbours in time; medians of the rounds.

- ours: `Database.write(fn)`, one row per transaction, awaited by each of N writers
- bare: the shortest group commit one can write by hand on the same settings: a thread, a
  queue, a savepoint per function, up to 256 in a commit, SQLite's own checkpoints
- aiosqlite: BEGIN, INSERT, COMMIT as one awaits them, behind a lock
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import aiosqlite
import uvloop
from msgspec import Struct

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path

from mesh.database import Migration, connect  # noqa: E402  likewise
from mesh.databases.sqlite.connections import WRITER  # noqa: E402  likewise

TABLE = """CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL)"""
INSERT = "INSERT INTO outbox (topic, at_ms, body) VALUES (:topic, :at_ms, :body)"
SELECT = "SELECT seq, topic, at_ms, body FROM outbox WHERE seq = :seq"
ROW = {"topic": "order.created", "at_ms": 1_767_225_600_500, "body": b"x" * 434}
ROWS = 100_000
READS = 20_000


class Outbox(Struct, frozen=True):
    seq: int
    topic: str
    at_ms: int
    body: bytes


def insert(tx):
    tx.execute(INSERT, **ROW)


async def drive(writers, seconds, write):
    """Closed loop: each writer begins its next transaction when the last is durable."""
    warm = time.perf_counter() + seconds  # until the -wal has its length
    took = []

    async def one(end):
        while (at := time.perf_counter()) < end:
            await write()
            took.append(time.perf_counter() - at)

    await asyncio.gather(*(one(warm) for _ in range(writers)))
    took.clear()
    begun = time.perf_counter()
    await asyncio.gather(*(one(begun + seconds) for _ in range(writers)))
    rate = len(took) / (time.perf_counter() - begun)
    took.sort()
    return rate, took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6


async def ours(directory, writers, seconds):
    database = await connect("sqlite://", directory, "ours")
    await database.migrate([Migration("bench", 1, TABLE)])
    before = database.commits, database.groups
    figures = await drive(writers, seconds, lambda: database.write(insert))
    shared = (database.commits - before[0]) / (database.groups - before[1])
    await database.close()
    return *figures, shared


def bare_thread(file, jobs, loop, opened):
    connection = sqlite3.connect(file, isolation_level=None)
    for name, value in WRITER.items():
        if name != "wal_autocheckpoint":
            connection.execute(f"PRAGMA {name} = {value}")
    connection.execute(TABLE)
    opened.set()
    execute = connection.execute

    def finish(done):
        for future in done:
            future.set_result(None)

    while (first := jobs.get()) is not None:
        group = [first]
        while len(group) < 256 and not jobs.empty():
            group.append(jobs.get_nowait())
        execute("BEGIN IMMEDIATE")
        for work, _ in group:
            execute("SAVEPOINT one")
            work(connection)
            execute("RELEASE one")
        execute("COMMIT")
        loop.call_soon_threadsafe(finish, [future for _, future in group])
    connection.close()


async def bare(directory, writers, seconds):
    loop = asyncio.get_running_loop()
    jobs = queue.SimpleQueue()
    opened = threading.Event()
    thread = threading.Thread(
        target=bare_thread, args=(directory / "bare.db", jobs, loop, opened), daemon=True
    )
    thread.start()
    opened.wait()

    def write():
        future = loop.create_future()
        jobs.put((lambda connection: connection.execute(INSERT, ROW), future))
        return future

    figures = await drive(writers, seconds, write)
    jobs.put(None)
    thread.join()
    return *figures, 0.0


async def statement_by_statement(directory, writers, seconds):
    lock = asyncio.Lock()
    async with aiosqlite.connect(directory / "aio.db", isolation_level=None) as connection:
        for name, value in WRITER.items():
            if name != "wal_autocheckpoint":
                await connection.execute(f"PRAGMA {name} = {value}")
        await connection.execute(TABLE)

        async def write():
            async with lock:
                await connection.execute("BEGIN IMMEDIATE")
                await connection.execute(INSERT, ROW)
                await connection.commit()

        return *await drive(writers, seconds, write), 0.0


WAYS = {"ours": ours, "bare": bare, "aiosqlite": statement_by_statement}


def commits(rounds, seconds):
    print("Durable transactions, each awaited by its writer")
    print(
        f"{'writers':>7} {'way':10} {'per s':>9} {'min..max':>17} "
        f"{'p50 µs':>8} {'p99 µs':>8} {'a commit':>8}  ratios, median of {rounds} pairs"
    )
    for writers in (1, 16, 64):
        found = {name: [] for name in WAYS}
        for _ in range(rounds):
            for name, way in WAYS.items():
                with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
                    found[name].append(uvloop.run(way(Path(directory), writers, seconds)))
        for name, runs in found.items():
            figures.note(f"transactions/s {name} {writers}", [run[0] for run in runs])
            rates = [run[0] for run in runs]
            medians = [statistics.median(run[i] for run in runs) for i in range(4)]
            ratios = ""
            if name == "ours":
                ratios = "  ".join(
                    f"{statistics.median(mine[0] / theirs[0] for mine, theirs in zip(runs, found[other], strict=True)):.2f} x {other}"
                    for other in ("bare", "aiosqlite")
                )
            print(
                f"{writers:7} {name:10} {medians[0]:9,.0f} {f'{min(rates):,.0f}..{max(rates):,.0f}':>17} "
                f"{medians[1]:8,.0f} {medians[2]:8,.0f} {medians[3] or '':8.3}  {ratios}"
            )


async def reads(rounds):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        database = await connect("sqlite://", Path(directory), "reads")
        await database.migrate([Migration("bench", 1, TABLE)])
        fill = f"WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) {INSERT.split('VALUES', maxsplit=1)[0]} SELECT :topic, :at_ms, :body FROM n"
        await database.write(lambda tx: tx.execute(fill, **ROW))
        plain = sqlite3.connect(
            f"file:{directory}/reads.db?mode=ro", uri=True, isolation_level=None
        )
        keys = [i * 7919 % ROWS + 1 for i in range(READS)]
        one = database.read.one

        def timed(read):
            begun = time.perf_counter()
            for key in keys:
                read(key)
            return (time.perf_counter() - begun) / READS * 1e6

        ways = {
            "sqlite3": lambda key: plain.execute(SELECT, {"seq": key}).fetchone(),
            "one(struct)": lambda key: one(Outbox, SELECT, seq=key),
            "one(str)": lambda key: one(str, "SELECT topic FROM outbox WHERE seq = :seq", seq=key),
        }
        found = {name: [timed(read) for _ in range(rounds)] for name, read in ways.items()}
        print(f"\nPoint reads by key, inline, {ROWS:,} rows")
        for name, took in found.items():
            figures.note(f"read us {name}", took)
            more = statistics.median(a - b for a, b in zip(took, found["sqlite3"], strict=True))
            print(f"{name:12} {statistics.median(took):6.2f} µs   {more:+.2f} µs over sqlite3")
        plain.close()
        await database.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7)
    chosen = parser.parse_args()
    commits(chosen.rounds, chosen.seconds)
    uvloop.run(reads(chosen.rounds))


if __name__ == "__main__":
    main()
