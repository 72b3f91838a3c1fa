"""ASK: HTTP to another service. Deadline, retries of what may be repeated, trace and identity.

A call is a value (`Call`) in the caller's own vocabulary: it declares what it sends and which
fields of the answer it reads, so services agree without importing one another.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote, urlencode

import aiohttp

from mesh import clock, codec, errors
from mesh.errors import DeadlineExceeded, MeshError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.telemetry import TraceContext

In = TypeVar("In")
Out = TypeVar("Out")

CONNECT_S = 0.25
"""Time to connect on one machine: far over any healthy figure."""

CALL_S = 0.8
"""Default time for a whole internal call, retries included."""

HOP_S = 0.01
"""Kept back at each hop, so that the caller's own answer still gets out in time."""

DEADLINE_MIN_S = 0.005
"""With less than this left, no work is begun."""

RETRIES_MAX = 2
RETRY_WAIT_S = (0.025, 0.2)
"""Bounds of the full jitter between tries."""

CONNECTIONS_MAX = 32
"""To one peer: a slow one must not use up this process (aiohttp's default has no bound)."""

ANSWER_BYTES_MAX = 4 * 1024 * 1024

_PATH_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})

_BY_STATUS: dict[int, type[MeshError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    422: errors.InvalidInput,
    428: errors.PreconditionFailed,
    504: errors.DeadlineExceeded,
    507: errors.StorageFull,
}


@dataclass(frozen=True)
class Call(Generic[In, Out]):
    """One operation of a peer, as its caller sees it.

    `route` is `METHOD /path/{field}`; `timeout_s` bounds the whole call with its retries.
    `repeatable`: sending it twice does no more than once (GET, PUT and DELETE always are).
    """

    service: str
    route: str
    takes: type[In]
    gives: type[Out]
    timeout_s: float = CALL_S
    repeatable: bool = False


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What travels beside the body."""

    trace: TraceContext
    deadline_s: float
    """On the monotonic clock."""
    cause: str = ""
    key: str | None = None
    bearer: str | None = None
    """A token to show instead of this program's own."""


def _request_parts(call: Call[In, Out], request: In) -> tuple[str, str, bytes | None]:
    """Method, path with query, body.

    Raises: InvalidInput for a path field that would lead to another route.
    """
    method, template = call.route.split(" ", 1)
    left = dict(codec.plain(request))

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        text = str(left.pop(name))
        if text in {"", ".", ".."}:  # no quoting keeps URL parsers from resolving these
            raise errors.InvalidInput(f"{name} cannot be {text!r}", pointer=f"/{name}")
        return quote(text, safe="")

    path = _PATH_FIELD.sub(fill, template)
    if method in {"GET", "DELETE"}:
        query = urlencode({name: value for name, value in left.items() if value is not None})
        return method, f"{path}?{query}" if query else path, None
    return method, path, codec.encode(left)


def problem_error(status: int, raw: bytes, service: str) -> MeshError:
    """The error that a problem document (RFC 9457) tells of, with its members as facts."""
    try:
        document = codec.decode(raw, dict[str, object])
    except MeshError:
        document = {}
    code = str(document.pop("type", "")).rpartition("/")[2] or None
    detail = str(document.pop("detail", "") or document.get("title", f"{service}: {status}"))
    for member in ("title", "status", "instance", "trace_id", "errors"):
        document.pop(member, None)
    if status == 429:  # noqa: PLR2004  Too Many Requests carries its wait
        wait = document.pop("retry_after_s", None)
        return errors.Throttled(
            detail, retry_after_s=float(wait) if isinstance(wait, int | float) else 1.0
        )
    kind = _BY_STATUS.get(status, ServiceUnavailable)
    error = kind(detail, code=code)
    error.facts.update(document)
    return error


def facts_as(error: MeshError, shape: type[Out]) -> Out:
    """The members that a peer's problem carried, as `shape`.

    Raises: ServiceUnavailable when the peer speaks another version of this problem.
    """
    try:
        return codec.convert(error.facts, shape)
    except errors.InvalidInput as found:
        raise ServiceUnavailable(f"an answer without what it should carry: {found}") from None


def _meant(call: Call[In, Out], status: int, raw: bytes) -> Out:
    """What an answer says.

    Raises: the error that a problem tells of; ServiceUnavailable when it cannot be read.
    """
    if status >= 400:  # noqa: PLR2004  the error classes of RFC 9110
        raise problem_error(status, raw, call.service)
    if call.gives is type(None):
        return None
    try:
        return codec.decode(raw, call.gives)
    except errors.InvalidInput as error:
        raise ServiceUnavailable(f"{call.service} gave an unreadable answer: {error}") from None


async def _whole(content: aiohttp.StreamReader, service: str) -> bytes:
    """The body to its end; one `read(n)` gives no more than what has arrived.

    Raises: ServiceUnavailable when it is over ANSWER_BYTES_MAX.
    """
    found = bytearray()
    async for chunk in content.iter_any():
        found += chunk
        if len(found) > ANSWER_BYTES_MAX:
            raise ServiceUnavailable(f"the answer of {service} is over {ANSWER_BYTES_MAX} bytes")
    return bytes(found)


class Client:
    """Asks peers by name. One per process; `token` mints this program's token for a callee."""

    def __init__(self, urls: dict[str, str], token: Callable[[str], str]) -> None:
        """`urls`: name of each peer that may be asked → its base URL without trailing slash."""
        self._urls = urls
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=CONNECTIONS_MAX, use_dns_cache=False
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
            )
            # aiohttp would send GET, PUT and DELETE once more by itself, at each of our tries.
            session._retry_connection = False  # noqa: SLF001  it has no public name
            self._session = session
        return self._session

    async def ask(self, call: Call[In, Out], request: In, envelope: Envelope) -> Out:
        """Ask and wait for the answer.

        Raises:
            Forbidden: the configuration does not let this program ask that peer.
            ServiceUnavailable, DeadlineExceeded: no answer; a call that changes something may
                or may not have happened.
            Any Refused: the peer's own refusal, its code and members as facts.
        """
        url = self._urls.get(call.service)
        if url is None:
            raise errors.Forbidden(
                f"{call.service} may not be asked from here",
                hint=f"add `{call.service}` to this service's `calls:`",
            )
        method, path, body = _request_parts(call, request)
        deadline_s = min(envelope.deadline_s, clock.monotonic_s() + call.timeout_s) - HOP_S
        tries = RETRIES_MAX + 1 if call.repeatable or method in _REPEATABLE or envelope.key else 1
        for left in range(tries - 1, -1, -1):
            try:
                return await self._once(call, method, url + path, body, envelope, deadline_s)
            except ServiceUnavailable as error:
                wait_s = clock.uniform(*RETRY_WAIT_S)
                if (
                    not left
                    or error.facts.get("overloaded")
                    or clock.monotonic_s() + wait_s > deadline_s
                ):
                    raise
                await asyncio.sleep(wait_s)
        raise AssertionError  # the last try returns or raises

    async def _once(
        self,
        call: Call[In, Out],
        method: str,
        url: str,
        body: bytes | None,
        envelope: Envelope,
        deadline_s: float,
    ) -> Out:
        left_s = deadline_s - clock.monotonic_s()
        if left_s < DEADLINE_MIN_S:
            raise DeadlineExceeded(f"no time left to ask {call.service}")
        headers = {
            "Authorization": "Bearer " + (envelope.bearer or self._token(call.service)),
            "traceparent": envelope.trace.child().traceparent,
            "Mesh-Timeout": str(int(left_s * clock.MS_PER_S)),
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        if envelope.cause:
            headers["Mesh-Cause"] = envelope.cause
        if envelope.key:
            headers["Idempotency-Key"] = envelope.key
        try:
            async with self._open().request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=left_s, sock_connect=CONNECT_S),
            ) as response:
                raw = await _whole(response.content, call.service)
                status = response.status
        except aiohttp.ConnectionTimeoutError:
            raise ServiceUnavailable(f"{call.service} takes no connection") from None
        except TimeoutError:
            raise DeadlineExceeded(f"{call.service} did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ServiceUnavailable(f"{call.service} cannot be reached: {error}") from None
        return _meant(call, status, raw)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
