"""The bus over HTTP: for programs in any language to tell and hear events, and for the operator.

    POST /events/TYPE                      data as JSON, or a CloudEvent     201, durable
    GET  /events?consumer=NAME&after=…     the next CloudEvents, waited for  200, an array

Loopback only, every request with a token for `bus`. Who tells is who the token says: its stream has
that name, and nobody tells in another's.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from mesh import codec, errors, snapshot, telemetry
from mesh.buses.cloudevents import cloud_event
from mesh.buses.contract import EVENT_BYTES_MAX
from mesh.buses.disorder import Disturbance
from mesh.buses.zmq.asked import CLOUD_EVENT, draft, question
from mesh.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MeshError,
    Overloaded,
    TooLarge,
    Unauthenticated,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from mesh.buses.zmq.broker import Broker
    from mesh.buses.zmq.hosted import Hosted
    from mesh.buses.zmq.hosting import Host
    from mesh.snapshot import Cut

T = TypeVar("T")

CLI = "cli"
"""The operator's stream."""

BODY_S = 5.0
"""A body must arrive within this."""

IN_FLIGHT_MAX = 128
"""Requests at a time: twice what may wait for news."""

LINE_BYTES_MAX = 8190
SHUTDOWN_S = 1.0
BACKLOG = 256

BATCH = "application/cloudevents-batch+json"
PROBLEM = "application/problem+json"

_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)

_STATUS: tuple[tuple[type[MeshError], int], ...] = (
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.Refused, 400),
    (errors.StorageFull, 507),
    (errors.Unavailable, 503),
)
"""The first line that fits decides."""

_BY_CODE = {
    "body-timeout": 408,
    "idempotency-key-reused": 422,
    "method-not-allowed": 405,
    "misdirected": 421,
}

_log = telemetry.logger("bus")


