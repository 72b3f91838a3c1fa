"""HTTP in: a request becomes a call of an action, whatever happens becomes an answer.

Order of the checks: host and origin, route, identity, permission, body, room (admission), key; so
nothing is read for a caller who may not ask, and nobody waits for a place behind a slow sender.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from aiohttp import web

from mesh import clock, codec, errors, telemetry
from mesh.errors import (
    Forbidden,
    InvalidInput,
    MeshError,
    Overloaded,
    TooLarge,
)
from mesh.framework import conditional, idempotency, identity
from mesh.framework.context import Context, Wires
from mesh.framework.faults import Faults
from mesh.framework.metrics import FAILED_FROM
from mesh.framework.problems import problem
from mesh.framework.router import Router

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mesh.framework.identity import Caller, Identity
    from mesh.framework.metrics import Metrics
    from mesh.framework.service import Operation, Service

    Page = Callable[[web.BaseRequest], Awaitable[web.Response]]

REQUEST_S = 2.0
"""Time for a request from outside that names no budget of its own."""

LEFT_MIN_S = 0.005
"""With less than this left of its deadline no work is begun: nothing is answered in less."""

BODY_S = 5.0
"""A body must arrive within this; a stalled one holds a connection, not a place."""

READING_MAX = 256
"""Bodies on their way at a time, and so MiB of memory; beyond, 503. Most come with their head."""

IN_FLIGHT_MAX = 64
WAITING_MAX = 256
"""Requests that may wait for one of the IN_FLIGHT_MAX places; beyond, 503 at once."""

WAIT_S = 0.5
"""Longest wait for a place, and at most half of what is left of the deadline."""

LINE_BYTES_MAX = 4096
HEADER_BYTES_MAX = 8190

_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)

log = telemetry.logger("framework.app")


class App:
    """One service, seen over HTTP. `handle` is the handler of a low-level aiohttp server.

    Attributes:
        last_request_s: when the latest request came, on the monotonic clock.
        draining: every answer from now on is the last one on its connection, and says so.
    """

    def __init__(
        self,
        service: Service,
        wires: Wires,
        who: Identity,
        metrics: Metrics,
        pages: dict[str, Page],
        fatal: Callable[[BaseException], None],
    ) -> None:
        """`pages`: what is served beside the operations; `fatal`: the process cannot go on."""
        self._router = Router(service)
        self._wires = wires
        self._identity = who
        self._metrics = metrics
        self._pages = pages
        self._fatal = fatal
        self.faults = Faults()
        self.controls: Mapping[tuple[str, str], Page] = {}
        self._running = idempotency.Running()
        self._places = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._waiting = 0
        self._reading = 0
        self.requests_begun = 0
        self.in_flight = 0
        self.last_request_s = 0.0
        self.draining = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; never raises."""
        begun_s = self.last_request_s = clock.monotonic_s()
        came = telemetry.parse_traceparent(request.headers.get("traceparent"))
        trace = came.child() if came else telemetry.new_trace()
        telemetry.current_trace.set(trace)
        name = "other"
        try:
            _check_origin(request)
            page = self.controls.get((request.method, request.path))
            if page is None and request.method == "GET":
                page = self._pages.get(request.path)
            if page is not None:
                telemetry.current_trace.set(codec.replace(trace, sampled=False))
                return self._last_if_draining(await page(request))
            operation, fields = self._router.find(request.method, request.rel_url.path_safe)
            name = operation.name
            await self.faults.before_work()
            response = await self._counted(request, operation, fields, trace)
        except MeshError as error:
            response = self._refuse(error, trace, request.path)
        except (ConnectionError, asyncio.CancelledError):
            self._served(request, name, None, trace, came, begun_s)
            raise
        except Exception as error:
            log.exception("an action failed", extra=telemetry.facts(operation=name))
            response = self._refuse(errors.Broken(str(error)), trace, request.path)
        response.headers["traceparent"] = trace.traceparent
        self._served(request, name, response.status, trace, came, begun_s)
        return self._last_if_draining(response)

    def _served(
        self,
        request: web.BaseRequest,
        name: str,
        status: int | None,
        trace: telemetry.TraceContext,
        came: telemetry.TraceContext | None,
        begun_s: float,
    ) -> None:
        """Count the request, and tell of it; `status` None: whoever asked has gone."""
        ended_s, failure = clock.monotonic_s(), "cancelled"
        if status is not None:
            self._metrics.request(name, status, ended_s - begun_s)
            failure = str(status) if status >= FAILED_FROM else ""
        about = (request.method, self._router.routes.get(name), request.path, status)
        parent_id = came.span_id if came is not None else ""
        telemetry.record("server", trace, parent_id, name, begun_s, ended_s, failure, about)

    def _last_if_draining(self, response: web.StreamResponse) -> web.StreamResponse:
        if self.draining:
            response.force_close()
        return response

    def _refuse(self, error: MeshError, trace: telemetry.TraceContext, path: str) -> web.Response:
        if isinstance(error, errors.Broken):
            log.error("broken", exc_info=error, extra=telemetry.facts(path=path))
        if isinstance(error, errors.DatabaseBroken):
            self._fatal(error)
        return problem(error, trace.trace_id, path)

    async def _counted(
        self,
        request: web.BaseRequest,
        operation: Operation,  # type: ignore[type-arg]
        fields: dict[str, str],
        trace: telemetry.TraceContext,
    ) -> web.Response:
        self.requests_begun += 1
        self.in_flight += 1
        try:
            return await self._answer(request, operation, fields, trace)
        finally:
            self.in_flight -= 1

    async def _answer(
        self,
        request: web.BaseRequest,
        operation: Operation,  # type: ignore[type-arg]
        fields: dict[str, str],
        trace: telemetry.TraceContext,
    ) -> web.Response:
        begun_s = clock.monotonic_s()
        caller = await self.caller(request)
        identity.admit(caller, operation.allow)
        deadline_s = begun_s + _budget_s(request)
        raw = b"" if operation.rest_in_query else await self.body(request)
        takes = _read(request, operation, fields, raw)
        await self._enter(deadline_s)
        try:
            context = Context(
                wires=self._wires,
                caller=caller,
                trace=trace,
                cause=_cause(request, caller, trace),
                deadline_s=deadline_s,
                outermost=caller.kind != "service",
                status=operation.status,
            )
            return await self._act(request, operation, takes, context)
        finally:
            self._places.release()

    async def caller(self, request: web.BaseRequest) -> Caller:
        """Who asks, by the token shown.

        Raises: Unauthenticated, Forbidden, InvalidInput, ServiceUnavailable.
        """
        bearer = identity.bearer_of(request.headers.get("Authorization"))
        return identity.ANONYMOUS if bearer is None else await self._identity.verify(bearer)

    async def body(self, request: web.BaseRequest) -> bytes:
        """The whole body, bounded in length, in time and in how many are on their way.

        Raises: InvalidInput, TooLarge; Refused (code `body-timeout`); Overloaded.
        """
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise InvalidInput("encoded bodies are not taken", code="content-encoding")
        if not request.can_read_body:
            return b""
        if (request.content_length or 0) > codec.BODY_BYTES_MAX:
            raise TooLarge(f"the body is over {codec.BODY_BYTES_MAX} bytes")
        if not request.content.is_eof() and self._reading >= READING_MAX:
            raise Overloaded("too many bodies are on their way")
        self._reading += 1
        try:
            if request.content.is_eof():  # all here: nothing to wait for, no timer to set
                return await request.read()
            async with asyncio.timeout(BODY_S):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise TooLarge(f"the body is over {codec.BODY_BYTES_MAX} bytes") from None
        except TimeoutError:
            raise errors.Refused("the body did not come in time", code="body-timeout") from None
        finally:
            self._reading -= 1

    async def _enter(self, deadline_s: float) -> None:
        """Take one of the places, waiting a bounded time in a bounded queue."""
        left_s = deadline_s - clock.monotonic_s()
        if left_s < LEFT_MIN_S:
            raise errors.DeadlineExceeded("no time is left for this")
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting >= WAITING_MAX:
            raise Overloaded("too many requests wait already")
        self._waiting += 1
        try:
            async with asyncio.timeout(min(WAIT_S, left_s / 2)):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("no place became free in time") from None
        finally:
            self._waiting -= 1

    async def _act(
        self,
        request: web.BaseRequest,
        operation: Operation,  # type: ignore[type-arg]
        takes: object,
        context: Context,
    ) -> web.Response:
        if operation.match:
            context.match = conditional.required_match(request.headers.get("If-Match"))
        key = request.headers.get("Idempotency-Key")
        if key is None and operation.key == "required":
            raise InvalidInput("Idempotency-Key is required here", code="idempotency-key-missing")
        if key is None or operation.key == "none":
            return await self._perform(request, operation, takes, context)
        keyed = idempotency.keyed(context.caller, operation.name, key, takes)
        mark = self._running.enter(keyed)
        try:
            found = idempotency.find(context.read, keyed)
            if found is not None:
                return conditional.replay(found)
            context.keyed = keyed
            return await self._perform(request, operation, takes, context)
        finally:
            self._running.leave(mark)

    async def _perform(
        self,
        request: web.BaseRequest,
        operation: Operation,  # type: ignore[type-arg]
        takes: object,
        context: Context,
    ) -> web.Response:
        answer = await operation.action(context, takes)
        return conditional.respond(request, context.status, answer, context.headers)


