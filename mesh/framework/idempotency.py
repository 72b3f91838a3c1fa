"""Idempotency keys: one effect for each (caller, route, key), also across a kill at any await.

The key's row is written by the request's *first* write and its answer by the *last*, each in that
very commit. A request that is sent again finds

- an answer: it is replayed;
- a row without answer: the action runs again with the same entity id and finishes the work;
- the same request running in this process: 409, try again shortly.

A caller without identity gets no stored answer: the action runs again with the same entity id
and checks any secret anew, so a guessed key opens nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec
from mesh.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from mesh.database import Database, Reader, Transaction
    from mesh.framework.identity import Caller
    from mesh.framework.transaction import Tx

KEEP_MS = 24 * 3600 * clock.MS_PER_S
"""How long an answer can be replayed."""

SWEEP_MAX = 200
"""Rows that one transaction of a sweep removes, so that it never holds the writer for long."""

KEY_CHARACTERS_MAX = 255


class Answer(Struct, frozen=True):
    """A stored answer: HTTP status and JSON body."""

    status: int
    body: bytes


class _Row(Struct):
    fingerprint: bytes
    entity: str
    status: int | None
    answer: bytes | None


@dataclass
class Keyed:
    """One request that carries a key."""

    caller: str
    route: str
    key: str
    fingerprint: bytes
    replays: bool
    entity: str = ""
    resumed: bool = False
    recorded: str | None = None
    """The entity's id that the row holds; None while there is no row."""


def keyed(caller: Caller, route: str, key: str, request: object) -> Keyed:
    """Describe a request by its key and a fingerprint of its public members.

    Raises: InvalidInput for a key that is empty, too long or not printable ASCII.
    """
    if not key or len(key) > KEY_CHARACTERS_MAX or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"Idempotency-Key must be 1 to {KEY_CHARACTERS_MAX} printable ASCII characters"
        )
    digest = hashlib.blake2b(codec.encode(_public(request)), digest_size=16).digest()
    return Keyed(caller.subject, route, key, digest, replays=caller.kind != "anyone")


def _public(message: object) -> object:
    """A message without the members marked SECRET; None for an answer that says nothing."""
    secret = codec.secret_fields(type(message))
    if not secret:
        return message
    return {name: value for name, value in codec.plain(message).items() if name not in secret}


def find(read: Reader, request: Keyed) -> Answer | None:
    """Look the key up: the stored answer, or None and the entity's id filled in.

    Raises: InvalidInput (code `idempotency-key-reused`) when it was sent with another body.
    """
    row = read.one(
        _Row,
        "SELECT fingerprint, entity, status, answer FROM request"
        " WHERE caller = :caller AND route = :route AND key = :key",
        caller=request.caller,
        route=request.route,
        key=request.key,
    )
    if row is None:
        return None
    if row.fingerprint != request.fingerprint:
        raise InvalidInput(
            "this Idempotency-Key was used with another body", code="idempotency-key-reused"
        )
    request.entity = row.entity
    request.recorded = row.entity
    request.resumed = True
    if row.answer is None or row.status is None or not request.replays:
        return None
    return Answer(row.status, row.answer)


def record(tx: Transaction, request: Keyed) -> None:
    """Note the key with the first write, and the entity's id with the first that knows it."""
    entity = request.entity
    tx.after_commit(lambda: setattr(request, "recorded", entity))
    tx.execute(
        "INSERT INTO request (caller, route, key, fingerprint, entity, created_ms)"
        " VALUES (:caller, :route, :key, :fingerprint, :entity, :created_ms)"
        " ON CONFLICT (caller, route, key) DO UPDATE SET entity = excluded.entity"
        " WHERE request.entity = ''",
        caller=request.caller,
        route=request.route,
        key=request.key,
        fingerprint=request.fingerprint,
        entity=entity,
        created_ms=clock.now_ms(),
    )


def store_answer(tx: Transaction, request: Keyed, status: int, answer: object) -> None:
    """Keep the answer's public members with the last write; the first one stored stands.

    With the key, where this is the first write too. A row that was noted and is gone was erased.
    """
    noted = request.recorded == request.entity
    if not request.replays:
        if not noted:
            record(tx, request)
        return
    body = codec.encode(_public(answer))
    if noted:
        tx.execute(
            "UPDATE request SET status = :status, answer = :body"
            " WHERE caller = :caller AND route = :route AND key = :key AND answer IS NULL",
            status=status,
            body=body,
            caller=request.caller,
            route=request.route,
            key=request.key,
        )
        return
    tx.execute(
        "INSERT INTO request (caller, route, key, fingerprint, entity, status, answer, created_ms)"
        " VALUES (:caller, :route, :key, :fingerprint, :entity, :status, :body, :created_ms)"
        " ON CONFLICT (caller, route, key) DO UPDATE SET"
        " entity = CASE request.entity WHEN '' THEN excluded.entity ELSE request.entity END,"
        " status = CASE WHEN request.answer IS NULL THEN excluded.status ELSE request.status END,"
        " answer = coalesce(request.answer, excluded.answer)",
        caller=request.caller,
        route=request.route,
        key=request.key,
        fingerprint=request.fingerprint,
        entity=request.entity,
        status=status,
        body=body,
        created_ms=clock.now_ms(),
    )


def forget_caller(tx: Tx, subject: str) -> None:
    """Let go of every answer stored for a caller: what they hold is the caller's own."""
    tx.execute("DELETE FROM request WHERE caller = :subject", subject=subject)


async def sweep(database: Database) -> None:
    """Forget keys older than KEEP_MS, a bounded number at a time, in the order of their coming."""
    while await database.write_aside(_forget, clock.now_ms()) == SWEEP_MAX:
        pass


def _forget(tx: Transaction, now_ms: int) -> int:
    """What is dated more than a day ahead is passed over: nothing behind it may wait so long.

    It stays, since it may be the clock that is behind, as of a machine that has just started.
    """
    return tx.execute(
        "DELETE FROM request WHERE n IN"
        " (SELECT n FROM request WHERE created_ms <= :ahead_ms ORDER BY n LIMIT :most)"
        " AND created_ms < :before_ms",
        before_ms=now_ms - KEEP_MS,
        ahead_ms=now_ms + KEEP_MS,
        most=SWEEP_MAX,
    )


class Running:
    """The keyed requests this process is answering right now."""

    def __init__(self) -> None:
        """Empty at the start: what a dead process was answering is not running."""
        self._keys: set[tuple[str, str, str]] = set()

    def enter(self, request: Keyed) -> tuple[str, str, str]:
        """Mark it as running.

        Raises: Conflict (code `request-running`) when it is already.
        """
        mark = (request.caller, request.route, request.key)
        if mark in self._keys:
            raise Conflict("the same request is being answered right now", code="request-running")
        self._keys.add(mark)
        return mark

    def leave(self, mark: tuple[str, str, str]) -> None:
        """It has been answered."""
        self._keys.discard(mark)