class Door:
    """The HTTP side of one broker."""

    def __init__(
        self,
        broker: Broker,
        host: Host,
        hosted: Hosted,
        signer: Callable[[str], str],
        guests: frozenset[str],
    ) -> None:
        """Not serving yet.

        Args:
            signer: who has signed a token for the bus; raises Unauthenticated.
            guests: programs that tell events here, having no outbox of their own.
        """
        self._signer = signer
        self._broker = broker
        self._host = host
        self._hosted = hosted
        self._guests = guests
        self._cut: Cut | None = None
        self._in_flight = 0
        self._telling = 0
        self._told = 0

    async def serve(self, listener: socket.socket) -> web.AppRunner:
        """Begin to answer; `cleanup` of what is returned ends it."""
        app = web.Application(client_max_size=codec.BODY_BYTES_MAX, middlewares=[self._answer])
        app.router.add_get("/livez", self._livez)
        app.router.add_post("/events/{type}", self._tell)
        app.router.add_get("/events", self._ask)
        app.router.add_get("/counters", self._counters)
        app.router.add_post("/faults", self._inflict)
        app.router.add_delete("/faults", self._mend)
        app.router.add_get("/streams", self._streams)
        app.router.add_get("/streams/{name}/{seq:[0-9]{1,19}}", self._link)
        app.router.add_post("/backup/{step}", self._backup)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            max_line_size=LINE_BYTES_MAX,
        )
        await runner.setup()
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        return runner

    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Whatever happens, in the words of RFC 9457."""
        came = telemetry.parse_traceparent(request.headers.get("traceparent"))
        trace = came.child() if came else telemetry.new_trace()
        telemetry.current_trace.set(trace)
        self._in_flight += 1
        try:
            _check_origin(request)
            self._check_room()
            return await handler(request)
        except MeshError as error:
            return _problem(error, request.path, trace.trace_id)
        except web.HTTPException as answer:
            return _problem(_refused(answer, request), request.path, trace.trace_id)
        except Exception as error:  # noqa: BLE001  nothing of the inside may leave
            return _problem(errors.Broken(str(error)), request.path, trace.trace_id, error)
        finally:
            self._in_flight -= 1

    def _check_room(self) -> None:
        if self._in_flight > IN_FLIGHT_MAX:
            raise Overloaded(f"{IN_FLIGHT_MAX} requests are being answered already")

    # Who asks

    def _caller(self, request: web.Request) -> str:
        """`operator` or a service. Raises: Unauthenticated."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("this needs an identity: send `Authorization: Bearer …`")
        return self._signer(token.strip())

    def _program(self, request: web.Request) -> str:
        """Whose stream and cursors these are. Raises: Unauthenticated, Forbidden."""
        caller = self._caller(request)
        if caller == "operator":
            return CLI
        if caller not in self._guests:
            raise Forbidden(f"{caller} has an outbox and cursors of its own", code="not-a-guest")
        return caller

    def _operator(self, request: web.Request) -> None:
        if self._caller(request) != "operator":
            raise Forbidden("this is the operator's alone")

    # Events

    async def _tell(self, request: web.Request) -> web.Response:
        program = self._program(request)
        told = draft(program, request, codec.read_json(await _body(request)))
        if len(told.body) > EVENT_BYTES_MAX:
            raise TooLarge(f"the data is over {EVENT_BYTES_MAX} bytes")
        self._telling += 1
        try:
            event, known = await self._host.tell(program, told)
        finally:
            self._telling -= 1
        self._told += 1
        headers = {"Idempotent-Replayed": "true"} if known else {}
        return _json(cloud_event(event), 200 if known else 201, CLOUD_EVENT, headers)

    async def _ask(self, request: web.Request) -> web.Response:
        program = self._program(request)
        return _json(await self._host.ask(question(program, request)), 200, BATCH)

    # The operator's

    async def _livez(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def _counters(self, request: web.Request) -> web.Response:
        """What `mesh wait --for idle` compares; a question that waits for news is no unrest."""
        self._operator(request)
        return _json(
            {
                "requests_begun": self._told,
                "in_flight": self._telling,
                "outbox": self._host.counters(),
            }
        )

    async def _inflict(self, request: web.Request) -> web.Response:
        self._operator(request)
        self._broker.way.begin(await _asked(request, Disturbance))
        return web.Response(status=204)

    async def _mend(self, request: web.Request) -> web.Response:
        self._operator(request)
        self._broker.way.end()
        return web.Response(status=204)

    async def _streams(self, request: web.Request) -> web.Response:
        """Every stream's epochs and head: what a restored file must go on from."""
        self._operator(request)
        found = [self._broker.lineage(name) for name in self._broker.streams]
        return _json(
            {
                "streams": [
                    {
                        "stream": each.name,
                        "epochs": each.epochs,
                        "head": each.head,
                        "tail_seq": each.tail_seq,
                    }
                    for each in found
                ]
            }
        )

    async def _link(self, request: web.Request) -> web.Response:
        """One event's place and hash; null if it is not kept here."""
        self._operator(request)
        seq = int(request.match_info["seq"])
        return _json({"link": self._host.link(request.match_info["name"], seq)})

    async def _backup(self, request: web.Request) -> web.Response:
        """One step of a cut: `hold` the writer, `take` the moment, `copy` it; `log` copies the log."""
        self._operator(request)
        step = request.match_info["step"]
        if step == "log":
            target = self._hosted.path.with_name("bus.db.backup")
            size = await asyncio.to_thread(snapshot.copy_file, self._host.log_file, target)
            return _json({"bytes": size})
        if step == "hold":
            await self._let_go()
            self._cut = await self._hosted.hold()
            return _json({})
        if self._cut is None:
            raise Conflict("nothing is held", code="cut-missed")
        if step == "take":
            await self._cut.take()
            return _json({})
        if step != "copy":
            raise errors.NotFound(f"there is no step {step!r}")
        target = self._hosted.path.with_name("hosted.db.backup")
        try:
            size = await self._cut.copy(target)
        finally:
            await self._let_go()
        return _json({"bytes": size})

    async def _let_go(self) -> None:
        if self._cut is not None:
            cut, self._cut = self._cut, None
            await cut.close()


async def _body(request: web.Request) -> bytes:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise InvalidInput("encoded bodies are not taken", code="content-encoding")
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise errors.Refused("the body did not come in time", code="body-timeout") from None


async def _asked(request: web.Request, shape: type[T]) -> T:
    return codec.convert(codec.read_json(await _body(request)), shape)


def _check_origin(request: web.Request) -> None:
    """Refuse what a page of another site could make a browser send."""
    if not _HOST.fullmatch(request.headers.get("Host", "")):
        raise errors.Refused("this server does not answer for that host", code="misdirected")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden("requests of web pages are not taken", code="cross-site")


def _json(
    content: object,
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> web.Response:
    return web.Response(
        body=codec.encode(content), status=status, content_type=content_type, headers=headers
    )


def _refused(answer: web.HTTPException, request: web.Request) -> MeshError:
    """What aiohttp refuses by itself."""
    if isinstance(answer, web.HTTPRequestEntityTooLarge):
        return TooLarge("the body is too large")
    if isinstance(answer, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(answer.allowed_methods))
        return errors.Refused(
            f"{request.method} is not taken here: {allowed}", code="method-not-allowed"
        )
    return errors.NotFound(f"nothing is at {request.path}", code="no-such-route")


def _problem(
    error: MeshError, instance: str, trace_id: str, cause: Exception | None = None
) -> web.Response:
    """RFC 9457; `cause` is logged in place of an error that only stands for it."""
    fits = (status for shape, status in _STATUS if isinstance(error, shape))
    status = _BY_CODE.get(error.code) or next(fits, 500)
    ours = status == 500  # noqa: PLR2004  what is broken inside stays inside
    if ours:
        _log.error("broken", exc_info=cause or error)
    said: dict[str, object] = {
        "type": f"/problems/{error.code}",
        "title": (type(error).__doc__ or "Error").split(":", maxsplit=1)[0].split("\n")[0],
        "status": status,
        "detail": "An internal error; the log has it under this trace id."
        if ours
        else error.detail,
        "instance": instance,
        "code": error.code,
        "trace_id": trace_id,
    }
    if error.hint and not ours:
        said["hint"] = error.hint
    if isinstance(error, InvalidInput) and error.pointer:
        said["errors"] = [{"pointer": error.pointer, "detail": error.detail}]
    headers = {"Retry-After": "1"} if status == 503 else {}  # noqa: PLR2004  RFC 9110
    if status == 401:  # noqa: PLR2004  RFC 6750
        headers["WWW-Authenticate"] = "Bearer"
    return _json(said, status, PROBLEM, headers)
