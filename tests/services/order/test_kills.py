"""A process that dies at any await: the same key sent again finds one order, one hold, one payment."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidInput
from mesh.services.order.model import DRIVE_AFTER_S
from tests.framework.mortal import STEPS_MAX, deaths
from tests.services.order.conftest import ALICE, BOB
from tests.services.order.support import create, deliver, left, offenders, plant, work


def count(room, sql: str, **params) -> int:
    return room.database.read.one(int, sql, **params) or 0


@pytest.mark.parametrize(
    ("stock", "on_shortage", "away", "status"),
    [
        (100, "backorder", False, "reserved"),
        (0, "backorder", False, "backordered"),
        (0, "reject", False, "rejected"),
        (100, "backorder", True, "pending"),
    ],
)
async def test_create_makes_one_order_when_its_process_dies_at_any_await(
    order, product, wall, stock, on_shortage, away, status
):
    await plant(product, stock)
    product.away = away
    died = 0
    ids = set()

    async def ask(n):
        return await create(order, 1, key=f"k{n}", on_shortage=on_shortage)

    async for at in deaths(order, ask):
        died += 1
        placed = await ask(at)
        assert placed.status == status
        ids.add(placed.id)
        held = count(product, "SELECT count(*) FROM holds WHERE order_id = :id", id=placed.id)
        assert held == (status == "reserved")
        assert await ask(at) == placed
        with pytest.raises(InvalidInput) as refused:
            await create(order, 2, key=f"k{at}", on_shortage=on_shortage)
        assert refused.value.code == "idempotency-key-reused"
        ids.add((await create(order, 1, caller=BOB, key=f"k{at}")).id)
    assert died >= 4
    found = set(order.database.read.all(str, "SELECT id FROM orders"))
    assert len(found) == 2 * died + 1
    assert ids < found, "the one over is of the request that nobody killed"
    await deliver(product, order)
    wall.forward(DRIVE_AFTER_S)
    product.away = False
    await work(order)
    held = product.database.read.all(str, "SELECT order_id FROM holds WHERE state = 'held'")
    assert set(held) == (found if status in {"reserved", "pending"} else set())
    assert offenders(order) == offenders(product) == []


@pytest.mark.parametrize("driven_on", [False, True], ids=["at once", "after the work it left"])
@pytest.mark.parametrize(
    ("token", "status", "payments"),
    [("tok_visa", "paid", ["succeeded"]), ("tok_declined", "reserved", ["declined"])],
)
async def test_pay_takes_the_money_once_when_its_process_dies_at_any_await(
    order, product, wall, token, status, payments, driven_on
):
    await plant(product, 100)
    placed = [await create(order, 1, key=f"k{n}") for n in range(STEPS_MAX)]
    died = 0

    async def ask(n):
        body = {"id": placed[n].id, "payment_token": token}
        return await order.ask("pay", body, caller=ALICE, key=f"p{n}")

    async for at in deaths(order, ask):
        died += 1
        if driven_on:
            wall.forward(DRIVE_AFTER_S)
            await work(order)
        shown = await ask(at)
        assert shown.status == status
        found = order.database.read.all(
            str, "SELECT state FROM payments WHERE order_id = :id", id=shown.id
        )
        assert found == payments
        assert await ask(at) == shown
    assert died >= 6
    assert "capture" not in left(order)
    assert offenders(order) == offenders(product) == []


async def test_cancel_gives_back_once_when_its_process_dies_at_any_await(order, product):
    await plant(product, 100)
    placed = [await create(order, 1, key=f"k{n}") for n in range(STEPS_MAX)]
    died = 0

    async def ask(n):
        return await order.ask("cancel", {"id": placed[n].id}, caller=ALICE, key=f"c{n}")

    async for at in deaths(order, ask):
        died += 1
        shown = await ask(at)
        assert (shown.status, shown.version) == ("cancelled", 3)
        assert await ask(at) == shown
    assert died == 2
    await work(order)
    assert offenders(order) == offenders(product) == []
