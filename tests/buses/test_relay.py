"""How the relay reads an outbox: what is told in a row waits for company, what is told alone does not."""

from __future__ import annotations

import asyncio

import pytest

from mesh import clock
from mesh.bus import ORIGIN
from mesh.buses.zmq.client import ZmqBus
from mesh.buses.zmq.protocol.frames import Hello, Put, Welcome
from mesh.buses.zmq.protocol.timing import PACE_S
from mesh.buses.zmq.relay import Relay
from tests.buses.support import WAIT_S, FileOutbox


class Reads(FileOutbox):
    """Counts how often it is read."""

    reads = 0

    async def after(self, seq: int, *, rows_max: int, bytes_max: int):
        self.reads += 1
        return await super().after(seq, rows_max=rows_max, bytes_max=bytes_max)


class Bench:
    """A relay that is welcomed, and what it has sent."""

    def __init__(self, outbox: Reads, pace_s: float | None = None) -> None:
        self.sent: list[int] = []
        self.came = asyncio.Event()
        self.relay = Relay(outbox.stream, outbox, self.send, pace_s=pace_s)

    def send(self, frame) -> bool:
        if isinstance(frame, Hello):
            welcome = Welcome(frame.session, frame.req, ORIGIN, 1000, 10**7)
            asyncio.get_running_loop().call_soon(self.relay.hear, welcome)
        if isinstance(frame, Put):
            self.sent += [event.seq for event in frame.events]
            self.came.set()
        return True

    async def until(self, seq: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.sent or self.sent[-1] < seq:
                self.came.clear()
                await self.came.wait()


@pytest.fixture
async def bench(tmp_path, request):
    outbox = Reads(tmp_path / "outbox.db", "order")
    outbox.tell(b"1")
    made = Bench(outbox, getattr(request, "param", None))
    await made.until(1)
    yield made, outbox
    await made.relay.close()
    outbox.db.close()


@pytest.mark.parametrize("bench", [None, 0.02], indirect=True)
async def test_what_is_told_in_a_row_travels_together(bench, request):
    made, outbox = bench
    pace_s = request.node.callspec.params["bench"] or PACE_S
    since_s, before = clock.monotonic_s(), outbox.reads
    for number in range(2, 80):
        outbox.tell(b"%d" % number)
        made.relay.wake()
        await asyncio.sleep(0.001)
    await made.until(79)
    paces = (clock.monotonic_s() - since_s) / pace_s
    assert outbox.reads - before <= 2 + paces
    assert made.sent == list(range(1, 80))


async def test_what_is_told_after_a_pause_goes_at_once(bench, monkeypatch):
    made, outbox = bench
    before = outbox.reads
    made.relay.wake()
    while outbox.reads == before:
        await asyncio.sleep(PACE_S / 5)
    await asyncio.sleep(2 * PACE_S)
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", None)
    outbox.tell(b"2")
    made.relay.wake()
    await made.until(2)


@pytest.mark.parametrize("first", ["relay", "start"])
async def test_pace_is_the_one_that_the_producer_says(tmp_path, first):
    outbox, bus = Reads(tmp_path / "outbox.db", "order"), ZmqBus(tmp_path / "run", "order")
    if first == "relay":
        bus.relay(outbox, pace_s=0.5)
    await bus.start()
    if first == "start":
        bus.relay(outbox, pace_s=0.5)
    assert bus._relay is not None
    assert bus._relay._pace_s == 0.5
    await bus.close()
    outbox.db.close()
