"""The real product, in words of stock."""

from __future__ import annotations

import pytest
from msgspec import Struct

from mesh.framework import Caller
from mesh.services.product import holding, messages, model
from mesh.services.product.service import service
from tests.services.in_process import Clock, room

LAMP = "prd_00000000-0000-7000-8000-000000000001"
MUG = "prd_00000000-0000-7000-8000-000000000002"
ORDER = Caller("service", "order")
SAM = Caller("user", "usr_sam", ("staff",))
HOLD_S = model.HOLD_MS / 1000


def order_id(number: int) -> str:
    return f"ord_00000000-0000-7000-8000-{number:012d}"


ONE, TWO = order_id(1), order_id(2)


class Stock(Struct):
    on_hand: int
    reserved: int
    stock_version: int


class Shop:
    """The real product, in words of stock."""

    def __init__(self, made, wall: Clock) -> None:
        self.room = made
        self.wall = wall

    def hold(self, order: str, lines: dict[str, int]):
        wanted = [{"product_id": product, "quantity": n} for product, n in lines.items()]
        return self.room.ask("hold", {"order_id": order, "lines": wanted}, caller=ORDER)

    def commit(self, order: str):
        return self.room.ask("commit-hold", {"order_id": order}, caller=ORDER)

    def release(self, order: str):
        return self.room.ask("release-hold", {"order_id": order}, caller=ORDER)

    def restock(self, product: str, delta: int):
        members = {"id": product, "delta": delta, "reason": "count"}
        return self.room.ask("restock", members, caller=SAM)

    async def run_due(self) -> int:
        """Do what is due; how many holds have ended by it."""
        before = len(self.ended())
        await self.room.work()
        return len(self.ended()) - before

    async def look(self) -> None:
        """Look for holds that are over, whether any is or not."""
        await self.room.transact(lambda tx: holding._look_at(tx, tx.now_ms))
        await self.room.work()

    async def expire(self) -> int:
        self.wall.forward(HOLD_S)
        return await self.run_due()

    def stock(self, product: str) -> Stock:
        found = self.room.database.read.one(
            Stock,
            "SELECT on_hand, reserved, stock_version FROM products WHERE id = :id",
            id=product,
        )
        assert found is not None
        return found

    def reserved(self, product: str = LAMP) -> int:
        return self.stock(product).reserved

    def ended(self) -> list[dict[str, object]]:
        return [event.data for event in self.room.told("product.hold_expired")]

    def looks(self) -> list[float]:
        """After how many seconds it is looked again for holds that are over."""
        due = self.room.database.read.all(int, "SELECT due_ms FROM deferred ORDER BY due_ms")
        return [(due_ms - self.wall.now_ms) / 1000 for due_ms in due]

    def ledger(self) -> int:
        return self.room.database.read.one(int, "SELECT count(*) FROM ledger")

    def changes(self) -> list[dict[str, object]]:
        return [event.data for event in self.room.told("product.stock_changed")]


@pytest.fixture
async def shop(tmp_path, monkeypatch):
    """Ten lamps and two mugs; wall time stands still until it is moved."""
    wall = Clock(monkeypatch)
    async with room(service, tmp_path) as made:
        products = [
            messages.SeedProduct(LAMP, "LAMP-1", "Desk lamp", 2490, "EUR", 10),
            messages.SeedProduct(MUG, "MUG-1", "Mug", 990, "EUR", 2),
        ]
        await made.plant(messages.Seed(products))
        yield Shop(made, wall)
        assert made.offenders() == {}
