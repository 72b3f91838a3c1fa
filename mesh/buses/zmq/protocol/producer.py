"""The producer's relay: copies an outbox to the bus, as a pure function (R1, R3, R4).

INIT -HELLO→ GREETING -WELCOME→ STREAMING; a lost conversation goes back to INIT, FENCED needs an
operator or a new life of the bus. Nothing is kept here that the outbox does not hold: whatever
goes wrong, the next conversation starts from the bus's durable head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh.buses.contract import Event, OutboxState, Position
from mesh.buses.zmq.protocol.frames import (
    Ack,
    Fenced,
    Hello,
    Nak,
    Ping,
    Put,
    Recheck,
    ToProducer,
    Welcome,
)
from mesh.buses.zmq.protocol.lineage import size
from mesh.buses.zmq.protocol.timing import (
    FRAME_BYTES_MAX,
    LOST_S,
    PAUSE_S,
    PING_S,
    REPLY_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    STALL_S,
    Begin,
    Grown,
    Reborn,
    Reconnect,
    Send,
    Tick,
    Unsent,
    backoff_s,
)
from mesh.codec import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

READ_ROWS_MAX = 256
"""Outbox rows asked for at once: as many as the bus commits at once."""

PUT_BYTES_MAX = 256 * 1024
"""Of one PUT, unless it is one large event: a fraction of a millisecond to encode and send."""

READ_BYTES_MAX = FRAME_BYTES_MAX + PUT_BYTES_MAX
"""Bytes asked for at once: with room for the largest event beyond an ordinary PUT, so that a
shorter answer means that there is no more."""


class ReadState(Struct, frozen=True):
    """Output: read the outbox's state afresh; answer with `StateRead` of the same numbers."""

    session: int
    req: int


class StateRead(Struct, frozen=True):
    """Input: what the outbox announces."""

    session: int
    req: int
    outbox: OutboxState


class ReadOutbox(Struct, frozen=True):
    """Output: read events beyond `after`; answer with `Rows` of the same `after`."""

    after: int
    rows_max: int
    bytes_max: int


class Rows(Struct, frozen=True):
    """Input: what the outbox holds beyond `after`, within the bounds asked for."""

    after: int
    events: tuple[Event, ...]


class ReadFailed(Struct, frozen=True):
    """Input: the outbox could not be read just now."""


class Acknowledged(Struct, frozen=True):
    """Output: tell the outbox that the bus holds everything up to here."""

    position: Position


class Producer(Struct, frozen=True):
    """Where the relay of one outbox stands."""

    stream: str
    phase: Literal["init", "greeting", "streaming", "fenced"] = "init"
    fence: str = ""
    session: int = 0
    req: int = 0
    credit_msgs: int = 0
    credit_bytes: int = 0
    sent: int = 0
    acked: int = 0
    flights: tuple[tuple[int, int], ...] = ()
    asked: ReadOutbox | None = None
    grown: bool = False
    attempt: int = 0
    failures: int = 0
    said_at: float | None = None
    heard_at: float = 0.0
    moved_at: float = 0.0
    pinged_at: float = 0.0
    not_before: float = 0.0


Input = Begin | StateRead | Rows | ReadFailed | Grown | Unsent | Reborn | Tick | ToProducer
Output = ReadState | ReadOutbox | Acknowledged | Send | Reconnect
Step = tuple[Producer, tuple[Output, ...]]


