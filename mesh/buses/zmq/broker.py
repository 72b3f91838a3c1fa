"""The broker: three sockets, one log, and a `step` for each stream. The rules are in `protocol`.

Nothing is kept for a peer that does not read: what it misses it asks for again.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

import zmq

from mesh import clock, telemetry
from mesh.buses.contract import NO_HASH, Link, Position
from mesh.buses.disorder import Disorder
from mesh.buses.zmq.committer import Committer
from mesh.buses.zmq.endpoints import FEED, FETCH, INGEST, endpoint, make_private, open_socket
from mesh.buses.zmq.feed import portions
from mesh.buses.zmq.heart import Heart
from mesh.buses.zmq.log import Advancing, Group, Log
from mesh.buses.zmq.protocol import broker as rules
from mesh.buses.zmq.protocol.frames import (
    EVERYTHING,
    Attach,
    Committed,
    Evt,
    Fenced,
    Frame,
    Get,
    Heartbeat,
    Hello,
    Nak,
    Ping,
    Put,
    Reset,
    ToConsumer,
)
from mesh.buses.zmq.protocol.lineage import newest
from mesh.buses.zmq.protocol.stream import (
    Advance,
    Advanced,
    Append,
    Appended,
    Failed,
    Gone,
    Input,
    LogRead,
    Outlived,
    Output,
    Publish,
    Quarantine,
    ReadLog,
    Received,
    Record,
    Reply,
    Stream,
    Trim,
)
from mesh.buses.zmq.protocol.timing import REPORT_S
from mesh.buses.zmq.pump import Pump
from mesh.buses.zmq.readers import Readers
from mesh.buses.zmq.upkeep import Limits, Upkeep
from mesh.buses.zmq.wire import BEAT_TOPIC, new_session, pack, refusal, unpack
from mesh.errors import LogBroken

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesh.buses.zmq.keys import Keys

STREAMS_MAX = 1024
"""Streams known; a system has tens. One more is not answered."""

_STREAM_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_log = telemetry.logger("bus")


class Broker:
    """One bus. `broken` ends with the error when the log cannot go on; the process should too."""

    def __init__(
        self, log: Log, sockets: Path, *, keys: Keys | None = None, limits: Limits | None = None
    ) -> None:
        """Nothing is bound before `start`. Without keys whoever reaches the sockets is believed."""
        self._log = log
        self._keys = keys
        self._upkeep = Upkeep(log, keys, limits or Limits())
        self._sockets = sockets
        self._streams = {stream.name: stream for stream in log.streams}
        self._readers = Readers(log, lambda: self._upkeep.heads(self._streams.values()))
        self._instance = new_session()
        self._refused_at = 0.0
        self._inside: dict[bytes, Callable[[Frame], None]] = {}
        self.grown: Callable[[], None] = lambda: None
        """Called when the log has grown."""
        self.way = Disorder()
        """Of what the feed sends; faults on purpose make it a bad one."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.malformed = 0
        """Messages dropped because they were none of ours, or harmed on the way."""
        self.unknown = 0
        """Greetings refused because their token did not hold, or was another's."""

    def start(self) -> None:
        """Bind and serve, on the running loop.

        Raises: InvalidInput (the directory of the sockets will not do).
        """
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[None] = self._loop.create_future()
        make_private(self._sockets)
        addresses = [endpoint(self._sockets, name) for name in (INGEST, FEED, FETCH)]
        self._committer = Committer(
            self._log, settled=self._settled, refused=self._refused, broken=self._break
        )
        self._context = zmq.Context[zmq.Socket[bytes]]()
        kinds = (zmq.ROUTER, zmq.XPUB, zmq.ROUTER)
        ingest, feed, fetch = (open_socket(self._context, kind) for kind in kinds)
        mask = os.umask(0o077)
        try:
            for socket, address in zip((ingest, feed, fetch), addresses, strict=True):
                socket.bind(address)
        finally:
            os.umask(mask)
        self._ingest = Pump(ingest, self._on_ingest, self._committer.kick)
        self._feed = Pump(feed, self._on_subscription)
        self._fetch = Pump(fetch, self._on_fetch)
        self._heart = Heart(self._send_beat, lambda: self._committer.kick(cursors_too=True))
        self._trim()

    @property
    def complaints(self) -> list[str]:
        """What keeps it from taking events, now or soon, in words."""
        return self._upkeep.complaints(self._streams.values())

    async def close(self) -> None:
        """Finish the commit under way, then let everything go."""
        for timer in self._timers.values():
            timer.cancel()
        self._heart.close()
        self._ingest.pause()
        await self._committer.close()
        for pump in (self._ingest, self._feed, self._fetch):
            pump.close()
        self._context.destroy(linger=0)
        for name in (INGEST, FEED, FETCH):
            (self._sockets / name).unlink(missing_ok=True)
        self._log.close()

    def _break(self, error: BaseException) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)

    # What arrives

    def inside(self, peer: bytes, hear: Callable[[Frame], None]) -> Callable[[Frame], bool]:
        """A producer in this process: what it hears, and how it speaks; one turn of the loop each."""
        self._inside[peer] = hear

        def send(frame: Frame) -> bool:
            self._loop.call_soon(self._on_inside, peer, frame)
            return True

        return send

    def _on_inside(self, peer: bytes, frame: Frame) -> None:
        self._take(peer, frame)
        self._committer.kick()

    def _on_ingest(self, frames: list[bytes]) -> None:
        peer, frame = frames[0], unpack(frames[1:])
        if frame is None:
            self._refuse(peer, frames[1:])
        if not isinstance(frame, Hello) or self._believed(peer, frame):
            self._take(peer, frame)

    def _take(self, peer: bytes, frame: Frame | None) -> None:
        match frame:
            case Hello(stream=name) if self._known(name):
                self._step(name, Received(peer, frame))
            case Put(events=events) if events[0].stream in self._streams:
                self._step(events[0].stream, Received(peer, frame))
            case Ping(session) | Put(session):
                self._on_ping(peer, session)
            case _:
                self.malformed += 1

    def _stream_of(self, peer: bytes, session: int) -> Stream | None:
        for stream in self._streams.values():
            if any((each.peer, each.number) == (peer, session) for each in stream.sessions):
                return stream
        return None

    def _on_ping(self, peer: bytes, session: int) -> None:
        """A conversation that this life of the bus knows nothing of must greet again."""
        stream = self._stream_of(peer, session)
        if stream is not None:
            self._step(stream.name, Received(peer, Ping(session)))
            return
        self._reply(peer, Nak(session, "EPOCH", Link(0, 0, NO_HASH)))

    def _refuse(self, peer: bytes, frames: list[bytes]) -> None:
        """A PUT that was harmed, or can never be read: its producer is told, if it is one."""
        found = refusal(frames)
        stream = self._stream_of(peer, found[0]) if found is not None else None
        now = clock.monotonic_s()
        if found is not None and stream is not None and now - self._refused_at >= REPORT_S:
            self._refused_at = now
            self._ingest.send([peer, *pack(Nak(*found, stream.head))])

    def _believed(self, peer: bytes, frame: Hello | Attach) -> bool:
        """Whether this greeting is from whom it says; else it is refused."""
        why = None if self._keys is None else self._keys.refusal(frame)
        if why is None:
            return True
        self.unknown += 1
        if why:
            _log.warning("a greeting was refused: %s", why)
        if why and isinstance(frame, Hello):
            self._ingest.send([peer, *pack(Fenced(frame.session, frame.req, "AUTH", why))])
        elif why:
            self._fetch.send([peer, *pack(Reset(frame.session, "AUTH"))])
        return False

    def _on_fetch(self, frames: list[bytes]) -> None:
        try:
            self._answer(frames[0], unpack(frames[1:]))
        except LogBroken as error:
            self._break(error)

    def _answer(self, peer: bytes, frame: Frame | None) -> None:
        if isinstance(frame, Attach) and not self._believed(peer, frame):
            return
        match frame:
            case Attach(stream=name) | Get(stream=name) if name == EVERYTHING:
                more_comes = self._committer.unsettled
                said = self._readers.answer(peer, frame, more_comes=more_comes)
                if said is not None:
                    self._fetch.send([peer, *pack(said)])
            case Attach(stream=name) | Get(stream=name) | Committed(stream=name) if self._known(
                name
            ):
                self._step(name, Received(peer, frame))
                if isinstance(frame, Get):
                    self._hear(name, peer, frame.session)
            case _:
                self.malformed += 1

    def _hear(self, name: str, peer: bytes, session: int) -> None:
        for each in self._streams[name].consumers:
            if (each.peer, each.number) == (peer, session):
                self._upkeep.heard(name, each.consumer)
                if each.held is not None:
                    self._committer.hurry()

    def _known(self, name: str) -> bool:
        """Make room for a stream named for the first time, by its producer or by a consumer."""
        if name in self._streams:
            return True
        if len(self._streams) >= STREAMS_MAX or not _STREAM_NAME.fullmatch(name):
            return False
        self._streams[name] = Stream(name)
        return True

    # What the rules want

    def _step(self, name: str, event: Input) -> None:
        now = clock.monotonic_s()
        self._streams[name], outputs = rules.step(self._streams[name], event, now)
        for output in outputs:
            self._do(name, output)

    def _do(self, name: str, output: Output) -> None:  # noqa: C901  one arm an output
        match output:
            case Reply(peer, frame):
                if not self._reply(peer, frame):
                    self._step(name, Gone(peer))
            case Append(events):
                self._committer.append(events)
                if self._committer.full:
                    self._ingest.pause()
            case Publish(events):
                self._heart.rouse()
                for end, shown in portions(events):
                    self._tell(Evt(self._instance, name, end, shown))
            case ReadLog(peer, get):
                found = self._log.read(name, get.after.seq, get.rows_max, get.bytes_max)
                self._step(name, LogRead(peer, get, found))
            case Advance(epochs, head):
                self._committer.advance(Advancing(name, epochs, head))
                self._committer.kick()
            case Quarantine(why):
                _log.critical("quarantined: %s", why)
                self._committer.quarantine(name, why)
                self._committer.kick()
            case Record(consumer, cursor, known_epoch):
                self._committer.see(self._upkeep.saw(name, consumer, cursor, known_epoch))
            case Trim(seq):
                self._committer.trim(name, seq)

    def _reply(self, peer: bytes, frame: Frame) -> bool:
        hear = self._inside.get(peer)
        if hear is not None:
            self._loop.call_soon(hear, frame)
            return True
        pump = self._fetch if isinstance(frame, ToConsumer) else self._ingest
        return pump.send([peer, *pack(frame)])

    # What programs are told that are served in this process

    def lineage(self, name: str) -> Stream:
        """A stream as it is now: its epochs and its durable head."""
        return self._streams.get(name) or Stream(name)

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of all that are known."""
        return tuple(self._streams)

    def see(self, stream: str, consumer: str, cursor: Position) -> None:
        """How far a consumer is that has its cursor in this process."""
        known = newest(self.lineage(stream).epochs)
        self._committer.see(self._upkeep.saw(stream, consumer, cursor, known))

    # What the disk has done

    def _settled(self, group: Group, found: tuple[Link, ...]) -> None:
        for step, link in zip(group.advances, found, strict=True):
            self._step(step.stream, Advanced(link))
        heads = {event.stream: event for event in group.events}
        self._upkeep.refusing = self._upkeep.refusing and not heads
        for name, event in heads.items():
            self._step(name, Appended(event.link))
        if heads:
            self._answer_held()
            self.grown()
        if not self._committer.full:
            self._ingest.resume()

    def _refused(self, names: set[str]) -> None:
        self._upkeep.refusing = True
        for name in names:
            self._step(name, Failed())
        self._answer_held()
        self._ingest.resume()

    def _answer_held(self) -> None:
        """Readers of the log whose questions have waited for the commit."""
        try:
            for peer, said in self._readers.held():
                self._fetch.send([peer, *pack(said)])
        except LogBroken as error:
            self._break(error)

    # What is needed no more

    def _trim(self) -> None:
        """Let go of what everybody has and nobody will ask for; a bounded piece of it at a time."""
        trimmed = False
        try:
            for name, stream in [*self._streams.items()]:
                seq = self._upkeep.outlived(stream)
                if seq >= stream.tail_seq:
                    self._step(name, Outlived(seq))
                    trimmed = True
        except LogBroken as error:
            self._break(error)
        wait_s = self._upkeep.next_trim_s(trimmed=trimmed)
        self._timers["trim"] = self._loop.call_later(wait_s, self._trim)

    # The heartbeat

    def _on_subscription(self, frames: list[bytes]) -> None:
        if frames[0] == b"\x01" + BEAT_TOPIC:
            self._heart.soon()

    def _send_beat(self) -> None:
        beats = tuple(rules.beat(stream) for stream in self._streams.values())
        self._tell(Heartbeat(self._instance, beats))

    def _tell(self, frame: Evt | Heartbeat) -> None:
        for sent in self.way.through(frame):
            self._feed.send(pack(sent))
