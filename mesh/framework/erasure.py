"""Erasing a person: from the tables, from the bytes of the file, and not to come back by a restore.

A service that holds personal data says how it forgets a person: the one that tells `user.erased` by
`erases` in its table, every other by its listener of that event. Around that, in the same
transaction: the answers stored for the person go, the -wal is cut soon after, and the id is noted
in a file beside the database. An older copy of the database that is put in its place lacks what the
file names; those are erased again before the service is ready. An id alone tells nothing of anybody.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from mesh import codec, telemetry
from mesh.errors import Broken, StorageFull
from mesh.framework import idempotency
from mesh.framework.transaction import Tx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mesh.database import Database, Transaction
    from mesh.framework.service import Listener, Service
    from mesh.framework.transaction import Vocabulary

EVENT = "user.erased"
FILE = "erased"
"""One id a line; it grows by 41 bytes a person and is never cut: that is what it is for."""

log = telemetry.logger("framework.erasure")


class Erasure:
    """How one service erases. `run` is the transaction function behind `tx.erase`: of one aside."""

    def __init__(self, service: Service, directory: Path) -> None:
        """`directory` holds the database."""
        self._file = directory / FILE
        self._forget = service.erases or _heard(service.listeners)

    def run(self, tx: Tx, user_id: str) -> None:
        """Erase a person for good. Once more does nothing new.

        Raises: StorageFull when the id could not be noted; Broken where nobody can be erased.
        """
        if self._forget is None:
            raise Broken("this service's table does not say how it erases a person")
        if _mark(tx, user_id):
            _note(self._file, user_id)
        self._forget(tx, user_id)
        idempotency.forget_caller(tx, f"user:{user_id}")
        tx.scrub()

    def listeners(
        self,
        rows: Sequence[Listener],  # type: ignore[type-arg]  # each row has types of its own
    ) -> list[Listener]:  # type: ignore[type-arg]
        """The same rows, of which the one that hears of an erasure does all of it."""
        return [
            replace(row, react=lambda tx, data: tx.erase(data.user_id), aside=True)
            if row.event == EVENT
            else row
            for row in rows
        ]

    async def again(self, store: Database, words: Vocabulary) -> None:
        """Erase whom the file names and this database does not know as erased."""
        if self._forget is None or not self._file.exists():
            return
        noted = dict.fromkeys(self._file.read_text("utf-8").split())
        known = set(await store.scan(str, "SELECT user_id FROM erased"))
        owed = [user_id for user_id in noted if user_id not in known]
        for user_id in owed:
            await store.write_aside(_again, words, user_id)
        if owed:
            log.info("erased again", extra=telemetry.facts(people=len(owed)))


def _heard(rows: Sequence[Listener]) -> Callable[[Tx, str], None] | None:  # type: ignore[type-arg]
    for row in rows:
        if row.event == EVENT:
            return lambda tx, user_id: row.react(tx, codec.convert({"user_id": user_id}, row.reads))
    return None


def _mark(tx: Tx, user_id: str) -> bool:
    """Whether it was not known here that this person is erased."""
    marked = tx.execute(
        "INSERT INTO erased (user_id, at_ms) VALUES (:user_id, :now) ON CONFLICT DO NOTHING",
        user_id=user_id,
        now=tx.now_ms,
    )
    return marked == 1


def _again(inner: Transaction, words: Vocabulary, user_id: str) -> None:
    tx = Tx(inner, words, telemetry.new_trace(), "restore")
    _mark(tx, user_id)  # the file has it
    tx.erase(user_id)


def _note(file: Path, user_id: str) -> None:
    """Add a line that survives the machine, also after one that did not. Raises: StorageFull."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(file, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" * torn + f"{user_id}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageFull(f"{file} cannot be written: {error.strerror}") from error
