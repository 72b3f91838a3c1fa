"""Epochs as a consumer sees them: what a producer's restore has taken back (R9).

A restored producer goes on from an older place. Effects here of events that it no longer knows are
not undone, since only people can judge them; they are written down, and the service says so until
somebody has looked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock
from mesh.errors import Broken
from mesh.framework import cursors

if TYPE_CHECKING:
    from mesh.bus import Cursor, Epoch, Link
    from mesh.database import Reader, Transaction

SHOWN_MAX = 1000
"""Rows shown at once: each is a restore, and there are few of those."""


class Diverged(Struct, frozen=True):
    """Events `from_seq` to `to_seq` took effect here and were then replaced by `new_epoch`."""

    stream: str
    from_epoch: int
    from_seq: int
    to_seq: int
    new_epoch: int
    noted_ms: int


def note_epoch(tx: Transaction, stream: str, epoch: Epoch, base: Link) -> Cursor:
    """A newer epoch exists: note it, flag effects of replaced events, step back to `base`.

    Raises: Broken when there is no cursor to step back.
    """
    row = cursors.read(tx, stream)
    if row is None:
        raise Broken(f"no cursor for stream {stream!r}")
    if epoch.epoch <= row.known_epoch:
        return row.cursor
    if row.epoch < epoch.epoch and row.seq > epoch.base:
        tx.execute(
            "INSERT INTO mlp_diverged (stream, from_epoch, from_seq, to_seq, new_epoch, noted_ms)"
            " VALUES (:stream, :from_epoch, :from_seq, :to_seq, :new_epoch, :now)",
            stream=stream,
            from_epoch=row.epoch,
            from_seq=epoch.base + 1,
            to_seq=row.seq,
            new_epoch=epoch.epoch,
            now=clock.now_ms(),
        )
        tx.execute(
            "UPDATE mlp_cursor SET epoch = :epoch, seq = :seq, hash = :hash WHERE stream = :stream",
            epoch=base.epoch,
            seq=base.seq,
            hash=base.hash,
            stream=stream,
        )
    tx.execute(
        "UPDATE mlp_cursor SET known_epoch = :epoch, known_base = :base WHERE stream = :stream",
        epoch=epoch.epoch,
        base=epoch.base,
        stream=stream,
    )
    row = cursors.read(tx, stream)
    assert row is not None
    return row.cursor


def unresolved(read: Reader) -> list[Diverged]:
    """What nobody has looked at yet, oldest first, at most SHOWN_MAX."""
    return read.all(
        Diverged,
        "SELECT stream, from_epoch, from_seq, to_seq, new_epoch, noted_ms FROM mlp_diverged"
        " WHERE resolved_ms IS NULL ORDER BY noted_ms, stream LIMIT :most",
        most=SHOWN_MAX,
    )


def resolve(tx: Transaction) -> int:
    """Somebody has: nothing is complained of any more. Returns how many rows that was."""
    return tx.execute(
        "UPDATE mlp_diverged SET resolved_ms = :now WHERE resolved_ms IS NULL", now=clock.now_ms()
    )


def plain(row: Diverged) -> dict[str, object]:
    """A row as JSON shows it."""
    return {
        "stream": row.stream,
        "from_epoch": row.from_epoch,
        "from_sequence": str(row.from_seq),
        "to_sequence": str(row.to_seq),
        "new_epoch": row.new_epoch,
        "noted": clock.iso(row.noted_ms),
    }
