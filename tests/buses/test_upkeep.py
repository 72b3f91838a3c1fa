"""What the bus lets go, what it refuses, and that it never drops anything to make room (R11, F42)."""

from __future__ import annotations

import logging

import pytest

from mesh import clock, tokens
from mesh.buses.contract import NO_HASH, ORIGIN, Epoch, Follower, Position
from mesh.buses.zmq.broker import Broker
from mesh.buses.zmq.client import ZmqBus
from mesh.buses.zmq.keys import Keys
from mesh.buses.zmq.log import Log
from mesh.buses.zmq.protocol.retention import passed
from mesh.buses.zmq.protocol.stream import Stream
from mesh.buses.zmq.upkeep import Limits, Upkeep
from tests.buses.histories import FIRST, chain
from tests.buses.support import FileInbox, FileOutbox, until

HEAD = chain(100)[-1].link
SECOND, THIRD = Epoch(2, 50, NO_HASH, b"2"), Epoch(3, 80, NO_HASH, b"3")


def follower(seq: int, known_epoch: int = 1, *, required: bool = True) -> Follower:
    return Follower("product", Position(1, seq), known_epoch, 0, required)


@pytest.mark.parametrize(
    ("epochs", "followers", "expected"),
    [
        ((FIRST,), [], 100),
        ((FIRST,), [follower(40), follower(70)], 40),
        ((FIRST,), [follower(40, required=False), follower(70)], 70),
        ((FIRST,), [follower(140)], 100),
        ((FIRST,), [follower(0, 0)], 0),
        ((FIRST, SECOND), [follower(90, 1)], 50),
        ((FIRST, SECOND), [follower(90, 2)], 90),
        ((FIRST, SECOND), [follower(30, 1)], 30),
        ((FIRST, SECOND, THIRD), [follower(90, 1)], 50),
        ((FIRST, SECOND, THIRD), [follower(90, 2)], 80),
        ((FIRST, THIRD), [follower(90, 2)], 80),
    ],
)
def test_nobody_loses_what_it_will_still_need(epochs, followers, expected):
    stream = Stream("order", epochs=epochs, head=HEAD, staged=HEAD)
    assert passed(stream, followers) == expected


class Place:
    """A bus, its one producer and its one consumer; each can be started and stopped."""

    def __init__(self, directory, *, bytes_max: int, **limits) -> None:
        self.directory = directory
        self.limits = Limits(bytes_max=bytes_max, **limits)
        self.outbox = FileOutbox(directory / "order.db", "order")
        self.inbox = FileInbox(directory / "product.db")
        self.running: dict[str, Broker | ZmqBus] = {}

    @property
    def stream(self) -> Stream:
        return self.broker._streams.get("order", Stream("order"))

    @property
    def kept(self):
        """What the log holds durably."""
        return self.broker._log.read("order", 0, 1000, 10**7)

    @property
    def reported(self) -> int:
        """How far the bus knows durably that the consumer is."""
        return max((each.who.cursor.seq for each in self.broker._log.followers()), default=0)

    async def start(self, *names: str) -> None:
        for name in names:
            await getattr(self, f"_start_{name}")()

    async def _start_bus(self) -> None:
        log = Log(self.directory / "bus", bytes_max=self.limits.bytes_max)
        self.broker = Broker(log, self.directory / "run", limits=self.limits)
        self.broker.start()
        self.running["bus"] = self.broker

    async def _start_producer(self) -> None:
        self.producer = ZmqBus(self.directory / "run", "order")
        self.producer.relay(self.outbox)
        await self.producer.start()
        self.running["producer"] = self.producer

    async def _start_consumer(self) -> None:
        consumer = ZmqBus(self.directory / "run", "product")
        consumer.subscribe(["order"], self.inbox)
        await consumer.start()
        self.running["consumer"] = consumer

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.running.pop(name).close()

    def tell(self, count: int, size: int = 10) -> None:
        self.outbox.tell(*[b"x" * size] * count)
        self.producer.wake()

    @property
    def applied(self) -> list[int]:
        return [seq for seq, _ in self.inbox.effects("order")]


