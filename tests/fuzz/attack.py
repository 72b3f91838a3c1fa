"""A real bus that serves a real producer and consumer while every endpoint is shot at."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import psutil
import zmq

from mesh import bus
from mesh.buses.zmq.endpoints import FEED, FETCH, INGEST
from mesh.buses.zmq.protocol import frames
from mesh.buses.zmq.wire import pack, unpack
from tests.buses.support import ROOT, BrokerProcess, FileInbox, FileOutbox, connected, until
from tests.fuzz.harm import harmed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BURST = 100
TELL_EVERY = 500
"""One event is told in so many harmed messages."""

TOPICS_MAX = 2000
"""Subscriptions of one connection to the feed; then it is closed, which takes them away."""

RAW_EVERY = 1000
"""So often, bytes that are not even ZeroMQ's are written to the socket."""

OURS = {
    INGEST: frames.Hello | frames.Put | frames.Ping,
    FETCH: frames.Attach | frames.Get | frames.Committed,
}


class Outcome(NamedTuple):
    """`grown_bytes`: resident memory beyond that before; `refused`: what the bus must have counted."""

    sent: int
    refused: int
    counted: int
    told: int
    applied: int
    grown_bytes: int
    log_is_outbox: bool
    exit_code: int


class CountingBroker(BrokerProcess):
    """The shipped program; at its end it prints how many messages it has dropped."""

    def start(self) -> None:
        module, function = self.broker.entry.split(":")
        counted = (
            "from mesh.buses.zmq.broker import Broker as B\n"
            "close = B.close\n"
            "async def told(self):\n"
            "    print('dropped', self.malformed, flush=True)\n"
            "    await close(self)\n"
            "B.close = told\n"
            f"from {module} import {function}\n{function}(*{self.broker.args!r})"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", counted], cwd=ROOT, stdout=subprocess.PIPE
        )

    def dropped(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        with self.process.stdout as said:
            words = said.read().split()
        return int(words[words.index(b"dropped") + 1])


class Attacker:
    """Harmed messages at one ROUTER."""

    def __init__(self, context: zmq.Context, path: Path, seed: int) -> None:
        self.path = path
        self.socket = context.socket(zmq.DEALER)
        self.socket.connect(f"ipc://{path}")
        self.chance = random.Random(seed)
        self.refused = 0

    def _send(self, message: list[bytes]) -> bool:
        try:
            self.socket.send_multipart(message, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def drain(self) -> list[list[bytes]]:
        heard = []
        with contextlib.suppress(zmq.Again):
            while True:
                heard.append(self.socket.recv_multipart(zmq.NOBLOCK))
        return heard

    async def shoot(self, count: int) -> None:
        for _ in range(count):
            message = harmed(self.chance)
            frame = unpack(message)
            self.refused += frame is None or not isinstance(frame, OURS[self.path.name])
            while not self._send(message):
                self.drain()
                await asyncio.sleep(0.001)
        self.drain()

    async def heard_out(self) -> None:
        """Wait until the bus has taken everything: it answers in order."""
        asks = frames.Ping(4_000_000_000)
        if self.path.name == FETCH:
            asks = frames.Get(4_000_000_000, 1, "*", bus.Position(0, 0), 1, 1)
        assert self._send(pack(asks))
        answers: list = []

        def answered() -> bool:
            answers.extend(unpack(message) for message in self.drain())
            return any(getattr(each, "session", None) == 4_000_000_000 for each in answers)

        await until(answered, f"{self.path.name} answers no more")


class FeedAttacker:
    """Subscriptions of anything, and words that are none."""

    def __init__(self, context: zmq.Context, path: Path, seed: int) -> None:
        self.context, self.path = context, path
        self.chance = random.Random(seed)
        self.topics = 0
        self.socket: zmq.Socket = self._connected()

    def _connected(self) -> zmq.Socket:
        made = self.context.socket(zmq.XSUB)
        made.connect(f"ipc://{self.path}")
        return made

    async def shoot(self, count: int) -> None:
        for _ in range(count):
            word = self.chance.choice((b"\x01", b"\x00", b"", b"\x01\x01HB\0"))
            message = [word + self.chance.randbytes(self.chance.randrange(60))]
            if self.chance.random() < 0.1:
                message += [self.chance.randbytes(9)]
            while True:
                try:
                    self.socket.send_multipart(message, zmq.NOBLOCK)
                    break
                except zmq.Again:
                    await asyncio.sleep(0.001)
        with contextlib.suppress(zmq.Again):
            while True:
                self.socket.recv_multipart(zmq.NOBLOCK)
        self.topics += count
        if self.topics >= TOPICS_MAX:
            self.socket.close(linger=100)
            self.socket, self.topics = self._connected(), 0


def _raw(path: Path, chance: random.Random) -> None:
    """Bytes that are no ZeroMQ at all, or the beginning of its greeting and then none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(0.5)
        plain.connect(str(path))
        greeting = bytes((0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F)) if chance.random() < 0.5 else b""
        plain.sendall(greeting + chance.randbytes(chance.randrange(1, 4096)))


def _logged(path: Path, stream: str) -> tuple[list[bytes], int]:
    """Hashes of one stream in the log, and the number of rows of all others."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as log:
        mine = log.execute("SELECT hash FROM log WHERE stream = ? ORDER BY seq", (stream,))
        hashes = [each for (each,) in mine.fetchall()]
        others = log.execute("SELECT count(*) FROM log WHERE stream <> ?", (stream,)).fetchone()
    return hashes, others[0]


async def attack(
    directory: Path, messages: int, seed: int = 1, told: Callable[[int], None] | None = None
) -> Outcome:
    """Send so many harmed messages to each endpoint."""
    wanted = bus.program("zmq://", directory=directory / "bus", sockets=directory / "run")
    assert wanted is not None
    process = CountingBroker(wanted, directory)
    process.start()
    context = zmq.Context()
    routers = [Attacker(context, directory / "run" / each, seed) for each in (INGEST, FETCH)]
    feed = FeedAttacker(context, directory / "run" / FEED, seed)
    outbox, inbox = FileOutbox(directory / "out.db", "order"), FileInbox(directory / "in.db")
    chance, count = random.Random(seed), 0
    try:
        async with (
            connected(wanted.client_url, "order") as teller,
            connected(wanted.client_url, "product") as hearer,
        ):
            teller.relay(outbox)
            hearer.subscribe(["order"], inbox)
            outbox.tell(b"0")
            teller.wake()
            await inbox.has("order", 1)
            for each in (*routers, feed):
                await each.shoot(min(BURST, messages))
            for each in routers:
                await each.heard_out()
            watched = psutil.Process(process.process.pid)
            before = watched.memory_info().rss
            count = min(BURST, messages)
            while count < messages:
                now = min(BURST, messages - count)
                for each in (*routers, feed):
                    await each.shoot(now)
                count += now
                if count % TELL_EVERY == 0:
                    outbox.tell(b"%d" % count)
                    teller.wake()
                if count % RAW_EVERY == 0:
                    for name in (INGEST, FETCH, FEED):
                        _raw(directory / "run" / name, chance)
                if told is not None:
                    told(count)
            for each in routers:
                await each.heard_out()
            await inbox.has("order", outbox.head().seq)
            grown = watched.memory_info().rss - before
        code = process.stop()
    finally:
        for each in (*routers, feed):
            each.socket.close(linger=0)
        context.term()
        if process.process.poll() is None:
            process.kill()
    events = await outbox.after(0, rows_max=10**6, bytes_max=10**9)
    hashes, others = _logged(directory / "bus" / "bus.db", "order")
    return Outcome(
        sent=3 * count,
        refused=sum(each.refused for each in routers),
        counted=process.dropped(),
        told=len(events),
        applied=len(inbox.effects("order")),
        grown_bytes=grown,
        log_is_outbox=hashes == [each.hash for each in events] and not others,
        exit_code=code,
    )
