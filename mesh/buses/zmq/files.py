"""The bus's files while no bus has them open: for backup and restore."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from mesh import clock
from mesh.buses.adoption import NOBODY, Others, adoption, told_again
from mesh.buses.contract import ORIGIN, Epoch, Event, Link, OutboxState
from mesh.buses.zmq.hosted import EVENT, NONCE_BYTES, SCHEMA, VERSION
from mesh.buses.zmq.hosted import FILE as HOSTED
from mesh.buses.zmq.logfile import FILE, connect, explained
from mesh.errors import Conflict

if TYPE_CHECKING:
    from pathlib import Path


def states(directory: Path) -> dict[str, OutboxState]:
    """Every stream as the log there has it; none where no log is. Raises: LogBroken."""
    file = directory / FILE
    if not file.exists():
        return {}
    try:
        with closing(_reading(file)) as db:
            rows = db.execute(
                "SELECT stream, head_epoch, head_seq, head_hash, tail_seq FROM stream"
            ).fetchall()
            return {
                stream: OutboxState(_epochs(db, stream), Link(*head), tail_seq)
                for stream, *head, tail_seq in rows
            }
    except sqlite3.Error as error:
        raise explained(file, error) from error


def guests(file: Path) -> dict[str, OutboxState]:
    """The streams in a copy of `hosted.db`. Raises: LogBroken."""
    found: dict[str, OutboxState] = {}
    try:
        with closing(_reading(file)) as db:
            for stream, *head in db.execute("SELECT stream, epoch, seq, hash FROM head").fetchall():
                tail = db.execute(
                    "SELECT min(seq) FROM outbox WHERE stream = ?", (stream,)
                ).fetchone()[0]
                link = Link(*head)
                found[stream] = OutboxState(_epochs(db, stream), link, tail or link.seq + 1)
    except sqlite3.Error as error:
        raise explained(file, error) from error
    return found


def link(file: Path, stream: str, seq: int) -> Link | None:
    """The link of one event in the log or in `hosted.db`; None if it is not kept there.

    Raises: LogBroken.
    """
    table = "log" if file.name == FILE else "outbox"
    try:
        with closing(_reading(file)) as db:
            row = db.execute(
                f"SELECT epoch, seq, hash FROM {table} WHERE stream = ? AND seq = ?",  # noqa: S608  one of two names
                (stream, seq),
            ).fetchone()
    except sqlite3.Error as error:
        raise explained(file, error) from error
    return None if row is None else Link(*row)


def adopt(directory: Path, others: dict[str, Others]) -> None:
    """Have the `hosted.db` there go on in a new epoch of each stream, all in one transaction.

    Raises: LogBroken; Conflict when events that must be told again are no longer kept.
    """
    file = directory.absolute() / HOSTED
    try:
        writer, reader = connect(file, SCHEMA, VERSION)
        reader.close()  # whoever closes last puts everything into the one file
        with closing(writer) as db:
            db.execute("BEGIN IMMEDIATE")
            for (stream,) in db.execute("SELECT stream FROM head").fetchall():
                _adopt(db, stream, others.get(stream, NOBODY))
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise explained(file, error) from error


def _reading(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)


def _epochs(db: sqlite3.Connection, stream: str) -> tuple[Epoch, ...]:
    rows = db.execute(
        "SELECT epoch, base, base_hash, nonce FROM epoch WHERE stream = ? ORDER BY epoch", (stream,)
    )
    return tuple(Epoch(*row) for row in rows.fetchall())


def _adopt(db: sqlite3.Connection, stream: str, others: Others) -> None:
    own = _epochs(db, stream)
    row = db.execute("SELECT epoch, seq, hash FROM head WHERE stream = ?", (stream,)).fetchone()
    head = Link(*row)
    wanted = adoption(own, head, others)
    base = head if wanted.base == head.seq else _place(db, stream, wanted.base)
    nonce = bytes.fromhex(clock.random_hex(NONCE_BYTES))
    db.execute("DELETE FROM epoch WHERE stream = ?", (stream,))
    db.executemany(
        "INSERT INTO epoch VALUES (?, ?, ?, ?, ?)",
        [
            (stream, each.epoch, each.base, each.base_hash, each.nonce)
            for each in (*wanted.kept, Epoch(wanted.number, base.seq, base.hash, nonce))
        ],
    )
    rows = db.execute(
        f"SELECT {EVENT} FROM outbox WHERE stream = ? AND seq > ? ORDER BY seq",  # noqa: S608  our own columns
        (stream, base.seq),
    )
    again = told_again([Event(*each) for each in rows.fetchall()], wanted.number, base)
    db.executemany(
        "UPDATE outbox SET epoch = ?, prev_epoch = ?, prev_hash = ?, hash = ?"
        " WHERE stream = ? AND seq = ?",
        [(e.epoch, e.prev_epoch, e.prev_hash, e.hash, stream, e.seq) for e in again],
    )
    end = again[-1].link if again else base
    db.execute(
        "UPDATE head SET epoch = ?, hash = ? WHERE stream = ?", (end.epoch, end.hash, stream)
    )


def _place(db: sqlite3.Connection, stream: str, seq: int) -> Link:
    """The link at a number: of that event, or as its successor remembers it."""
    if not seq:
        return ORIGIN
    row = db.execute(
        "SELECT epoch, seq, hash FROM outbox WHERE stream = ? AND seq = ? UNION ALL"
        " SELECT prev_epoch, seq - 1, prev_hash FROM outbox WHERE stream = ? AND seq = ? + 1",
        (stream, seq, stream, seq),
    ).fetchone()
    if row is None:
        raise Conflict(
            f"{stream} forks off at event {seq}, which is no longer kept", code="fork-too-old"
        )
    return Link(*row)
