"""An answer of an action, as it is written: head and body in one piece.

What aiohttp's own response can do besides (cookies, compression, pieces, ranges) no action asks for, and
it would cost half as much again as reading the request. For whom HTTP/1.1 as we speak it is not enough, it
becomes one of aiohttp's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from mesh.errors import Broken

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

BODILESS = frozenset({204, 304})
"""Statuses of answers that say nothing (RFC 9110, 6.4.1)."""


class Reply:
    """A status, headers and a JSON body. `headers` may be added to until it is written."""

    __slots__ = ("body", "headers", "keep_alive", "status")

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """`body` is empty where the status says so."""
        self.status = status
        self.body = body
        self.headers = dict(headers)
        self.keep_alive = True

    def force_close(self) -> None:
        """Make it the last one on its connection."""
        self.keep_alive = False

    def written(self) -> bytes:
        """All of it, for HTTP/1.1. Raises: Broken for a header that could begin another one."""
        text = _LINES[self.status]
        for name, value in self.headers.items():
            if not (value.isascii() and value.isprintable()):
                raise Broken(f"the header {name} must be printable ASCII")
            text += f"{name}: {value}\r\n"
        if self.status not in BODILESS:
            text += f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        if not self.keep_alive:
            text += "Connection: close\r\n"
        return f"{text}Date: {rfc822_formatted_time()}\r\n\r\n".encode("ascii") + self.body

    def usual(self) -> web.Response:
        """The same as aiohttp has it."""
        kind = None if self.status in BODILESS else "application/json"
        found = web.Response(
            status=self.status, body=self.body or None, headers=self.headers, content_type=kind
        )
        if not self.keep_alive:
            found.force_close()
        return found
