"""The end of an HTTP server at which nobody is cut off: stop accepting, answer, then hang up.

A connection that is closed while its client is sending is an error that the client can do nothing
about: it cannot know whether its request was taken. So whoever was about to ask is let ask once
more, and told with the answer that this connection ends (`Connection: close`, RFC 9112, 9.6).
A client that has been silent for longer may still meet a closed connection; it is the one that
has to reckon with that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock
from mesh.framework.accepting import Site
from mesh.framework.connections import Connections
from mesh.framework.protocol import Connection

if TYPE_CHECKING:
    import socket

    from mesh.framework.app import App

QUIET_S = 0.25
"""A server on which nothing has happened for this long has nobody who is about to ask."""

LINGER_MAX_S = 2.0
"""For those who are: a pool of 100 connections at 50 requests a second is used up in it."""

POLL_S = 0.005

CANCELLED_S = 1.0
"""For a request that is broken off to come to its end."""


class Server:
    """An App on a socket that listens: `listen`, then `refuse`, `linger` and `end`."""

    def __init__(self, app: App) -> None:
        """Nothing listens yet."""
        self._app = app
        self._site: Site | None = None
        self.everybody = Connections()

    def listen(self, listener: socket.socket) -> None:
        """Answer whoever comes. `listener` listens, does not block, and is closed by `refuse`."""
        self._site = Site(listener, lambda: Connection(self.everybody, self._app))
        self._site.start()

    async def refuse(self) -> None:
        """Accept nobody new. Idempotent."""
        if self._site is not None:
            await self._site.stop()

    async def linger(self) -> None:
        """Once nobody new is accepted: answer those who are about to ask, each for the last time.

        Returns at once when nobody is there, or nobody has asked anything lately.
        """
        self._app.draining = True
        until_s = clock.monotonic_s() + LINGER_MAX_S
        while not all(each.ended for each in self.everybody.here):
            active_s = max(self.everybody.latest_s, self._app.last_request_s)
            if clock.monotonic_s() >= min(until_s, active_s + QUIET_S):
                return
            await asyncio.sleep(POLL_S)

    async def end(self, within_s: float) -> None:
        """Answer what has been asked, and hang up; what takes longer than `within_s` is broken off."""
        await self.refuse()
        await asyncio.sleep(0)  # for what has come and was not looked at yet
        everybody = [*self.everybody.here]
        for each in everybody:
            each.close()
        late = {each.task for each in everybody if each.task is not None}
        if late:
            _, late = await asyncio.wait(late, timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCELLED_S)
