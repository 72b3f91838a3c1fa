"""Runs the producer's rules: reads the outbox, sends, and tells it what is acknowledged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock, telemetry
from mesh.buses.zmq.protocol import producer as rules
from mesh.buses.zmq.protocol.producer import (
    Acknowledged,
    Producer,
    ReadFailed,
    ReadOutbox,
    ReadState,
    Rows,
    StateRead,
)
from mesh.buses.zmq.protocol.timing import (
    PACE_S,
    REPORT_S,
    Begin,
    Grown,
    Reborn,
    Reconnect,
    Send,
    Tick,
    Unsent,
)
from mesh.buses.zmq.wire import new_session
from mesh.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.buses.contract import Outbox, Position
    from mesh.buses.zmq.protocol.frames import Frame, ToProducer

_log = telemetry.logger("bus")


class Relay:
    """Copies one outbox to the bus."""

    def __init__(
        self,
        stream: str,
        outbox: Outbox,
        send: Callable[[Frame], bool],
        *,
        pace_s: float | None = None,
    ) -> None:
        """Begin at once, on the running loop.

        Args:
            send: says whether the frame could be sent.
            pace_s: between two readings while more and more is told; PACE_S if not said.
        """
        self._outbox = outbox
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._state = Producer(stream)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._woken = False
        self._pace_s = PACE_S if pace_s is None else pace_s
        self._read_at = -self._pace_s
        self._closed = False
        self._unreported: Position | None = None
        self._reporting = False
        self._begin()

    @property
    def streaming(self) -> bool:
        """True while the bus takes what we send."""
        return self._state.phase == "streaming"

    @property
    def restless(self) -> bool:
        """Whether something is under way of which time may decide."""
        state = self._state
        waits = state.sent > state.acked or state.grown or state.asked is not None
        return self._woken or waits or state.phase in {"init", "greeting"}

    @property
    def fence(self) -> str:
        """Why the bus takes nothing more, or ""."""
        return self._state.fence

    def wake(self) -> None:
        """The outbox has grown. It is read at once after a pause, else a pace after the last time."""
        if self._woken or self._closed:
            return
        self._woken = True
        wait_s = self._read_at + self._pace_s - clock.monotonic_s()
        if wait_s > 0:
            self._timers["grown"] = self._loop.call_later(wait_s, self._grown)
        else:
            self._loop.call_soon(self._grown)

    def hear(self, event: ToProducer | Tick | Reborn) -> None:
        """A frame from the bus, the time, or news of a new life of the bus."""
        self._feed(event)

    async def close(self) -> None:
        """Stop sending; the reading under way is waited for."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._feed(Begin(new_session()))

    def _grown(self) -> None:
        self._woken = False
        self._read_at = clock.monotonic_s()
        self._feed(Grown())

    def _feed(self, event: rules.Input) -> None:
        if self._closed:
            return
        fence = self._state.fence
        self._state, outputs = rules.step(self._state, event, clock.monotonic_s())
        if self._state.fence and self._state.fence != fence:
            _log.error("the relay of %s is fenced: %s", self._state.stream, self._state.fence)
        for output in outputs:
            match output:
                case Send(frame):
                    if not self._send(frame):
                        self._feed(Unsent())
                case ReadOutbox():
                    self._spawn(self._read(output))
                case ReadState():
                    self._spawn(self._read_state(output))
                case Acknowledged(position):
                    self._outbox.taken(position)
                    self._unreported = position
                    self._report()
                case Reconnect(after_s):
                    wait_s = after_s * clock.uniform(0.5, 1.0)
                    self._timers["begin"] = self._loop.call_later(wait_s, self._begin)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, asked: ReadOutbox) -> None:
        try:
            events = await self._outbox.after(
                asked.after, rows_max=asked.rows_max, bytes_max=asked.bytes_max
            )
        except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
            self._unread(error)
        else:
            self._feed(Rows(asked.after, tuple(events)))

    async def _read_state(self, asked: ReadState) -> None:
        try:
            state = await self._outbox.state()
        except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
            self._unread(error)
        else:
            self._feed(StateRead(asked.session, asked.req, state))

    def _unread(self, error: Exception) -> None:
        known = isinstance(error, Unavailable)
        stream = self._state.stream
        _log.warning("the outbox of %s cannot be read: %s", stream, error, exc_info=not known)
        self._feed(ReadFailed())

    def _report(self) -> None:
        """Tell the outbox at once, then at most every REPORT_S: for it each word is a write."""
        if self._unreported is None or self._reporting or self._closed:
            self._reporting = False
            return
        position, self._unreported = self._unreported, None
        self._reporting = True
        self._spawn(self._acknowledge(position))

    async def _acknowledge(self, position: Position) -> None:
        try:
            await self._outbox.acknowledged(position)
        except Exception as error:  # noqa: BLE001  it is only informed, and will be again
            _log.warning("the outbox of %s was not told: %s", self._state.stream, error)
        self._timers["report"] = self._loop.call_later(REPORT_S, self._report_again)

    def _report_again(self) -> None:
        self._reporting = False
        self._report()
