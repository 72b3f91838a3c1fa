"""A request whose head has come: what it says, and its body as it comes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader
    from multidict import MultiMapping

PLAIN_PATH = r"(?:/[A-Za-z0-9_.-]++)++"
"""In which nothing is to be decoded, as in most."""

_PLAIN_PATH = re.compile(PLAIN_PATH)

_NOWHERE = URL()


class Request:
    """One request.

    Attributes:
        target: the path with its query, as they were sent.
        path: percent-decoded, without the query.
        route: the same but for %2F and %25, so that a field in it may hold a slash.
        headers: by name, written as the values of `heads.NAMES` are; any other in any case.
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
        method: str,
        target: str,
        headers: Mapping[str, str],
        remote: str,
        body: bytes | None,
        *,
        content: StreamReader = EMPTY_PAYLOAD,
        keep_alive: bool = True,
        old: bool = False,
        url: URL = _NOWHERE,
    ) -> None:
        """`target` is a plain path; `url`: what it says, if it is not."""
        self.method = method
        self.target = self.path = self.route = target
        self.headers = headers
        self.body = body
        self.content = content
        self.remote = remote
        self.keep_alive = keep_alive
        self.old = old
        self._url = url

    @classmethod
    def parsed(
        cls,
        head: RawRequestMessage,
        content: StreamReader,
        remote: str,
        body: bytes | None = None,
    ) -> Self:
        """As aiohttp's parser read it. Raises: HttpProcessingError."""
        if head.path is None:
            raise BadHttpMessage("no target")
        request = cls(
            head.method,
            head.path,
            head.headers,
            remote,
            body,
            content=content,
            keep_alive=not (head.should_close or head.chunked or head.upgrade),
            old=head.version < HttpVersion11,
            url=head.url,
        )
        if not _PLAIN_PATH.fullmatch(head.path):
            request.path, request.route = head.url.path, head.url.path_safe
        return request

    @property
    def authority(self) -> str:
        """The host, and the port, that the target names."""
        return self._url.raw_authority

    @property
    def query(self) -> MultiMapping[str]:
        """The query's members, decoded."""
        return self._url.query
