"""HTTP in: a request becomes a call of an action, whatever happens becomes an answer.

Order of the checks: host and origin, route, room at all (admission), identity, permission, body, a
place, key; so nothing is spent on whom there is no time for, nothing is read for a caller who may
not ask, and nobody waits for a place behind a slow sender.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock, codec, errors, telemetry
from mesh.errors import InvalidInput, MeshError, Overloaded
from mesh.framework import conditional, idempotency, identity, reading, shedding
from mesh.framework.context import Context, Wires
from mesh.framework.faults import Faults
from mesh.framework.gate import Gate
from mesh.framework.metrics import FAILED_FROM
from mesh.framework.problems import problem
from mesh.framework.reading import Bodies
from mesh.framework.reply import Reply
from mesh.framework.router import Router
from mesh.resilience.admission import Admission

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping

    from mesh.framework.idempotency import Keyed
    from mesh.framework.identity import Caller, Identity
    from mesh.framework.metrics import Metrics
    from mesh.framework.request import Request
    from mesh.framework.service import Operation, Service

    Page = Callable[[Request], Awaitable[Reply]]

log = telemetry.logger("framework.app")


class App:
    """One service, seen over HTTP. `handle` answers a request.

    Attributes:
        patience: how many times REQUEST_S a request may take.
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
        patience: int = 1,
    ) -> None:
        """`pages`: what is served beside the operations; `fatal`: the process cannot go on."""
        self._router = Router(service)
        self._wires = wires
        self._identity = who
        self._metrics = metrics
        self._pages = pages
        self._fatal = fatal
        self.patience = patience
        self.faults = Faults()
        self._controls: Mapping[tuple[str, str], Page] = {}
        self._always: Container[str] = pages
        self._running = idempotency.Running()
        self.gate = Gate(Admission())
        self._bodies = Bodies()
        self.requests_begun = 0
        self.in_flight = 0
        self.last_request_s = 0.0
        self.draining = False

    @property
    def controls(self) -> Mapping[tuple[str, str], Page]:
        """Method and path → what the operator may have done."""
        return self._controls

    @controls.setter
    def controls(self, table: Mapping[tuple[str, str], Page]) -> None:
        self._controls = table
        self._always = {*self._pages, *(path for _, path in table)}

    async def handle(self, request: Request) -> Reply:
        """Answer one request; never raises."""
        begun_s = self.last_request_s = clock.monotonic_s()
        came = telemetry.parse_traceparent(request.headers.get("traceparent"))
        trace = came.child() if came else telemetry.new_trace()
        telemetry.current_trace.set(trace)
        name = "other"
        try:
            reading.check_origin(request)
            page = self._controls.get((request.method, request.path))
            if page is None and request.method == "GET":
                page = self._pages.get(request.path)
            if page is not None:
                telemetry.current_trace.set(codec.replace(trace, sampled=False))
                response = await page(request)
                if self.draining:
                    response.force_close()
                return response
            operation, fields = self._router.find(request.method, request.route)
            name = operation.name
            if self.faults.any:
                await self.faults.before_work()
            if not self.gate.admission.roomy:  # before anything is spent on it
                self._admissible()
            self.requests_begun += 1
            self.in_flight += 1
            try:
                response = await self._answer(request, operation, fields, trace, begun_s)
            finally:
                self.in_flight -= 1
        except MeshError as error:
            response = self._refuse(error, trace, request.path)
        except (ConnectionError, asyncio.CancelledError):
            self._served(request, name, None, trace, came, begun_s, clock.monotonic_s())
            raise
        except Exception as error:
            log.exception("an action failed", extra=telemetry.facts(operation=name))
            response = self._refuse(errors.Broken(str(error)), trace, request.path)
        response.headers["traceparent"] = trace.traceparent
        told = (request, name, response.status, trace, came, begun_s, clock.monotonic_s())
        asyncio.get_running_loop().call_soon(self._served, *told)  # whoever waits goes first
        if self.draining:
            response.force_close()
        return response

    def refusal(self, data: bytes) -> bytes | None:
        """The answer to what has come on a quiet connection, if there is no time to look at it."""
        now_s = clock.monotonic_s()
        if self.draining or not self.gate.admission.full(now_s):
            return None
        refused = shedding.refusal(data, self._always)
        if refused is not None:
            self.gate.admission.refuse(now_s)
            self._metrics.refused()
        return refused

    def _admissible(self) -> None:
        """Raises: Overloaded."""
        now_s = clock.monotonic_s()
        if self.gate.admission.late(now_s):
            self.gate.admission.refuse(now_s)
            raise Overloaded(shedding.DETAIL)

    def _served(
        self,
        request: Request,
        name: str,
        status: int | None,
        trace: telemetry.TraceContext,
        came: telemetry.TraceContext | None,
        begun_s: float,
        ended_s: float,
    ) -> None:
        """Count the request, and tell of it; `status` None: whoever asked has gone."""
        failure = "cancelled"
        if status is not None:
            self._metrics.request(name, status, ended_s - begun_s)
            failure = str(status) if status >= FAILED_FROM else ""
        about = (request.method, self._router.routes.get(name), request.path, status)
        parent_id = came.span_id if came is not None else ""
        telemetry.record("server", trace, parent_id, name, begun_s, ended_s, failure, about)

    def _refuse(self, error: MeshError, trace: telemetry.TraceContext, path: str) -> Reply:
        if isinstance(error, errors.Broken):
            log.error("broken", exc_info=error, extra=telemetry.facts(path=path))
        if isinstance(error, errors.DatabaseBroken):
            self._fatal(error)
        return problem(error, trace.trace_id, path)

    async def _answer(
        self,
        request: Request,
        operation: Operation,  # type: ignore[type-arg]
        fields: dict[str, str],
        trace: telemetry.TraceContext,
        begun_s: float,
    ) -> Reply:
        ended = None
        try:
            caller = self._known(request) or await self.caller(request)
        except identity.SessionEnded as error:
            if operation.done is None:
                raise
            caller, ended = error.caller, error
        identity.admit(caller, operation.allow)
        deadline_s = begun_s + reading.budget_s(request, self.patience)
        raw = b"" if operation.rest_in_query else reading.at_hand(request)
        if raw is None:
            raw = await self.body(request)
        takes = reading.values(request, operation, fields, raw)
        if operation.done is not None and self._done(operation, caller, takes, ended):
            return Reply(operation.status, b"", {})
        place = self.gate.enter(deadline_s)
        if place is not None:
            await place
        mark = None
        try:
            context = Context(
                wires=self._wires,
                caller=caller,
                trace=trace,
                cause=_cause(request, caller, trace),
                deadline_s=deadline_s,
                outermost=caller.kind != "service",
                status=operation.status,
                source=request.remote,
            )
            if operation.match:
                context.match = conditional.required_match(request.headers.get("If-Match"))
            keyed = _keyed(request, operation, caller, takes)
            if keyed is not None:
                mark = self._running.enter(keyed)
                found = idempotency.find(context.read, keyed)
                if found is not None:
                    return conditional.replay(found)
                context.keyed = keyed
            answer = await operation.action(context, takes)
            return conditional.respond(request, context.status, answer, context.headers)
        finally:
            if mark is not None:
                self._running.leave(mark)
            self.gate.leave()

    def _done(
        self,
        operation: Operation,  # type: ignore[type-arg]
        caller: Caller,
        takes: object,
        ended: identity.SessionEnded | None,
    ) -> bool:
        """Whether nothing is left to do. Raises: SessionEnded, where that was all one may ask."""
        assert operation.done is not None
        done = operation.done(self._wires.database.read, caller, takes)
        if ended is not None and not done:
            raise ended
        return done

    def _known(self, request: Request) -> Caller | None:
        """Who asks, if there is nothing to find out. Raises: Unauthenticated."""
        header = request.headers.get("Authorization")
        if header is None:
            return identity.ANONYMOUS
        return self._identity.known(header[7:]) if header.startswith("Bearer ") else None

    async def caller(self, request: Request) -> Caller:
        """Who asks, by the token shown.

        Raises: Unauthenticated, Forbidden, InvalidInput, ServiceUnavailable.
        """
        bearer = identity.bearer_of(request.headers.get("Authorization"))
        return identity.ANONYMOUS if bearer is None else await self._identity.verify(bearer)

    async def body(self, request: Request) -> bytes:
        """The whole body. Raises: what `Bodies.whole` raises."""
        return await self._bodies.whole(request)


def _keyed(
    request: Request,
    operation: Operation,  # type: ignore[type-arg]
    caller: Caller,
    takes: object,
) -> Keyed | None:
    """The key under which the answer is kept; None where there is none. Raises: InvalidInput."""
    if operation.key == "none":
        return None
    key = request.headers.get("Idempotency-Key")
    if key is not None:
        return idempotency.keyed(caller, operation.name, key, takes)
    if operation.key == "required":
        raise InvalidInput("Idempotency-Key is required here", code="idempotency-key-missing")
    return None


def _cause(request: Request, caller: Caller, trace: telemetry.TraceContext) -> str:
    """What events of this request will name as their cause; only a service may hand one on."""
    if caller.kind == "service":
        handed = request.headers.get("Mesh-Cause", "")
        if handed.isascii() and handed.isprintable() and handed:
            return handed[:80]
    return f"req_{trace.span_id}"
