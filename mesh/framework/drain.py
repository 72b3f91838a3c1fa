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

from aiohttp import web

from mesh import clock
from mesh.framework.connections import Connections, Handler

if TYPE_CHECKING:
    from asyncio import Task, Transport

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from mesh.framework.app import App

QUIET_S = 0.25
"""A server on which nothing has happened for this long has nobody who is about to ask."""

LINGER_MAX_S = 2.0
"""For those who are: a pool of 100 connections at 50 requests a second is used up in it."""

POLL_S = 0.005


class Server(web.Server):
    """A low-level server for one App that knows when it last had something to do."""

    def __init__(self, app: App, *, line_bytes_max: int, header_bytes_max: int) -> None:
        """Nothing listens yet."""
        super().__init__(app.handle, request_factory=_request)  # type: ignore[arg-type]  # `Handler` writes a Reply
        self._app = app
        self._limits = {
            "access_log": None,
            "max_line_size": line_bytes_max,
            "max_field_size": header_bytes_max,
        }
        self._last_connection_s = 0.0
        self.everybody = Connections()

    def __call__(self) -> web.RequestHandler:
        """The handler of one more connection."""
        return Handler(self, self.everybody, self._app, **self._limits)

    def connection_made(self, handler: web.RequestHandler, transport: Transport) -> None:
        """A client has come, and its request is on its way."""
        self._last_connection_s = clock.monotonic_s()
        super().connection_made(handler, transport)

    async def linger(self) -> None:
        """Once nobody new is accepted: answer those who are about to ask, each for the last time.

        Returns at once when nobody is there, or nobody has asked anything lately.
        """
        self._app.draining = True
        until_s = clock.monotonic_s() + LINGER_MAX_S
        while self.connections:
            active_s = max(self._last_connection_s, self._app.last_request_s)
            if clock.monotonic_s() >= min(until_s, active_s + QUIET_S):
                return
            await asyncio.sleep(POLL_S)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    handler: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: Task[None],
) -> web.BaseRequest:
    """A request whose head has come."""
    assert isinstance(handler, Handler)
    handler.head_came()
    payload.on_eof(handler.body_came)
    return web.BaseRequest(message, payload, handler, writer, task, asyncio.get_running_loop())