def step(state: Producer, event: Input, now: float) -> Step:  # noqa: C901, PLR0911  one arm an input
    """What one input does. `now` is monotonic seconds."""
    match event:
        case Begin(session) if state.phase == "init":
            return _ask_state(replace(state, session=session, req=0, attempt=state.attempt + 1))
        case StateRead():
            return _greet(state, event, now)
        case Rows():
            return _send(state, event, now)
        case Grown():
            return _pump(replace(state, grown=True), now)
        case Tick():
            return _tick(state, now)
        case Reborn() if state.phase != "init":
            return _lose(replace(state, attempt=0), 0.0)
        case ReadFailed():
            return _unread(replace(state, asked=None, failures=state.failures + 1))
        case Unsent() if state.phase in {"greeting", "streaming"}:
            return _lose(replace(state, asked=None), backoff_s(state.attempt))
        case Begin() | Unsent() | Reborn():
            return state, ()
    if event.session != state.session or state.phase in {"init", "fenced"}:
        return state, ()
    return _hear(replace(state, heard_at=now), event, now)


def _hear(state: Producer, frame: ToProducer, now: float) -> Step:  # noqa: PLR0911  one arm a frame
    greeting = state.phase == "greeting"
    match frame:
        case Welcome(req=req) if greeting and req == state.req:
            return _stream(state, frame, now)
        case Recheck(req=req) if req == state.req:
            return _ask_state(state)
        case Fenced(req=0, reason=reason, detail=detail):
            return _fence(state, f"{reason}: {detail}")
        case Fenced(req=req, reason=reason, detail=detail) if greeting and req == state.req:
            return _fence(state, f"{reason}: {detail}")
        case Ack(position=position) if not greeting:
            return _acknowledge(state, position, now)
        case Nak() if not greeting:
            return _refused(state, frame, now)
        case _:
            return state, ()


def _ask_state(state: Producer) -> Step:
    """A HELLO carries a fresh reading, so that it cannot look older than what was sent (R4)."""
    state = replace(state, phase="greeting", req=state.req + 1, said_at=None)
    return state, (ReadState(state.session, state.req),)


def _greet(state: Producer, read: StateRead, now: float) -> Step:
    if (
        state.phase != "greeting"
        or state.said_at is not None
        or (read.session, read.req) != (state.session, state.req)
    ):
        return state, ()
    mine = read.outbox
    hello = Hello(
        state.session,
        state.req,
        state.stream,
        mine.epochs,
        mine.head,
        mine.tail_seq,
        before=mine.before,
    )
    return replace(state, said_at=now), (Send(hello),)


def _stream(state: Producer, frame: Welcome, now: float) -> Step:
    state = replace(
        state,
        phase="streaming",
        credit_msgs=frame.credit_msgs,
        credit_bytes=frame.credit_bytes,
        sent=frame.head.seq,
        acked=frame.head.seq,
        flights=(),
        grown=True,
        attempt=0,
        moved_at=now,
        pinged_at=now,
        not_before=now,
    )
    state, outputs = _pump(state, now)
    known = Acknowledged(Position(frame.head.epoch, frame.head.seq))
    return state, ((known, *outputs) if frame.head.seq else outputs)


def _pump(state: Producer, now: float) -> Step:
    """Ask the outbox for what comes next, if there may be something and there is credit for it."""
    rows = min(READ_ROWS_MAX, state.credit_msgs - (state.sent - state.acked))
    room = min(READ_BYTES_MAX, state.credit_bytes - sum(held for _, held in state.flights))
    if (
        state.phase != "streaming"
        or state.asked is not None
        or not state.grown
        or now < state.not_before
        or rows <= 0
        or room <= 0
    ):
        return state, ()
    asked = ReadOutbox(state.sent, rows, room)
    return replace(state, asked=asked, grown=False), (asked,)


