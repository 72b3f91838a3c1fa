"""What every service serves beside its operations: health, metrics, its documents, its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

import mesh
from mesh import codec
from mesh.framework import identity, openapi
from mesh.framework.metrics import CONTENT_TYPE, Metrics
from mesh.framework.service import OPERATOR, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.bus import Bus
    from mesh.database import Database
    from mesh.framework.app import App
    from mesh.framework.deferred import DeferredWork
    from mesh.framework.identity import Identity
    from mesh.framework.inbox import ServiceInbox
    from mesh.framework.outbox import ServiceOutbox


class Pages:
    """What every service serves beside its operations."""

    def __init__(
        self,
        service: Service,
        who: Identity,
        store: Database,
        outbox: ServiceOutbox,
        inbox: ServiceInbox,
        work: DeferredWork,
        wire: Bus,
        metrics: Metrics,
    ) -> None:
        self._service = service
        self._identity = who
        self._database = store
        self._outbox = outbox
        self._inbox = inbox
        self._work = work
        self._bus = wire
        self._metrics = metrics
        self._openapi: bytes | None = None
        self.app: App
        self.ready = False

    def table(self) -> dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]]:
        """Path → handler."""
        return {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
            "/openapi.json": self._show_openapi,
            "/counters": self._counters,
        }

    async def _livez(self, _: web.BaseRequest) -> web.Response:
        return _page({"status": "alive"})

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        """Ready to answer: the database takes writes. An absent bus or peer is no reason."""
        writable = self._database.writable
        good = self.ready and writable
        return _page(
            {
                "status": "ready" if good else "not ready",
                "writable": writable,
                "bus": self._bus.state,
            },
            200 if good else 503,
        )

    async def _show_metrics(self, _: web.BaseRequest) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_openapi(self, _: web.BaseRequest) -> web.Response:
        if self._openapi is None:
            self._openapi = codec.encode(openapi.document(self._service, mesh.__version__))
        return web.Response(body=self._openapi, content_type="application/json")

    async def _counters(self, request: web.BaseRequest) -> web.Response:
        """What `mesh wait --for idle` compares; for the operator alone."""
        identity.admit(await self.app.caller(request), OPERATOR)
        counts = await self._work.counts()
        read = self._database.read
        unsettled = self._service.unsettled
        return _page(
            {
                "requests_begun": self.app.requests_begun,
                "in_flight": self.app.in_flight,
                "commits": self._database.commits,
                "events_applied": self._inbox.events_applied,
                "outbox": self._outbox.counters(),
                "cursors": self._inbox.counters(),
                "deferred": {"due": counts.due, "dated": counts.dated},
                "unsettled": (read.one(int, unsettled) or 0) if unsettled else 0,
                "parked": read.one(int, "SELECT count(*) FROM mlp_parked") or 0,
            }
        )


def _page(content: dict[str, object], status: int = 200) -> web.Response:
    return web.Response(body=codec.encode(content), status=status, content_type="application/json")