def _check_origin(request: web.BaseRequest) -> None:
    """Refuse what a page of another site could make a browser send."""
    host = request.headers.get("Host", "")
    if not _HOST.fullmatch(host):
        raise errors.Refused("this server does not answer for that host", code="misdirected")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden("requests of web pages are not taken", code="cross-site")


def _budget_s(request: web.BaseRequest) -> float:
    """What the caller allows, in seconds; at most REQUEST_S.

    Raises: DeadlineExceeded when less is left than any work takes.
    """
    header = request.headers.get("Mesh-Timeout")
    if header is None:
        return REQUEST_S
    if not header.isdecimal():
        raise InvalidInput("Mesh-Timeout must be whole milliseconds")
    budget_s = min(REQUEST_S, int(header[:9]) / clock.MS_PER_S)
    if budget_s < LEFT_MIN_S:
        raise errors.DeadlineExceeded("no time is left for this")
    return budget_s


def _cause(request: web.BaseRequest, caller: Caller, trace: telemetry.TraceContext) -> str:
    """What events of this request will name as their cause; only a service may hand one on."""
    if caller.kind == "service":
        handed = request.headers.get("Mesh-Cause", "")
        if handed.isascii() and handed.isprintable() and handed:
            return handed[:80]
    return f"req_{trace.span_id}"


