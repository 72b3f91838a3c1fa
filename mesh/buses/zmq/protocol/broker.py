"""The bus's half of one stream, as a pure function (R4, R5, R6 and the answers of R9, R10, R15).

UNKNOWN -HELLO→ OPEN ⇄ FULL; a fork of the history quarantines the stream until a HELLO brings a
new epoch. `staged` runs ahead of the durable `head` by what is being committed. What is staged is
shown on the feed, since its producer has it on disk until it is acknowledged; only `head` is ever
acknowledged, announced as the stream's, or served.
"""

from __future__ import annotations

from mesh.buses.contract import Event, Link, Position
from mesh.buses.zmq.protocol.frames import (
    Ack,
    Attach,
    Attached,
    Batch,
    Beat,
    Committed,
    Fenced,
    FenceReason,
    Get,
    Hello,
    Nak,
    NakReason,
    Ping,
    Pong,
    Put,
    Recheck,
    Reset,
    ToBus,
    Welcome,
)
from mesh.buses.zmq.protocol.lineage import cut, extends, intact, newest, replaced
from mesh.buses.zmq.protocol.stream import (
    Advance,
    Advanced,
    Append,
    Appended,
    Attachment,
    Failed,
    Gone,
    Input,
    LogRead,
    Outlived,
    Output,
    Publish,
    Quarantine,
    ReadLog,
    Received,
    Record,
    Reply,
    Session,
    Step,
    Stream,
    Trim,
    Verdict,
)
from mesh.buses.zmq.protocol.timing import CREDIT_BYTES, CREDIT_MSGS, REPORT_S
from mesh.codec import replace

SESSIONS_MAX = 8
"""Conversations remembered a stream; twins and remains of crashes. The oldest is forgotten, and
told to greet again when it speaks."""

CONSUMERS_MAX = 64
"""The same for consumers of one stream."""

GET_ROWS_MAX = 256
GET_BYTES_MAX = 768 * 1024
"""What one GET is answered with at most, whatever it asks for, unless it is one large event. A
quarter of a frame is left for names whose characters take several bytes."""


def beat(state: Stream) -> Beat:
    """The stream as a heartbeat shows it."""
    epoch = newest(state.epochs)
    base = next((each.base for each in state.epochs if each.epoch == epoch), 0)
    return Beat(state.name, epoch, base, state.head, state.tail_seq)


def step(state: Stream, event: Input, now: float) -> Step:  # noqa: PLR0911  one arm an input
    """What one input does. `now` is monotonic seconds."""
    match event:
        case Received(peer, frame):
            return _received(state, peer, frame, now)
        case Appended(head):
            return _appended(state, head)
        case Advanced(found):
            return _advanced(state, found)
        case Failed():
            return _failed(state, now)
        case Outlived(seq):
            return _trim(state, seq)
        case LogRead(peer, get, events):
            batch = Batch(get.session, get.req, state.head, events)
            return state, (Reply(peer, batch),)
        case Gone(peer):
            return _forget(state, peer), ()


def _received(state: Stream, peer: bytes, frame: ToBus, now: float) -> Step:
    match frame:
        case Hello():
            return _hello(state, peer, frame)
        case Put():
            return _put(state, peer, frame, now)
        case Ping(session):
            known = _session(state, peer, session) is not None
            answer = Pong(session) if known else Nak(session, "EPOCH", state.head)
            return state, (Reply(peer, answer),)
        case Attach():
            return _attach(state, peer, frame)
        case Get():
            return _get(state, peer, frame)
        case Committed():
            return _committed(state, peer, frame)


def _session(state: Stream, peer: bytes, number: int) -> Session | None:
    return next((s for s in state.sessions if s.peer == peer and s.number == number), None)


def _keep(state: Stream, session: Session) -> Stream:
    others = [s for s in state.sessions if (s.peer, s.number) != (session.peer, session.number)]
    return replace(state, sessions=(*others, session)[-SESSIONS_MAX:])


