"""One moment of a database, copied while it is written; several databases at one cut."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing

import pytest

from mesh import snapshot
from mesh.databases.sqlite import SqliteDatabase
from mesh.errors import Conflict, DatabaseBroken, Unavailable


async def opened(directory, name="shop"):
    database = await SqliteDatabase.open(directory, name)
    await database.write(lambda tx: tx.define("CREATE TABLE IF NOT EXISTS t (n INTEGER) STRICT"))
    return database


def put(tx, n):
    tx.execute("INSERT INTO t (n) VALUES (:n)", n=n)


def rows(file):
    with closing(sqlite3.connect(file)) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]


async def test_copy_holds_what_was_committed_at_the_cut_and_nothing_after(tmp_path):
    database = await opened(tmp_path)
    await database.write(put, 1)
    cut = await database.hold()
    late = asyncio.ensure_future(database.write(put, 2))
    await cut.take()
    await late
    target = tmp_path / "copy.db"
    size = await cut.copy(target)
    await cut.close()
    await database.close()
    assert rows(target) == [1]
    assert rows(tmp_path / "shop.db") == [1, 2]
    assert size == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("copy.db*[!b]")), "nothing else is left"


async def test_writer_goes_on_by_itself_and_the_cut_is_missed_when_nobody_takes_it(tmp_path):
    database = await opened(tmp_path)
    cut = await database.hold()
    await database.write(put, 1)
    with pytest.raises(Conflict) as missed:
        await cut.take()
    assert missed.value.code == "cut-missed"
    await cut.close()
    await database.close()


async def test_nothing_is_copied_without_a_moment(tmp_path):
    database = await opened(tmp_path)
    cut = await database.hold()
    with pytest.raises(Conflict):
        await cut.copy(tmp_path / "copy.db")
    await cut.close()
    await cut.close()
    await database.close()
    assert not (tmp_path / "copy.db").exists()


async def test_moment_that_was_taken_is_not_taken_again(tmp_path):
    database = await opened(tmp_path)
    cut = await database.hold()
    await cut.take()
    with pytest.raises(Conflict) as missed:
        await cut.take()
    assert missed.value.code == "cut-missed"
    await cut.copy(tmp_path / "copy.db")
    await cut.close()
    await database.close()
    assert rows(tmp_path / "copy.db") == []


@pytest.mark.parametrize("late", [False, True])
async def test_moment_that_nobody_copies_is_let_go(tmp_path, monkeypatch, late):
    """Also one that came too late to be of the cut, whose maker may have been killed by then."""
    monkeypatch.setattr(snapshot, "KEPT_S", 0.0)
    database = await opened(tmp_path)
    cut = await database.hold()
    if late:
        await database.write(put, 0)
        with pytest.raises(Conflict, match="could stand no longer"):
            await cut.take()
    else:
        await cut.take()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for step in (cut.take, lambda: cut.copy(tmp_path / "copy.db")):
        with pytest.raises(Conflict):
            await step()
    await asyncio.get_running_loop().run_in_executor(cut._pool, int)
    await database.write(put, 1)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as other:
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy, "no reader keeps the -wal"
    await cut.close()
    await database.close()


async def test_cause_and_effect_in_two_databases_are_cut_together_under_load(tmp_path):
    """A writes n, then B: no copy may show B ahead of A, nor A more than one ahead."""
    first, second = await opened(tmp_path / "a", "a"), await opened(tmp_path / "b", "b")
    running = True

    async def load():
        n = 0
        while running:
            n += 1
            await first.write(put, n)
            await second.write(put, n)

    task = asyncio.ensure_future(load())
    taken = 0
    for number in range(40):
        cuts = await asyncio.gather(first.hold(), second.hold())
        try:
            await asyncio.gather(*(cut.take() for cut in cuts))
        except Conflict:
            pass
        else:
            taken += 1
            files = [tmp_path / f"{number}-{name}.db" for name in "ab"]
            await asyncio.gather(*(c.copy(file) for c, file in zip(cuts, files, strict=True)))
            ahead = len(rows(files[0])) - len(rows(files[1]))
            assert ahead in {0, 1}
        finally:
            await asyncio.gather(*(cut.close() for cut in cuts))
    running = False
    await task
    await first.close()
    await second.close()
    assert taken, "no cut succeeded"


async def test_copy_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    database = await opened(tmp_path)
    cut = await database.hold()
    await cut.take()
    with pytest.raises(Unavailable):
        await cut.copy(tmp_path / "absent" / "copy.db")
    await cut.close()
    await database.write(put, 1)
    await database.close()


def test_damaged_copy_is_found(tmp_path):
    file = tmp_path / "t.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER, filling TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 500) for n in range(100)])
        connection.commit()
    snapshot.check(file)
    raw = bytearray(file.read_bytes())
    raw[4096 * 3 : 4096 * 3 + 64] = b"\xff" * 64
    file.write_bytes(raw)
    with pytest.raises(DatabaseBroken):
        snapshot.check(file)


SCHEMA = """
CREATE TABLE prices (
    product TEXT NOT NULL, price INTEGER NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (product, since)) STRICT, WITHOUT ROWID
"""


async def test_key_that_is_not_the_first_columns_is_no_damage_after_a_crash(tmp_path):
    """SQLite 3.40 reports NULL in such a table although there is none."""
    database = await opened(tmp_path)
    await database.write(lambda tx: tx.define(SCHEMA))
    await database.write(lambda tx: tx.execute("INSERT INTO prices VALUES ('lamp', 1, 2)"))
    database._place.unclean = True
    await database.check_after_crash()
    cut = await database.hold()
    await cut.take()
    await cut.copy(tmp_path / "copy.db")
    await cut.close()
    await database.close()
    snapshot.check(tmp_path / "copy.db")
