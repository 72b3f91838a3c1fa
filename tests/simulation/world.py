"""Outbox, bus and inbox under virtual time, on what ships: rules, framework, log, SQLite.

The outbox and the inbox are the framework's on real SQLite, the bus keeps its real log; between
them messages are lost, doubled, delayed, overtaken, and whole links go down. Processes die between
and inside transactions, all at once when the power goes, and the producer is restored from an
earlier snapshot under a new epoch. A seed is the same story each time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec
from mesh.bus import ORIGIN, Epoch, Link, Trace
from mesh.buses.contract import Follower
from mesh.buses.zmq.log import Advancing, Group, Log, Seen
from mesh.buses.zmq.protocol import broker, consumer, frames, producer, stream, subscription, timing
from mesh.buses.zmq.protocol.lineage import intact
from mesh.buses.zmq.protocol.retention import passed
from mesh.framework import Listener
from mesh.framework.inbox import ServiceInbox
from mesh.framework.transaction import Vocabulary
from tests.buses.world import World
from tests.simulation.stores import Dead, Store, Teller, Waits, fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACTS = 80
"""Things that happen before the faults end."""

HEAL_S = 12.0
"""Longer than every timeout of the protocol, and than the latest message still on its way."""

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where the logs lie: their fsyncs must not wait for a disk that nobody cuts here."""

STREAM = "s"
LINKS = ("ingest", "fetch", "feed")
EFFECT = "CREATE TABLE effect (n INTEGER PRIMARY KEY, told INTEGER NOT NULL) STRICT;"


class Told(Struct, frozen=True):
    number: int


class Effect(Struct):
    told: int


class Span(Struct):
    from_seq: int
    to_seq: int


def take_effect(tx, data: Told) -> None:
    tx.execute("INSERT INTO effect (told) VALUES (:told)", told=data.number)


LISTENER = Listener("s.thing_told", take_effect, Told)
WORDS = Vocabulary({}, frozenset(), lambda _: None)
TRACE = codec.decode(b"{}", Trace)


@functools.cache
def blank(sql: str = "") -> bytes:
    return fresh(sql)


@contextlib.contextmanager
def chance_and_time(chance: random.Random, now: Callable[[], float]) -> Iterator[None]:
    """The one door to time and chance leads to the seed."""
    with contextlib.ExitStack() as undo:
        for name, stand_in in (
            ("random_hex", lambda n_bytes: chance.randbytes(n_bytes).hex()),
            ("uuid7", lambda: chance.randbytes(16)),
            ("uniform", chance.uniform),
            ("now_ms", lambda: 1_800_000_000_000 + int(now() * 1000)),
            ("monotonic_s", now),
        ):
            undo.callback(setattr, clock, name, getattr(clock, name))
            setattr(clock, name, stand_in)
        logger = logging.getLogger("mesh")
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
        yield


