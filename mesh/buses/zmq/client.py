"""One program's connection to the broker: its relay, its deliveries, its readers of the log.

The context is made in `start`, never at import, so a process may be forked from one that has
imported this. That the bus is away is no error here: everybody goes on trying.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import zmq

from mesh import clock
from mesh.buses.contract import ORIGIN, Arrived, StreamHead
from mesh.buses.disorder import Disorder
from mesh.buses.zmq.delivery import Delivery
from mesh.buses.zmq.endpoints import FEED, FETCH, INGEST, endpoint, open_socket
from mesh.buses.zmq.protocol.frames import (
    Attach,
    Beat,
    Evt,
    Frame,
    Heartbeat,
    Hello,
    ToConsumer,
    ToProducer,
)
from mesh.buses.zmq.protocol.timing import SILENT_S, Reborn, Tick
from mesh.buses.zmq.pump import Pump
from mesh.buses.zmq.relay import Relay
from mesh.buses.zmq.tail import Tail
from mesh.buses.zmq.wire import BEAT_TOPIC, pack, topic, unpack, unpack_feed
from mesh.codec import replace
from mesh.errors import BusUnavailable, Conflict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from pathlib import Path

    from mesh.buses.contract import Inbox, Outbox

TICK_S = 0.2
"""Timeouts are looked at this often while something is under way; the shortest is half a second."""

CALM_TICK_S = 1.1
"""The same while nothing is: heartbeats, which come oftener then, are what they are looked at with."""

ALL_TOPICS = b""


class ZmqBus:
    """See the contract `Bus`."""

    def __init__(self, directory: Path, name: str, token: Callable[[], str] | None = None) -> None:
        """Connect to the sockets in `directory` once started; `token` is shown at greetings.

        Raises: InvalidInput (their paths are too long).
        """
        self._name = name
        self._token = token
        self._addresses = [endpoint(directory, each) for each in (INGEST, FEED, FETCH)]
        self._outbox: Outbox | None = None
        self._pace_s: float | None = None
        self._inboxes: dict[str, Inbox] = {}
        self._relay: Relay | None = None
        self._deliveries: dict[str, Delivery] = {}
        self._topics: dict[bytes, Delivery] = {}
        self._tails: dict[int, Tail] = {}
        self._followers = 0
        self._instance: int | None = None
        self._beats: tuple[Beat, ...] = ()
        self._heard_at = 0.0
        self._started = self._closed = self._calm = False
        self._way = Disorder()
        self.malformed = 0
        """Messages dropped because they were none of ours, or harmed on the way."""

    async def start(self) -> None:
        """Connect in the background; returns at once."""
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context[zmq.Socket[bytes]]()
        kinds = (zmq.DEALER, zmq.SUB, zmq.DEALER)
        ingest, feed, fetch = (open_socket(self._context, kind) for kind in kinds)
        for socket, address in zip((ingest, feed, fetch), self._addresses, strict=True):
            socket.connect(address)
        feed.subscribe(BEAT_TOPIC)
        self._feed_socket = feed
        self._ingest = Pump(ingest, self._on_ingest)
        self._feed = Pump(feed, self._on_feed)
        self._fetch = Pump(fetch, self._on_fetch)
        self._started = True
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)
        if self._outbox is not None:
            self.relay(self._outbox, pace_s=self._pace_s)
        for stream, inbox in self._inboxes.items():
            self._deliver(stream, inbox)

    def relay(self, outbox: Outbox, *, pace_s: float | None = None) -> None:
        """Begin to copy this producer's outbox to the bus, from wherever the bus stands."""
        self._outbox, self._pace_s = outbox, pace_s
        if self._started:
            self._relay = Relay(self._name, outbox, self._to_ingest, pace_s=pace_s)

    def wake(self) -> None:
        """The outbox has grown. Cheap; call it after every commit that told something."""
        if self._relay is not None:
            self._relay.wake()
            self._look_soon()

    def subscribe(self, streams: Sequence[str], inbox: Inbox) -> None:
        """Begin to hand these streams to the inbox, from its cursors on.

        Raises: Conflict (a stream has an inbox already: its cursor has one owner).
        """
        for stream in streams:
            if stream in self._inboxes:
                raise Conflict(f"{self._name} is subscribed to {stream} already")
            self._inboxes[stream] = inbox
            if self._started:
                self._deliver(stream, inbox)

    def disturb(self, way: Disorder) -> None:
        """Hear the feed by this way, which faults on purpose make a bad one."""
        self._way = way

    def _deliver(self, stream: str, inbox: Inbox) -> None:
        self._feed_socket.subscribe(topic(stream))
        delivery = Delivery(self._name, stream, inbox, self._to_fetch)
        self._deliveries[stream] = self._topics[topic(stream)] = delivery

    @property
    def state(self) -> str:
        """`connecting`, `live`, or `fenced: why`, which needs an operator."""
        fences = [each.fence for each in self._deliveries.values()]
        fences += [self._relay.fence] if self._relay else []
        if any(fences):
            return f"fenced: {'; '.join(filter(None, fences))}"
        silent_s = clock.monotonic_s() - self._heard_at
        heard = self._instance is not None and silent_s < SILENT_S
        attached = all(each.attached for each in self._deliveries.values())
        relayed = self._relay is None or self._relay.streaming
        return "live" if heard and attached and relayed else "connecting"

    @property
    def lag(self) -> int | None:
        """Events that the bus has and our inboxes have not; None before anything is known."""
        known = [each.lag for each in self._deliveries.values() if each.attached]
        return sum(known) if known and len(known) == len(self._deliveries) else None

    @property
    def lags(self) -> dict[str, int]:
        """The same of each stream of which something is known."""
        return {name: each.lag for name, each in self._deliveries.items() if each.attached}

    async def heads(self, *, timeout_s: float) -> list[StreamHead]:
        """Every stream the bus knows, with its head. Raises BusUnavailable."""
        with self._tail() as tail:
            try:
                async with asyncio.timeout(timeout_s):
                    return await tail.heads()
            except TimeoutError:
                raise BusUnavailable(f"the bus has not answered for {timeout_s:g} s") from None

    async def arrivals(self, after: int, *, follow: bool) -> AsyncGenerator[list[Arrived], None]:
        """Batches of the whole log beyond arrival number `after`, in order of arrival."""
        with self._tail() as tail:
            if follow:
                self._follow(1)
            try:
                async for batch in tail.arrivals(after, follow=follow):
                    yield batch
            finally:
                if follow:
                    self._follow(-1)

    @contextlib.contextmanager
    def _tail(self) -> Iterator[Tail]:
        tail = Tail(self._name, self._to_fetch)
        self._tails[tail.session] = tail
        try:
            yield tail
        finally:
            del self._tails[tail.session]

    def _follow(self, change: int) -> None:
        """Whoever follows the whole log hears the whole feed, as a doorbell."""
        before, self._followers = self._followers, self._followers + change
        if self._closed:
            return
        if not before:
            self._feed_socket.subscribe(ALL_TOPICS)
        elif not self._followers:
            self._feed_socket.unsubscribe(ALL_TOPICS)

    async def close(self) -> None:
        """Stop relaying and delivering; what is being applied is finished first. Idempotent."""
        if self._closed or not self._started:
            self._closed = True
            return
        self._closed = True
        self._tick_timer.cancel()
        await asyncio.gather(*(each.close() for each in self._deliveries.values()))
        if self._relay is not None:
            await self._relay.close()
        for pump in (self._ingest, self._feed, self._fetch):
            pump.close()
        self._context.destroy(linger=0)

    # Frames

    def _to_ingest(self, frame: Frame) -> bool:
        return self._ingest.send(pack(self._signed(frame)))

    def _to_fetch(self, frame: Frame) -> bool:
        return self._fetch.send(pack(self._signed(frame)))

    def _signed(self, frame: Frame) -> Frame:
        """Whoever greets shows who it is; the conversation that follows is bound to that."""
        if self._token is not None and isinstance(frame, Hello | Attach):
            return replace(frame, token=self._token())
        return frame

    def _on_ingest(self, frames: list[bytes]) -> None:
        frame = unpack(frames)
        if isinstance(frame, ToProducer) and self._relay is not None:
            self._relay.hear(frame)
            self._look_soon()
        else:
            self.malformed += 1

    def _on_fetch(self, frames: list[bytes]) -> None:
        frame = unpack(frames)
        if not isinstance(frame, ToConsumer):
            self.malformed += 1
            return
        tail = self._tails.get(frame.session)
        if tail is not None:
            tail.hear(frame)
        for delivery in self._deliveries.values():
            if delivery.session == frame.session:
                delivery.hear(frame)
        self._look_soon()

    def _on_feed(self, frames: list[bytes]) -> None:
        for arrived in self._way.through(frames):
            self._on_news(arrived)

    def _on_news(self, frames: list[bytes]) -> None:
        delivery = self._topics.get(frames[0])
        match unpack_feed(frames, bare=delivery is None or not delivery.hungry):
            case Evt() as news:
                if delivery is not None:
                    delivery.hear(news)
                    self._look_soon()
                self._ring()
            case Heartbeat() as heartbeat:
                self._on_heartbeat(heartbeat)
            case _:
                self.malformed += 1

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        self._heard_at = clock.monotonic_s()
        if self._instance not in {None, heartbeat.instance}:
            self._tell(Reborn())
        self._instance = heartbeat.instance
        beats = {beat.stream: beat for beat in heartbeat.beats}
        for stream, delivery in self._deliveries.items():
            delivery.hear(beats.get(stream) or Beat(stream, 0, 0, ORIGIN, 1))
        if heartbeat.beats != self._beats:
            self._beats = heartbeat.beats
            self._ring()
        if self._calm:
            self._tick()

    def _ring(self) -> None:
        for tail in self._tails.values():
            tail.ring()

    def _tick(self) -> None:
        self._tell(Tick())
        self._arm()

    def _arm(self) -> None:
        """Look at timeouts soon if one is running, else with the next heartbeat that comes or does not."""
        each = (self._relay, *self._deliveries.values())
        self._calm = not any(one.restless for one in each if one is not None)
        self._tick_timer.cancel()
        wait_s = CALM_TICK_S if self._calm else TICK_S
        self._tick_timer = self._loop.call_later(wait_s, self._tick)

    def _look_soon(self) -> None:
        """Something has happened: it may be the end of the calm."""
        if self._calm and not self._closed:
            self._arm()

    def _tell(self, event: Tick | Reborn) -> None:
        if self._relay is not None:
            self._relay.hear(event)
        for delivery in self._deliveries.values():
            delivery.hear(event)
