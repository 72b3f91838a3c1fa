"""Everything that one screen may show, as values. Read this first.

Text in here is data from anywhere: it is made fit for a terminal where it is drawn.
"""

from __future__ import annotations

from msgspec import Struct

from mesh.orchestrator.contract import Status
from mesh.text import Part
from mesh.tracing.stories import Summary
from mesh.tracing.waterfall import Waterfall


class Follower(Struct, frozen=True):
    """One consumer of a stream, by what it last told the bus: `sequence` is applied in `epoch`."""

    name: str
    epoch: int
    sequence: int
    lag: int


class Stream(Struct, frozen=True):
    """One producer's stream."""

    name: str
    epoch: int
    head: int
    per_s: float | None = None
    followers: tuple[Follower, ...] = ()


class Told(Struct, frozen=True):
    """One event. `arrival` counts all that the bus has taken; `body` is cut JSON."""

    arrival: int
    at_ms: int
    type: str
    stream: str
    epoch: int
    sequence: int
    subject: str
    id: str
    trace_id: str
    body: str


class LogLine(Struct, frozen=True):
    """One line of a log. `number` counts the lines seen here; `level` is None where none is told."""

    number: int
    at_ms: int | None
    service: str
    level: str | None
    message: str
    facts: str = ""
    trace_id: str = ""


class Details(Struct, frozen=True):
    """Why a service is in its state: titles with what there is to say, then its last lines."""

    name: str
    facts: tuple[tuple[str, tuple[Part, ...]], ...]
    lines: tuple[str, ...] = ()


class Frame(Struct, frozen=True):
    """One moment. `status` is what `mesh ps --json` prints.

    Attributes:
        parked: (consumer, stream, sequence) of events that a consumer has given up on for now.
        told, logs: oldest first. traces: newest first.
        dropped, missed_bytes: events, and bytes of logs, that came too fast to be read here.
        quiet: what is missing, and why: the bus does not answer, …
    """

    status: Status
    at_ms: int = 0
    streams: tuple[Stream, ...] = ()
    parked: frozenset[tuple[str, str, int]] = frozenset()
    told: tuple[Told, ...] = ()
    traces: tuple[Summary, ...] = ()
    waterfall: Waterfall | None = None
    logs: tuple[LogLine, ...] = ()
    details: Details | None = None
    dropped: int = 0
    missed_bytes: int = 0
    quiet: str = ""


def mark(told: Told, follower: Follower, parked: frozenset[tuple[str, str, int]]) -> str:
    """Whether a consumer has applied an event: `+` done, `-` pending, `x` parked."""
    if (follower.name, told.stream, told.sequence) in parked:
        return "x"
    applied = (follower.epoch, follower.sequence) >= (told.epoch, told.sequence)
    return "+" if applied else "-"
