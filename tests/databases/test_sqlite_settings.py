from __future__ import annotations

import sqlite3

import pytest

from mesh.databases.sqlite import connections
from mesh.databases.sqlite.connections import WRITER, open_reader, open_writer
from mesh.errors import Broken, DatabaseBroken

Q1 = {
    "journal_mode": "wal",
    "synchronous": 2,
    "temp_store": 2,
    "foreign_keys": 1,
    "busy_timeout": 0,  # the writer's thread waits, the event loop does not
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    "secure_delete": 1,
}


@pytest.mark.parametrize(("pragma", "value"), [*Q1.items(), ("wal_autocheckpoint", 0)])
async def test_writer_has_every_setting(database, ask, pragma, value):
    assert await ask(database, f"PRAGMA {pragma}") == [(value,)]


Q3 = {
    "query_only": 1,
    "busy_timeout": 0,
    "temp_store": 2,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    "wal_autocheckpoint": 0,
}


@pytest.mark.parametrize(("pragma", "value"), Q3.items())
async def test_readers_have_every_setting(database, pragma, value):
    assert database._reader._statements.connection.execute(f"PRAGMA {pragma}").fetchall() == [
        (value,)
    ]
    assert await database._scans.all(int, f"PRAGMA {pragma}", {}) == [value]


async def test_open_refuses_a_setting_that_does_not_hold(tmp_path, monkeypatch):
    file = tmp_path / "notes.db"
    file.touch()
    # A page size cannot change once the file is in WAL mode.
    monkeypatch.setattr(connections, "WRITER", {**WRITER, "page_size": 8192})
    with pytest.raises(DatabaseBroken, match="page_size"):
        open_writer(file)


async def test_attach_is_refused_everywhere(database, ask, tmp_path):
    sibling = tmp_path / "sibling.db"
    sqlite3.connect(sibling).close()
    with pytest.raises(Broken, match="too many attached"):
        await ask(database, f"ATTACH '{sibling}' AS sibling")
    for reader in (
        database._reader._statements.connection,
        open_reader(tmp_path / "notes" / "notes.db"),
    ):
        with pytest.raises(sqlite3.OperationalError, match="too many attached"):
            reader.execute(f"ATTACH '{sibling}' AS sibling")
    reader.close()


async def test_extensions_cannot_be_loaded(database, ask):
    with pytest.raises(Broken, match="not authorized"):
        await ask(database, "SELECT load_extension('libc.so.6')")
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):
        database._reader._statements.connection.execute("SELECT load_extension('libc.so.6')")


async def test_reader_cannot_write_even_when_asked_cleverly(database, add, ids):
    await database.write(add, "a")
    sql = "WITH gone AS (SELECT 'a') DELETE FROM notes RETURNING id"
    with pytest.raises(Broken):
        database.read.all(str, sql)
    with pytest.raises(Broken):
        await database.scan(str, sql)
    assert ids(database.read) == ["a"]


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "-- a comment\n ROLLBACK",
        "/* SELECT */ BEGIN",
        "SAVEPOINT mine",
        "RELEASE one",
        "PRAGMA query_only = 0",
        "ATTACH 'x' AS x",
        "CREATE TABLE t (id)",
        "DROP TABLE notes",
        "VACUUM",
        "",
    ],
)
async def test_only_statements_about_rows_are_let_through(database, add, ids, sql):
    def fn(tx):
        add(tx, "a")
        tx.execute(sql)

    with pytest.raises(Broken) as raised:
        await database.write(fn)
    assert raised.value.code == "statement"
    assert ids(database.read) == []
    with pytest.raises(Broken):
        database.read.one(int, sql)
    with pytest.raises(Broken):
        await database.scan(int, sql)


@pytest.mark.parametrize("sql", ["SELECT ? + :a", "SELECT :a + @a", "SELECT $a", "SELECT ?1"])
async def test_values_without_a_name_of_ours_are_refused(database, sql):
    with pytest.raises(Broken, match=":name"):
        await database.write(lambda tx: tx.execute(sql, a=1))
    with pytest.raises(Broken, match=":name"):
        database.read.one(int, sql, a=1)


async def test_statement_mistakes_are_ours_not_damage(database):
    for sql, params in (("SELECT * FROM nowhere", {}), ("SELECT :id", {}), ("SELECT (", {})):
        with pytest.raises(Broken) as raised:
            database.read.one(int, sql, **params)
        assert not isinstance(raised.value, DatabaseBroken)
