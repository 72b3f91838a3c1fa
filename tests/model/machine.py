"""The shipped rules as transitions between states small enough to be counted.

One state is a tuple of numbers (`Where`), each the number of a part in its `Table`; the channels
are bit sets of messages. A step of one party depends on that party alone, so it is computed once
and looked up ever after. Everything that touches the shipped `step` functions is in this file.

What is left out of a state, and why nothing is lost by it:

- *Time.* The rules compare ages with bounds. After each step all ages are zero; a timer is a move
  of its own that makes one field old. So any timer may fire at any moment, alone: more than time
  could do. Backoff only delays, so attempts are not counted.
- *Storage answers reads at once*: a late answer is the same as a late message. Writes (the bus's
  commits, the inbox's transactions) are moves of their own, and may die half-way.
- *Names of conversations.* A producer's are numbered, and bounded. A consumer's is always 1 and
  all earlier ones are 0, its open question is always 1: answers to others are dropped when they
  would be sent, after the shipped rules have shown that they ignore them.
- *Heartbeats and reports* are sent at every change: what is sent may be lost, so sending early
  takes nothing away.
- *Bounds* of batches are set small, so that they are met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesh.buses.contract import ORIGIN, Applied, Follower, Position
from mesh.buses.zmq.protocol import (
    broker,
    consumer,
    frames,
    producer,
    retention,
    stream,
    subscription,
    timing,
)
from mesh.codec import replace
from tests.model.parts import STREAM, BusDisk, InboxDisk, OutboxDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

NOW = 1000.0
OLD = NOW - 1000.0
FRESH = NOW
P, C = b"p", b"c"
OUTPUTS_MAX = 200
"""Steps that one input may lead to without any message: more is a loop."""

Aged = tuple[str, ...]
Job = subscription.Apply | subscription.Notice
Write = stream.Append | stream.Advance | stream.Quarantine


class Violation(Exception):
    """Something that must never be."""


class Table:
    """Each different part once, under a number."""

    def __init__(self) -> None:
        self.parts: list = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, part) -> int:
        found = self._numbers.get(part)
        if found is None:
            found = self._numbers[part] = len(self.parts)
            self.parts.append(part)
        return found

    def __getitem__(self, number: int):
        return self.parts[number]


class Where(NamedTuple):
    """One state of the whole; `talks`, `crashes` and `restores` count what has been spent."""

    producer: int
    outbox: int
    bus: int
    writes: int
    log: int
    consumer: int
    job: int
    inbox: int
    to_bus: int
    to_producer: int
    to_consumer: int
    feed: int
    talks: int
    crashes: int
    restores: int


class Knobs(NamedTuple):
    """Parts of the surroundings that a mutant may get wrong; production has them elsewhere."""

    apply: str = "one transaction"
    restore_epoch: bool = True
    delete_on_send: bool = False
    beats: bool = True
    outbox_durable: bool = True


def _without_tail(frame):
    """In a heartbeat the oldest event kept is told for display; no rule reads it."""
    return replace(frame, tail_seq=1) if isinstance(frame, frames.Beat) else frame


def bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Machine:
    def __init__(
        self,
        *,
        events: int,
        talks: int,
        crashes: int,
        restores: int,
        knobs: Knobs,
        scope: str = "whole",
        prompt: bool = False,
    ) -> None:
        self.prompt = prompt
        self.scope = scope
        self.events, self.talks, self.crashes, self.restores = events, talks, crashes, restores
        self.knobs = knobs
        self.parts = Table()
        self.messages = Table()
        self.reports = self.from_producer = 0
        self._memo: dict[Hashable, object] = {}
        self.nothing = self.parts.number(None)

    # Parties on their own: (part numbers, input) -> (part numbers, messages sent)

    def once(self, work: Callable, *key: Hashable):
        where = (work, *key)
        found = self._memo.get(where)
        if found is None:
            try:
                found = work(*key)
            except Violation as wrong:
                found = wrong
            self._memo[where] = found
        if isinstance(found, Violation):
            raise found
        return found

    def mask(self, sent: Iterable) -> int:
        mask = 0
        for frame in sent:
            bit = 1 << self.messages.number(frame)
            mask |= bit
            if isinstance(frame, frames.Committed):
                self.reports |= bit
            elif isinstance(frame, frames.Hello | frames.Put | frames.Ping):
                self.from_producer |= bit
        return mask

    # The producer

    def produce(self, me: int, disk: int, talks: int, event, *aged: str, limit: int = 0):
        """Feed one input; returns (producer, outbox, talks, messages to the bus)."""
        return self.once(self._produce, me, disk, talks, event, aged, limit or self.talks)

    def _produce(self, me: int, disk: int, talks: int, event, aged: Aged, limit: int):
        state, outbox = self.parts[me], self.parts[disk]
        state = replace(state, **dict.fromkeys(aged, OLD)) if aged else state
        sent, queue = [], [event]
        for _ in range(OUTPUTS_MAX):
            if not queue:
                break
            state, outputs = producer.step(state, queue.pop(0), NOW)
            for output in outputs:
                match output:
                    case timing.Send(frame):
                        sent.append(frame)
                        if isinstance(frame, frames.Put) and self.knobs.delete_on_send:
                            last = frame.events[-1].seq
                            outbox = replace(outbox, tail=max(outbox.tail, last + 1))
                    case producer.ReadState(session, req):
                        queue.append(producer.StateRead(session, req, outbox.state()))
                    case producer.ReadOutbox(after, rows_max):
                        queue.append(producer.Rows(after, outbox.after(after, rows_max)))
                    case producer.Acknowledged(position):
                        # It trims at once whatever it may: fewer rows can do nothing more.
                        outbox = replace(outbox, tail=max(outbox.tail, position.seq + 1))
                    case timing.Reconnect():
                        if talks < limit:
                            talks += 1
                            queue.append(timing.Begin(talks))
        else:
            raise Violation("the producer talks to itself for ever")
        if state.fence:
            raise Violation(f"the producer is fenced: {state.fence}")
        state = replace(
            state, said_at=None if state.said_at is None else FRESH, heard_at=FRESH,
            moved_at=FRESH, pinged_at=FRESH, not_before=0.0, attempt=0, failures=0,
        )  # fmt: skip
        if state.phase != "streaming":
            state = replace(state, sent=0, acked=0, flights=(), grown=False)
        return self.parts.number(state), self.parts.number(outbox), talks, self.mask(sent)

    def for_producer(self, me: int, mask: int) -> int:
        """What of these the producer may still listen to; the rest it must ignore."""
        return self.once(self._for_producer, me, mask) if mask else 0

    def _for_producer(self, me: int, mask: int) -> int:
        state, kept = self.parts[me], 0
        for number in bits(mask):
            frame = self.messages[number]
            match frame:
                case frames.Welcome(req=req):
                    stale = req < state.req or state.phase != "greeting"
                case frames.Recheck(req=req):
                    stale = req < state.req
                case frames.Ack(position=position):
                    stale = position.seq <= state.acked
                case _:
                    stale = False
            stale = stale or frame.session != state.session or state.phase == "init"
            if not stale:
                kept |= 1 << number
            else:
                after, outputs = producer.step(state, frame, NOW)
                if outputs or replace(after, heard_at=state.heard_at) != state:
                    raise Violation(
                        f"an answer to an earlier question is heard: {type(frame).__name__}"
                    )
        return kept

    # The bus

    def serve(self, bus: int, disk: int, event):
        """Feed one input; returns (bus, log, writes asked for, to producer, to consumer, feed)."""
        return self.once(self._serve, bus, disk, event)

    def _serve(self, bus: int, disk: int, event):
        state, log = self.parts[bus], self.parts[disk]
        back, answers, news, writes, queue = [], [], [], [], [event]
        while queue:
            state, outputs = broker.step(state, queue.pop(0), NOW)
            for output in outputs:
                match output:
                    case stream.Reply(peer, frame):
                        (back if peer == P else answers).append(frame)
                    case stream.Append() | stream.Advance():
                        writes.append(output)
                    case stream.Quarantine(why):
                        raise Violation(f"the stream is quarantined: {why}")
                    case stream.Publish(events):
                        news += [frames.Evt(1, STREAM, each.link, (each,)) for each in events]
                    case stream.ReadLog(peer, get):
                        found = log.after(get.after.seq, get.rows_max)
                        queue.append(stream.LogRead(peer, get, found))
                    case stream.Record():
                        pass  # the shell keeps it; here `trim` hears the report itself
        if self.knobs.beats and state.epochs:
            news.append(_without_tail(broker.beat(state)))
        sessions = tuple(sorted(state.sessions, key=lambda each: each.number))
        state = replace(state, nak_at=None, sessions=sessions, consumers=())
        if not state.advancing:
            state = replace(state, goal=ORIGIN)
        return (
            self.parts.number(state), self.parts.number(log), tuple(writes),
            self.mask(back), self.mask(answers), self.mask(news),
        )  # fmt: skip

    def feeds(self, bus: int, disk: int, frame):
        """What any producer could say, heard by the bus.

        A new epoch is durable at once, and so is an event where the bus never dies.
        Returns what `serve` does. The bus's answers to it go nowhere, and who it was is forgotten.
        """
        return self.once(self._feeds, bus, disk, frame)

    def _feeds(self, bus: int, disk: int, frame):
        talking = stream.Session(P, 1, 0, open=True, rechecked=False)
        bus = self.parts.number(replace(self.parts[bus], sessions=(talking,)))
        bus, disk, writes, _, answers, news = self._serve(bus, disk, stream.Received(P, frame))
        while writes and (isinstance(frame, frames.Hello) or not self.crashes):
            bus, disk, writes, _, more, shown = self._commit(bus, disk, self.parts.number(writes))
            answers, news = answers | more, news | shown
        bus = self.parts.number(replace(self.parts[bus], sessions=()))
        return bus, disk, writes, 0, answers, news

    def commit(self, bus: int, disk: int, writes: int):
        """The oldest write is done. Returns what `serve` does, with the writes still to do."""
        return self.once(self._commit, bus, disk, writes)

    def _commit(self, bus: int, disk: int, writes: int):
        log, (job, *rest) = self.parts[disk], self.parts[writes]
        if isinstance(job, stream.Append):
            log = replace(log, log=(*log.log, *job.events))
            done: stream.Input = stream.Appended(job.events[-1].link)
        else:
            at = job.head.seq
            found = log.log[at - 1].link if at >= log.tail and at <= len(log.log) else job.head
            if found == job.head:
                epochs, kept = (*log.epochs, *job.epochs), log.log[:at]
                log = replace(log, epochs=epochs, log=kept, tail=min(log.tail, at + 1))
            done = stream.Advanced(found)
        bus, disk, more, *sent = self._serve(bus, self.parts.number(log), done)
        return bus, disk, (*rest, *more), *sent

    def reopened(self, disk: int) -> int:
        """The bus as it starts from its disk."""
        log = self.parts[disk]
        return self.parts.number(
            stream.Stream(STREAM, log.epochs, log.head, log.head, log.tail, log.quarantined)
        )

    # The consumer

    def consume(self, me: int, disk: int, job: int, event, *aged: str):
        """Feed one input; returns (consumer, job, messages to the bus, what has ended)."""
        return self.once(self._consume, me, disk, job, event, aged)

    def _consume(self, me: int, disk: int, job: int, event, aged: Aged):
        state, inbox, task = self.parts[me], self.parts[disk], self.parts[job]
        state = replace(state, **dict.fromkeys(aged, OLD)) if aged else state
        state = replace(state, reported_at=OLD)
        sent, queue = [], [event]
        for _ in range(OUTPUTS_MAX):
            if not queue:
                break
            state, outputs = consumer.step(state, queue.pop(0), NOW)
            for output in outputs:
                match output:
                    case timing.Send(frame):
                        sent.append(frame)
                    case subscription.ReadCursor():
                        queue.append(subscription.CursorRead(inbox.cursor))
                    case subscription.Apply(events) if events[0].previous != inbox.cursor.link:
                        raise Violation("an event is offered that does not extend the cursor")
                    case subscription.Start():
                        raise Violation("the consumer begins late, with nothing lost")
                    case subscription.Apply() | subscription.Notice():
                        if task is not None:
                            raise Violation("the inbox is asked two things at once")
                        task = output
                    case timing.Reconnect():
                        queue.append(timing.Begin(state.session + 1))
        else:
            raise Violation("the consumer talks to itself for ever")
        if state.fence:
            raise Violation(f"the consumer is fenced: {state.fence}")
        over = "conversation" if state.session != 1 else ""
        sent = [
            self._renamed(each)
            for each in sent
            if each.session == state.session and not isinstance(each, frames.Committed)
        ]
        asked = state.asked_at is not None
        if not over and any(isinstance(each, frames.Get) for each in sent):
            over = "question"
        state = replace(
            state, session=1, req=int(asked and state.attached), reported=state.cursor.link.seq,
            head=ORIGIN if state.phase == "attaching" else state.head, asked_at=FRESH if asked else None,
            ahead=tuple(dict.fromkeys(state.ahead)),
            ahead_bytes=sum(len(each.body) for each in dict.fromkeys(state.ahead)),
            heard_at=FRESH, polled_at=FRESH, reported_at=FRESH, not_before=0.0, attempt=0,
            failures=0,
        )  # fmt: skip
        if state.cursor.link != ORIGIN:
            state = replace(state, tail_seq=1)  # read only by who is at the origin
        return self.parts.number(state), self.parts.number(task), self.mask(sent), over

    @staticmethod
    def _renamed(frame):
        if isinstance(frame, frames.Get):
            return replace(frame, session=1, req=1)
        return replace(frame, session=1)

    def for_consumer(self, me: int, mask: int, over: str = "") -> int:
        """What of these the consumer may still listen to; the rest it must ignore.

        Args:
            over: the `conversation` or the `question` that these belong to, if one has ended.
        """
        return self.once(self._for_consumer, me, mask, over) if mask else 0

    def _for_consumer(self, me: int, mask: int, over: str) -> int:
        state, kept = self.parts[me], 0
        attaching = state.phase == "attaching"
        hears = frames.Attached if attaching else frames.Batch
        if over == "conversation":
            state = replace(state, session=2)
        elif over == "question":
            state = replace(state, req=2)
        for number in bits(mask):
            frame = self.messages[number]
            answers = isinstance(frame, hears) or (
                isinstance(frame, frames.Reset) and attaching is (getattr(frame, "req", 0) == 0)
            )
            if answers and not over and frame.session == 1 and state.asked_at is not None:
                kept |= 1 << number
                continue
            after, outputs = consumer.step(state, frame, NOW)
            if outputs or after != state:
                raise Violation(
                    f"an answer to an earlier question is heard: {type(frame).__name__}"
                )
        return kept

    def answer(self, bus: int, disk: int, question: int, forgotten: bool) -> int:
        """What the bus as it is says to a question of its consumer."""
        return self.once(self._answer, bus, disk, question, forgotten)

    def _answer(self, bus: int, disk: int, question: int, forgotten: bool) -> int:
        known = () if forgotten else (stream.Attachment(C, 1, "c"),)
        bus = self.parts.number(replace(self.parts[bus], consumers=known))
        return self._serve(bus, disk, stream.Received(C, self.messages[question]))[4]

    def trimmed(self, bus: int, disk: int, report: int):
        """The bus and its log after it was told where its consumer is, and let one event go."""
        return self.once(self._trimmed, bus, disk, report)

    def _trimmed(self, bus: int, disk: int, report: int):
        state, log, told = self.parts[bus], self.parts[disk], self.messages[report]
        who = Follower("c", told.cursor, told.known_epoch, 0, required=True)
        last = min(retention.passed(state, (who,)), log.tail)
        state, outputs = broker.step(state, stream.Outlived(last), NOW)
        for output in outputs:
            assert isinstance(output, stream.Trim)
            log = replace(log, tail=output.seq + 1)
        return self.parts.number(state), self.parts.number(log)

    def applied(self, disk: int, job: int, count: int):
        """The inbox after `count` events of its job; what it answers once it is done."""
        return self.once(self._applied, disk, job, count)

    def _applied(self, disk: int, job: int, count: int):
        inbox, task, reports = self.parts[disk], self.parts[job], 0
        if isinstance(task, subscription.Notice):
            inbox = inbox.noticed(task.epoch, task.base) if count else inbox
            told: subscription.Input = subscription.Noticed(inbox.cursor)
            return self.parts.number(inbox), told, self._reported(inbox)
        for event in task.events[:count]:
            if event.previous != inbox.cursor.link:
                raise Violation("an event is offered that does not extend the cursor")
            inbox = inbox.applied(event)
            reports |= self._reported(inbox)
        told = subscription.Handled(Applied(inbox.cursor))
        return self.parts.number(inbox), told, reports

    def died_between(self, disk: int, job: int) -> int:
        """The inbox of a mutant that needs two transactions, after the first of them."""
        return self.once(self._died_between, disk, job)

    def _died_between(self, disk: int, job: int) -> int:
        inbox, event = self.parts[disk], self.parts[job].events[0]
        whole = inbox.applied(event)
        if self.knobs.apply == "cursor first":
            return self.parts.number(replace(inbox, cursor=whole.cursor))
        return self.parts.number(replace(inbox, effects=whole.effects))

    def reported(self, mask: int, more: int) -> int:
        """With these reports too; for each epoch known only the furthest: it allows the most."""
        return self.once(self._furthest, mask, more) if more & ~mask else mask

    def _furthest(self, mask: int, more: int) -> int:
        best: dict[int, frames.Committed] = {}
        for number in bits((mask | more) & self.reports):
            frame = self.messages[number]
            held = best.get(frame.known_epoch)
            if held is None or frame.cursor.seq > held.cursor.seq:
                best[frame.known_epoch] = frame
        return (mask & ~self.reports) | self.mask(best.values())

    def _reported(self, inbox: InboxDisk) -> int:
        link, known = inbox.cursor.link, inbox.cursor.known_epoch
        place = Position(link.epoch, link.seq)
        return self.mask([frames.Committed(1, STREAM, place, known)]) if link.seq else 0

    def jobs(self, job: int) -> int:
        task = self.parts[job]
        return len(task.events) if isinstance(task, subscription.Apply) else 1

    # The beginning

    def start(self) -> Where:
        number = self.parts.number
        up, down = self.scope != "downstream", self.scope != "upstream"
        outbox, log, inbox = number(OutboxDisk()), number(BusDisk()), number(InboxDisk())
        me, talks, sent = number(producer.Producer(STREAM)), 1, 0
        who, job, asks = number(subscription.Consumer("c", STREAM)), self.nothing, 0
        if up:
            me, outbox, talks, sent = self.produce(me, outbox, 1, timing.Begin(1))
        if down:
            who, job, asks, _ = self.consume(who, inbox, job, timing.Begin(2))
        return Where(
            me, outbox, number(stream.Stream(STREAM)), number(()), log, who, job, inbox,
            sent | asks, 0, 0, 0, talks, 0, 0,
        )  # fmt: skip