def _read(
    request: web.BaseRequest,
    operation: Operation,  # type: ignore[type-arg]
    fields: dict[str, str],
    raw: bytes,
) -> object:
    """Path, query and body as what the operation takes."""
    values: dict[str, object] = dict(fields)
    if "%00" in request.raw_path:
        raise InvalidInput("text holds a NUL character")
    if operation.rest_in_query:
        return codec.convert(_texts(request, fields), operation.takes, loose=True)
    has_members = len(codec.fields(operation.takes)) > len(fields)
    if raw or has_members:
        if request.content_type != "application/json":
            raise InvalidInput("Content-Type must be application/json", code="content-type")
        body = codec.read_json(raw)
        if not isinstance(body, dict):
            raise InvalidInput("the body must be a JSON object")
        _check_path_says(fields.keys() & body.keys())
        values.update(body)
    return codec.convert(values, operation.takes)


def _texts(request: web.BaseRequest, fields: dict[str, str]) -> dict[str, str]:
    """Path and query: each name once, and nothing in the query that the path says."""
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            raise InvalidInput(f"{name} is given more than once", pointer=f"/{name}")
    _check_path_says(fields.keys() & query.keys())
    return {**query, **fields}


def _check_path_says(twice: set[str]) -> None:
    if twice:
        name = min(twice)
        raise InvalidInput(f"{name} belongs in the path", pointer=f"/{name}")