def _forget(state: Stream, peer: bytes) -> Stream:
    return replace(
        state,
        sessions=tuple(s for s in state.sessions if s.peer != peer),
        consumers=tuple(c for c in state.consumers if c.peer != peer),
    )


# The producer's side


def _hello(state: Stream, peer: bytes, hello: Hello) -> Step:
    """Is this the history I know, and is it as new as what I hold (R4, R6)?

    A stream of which nothing is known begins where its outbox does: after the loss of the log,
    what the outbox no longer keeps has been applied by everybody required.
    """
    known = {each.epoch: each.nonce for each in state.epochs}
    numbers = [each.epoch for each in hello.epochs]
    upwards = numbers and numbers[0] >= 1 and numbers == sorted(set(numbers))
    if not upwards or hello.before.seq > hello.head.seq:
        why = "epochs count upwards from 1, and the head is not before the oldest row"
        return state, (_fenced(peer, hello, "PROTO", why),)
    for each in hello.epochs:
        if known.get(each.epoch, each.nonce) != each.nonce:
            why = f"epoch {each.epoch} of {state.name} is not the one the bus knows"
            return state, (_fenced(peer, hello, "FORK", why),)
    latest = newest(state.epochs)
    if numbers[-1] < latest:
        why = f"the bus knows epoch {latest}, this database is of an older one"
        return state, (_fenced(peer, hello, "OLD_EPOCH", why),)
    new = tuple(each for each in hello.epochs if each.epoch > latest)
    if not new:
        return _greet(state, peer, hello)
    if state.advancing or state.staged != state.head:
        return replace(state, waiting=(peer, hello)), ()
    goal = cut(state.head, state.epochs, new) if state.epochs else hello.before
    state = replace(state, advancing=new, goal=goal, waiting=(peer, hello))
    return state, (Advance(new, goal),)


def _greet(state: Stream, peer: bytes, hello: Hello) -> Step:
    if state.quarantined:
        return state, (_fenced(peer, hello, "FORK", state.quarantined),)
    before = _session(state, peer, hello.session)
    if before is not None and hello.req < before.req:
        return state, ()
    repeated = before is not None and hello.req == before.req
    if hello.head.seq == state.staged.seq and hello.head != state.staged and not repeated:
        return _quarantine(state, peer, hello, hello.head.seq)
    behind = hello.head.seq < state.staged.seq
    if before is not None and repeated:
        behind = not before.open
    elif behind and before is not None and before.rechecked:
        why = (
            f"the database of {state.name} ends at event {hello.head.seq}, but it had told the bus "
            f"up to {state.staged.seq}: an older file was put back, or its disk lost a flush"
        )
        return state, (_fenced(peer, hello, "BEHIND", why),)
    session = Session(peer, hello.session, hello.req, open=not behind, rechecked=behind)
    state = _keep(state, session)
    if behind:
        return state, (Reply(peer, Recheck(hello.session, hello.req, state.head)),)
    welcome = Welcome(hello.session, hello.req, state.head, CREDIT_MSGS, CREDIT_BYTES)
    return state, (Reply(peer, welcome),)


def _fenced(peer: bytes, hello: Hello, reason: FenceReason, why: str) -> Reply:
    return Reply(peer, Fenced(hello.session, hello.req, reason, why))


def _quarantine(state: Stream, peer: bytes, frame: Hello | Put, seq: int) -> Step:
    why = f"{state.name} has two different histories at event {seq}"
    req = frame.req if isinstance(frame, Hello) else 0
    fenced = Fenced(frame.session, req, "FORK", why)
    return replace(state, quarantined=why), (Quarantine(why), Reply(peer, fenced))


