"""Reading requests that are here from the first byte to the last as soon as they come, as most are.

A plain one is known by its shape. All others are read by aiohttp's parser, so all in one way. But where
all of a body is at hand, the parser is shown the head alone: a stream for the body, which would have to
be made, filled, ended and emptied, costs half as much as the head.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser

from mesh.framework.request import PLAIN_PATH, Request

if TYPE_CHECKING:
    import asyncio

    from aiohttp.base_protocol import BaseProtocol

LINE_BYTES_MAX = 4096
HEADER_BYTES_MAX = 8190

READ_BYTES = 64 * 1024
"""Of a body that nobody reads yet, a few times over."""

_END = b"\r\n\r\n"

_PLAIN = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (%b) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z-]++: [!-~]++(?: [!-~]++)*+\r\n)++)\r\n" % PLAIN_PATH.encode()
)
"""Reads each byte once, whatever comes: it gives nothing back (`+` behind a quantifier)."""

NAMES = {
    spelled: name
    for name in (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Content-Length",
        "Content-Type",
        "Host",
        "Idempotency-Key",
        "If-Match",
        "If-None-Match",
        "Mesh-Cause",
        "Mesh-Timeout",
        "User-Agent",
        "baggage",
        "traceparent",
        "tracestate",
    )
    for spelled in (name, name.lower(), name.title())
}
"""Headers of a plain request, as clients write them → as we do. But for its length, none of them says
where a request ends or what becomes of the connection."""


def plain(data: bytes, remote: str) -> Request | None:
    """The request that `data` is, all of it and nothing else, if it is one that needs no parser.

    Narrower than the parser in all: what that would refuse is never plain. Not longer than one line may
    be, and with each header once, a head is within all bounds.
    """
    head = _PLAIN.match(data)
    if head is None or head.end() > LINE_BYTES_MAX:
        return None
    method, target, text = head.groups()
    lines = text.decode().splitlines()
    headers = {}
    for line in lines:
        written, _, value = line.partition(": ")
        name = NAMES.get(written)
        if name is None:
            return None
        headers[name] = value
    body = data[head.end() :]
    length = str(len(body))
    if (
        len(headers) != len(lines)
        or "Host" not in headers
        or headers.get("Content-Length", "0") != length
    ):
        return None
    return Request(method.decode(), target.decode(), headers, remote, body)


def parser(
    owner: BaseProtocol, loop: asyncio.AbstractEventLoop, *, bodies: bool = True
) -> HttpRequestParser:
    """What reads requests for `owner`, one at a time; without `bodies`, their heads."""
    return HttpRequestParser(
        owner,
        loop,
        READ_BYTES,
        max_line_size=LINE_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        auto_decompress=False,
        response_with_body=bodies,
        max_msg_queue_size=1 if bodies else 0,
    )


class Heads:
    """The heads of one connection's requests, and how much is missing of the one that is not here whole.

    That one goes to the other parser, which says nothing of what it holds back of the next. Where that
    cannot be known from the lengths, all that follows is the other parser's.

    Attributes:
        clear: whether it is known where a request begins.
        missing: bytes until the end of the request that has begun; below zero, more has come.
    """

    __slots__ = ("_parser", "clear", "missing")

    def __init__(self, owner: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing has come yet."""
        self._parser = parser(owner, loop, bodies=False)
        self.clear = True
        self.missing = 0

    def at_once(self, data: bytes, remote: str) -> Request | None:
        """The request that `data` is, all of it and nothing else; None where it is anything else."""
        request = plain(data, remote) if self.clear else None
        if request is not None:
            return request
        end = data.find(_END) + len(_END)
        clear, self.clear, self.missing = self.clear, False, -1
        if not clear or end < len(_END):
            return None
        try:
            messages, _, _ = self._parser.feed_data(data[:end])
            for head, content in messages:
                if head.chunked or head.upgrade:
                    return None
                self.clear = True
                self.missing = end + int(head.headers.get("Content-Length", 0)) - len(data)
                return None if self.missing else Request.parsed(head, content, remote, data[end:])
        except Exception:  # noqa: BLE001  the other parser finds it too, and says what is wrong
            self.clear = False
        return None

    def at_the_end(self) -> bool:
        """Whether the request that was begun has ended with the last byte that came."""
        self.clear = self.clear and not self.missing
        return self.clear
