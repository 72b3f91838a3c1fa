"""Who is connected: how many at most, how long one may keep us waiting, who goes first.

A connection *owes* us something while its request has begun to come and is not here whole, and from
its start until then; it is *idle* between an answer and the next request; else we are at work for
it, and never let go of it. Beyond the bound the one that has owed longest goes, then the one
that has been idle longest: a newcomer with a request in its hand is worth more than either. On one
machine every client has the same address, so the bound of an address holds for those that owe: a
client that asks and reads may have as many connections as there are.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.http import HttpVersion11

from mesh import clock, telemetry
from mesh.errors import Broken, InvalidInput
from mesh.framework.metrics import FAILED_FROM
from mesh.framework.problems import problem
from mesh.framework.reply import Reply

if TYPE_CHECKING:
    from mesh.framework.app import App

CONNECTIONS_MAX = 512
"""To one service; each may hold a body of a mebibyte on its way."""

DESCRIPTORS_KEPT = 40
"""Of the process's, for what is no client's: databases, logs, the bus, asks of others. A listener
that has none left to accept with is told of the same newcomer again and again, at once."""

OWING_MAX = 64
"""Of one address, that have owed for longer than GRACE_S."""

GRACE_S = 0.25
"""A request is on its way for less than this, also where many connect at once."""

HEAD_S = 5.0
"""Until a request's head must be here; its body is bounded where it is read."""

IDLE_S = 75.0
"""Longer than any client's pool keeps a connection, so that the client is who closes it."""

WRITE_S = 10.0
"""A client that takes nothing of its answer for this long is not waited for."""

SWEEP_S = 1.0

UNREADABLE = "this is no HTTP request that can be read"

log = telemetry.logger("framework.connections")


class Connections:
    """Those of one server."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._owing: dict[str, dict[Handler, float]] = {}
        self._idle: dict[Handler, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.count = 0
        self.dropped = 0

    def made(self, handler: Handler) -> bool:
        """One has come; False when there is no room for it."""
        if self.count >= _room() and not self._drop(self._oldest()):
            self.dropped += 1
            return False
        self.count += 1
        self.owes(handler)
        same = self._owing[handler.address]
        if len(same) > OWING_MAX:
            oldest, since_s = next(iter(same.items()))
            if clock.monotonic_s() - since_s > GRACE_S:
                self._drop(oldest)
        return True

    def owes(self, handler: Handler) -> None:
        """A request has begun to come."""
        self._idle.pop(handler, None)
        self._owing.setdefault(handler.address, {})[handler] = clock.monotonic_s()
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def at_work(self, handler: Handler) -> None:
        """Its request is here whole."""
        self._idle.pop(handler, None)
        self._no_longer_owes(handler)

    def idle(self, handler: Handler) -> None:
        """It has been answered."""
        self._no_longer_owes(handler)
        self._idle[handler] = None

    def lost(self, handler: Handler) -> None:
        """It is gone."""
        self.at_work(handler)
        self.count -= 1

    def _no_longer_owes(self, handler: Handler) -> None:
        same = self._owing.get(handler.address)
        if same is not None:
            same.pop(handler, None)
            if not same:
                del self._owing[handler.address]

    def _oldest(self) -> Handler | None:
        first = [next(iter(same.items())) for same in self._owing.values()]
        if first:
            return min(first, key=lambda row: row[1])[0]
        return next(iter(self._idle), None)

    def _drop(self, handler: Handler | None) -> bool:
        if handler is None:
            return False
        self.dropped += 1
        self.at_work(handler)  # out of both lists at once; its end is told by the loop later
        handler.drop()
        return True

    def _sweep(self) -> None:
        """Let go of those whose request's head does not come."""
        before_s = clock.monotonic_s() - HEAD_S
        for same in [*self._owing.values()]:
            for handler in [each for each, since_s in same.items() if since_s < before_s]:
                if not handler.asked:
                    self._drop(handler)
        again = bool(self._owing)
        self._sweeper = (
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if again else None
        )