class Simulation(World):
    """`World` keeps time, chance and the messages; here is what it stores them in."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.waits = Waits()
        self.directory = directory
        self.teller = Teller(blank(), STREAM)
        self.hearer = Store(blank(EFFECT))
        self.snapshots = [(0, self.teller.store.snapshot())]
        self.told = 0
        self.history: list[int] = []
        self.down: dict[str, float] = {}
        self.dying = False
        self.disk: Log | None = None
        self.story: list[str] = []
        super().__init__(seed)

    def close(self) -> None:
        self.disk.close()
        self.teller.store.close()
        self.hearer.close()
        self.waits.close()

    # Links

    def over(self, link: str, work: Callable[[], None]) -> None:
        """A message on this link, which may be down when it is sent or when it would arrive."""

        def arrive() -> None:
            if self.now >= self.down.get(link, 0.0):
                work()

        if self.now >= self.down.get(link, 0.0):
            self.carry(arrive)

    def partition(self, link: str, seconds: float) -> None:
        self.down[link] = self.now + seconds

    def beat(self) -> None:
        if self.now >= self.down.get("feed", 0.0):
            super().beat()

    # The producer

    def tell(self) -> None:
        self.told += 1
        self.teller.tell(TRACE, b'{"number":%d}' % self.told)
        self.history.append(self.told)
        if self.random.random() < 0.2:
            self.snapshots.append((len(self.history), self.teller.store.snapshot()))
        self.to_producer(timing.Grown())

    def restore(self) -> None:
        """Back to an earlier snapshot under a new epoch; the program starts anew."""
        length, content = self.random.choice(self.snapshots)
        before = self.waits(self.teller.outbox.state()).epochs
        self.teller.store.close()
        self.teller = Teller(content, STREAM)
        known = len(self.waits(self.teller.outbox.state()).epochs)
        for epoch in before[known:]:
            self.teller.store.transact(_remember, epoch)
        self.teller.begin_epoch()
        del self.history[length:]
        self.snapshots = [each for each in self.snapshots if each[0] <= length]
        self.start_producer()

    def to_producer(self, event: producer.Input) -> None:
        self.producer, outputs = producer.step(self.producer, event, self.now)
        outbox = self.teller.outbox
        for output in outputs:
            match output:
                case timing.Send(frame):
                    self.over("ingest", self.received(b"p%d" % self.lives["producer"], frame))
                    if self.chance(0.01):
                        self.later("producer", lambda: self.to_producer(timing.Unsent()))
                case producer.ReadState() | producer.ReadOutbox() if self.chance(0.02):
                    self.later("producer", lambda: self.to_producer(producer.ReadFailed()))
                case producer.ReadState(session, req):
                    read = producer.StateRead(session, req, self.waits(outbox.state()))
                    self.later("producer", lambda read=read: self.to_producer(read))
                case producer.ReadOutbox(after, rows_max, bytes_max):
                    events = self.waits(outbox.after(after, rows_max=rows_max, bytes_max=bytes_max))
                    rows = producer.Rows(after, tuple(events))
                    self.later("producer", lambda rows=rows: self.to_producer(rows))
                case producer.Acknowledged(position):
                    self.waits(outbox.acknowledged(position))
                case timing.Reconnect(after_s):
                    begin = timing.Begin(self.random.getrandbits(32))
                    self.later("producer", lambda begin=begin: self.to_producer(begin), after_s)

    # The bus

    def start_bus(self, *, empty: bool = False) -> None:
        self.lives["bus"] += 1
        if self.disk is not None:
            self.disk.close()
        if empty:
            for file in self.directory.glob("bus.db*"):
                file.unlink()
        self.disk = Log(self.directory)
        blank_stream = stream.Stream(STREAM)
        self.bus = next((each for each in self.disk.streams if each.name == STREAM), blank_stream)
        self.queue = []
        self.committing = False

    def to_bus(self, event: stream.Input) -> None:
        self.bus, outputs = broker.step(self.bus, event, self.now)
        for output in outputs:
            match output:
                case stream.Reply(peer, frame):
                    link = "fetch" if isinstance(frame, frames.ToConsumer) else "ingest"
                    self.over(link, self.reply(peer, frame))
                case stream.Append() | stream.Advance():
                    self.queue.append(output)
                    self.commit()
                case stream.Quarantine(why):
                    self.write(Group(quarantines=((STREAM, why),)))
                case stream.Record(name, cursor, known_epoch):
                    who = Follower(name, cursor, known_epoch, clock.now_ms(), required=True)
                    self.write(Group(seen=(Seen(STREAM, who),)))
                case stream.Trim(seq):
                    self.write(Group(trims=((STREAM, seq),)))
                case stream.Publish(events):
                    news = frames.Evt(self.lives["bus"], STREAM, events[-1].link, events)
                    self.over("feed", lambda news=news: self.to_consumer(news))
                case stream.ReadLog(peer, get):
                    found = self.disk.read(STREAM, get.after.seq, get.rows_max, get.bytes_max)
                    read = stream.LogRead(peer, get, found)
                    self.later("bus", lambda read=read: self.to_bus(read))

    def write(self, group: Group) -> tuple[Link, ...]:
        found = self.disk.stage(group)
        self.disk.commit()
        return found

    def committed(self) -> None:
        self.committing = False
        if self.chance(0.05):
            self.queue.clear()
            self.to_bus(stream.Failed())
            return
        job = self.queue.pop(0)
        if isinstance(job, stream.Append):
            self.write(Group(events=job.events))
            self.to_bus(stream.Appended(job.events[-1].link))
        else:
            (found,) = self.write(Group(advances=(Advancing(STREAM, job.epochs, job.head),)))
            self.to_bus(stream.Advanced(found))
        self.commit()

    def trim(self) -> None:
        """What its consumer has behind it goes, however young it is."""
        followers = [each.who for each in self.disk.followers()]
        if followers:
            self.to_bus(stream.Outlived(passed(self.bus, followers)))

    # The consumer

    def start_consumer(self) -> None:
        self.dying = False
        self.hearer.mortal = self.mortal
        self.inbox = ServiceInbox(self.hearer, WORDS, (LISTENER,))
        try:
            self.waits(self.inbox.prepare())
        except Dead:
            self.dying = False
            self.hearer.mortal = lambda: None
            self.waits(self.inbox.prepare())
            self.hearer.mortal = self.mortal
        super().start_consumer()

    def mortal(self) -> None:
        """Before and after each commit of the consumer: once dead, always dead."""
        if self.dying or self.chance(0.01):
            self.dying = True
            raise Dead

    def to_consumer(self, event: subscription.Input) -> None:
        self.consumer, outputs = consumer.step(self.consumer, event, self.now)
        for output in outputs:
            match output:
                case timing.Send(frame):
                    self.over("fetch", self.received(b"c%d" % self.lives["consumer"], frame))
                    if self.chance(0.01):
                        self.later("consumer", lambda: self.to_consumer(timing.Unsent()))
                case timing.Reconnect(after_s):
                    begin = timing.Begin(self.random.getrandbits(32))
                    self.later("consumer", lambda begin=begin: self.to_consumer(begin), after_s)
                case _:
                    self.later("consumer", lambda output=output: self.ask_inbox(output))

    def ask_inbox(self, output: subscription.Output) -> None:
        """Whatever the rules want of the inbox; it may die over it, or fail."""
        if self.chance(0.01):
            self.to_consumer(subscription.InboxFailed())
            return
        try:
            match output:
                case subscription.ReadCursor():
                    answer = subscription.CursorRead(self.waits(self.inbox.cursor(STREAM)))
                case subscription.Apply(events):
                    answer = subscription.Handled(self.waits(self.inbox.apply(STREAM, events)))
                case subscription.Notice(epoch, base):
                    cursor = self.waits(self.inbox.notice(STREAM, epoch, base))
                    answer = subscription.Noticed(cursor)
                case subscription.Start():
                    raise AssertionError("a consumer begins late, with nothing lost")
        except Dead:
            self.start_consumer()
            return
        self.to_consumer(answer)

    # What must hold, whatever happened

    def took_effect(self) -> list[int]:
        found = self.hearer.read.all(Effect, "SELECT told FROM effect ORDER BY n LIMIT 100000")
        return [each.told for each in found]

    def check_safety(self) -> None:
        effects, kept = self.took_effect(), set(self.history)
        assert len(set(effects)) == len(effects), "an event took effect twice"
        current = [each for each in effects if each in kept]
        assert current == self.history[: len(current)], "a hole, or out of order"
        assert not self.bus.quarantined, self.bus.quarantined
        assert not self.producer.fence, self.producer.fence
        assert not self.consumer.fence, self.consumer.fence
        assert self.disk.read(STREAM, self.bus.head.seq, 1, 1) == (), "more than the bus knows of"

    def check_converged(self) -> None:
        self.check_safety()
        told = self.waits(self.teller.outbox.after(0, rows_max=10**6, bytes_max=10**9))
        state = self.waits(self.teller.outbox.state())
        cursor = self.waits(self.inbox.cursor(STREAM))
        effects, kept = self.took_effect(), set(self.history)
        assert [codec.decode(each.body, Told).number for each in told] == self.history
        kept_from = self.bus.tail_seq - 1
        logged = self.disk.read(STREAM, 0, 10**6, 10**9)
        assert logged == tuple(told[kept_from:]), "the log is not the outbox"
        assert [each for each in effects if each in kept] == self.history, "lost"
        assert cursor.link == state.head, "behind"
        assert cursor.known_epoch == state.epochs[-1].epoch, "does not know the epoch"
        spans = self.hearer.read.all(Span, "SELECT from_seq, to_seq FROM mlp_diverged LIMIT 1000")
        flagged = sum(each.to_seq - each.from_seq + 1 for each in spans)
        assert flagged == len(effects) - len(self.history), "replaced effects are not flagged"
        assert all(hash_holds(told)), "the chain is broken"


def hash_holds(events) -> Iterator[bool]:
    last = ORIGIN
    for event in events:
        yield event.previous == last and intact(event)
        last = event.link


def _remember(tx, epoch: Epoch) -> None:
    """An epoch that began after the snapshot was taken."""
    tx.execute(
        "INSERT INTO mlp_epoch (epoch, base, base_hash, nonce)"
        " VALUES (:epoch, :base, :base_hash, :nonce)",
        epoch=epoch.epoch,
        base=epoch.base,
        base_hash=epoch.base_hash,
        nonce=epoch.nonce,
    )


# The story


def _tells(world: Simulation) -> None:
    for _ in range(world.random.randrange(1, 6)):
        world.tell()


def _power_goes(world: Simulation) -> None:
    world.start_producer()
    world.start_bus()
    world.start_consumer()


def _link_fails(world: Simulation) -> None:
    world.partition(world.random.choice(LINKS), world.random.uniform(0.1, 4.0))


ACTIONS: tuple[tuple[str, float, Callable[[Simulation], None]], ...] = (
    ("tell", 50, _tells),
    ("the producer dies", 6, Simulation.start_producer),
    ("the bus dies", 6, Simulation.start_bus),
    ("the log is removed", 1, lambda world: world.start_bus(empty=True)),
    ("the consumer dies", 6, Simulation.start_consumer),
    ("the power goes", 3, _power_goes),
    ("a link fails", 8, _link_fails),
    ("the log is trimmed", 4, Simulation.trim),
    ("wait", 14, lambda _: None),
    ("restore", 2, Simulation.restore),
)
"""What may happen, and how often in a hundred."""


def act(world: Simulation, restores: float) -> str:
    weights = [weight for _, weight, _ in ACTIONS[:-1]]
    ((name, _, does),) = world.random.choices(ACTIONS, [*weights, restores])
    does(world)
    return name


def simulate(seed: int, restores: float = ACTIONS[-1][1]) -> list[str]:
    """Run one seed; what happened, and at the end what was wrong, if something was.

    Args:
        restores: how often in a hundred the producer is restored, in stories where it may be: those
            of even seeds.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-sim-", dir=MEMORY))
        chance = random.Random(seed + 1)
        worlds: list[Simulation] = []
        now = lambda: worlds[0].now if worlds else 0.0  # noqa: E731
        stack.enter_context(chance_and_time(chance, now))
        world = Simulation(seed, Path(directory))
        worlds.append(world)
        stack.callback(world.close)
        try:
            often = 0.0 if seed % 2 else restores
            for _ in range(ACTS):
                world.story.append(f"{world.now - 100.0:6.2f} {act(world, often)}")
                world.run(world.random.uniform(0.0, 0.3))
                world.check_safety()
            world.trouble = False
            world.down.clear()
            world.run(HEAL_S)
            world.check_converged()
        except Exception as error:  # noqa: BLE001  whatever it is, this seed has found it
            return [*world.story, f"WRONG: {error!r}"]
        return world.story
