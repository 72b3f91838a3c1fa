"""An answer, as it is written: head and body in one piece.

What aiohttp's own response can do besides (cookies, compression, pieces, ranges) nothing here asks for, and
it would cost half as much again as reading the request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp.helpers import rfc822_formatted_time

from mesh.errors import Broken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh.framework.request import Request

_LINES = {status.value: f" {status.value} {status.phrase}\r\n" for status in HTTPStatus}

BODILESS = frozenset({204, 304})
"""Statuses of answers that say nothing (RFC 9110, 6.4.1)."""

JSON = "application/json"


class Reply:
    """A status, headers and a body. `headers` may be added to until it is written."""

    __slots__ = ("body", "headers", "keep_alive", "kind", "status")

    def __init__(
        self, status: int, body: bytes, headers: Mapping[str, str], kind: str = JSON
    ) -> None:
        """`body`, of the media type `kind`, is empty where the status says so."""
        self.status = status
        self.body = body
        self.headers = dict(headers)
        self.kind = kind
        self.keep_alive = True

    def force_close(self) -> None:
        """Make it the last one on its connection."""
        self.keep_alive = False

    def written(self, request: Request | None = None) -> bytes:
        """All of it, as whoever made `request` reads it; None: it could not be read itself.

        Raises: Broken for a header that could begin another one.
        """
        old = request is not None and request.old
        text = ("HTTP/1.0" if old else "HTTP/1.1") + _LINES[self.status]
        for name, value in self.headers.items():
            if not (value.isascii() and value.isprintable()):
                raise Broken(f"the header {name} must be printable ASCII")
            text += f"{name}: {value}\r\n"
        if self.status not in BODILESS:
            text += f"Content-Type: {self.kind}\r\nContent-Length: {len(self.body)}\r\n"
        if not self.keep_alive:
            text += "Connection: close\r\n"
        elif old:
            text += "Connection: keep-alive\r\n"
        head = f"{text}Date: {rfc822_formatted_time()}\r\n\r\n".encode("ascii")
        return head if request is not None and request.method == "HEAD" else head + self.body
