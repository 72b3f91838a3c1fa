"""Runs the consumer's rules for one stream: hands events to the inbox, one batch at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from mesh import clock, telemetry
from mesh.buses.zmq.protocol import consumer as rules
from mesh.buses.zmq.protocol.subscription import (
    Apply,
    Consumer,
    CursorRead,
    FromInbox,
    Handled,
    InboxFailed,
    Notice,
    Noticed,
    Output,
    ReadCursor,
    Start,
)
from mesh.buses.zmq.protocol.timing import (
    TIMER_SLACK_S,
    Begin,
    Reborn,
    Reconnect,
    Send,
    Tick,
    Unsent,
)
from mesh.buses.zmq.wire import new_session
from mesh.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.buses.contract import Inbox
    from mesh.buses.zmq.protocol.frames import Beat, Evt, Frame, ToConsumer
    from mesh.buses.zmq.protocol.subscription import Input

T = TypeVar("T")
_log = telemetry.logger("bus")


class Delivery:
    """Brings one stream to one inbox."""

    def __init__(self, name: str, stream: str, inbox: Inbox, send: Callable[[Frame], bool]) -> None:
        """Begin at once, on the running loop. `send` says whether the frame could be sent."""
        self._inbox = inbox
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._state = Consumer(name, stream)
        self._task: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False
        self._begin()

    @property
    def session(self) -> int:
        """The number of the conversation under way."""
        return self._state.session

    @property
    def attached(self) -> bool:
        """True while the bus and the inbox agree where to go on."""
        return self._state.attached

    @property
    def hungry(self) -> bool:
        """True if events on the feed can be of use, and not only the word that there is news."""
        return self._state.hungry

    @property
    def restless(self) -> bool:
        """Whether something is under way of which time may decide."""
        state = self._state
        if not state.attached:
            return state.phase != "fenced"
        waits = state.busy or state.buffer or state.asked_at is not None
        return bool(waits) or state.reported != state.cursor.link.seq

    @property
    def fence(self) -> str:
        """Why nothing more is delivered, or ""."""
        return self._state.fence

    @property
    def lag(self) -> int:
        """Events that the bus has and the inbox has not, as far as is known."""
        return max(0, self._state.head.seq - self._state.cursor.link.seq)

    def hear(self, event: ToConsumer | Evt | Beat | Tick | Reborn) -> None:
        """A frame from the bus, the time, or news of a new life of the bus."""
        self._feed(event)

    async def close(self) -> None:
        """Hand over nothing more; what is being applied is finished first."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        self._feed(Begin(new_session()))

    def _feed(self, event: Input) -> None:
        if self._closed and not isinstance(event, FromInbox):
            return
        fence = self._state.fence
        self._state, outputs = rules.step(self._state, event, clock.monotonic_s())
        if self._state.fence and self._state.fence != fence:
            _log.error("delivery is fenced: %s", self._state.fence)
        for output in outputs:
            self._do(output)
        wait_s = self._state.not_before - clock.monotonic_s()
        if wait_s > 0 and isinstance(event, Handled) and not self._closed:
            late_s = wait_s + TIMER_SLACK_S
            self._timers["retry"] = self._loop.call_later(late_s, self._feed, Tick())

    def _do(self, output: Output) -> None:
        stream = self._state.stream
        match output:
            case Send(frame):
                if not self._send(frame):
                    self._feed(Unsent())
            case _ if self._closed:
                pass
            case Apply(events):
                self._ask(self._inbox.apply(stream, events), Handled)
            case ReadCursor():
                self._ask(self._inbox.cursor(stream), CursorRead)
            case Notice(epoch=epoch, base=base):
                self._ask(self._inbox.notice(stream, epoch, base), Noticed)
            case Start(link):
                self._ask(self._inbox.begin(stream, link), CursorRead)
            case Reconnect(after_s):
                wait_s = after_s * clock.uniform(0.5, 1.0)
                self._timers["begin"] = self._loop.call_later(wait_s, self._begin)

    def _ask(self, work: Awaitable[T], told: Callable[[T], FromInbox]) -> None:
        """The rules ask the inbox one thing at a time, so one task is enough."""
        self._task = self._loop.create_task(self._answer(work, told))

    async def _answer(self, work: Awaitable[T], told: Callable[[T], FromInbox]) -> None:
        try:
            answer = await work
        except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
            known = isinstance(error, Unavailable)
            stream = self._state.stream
            _log.warning("the inbox of %s failed: %s", stream, error, exc_info=not known)
            self._feed(InboxFailed())
        else:
            self._feed(told(answer))
