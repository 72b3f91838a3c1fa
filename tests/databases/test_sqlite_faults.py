from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mesh.databases.sqlite.faults import fault
from mesh.errors import (
    Broken,
    Conflict,
    DatabaseBroken,
    DatabaseBusy,
    DatabaseDamaged,
    StorageFull,
    TooLarge,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_CONSTRAINT_UNIQUE", Conflict),
        ("SQLITE_CONSTRAINT_FOREIGNKEY", Conflict),
        ("SQLITE_FULL", StorageFull),
        ("SQLITE_IOERR_SHMSIZE", StorageFull),
        ("SQLITE_IOERR", DatabaseBroken),
        ("SQLITE_IOERR_FSYNC", DatabaseBroken),
        ("SQLITE_IOERR_WRITE", DatabaseBroken),
        ("SQLITE_CORRUPT", DatabaseDamaged),
        ("SQLITE_CORRUPT_INDEX", DatabaseDamaged),
        ("SQLITE_NOTADB", DatabaseDamaged),
        ("SQLITE_CANTOPEN", DatabaseBroken),
        ("SQLITE_READONLY_DBMOVED", DatabaseBroken),
        ("SQLITE_BUSY", DatabaseBusy),
        ("SQLITE_BUSY_SNAPSHOT", DatabaseBusy),
        ("SQLITE_LOCKED", DatabaseBusy),
        ("SQLITE_INTERRUPT", DatabaseBusy),
        ("SQLITE_TOOBIG", TooLarge),
        ("SQLITE_READONLY", Broken),
        ("SQLITE_ERROR", Broken),
        ("SQLITE_MISUSE", Broken),
    ],
)
def test_fault_says_what_a_code_means(name, expected):
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    found = fault(error, Path("/data/order/order.db"))
    assert type(found) is expected
    if expected is DatabaseBroken:
        assert name in found.detail
        assert "/data/order/order.db" in found.detail


def test_fault_takes_a_complaint_of_pythons_own_as_a_wrong_statement():
    found = fault(sqlite3.ProgrammingError("no value for :id"), Path("order.db"))
    assert type(found) is Broken
    assert found.code == "statement"


def test_conflict_does_not_tell_tables_and_columns_to_clients():
    error = sqlite3.IntegrityError("UNIQUE constraint failed: users.email")
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_UNIQUE
    found = fault(error, Path("order.db"))
    assert "email" not in found.detail
    assert found.evidence == ("UNIQUE constraint failed: users.email",)