@pytest.fixture
async def place(tmp_path):
    made: list[Place] = []

    def make(**more) -> Place:
        made.append(Place(tmp_path, **{"bytes_max": 2**40, **more}))
        return made[-1]

    yield make
    for each in made:
        await each.stop(*each.running)


async def test_events_go_when_they_are_old_and_everybody_required_has_them(place):
    shop = place(retention_ms=0, trim_every_s=0.05)
    await shop.start("bus", "producer", "consumer")
    shop.tell(50)
    await until(lambda: shop.stream.tail_seq == 50, "the head stays, the rest goes")
    await until(lambda: shop.reported == 50)
    await shop.stop("consumer")
    shop.tell(50)
    await until(lambda: shop.outbox.acked.seq == 100)
    await until(lambda: shop.stream.tail_seq == 51, "what the consumer has goes")
    await shop.start("consumer")
    await until(lambda: len(shop.applied) == 100)
    assert shop.applied == list(range(1, 101))


async def test_young_events_stay(place):
    shop = place(retention_ms=3_600_000, trim_every_s=0.02)
    await shop.start("bus", "producer", "consumer")
    shop.tell(50)
    await until(lambda: len(shop.applied) == 50)
    looked = clock.monotonic_s()
    await until(lambda: clock.monotonic_s() - looked > 0.2)
    assert shop.stream.tail_seq == 1


async def test_tail_and_followers_are_known_to_the_next_life_of_the_bus(place):
    shop = place(retention_ms=0, trim_every_s=0.05)
    await shop.start("bus", "producer", "consumer")
    shop.tell(30)
    await until(lambda: [each.seq for each in shop.kept] == [30] and shop.reported == 30)
    await shop.stop("consumer", "producer", "bus")
    await shop.start("bus")
    assert shop.stream.tail_seq == 30
    (known,) = shop.broker._upkeep.followers("order")
    assert (known.name, known.cursor.seq, known.required) == ("product", 30, True)


async def test_full_log_refuses_and_drops_nothing_until_the_dead_consumer_is_back(place, caplog):
    caplog.set_level(logging.ERROR)
    shop = place(bytes_max=1_500_000, retention_ms=0, trim_every_s=0.05)
    await shop.start("bus", "producer", "consumer")
    shop.tell(20)
    await until(lambda: len(shop.applied) == 20)
    await until(lambda: shop.stream.tail_seq == 20 and shop.reported == 20)
    await shop.stop("consumer")
    said: set[str] = set()
    for _ in range(200):
        acked = shop.outbox.acked.seq
        shop.tell(40, size=1000)
        await until(
            lambda acked=acked: shop.outbox.acked.seq > acked or shop.broker._upkeep.refusing
        )
        said |= {" ".join(text.split()[:3]) for text in shop.broker.complaints}
        if shop.broker._upkeep.refusing:
            break
    assert said == {"the log holds", "no event is"}, "first the alarm, then the refusal"
    shop.tell(500, size=1000)
    assert shop.outbox.acked.seq < shop.outbox.head().seq, "the outbox holds what the bus refuses"
    assert shop.kept[0].seq <= 21, "nothing is dropped that the dead consumer needs"
    assert shop.broker._log.used_bytes <= 1_500_000
    assert any("mesh events lag" in record.getMessage() for record in caplog.records)
    await shop.start("consumer")
    total = shop.outbox.head().seq
    await until(lambda: len(shop.applied) == total)
    assert shop.applied == list(range(1, total + 1))
    await until(lambda: shop.outbox.acked.seq == total)
    await until(lambda: shop.broker.complaints == [])


async def test_bus_that_has_lost_its_log_begins_where_the_outbox_does(place):
    shop = place(retention_ms=3_600_000)
    await shop.start("bus", "producer", "consumer")
    shop.tell(30)
    await until(lambda: len(shop.applied) == 30)
    await until(lambda: shop.outbox.acked.seq == 30)
    await shop.stop("consumer", "producer", "bus")
    for file in (shop.directory / "bus").glob("bus.db*"):
        file.unlink()
    shop.outbox.trim(20)
    await shop.start("bus", "producer", "consumer")
    shop.tell(5)
    await until(lambda: len(shop.applied) == 35)
    assert shop.applied == list(range(1, 36))
    assert (shop.stream.tail_seq, shop.stream.head.seq) == (21, 35)