def _put(state: Stream, peer: bytes, put: Put, now: float) -> Step:
    """Take and show what continues the stream (R4, R5)."""
    session = _session(state, peer, put.session)
    if session is None or not session.open or state.advancing:
        return _nak(state, peer, put.session, "EPOCH", now)
    if state.quarantined:
        return state, (Reply(peer, Fenced(put.session, 0, "FORK", state.quarantined)),)
    accepted: list[Event] = []
    staged, again = state.staged, False
    verdict: Verdict = "next"
    for event in put.events:
        verdict = _judge(state, staged, event)
        if verdict == "next":
            accepted.append(event)
            staged = event.link
        elif verdict == "again":
            again = True
        else:
            break
    outputs: list[Output] = []
    if accepted:
        state = replace(state, staged=staged)
        outputs += [Append(tuple(accepted)), Publish(tuple(accepted))]
    if again and state.head.seq:
        ack = Ack(put.session, Position(state.head.epoch, state.head.seq))
        outputs.append(Reply(peer, ack))
    state, refusals = _refuse(state, peer, put, verdict, staged.seq + 1, now)
    return state, (*outputs, *refusals)


def _judge(state: Stream, staged: Link, event: Event) -> Verdict:
    """What an event is to a stream that ends at `staged` (R4).

    One that is older than `staged` is not compared with the log: the hash chain makes an equal
    hash at a later place prove everything before it, and another history shows at that place.
    """
    if event.epoch != state.epochs[-1].epoch and (
        all(event.epoch != each.epoch for each in state.epochs)
        or replaced(state.epochs, event.epoch, event.seq)
    ):
        return "EPOCH"
    if event.seq <= staged.seq and (event.seq < staged.seq or event.link == staged):
        return "again"
    if not extends(event, staged):
        return "GAP" if event.seq > staged.seq + 1 else "FORK"
    return "next" if intact(event) and event.stream == state.name else "DAMAGED"


def _refuse(state: Stream, peer: bytes, put: Put, verdict: Verdict, seq: int, now: float) -> Step:
    match verdict:
        case "EPOCH" | "GAP":
            return _nak(state, peer, put.session, verdict, now)
        case "FORK":
            return _quarantine(state, peer, put, seq)
        case "DAMAGED":
            why = f"event {seq} of {state.name} does not match its hash"
            return state, (Reply(peer, Fenced(put.session, 0, "FORK", why)),)
        case "next" | "again":
            return state, ()


def _nak(state: Stream, peer: bytes, session: int, reason: NakReason, now: float) -> Step:
    if state.nak_at is not None and now - state.nak_at < REPORT_S:
        return state, ()
    nak = Nak(session, reason, state.head)
    return replace(state, nak_at=now), (Reply(peer, nak),)


def _appended(state: Stream, head: Link) -> Step:
    """Durable: now it is acknowledged, announced and served (R5)."""
    state = replace(state, head=head, full=False)
    position = Position(head.epoch, head.seq)
    acks = tuple(Reply(s.peer, Ack(s.number, position)) for s in state.sessions if s.open)
    state, answers = _answer_held(state)
    state, after = _resume(state)
    return state, (*acks, *answers, *after)


def _failed(state: Stream, now: float) -> Step:
    """No space: nothing is dropped, the outboxes hold it (R11).

    What was shown of it is told and shown again; who has it already waits for the bus (R15).
    """
    refused = Nak(0, "NOSPACE", state.head)
    naks = tuple(
        Reply(s.peer, replace(refused, session=s.number)) for s in state.sessions if s.open
    )
    state = replace(state, staged=state.head, full=True, nak_at=now, advancing=(), waiting=None)
    state, answers = _answer_held(state)
    return state, (*naks, *answers)


def _resume(state: Stream) -> Step:
    """Answer the HELLO that waited for the commit under way."""
    waiting = state.waiting
    if waiting is None or state.advancing or state.staged != state.head:
        return state, ()
    return _hello(replace(state, waiting=None), waiting[0], waiting[1])


