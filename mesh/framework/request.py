"""A request whose head has come: what it says, and its body as it comes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import BadHttpMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader
    from multidict import MultiMapping

_PLAIN = re.compile(r"(/[A-Za-z0-9_.-]+)+")


class Request:
    """One request.

    Attributes:
        target: the path with its query, as they were sent.
        path: percent-decoded, without the query.
        route: the same but for %2F and %25, so that a field in it may hold a slash.
        headers: by name in any case.
        body: all of it, where it came in one piece with the head.
        content: else the body, all of it once `content.is_eof()`.
        remote: the address it came from.
        keep_alive: whether the client means to ask again on this connection, and may: behind chunks
            the parser takes the last trailer for a header of what follows, and behind a request to
            upgrade it loses what came with it.
        old: whether it speaks HTTP/1.0.
    """

    __slots__ = (
        "_url",
        "body",
        "content",
        "headers",
        "keep_alive",
        "method",
        "old",
        "path",
        "remote",
        "route",
        "target",
    )

    def __init__(
        self,
        head: RawRequestMessage,
        content: StreamReader,
        remote: str,
        body: bytes | None = None,
    ) -> None:
        """As aiohttp's parser read it. Raises: HttpProcessingError."""
        if head.path is None:
            raise BadHttpMessage("no target")
        self.method = head.method
        self.target = target = head.path
        self.headers: Mapping[str, str] = head.headers
        self.body = body
        self.content = content
        self.remote = remote
        self.keep_alive = not (head.should_close or head.chunked or head.upgrade)
        self.old = head.version < HttpVersion11
        self._url = head.url
        if _PLAIN.fullmatch(target):  # most are; nothing is to be decoded
            self.path = self.route = target
        else:
            self.path, self.route = head.url.path, head.url.path_safe

    @property
    def authority(self) -> str:
        """The host, and the port, that the target names."""
        return self._url.raw_authority

    @property
    def query(self) -> MultiMapping[str]:
        """The query's members, decoded."""
        return self._url.query
