"""Programs that are guests of the bus: their events go into its log, and they read it by position.

A guest's stream is relayed like any other, by the same rules, inside this process. A guest that
consumes says how far it is with its next question; what it stands at is kept for it, so it is given
every event at least once and in order within a stream, whatever dies in between.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import telemetry
from mesh.buses.cloudevents import CloudEvent, cloud_event
from mesh.buses.contract import Position
from mesh.buses.zmq.hosted import HostedOutbox
from mesh.buses.zmq.protocol.frames import ToProducer
from mesh.buses.zmq.protocol.lineage import owner, replaced
from mesh.buses.zmq.protocol.timing import Tick
from mesh.buses.zmq.relay import Relay
from mesh.errors import Conflict, InvalidInput, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesh.buses.contract import Event, Link
    from mesh.buses.zmq.broker import Broker
    from mesh.buses.zmq.hosted import Draft, Hosted
    from mesh.buses.zmq.log import Log
    from mesh.buses.zmq.protocol.frames import Frame

TICK_S = 0.2
CALM_TICK_S = 2.0
"""Timeouts of the relays are looked at this often while something is under way, and else."""

WAITING_MAX = 64
"""Questions that may wait for news at a time; one more is refused."""

CONSUMERS_MAX = 64
"""Names a program may consume under."""

ROWS_MAX = 256
BYTES_MAX = 512 * 1024
"""Looked at in one turn of the loop: a millisecond of the bus's time."""

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Bodies in one answer, beyond which the rest waits for the next question."""

POSITION_CHARS_MAX = 3000
"""Of `after`: some sixty streams, and within the longest URL that is taken."""

_PLACE = re.compile(r"([a-z][a-z0-9-]{0,30}):(\d{1,10})\.(\d{1,19})")

At = dict[str, Position]

_log = telemetry.logger("bus")


class Question(Struct, frozen=True):
    """What a consumer asks. `after` None: from where it stands; `types` are globs, any will do."""

    program: str
    consumer: str
    after: str | None
    types: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    from_head: bool = False
    events_max: int = 100
    wait_s: float = 20.0


@dataclass
class _Consumer:
    """A consumer in memory: what it was told last, and how far beyond nothing was for it."""

    at: At
    seen: At = field(default_factory=dict)
    seen_for: tuple[object, ...] = ()
    turn: int = 0


def written(at: At) -> str:
    """Positions as text: `order:1.57,product:1.120`."""
    return ",".join(f"{name}:{each.epoch}.{each.seq}" for name, each in sorted(at.items()))


def read(text: str) -> At:
    """The reverse; "" and "0" are the very beginning.

    Raises: InvalidInput.
    """
    if text in {"", "0"}:
        return {}
    found = [_PLACE.fullmatch(part) for part in text.split(",")]
    if len(text) > POSITION_CHARS_MAX or not all(found):
        raise InvalidInput(
            "`after` is no position",
            pointer="/after",
            hint="send the `position` of the last event that you have handled, or nothing",
        )
    return {
        match[1]: Position(int(match[2]) % 2**32, min(int(match[3]), 2**62))
        for match in found
        if match
    }


class Host:
    """Relays the guests' streams, and answers their questions."""

    def __init__(self, broker: Broker, log: Log, hosted: Hosted) -> None:
        """Begin to relay what is there already, on the running loop."""
        self._broker = broker
        self._log = log
        self._hosted = hosted
        self._outboxes: dict[str, HostedOutbox] = {}
        self._relays: dict[str, Relay] = {}
        self._consumers: dict[tuple[str, str], _Consumer] = {}
        self._news = asyncio.Event()
        self._waiting = 0
        self._closed = False
        broker.grown = self._ring
        for stream in hosted.streams:
            self._relay(stream)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    @property
    def fences(self) -> list[str]:
        """Why streams of guests are not taken any more; each needs an operator."""
        return [relay.fence for relay in self._relays.values() if relay.fence]

    async def close(self) -> None:
        """Stop relaying, and send those home who wait."""
        self._closed = True
        self._timer.cancel()
        self._ring()
        for relay in self._relays.values():
            await relay.close()

    async def tell(self, stream: str, draft: Draft) -> tuple[Event, bool]:
        """Store a guest's event durably; the bus has it a moment later. Raises: as `Hosted.tell`."""
        event, known = await self._hosted.tell(stream, draft)
        self._relay(stream).wake()
        return event, known

    @property
    def log_file(self) -> Path:
        """Where the log lies."""
        return self._log.path

    def link(self, stream: str, seq: int) -> Link | None:
        """The link of one event in the log; None if it is not kept there."""
        found = self._log.read(stream, seq - 1, 1, 1) if seq else ()
        return found[0].link if found and found[0].seq == seq else None

    def counters(self) -> dict[str, int]:
        """How much the guests have told, and how much of it the log has acknowledged."""
        heads = [self._hosted.state(stream).head.seq for stream in self._outboxes]
        acked = [outbox.acked.seq for outbox in self._outboxes.values()]
        return {"head": sum(heads), "acked": sum(acked)}

    async def sweep(self) -> None:
        """Forget events that the log has had for long."""
        for stream, outbox in self._outboxes.items():
            await self._hosted.sweep(stream, outbox.acked)

    def _relay(self, stream: str) -> Relay:
        relay = self._relays.get(stream)
        if relay is None:
            outbox = self._outboxes[stream] = HostedOutbox(self._hosted, stream)
            send = self._broker.inside(b"inside " + stream.encode(), self._hearing(stream))
            relay = self._relays[stream] = Relay(stream, outbox, send)
        return relay

    def _hearing(self, stream: str) -> Callable[[Frame], None]:
        def hear(frame: Frame) -> None:
            relay = self._relays.get(stream)
            if relay is not None and isinstance(frame, ToProducer):
                relay.hear(frame)

        return hear

    def _ring(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _tick(self) -> None:
        for relay in self._relays.values():
            relay.hear(Tick())
        restless = any(relay.restless for relay in self._relays.values())
        self._timer = self._loop.call_later(TICK_S if restless else CALM_TICK_S, self._tick)

    # Consumers

    async def ask(self, question: Question) -> list[CloudEvent]:
        """The next events for a consumer, each with its `position`; none after `wait_s` of nothing.

        The consumer then stands at `after`: what it was given before is not given again.

        Raises: InvalidInput; Conflict (the same consumer has asked again meanwhile); Overloaded;
            what writing raises.
        """
        if self._waiting >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} consumers wait already")
        consumer = await self._standing(question)
        consumer.turn += 1
        turn = consumer.turn
        self._ring()  # who waits under this name is told that it has been taken over
        self._waiting += 1
        try:
            async with asyncio.timeout(question.wait_s):
                return await self._found(question, consumer, turn)
        except TimeoutError:
            return []
        finally:
            self._waiting -= 1

    async def _standing(self, question: Question) -> _Consumer:
        """The consumer, at the position it named, durably."""
        key = (question.program, question.consumer)
        kept = self._hosted.cursors(*key)
        consumer = self._consumers.get(key)
        if consumer is None or consumer.at != kept.at:
            consumer = self._consumers[key] = _Consumer(kept.at)
        at = consumer.at if question.after is None else read(question.after)
        if not kept.known:
            if self._hosted.consumers(question.program) >= CONSUMERS_MAX:
                raise Overloaded(f"{question.program} consumes under {CONSUMERS_MAX} names already")
            if question.after is None and question.from_head:
                at = {name: self._head(name) for name in self._broker.streams}
        at = await self._rewound(question, at)
        if not kept.known or at != kept.at:
            missing = {name: Position(0, 0) for name in kept.at if name not in at}
            await self._hosted.move(*key, {**missing, **at})
            consumer.at = {**missing, **at}
            consumer.seen = {}
            label = question.consumer
            if label != question.program:
                label = f"{question.program}/{label}"
            for name, each in at.items():
                self._broker.see(name, label, each)
        return consumer

    def _head(self, stream: str) -> Position:
        head = self._broker.lineage(stream).head
        return Position(head.epoch, head.seq)

    async def _rewound(self, question: Question, at: At) -> At:
        """The same, back to where a restore has replaced what was given (R9)."""
        found = dict(at)
        for name, each in at.items():
            epochs = self._broker.lineage(name).epochs
            if not replaced(epochs, each.epoch, each.seq):
                continue
            newer = [
                epoch for epoch in epochs if epoch.epoch > each.epoch and epoch.base < each.seq
            ]
            base = min(epoch.base for epoch in newer)
            found[name] = Position(owner(epochs, base), base)
            _log.warning(
                "%s of %s was given events of %s that a restore has replaced",
                *(question.consumer, question.program, name),
                extra=telemetry.facts(from_seq=base + 1, to_seq=each.seq),
            )
            await self._hosted.diverge(
                *(question.program, question.consumer, name, each, base),
                max(epoch.epoch for epoch in newer),
            )
        return found

    async def _found(self, question: Question, consumer: _Consumer, turn: int) -> list[CloudEvent]:
        kind = (question.types, question.streams)
        fresh = bool(consumer.seen) and consumer.seen_for == kind
        reached = dict(consumer.seen if fresh else consumer.at)
        while not self._stale(reached):
            news = self._news
            at = self._arrival(reached)
            found: list[CloudEvent] = []
            held = 0
            while rows := self._log.arrivals(at, ROWS_MAX, BYTES_MAX):
                for row in rows:
                    at = row.arrival
                    if not self._takes(question, row.event, reached):
                        continue
                    said = cloud_event(row.event)
                    said["position"] = written(reached)
                    found.append(said)
                    held += len(row.event.body)
                    if len(found) >= question.events_max or held >= ANSWER_BYTES_MAX:
                        return found
                await asyncio.sleep(0)
                if self._stale(reached):
                    break
            if found:
                return found
            consumer.seen, consumer.seen_for = dict(reached), kind
            await news.wait()
            if consumer.turn != turn:
                raise Conflict("the same consumer has asked again", code="consumer-taken-over")
            if self._closed:
                break
        return []

    def _stale(self, at: At) -> bool:
        """Whether a restore has replaced what was given: the next question steps back (R9)."""
        return any(
            replaced(self._broker.lineage(name).epochs, each.epoch, each.seq)
            for name, each in at.items()
        )

    def _arrival(self, at: At) -> int:
        """An arrival number beyond which everything lies that comes after these positions."""
        none = Position(0, 0)
        ahead = (
            self._log.arrival_after(name, at.get(name, none).seq) for name in self._broker.streams
        )
        return min((each - 1 for each in ahead if each is not None), default=self._log.arrival)

    @staticmethod
    def _takes(question: Question, event: Event, reached: At) -> bool:
        """Whether this event is news and asked for; moves `reached` past it if it is news."""
        before = reached.get(event.stream)
        if before is not None and event.seq <= before.seq:
            return False
        reached[event.stream] = Position(event.epoch, event.seq)
        if question.streams and event.stream not in question.streams:
            return False
        return not question.types or any(fnmatchcase(event.type, glob) for glob in question.types)
