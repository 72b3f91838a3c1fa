"""An order explained: its journey, its hold as product sees it, what it waits for, what is possible."""

from __future__ import annotations

import pytest

from mesh.errors import NotFound
from mesh.framework import Caller
from tests.services.order.conftest import ALICE, BOB, LAMP, SAM
from tests.services.order.support import create, deliver, plant, restock, work

OPERATOR = Caller("operator", "operator")


async def explained(order, order_id, caller=ALICE):
    return await order.ask("explain", {"id": order_id}, caller=caller)


async def test_journey_is_told_from_its_first_step_to_its_last(order, product):
    await plant(product, 1)
    await deliver(product, order)
    placed = await create(order, 1, key="k")
    told = await explained(order, placed.id)
    assert (told.status, told.hold.state, told.hold.version) == ("reserved", "held", 1)
    assert told.hold.expires_at == placed.held_until
    assert placed.held_until in told.waits_for
    assert [(row.move, row.to, row.by) for row in told.possible] == [
        ("pay", "paying", ["owner"]),
        ("expired", "expired", ["itself"]),
        ("cancel", "cancelled", ["owner", "staff"]),
    ]
    assert told.owed == [], "the look for whoever has not paid is one for all"
    assert told.lines[0].heard_price_minor == told.lines[0].unit_price_minor == 2490

    await order.ask("pay", {"id": placed.id, "payment_token": "tok_visa"}, caller=ALICE)
    await order.ask("ship", {"id": placed.id}, caller=SAM)
    told = await explained(order, placed.id)
    assert (told.status, told.hold.state) == ("shipped", "committed")
    assert [row.action for row in told.owed] == ["ship-hold"]
    await work(order)
    await order.ask("return", {"id": placed.id, "reason": "too bright"}, caller=SAM)
    await work(order)
    told = await explained(order, placed.id)
    assert (told.status, told.waits_for, told.hold.state) == ("returned", None, "released")
    assert (told.possible, told.owed) == ([], [])
    assert [(row.kind, row.state) for row in told.payments] == [
        ("capture", "succeeded"),
        ("refund", "succeeded"),
    ]
    assert [row.new for row in told.history] == [
        "pending",
        "reserved",
        "paying",
        "paid",
        "shipped",
        "returned",
    ]
    assert {row.actor for row in told.history} == {ALICE.subject, SAM.subject, "order"}


async def test_backorder_says_of_what_there_is_too_little(order, product):
    await plant(product, 1)
    placed = await create(order, 3, key="k")
    await restock(product, 1)
    await deliver(product, order)
    told = await explained(order, placed.id)
    assert told.waits_for == "stock: 3 of LAMP-1 (2 heard of)"
    assert told.hold.state == "none"


async def test_hold_is_unknown_when_product_is_away(order, product):
    await plant(product, 1)
    placed = await create(order, 1, key="k")
    product.away = True
    told = await explained(order, placed.id)
    assert told.hold.state == "unknown"
    assert "product" in told.hold.why
    assert told.status == "reserved"


async def test_order_is_explained_to_its_owner_staff_and_the_operator_alone(order, product):
    await plant(product, 1)
    placed = await create(order, 1, key="k")
    for caller in (ALICE, SAM, OPERATOR):
        assert (await explained(order, placed.id, caller)).id == placed.id
    with pytest.raises(NotFound):
        await explained(order, placed.id, BOB)


async def test_product_is_explained_with_its_holds_and_latest_changes(order, product):
    await plant(product, 2)
    placed = await create(order, 2, key="k")
    told = await product.ask("explain", {"id": LAMP}, caller=SAM)
    assert told.waits_for == "a delivery: nothing is available"
    assert [(row.order, row.state, row.quantity) for row in told.holds] == [(placed.id, "held", 2)]
    assert [(row.d_reserved, row.reason) for row in told.ledger] == [(2, "hold"), (0, "seed")]
    assert [row.price_minor for row in told.prices] == [2490]