async def test_consumer_that_needs_what_nobody_keeps_is_told_so(place):
    shop = place(retention_ms=3_600_000)
    await shop.start("bus", "producer", "consumer")
    shop.tell(10)
    await until(lambda: len(shop.applied) == 10)
    await shop.stop("consumer")
    shop.tell(20)
    await until(lambda: shop.outbox.acked.seq == 30)
    await shop.stop("producer", "bus")
    for file in (shop.directory / "bus").glob("bus.db*"):
        file.unlink()
    shop.outbox.trim(20)
    await shop.start("bus", "producer")
    await until(lambda: shop.stream.head.seq == 30)
    await shop.start("consumer")
    consumer = shop.running["consumer"]
    await until(lambda: consumer.state.startswith("fenced: TRIMMED"))
    assert "no longer holds event 11 of order" in consumer.state
    assert shop.applied == list(range(1, 11)), "nothing is skipped"
    assert shop.inbox.db.execute("SELECT seq FROM cursor").fetchone() != (ORIGIN.seq,)


async def test_consumer_that_is_new_to_a_stream_hears_what_is_still_kept(place):
    shop = place(retention_ms=0, trim_every_s=0.05)
    await shop.start("bus", "producer", "consumer")
    shop.tell(30)
    await until(lambda: [each.seq for each in shop.kept] == [30] and shop.reported == 30)
    await shop.stop("consumer")
    shop.tell(5)
    await until(lambda: [each.seq for each in shop.kept] == list(range(31, 36)))
    late = FileInbox(shop.directory / "user.db")
    newcomer = ZmqBus(shop.directory / "run", "user")
    newcomer.subscribe(["order"], late)
    await newcomer.start()
    shop.running["newcomer"] = newcomer
    await until(lambda: len(late.effects("order")) == 5)
    shop.tell(3)
    await until(lambda: len(late.effects("order")) == 8)
    assert [seq for seq, _ in late.effects("order")] == list(range(31, 39))
    await until(lambda: newcomer.state == "live")


def upkeep(tmp_path, monkeypatch, keys=None):
    """An upkeep whose events are kept for 100 s, at 1000 s."""
    now = [1_000_000]
    monkeypatch.setattr(clock, "now_ms", lambda: now[0])
    log = Log(tmp_path / "bus")
    return Upkeep(log, keys, Limits(retention_ms=100_000)), now, log


def needed(kept: Upkeep) -> dict[str, bool]:
    return {each.name: each.required for each in kept.followers("order")}


def test_consumer_that_is_away_altogether_stays_required(tmp_path, monkeypatch):
    kept, now, log = upkeep(tmp_path, monkeypatch)
    kept.saw("order", "product", Position(1, 3), 1)
    now[0] += 10**9
    assert needed(kept) == {"product": True}
    log.close()


def test_consumer_that_listens_to_this_stream_no_more_is_required_no_more(tmp_path, monkeypatch):
    kept, now, log = upkeep(tmp_path, monkeypatch)
    for stream in ("order", "user"):
        kept.saw(stream, "product", Position(1, 3), 1)
    now[0] += 60_000
    kept.heard("user", "product")
    assert needed(kept) == {"product": True}
    now[0] += 60_000
    assert needed(kept) == {"product": False}
    kept.heard("order", "product")
    assert needed(kept) == {"product": True}, "one that stands still but asks is there"
    log.close()


def test_consumer_that_has_left_the_configuration_is_not_required(tmp_path, monkeypatch):
    keys = Keys({"product": tokens.new_key().public})
    kept, _, log = upkeep(tmp_path, monkeypatch, keys)
    for name in ("product", "product/audit", "gone"):
        kept.saw("order", name, Position(1, 3), 1)
    assert needed(kept) == {"product": True, "product/audit": True, "gone": False}
    log.close()
