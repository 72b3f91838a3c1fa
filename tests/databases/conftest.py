"""A SQLite database with one table, ways to hold its writer still, and to look inside."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest

from mesh.database import Migration
from mesh.databases.sqlite import connect, group
from tests.support.machine import Machine

NOTES = Migration(
    "test",
    1,
    "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body TEXT, raw BLOB) STRICT;",
)


PATIENCE = 100
"""Nobody is refused since the disk beneath the tests stalls."""


@pytest.fixture
async def database(tmp_path):
    opened = await connect("sqlite://", tmp_path / "notes", "notes", PATIENCE)
    await opened.migrate([NOTES])
    yield opened
    await opened.close()


@pytest.fixture
def machine(tmp_path):
    """Knows when the disk or all of the machine stood still, which is no writer's time."""
    with Machine(tmp_path) as found:
        yield found


@pytest.fixture
def applied():
    """Its migrations."""
    return [NOTES]


@pytest.fixture
def file(tmp_path):
    """Of the database above."""
    return tmp_path / "notes" / "notes.db"


@pytest.fixture
def add():
    def add(tx, note_id, raw=None):
        tx.execute("INSERT INTO notes (id, raw) VALUES (:id, :raw)", id=note_id, raw=raw)
        return note_id

    return add


@pytest.fixture
def ids():
    def ids(reader):
        return reader.all(str, "SELECT id FROM notes ORDER BY id")

    return ids


@pytest.fixture
def held():
    """`async with held(database):` the writer stands still inside a transaction that runs aside."""

    @contextlib.asynccontextmanager
    async def held(database):
        loop = asyncio.get_running_loop()
        inside = asyncio.Event()
        gate = threading.Event()

        def stand(tx):
            loop.call_soon_threadsafe(inside.set)
            assert gate.wait(20)

        standing = asyncio.ensure_future(database.write_aside(stand))
        try:
            async with asyncio.timeout(60):
                await inside.wait()
            yield
        finally:
            gate.set()
        await standing

    return held


@pytest.fixture
def ask():
    """Run one of the writer's own statements."""

    async def ask(database, sql):
        return await database.write(lambda tx: tx._statements.ask(sql))

    return ask


@pytest.fixture
async def nearly_full(database, ask):
    """The file may grow by three pages; the value lifts that again."""
    (pages,) = (await ask(database, "PRAGMA page_count"))[0]
    await ask(database, f"PRAGMA max_page_count = {pages + 3}")

    async def lift():
        await ask(database, "PRAGMA max_page_count = 1000000")

    return lift


@pytest.fixture
def foreign(file, database):
    """Another program that holds the file."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest.fixture
def committing(monkeypatch):
    """Where each COMMIT of a change that somebody waits for was made: `loop` or `thread`."""
    found, here, commit = [], threading.get_ident(), group.Group.commit

    def noted(self):
        if self.changed and not self.delayed:
            found.append("loop" if threading.get_ident() == here else "thread")
        commit(self)

    monkeypatch.setattr(group.Group, "commit", noted)
    return found


@pytest.fixture
def until():
    """Poll a condition on the event loop; fails after 10 s."""

    async def until(condition):
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "the condition did not come about within 10 s"
            await asyncio.sleep(0.005)

    return until