def _send(state: Producer, rows: Rows, now: float) -> Step:
    asked, events = state.asked, rows.events
    if asked is None or rows.after != asked.after:
        return state, ()
    state = replace(state, asked=None, failures=0)
    if state.phase != "streaming" or rows.after != state.sent:
        return _pump(replace(state, grown=True), now)
    if not events:
        return _pump(state, now)
    if events[0].seq != state.sent + 1:
        why = (
            f"the bus needs event {state.sent + 1}, which the outbox no longer keeps: its log is"
            " older than that. Stop the bus and remove its log: it is rebuilt from the outboxes"
        )
        return _fence(state, why)
    sizes = [size(each) for each in events]
    if max(sizes) > FRAME_BYTES_MAX:
        large = events[sizes.index(max(sizes))]
        return _fence(state, f"TOOBIG: event {large.seq} is over {FRAME_BYTES_MAX} bytes")
    total = sum(sizes)
    more = len(events) >= asked.rows_max or total > asked.bytes_max - FRAME_BYTES_MAX
    state = replace(
        state,
        moved_at=now if state.sent == state.acked else state.moved_at,
        sent=events[-1].seq,
        flights=(*state.flights, (events[-1].seq, total)),
        grown=state.grown or more,
    )
    puts = tuple(Send(Put(state.session, part)) for part in _portions(events, sizes))
    state, outputs = _pump(state, now)
    return state, (*puts, *outputs)


def _portions(events: Sequence[Event], sizes: Sequence[int]) -> list[tuple[Event, ...]]:
    """Runs of at most PUT_BYTES_MAX, or of one event."""
    runs: list[tuple[Event, ...]] = []
    start, held = 0, 0
    for index, each in enumerate(sizes):
        if index > start and held + each > PUT_BYTES_MAX:
            runs.append(tuple(events[start:index]))
            start, held = index, 0
        held += each
    runs.append(tuple(events[start:]))
    return runs


def _acknowledge(state: Producer, position: Position, now: float) -> Step:
    if not state.acked < position.seq <= state.sent:
        return state, ()
    flights = tuple(flight for flight in state.flights if flight[0] > position.seq)
    state = replace(state, acked=position.seq, flights=flights, moved_at=now)
    state, outputs = _pump(state, now)
    return state, (Acknowledged(position), *outputs)


def _refused(state: Producer, nak: Nak, now: float) -> Step:
    match nak.reason:
        case "EPOCH":
            return _lose(state, 0.0)
        case "TOOBIG":
            return _fence(state, f"TOOBIG: the bus refuses event {nak.head.seq + 1}")
        case "NOSPACE" | "BUSY":
            state = replace(state, not_before=now + PAUSE_S)
        case _ if now < state.not_before:
            return state, ()
        case _:
            pass
    return _go_back(state, max(nak.head.seq, state.acked), now)


def _go_back(state: Producer, seq: int, now: float) -> Step:
    """Send again from here on; what the bus has already it drops (R3)."""
    if seq > state.sent:
        return state, ()
    return _pump(replace(state, sent=seq, flights=(), grown=True, moved_at=now), now)


def _tick(state: Producer, now: float) -> Step:
    if state.phase == "greeting" and state.said_at is not None and now - state.said_at > REPLY_S:
        return _lose(state, backoff_s(state.attempt))
    if state.phase != "streaming":
        return state, ()
    if now - state.heard_at > LOST_S:
        return _lose(state, backoff_s(state.attempt))
    outputs: tuple[Output, ...] = ()
    if now - max(state.heard_at, state.pinged_at) > PING_S:
        state = replace(state, pinged_at=now)
        outputs = (Send(Ping(state.session)),)
    if state.sent > state.acked and now - state.moved_at > STALL_S:
        state, again = _go_back(state, state.acked, now)
    else:
        state, again = _pump(state, now)
    return state, (*outputs, *again)


def _unread(state: Producer) -> Step:
    """The outbox is away: its own waits, which grow as long as it is."""
    if state.phase not in {"greeting", "streaming"}:
        return state, ()
    return _lose(state, backoff_s(state.failures - 1, RETRY_FIRST_S, RETRY_MAX_S))


def _lose(state: Producer, after_s: float) -> Step:
    return replace(state, phase="init", fence="", said_at=None), (Reconnect(after_s),)


def _fence(state: Producer, why: str) -> Step:
    return replace(state, phase="fenced", fence=why), ()
