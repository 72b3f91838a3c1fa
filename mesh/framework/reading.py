"""What a request says: where it comes from, how long it may take, its body, its values.

Bounded in length, in time and in how many bodies are on their way; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from aiohttp.helpers import parse_content_type

from mesh import clock, codec
from mesh.errors import DeadlineExceeded, Forbidden, InvalidInput, Overloaded, Refused, TooLarge
from mesh.framework.gate import LEFT_MIN_S

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from mesh.framework.request import Request
    from mesh.framework.service import Operation

REQUEST_S = 2.0
"""Time for a request from outside that names no budget of its own."""

BODY_S = 5.0
"""A body must arrive within this; a stalled one holds a connection, not a place."""

READING_MAX = 256
"""Bodies on their way at a time, and so MiB of memory; beyond, 503. Most come with their head."""

HOSTS_MAX = 64
"""Names of this host that are remembered: a client always sends the same."""

_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


class Bodies:
    """Those on their way to one service."""

    def __init__(self) -> None:
        """None is."""
        self._reading = 0

    async def whole(self, request: Request) -> bytes:
        """The whole body, bounded in length, in time and in how many are on their way.

        Raises: InvalidInput, TooLarge; Refused (code `body-timeout`); Overloaded.
        """
        raw = at_hand(request)
        if raw is not None:
            return raw
        if int(request.headers.get("Content-Length", 0)) > codec.BODY_BYTES_MAX:
            raise TooLarge(f"the body is over {codec.BODY_BYTES_MAX} bytes")
        if self._reading >= READING_MAX:
            raise Overloaded("too many bodies are on their way")
        self._reading += 1
        try:
            async with asyncio.timeout(BODY_S):
                return await _all(request.content)
        except TimeoutError:
            raise Refused("the body did not come in time", code="body-timeout") from None
        finally:
            self._reading -= 1


def at_hand(request: Request) -> bytes | None:
    """The whole body if it is here: nothing to wait for, no timer to set. Raises as `whole`."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise InvalidInput("encoded bodies are not taken", code="content-encoding")
    raw = request.body
    if raw is None:
        if not request.content.is_eof():
            return None
        raw = request.content.read_nowait(-1)
    if len(raw) > codec.BODY_BYTES_MAX:
        raise TooLarge(f"the body is over {codec.BODY_BYTES_MAX} bytes")
    return raw


async def _all(content: StreamReader) -> bytes:
    found = bytearray()
    while part := await content.readany():
        found += part
        if len(found) > codec.BODY_BYTES_MAX:
            raise TooLarge(f"the body is over {codec.BODY_BYTES_MAX} bytes")
    return bytes(found)


def check_origin(request: Request) -> None:
    """Refuse what a page of another site could make a browser send."""
    host = request.headers.get("Host", "")
    if request.target[0] not in "/*":  # a host in it goes before the header (RFC 9112, 3.2.2)
        host = request.authority
    if not _ours(host):
        raise Refused("this server does not answer for that host", code="misdirected")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden("requests of web pages are not taken", code="cross-site")


@lru_cache(HOSTS_MAX)
def _ours(host: str) -> bool:
    return _HOST.fullmatch(host) is not None


def budget_s(request: Request, patience: int) -> float:
    """What the caller allows, in seconds; at most REQUEST_S, `patience` times.

    Raises: DeadlineExceeded when less is left than any work takes.
    """
    header = request.headers.get("Mesh-Timeout")
    most_s = REQUEST_S * patience
    if header is None:
        return most_s
    if not header.isdecimal():
        raise InvalidInput("Mesh-Timeout must be whole milliseconds")
    budget_s = min(most_s, int(header[:9]) / clock.MS_PER_S)
    if budget_s < LEFT_MIN_S:
        raise DeadlineExceeded("no time is left for this")
    return budget_s


def values(
    request: Request,
    operation: Operation,  # type: ignore[type-arg]
    fields: dict[str, str],
    raw: bytes,
) -> object:
    """Path, query and body as what the operation takes."""
    if "%00" in request.target:
        raise InvalidInput("text holds a NUL character")
    if operation.rest_in_query:
        return codec.convert(_texts(request, fields), operation.takes, loose=True)
    found: dict[str, object] = {}
    if raw or len(codec.fields(operation.takes)) > len(fields):
        if request.headers.get("Content-Type") != "application/json":
            _check_type(request)
        found = codec.read_json(raw)
        if not isinstance(found, dict):
            raise InvalidInput("the body must be a JSON object")
    if fields:
        if not fields.keys().isdisjoint(found):
            _refuse_twice(fields.keys() & found.keys())
        found.update(fields)
    return codec.convert(found, operation.takes)


def _check_type(request: Request) -> None:
    kind, parameters = parse_content_type(request.headers.get("Content-Type", ""))
    if kind != "application/json" or parameters.get("charset", "utf-8").lower() != "utf-8":
        raise InvalidInput("Content-Type must be application/json, in UTF-8", code="content-type")


def _texts(request: Request, fields: dict[str, str]) -> dict[str, str]:
    """Path and query: each name once, and nothing in the query that the path says."""
    if "?" not in request.target:
        return fields
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            raise InvalidInput(f"{name} is given more than once", pointer=f"/{name}")
    if not fields.keys().isdisjoint(query):
        _refuse_twice(fields.keys() & query.keys())
    return {**query, **fields}


def _refuse_twice(names: set[str]) -> NoReturn:
    name = min(names)
    raise InvalidInput(f"{name} belongs in the path", pointer=f"/{name}")
