"""Reading requests that are here from the first byte to the last as soon as they come, as most are.

Both kinds are read by aiohttp's parser, so both in one way. But where all of a body is at hand, the
parser is shown the head alone: a stream for the body, which would have to be made, filled, ended and
emptied, costs half as much as the head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser

from mesh.framework.request import Request

if TYPE_CHECKING:
    import asyncio

    from aiohttp.base_protocol import BaseProtocol

LINE_BYTES_MAX = 4096
HEADER_BYTES_MAX = 8190

READ_BYTES = 64 * 1024
"""Of a body that nobody reads yet, a few times over."""

_END = b"\r\n\r\n"


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
                return None if self.missing else Request(head, content, remote, data[end:])
        except Exception:  # noqa: BLE001  the other parser finds it too, and says what is wrong
            self.clear = False
        return None

    def at_the_end(self) -> bool:
        """Whether the request that was begun has ended with the last byte that came."""
        self.clear = self.clear and not self.missing
        return self.clear
