"""Numbered schema files: what may stand in them, and each applied once, with its mark.

Refuses what would take a whole group of transactions down with one of them: a constraint that
fails only at the commit, or a failure that rolls everything back.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock
from mesh.databases.sqlite.statements import bare, verb
from mesh.errors import Broken, Conflict, DatabaseBroken, SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mesh.databases.contract import Reader
    from mesh.databases.migrations import Migration
    from mesh.databases.sqlite.transaction import SqliteTransaction

_TABLE = """
CREATE TABLE IF NOT EXISTS migrations_applied (
    owner         TEXT    NOT NULL,
    number        INTEGER NOT NULL,
    digest        TEXT    NOT NULL,
    applied_at_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, number)
) STRICT
"""

_VERBS = frozenset({"ALTER", "CREATE", "DELETE", "DROP", "INSERT", "SELECT", "UPDATE", "WITH"})
_FORBIDDEN = re.compile(
    r"\bDEFERRABLE\b|\bON\s+CONFLICT\s+ROLLBACK\b|\bOR\s+ROLLBACK\b|\bRAISE\s*\(\s*ROLLBACK\b",
    re.IGNORECASE,
)


_MISREAD = """
SELECT DISTINCT found.name
FROM pragma_table_list AS found JOIN pragma_table_info(found.name) AS part
WHERE found.schema = 'main' AND found.wr AND part.pk > 0
    AND part.cid >= (SELECT count(*) FROM pragma_table_info(found.name) WHERE pk > 0)
"""


class _Applied(Struct, frozen=True):
    number: int
    digest: str


def _named(migration: Migration) -> str:
    return f"migration {migration.owner}/{migration.number:04}"


def statements(sql: str) -> Iterator[str]:
    """The single statements of a script; a trigger's body stays whole."""
    text = ""
    for piece in re.split("(?<=;)", sql):
        text += piece
        if sqlite3.complete_statement(text):
            yield text
            text = ""
    if bare(text).strip():
        yield text


def check(migration: Migration) -> None:
    """Refuse what no schema may hold.

    Raises: SchemaMismatch, naming the file and the words.
    """
    found = _FORBIDDEN.search(bare(migration.sql))
    if found:
        raise SchemaMismatch(
            f"{_named(migration)} says {found.group()!r}, "
            "which would undo other transactions of the same commit"
        )
    for statement in statements(migration.sql):
        if verb(statement) not in _VERBS:
            raise SchemaMismatch(
                f"{_named(migration)} holds a statement that changes neither schema nor rows",
                evidence=(statement.strip(),),
            )


def prepare(tx: SqliteTransaction) -> None:
    """Make the table of what has been applied."""
    tx.define(_TABLE)


def pending(tx: Reader, migrations: Sequence[Migration]) -> list[Migration]:
    """Those not yet applied, in order.

    Raises: SchemaMismatch when an applied one has changed, when the file knows more than we
        do, or when one is missing in between.
    """
    todo: list[Migration] = []
    for owner in dict.fromkeys(migration.owner for migration in migrations):
        known = [migration for migration in migrations if migration.owner == owner]
        applied = tx.all(
            _Applied,
            "SELECT number, digest FROM migrations_applied WHERE owner = :owner ORDER BY number",
            owner=owner,
        )
        if len(applied) > len(known):
            raise SchemaMismatch(
                f"the file knows {len(applied)} migrations of {owner}, this program {len(known)}",
                hint="run the newer program, or restore a backup made by this one",
            )
        for mark, migration in zip(applied, known, strict=False):
            if (mark.number, mark.digest) != (migration.number, migration.digest):
                raise SchemaMismatch(f"{_named(migration)} is not the one that was applied")
        todo += known[len(applied) :]
    return sorted(todo, key=migrations.index)


def judge(tx: Reader) -> None:
    """Refuse a table that would be taken for damaged when the file is looked over.

    SQLite stores a table WITHOUT ROWID with its key first, and the `quick_check` of 3.40.1 looks
    for the other columns where the CREATE has them: it finds NULL where there is none.

    Raises: SchemaMismatch, naming the tables.
    """
    if found := tx.all(str, _MISREAD):
        raise SchemaMismatch(
            f"{', '.join(sorted(found))}: WITHOUT ROWID, and columns before the primary key's",
            hint="add a migration that makes the table anew with the columns of its key first",
        )


def apply(tx: SqliteTransaction, migration: Migration) -> None:
    """Run one and mark it, in the transaction that `tx` is.

    Raises: SchemaMismatch when a statement fails.
    """
    for statement in statements(migration.sql):
        try:
            tx.define(statement)
        except DatabaseBroken:
            raise
        except (Broken, Conflict) as error:
            raise SchemaMismatch(
                f"{_named(migration)} cannot be applied: {error}", evidence=error.evidence
            ) from error
    tx.execute(
        "INSERT INTO migrations_applied (owner, number, digest, applied_at_ms)"
        " VALUES (:owner, :number, :digest, :now_ms)",
        owner=migration.owner,
        number=migration.number,
        digest=migration.digest,
        now_ms=clock.now_ms(),
    )
