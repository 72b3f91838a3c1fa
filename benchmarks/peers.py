"""Other ways to bring an event from one program to another: one publisher, one consumer.

    python benchmarks/peers.py PEER flood|paced EVENTS RATE

Needs the packages that `benchmarks/bus.py` installs into a directory of its own, and for the
brokers a server on its standard port here. Prints one JSON object. *Published* is what the other
side has confirmed; 256 messages may be on their way. Latency is from the moment a message was due
to the moment the consumer has done with it and confirmed it.

`zmq` is a bare PUSH/PULL pair: nothing is durable, nothing confirmed. `pair` is what one writes by
hand: an outbox and an inbox on SQLite with `synchronous=FULL`, group commits, a confirmation.
Redis is set to fsync every write and set back afterwards. JetStream fsyncs every two minutes,
whatever it confirms.
"""

import argparse
import asyncio
import json
import multiprocessing
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator

WINDOW = 256
BODY_BYTES = 400
WAIT_S = 120.0
NAME = "mesh-benchmark"
CONNECT_S = 5.0

_STAMP = struct.Struct(">q")
Publish = Callable[[list[bytes]], Awaitable[object]]


def body(due_ns: int) -> bytes:
    return _STAMP.pack(due_ns).ljust(BODY_BYTES, b"x")


def windows(mode: str, events: int, rate: float) -> Iterator[tuple[float, list[bytes]]]:
    """Seconds to wait, then what is due: at the rate, or as much as may be on its way."""
    start, number = time.monotonic_ns(), 0
    while number < events:
        if mode == "flood":
            due = min(events, number + WINDOW)
            yield 0.0, [body(time.monotonic_ns())] * (due - number)
        else:
            wait_s = (start + number * 1e9 / rate - time.monotonic_ns()) / 1e9
            yield max(0.0, wait_s), []
            due = min(events, number + WINDOW, int((time.monotonic_ns() - start) * rate / 1e9) + 1)
            yield 0.0, [body(start + int(n * 1e9 / rate)) for n in range(number, due)]
        number = due


