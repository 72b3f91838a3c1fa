"""ASK: HTTP to another service. Deadline, retries of what may be repeated, trace and identity.

A call is a value (`Call`) in the caller's own vocabulary: it declares what it sends, which
fields of the answer it reads and how it is made (`Policy`), so services agree without importing
one another. The rules are those of `resilience`; here they meet the wire.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote, urlencode

from msgspec import Struct

from mesh import clock, codec, errors
from mesh.errors import DeadlineExceeded, MeshError, Refused, ServiceUnavailable
from mesh.exchange import Pool, UnreachableError
from mesh.figures import WINDOW_S
from mesh.histogram import Window
from mesh.resilience.callee import Callee, Figures
from mesh.resilience.policy import AS_USUAL, BreakerPolicy, Policy
from mesh.tracing.asked import asked
from mesh.tracing.context import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable, Container

In = TypeVar("In")
Out = TypeVar("Out")

CONNECT_S = 0.25
"""Time to connect on one machine: far over any healthy figure."""

HOP_S = 0.01
"""Kept back at each hop, so that the caller's own answer still gets out in time."""

DEADLINE_MIN_S = 0.005
"""With less than this left, no work is begun."""

RETRY_WAIT_S = (0.025, 0.2)
"""Bounds of the full jitter between tries."""

HELD_BACK = "held-back"
"""The code of a call that was not made since its callee is to be left alone."""

UNAVAILABLE = 503
FULL = 507
"""An answer like any other: no rest lets a full disk recover."""

_PATH_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
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

    `route` is `METHOD /path/{field}`; `policy` how it is made.
    `repeatable`: sending it twice does no more than once (GET, PUT and DELETE always are).
    """

    service: str
    route: str
    takes: type[In]
    gives: type[Out]
    policy: Policy = AS_USUAL
    repeatable: bool = False

    def __hash__(self) -> int:
        """Of what tells calls apart; a dataclass would hash its policy, too, at each look-up."""
        return hash((self.service, self.route))

    @property
    def idempotent(self) -> bool:
        """Whether it may be sent again without a key."""
        return self.repeatable or self.route.split(" ", 1)[0] in _REPEATABLE


class Envelope(Struct, frozen=True, kw_only=True):
    """What travels beside the body."""

    trace: TraceContext
    deadline_s: float
    """On the monotonic clock."""
    cause: str = ""
    key: str | None = None
    bearer: str | None = None
    """A token to show instead of this program's own."""
    outermost: bool = True
    """Whether nobody above will try again: one floor retries, else each multiplies the others."""


def problem_error(status: int, raw: bytes, service: str, *, full: bool = False) -> MeshError:
    """The error that a problem document (RFC 9457) tells of, with its members as facts.

    `full`: a header says that more than the bound was asked, as programs in other languages do.
    """
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
    full = status == UNAVAILABLE and (full or document.get("overloaded") is True)
    kind = errors.Overloaded if full else _BY_STATUS.get(status, ServiceUnavailable)
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


@dataclass(frozen=True)
class _Line:
    """What calls to one peer share: its connections (the bulkhead) and what is known of it."""

    pool: Pool
    callee: Callee


class _Way(Generic[In, Out]):
    """How one call is made: all of it that is known before anybody asks."""

    def __init__(self, call: Call[In, Out], line: _Line, window: Window) -> None:
        self.call = call
        self.line = line
        self.window = window
        self.host = line.pool.host
        self.method, self.template = call.route.split(" ", 1)
        self.repeatable = call.idempotent
        self._path, *rest = _PATH_FIELD.split(self.template)
        self._fields = tuple(zip(rest[::2], rest[1::2], strict=True))
        self._has_body = self.method not in {"GET", "DELETE"}

    def parts(self, request: In) -> tuple[str, bytes | None]:
        """Path with query, body.

        Raises: InvalidInput for a path field that would lead to another route.
        """
        path = self._path
        if self._has_body and not self._fields:
            return path, codec.encode(request)
        left = dict(codec.plain(request))
        for name, after in self._fields:
            text = str(left.pop(name))
            path += (text if _PLAIN.fullmatch(text) else _quoted(name, text)) + after
        if self._has_body:
            return path, codec.encode(left)
        query = urlencode({name: value for name, value in left.items() if value is not None})
        return f"{path}?{query}" if query else path, None

    def meant(self, status: int, raw: bytes, *, full: bool) -> Out:
        """What an answer says.

        Raises: the error that a problem tells of; ServiceUnavailable when it cannot be read.
        """
        if status >= 400:  # noqa: PLR2004  the error classes of RFC 9110
            raise problem_error(status, raw, self.call.service, full=full)
        if self.call.gives is type(None):
            return None
        try:
            return codec.decode(raw, self.call.gives)
        except errors.InvalidInput as error:
            raise ServiceUnavailable(
                f"{self.call.service} gave an unreadable answer: {error}"
            ) from None


