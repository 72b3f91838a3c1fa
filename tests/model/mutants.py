"""Rules that are wrong on purpose: each must lead to a violation, or the checker sees too little.

A mutant replaces named functions of the shipped rules while it is explored, or has a part of the
surroundings go wrong that production keeps elsewhere (the inbox's transaction, retention, restore).
Production knows nothing of it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from mesh.buses.contract import Position
from mesh.buses.zmq.protocol import broker, consumer, frames, producer, retention, stream, timing
from mesh.codec import replace
from tests.model.machine import Knobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

Patch = tuple["ModuleType", str, "Callable[[Callable], Callable]"]


class Mutant(NamedTuple):
    name: str
    side: str
    patches: tuple[Patch, ...] = ()
    knobs: Knobs = Knobs()
    events: int = 4
    talks: int = 1


@contextlib.contextmanager
def switched_on(mutant: Mutant) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        for module, name, made in mutant.patches:
            shipped = getattr(module, name)
            undo.callback(setattr, module, name, shipped)
            setattr(module, name, made(shipped))
        yield


def always(value) -> Callable:
    return lambda _: lambda *_: value


def _any_later(_):
    return lambda event, head: event.seq > head.seq


def _ack_early(step):
    def wrong(state, event, now):
        state, outputs = step(state, event, now)
        early = [
            stream.Reply(s.peer, frames.Ack(s.number, Position(e.epoch, e.seq)))
            for output in outputs
            if isinstance(output, stream.Append)
            for e in output.events[-1:]
            for s in state.sessions
            if s.open
        ]
        return state, (*outputs, *early)

    return wrong


def _first_epoch_only(step):
    def wrong(state, event, now):
        state, outputs = step(state, event, now)
        return state, tuple(
            timing.Send(replace(o.frame, epochs=o.frame.epochs[:1]))
            if isinstance(o, timing.Send) and isinstance(o.frame, frames.Hello)
            else o
            for o in outputs
        )

    return wrong


def _deaf_to_time(step):
    def wrong(state, event, now):
        if isinstance(event, timing.Tick | frames.Beat):
            return state, ()
        return step(state, event, now)

    return wrong


def _any_session(step):
    def wrong(state, event, now):
        if hasattr(event, "session") and not isinstance(event, timing.Begin | producer.StateRead):
            event = replace(event, session=state.session)
        return step(state, event, now)

    return wrong


def _any_question(step):
    def wrong(state, event, now):
        if isinstance(event, frames.Batch):
            event = replace(event, req=state.req)
        return step(state, event, now)

    return wrong


def _takes_blindly(_):
    def wrong(state, events):
        return replace(state, buffer=(*state.buffer, *events)), "taken"

    return wrong


def _forgets_one(take):
    """Knows the last event by its hash alone, as a window of ids does."""

    def wrong(state, events):
        fresh = [each for each in events if each.hash != state.end.hash]
        state = replace(state, buffer=(*state.buffer, *fresh[:1]))
        return state, "taken"

    return wrong


def _head_too_soon(put):
    """What is staged is announced and served as if it were durable."""

    def wrong(state, peer, frame, now):
        state, outputs = put(state, peer, frame, now)
        return replace(state, head=state.staged), outputs

    return wrong


def _never_waits(hello):
    """A new epoch is not held back until the commit under way is done."""

    def wrong(state, peer, frame):
        return hello(replace(state, head=state.staged), peer, frame)

    return wrong


def _blind_to_epochs(_):
    return lambda state, followers: min(state.head.seq, *(each.cursor.seq for each in followers))


def _notices_late(learn):
    def wrong(state, now):
        return consumer._place(state, now)

    return wrong


MUTANTS = (
    Mutant("the cursor moves before the effect", "downstream", knobs=Knobs(apply="cursor first")),
    Mutant("the effect comes before the cursor", "downstream", knobs=Knobs(apply="effect first")),
    Mutant(
        "the bus acknowledges before it is durable", "upstream", ((broker, "step", _ack_early),)
    ),
    Mutant("a restore begins no epoch", "upstream", knobs=Knobs(restore_epoch=False)),
    Mutant(
        "HELLO announces the first epoch only", "upstream", ((producer, "step", _first_epoch_only),)
    ),
    Mutant("the consumer notices no epoch", "downstream", ((consumer, "_learn", _notices_late),)),
    Mutant("the bus takes holes", "upstream", ((broker, "extends", _any_later),)),
    Mutant("the consumer takes holes", "downstream", ((consumer, "extends", _any_later),)),
    Mutant(
        "the consumer takes batches blindly", "downstream", ((consumer, "_take", _takes_blindly),)
    ),
    Mutant(
        "the consumer knows its last event alone",
        "downstream",
        ((consumer, "_take", _forgets_one),),
    ),
    Mutant(
        "the bus trims without positions",
        "downstream",
        patches=((retention, "passed", lambda _: lambda state, _: state.head.seq),),
    ),
    Mutant(
        "the bus trims whatever the epoch",
        "downstream",
        patches=((retention, "passed", _blind_to_epochs),),
    ),
    Mutant(
        "no heartbeat and no poll",
        "downstream",
        ((consumer, "step", _deaf_to_time),),
        Knobs(beats=False),
    ),
    Mutant(
        "nothing is sent again",
        "upstream",
        ((producer, "_go_back", lambda _: lambda state, *_: (state, ())),),
    ),
    Mutant("rows are deleted when sent", "upstream", knobs=Knobs(delete_on_send=True)),
    Mutant(
        "a new epoch cuts nothing", "upstream", ((broker, "cut", lambda _: lambda head, *_: head),)
    ),
    Mutant("the bus takes what was replaced", "upstream", ((broker, "replaced", always(False)),)),
    Mutant(
        "the consumer takes what was replaced",
        "downstream",
        ((consumer, "replaced", always(False)), (consumer, "_fenced", always(False))),
    ),
    Mutant("a producer hears every session", "upstream", ((producer, "step", _any_session),)),
    Mutant("a consumer hears every session", "downstream", ((consumer, "step", _any_session),)),
    Mutant("a consumer hears every answer", "downstream", ((consumer, "step", _any_question),)),
    Mutant(
        "the bus takes what is staged for durable", "upstream", ((broker, "_put", _head_too_soon),)
    ),
    Mutant(
        "what is shown is not durable anywhere", "downstream", knobs=Knobs(outbox_durable=False)
    ),
    Mutant("a new epoch waits for no commit", "upstream", ((broker, "_hello", _never_waits),)),
)
