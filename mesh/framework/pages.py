"""What every service serves beside its operations: health, metrics, its documents, its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mesh
from mesh import codec
from mesh.errors import InvalidInput
from mesh.framework import asyncapi, divergence, identity, openapi, parked
from mesh.framework.metrics import CONTENT_TYPE, Metrics
from mesh.framework.reply import Reply
from mesh.framework.service import OPERATOR, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.bus import Bus
    from mesh.database import Database
    from mesh.framework.app import App, Page
    from mesh.framework.deferred import DeferredWork
    from mesh.framework.identity import Identity
    from mesh.framework.inbox import ServiceInbox
    from mesh.framework.outbox import ServiceOutbox
    from mesh.framework.request import Request
    from mesh.framework.traffic import Traffic


ID_DIGITS = 32
"""Of an event's id, a UUID, without its hyphens."""


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
        self._documents: dict[str, bytes] = {}
        self.app: App
        self.traffic: Traffic
        self.ready = False

    def table(self) -> dict[str, Page]:
        """Path → handler of what is only read."""
        return {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
            "/openapi.json": self._show_openapi,
            "/asyncapi.json": self._show_asyncapi,
            "/counters": self._counters,
            "/parked": self._parked,
            "/diverged": self._diverged,
            "/traffic": self._show_traffic,
        }

    def controls(self) -> dict[tuple[str, str], Page]:
        """Method and path → handler of what the operator has done."""
        return {
            ("POST", "/parked/retry"): self._retry_parked,
            ("POST", "/parked/drop"): self._drop_parked,
            ("POST", "/diverged/resolve"): self._resolve_diverged,
        }

    async def _livez(self, _: Request) -> Reply:
        return _page({"status": "alive"})

    async def _readyz(self, _: Request) -> Reply:
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

    async def _show_metrics(self, _: Request) -> Reply:
        return Reply(200, self._metrics.text(), {}, CONTENT_TYPE)

    async def _show_openapi(self, _: Request) -> Reply:
        return self._document("openapi", openapi.document)

    async def _show_asyncapi(self, _: Request) -> Reply:
        return self._document("asyncapi", asyncapi.document)

    def _document(self, name: str, written: Callable[[Service, str], dict[str, object]]) -> Reply:
        if name not in self._documents:
            self._documents[name] = codec.encode(written(self._service, mesh.__version__))
        return Reply(200, self._documents[name], {})

    async def _counters(self, request: Request) -> Reply:
        """What `mesh wait --for idle` compares; for the operator alone."""
        await self._admit(request)
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

    async def _show_traffic(self, request: Request) -> Reply:
        """How this service asks and is asked; for the operator alone."""
        await self._admit(request)
        return _page(self.traffic.told())

    async def _admit(self, request: Request) -> None:
        identity.admit(await self.app.caller(request), OPERATOR)

    async def _parked(self, request: Request) -> Reply:
        """All parked events, or with `?id=` one of them whole."""
        await self._admit(request)
        if "id" in request.query:
            row = parked.found(self._database.read, _event_asked(request))
            return _page(parked.plain(row))
        count, rows = await parked.listed(self._database)
        return _page({"count": count, "parked": [parked.plain(row) for row in rows]})

    async def _retry_parked(self, request: Request) -> Reply:
        """Offer `?id=` to its listener again; `error` says why if it failed again."""
        await self._admit(request)
        return _page({"error": await self._inbox.retry(_event_asked(request))})

    async def _drop_parked(self, request: Request) -> Reply:
        """Give up on `?id=` for good."""
        await self._admit(request)
        await self._inbox.drop(_event_asked(request))
        return _page({})

    async def _diverged(self, request: Request) -> Reply:
        """Effects here of events that a restore has taken back."""
        await self._admit(request)
        rows = divergence.unresolved(self._database.read)
        return _page({"diverged": [divergence.plain(row) for row in rows]})

    async def _resolve_diverged(self, request: Request) -> Reply:
        """Somebody has looked, and put right what had to be."""
        await self._admit(request)
        return _page({"resolved": await self._database.write(divergence.resolve)})


def _event_asked(request: Request) -> bytes:
    """The event that the query names. Raises: InvalidInput."""
    text = request.query.get("id", "").replace("-", "")
    if len(text) != ID_DIGITS or not set(text.lower()) <= set("0123456789abcdef"):
        raise InvalidInput("id must be the id of an event", pointer="/id")
    return bytes.fromhex(text)


def _page(content: dict[str, object], status: int = 200) -> Reply:
    return Reply(status, codec.encode(content), {})