def _room() -> int:
    """Connections that there may be, with the descriptors that this process has now."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, descriptors - DESCRIPTORS_KEPT)


class Handler(web.RequestHandler):
    """One connection. What comes while nobody may wait is refused before it is even parsed."""

    __slots__ = ("_all", "_app", "_counted", "_expected", "_fed", "_stuck", "address", "asked")

    def __init__(
        self,
        server: web.Server,
        everybody: Connections,
        app: App,
        **options: object,
    ) -> None:
        """Nobody has come yet."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_S,
            **options,  # type: ignore[arg-type]  # as web.Server hands them on
        )
        self._all = everybody
        self._app = app
        self._counted = False
        self._fed = False
        self._expected = False
        self._stuck: asyncio.TimerHandle | None = None
        self.address = ""
        self.asked = False
        """Whether the head of a request has come, and its answer has not gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come."""
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._counted = self._all.made(self)
        if self._counted:
            super().connection_made(transport)
        else:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Somebody has gone."""
        if self._counted:
            self._all.lost(self)
        self._no_longer_expected()
        self.resumed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, mostly all of it."""
        if not self._fed:
            refusal = self._app.refusal(data)
            if refusal is not None and self.transport is not None:
                self.transport.write(refusal)
                self._all.idle(self)
                return
            self._fed = True
            self._all.owes(self)
            if b"\r\n\r\n" in data.lstrip():  # a head that may never come whole is not waited for
                self._expected = True
                self._app.gate.admission.coming += 1
        super().data_received(data)

    def head_came(self) -> None:
        """A request is about to be handled; its body may still be on its way."""
        self.asked = True
        self._no_longer_expected()

    def _no_longer_expected(self) -> None:
        if self._expected:
            self._expected = False
            self._app.gate.admission.coming -= 1

    def body_came(self) -> None:
        """Nothing is owed any more."""
        self._all.at_work(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse | Reply, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; then the next request may come."""
        try:
            if not isinstance(resp, Reply):
                return await super().finish_response(request, resp, start_time)
            if self._upgraded or request.version != HttpVersion11:
                return await super().finish_response(request, resp.usual(), start_time)
            if not request.keep_alive:
                resp.force_close()
            return await self._write(resp)
        finally:
            self.asked = False
            self._fed = bool(self._messages)  # more than one may have come at once
            if self.transport is not None:
                self._all.idle(self)

    async def _write(self, reply: Reply) -> tuple[web.StreamResponse, bool]:
        """As `finish_response`: what is written, and whether the client has gone."""
        transport = self.transport
        gone = transport is None or transport.is_closing()
        if not gone:
            transport.write(reply.written())  # type: ignore[union-attr]  # not None, as just seen
            if self._paused:
                await self._drain_helper()
        return cast("web.StreamResponse", reply), gone

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        _message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, as every refusal is answered; then hang up.

        Raises: ConnectionError when an answer has begun to leave already.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already") from exc
        trace = telemetry.new_trace()
        unreadable = status < FAILED_FROM
        log.log(
            telemetry.WARNING if unreadable else telemetry.ERROR,
            "a request could not be read" if unreadable else "a request could not be handled",
            exc_info=None if unreadable else exc,
            extra=telemetry.facts(trace_id=trace.trace_id, why=type(exc).__name__),
        )
        error = InvalidInput(UNREADABLE, code="unreadable") if unreadable else Broken(str(exc))
        answer = problem(error, trace.trace_id, "")
        answer.headers["traceparent"] = trace.traceparent
        answer.force_close()
        return answer

    def pause_writing(self) -> None:
        """The client does not read what we write."""
        super().pause_writing()
        self._stuck = asyncio.get_running_loop().call_later(WRITE_S, self.drop)

    def resume_writing(self) -> None:
        """It does again."""
        self.resumed()
        super().resume_writing()

    def resumed(self) -> None:
        """Nobody waits for this client to read."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def drop(self) -> None:
        """End it without a word."""
        if self.transport is not None:
            self.transport.abort()
