"""Events set aside because their listener failed for good (dead letters), each whole and with why.

They stay until the operator has them offered again or drops them; no timer touches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec, telemetry
from mesh.bus import NO_HASH, Event, Trace
from mesh.errors import InvalidInput, MeshError, NotFound

if TYPE_CHECKING:
    from mesh.database import Database, Reader, Transaction

LISTED_MAX = 1000
"""Rows shown at once; the count of all is told beside them."""

ERROR_CHARS_MAX = 2000
"""Of an error's text: enough for any sentence, no place for a whole body."""


class Parked(Struct, frozen=True):
    """One row."""

    stream: str
    epoch: int
    seq: int
    id: bytes
    type: str
    key: str
    ts_ms: int
    trace: bytes
    body: bytes
    handler: str
    error_class: str
    error: str
    attempts: int
    parked_ms: int

    @property
    def event(self) -> Event:
        """The event as it came; its place in the chain was checked then and is not kept."""
        return Event(
            *(self.stream, self.epoch, self.seq, 0, NO_HASH, NO_HASH, self.id),
            *(self.type, self.key, self.ts_ms, self.trace, self.body),
        )


class Summary(Struct, frozen=True):
    """One row as a list shows it: without what the event says."""

    stream: str
    epoch: int
    seq: int
    id: bytes
    type: str
    key: str
    handler: str
    error_class: str
    error: str
    attempts: int
    parked_ms: int


_SUMMARY = (
    "SELECT stream, epoch, seq, id, type, key, handler, error_class, error, attempts, parked_ms"
    " FROM mlp_parked ORDER BY parked_ms, stream, seq LIMIT :most"
)
_ALL = (
    "SELECT stream, epoch, seq, id, type, key, ts_ms, trace, body, handler, error_class, error,"
    " attempts, parked_ms FROM mlp_parked WHERE id = :id"
)


def described(error: BaseException) -> tuple[str, str]:
    """An error's class and its text, for the row; cut, since it is shown in a terminal.

    No column holds a lone surrogate, which a file's name or another's message may bring: escaped.
    """
    text = error.detail if isinstance(error, MeshError) else str(error)
    storable = text.encode("utf-8", "backslashreplace").decode()
    return type(error).__name__, storable[:ERROR_CHARS_MAX]


def insert(
    tx: Transaction, event: Event, handler: str, why: tuple[str, str], attempts: int
) -> None:
    """Set an event aside, as part of the commit that moves the cursor past it."""
    tx.execute(
        "INSERT INTO mlp_parked (stream, epoch, seq, id, type, key, ts_ms, trace, body, handler,"
        " error_class, error, attempts, parked_ms) VALUES (:stream, :epoch, :seq, :id, :type, :key,"
        " :ts_ms, :trace, :body, :handler, :error_class, :error, :attempts, :now)"
        " ON CONFLICT (stream, epoch, seq) DO UPDATE SET attempts = excluded.attempts,"
        " error_class = excluded.error_class, error = excluded.error",
        stream=event.stream,
        epoch=event.epoch,
        seq=event.seq,
        id=event.id,
        type=event.type,
        key=event.key,
        ts_ms=event.ts_ms,
        trace=event.trace,
        body=event.body,
        handler=handler,
        error_class=why[0],
        error=why[1],
        attempts=attempts,
        now=clock.now_ms(),
    )


async def listed(database: Database) -> tuple[int, list[Summary]]:
    """How many there are, and the oldest LISTED_MAX."""
    count = database.read.one(int, "SELECT count(*) FROM mlp_parked") or 0
    return count, await database.scan(Summary, _SUMMARY, most=LISTED_MAX)


def count(read: Reader, stream: str) -> int:
    """How many of a stream are set aside, counted up to LISTED_MAX."""
    found = read.one(
        int,
        "SELECT count(*) FROM (SELECT 1 FROM mlp_parked WHERE stream = :stream LIMIT :most)",
        stream=stream,
        most=LISTED_MAX,
    )
    return found or 0


async def recent_ages_s(database: Database, window_s: float, most: int) -> list[float]:
    """How long ago the newest were parked, oldest first, within the window."""
    if database.read.one(int, "SELECT 1 FROM mlp_parked LIMIT 1") is None:
        return []
    now = clock.now_ms()
    rows = await database.scan(
        int,
        "SELECT parked_ms FROM mlp_parked WHERE parked_ms > :since AND parked_ms <= :now"
        " ORDER BY parked_ms DESC LIMIT :most",
        since=now - int(window_s * clock.MS_PER_S),
        now=now,
        most=most,
    )
    return [(now - at_ms) / clock.MS_PER_S for at_ms in reversed(rows)]


def found(read: Reader | Transaction, about: bytes) -> Parked:
    """The row with this event id. Raises: NotFound."""
    row = read.one(Parked, _ALL, id=about)
    if row is None:
        raise NotFound(
            f"no parked event has the id {clock.uuid_text(about)}",
            code="not-parked",
            hint="mesh events parked ls",
        )
    return row


def remove(tx: Transaction, about: bytes) -> Parked:
    """Take the row away; returns what it was. Raises: NotFound."""
    row = found(tx, about)
    tx.execute("DELETE FROM mlp_parked WHERE id = :id", id=about)
    return row


def count_failure(tx: Transaction, about: bytes, why: tuple[str, str]) -> None:
    """Offered again, failed again: the row stays and says so."""
    tx.execute(
        "UPDATE mlp_parked SET attempts = attempts + 1, error_class = :error_class,"
        " error = :error WHERE id = :id",
        error_class=why[0],
        error=why[1],
        id=about,
    )


def plain(row: Parked | Summary) -> dict[str, object]:
    """A row as JSON shows it."""
    shown: dict[str, object] = {
        "id": clock.uuid_text(row.id),
        "stream": row.stream,
        "epoch": row.epoch,
        "sequence": str(row.seq),
        "type": row.type,
        "subject": row.key,
        "handler": row.handler,
        "attempts": row.attempts,
        "error_class": row.error_class,
        "error": row.error,
        "parked": clock.iso(row.parked_ms),
    }
    if isinstance(row, Parked):
        trace = _trace(row.trace)
        came = telemetry.parse_traceparent(trace.traceparent)
        shown |= {
            "time": clock.iso(row.ts_ms),
            "trace_id": came.trace_id if came else None,
            "traceparent": trace.traceparent or None,
            "correlationid": trace.correlation or None,
            "causationid": trace.cause or None,
            "data": _data(row.body),
        }
    return shown


def _trace(raw: bytes) -> Trace:
    """Where it comes from; nowhere, if it was set aside because that cannot be read."""
    try:
        return codec.decode(raw, Trace)
    except InvalidInput:
        return Trace()


def _data(raw: bytes) -> object:
    """What it says: as JSON, or as text if it was set aside because it is none."""
    try:
        return codec.read_json(raw)
    except InvalidInput:
        return raw.decode("utf-8", "replace")
