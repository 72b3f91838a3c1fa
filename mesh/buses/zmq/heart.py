"""When the bus beats: often while there is news, whose word may be lost on the way, else seldom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock
from mesh.buses.zmq.protocol.timing import BEAT_S, CALM_BEAT_S, QUIET_S

if TYPE_CHECKING:
    from collections.abc import Callable

SOON_S = 0.01
"""A new subscriber gets its heartbeat after this; several share one."""

RECORD_S = 1.0
"""Cursors alone are worth a commit once a second."""


class Heart:
    """Calls `send` for each heartbeat, and `record` with one of them in a second."""

    def __init__(self, send: Callable[[], None], record: Callable[[], None]) -> None:
        """Beat at once, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._record = record
        self._news_at = self._recorded_at = clock.monotonic_s()
        self._soon: asyncio.TimerHandle | None = None
        self.calm = False
        self._next: asyncio.TimerHandle
        self._beat()

    def rouse(self) -> None:
        """There is news: the next heartbeat follows soon."""
        self._news_at = clock.monotonic_s()
        if self.calm:
            self.calm = False
            self._next.cancel()
            self._next = self._loop.call_later(BEAT_S, self._beat)

    def soon(self) -> None:
        """Somebody has come who is to hear one."""
        if self._soon is None:
            self._soon = self._loop.call_later(SOON_S, self._beat_soon)

    def close(self) -> None:
        """Stop."""
        self._next.cancel()
        if self._soon is not None:
            self._soon.cancel()

    def _beat(self) -> None:
        now = clock.monotonic_s()
        self.calm = now - self._news_at > QUIET_S
        self._next = self._loop.call_later(CALM_BEAT_S if self.calm else BEAT_S, self._beat)
        self._send()
        if now - self._recorded_at > RECORD_S - BEAT_S / 2:
            self._recorded_at = now
            self._record()

    def _beat_soon(self) -> None:
        self._soon = None
        self._send()
