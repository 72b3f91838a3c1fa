"""What must hold of events in any mesh, whatever its services are about.

Every event told is in its producer's outbox or in the bus's log, chained, each once; and for every
subscriber what was published is delivered, pending, retrying or parked, counted row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.bus import NO_HASH, chain_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mesh.database import Copies, Value

Row = tuple["Value", ...]
Offence = tuple[str, str]
"""Who, and what is wrong."""

_CHAIN = "seq, epoch, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body"


class Source(Struct, frozen=True):
    """Where a stream's events are kept: a table, and what chooses the stream's rows in it."""

    table: str
    where: str = "1"


OUTBOX = Source("outbox")
HOSTED = Source("outbox", "stream = :stream")
LOG = Source("log", "stream = :stream")


def chained(rows: Iterable[Row]) -> Iterator[Offence]:
    """What breaks the chain of these events; each row as `events` gives it."""
    last: tuple[int, int, bytes] | None = None
    for row in rows:
        seq, epoch, prev_epoch, prev_hash, found, *rest = row
        assert isinstance(seq, int)
        place = f"event {seq}"
        if last is not None and seq != last[1] + 1:
            yield place, f"follows event {last[1]}: what is between them is gone"
        elif last is not None and (prev_epoch, prev_hash) != (last[0], last[2]):
            yield place, "does not go on from the event before it"
        made = chain_hash(prev_hash, epoch, seq, *rest)  # type: ignore[arg-type]  # as stored
        if made != found:
            yield place, "is not what its hash was made of"
        last = (epoch, seq, found)  # type: ignore[assignment]  # as stored


def events(copy: Copies, source: Source, stream: str) -> Iterator[Row]:
    """Every event that is kept there, in order."""
    return copy.rows(
        f"SELECT {_CHAIN} FROM {source.table} WHERE {source.where} ORDER BY seq",  # noqa: S608  our own tables
        {"stream": stream},
    )


def ends_at_head(log: Copies, stream: str) -> Iterator[Offence]:
    """Whether the last event kept in the log is the one that its head names."""
    named = {"stream": stream}
    heads, _ = log.ask("SELECT head_seq, head_hash FROM stream WHERE stream = :stream", named, 1)
    last, _ = log.ask(
        "SELECT seq, hash FROM log WHERE stream = :stream ORDER BY seq DESC LIMIT 1", named, 1
    )
    if last and heads and last[0] != heads[0]:
        yield f"event {_int(last[0][0])}", f"is the last kept, its head is {_int(heads[0][0])}"


def differs(copy: Copies, source: Source, stream: str, most: int) -> tuple[list[Row], int]:
    """Events that the bus's log, which is beside the copy, has otherwise than their producer.

    Told by their hashes: that these are the hashes of what is there, `chained` has seen.
    """
    return copy.ask(
        f"SELECT 'event ' || o.seq, 'is another one in the log' FROM {source.table} o"  # noqa: S608  our own tables
        f" JOIN bus.log l ON l.stream = :stream AND l.seq = o.seq"
        f" WHERE {source.where.replace('stream', 'o.stream', 1)} AND l.hash <> o.hash",
        {"stream": stream},
        most,
    )


def beyond(
    copy: Copies, source: Source, stream: str, before_ms: int, most: int
) -> tuple[list[Row], int]:
    """Events in the bus's log, which is beside the copy, that their producer does not have (any more).

    Args:
        before_ms: events that bear a later moment are left out.
    """
    if source is OUTBOX:
        last, newest = "SELECT seq FROM mlp_head", "SELECT max(epoch) FROM mlp_epoch"
    else:
        last = "SELECT seq FROM head WHERE stream = :stream"
        newest = "SELECT max(epoch) FROM epoch WHERE stream = :stream"
    return copy.ask(
        "SELECT 'event ' || seq, 'is in the log, but its producer has none of it' FROM bus.log"  # noqa: S608  our own tables
        f" WHERE stream = :stream AND seq > ({last}) AND epoch = ({newest}) AND ts_ms < :before_ms",
        {"stream": stream, "before_ms": before_ms},
        most,
    )


class Sums(Struct, frozen=True):
    """What became of a stream's events with one subscriber."""

    published: int
    delivered: int
    pending: int
    retrying: int
    parked: int

    def __str__(self) -> str:
        """As the ledger reads."""
        if self.delivered == self.published:
            return f"all {self.published:,} delivered" if self.published else "none was published"
        return (
            f"{self.published:,} published = {self.delivered:,} delivered + {self.pending:,} pending"
            f" + {self.retrying} retrying + {self.parked:,} parked"
        )

    @property
    def missing(self) -> int:
        """Published, and in none of the other columns."""
        others = self.delivered + self.pending + self.retrying + self.parked
        return self.published - others


