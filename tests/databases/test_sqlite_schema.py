from __future__ import annotations

import pytest

from mesh.database import Migration
from mesh.databases.sqlite import schema
from mesh.errors import SchemaMismatch

TRIGGER = """
CREATE TRIGGER no_delete BEFORE DELETE ON notes BEGIN
    SELECT RAISE(ABORT, 'notes are kept; they are never deleted');
END;
"""


def migration(sql, number=2):
    return Migration("test", number, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (a REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED);",
        "CREATE TABLE t (a TEXT UNIQUE ON CONFLICT ROLLBACK);",
        "CREATE TABLE t (a TEXT UNIQUE on  conflict\n rollback);",
        "INSERT OR ROLLBACK INTO notes (id) VALUES ('a');",
        "CREATE TRIGGER t BEFORE DELETE ON notes BEGIN SELECT RAISE ( /**/ ROLLBACK, 'x'); END;",
        "CREATE TABLE t (a TEXT); COMMIT;",
        "BEGIN; CREATE TABLE t (a TEXT);",
        "PRAGMA foreign_keys = OFF;",
        "VACUUM;",
        "ATTACH 'x' AS x;",
    ],
)
async def test_migration_is_refused_when_it_could_undo_its_neighbours(database, sql):
    before = database.commits
    with pytest.raises(SchemaMismatch, match="test/0002"):
        await database.migrate([migration("SELECT 1;", 1), migration(sql)])
    assert database.commits == before  # found before anything ran


@pytest.mark.parametrize(
    "sql",
    [
        "-- no DEFERRABLE here, and no ON CONFLICT ROLLBACK\nCREATE TABLE t (a TEXT);",
        "CREATE TABLE t (a TEXT DEFAULT 'DEFERRABLE; RAISE(ROLLBACK)');",
        'CREATE TABLE t ("DEFERRABLE" TEXT);',
        "/* COMMIT; */ CREATE TABLE t (a TEXT) -- the last needs no semicolon",
        TRIGGER + "CREATE TABLE t (a TEXT);",
    ],
)
async def test_migration_is_taken_when_the_words_are_only_mentioned(database, applied, sql):
    await database.migrate([*applied, migration(sql)])
    assert database.read.all(str, "SELECT name FROM sqlite_master WHERE name = 't'") == ["t"]


@pytest.mark.parametrize(
    "columns",
    ["a TEXT NOT NULL, b TEXT NOT NULL, c TEXT NOT NULL", "b TEXT, a TEXT NOT NULL, c TEXT"],
)
async def test_table_is_refused_with_other_columns_before_its_key(database, applied, columns):
    table = f"CREATE TABLE t ({columns}, PRIMARY KEY (a, c)) WITHOUT ROWID;"
    with pytest.raises(SchemaMismatch, match="t: WITHOUT ROWID"):
        await database.migrate([*applied, migration(table)])


def test_statements_keeps_a_trigger_whole():
    found = list(schema.statements(f"CREATE TABLE a (b);{TRIGGER}-- over;\n"))
    assert len(found) == 2
    assert found[1].strip() == TRIGGER.strip()


async def test_migrations_are_remembered_with_their_time(database, ids):
    rows = database.read.all(
        str, "SELECT owner || '/' || number || '/' || length(digest) FROM migrations_applied"
    )
    assert rows == ["test/1/64"]
    assert database.read.one(int, "SELECT applied_at_ms FROM migrations_applied") > 1.7e12
