"""A consumer's half of one stream, as a pure function (R7, R9, R10, R15).

DETACHED → ATTACHING → {WAITING | CATCHUP | LIVE}; a newer epoch leads through REWIND. The feed is a
doorbell that usually brings the goods; whatever it does not bring is asked for by position. Only
events that directly extend the inbox's own cursor are ever handed to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mesh.buses.contract import ORIGIN, Applied, Event, Position
from mesh.buses.zmq.protocol.frames import (
    Attach,
    Attached,
    Batch,
    Beat,
    Committed,
    Evt,
    Get,
    Reset,
)
from mesh.buses.zmq.protocol.lineage import base_of, extends, intact, newest, replaced
from mesh.buses.zmq.protocol.subscription import (
    BUFFER_BYTES_MAX,
    BUFFER_EVENTS_MAX,
    Apply,
    Consumer,
    CursorRead,
    FromInbox,
    Handled,
    InboxFailed,
    Input,
    Notice,
    Noticed,
    Output,
    ReadCursor,
    Start,
    Step,
    Verdict,
)
from mesh.buses.zmq.protocol.timing import (
    POLL_S,
    REPLY_S,
    REPORT_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    SILENT_S,
    Begin,
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

APPLY_EVENTS_MAX = 256
"""Events handed to the inbox at once, so that they can share its transaction."""

GET_BYTES = 512 * 1024
"""Bytes asked for at once: about a millisecond of the bus's time."""


def step(state: Consumer, event: Input, now: float) -> Step:  # noqa: C901, PLR0911, PLR0912  one arm an input
    """What one input does. `now` is monotonic seconds."""
    match event:
        case CursorRead() | Noticed() | Handled() | InboxFailed():
            return _answered(replace(state, busy=False), event, now)
        case Evt():
            return _news(state, event, now)
        case Beat():
            return _beat(state, event, now)
        case Tick():
            return _tick(state, now)
        case Begin(session) if state.phase == "detached":
            return _begin(state, session)
        case Reborn() if state.phase != "detached":
            return _detach(replace(state, attempt=0), 0.0)
        case Unsent() if state.phase not in {"detached", "fenced"}:
            return _detach(state, backoff_s(state.attempt))
        case Begin() | Reborn() | Unsent():
            return state, ()
    if event.session != state.session:
        return state, ()
    match event:
        case Attached() if state.phase == "attaching" and state.asked_at is not None:
            return _attached(state, event, now)
        case Batch() if state.attached and event.req == state.req and state.asked_at is not None:
            return _batch(state, event, now)
        case Reset() if state.asked_at is None or event.req != state.req:
            return state, ()
        case Reset(reason="PROTO"):
            return _detach(state, backoff_s(0))
        case Reset(reason="TRIMMED") if state.attached:
            return _detach(state, backoff_s(0))
        case Reset(reason="TRIMMED"):
            place = state.cursor.link.seq + 1
            why = f"TRIMMED: the bus no longer holds event {place} of {state.stream}"
            return _fence(state, f"{why}; {state.name} must be restored from a newer backup")
        case Reset(reason=reason):
            return _fence(state, f"{reason}: {state.stream} is refused to {state.name}")
        case _:
            return state, ()


# The conversation


def _begin(state: Consumer, session: int) -> Step:
    state = replace(
        state,
        phase="attaching",
        session=session,
        req=0,
        attempt=state.attempt + 1,
        asked_at=None,
        buffer=(),
        buffer_bytes=0,
        ahead=(),
        ahead_bytes=0,
    )
    if state.busy:
        return state, ()
    return replace(state, busy=True), (ReadCursor(),)


def _attached(state: Consumer, frame: Attached, now: float) -> Step:
    merged = {each.epoch: each for each in (*state.epochs, *frame.epochs)}
    state = replace(
        state,
        attempt=0,
        epochs=tuple(merged[number] for number in sorted(merged)),
        head=frame.head,
        tail_seq=frame.tail_seq,
        asked_at=None,
        heard_at=now,
        polled_at=now,
        reported=state.cursor.link.seq,
        reported_at=now,
    )
    return _learn(state, now)


def _learn(state: Consumer, now: float) -> Step:
    """Every newer epoch is noted by the inbox, oldest first, before anything is applied (R9)."""
    for epoch in state.epochs:
        if epoch.epoch > state.cursor.known_epoch:
            return replace(state, phase="rewind", busy=True), (
                Notice(epoch, base_of(epoch, state.epochs)),
            )
    return _place(state, now)


