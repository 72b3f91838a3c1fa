"""Reads that are made inline stay within their bound of work when much has been sold."""

from __future__ import annotations

import pytest

from mesh.services.order import store
from tests.services.order.conftest import ALICE, LAMP, SAM
from tests.services.order.support import create, deliver, plant, restock, work

ORDERS = 20_000


def fill(tx):
    """Years of business: orders of one product, all over by now but the last few."""
    tx.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :orders)"
        " INSERT INTO orders (id, user_id, status, reason, on_shortage, created_ms, version, name,"
        " line1, city, postcode, country)"
        " SELECT printf('ord_00000000-0000-7000-8000-%012d', i), :user, 'cancelled', '',"
        " 'backorder', 0, 1, 'Alice', '1 Street', 'Hamburg', '1', 'DE' FROM n",
        orders=ORDERS,
        user=ALICE.id,
    )
    tx.execute(
        "INSERT INTO lines (order_id, n, product_id, quantity) SELECT id, 1, :lamp, 1 FROM orders",
        lamp=LAMP,
    )


@pytest.fixture
async def busy(order, product):
    await plant(product, 0)
    await order.transact(fill)
    return order


async def test_backorder_is_woken_when_its_product_has_sold_often(busy, product):
    placed = await create(busy, 1, key="k")
    assert placed.status == "backordered"
    await restock(product, 1)
    await deliver(product, busy)
    assert await work(busy) == ["wake"]
    shown = await busy.ask("get", {"id": placed.id}, caller=ALICE)
    assert shown.status == "reserved"


async def test_unsettled_orders_are_counted_when_there_are_many_settled_ones(busy, product):
    product.away = True
    await create(busy, 1, key="k")
    assert busy.database.read.one(int, store.UNSETTLED) == 1


@pytest.mark.parametrize("caller", [ALICE, SAM], ids=lambda caller: caller.id)
@pytest.mark.parametrize("status", [None, "cancelled", "paid"])
async def test_page_of_orders_is_shown_when_few_or_none_match(busy, caller, status):
    wanted = {} if status is None else {"status": status}
    page = await busy.ask("list", {**wanted, "page_size": 5}, caller=caller)
    assert len(page.items) == (0 if status == "paid" else 5)
