"""What several tests of order do: place orders, deliver events, run deferred work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock
from mesh.framework import Caller, Context
from mesh.framework.deferred import DeferredWork
from mesh.framework.inbox import ServiceInbox
from mesh.framework.outbox import ServiceOutbox
from tests.services import in_process
from tests.services.order.conftest import ALICE, LAMP, MUG, SAM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.services.in_process import Room

ADDRESS = {
    "name": "Alice Adams",
    "line1": "1 Harbour Street",
    "city": "Hamburg",
    "postcode": "20457",
    "country": "DE",
}


def placing(*quantities: int, on_shortage: str = "backorder", **more: object) -> dict[str, object]:
    """A body for `create`: so many lamps, so many mugs."""
    lines = [
        {"product_id": product_id, "quantity": quantity}
        for product_id, quantity in zip((LAMP, MUG), quantities, strict=False)
        if quantity
    ]
    return {"lines": lines, "ship_to": ADDRESS, "on_shortage": on_shortage, **more}


async def plant(product: Room, *on_hand: int) -> None:
    names = [(LAMP, "LAMP-1", 2490), (MUG, "MUG-1", 990)]
    await product.plant(
        {
            "products": [
                {
                    "id": i,
                    "sku": sku,
                    "name": sku,
                    "price_minor": p,
                    "currency": "EUR",
                    "on_hand": n,
                }
                for (i, sku, p), n in zip(names, on_hand, strict=False)
            ]
        }
    )


async def create(order: Room, *quantities: int, caller: Caller = ALICE, key: str, **more: object):
    return await order.ask("create", placing(*quantities, **more), caller=caller, key=key)


async def restock(product: Room, delta: int, product_id: str = LAMP) -> None:
    body = {"id": product_id, "delta": delta, "reason": "delivery"}
    await product.ask("restock", body, caller=SAM)


async def deliver(product: Room, order: Room) -> int:
    """Hand order every event of product that it has not heard yet; returns how many."""
    inbox = ServiceInbox(order.database, order.wires.vocabulary, order.service.listeners)
    await inbox.prepare()
    at = (await inbox.cursor("product")).link.seq
    told = ServiceOutbox(product.database, "product")
    events = await told.after(at, rows_max=1000, bytes_max=10**7)
    applied = await inbox.apply("product", events)
    assert applied.retry_after_s is None
    return len(events)


def worker(room: Room) -> DeferredWork:
    return DeferredWork(
        room.database,
        room.service.deferred,
        lambda trace, cause, deadline_s: Context(
            room.wires, Caller("service", room.service.name), trace, cause, deadline_s
        ),
    )


async def work(room: Room, *, only: set[str] | None = None, rounds: int = 50) -> list[str]:
    """Do what is due, until nothing is; returns what was done."""
    runs, done = worker(room), []
    for _ in range(rounds):
        due = [one for one in runs._due(clock.now_ms()) if only is None or one.action in only]
        if not due:
            return done
        for one in due:
            runs._running.add((one.action, one.key))
            await runs._perform(one)
            done.append(one.action)
    raise AssertionError(f"work goes on for ever: {done}")


def left(room: Room) -> list[str]:
    return room.database.read.all(str, "SELECT action FROM deferred ORDER BY action")


class Interrupted:
    """Stands between order and product: `meanwhile` happens while one answer is on its way."""

    def __init__(self, room: Room, route: str, *meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._inner = room.wires.client
        self._route = route
        self._meanwhile = list(meanwhile)
        room.wires.client = self

    async def ask(self, call, request, envelope):
        try:
            answer = await self._inner.ask(call, request, envelope)
        finally:
            if call.route == self._route and self._meanwhile:
                await self._meanwhile.pop(0)()
        return answer


def offenders(room: Room) -> list[tuple[str, str]]:
    """Every row that breaks a promise of the table."""
    sentences = {row.name: row.sentence for row in room.service.invariants}
    found = in_process.offenders(room.service, room.file)
    return [(sentences[name], one) for name, rows in found.items() for one in rows]


async def wipe(room: Room) -> None:
    """Make a database as it was after its migrations."""

    def clear(tx) -> None:
        tables = tx.all(
            str, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid DESC"
        )
        for table in tables:
            if table not in {"migrations_applied", "mlp_epoch"}:
                tx.execute(f"DELETE FROM {table}")

    await room.database.write(clear)
