"""A service's history in a file that nobody has open: what a copy holds, and how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import bus, clock, database
from mesh.bus import ORIGIN, Epoch, Event, Link
from mesh.errors import Conflict
from mesh.framework.outbox import NONCE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.bus import Others
    from mesh.database import Transaction

EPOCHS_MAX = 10_000
ROWS_MAX = 500


class Standing(Struct, frozen=True):
    """How far a consumer is in one stream."""

    stream: str
    epoch: int
    seq: int


class History(Struct, frozen=True):
    """What a file holds: its epochs, its head, and how far it has applied others' streams."""

    epochs: tuple[Epoch, ...]
    head: Link
    cursors: tuple[Standing, ...]


def read(file: Path) -> History:
    """The history in a file. Raises: DatabaseBroken, SchemaMismatch when there is none."""
    epochs = database.rows(
        file, Epoch, "SELECT epoch, base, base_hash, nonce FROM mlp_epoch ORDER BY epoch"
    )
    heads = database.rows(file, Link, "SELECT epoch, seq, hash FROM mlp_head")
    cursors = database.rows(
        file, Standing, "SELECT stream, epoch, seq FROM mlp_cursor ORDER BY stream"
    )
    return History(tuple(epochs), heads[0] if heads else ORIGIN, tuple(cursors))


def link_at(file: Path, seq: int) -> Link | None:
    """The link of one event in a file; None if it is not kept there. Raises: DatabaseBroken."""
    found = database.rows(
        file,
        Link,
        f"SELECT epoch, seq, hash FROM outbox WHERE seq = {seq:d}",  # noqa: S608  a number
    )
    return found[0] if found else None


async def adopt(directory: Path, name: str, others: Others, url: str) -> Epoch:
    """Have a service's file go on in a new epoch, in place of what others hold beyond it.

    Raises: AlreadyRunning (the service runs), DatabaseBroken; Conflict when events that must be
        told again are no longer kept.
    """
    store = await database.connect(url, directory, name)
    try:
        return await store.write_aside(_adopt, name, others)
    finally:
        await store.close()


def _adopt(tx: Transaction, stream: str, others: Others) -> Epoch:
    own = tx.all(
        Epoch,
        "SELECT epoch, base, base_hash, nonce FROM mlp_epoch ORDER BY epoch LIMIT :most",
        most=EPOCHS_MAX,
    )
    head = tx.one(Link, "SELECT epoch, seq, hash FROM mlp_head") or ORIGIN
    wanted = bus.adoption(own, head, others)
    base = head if wanted.base == head.seq else _place(tx, wanted.base)
    nonce = bytes.fromhex(clock.random_hex(NONCE_BYTES))
    tx.execute("DELETE FROM mlp_epoch")
    new = Epoch(wanted.number, base.seq, base.hash, nonce)
    for each in (*wanted.kept, new):
        tx.execute(
            "INSERT INTO mlp_epoch (epoch, base, base_hash, nonce)"
            " VALUES (:epoch, :base, :base_hash, :nonce)",
            epoch=each.epoch,
            base=each.base,
            base_hash=each.base_hash,
            nonce=each.nonce,
        )
    _tell_again(tx, stream, wanted.number, base)
    return new


def _place(tx: Transaction, seq: int) -> Link:
    """The link at a number: of that event, or as its successor remembers it."""
    if not seq:
        return ORIGIN
    found = tx.one(Link, "SELECT epoch, seq, hash FROM outbox WHERE seq = :seq", seq=seq)
    if found is None:
        found = tx.one(
            Link,
            "SELECT prev_epoch AS epoch, seq - 1 AS seq, prev_hash AS hash FROM outbox"
            " WHERE seq = :seq",
            seq=seq + 1,
        )
    if found is None:
        raise Conflict(
            f"the copy forks off at event {seq}, which is no longer kept", code="fork-too-old"
        )
    return found


def _tell_again(tx: Transaction, stream: str, epoch: int, base: Link) -> None:
    """Make everything beyond `base` events of the new epoch."""
    while True:
        rows = tx.all(
            Event,
            "SELECT :stream AS stream, seq, epoch, prev_epoch, prev_hash, hash, id, type, key,"
            " ts_ms, trace, body FROM outbox WHERE seq > :seq ORDER BY seq LIMIT :most",
            stream=stream,
            seq=base.seq,
            most=ROWS_MAX,
        )
        for event in bus.told_again(rows, epoch, base):
            tx.execute(
                "UPDATE outbox SET epoch = :epoch, prev_epoch = :prev_epoch,"
                " prev_hash = :prev_hash, hash = :hash WHERE seq = :seq",
                epoch=event.epoch,
                prev_epoch=event.prev_epoch,
                prev_hash=event.prev_hash,
                hash=event.hash,
                seq=event.seq,
            )
            base = event.link
        if len(rows) < ROWS_MAX:
            break
