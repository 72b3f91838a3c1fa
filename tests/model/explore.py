"""Every state that can be reached, breadth first, and the shortest way to the first that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mesh.buses.zmq.protocol import broker, frames, producer, stream, subscription, timing
from mesh.buses.zmq.protocol.lineage import newest
from mesh.codec import replace
from tests.model import invariants
from tests.model.machine import C, Machine, P, Violation, Where, bits

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS_MAX = 40
"""Rounds of the periodic rules within which everything must have come to rest."""

Progress = Callable[[int, int, int, float], None]
"""Told after each level: depth, states so far, states at the edge, seconds."""


class Found(NamedTuple):
    states: int
    depth: int
    seconds: float
    violation: str
    trace: list[str]
    complete: bool


class Explorer:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.parts = machine.parts
        self._rest: dict[tuple, str] = {}

    # The moves

    def moves(self, at: Where) -> Iterator[tuple[str, Callable[[], Where]]]:
        m, parts = self.machine, self.parts
        outbox = parts[at.outbox]
        if m.prompt and at.job != m.nothing:
            yield from self.inbox(at)
            return
        if m.scope == "downstream":
            yield from self.any_producer(at)
            yield from self.downstream(at)
            return
        left = m.events - len(outbox.ever)
        if left:
            yield "the producer tells", lambda: self.tell(at)
        if at.restores < m.restores and outbox.ever:
            for base in range(len(outbox.events) + 1):
                yield f"restore to {base}", lambda base=base: self.restore(at, base)
        if at.crashes < m.crashes and not parts[at.writes]:
            yield "the bus dies", lambda: self.kill_bus(at)
        yield from self.upstream(at)
        if m.scope == "whole":
            yield from self.downstream(at)

    def any_producer(self, at: Where):
        """Whatever a producer with this outbox could have said, now or at any time before.

        Nobody looks at events that the bus has not got yet but a restore: so they are told when
        the bus takes them, or right before the restore.
        """
        m, parts, outbox, bus = self.machine, self.parts, self.parts[at.outbox], self.parts[at.bus]
        left = m.events - len(outbox.ever)
        writes = parts[at.writes]
        for number in range(newest(bus.epochs) + 1, newest(outbox.epochs) + 1):
            if writes:
                break  # the bus answers once they are done: as if it came after them
            hello = frames.Hello(2, 1, "s", outbox.epochs[:number], outbox.head, 1)
            yield f"the bus learns epoch {number}", lambda h=hello: self.fed(at, h)
        if newest(bus.epochs) == newest(outbox.epochs) and bus.staged == outbox.head and left:
            yield "the producer tells", lambda: self.told_and_taken(at)
        elif newest(bus.epochs) < newest(outbox.epochs) and at.restores and left:
            yield "the producer tells", lambda: self.tell(at)
        for event in outbox.ever if bus.epochs and bus.staged != outbox.head else ():
            put = frames.Put(1, (event,))
            yield f"the bus takes {event.epoch}.{event.seq}", lambda p=put: self.fed(at, p)
        for more in range(left + 1) if at.restores < m.restores else ():
            for base in range(len(outbox.events) + more + 1):
                label = f"{more} events more, then restore to {base}"
                yield label, lambda b=base, n=more: self.told_and_restored(at, n, b)
        if writes:
            yield from self.disk_of_bus(at)
            if not m.knobs.outbox_durable:
                yield "the outbox loses what the log has not", lambda: self.lose(at)

    def disk_of_bus(self, at: Where):
        """What becomes of events that were taken and shown."""
        yield "the bus commits", lambda: self.commit(at)
        if at.crashes < self.machine.crashes:
            yield "the bus dies", lambda: self.kill_bus(at)
            yield "there is no space", lambda: self.refuse(at)

    def told_and_taken(self, at: Where) -> Where:
        at = self.tell(at)
        return self.fed(at, frames.Put(1, self.parts[at.outbox].events[-1:]))

    def told_and_restored(self, at: Where, more: int, base: int) -> Where:
        for _ in range(more):
            at = self.tell(at)
        return self.restore(at, base) if self.parts[at.outbox].ever else at

    def upstream(self, at: Where):
        m, parts = self.machine, self.parts
        me = parts[at.producer]
        for number in bits(at.to_producer):
            yield ("to producer", number), lambda n=number: self.hear(at, m.messages[n])
        if me.phase == "greeting" and me.said_at is not None:
            yield "no welcome in time", lambda: self.hear(at, timing.Tick(), "said_at")
        if me.phase == "streaming" and me.sent > me.acked:
            yield "no progress in time", lambda: self.hear(at, timing.Tick(), "moved_at")
        if me.phase == "streaming" and at.talks < m.talks:
            yield "silence", lambda: self.hear(at, timing.Tick(), "heard_at")
        for number in bits(at.to_bus & m.from_producer):
            yield ("to bus", number), lambda n=number: self.arrive(at, m.messages[n])
        if parts[at.writes]:
            yield from self.disk_of_bus(at)
        if at.talks < m.talks:
            yield "the producer dies", lambda: self.kill_producer(at)

    def downstream(self, at: Where):
        m, parts = self.machine, self.parts
        who, log = parts[at.consumer], parts[at.log]
        for number in bits(at.to_bus & ~m.from_producer & ~m.reports):
            yield ("the bus answers", number), lambda n=number: self.answer(at, n)
            if who.attached:
                yield "the bus has died", lambda n=number: self.answer(at, n, forgotten=True)
        if log.tail <= len(log.log):
            for number in bits(at.to_bus & m.reports):
                yield ("the bus trims", number), lambda n=number: self.trim_bus(at, n)
        for number in (*bits(at.to_consumer), *bits(at.feed)):
            yield ("to consumer", number), lambda n=number: self.listen(at, m.messages[n])
        if who.asked_at is not None:
            yield "no answer in time", lambda: self.listen(at, timing.Tick(), "asked_at")
        elif who.attached:
            yield "time to ask", lambda: self.listen(at, timing.Tick(), "polled_at")
            yield "no heartbeat", lambda: self.listen(at, timing.Tick(), "heard_at")
        yield from self.inbox(at)

    def inbox(self, at: Where):
        m = self.machine
        jobs = m.jobs(at.job) if at.job != m.nothing else 0
        for count in range(jobs, -1, -1) if jobs else ():
            yield f"the inbox does {count}", lambda c=count: self.work(at, c)
        torn = m.knobs.apply != "one transaction"
        if torn and isinstance(self.parts[at.job], subscription.Apply):
            half = at._replace(inbox=m.died_between(at.inbox, at.job))
            yield "the consumer dies half-way", lambda: self.kill_consumer(half, 0)
        for count in range(jobs + 1):
            yield f"the consumer dies after {count}", lambda c=count: self.kill_consumer(at, c)

    def next(self, at: Where) -> Iterator[tuple[object, Where]]:
        for label, go in self.moves(at):
            try:
                after = go()
            except Violation as wrong:
                wrong.add_note(self.told(label))
                raise
            if after != at:
                yield label, after

    def told(self, label) -> str:
        if isinstance(label, tuple):
            return f"{label[0]}: {brief(self.machine.messages[label[1]])}"
        return label

    # The producer

    def hear(self, at: Where, event, *aged: str, limit: int = 0) -> Where:
        m = self.machine
        me, outbox, talks, sent = m.produce(
            at.producer, at.outbox, at.talks, event, *aged, limit=limit
        )
        back = m.for_producer(me, at.to_producer)
        return at._replace(
            producer=me, outbox=outbox, talks=talks, to_bus=at.to_bus | sent, to_producer=back
        )

    def tell(self, at: Where) -> Where:
        told = self.machine.once(_tell, self.parts, at.outbox)
        if self.machine.scope == "downstream":
            return at._replace(outbox=told)
        return self.hear(at._replace(outbox=told), timing.Grown())

    def kill_producer(self, at: Where, limit: int = 0) -> Where:
        m = self.machine
        talks = at.talks + 1
        blank = self.parts.number(producer.Producer("s"))
        at = at._replace(producer=blank, to_producer=0)
        if talks > (limit or m.talks):
            return at
        return self.hear(at._replace(talks=talks), timing.Begin(talks), limit=limit)

    def restore(self, at: Where, base: int) -> Where:
        """A restore is a start of the program, and so has a conversation of its own."""
        m = self.machine
        outbox = m.once(_restore, self.parts, at.outbox, base, m.knobs.restore_epoch)
        at = at._replace(outbox=outbox, restores=at.restores + 1)
        if m.scope == "downstream":
            return at
        return self.kill_producer(at, m.talks + 1)

    # The bus

    def arrive(self, at: Where, frame) -> Where:
        peer = P if isinstance(frame, frames.Hello | frames.Put | frames.Ping) else C
        served = self.machine.serve(at.bus, at.log, stream.Received(peer, frame))
        return self._served(at, at.writes, served)

    def fed(self, at: Where, frame) -> Where:
        return self._served(at, at.writes, self.machine.feeds(at.bus, at.log, frame))

    def _served(self, at: Where, writes: int, served) -> Where:
        m = self.machine
        bus, log, more, back, _, news = served
        if more:
            writes = m.once(_joined, self.parts, writes, more)
        back = m.for_producer(at.producer, back)
        if m.scope == "upstream":
            news = 0
        return at._replace(
            bus=bus, log=log, writes=writes, to_producer=at.to_producer | back, feed=at.feed | news
        )

    def commit(self, at: Where) -> Where:
        bus, log, writes, *sent = self.machine.commit(at.bus, at.log, at.writes)
        left = self.parts.number(())
        return self._served(at, left, (bus, log, writes, *sent))

    def kill_bus(self, at: Where) -> Where:
        bus, nothing = self.machine.reopened(at.log), self.parts.number(())
        return at._replace(bus=bus, writes=nothing, crashes=at.crashes + 1)

    def refuse(self, at: Where) -> Where:
        served = self.machine.serve(at.bus, at.log, stream.Failed())
        return self._served(at._replace(crashes=at.crashes + 1), self.parts.number(()), served)

    def lose(self, at: Where) -> Where:
        """The power goes, and with it what only seemed to be on the producer's disk."""
        kept = self.machine.once(_lost, self.parts, at.outbox, at.log, at.inbox)
        return self.kill_bus(at._replace(outbox=kept))

    def trim_bus(self, at: Where, report: int) -> Where:
        """The bus hears how far its consumer is, and lets the oldest event go if it may."""
        bus, log = self.machine.trimmed(at.bus, at.log, report)
        return at._replace(bus=bus, log=log)

    def answer(self, at: Where, question: int, *, forgotten: bool = False) -> Where:
        """The bus hears the open question. Only the first answer to arrive is ever listened to."""
        m = self.machine
        said = m.answer(at.bus, at.log, question, forgotten)
        if not said:
            return at  # held until the commit: as if it came after that
        said = m.for_consumer(at.consumer, said)
        return at._replace(to_consumer=said, to_bus=at.to_bus ^ 1 << question)

    # The consumer

    def listen(self, at: Where, event, *aged: str) -> Where:
        m = self.machine
        who, job, sent, over = m.consume(at.consumer, at.inbox, at.job, event, *aged)
        to_bus = at.to_bus & (m.from_producer | m.reports) if over else at.to_bus
        if self.parts[who].asked_at is None:
            to_bus &= m.from_producer | m.reports
        return at._replace(
            consumer=who, job=job, to_bus=to_bus | sent,
            to_consumer=m.for_consumer(who, at.to_consumer, over),
        )  # fmt: skip

    def work(self, at: Where, count: int) -> Where:
        """The inbox does `count` of what it was asked, and says how far it came."""
        m = self.machine
        inbox, told, reports = m.applied(at.inbox, at.job, count)
        if count == 0:
            told = subscription.InboxFailed()
        at = at._replace(inbox=inbox, job=m.nothing, to_bus=m.reported(at.to_bus, reports))
        return self.listen(at, told)

    def kill_consumer(self, at: Where, count: int) -> Where:
        m = self.machine
        blank = self.parts.number(subscription.Consumer("c", "s", session=1))
        inbox, reports = at.inbox, 0
        if count:
            inbox, _, reports = m.applied(at.inbox, at.job, count)
        at = at._replace(
            inbox=inbox, job=m.nothing, consumer=blank, to_bus=m.reported(at.to_bus, reports),
        )  # fmt: skip
        return self.listen(at, timing.Begin(2))

    # Everything is well again

    def rest(self, at: Where) -> str:
        """What is wrong once nothing fails any more and all messages under way are lost; or "" """
        at = at._replace(to_bus=0, to_producer=0, to_consumer=0, feed=0, crashes=0, restores=0)
        m, path = self.machine, []
        for _ in range(ROUNDS_MAX):
            known = self._rest.get(at)
            if known is not None:
                break
            path.append(at)
            after = self.round(at)
            if after == at:
                known = invariants.at_rest(m.scope, *self._disks(at))
                break
            at = after
        else:
            known = "the periodic rules come to no rest"
        for each in path:
            self._rest[each] = known
        return known

    def _disks(self, at: Where):
        return self.parts[at.outbox], self.parts[at.log], self.parts[at.inbox]

    def round(self, at: Where) -> Where:
        m, parts, free = self.machine, self.parts, 10**6
        while parts[at.writes]:
            at = self.commit(at)
        if at.job != m.nothing:
            at = self.work(at, m.jobs(at.job))
        me = parts[at.producer]
        if m.scope == "downstream":
            outbox = parts[at.outbox]
            if newest(parts[at.bus].epochs) < newest(outbox.epochs):
                at = self.fed(at, frames.Hello(2, 1, "s", outbox.epochs, outbox.head, 1))
            for event in outbox.events:
                at = self.fed(at, frames.Put(1, (event,)))
        elif me.phase == "init":
            at = self.hear(at._replace(talks=at.talks + 1), timing.Begin(at.talks + 1), limit=free)
        elif me.phase == "greeting":
            at = self.hear(at, timing.Tick(), "said_at", limit=free)
        else:
            at = self.hear(at, timing.Tick(), "moved_at", limit=free)
            at = self.hear(at, timing.Tick(), "pinged_at", limit=free)
        at = self.deliver(at)
        if m.scope == "upstream":
            return at
        who = parts[at.consumer]
        if who.asked_at is not None:
            at = self.listen(at, timing.Tick(), "asked_at")
        elif m.knobs.beats:
            if parts[at.bus].epochs:
                at = self.listen(at, broker.beat(parts[at.bus]))
            at = self.listen(at, timing.Tick(), "polled_at")
        return self.deliver(at)

    def deliver(self, at: Where) -> Where:
        """Each message once, the oldest first, and what becomes of it."""
        m, free = self.machine, 10**6
        for _ in range(1000):
            if at.to_bus & m.from_producer:
                number = next(bits(at.to_bus & m.from_producer))
                at = self.arrive(at._replace(to_bus=at.to_bus ^ 1 << number), m.messages[number])
            elif self.parts[at.writes]:
                at = self.commit(at)
            elif at.to_bus & ~m.reports:
                at = self.answer(at, next(bits(at.to_bus & ~m.reports)))
            elif at.to_producer:
                number = next(bits(at.to_producer))
                at = at._replace(to_producer=at.to_producer ^ 1 << number)
                at = self.hear(at, m.messages[number], limit=free)
            elif at.to_consumer:
                number = next(bits(at.to_consumer))
                at = at._replace(to_consumer=at.to_consumer ^ 1 << number)
                at = self.listen(at, m.messages[number])
            elif at.feed:
                number = next(bits(at.feed))
                at = self.listen(at._replace(feed=at.feed ^ 1 << number), m.messages[number])
            elif at.job != m.nothing:
                at = self.work(at, m.jobs(at.job))
            else:
                return at
        raise Violation("messages beget messages for ever")

    # The search

    def explore(self, states_max: int, seconds_max: float, told: Progress | None = None) -> Found:
        begun = time.monotonic()
        start = self.machine.start()
        came: dict[Where, tuple[Where, object] | None] = {start: None}
        level, depth = [start], 0
        try:
            while level:
                after: list[Where] = []
                for at in level:
                    here = at
                    self.check(at)
                    for label, new in self.next(at):
                        if new not in came:
                            came[new] = (at, label)
                            after.append(new)
                    if len(came) > states_max or time.monotonic() - begun > seconds_max:
                        return Found(len(came), depth, time.monotonic() - begun, "", [], False)
                level, depth = after, depth + 1
                if told is not None:
                    told(depth, len(came), len(level), time.monotonic() - begun)
        except Violation as found:
            trace = [*self._trace(came, here), *getattr(found, "__notes__", [])]
            return Found(len(came), depth, time.monotonic() - begun, str(found), trace, False)
        return Found(len(came), depth - 1, time.monotonic() - begun, "", [], True)

    def check(self, at: Where) -> None:
        wrong = invariants.now(self.machine, at) or self.rest(at)
        if wrong:
            raise Violation(wrong)

    def _trace(self, came, at: Where) -> list[str]:
        steps = []
        while (before := came[at]) is not None:
            at, label = before
            steps.append(self.told(label))
        return steps[::-1]


def brief(frame) -> str:
    text = type(frame).__name__
    for name in ("session", "req", "reason"):
        if hasattr(frame, name):
            text += f" {name}={getattr(frame, name)}"
    for name in ("head", "cursor", "after", "position"):
        if hasattr(frame, name):
            place = getattr(frame, name)
            text += f" {name}={place.epoch}.{place.seq}"
    if hasattr(frame, "events"):
        text += " events=" + ",".join(f"{e.epoch}.{e.seq}" for e in frame.events)
    return text


def _tell(parts, disk):
    return parts.number(parts[disk].tell())


def _lost(parts, disk, log, inbox):
    outbox, kept, heard = parts[disk], parts[log].log, parts[inbox].effects
    ever = tuple(each for each in outbox.ever if each in kept or each in heard)
    return parts.number(replace(outbox, events=outbox.events[: len(kept)], ever=ever))


def _restore(parts, disk, base, new_epoch):
    return parts.number(parts[disk].restored(base, new_epoch=new_epoch))


def _joined(parts, writes, more):
    return parts.number((*parts[writes], *more))