def _advanced(state: Stream, found: Link) -> Step:
    new, waiting = state.advancing, state.waiting
    head, tail_seq = state.goal, state.goal.seq + 1
    state = replace(state, advancing=())
    if found != head:
        state = replace(state, waiting=None)
        return _quarantine(state, waiting[0], waiting[1], head.seq) if waiting else (state, ())
    state = replace(
        state,
        epochs=(*state.epochs, *new),
        head=head,
        staged=head,
        tail_seq=min(state.tail_seq, tail_seq) if state.epochs else tail_seq,
        quarantined="",
    )
    return _resume(state)


# The consumer's side


def _attach(state: Stream, peer: bytes, attach: Attach) -> Step:
    me = Attachment(peer, attach.session, attach.consumer)
    others = [c for c in state.consumers if (c.peer, c.consumer) != (peer, attach.consumer)]
    state = replace(state, consumers=(*others, me)[-CONSUMERS_MAX:])
    if _trimmed(state, attach.cursor.seq):
        return state, (Reply(peer, Reset(attach.session, "TRIMMED")),)
    attached = Attached(attach.session, state.epochs, state.head, state.tail_seq)
    cursor = Position(attach.cursor.epoch, attach.cursor.seq)
    seen = Record(attach.consumer, cursor, attach.known_epoch)
    return state, (seen, Reply(peer, attached))


def _trim(state: Stream, seq: int) -> Step:
    """The tail moves first, so that nobody is ever answered with a hole. The head always stays."""
    seq = min(seq, state.head.seq - 1)
    if seq < state.tail_seq or state.advancing:
        return state, ()
    return replace(state, tail_seq=seq + 1), (Trim(seq),)


def _trimmed(state: Stream, after: int) -> bool:
    """Whether an event is needed that is kept no more; who is at the origin takes what there is."""
    return 0 < after < state.tail_seq - 1 and after < state.head.seq


def _attachment(state: Stream, peer: bytes, number: int) -> Attachment | None:
    return next((c for c in state.consumers if c.peer == peer and c.number == number), None)


def _get(state: Stream, peer: bytes, get: Get) -> Step:
    if _attachment(state, peer, get.session) is None:
        return state, (Reply(peer, Reset(get.session, "PROTO", get.req)),)
    if _trimmed(state, get.after.seq):
        return state, (Reply(peer, Reset(get.session, "TRIMMED", get.req)),)
    if state.head.seq <= get.after.seq < state.staged.seq:
        return _hold(state, peer, get), ()
    if get.after.seq >= state.head.seq:
        return state, (Reply(peer, Batch(get.session, get.req, state.head, ())),)
    bounded = replace(
        get,
        after=replace(get.after, seq=max(get.after.seq, state.tail_seq - 1)),
        rows_max=max(1, min(get.rows_max, GET_ROWS_MAX, state.head.seq - get.after.seq)),
        bytes_max=min(get.bytes_max, GET_BYTES_MAX),
    )
    return state, (ReadLog(peer, bounded),)


def _hold(state: Stream, peer: bytes, get: Get) -> Stream:
    """What is asked for is shown and not durable yet: the answer waits for the commit."""
    consumers = tuple(
        replace(c, held=get) if (c.peer, c.number) == (peer, get.session) else c
        for c in state.consumers
    )
    return replace(state, consumers=consumers)


def _answer_held(state: Stream) -> Step:
    """What was asked for is durable now, or given up."""
    held = [(c.peer, c.held) for c in state.consumers if c.held is not None]
    if not held:
        return state, ()
    outputs: list[Output] = []
    state = replace(state, consumers=tuple(replace(c, held=None) for c in state.consumers))
    for peer, get in held:
        state, more = _get(state, peer, get)
        outputs.extend(more)
    return state, tuple(outputs)


def _committed(state: Stream, peer: bytes, committed: Committed) -> Step:
    who = _attachment(state, peer, committed.session)
    if who is None:
        return state, ()
    return state, (Record(who.consumer, committed.cursor, committed.known_epoch),)
