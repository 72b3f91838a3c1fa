"""The four services in this process, on real databases: what is asked, lost, killed, delivered and owed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from mesh import clock
from mesh.errors import MeshError, ServiceUnavailable
from mesh.framework import Caller
from mesh.framework.inbox import ServiceInbox
from mesh.framework.outbox import ServiceOutbox
from mesh.services.auth.service import service as auth_service
from mesh.services.order.service import service as order_service
from mesh.services.product.service import service as product_service
from mesh.services.user.service import service as user_service
from tests.framework.mortal import Died, Mortal
from tests.services.in_process import Room, room
from tests.services.order import at_rest
from tests.services.order.support import work

BEGIN_MS = 1_800_000_000_000
STAFF = Caller("user", "usr_sam", ("staff",))
ROUNDS_MAX = 60
"""Passes over all services in which everything must come to rest; a few are the rule."""

LOST = "lost"
"""What a client knows whose question was never answered."""


@dataclass(frozen=True)
class Death:
    """A process that dies at its n-th await while a question is being answered."""

    service: str
    at: int
    again: bool
    """Whether the client sends its question again."""


class _Lifeline:
    """Towards a neighbour whose process may die: then there is no answer."""

    def __init__(self, inner) -> None:
        self._inner = inner

    async def ask(self, call, request, envelope):
        try:
            return await self._inner.ask(call, request, envelope)
        except Died:
            raise ServiceUnavailable(f"{call.service} died") from None


class Shop:
    """The services, their clock, and what lies between them."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._folder = tempfile.TemporaryDirectory(prefix="mesh-machine-")
        self.now_ms = BEGIN_MS
        self._clock = mock.patch.object(clock, "now_ms", self._now)
        self._clock.start()
        self.rooms: dict[str, Room] = {}
        self.run(self._open())

    def _now(self) -> int:
        return self.now_ms

    def run(self, work):
        return self._runner.run(work)

    async def _open(self) -> None:
        folder, rooms = Path(self._folder.name), self.rooms
        for service, asks in (
            (auth_service, ()),
            (user_service, ("auth",)),
            (product_service, ()),
            (order_service, ("product",)),
        ):
            neighbours = [rooms[name] for name in asks]
            made = await self._stack.enter_async_context(room(service, folder, *neighbours))
            made.wires.client = _Lifeline(made.wires.client)
            rooms[service.name] = made

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()
        self._clock.stop()
        self._folder.cleanup()

    async def ask(
        self, service: str, name: str, body: dict, *, caller=None, key=None, death=None
    ) -> object:
        """What the client comes to know: the answer, an error, or that it was LOST."""
        who = {} if caller is None else {"caller": caller}

        async def once():
            try:
                return await self.rooms[service].ask(name, body, key=key, match="*", **who)
            except MeshError as error:
                return error

        if death is None:
            return await once()
        with Mortal(self.rooms[death.service], death.at):
            try:
                answer = await once()
            except Died:
                answer = LOST
        return await once() if answer is LOST and death.again else answer

    async def rest(self, death_at: int = 0) -> None:
        """Everything told is heard and everything owed is done; order may die once meanwhile.

        Backorders are woken once all else is done, so that what they find does not depend on luck.
        """
        for _ in range(ROUNDS_MAX):
            if await self._pass(death_at):
                death_at = 0
                continue
            if await self._wake(death_at):
                death_at = 0
                continue
            due_ms = self._undated()
            if due_ms is None:
                return
            self.now_ms = max(self.now_ms, due_ms) + 1
        raise AssertionError("the shop does not come to rest")

    async def _pass(self, death_at: int) -> bool:
        done: list[object] = []
        for name, place in self.rooms.items():
            but_wake = {row.name for row in place.service.deferred} - {"wake"}
            done += await self._work(name, but_wake, death_at)
        for teller in self.rooms.values():
            for hearer in self.rooms.values():
                done += await self._deliver(teller, hearer)
        return bool(done)

    async def _wake(self, death_at: int) -> bool:
        return bool(await self._work("order", {"wake"}, death_at))

    async def _work(self, name: str, only: set[str], death_at: int) -> list[object]:
        place = self.rooms[name]
        if name != "order" or not death_at:
            return list(await work(place, only=only))
        with Mortal(place, death_at):
            try:
                return list(await work(place, only=only))
            except Died:
                return ["died"]

    async def _deliver(self, teller: Room, hearer: Room) -> list[object]:
        stream = teller.service.name
        listeners = hearer.erasure.listeners(hearer.service.listeners)
        inbox = ServiceInbox(hearer.database, hearer.wires.vocabulary, listeners)
        if stream not in inbox.streams:
            return []
        await inbox.prepare()
        at = (await inbox.cursor(stream)).link.seq
        outbox = ServiceOutbox(teller.database, stream)
        events = await outbox.after(at, rows_max=1000, bytes_max=10**7)
        applied = await inbox.apply(stream, events)
        assert applied.retry_after_s is None, "an event could not be applied"
        return list(events)

    def _undated(self) -> int | None:
        sql = "SELECT min(due_ms) FROM deferred WHERE dated = 0 OR due_ms <= :now"
        found = [
            place.database.read.one(int, sql, now=self.now_ms) for place in self.rooms.values()
        ]
        return min((due for due in found if due is not None), default=None)

    def wrong(self) -> list[str]:
        """Every promise of the four tables, and what order and product must agree on."""
        own = [
            f"{name}: {found}"
            for name in ("auth", "user")
            for found in self.rooms[name].offenders().items()
        ]
        return own + at_rest.wrong(self.rooms["order"], self.rooms["product"])