def _tick(state: Consumer, now: float) -> Step:
    if state.asked_at is not None and now - state.asked_at > REPLY_S:
        return _detach(state, backoff_s(state.attempt))
    if not state.attached:
        return state, ()
    if now - state.heard_at > SILENT_S:
        return _detach(state, 0.0)
    if state.asked_at is None and now - state.polled_at > POLL_S:
        return _get(state, now)
    return _go_on(state, now)


def _detach(state: Consumer, after_s: float) -> Step:
    state = replace(state, phase="detached", fence="", asked_at=None)
    return state, (Reconnect(after_s),)


def _fence(state: Consumer, why: str) -> Step:
    return replace(state, phase="fenced", fence=why, asked_at=None), ()


# What the bus has


def _beat(state: Consumer, beat: Beat, now: float) -> Step:
    state = replace(state, heard_at=now)
    known = newest(state.epochs)
    if beat.epoch > known and (state.attached or state.phase == "fenced"):
        return _detach(state, 0.0)
    if beat.epoch < known or not state.attached:
        return state, ()
    return _place(replace(state, head=beat.head), now)


def _news(state: Consumer, evt: Evt, now: float) -> Step:
    if not state.attached or replaced(state.epochs, evt.head.epoch, evt.head.seq):
        return state, ()
    state, verdict = _take(state, evt.events)
    if verdict != "taken":
        state = _set_by(state, evt.events)
    if evt.head.seq > state.head.seq:
        state = replace(state, head=evt.head)
    return _place(state, now)


def _set_by(state: Consumer, events: tuple[Event, ...]) -> Consumer:
    """Keep what came early until answers have closed the gap before it.

    What the feed shows may be ahead of what the bus serves by all that is being committed (R5): who
    has missed something would else ask for everything from then on.
    """
    held = state.ahead_bytes + sum(len(each.body) for each in events)
    if len(state.ahead) + len(events) > BUFFER_EVENTS_MAX or held > BUFFER_BYTES_MAX:
        return state
    return replace(state, ahead=(*state.ahead, *events), ahead_bytes=held)


def _batch(state: Consumer, batch: Batch, now: float) -> Step:
    state = replace(state, asked_at=None, polled_at=now, head=batch.head)
    if batch.head.epoch > newest(state.epochs):
        return _detach(state, 0.0)
    state, verdict = _take(state, batch.events)
    place = f"event {state.end.seq + 1} of {state.stream}"
    if verdict == "other" and state.buffer:
        return _detach(state, 0.0)
    if verdict == "other":
        return _fence(state, f"FORK: {place} does not continue what {state.name} has applied")
    if verdict == "damaged":
        return _fence(state, f"DAMAGED: {place} does not match its hash")
    if verdict == "gap" or (not batch.events and batch.head.seq > state.end.seq):
        return _missing(state, batch, place)
    if state.ahead and state.ahead[0].seq <= state.end.seq + 1:
        ahead, state = state.ahead, replace(state, ahead=(), ahead_bytes=0)
        state, _ = _take(state, ahead)
    if state.buffer and state.end.seq > state.head.seq:
        state = replace(state, head=state.end)
    return _place(state, now)


def _missing(state: Consumer, batch: Batch, place: str) -> Step:
    """Who is at the origin begins with what there still is (R14); for others it is damage."""
    first = batch.events[0] if batch.events else None
    begins = first is not None and first.seq == state.tail_seq and state.end == ORIGIN
    if first is None or not begins or first.epoch > newest(state.epochs) or not intact(first):
        return _fence(state, f"DAMAGED: {place} is missing at the bus")
    return replace(state, busy=True), (Start(first.previous),)


def _take(state: Consumer, events: Sequence[Event]) -> tuple[Consumer, Verdict]:
    """Buffer what directly continues, up to the first that does not (R7)."""
    taken: list[Event] = []
    end, held = state.end, state.buffer_bytes
    verdict: Verdict = "taken"
    room = BUFFER_EVENTS_MAX - len(state.buffer)
    current = newest(state.epochs)
    for event in events:
        if event.seq <= end.seq or (event.epoch < current and _fenced(state, event)):
            continue
        if event.epoch > current:
            verdict = "gap"
        elif not extends(event, end):
            verdict = "other" if event.seq == end.seq + 1 else "gap"
        elif len(taken) >= room or held > BUFFER_BYTES_MAX:
            verdict = "full"
        elif not intact(event):
            verdict = "damaged"
        else:
            taken.append(event)
            end = event.link
            held += len(event.body)
            continue
        break
    if taken:
        state = replace(state, buffer=(*state.buffer, *taken), buffer_bytes=held)
    return state, verdict