class Standing(Struct, frozen=True):
    """A subscriber's cursor in one stream, and what was parked before it."""

    stream: str
    seq: int
    hash: bytes
    known_epoch: int
    retrying: bool
    parked: tuple[int, ...]


def standings(copy: Copies) -> list[Standing]:
    """Every cursor of a service."""
    rows = copy.rows(
        "SELECT stream, seq, hash, known_epoch, crash_attempts > 0 AND attempt_seq > seq"
        " FROM mlp_cursor ORDER BY stream",
        {},
    )
    return [
        Standing(*row, _parked(copy, str(row[0])))  # type: ignore[call-arg, arg-type]  # as stored
        for row in list(rows)
    ]


def _parked(copy: Copies, stream: str) -> tuple[int, ...]:
    rows = copy.rows("SELECT seq FROM mlp_parked WHERE stream = :stream", {"stream": stream})
    return tuple(_int(row[0]) for row in rows)


class Stream:
    """One stream as its producer has it, the bus's log beside it where there is one."""

    def __init__(self, copy: Copies, source: Source, name: str, *, logged: bool) -> None:
        """`source` LOG: the copy is of the log itself."""
        self._copy = copy
        self._source = source
        self._params = {"stream": name}
        self._places = [f"FROM {source.table} WHERE {source.where}"]
        self._logged = logged and source is not LOG
        if self._logged:
            self._places.append("FROM bus.log WHERE stream = :stream")

    def head(self) -> tuple[int, int] | None:
        """Its last number and its newest epoch; None if nobody has told it."""
        if self._source is LOG:
            sql = "SELECT head_seq, epoch FROM stream WHERE stream = :stream"
        elif self._source is OUTBOX:
            newest = "(SELECT max(epoch) FROM mlp_epoch)"
            sql = f"SELECT seq, {newest} FROM mlp_head"  # noqa: S608  our own tables
            if self._logged:  # the end of the outbox may be lost
                sql = (
                    f"SELECT max(seq), {newest} FROM (SELECT seq FROM mlp_head UNION ALL"  # noqa: S608  likewise
                    " SELECT head_seq FROM bus.stream"
                    f" WHERE stream = :stream AND head_epoch = {newest})"
                )
        else:
            newest = "SELECT max(epoch) FROM epoch WHERE stream = :stream"
            sql = f"SELECT seq, ({newest}) FROM head WHERE stream = :stream"  # noqa: S608  our own tables
        found, _ = self._copy.ask(sql, self._params, 1)
        return (_int(found[0][0]), _int(found[0][1] or 0)) if found else None

    def pending(self, after: int, head: int) -> int:
        """How many events beyond `after` are kept anywhere."""
        each = (f"SELECT seq {place} AND seq > :after AND seq <= :head" for place in self._places)
        sql = f"SELECT count(*) FROM ({' UNION '.join(each)})"  # noqa: S608  our own tables
        found, _ = self._copy.ask(sql, {**self._params, "after": after, "head": head}, 1)
        return _int(found[0][0])

    def hash_at(self, seq: int) -> Value:
        """The chain's hash at a number, or as the next event remembers it; None: not kept."""
        if seq == 0:
            return NO_HASH
        for place in self._places:
            for column, at in (("hash", seq), ("prev_hash", seq + 1)):
                found, _ = self._copy.ask(
                    f"SELECT {column} {place} AND seq = :seq", {**self._params, "seq": at}, 1
                )
                if found:
                    return found[0][0]
        return None


def conserved(stream: Stream, at: Standing) -> tuple[Sums, list[Offence]] | None:
    """The sums for one subscriber, and what is wrong with them; None: nobody tells that stream."""
    newest = stream.head()
    if newest is None:
        return None
    head, epoch = newest
    waiting = stream.pending(at.seq, head)
    retrying = int(at.retrying and waiting > 0)
    set_aside = sum(seq <= at.seq for seq in at.parked)
    sums = Sums(head, at.seq - set_aside, waiting - retrying, retrying, set_aside)
    name = f"{at.stream} {at.seq}"
    wrong: list[Offence] = []
    if at.seq > head:
        wrong.append((name, f"is beyond what was published, {head}"))
    elif sums.missing:
        wrong.append((name, f"{sums}: {sums.missing} are nowhere"))
    kept = stream.hash_at(at.seq)
    if kept is not None and kept != at.hash and at.known_epoch >= epoch:
        wrong.append((name, "is a place in another history than the producer's"))
    wrong += [
        (f"{at.stream} {seq}", "is parked, but not passed yet") for seq in at.parked if seq > at.seq
    ]
    return sums, wrong


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value
