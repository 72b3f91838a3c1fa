from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from mesh.database import Migration, connect
from mesh.errors import AlreadyRunning, DatabaseBroken, DatabaseBusy, InvalidInput


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def reopened(file):
    return await connect("sqlite://", file.parent, file.stem)


async def with_notes(database, add, count=200):
    """Enough for several pages, all in the file itself once it is closed."""
    for n in range(count):
        await database.write(add, f"{n:04}", b"x" * 500)


@pytest.fixture
def crash_image(tmp_path):
    """The files as a crash would leave them now, in another place."""

    def crash_image(file):
        directory = tmp_path / "image"
        shutil.copytree(file.parent, directory)
        return directory / file.name

    return crash_image


async def test_files_are_the_owners_alone(database, add, file):
    await database.write(add, "a")
    assert modes(file.parent) == dict.fromkeys(
        ("notes.db", "notes.db-wal", "notes.db-shm", "notes.db-lock"), 384
    )
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_files_are_narrowed_when_they_were_open_to_others(database, file):
    await database.close()
    file.chmod(0o644)
    file.parent.chmod(0o755)
    again = await reopened(file)
    assert set(modes(file.parent).values()) == {0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    await again.close()


async def test_connect_makes_the_directory_and_its_parents(tmp_path):
    database = await connect("sqlite://", tmp_path / "data" / "order", "order")
    await database.close()
    assert (tmp_path / "data" / "order" / "order.db").exists()


async def test_connect_takes_a_place_with_odd_characters(tmp_path):
    database = await connect("sqlite://", tmp_path / "a b?c#d%20é", "order")
    await database.close()
    assert (tmp_path / "a b?c#d%20é" / "order.db").exists()


@pytest.mark.parametrize("url", ["sqlite:///etc/passwd", "sqlite://host", "sqlite:"])
async def test_connect_refuses_a_url_that_names_a_place(tmp_path, url):
    with pytest.raises(InvalidInput):
        await connect(url, tmp_path, "notes")


@pytest.mark.parametrize("name", ["", "../other", "a/b", ".hidden", "A"])
async def test_connect_refuses_a_name_that_is_none(tmp_path, name):
    with pytest.raises(InvalidInput):
        await connect("sqlite://", tmp_path, name)


async def test_connect_is_refused_while_another_holds_it(database, add, file):
    with pytest.raises(AlreadyRunning, match=r"notes\.db"):
        await reopened(file)
    await database.write(add, "a")  # the holder is not harmed
    await database.close()
    await (await reopened(file)).close()


async def test_lock_is_not_inherited(database):
    assert os.get_inheritable(database._place._lock) is False


@pytest.mark.e2e
async def test_connect_is_refused_while_another_process_holds_it(database, file):
    script = """
import asyncio, pathlib, sys
from mesh.database import connect
from mesh.errors import AlreadyRunning
try:
    asyncio.run(connect("sqlite://", pathlib.Path(sys.argv[1]), "notes"))
except AlreadyRunning:
    sys.exit(42)
"""
    found = subprocess.run([sys.executable, "-c", script, file.parent], timeout=20, check=False)
    assert found.returncode == 42


async def test_close_leaves_one_whole_file(database, add, file):
    await with_notes(database, add)
    await database.scan(int, "SELECT count(*) FROM notes")
    endless = (
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
    with pytest.raises(DatabaseBusy):  # a statement cut short keeps nothing open
        database.read.one(int, endless)
    await database.close()
    assert sorted(modes(file.parent)) == ["notes.db", "notes.db-lock"]


def empty(file):
    os.truncate(file, 0)


def removed(file):
    file.unlink()


def cut_short(file):
    os.truncate(file, file.stat().st_size // 8192 * 4096)


def cut_within_the_header(file):
    os.truncate(file, 60)


def foreign(file):
    file.write_bytes(b"#!/bin/sh\n" * 1000)


def zeroed_header(file):
    with file.open("r+b") as raw:
        raw.write(bytes(100))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (empty, "is empty, but a database was here"),
        (removed, "is gone, but a database was here"),
        (cut_short, "is cut short: "),
        (cut_within_the_header, "is not a SQLite database"),
        (foreign, "is not a SQLite database"),
        (zeroed_header, "is not a SQLite database"),
    ],
)
async def test_connect_refuses_a_damaged_file_and_leaves_it_as_it_is(
    database, add, file, damage, said
):
    await with_notes(database, add)
    await database.close()
    damage(file)
    before = file.read_bytes() if file.exists() else None
    for _ in range(2):
        with pytest.raises(DatabaseBroken, match=said) as raised:
            await reopened(file)
        assert str(file) in raised.value.detail
        assert "mesh restore" in raised.value.hint
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("damage", [empty, removed, cut_within_the_header, foreign])
async def test_connect_refuses_a_damaged_file_beside_its_wal(
    database, add, file, crash_image, damage
):
    await with_notes(database, add)
    image = crash_image(file)
    (image.parent / "notes.db-lock").unlink()  # the -wal alone is trace enough
    damage(image)
    wal = image.with_name("notes.db-wal").read_bytes()
    with pytest.raises(DatabaseBroken):
        await reopened(image)
    assert image.with_name("notes.db-wal").read_bytes() == wal


async def test_connect_refuses_a_file_whose_schema_was_lost_with_its_wal(
    database, add, file, crash_image
):
    await with_notes(database, add, 3)
    image = crash_image(file)
    image.with_name("notes.db-wal").unlink()  # all tables were in there
    with pytest.raises(DatabaseBroken, match="no table"):
        await reopened(image)


async def test_connect_recovers_what_a_crash_left(database, add, ids, file, crash_image):
    await with_notes(database, add)
    image = crash_image(file)
    image.with_name("notes.db-shm").unlink()
    again = await reopened(image)
    assert len(ids(again.read)) == 200
    await again.check_after_crash()
    await again.close()


async def test_connect_begins_anew_when_every_file_was_taken_away(database, add, ids, file):
    await database.write(add, "a")
    await database.close()
    for path in file.parent.glob("notes.db*"):
        path.unlink()
    again = await reopened(file)
    assert again.read.all(str, "SELECT name FROM sqlite_master") == []
    await again.close()


async def test_connect_begins_anew_when_nothing_was_ever_committed(tmp_path):
    first = await connect("sqlite://", tmp_path, "notes")
    await first.close()
    os.truncate(tmp_path / "notes.db", 0)
    await (await connect("sqlite://", tmp_path, "notes")).close()


async def test_damaged_page_breaks_the_database_when_it_is_met(database, add, file):
    await with_notes(database, add)
    await database.close()
    with file.open("r+b") as raw:
        raw.seek(4096 * 3)
        raw.write(b"\xa5" * 4096 * 20)
    again = await reopened(file)
    everything = "SELECT count(raw), count(id) FROM notes NOT INDEXED"
    with pytest.raises(DatabaseBroken):
        again.read.one(int, everything)
    with pytest.raises(DatabaseBroken):
        await again.scan(int, everything)
    with pytest.raises(DatabaseBroken):
        await again.write(lambda tx: tx.one(int, everything))
    with pytest.raises(DatabaseBroken):  # and so is all that comes later
        await again.write(add, "later")
    assert not again.writable
    await again.close()


@pytest.mark.parametrize(
    ("offset", "damage", "said"),
    [
        (4096 * 5, b"\xa5" * 4096, "malformed"),  # SQLite gives up at this page
        (36, b"\0\0\0\x09", "damaged"),  # pages said to be free that are not there: it lists them
    ],
)
async def test_check_after_crash_finds_damage(
    database, add, file, crash_image, offset, damage, said
):
    await with_notes(database, add)
    image = crash_image(file)
    await (await reopened(image)).close()
    with image.open("r+b") as raw:
        raw.seek(offset)
        raw.write(damage)
    image.with_name("notes.db-wal").touch()  # nobody closed it
    broken = await reopened(image)
    with pytest.raises(DatabaseBroken, match=said) as raised:
        await broken.check_after_crash()
    assert bool(raised.value.evidence) is (said == "damaged")
    await broken.close()


async def test_check_after_crash_does_nothing_after_a_clean_close(database, add, file):
    await with_notes(database, add)
    await database.close()
    with file.open("r+b") as raw:
        raw.seek(4096 * 5)
        raw.write(b"\xa5" * 4096)
    again = await reopened(file)
    await again.check_after_crash()
    await again.close()


@pytest.mark.parametrize(
    "columns",
    ["a TEXT NOT NULL, c INTEGER NOT NULL, b TEXT NOT NULL", "c TEXT NOT NULL, a TEXT, b TEXT"],
)
async def test_table_passes_the_check_after_a_crash_with_its_key_first(
    database, applied, file, crash_image, columns
):
    table = f"CREATE TABLE t ({columns}, PRIMARY KEY (a, c)) WITHOUT ROWID;"
    row = "INSERT INTO t (a, b, c) VALUES ('a', 'b', 'c');"
    await database.migrate([*applied, Migration("test", 2, table + row)])
    again = await reopened(crash_image(file))
    await again.check_after_crash()
    await again.close()


async def test_connect_says_why_when_the_place_cannot_be_used(tmp_path):
    (tmp_path / "taken").write_text("a file, not a directory")
    with pytest.raises(DatabaseBroken, match="cannot be opened"):
        await connect("sqlite://", tmp_path / "taken", "notes")