def _fenced(state: Consumer, event: Event) -> bool:
    """True if a newer epoch has replaced the event (R7)."""
    known = state.cursor
    beyond = event.epoch < known.known_epoch and event.seq > known.known_base
    return beyond or replaced(state.epochs, event.epoch, event.seq)


def _place(state: Consumer, now: float) -> Step:
    """Which phase the head at the bus puts this side in."""
    cursor, head = state.cursor.link, state.head
    if head.epoch > newest(state.epochs):
        return _detach(state, 0.0)
    if head.seq < cursor.seq:
        return _go_on(replace(state, phase="waiting"), now)
    if head.seq == cursor.seq and head != cursor:
        return _fence(state, f"FORK: {state.name} has applied another event {head.seq}")
    phase: Literal["catchup", "live"] = "catchup" if head.seq > state.end.seq else "live"
    return _go_on(replace(state, phase=phase), now)


# What the inbox does


def _answered(state: Consumer, event: FromInbox, now: float) -> Step:
    match event:
        case Noticed(cursor) if cursor.known_epoch > state.cursor.known_epoch:
            state = replace(state, cursor=cursor)
        case CursorRead(cursor):
            state = replace(state, cursor=cursor)
        case Handled(applied):
            state = _applied(state, applied, now)
        case _:
            return _failed(state)
    if state.phase == "attaching" and state.asked_at is None:
        mine = state.cursor
        attach = Attach(state.session, state.name, state.stream, mine.link, mine.known_epoch)
        return replace(state, asked_at=now), (Send(attach),)
    if state.phase == "rewind":
        return _learn(state, now)
    if state.phase == "astray":
        return _detach(state, 0.0)
    return _go_on(state, now) if state.attached else (state, ())


def _applied(state: Consumer, applied: Applied, now: float) -> Consumer:
    """Drop from the buffer what has been applied; a cursor that is nowhere in it is a twin's."""
    link, retry_s = applied.cursor.link, applied.retry_after_s
    if link == state.cursor.link:
        pause_s = RETRY_FIRST_S if retry_s is None else retry_s
        return replace(state, cursor=applied.cursor, not_before=now + pause_s)
    state = replace(state, cursor=applied.cursor, failures=0, not_before=now + (retry_s or 0.0))
    count = link.seq - state.buffer[0].seq + 1 if state.buffer else 0
    if 0 < count <= len(state.buffer) and state.buffer[count - 1].link == link:
        gone = sum(len(each.body) for each in state.buffer[:count])
        held = state.buffer_bytes - gone
        return replace(state, buffer=state.buffer[count:], buffer_bytes=held)
    return replace(state, phase="astray") if state.attached else state


def _failed(state: Consumer) -> Step:
    state = replace(state, failures=state.failures + 1)
    if state.phase in {"detached", "fenced"}:
        return state, ()
    return _detach(state, backoff_s(state.failures - 1, RETRY_FIRST_S, RETRY_MAX_S))


def _go_on(state: Consumer, now: float) -> Step:
    """Hand over what is buffered, ask for what is missing, report how far the inbox is."""
    outputs: list[Output] = []
    if state.buffer and not state.busy and now >= state.not_before:
        state = replace(state, busy=True)
        outputs.append(Apply(state.buffer[:APPLY_EVENTS_MAX]))
    roomy = (
        len(state.buffer) <= BUFFER_EVENTS_MAX // 2 and state.buffer_bytes <= BUFFER_BYTES_MAX // 2
    )
    if state.phase == "catchup" and state.asked_at is None and roomy:
        state, asked = _get(state, now)
        outputs.extend(asked)
    link = state.cursor.link
    if link.seq != state.reported and now - state.reported_at >= REPORT_S:
        state = replace(state, reported=link.seq, reported_at=now)
        place = Position(link.epoch, link.seq)
        outputs.append(
            Send(Committed(state.session, state.stream, place, state.cursor.known_epoch))
        )
    return state, tuple(outputs)


def _get(state: Consumer, now: float) -> Step:
    state = replace(state, req=state.req + 1, asked_at=now)
    end = state.end
    rows = max(1, min(APPLY_EVENTS_MAX, BUFFER_EVENTS_MAX - len(state.buffer)))
    after = Position(end.epoch, end.seq)
    return state, (Send(Get(state.session, state.req, state.stream, after, rows, GET_BYTES)),)