def _quoted(name: str, text: str) -> str:
    if text in {"", ".", ".."}:  # no quoting keeps URL parsers from resolving these
        raise errors.InvalidInput(f"{name} cannot be {text!r}", pointer=f"/{name}")
    return quote(text, safe="")


def _shown(value: str) -> str:
    """A header's value. Raises: InvalidInput for one that could begin another header."""
    if not (value.isascii() and value.isprintable()):
        raise errors.InvalidInput("a header's value must be printable ASCII")
    return value


def _key(call: Call[In, Out]) -> tuple[str, BreakerPolicy, int]:
    return call.service, call.policy.breaker, call.policy.connections_max


class Client:
    """Asks peers by name. One per process; `token` mints this program's token for a callee."""

    def __init__(
        self,
        urls: dict[str, str],
        token: Callable[[str], str],
        draw: Callable[[], float] = clock.chance,
        *,
        patience: int = 1,
    ) -> None:
        """`urls`: name of each peer → its base URL; `patience` lengthens each call's own time."""
        self.patience = patience
        self._urls = urls
        self._token = token
        self._draw = draw
        self._lines: dict[tuple[str, BreakerPolicy, int], _Line] = {}
        self._ways: dict[Call, _Way] = {}  # type: ignore[type-arg]  # each has types of its own
        self.windows: defaultdict[str, Window] = defaultdict(lambda: Window(WINDOW_S))
        """Attempts of the last seconds by peer; who reads them turns them."""

    async def ask(self, call: Call[In, Out], request: In, envelope: Envelope) -> Out:
        """Ask and wait for the answer.

        Raises:
            Forbidden: the configuration does not let this program ask that peer.
            ServiceUnavailable, DeadlineExceeded: no answer; a call that changes something may
                or may not have happened (it did not with the code HELD_BACK).
            Overloaded: the peer did not begin it, and is not to be asked again at once.
            Any Refused: the peer's own refusal, its code and members as facts.
        """
        way: _Way[In, Out] = self._ways.get(call) or self._way(call)
        path, body = way.parts(request)
        now_s = clock.monotonic_s()
        deadline_s = min(envelope.deadline_s, now_s + self.patience * call.policy.timeout_s) - HOP_S
        if deadline_s - now_s < DEADLINE_MIN_S:
            raise DeadlineExceeded(f"no time left to ask {call.service}")
        callee = way.line.callee
        if not callee.begin(now_s):
            raise ServiceUnavailable(
                f"{call.service} has not been answering, and is asked less until it does",
                code=HELD_BACK,
            )
        repeatable = envelope.outermost and (way.repeatable or envelope.key is not None)
        retries, attempt, failed = call.policy.retries_max if repeatable else 0, 1, True
        try:
            while True:
                try:
                    answer = await self._once(way, path, body, envelope, deadline_s, attempt)
                except ServiceUnavailable:  # not Overloaded: more of the same is no help
                    if not retries:
                        raise
                    retries -= 1
                    attempt += 1
                    wait_s = clock.uniform(*RETRY_WAIT_S)
                    now_s = clock.monotonic_s()
                    if now_s + wait_s + DEADLINE_MIN_S > deadline_s or not callee.retry(now_s):
                        raise
                    await asyncio.sleep(wait_s)
                else:
                    failed = False
                    return answer
        except Refused:
            failed = False
            raise
        finally:
            callee.end(failed=failed)

    async def _once(
        self,
        way: _Way[In, Out],
        path: str,
        body: bytes | None,
        envelope: Envelope,
        deadline_s: float,
        attempt: int,
    ) -> Out:
        """One attempt; what became of it is told to the breaker, and recorded."""
        begun_s = clock.monotonic_s()
        left_s = deadline_s - begun_s
        service, line = way.call.service, way.line
        if left_s < DEADLINE_MIN_S:
            raise DeadlineExceeded(f"no time left to ask {service}")
        step = envelope.trace.child()
        sent = self._request(way, path, body, envelope, step.traceparent, left_s)
        line.callee.attempts += 1
        breaker, status = line.callee.breaker, None
        failure: BaseException | None = None
        try:
            status, headers, raw = await line.pool.exchange(sent, left_s, CONNECT_S)
            if status >= 500 and status != FULL:  # noqa: PLR2004  the server errors of RFC 9110
                breaker.failed()
            else:
                breaker.accepted(clock.monotonic_s())
            full = status == UNAVAILABLE and headers.get("Mesh-Overloaded") == "1"
            return way.meant(status, raw, full=full)
        except UnreachableError as error:
            breaker.unreachable(clock.monotonic_s())
            failure = ServiceUnavailable(f"{service} takes no connection: {error}")
        except TimeoutError:
            breaker.failed()
            failure = DeadlineExceeded(f"{service} did not answer in time")
        except OSError as error:
            breaker.failed()
            failure = ServiceUnavailable(f"{service} cannot be reached: {error}")
        except BaseException as error:
            failure = error
            raise
        finally:
            about = (service, way.method, way.template, attempt, status)
            asked(way.window, step, envelope.trace.span_id, begun_s, about, failure)
        raise failure from None

    def _request(
        self,
        way: _Way[In, Out],
        path: str,
        body: bytes | None,
        envelope: Envelope,
        traceparent: str,
        left_s: float,
    ) -> bytes:
        """All that is sent."""
        more = envelope.bearer or self._token(way.call.service)
        if envelope.cause:
            more += f"\r\nMesh-Cause: {_shown(envelope.cause)}"
        if envelope.key:
            more += f"\r\nIdempotency-Key: {_shown(envelope.key)}"
        if body is not None:
            more += f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        head = (
            f"{way.method} {path} HTTP/1.1\r\nHost: {way.host}\r\ntraceparent: {traceparent}\r\n"
            f"Mesh-Timeout: {int(left_s * clock.MS_PER_S)}\r\nAuthorization: Bearer {more}\r\n\r\n"
        ).encode("ascii")
        return head + body if body else head

    def _way(self, call: Call[In, Out]) -> _Way[In, Out]:
        """How calls of this kind are made. Raises: Forbidden."""
        key = _key(call)
        line = self._lines.get(key)
        if line is None:
            url = self._urls.get(call.service)
            if url is None:
                raise errors.Forbidden(
                    f"{call.service} may not be asked from here",
                    hint=f"add `{call.service}` to this service's `calls:`",
                )
            line = self._lines[key] = _Line(
                Pool(url, call.policy.connections_max), Callee(call.policy.breaker, self._draw)
            )
        way = self._ways[call] = _Way(call, line, self.windows[call.service])
        return way

    def callee(self, call: Call[In, Out]) -> Figures | None:
        """What was counted of calls to this peer under this policy; None while none was made."""
        line = self._lines.get(_key(call))
        return None if line is None else line.callee.figures(clock.monotonic_s())

    def room(self, peers: Container[str], most: int) -> int:
        """How many pieces of work that ask these may begin now: `most`, one as a probe, or none."""
        lines = [line for (name, _, _), line in self._lines.items() if name in peers]
        now_s = clock.monotonic_s()
        return min([most, *(line.callee.breaker.room(now_s, most) for line in lines)])

    def figures(self) -> dict[str, Figures]:
        """The same by peer, over all its policies; a few additions, to be read at any time."""
        now_s = clock.monotonic_s()
        found: dict[str, Figures] = {}
        for (service, _, _), line in self._lines.items():
            one = line.callee.figures(now_s)
            found[service] = found[service].plus(one) if service in found else one
        return found

    async def close(self) -> None:
        """Close the connections."""
        self._ways.clear()
        while self._lines:
            _, line = self._lines.popitem()
            line.pool.close()