class Received:
    """What the consumer has done with, and how late it was."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.late_ms: list[float] = []

    def done(self, bodies: list[bytes]) -> bool:
        """These are confirmed; True when they were the last."""
        now = time.monotonic_ns()
        self.late_ms += [(now - _STAMP.unpack_from(each)[0]) / 1e6 for each in bodies]
        return len(self.late_ms) >= self.events


# Raw ZeroMQ


def zmq_publish(directory: str, mode: str, events: int, rate: float) -> None:
    import zmq

    push = zmq.Context().socket(zmq.PUSH)
    push.connect(f"ipc://{directory}/raw")
    for wait_s, bodies in windows(mode, events, rate):
        if wait_s:
            time.sleep(wait_s)
        for each in bodies:
            push.send(each)
    push.close(linger=10_000)


def zmq_consume(directory: str, received: Received, ready) -> None:
    import zmq

    pull = zmq.Context().socket(zmq.PULL)
    pull.bind(f"ipc://{directory}/raw")
    ready.set()
    while not received.done([pull.recv()]):
        pass


# By hand: outbox, DEALER to ROUTER, inbox


def _durable(path: str, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", schema):
        connection.execute(sql)
    return connection


def pair_publish(directory: str, mode: str, events: int, rate: float) -> None:
    import zmq

    outbox = _durable(
        f"{directory}/out.db", "CREATE TABLE outbox (seq INTEGER PRIMARY KEY, body BLOB)"
    )
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.connect(f"ipc://{directory}/pair")
    told = confirmed = 0
    for wait_s, bodies in windows(mode, events, rate):
        if wait_s:
            time.sleep(wait_s)
        if not bodies:
            continue
        rows = [(told + n, each) for n, each in enumerate(bodies, 1)]
        outbox.execute("BEGIN IMMEDIATE")
        outbox.executemany("INSERT INTO outbox VALUES (?, ?)", rows)
        outbox.execute("COMMIT")
        told = rows[-1][0]
        dealer.send_multipart([_STAMP.pack(rows[0][0]), *bodies])
        while dealer.poll(0) or told - confirmed > 2 * WINDOW:
            confirmed = _STAMP.unpack(dealer.recv())[0]
    while confirmed < told:
        confirmed = _STAMP.unpack(dealer.recv())[0]
    dealer.close(linger=0)


def pair_consume(directory: str, received: Received, ready) -> None:
    import zmq

    inbox = _durable(
        f"{directory}/in.db", "CREATE TABLE inbox (seq INTEGER PRIMARY KEY, body BLOB)"
    )
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(f"ipc://{directory}/pair")
    ready.set()
    over = False
    while not over:
        messages = [router.recv_multipart()]
        while len(messages) < 8 and router.poll(0):
            messages.append(router.recv_multipart())
        inbox.execute("BEGIN IMMEDIATE")
        taken: list[bytes] = []
        for _, first, *bodies in messages:
            start = _STAMP.unpack(first)[0]
            inbox.executemany(
                "INSERT OR IGNORE INTO inbox VALUES (?, ?)", list(enumerate(bodies, start))
            )
            taken += bodies
            last = start + len(bodies) - 1
        inbox.execute("COMMIT")
        router.send_multipart([messages[-1][0], _STAMP.pack(last)])
        over = received.done(taken)
    time.sleep(0.2)
    router.close(linger=1000)


# NATS JetStream


async def nats_publish(mode: str, events: int, rate: float) -> None:
    import nats

    connection = await nats.connect("nats://127.0.0.1:4222", connect_timeout=CONNECT_S)
    stream = connection.jetstream(publish_async_max_pending=2 * WINDOW)

    async def publish(bodies: list[bytes]) -> None:
        for each in bodies:
            await stream.publish_async(f"{NAME}.x", each)
        await stream.publish_async_completed()

    await pace(publish, mode, events, rate)
    await connection.close()


async def nats_consume(received: Received, ready) -> None:
    import nats
    from nats.js.api import ConsumerConfig, StorageType

    connection = await nats.connect("nats://127.0.0.1:4222", connect_timeout=CONNECT_S)
    stream = connection.jetstream()
    await stream.add_stream(name=NAME, subjects=[f"{NAME}.>"], storage=StorageType.FILE)
    over = asyncio.get_running_loop().create_future()

    async def hear(message) -> None:
        await message.ack()
        if received.done([message.data]) and not over.done():
            over.set_result(None)

    try:
        await stream.subscribe(
            f"{NAME}.>",
            durable="c",
            cb=hear,
            manual_ack=True,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
            config=ConsumerConfig(max_ack_pending=5000),
        )
        ready.set()
        await over
    finally:
        await stream.delete_stream(NAME)
        await connection.close()


# Redis Streams


async def redis_publish(mode: str, events: int, rate: float) -> None:
    import redis.asyncio

    client = redis.asyncio.Redis(port=6379)

    async def publish(bodies: list[bytes]) -> None:
        together = client.pipeline(transaction=False)
        for each in bodies:
            together.xadd(NAME, {b"b": each})
        await together.execute()

    await pace(publish, mode, events, rate)
    await client.aclose()


async def redis_consume(received: Received, ready) -> None:
    import redis.asyncio

    client = redis.asyncio.Redis(port=6379, protocol=2)
    before = {name: (await client.config_get(name))[name] for name in ("appendonly", "appendfsync")}
    try:
        await client.config_set("appendonly", "yes")
        await client.config_set("appendfsync", "always")
        await client.delete(NAME)
        await client.xgroup_create(NAME, "g", "$", mkstream=True)
        while (await client.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.05)
        ready.set()
        over = False
        while not over:
            found = await client.xreadgroup("g", "c", {NAME: ">"}, count=WINDOW, block=2000)
            for _, rows in found or ():
                await client.xack(NAME, "g", *(number for number, _ in rows))
                over = received.done([row[b"b"] for _, row in rows])
    finally:
        await client.delete(NAME)
        for name, value in before.items():
            await client.config_set(name, value)
        await client.aclose()


# RabbitMQ


async def rabbit_publish(mode: str, events: int, rate: float) -> None:
    import aio_pika

    connection = await aio_pika.connect("amqp://guest:guest@127.0.0.1:5672/", timeout=CONNECT_S)
    channel = await connection.channel(publisher_confirms=True)
    exchange = channel.default_exchange

    def message(each: bytes) -> aio_pika.Message:
        return aio_pika.Message(each, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)

    async def publish(bodies: list[bytes]) -> None:
        await asyncio.gather(*(exchange.publish(message(b), routing_key=NAME) for b in bodies))

    await pace(publish, mode, events, rate)
    await connection.close()


async def rabbit_consume(received: Received, ready) -> None:
    import aio_pika

    connection = await aio_pika.connect("amqp://guest:guest@127.0.0.1:5672/", timeout=CONNECT_S)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=WINDOW)
    await channel.queue_delete(NAME)
    queue = await channel.declare_queue(NAME, durable=True)
    over = asyncio.get_running_loop().create_future()

    async def hear(message) -> None:
        await message.ack()
        if received.done([message.body]) and not over.done():
            over.set_result(None)

    await queue.consume(hear)
    ready.set()
    await over
    await channel.queue_delete(NAME)
    await connection.close()


# One trial


async def pace(publish: Publish, mode: str, events: int, rate: float) -> None:
    for wait_s, bodies in windows(mode, events, rate):
        if wait_s:
            await asyncio.sleep(wait_s)
        if bodies:
            await publish(bodies)


PEERS: dict[str, tuple[Callable, Callable]] = {
    "zmq": (zmq_publish, zmq_consume),
    "pair": (pair_publish, pair_consume),
    "nats": (nats_publish, nats_consume),
    "redis": (redis_publish, redis_consume),
    "rabbit": (rabbit_publish, rabbit_consume),
}


def _run(work: object) -> None:
    if asyncio.iscoroutine(work):
        import uvloop

        uvloop.run(work)


def _publisher(peer: str, directory: str, mode: str, events: int, rate: float, answers) -> None:
    publish = PEERS[peer][0]
    start = time.monotonic_ns()
    bare = peer in {"zmq", "pair"}
    _run(publish(directory, mode, events, rate) if bare else publish(mode, events, rate))
    answers.put(("publisher", start, time.monotonic_ns(), None))


def _consumer(peer: str, directory: str, events: int, ready, answers) -> None:
    received = Received(events)
    consume = PEERS[peer][1]
    bare = peer in {"zmq", "pair"}
    _run(consume(directory, received, ready) if bare else consume(received, ready))
    answers.put(("consumer", 0, time.monotonic_ns(), received.late_ms))


def trial(peer: str, mode: str, events: int, rate: float) -> dict[str, float]:
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        answers, ready = start.Queue(), start.Event()
        consumer = start.Process(target=_consumer, args=(peer, name, events, ready, answers))
        publisher = start.Process(target=_publisher, args=(peer, name, mode, events, rate, answers))
        try:
            consumer.start()
            end = time.monotonic() + WAIT_S
            while not ready.wait(0.1):
                if not consumer.is_alive() or time.monotonic() > end:
                    raise SystemExit(f"{peer}: the consumer could not begin")
            publisher.start()
            found = {each[0]: each[1:] for each in (answers.get(timeout=WAIT_S) for _ in "12")}
        finally:
            for process in (publisher, consumer):
                if process.pid is not None:
                    process.join(1.0)
                    process.kill()
    begun, published, _ = found["publisher"]
    _, ended, late_ms = found["consumer"]
    late_ms.sort()
    return {
        "published/s": events / (published - begun) * 1e9,
        "end to end/s": events / (ended - begun) * 1e9,
        "p50 ms": late_ms[len(late_ms) // 2],
        "p99 ms": late_ms[int(len(late_ms) * 0.99)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("mode", choices=("flood", "paced"))
    parser.add_argument("events", type=int)
    parser.add_argument("rate", type=float)
    options = parser.parse_args()
    json.dump(trial(options.peer, options.mode, options.events, options.rate), sys.stdout)


if __name__ == "__main__":
    main()
