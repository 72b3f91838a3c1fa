"""One producer, the bus and one consumer under virtual time, on the functions that ship.

Every message may be lost, doubled, delayed and overtaken; every party may crash between two
steps, with what it had not made durable gone. Storage answers late, like everything else.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mesh.buses.contract import (
    NO_HASH,
    ORIGIN,
    Applied,
    Cursor,
    Epoch,
    Event,
    Link,
    OutboxState,
    Position,
    chain_hash,
)
from mesh.buses.zmq.protocol import broker, consumer, frames, producer, stream, subscription, timing
from mesh.codec import replace

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_S = 0.01


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.trouble = True
        self.pending: list[tuple[float, Callable[[], None]]] = []
        self.outbox: list[Event] = []
        self.epochs = [Epoch(1, 0, NO_HASH, b"1")]
        self.log: list[Event] = []
        self.durable = stream.Stream("s")
        self.cursor = Cursor()
        self.effects: list[Event] = []
        self.diverged: list[Event] = []
        self.lives = {"producer": 0, "bus": 0, "consumer": 0}
        self.heard_life = {"producer": 0, "consumer": 0}
        """Of the bus, by the latest heartbeat that each has heard in its own life; 0: none yet."""
        self.start_producer()
        self.start_bus()
        self.start_consumer()

    # Time and chance

    def chance(self, probability: float) -> bool:
        return self.trouble and self.random.random() < probability

    def later(self, who: str, work: Callable[[], None], longest_s: float = 0.02) -> None:
        """Do it after a while, unless `who` has died meanwhile."""
        life = self.lives[who]
        wait_s = self.random.uniform(0, longest_s)

        def due() -> None:
            if self.lives[who] == life:
                work()

        self.pending.append((self.now + wait_s, due))

    def carry(self, work: Callable[[], None]) -> None:
        """A message: lost, doubled, late. It reaches whoever lives at its arrival."""
        copies = 0 if self.chance(0.1) else 2 if self.chance(0.1) else 1
        for _ in range(copies):
            longest_s = 3.0 if self.chance(0.1) else 0.02
            self.pending.append((self.now + self.random.uniform(0, longest_s), work))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_S
            for due in sorted((each for each in self.pending if each[0] <= self.now), key=_first):
                self.pending.remove(due)
                due[1]()
            if self.random.random() < 0.2:
                self.to_producer(timing.Tick())
                self.to_consumer(timing.Tick())
            if self.random.random() < STEP_S / timing.BEAT_S:
                self.beat()

    # The producer

    def start_producer(self) -> None:
        self.lives["producer"] += 1
        self.heard_life["producer"] = 0
        self.producer = producer.Producer("s")
        self.to_producer(timing.Begin(self.random.getrandbits(32)))

    def tell(self) -> None:
        last = self.outbox[-1].link if self.outbox else ORIGIN
        epoch, seq = self.epochs[-1].epoch, last.seq + 1
        rest = (self.random.randbytes(16), "t", "k", 0, b"{}", b"%d" % seq)
        hash_ = chain_hash(last.hash, epoch, seq, *rest)
        self.outbox.append(Event("s", epoch, seq, last.epoch, last.hash, hash_, *rest))
        self.to_producer(timing.Grown())

    def restore(self) -> None:
        """Back to an earlier state under a new epoch; the program starts anew."""
        base = self.random.randrange(len(self.outbox) + 1)
        del self.outbox[base:]
        hash_ = self.outbox[-1].hash if self.outbox else NO_HASH
        number = self.epochs[-1].epoch + 1
        self.epochs.append(Epoch(number, base, hash_, b"%d" % number))
        self.start_producer()

    def state(self) -> OutboxState:
        head = self.outbox[-1].link if self.outbox else ORIGIN
        return OutboxState(tuple(self.epochs), head, 1)

    def to_producer(self, event: producer.Input) -> None:
        self.producer, outputs = producer.step(self.producer, event, self.now)
        for output in outputs:
            match output:
                case timing.Send(frame):
                    peer = b"p%d" % self.lives["producer"]
                    self.carry(self.received(peer, frame))
                    if self.chance(0.01):
                        self.later("producer", lambda: self.to_producer(timing.Unsent()))
                case producer.ReadState() | producer.ReadOutbox() if self.chance(0.02):
                    self.later("producer", lambda: self.to_producer(producer.ReadFailed()))
                case producer.ReadState(session, req):
                    read = producer.StateRead(session, req, self.state())
                    self.later("producer", lambda read=read: self.to_producer(read))
                case producer.ReadOutbox(after, rows_max):
                    rows = producer.Rows(after, tuple(self.outbox[after : after + rows_max]))
                    self.later("producer", lambda rows=rows: self.to_producer(rows))
                case timing.Reconnect(after_s):
                    begin = timing.Begin(self.random.getrandbits(32))
                    self.later("producer", lambda begin=begin: self.to_producer(begin), after_s)

    # The bus

    def start_bus(self, *, empty: bool = False) -> None:
        self.lives["bus"] += 1
        if empty:
            self.log, self.durable = [], stream.Stream("s")
        self.bus = replace(self.durable, sessions=(), consumers=(), waiting=None, advancing=())
        self.queue: list[stream.Append | stream.Advance] = []
        self.committing = False

    def received(self, peer: bytes, frame: frames.ToBus) -> Callable[[], None]:
        return lambda: self.to_bus(stream.Received(peer, frame))

    def to_bus(self, event: stream.Input) -> None:
        self.bus, outputs = broker.step(self.bus, event, self.now)
        for output in outputs:
            match output:
                case stream.Reply(peer, frame):
                    self.carry(self.reply(peer, frame))
                case stream.Append() | stream.Advance():
                    self.queue.append(output)
                    self.commit()
                case stream.Quarantine(why):
                    self.durable = replace(self.durable, quarantined=why)
                case stream.Publish(events):
                    news = frames.Evt(self.lives["bus"], "s", events[-1].link, events)
                    self.carry(lambda news=news: self.to_consumer(news))
                case stream.ReadLog(peer, get):
                    found = tuple(e for e in self.log if e.seq > get.after.seq)[: get.rows_max]
                    read = stream.LogRead(peer, get, found)
                    self.later("bus", lambda read=read: self.to_bus(read))

    def commit(self) -> None:
        if self.queue and not self.committing:
            self.committing = True
            self.later("bus", self.committed)

    def committed(self) -> None:
        """The disk has done the oldest of what waits; or there was no space for any of it."""
        self.committing = False
        if self.chance(0.05):
            self.queue.clear()
            self.to_bus(stream.Failed())
            return
        job = self.queue.pop(0)
        if isinstance(job, stream.Append):
            self.log += job.events
            self.durable = replace(self.durable, head=self.log[-1].link, staged=self.log[-1].link)
            self.to_bus(stream.Appended(job.events[-1].link))
        else:
            found = next((e.link for e in self.log if e.seq == job.head.seq), job.head)
            if found == job.head:
                del self.log[job.head.seq :]
                known = (*self.durable.epochs, *job.epochs)
                self.durable = replace(
                    self.durable, epochs=known, head=job.head, staged=job.head, quarantined=""
                )
            self.to_bus(stream.Advanced(found))
        self.commit()

    def reply(
        self, peer: bytes, frame: frames.ToProducer | frames.ToConsumer
    ) -> Callable[[], None]:
        """ZeroMQ keeps connections apart: only the life that was spoken to hears the answer."""

        def arrive() -> None:
            if peer == b"p%d" % self.lives["producer"]:
                self.to_producer(frame)
            elif peer == b"c%d" % self.lives["consumer"]:
                self.to_consumer(frame)

        return arrive

    def beat(self) -> None:
        beat, life = broker.beat(self.bus), self.lives["bus"]

        def arrive() -> None:
            for who, tell in (("producer", self.to_producer), ("consumer", self.to_consumer)):
                if self.heard_life[who] not in {0, life}:
                    tell(timing.Reborn())
                self.heard_life[who] = life
            self.to_consumer(beat)

        self.carry(arrive)

    # The consumer

    def start_consumer(self) -> None:
        self.lives["consumer"] += 1
        self.heard_life["consumer"] = 0
        self.consumer = subscription.Consumer("c", "s")
        self.to_consumer(timing.Begin(self.random.getrandbits(32)))

    def to_consumer(self, event: subscription.Input) -> None:
        self.consumer, outputs = consumer.step(self.consumer, event, self.now)
        for output in outputs:
            match output:
                case timing.Send(frame):
                    peer = b"c%d" % self.lives["consumer"]
                    self.carry(self.received(peer, frame))
                    if self.chance(0.01):
                        self.later("consumer", lambda: self.to_consumer(timing.Unsent()))
                case subscription.ReadCursor():
                    self.later("consumer", self.read_cursor)
                case subscription.Apply(events):
                    self.later("consumer", lambda events=events: self.apply(events))
                case subscription.Notice(epoch, base):
                    self.later("consumer", lambda e=epoch, b=base: self.notice(e, b))
                case timing.Reconnect(after_s):
                    begin = timing.Begin(self.random.getrandbits(32))
                    self.later("consumer", lambda begin=begin: self.to_consumer(begin), after_s)

    def read_cursor(self) -> None:
        self.to_consumer(subscription.CursorRead(self.cursor))

    def apply(self, events: tuple[Event, ...]) -> None:
        """A transaction an event; a crash may come after any of them, an error before any."""
        for event in events:
            if self.chance(0.02):
                self.start_consumer()
                return
            if self.chance(0.02):
                answer = subscription.Handled(Applied(self.cursor, 0.05))
                self.to_consumer(answer)
                return
            if self.chance(0.01):
                self.to_consumer(subscription.InboxFailed())
                return
            assert event.previous == self.cursor.link, "offered out of place"
            self.effects.append(event)
            self.cursor = replace(self.cursor, link=event.link)
        self.to_consumer(subscription.Handled(Applied(self.cursor)))

    def notice(self, epoch: Epoch, base: Link) -> None:
        link = self.cursor.link
        if link.epoch < epoch.epoch and link.seq > epoch.base:
            gone = [e for e in self.effects if e.seq > epoch.base and e not in self.diverged]
            self.diverged += gone
            link = base
        self.cursor = Cursor(link, epoch.epoch, epoch.base)
        self.to_consumer(subscription.Noticed(self.cursor))

    # What must hold, whatever happened

    def check_safety(self) -> None:
        ids = [event.id for event in self.effects]
        assert len(set(ids)) == len(ids), "an event took effect twice"
        live = [event for event in self.effects if event not in self.diverged]
        numbers = [event.seq for event in live]
        assert numbers == list(range(1, len(live) + 1)), "a hole, or out of order"
        assert self.bus.head.seq == len(self.log), "the log is not what the bus shows"
        for mine, theirs in zip(self.log, self.outbox, strict=False):
            newest = self.durable.epochs[-1].epoch if self.durable.epochs else 0
            assert mine == theirs or newest < self.epochs[-1].epoch, "the log is another history"
        assert not self.bus.quarantined
        assert not self.producer.fence, self.producer.fence
        assert not self.consumer.fence, self.consumer.fence

    def check_converged(self) -> None:
        self.check_safety()
        assert self.log == self.outbox
        live = [event for event in self.effects if event not in self.diverged]
        assert live == self.outbox
        head = self.outbox[-1].link if self.outbox else ORIGIN
        assert self.cursor.link == head
        assert Position(self.cursor.known_epoch, 0) == Position(self.epochs[-1].epoch, 0)


def _first(due: tuple[float, Callable[[], None]]) -> float:
    return due[0]
