"""Answers and events that cross on their way: versions say which is newer."""

from __future__ import annotations

import pytest

from mesh import errors
from mesh.services.order import messages, placing
from mesh.services.order.model import DRIVE_AFTER_S
from mesh.services.product.model import HOLD_MS
from tests.services.order.conftest import ALICE, LAMP, SAM
from tests.services.order.support import (
    Interrupted,
    create,
    deliver,
    left,
    offenders,
    plant,
    restock,
    work,
)

HOLD_S = HOLD_MS / 1000
HOLD = messages.HOLD.route
COMMIT = messages.COMMIT_HOLD.route


def hold_of(product, order_id):
    sql = "SELECT state || ' ' || version FROM holds WHERE order_id = :id"
    return product.database.read.one(str, sql, id=order_id)


def status_of(order, order_id):
    return order.database.read.one(str, "SELECT status FROM orders WHERE id = :id", id=order_id)


async def test_hold_is_asked_for_again_when_its_expiry_overtakes_the_answer(order, product, wall):
    await plant(product, 1)

    async def expires():
        wall.forward(HOLD_S + 1)
        assert await work(product) == ["expire-holds"]
        await deliver(product, order)

    Interrupted(order, HOLD, expires)
    placed = await create(order, 1, key="k")
    assert product.asked == ["hold", "hold"]
    assert (placed.status, hold_of(product, placed.id)) == ("reserved", "held 2")
    assert order.database.read.one(int, "SELECT hold_version FROM orders") == 2


async def test_hold_stands_when_the_expiry_of_an_older_one_is_heard_late(order, product, wall):
    await plant(product, 1)

    async def expires_unheard():
        wall.forward(HOLD_S + 1)
        await work(product)
        order.wires.client = inner
        await order.wires.client.ask(
            messages.HOLD, messages.Hold(order_id(), [messages.HoldLine(LAMP, 1)]), envelope()
        )
        product.away = True

    inner = order.wires.client

    def order_id():
        return order.database.read.one(str, "SELECT id FROM orders")

    def envelope():
        from mesh import telemetry
        from mesh.client import Envelope

        return Envelope(trace=telemetry.new_trace(), deadline_s=0.0)

    order.loses_answers = False
    product.loses_answers = True
    await create(order, 1, key="k")
    product.loses_answers = False
    await expires_unheard()
    product.away = False
    wall.forward(DRIVE_AFTER_S)
    await work(order)
    assert (status_of(order, order_id()), hold_of(product, order_id())) == ("reserved", "held 2")
    await deliver(product, order)
    assert (status_of(order, order_id()), hold_of(product, order_id())) == ("reserved", "held 2")


async def test_order_does_not_fall_asleep_when_stock_returns_before_short_is_noted(order, product):
    await plant(product, 0)

    async def stock_returns():
        await restock(product, 1)
        await deliver(product, order)

    Interrupted(order, HOLD, stock_returns)
    placed = await create(order, 1, key="k")
    assert placed.status == "reserved"
    assert product.asked.count("hold") == 2


async def test_order_is_not_rejected_when_stock_returns_before_short_is_noted(order, product):
    await plant(product, 0)

    async def stock_returns():
        await restock(product, 1)
        await deliver(product, order)

    Interrupted(order, HOLD, stock_returns)
    assert (await create(order, 1, key="k", on_shortage="reject")).status == "reserved"


async def test_order_does_not_wait_when_its_product_goes_before_short_is_noted(order, product):
    await plant(product, 0)

    async def sold_no_longer():
        await product.ask("discontinue", {"id": LAMP}, caller=SAM, match="*")
        await deliver(product, order)

    Interrupted(order, HOLD, sold_no_longer)
    placed = await create(order, 1, key="k")
    assert (placed.status, placed.reason) == ("rejected", "discontinued")
    assert product.asked.count("hold") == 2


async def test_order_is_asked_for_once_when_too_little_stock_returns(order, product):
    await plant(product, 0)

    async def some_returns():
        await restock(product, 1)
        await deliver(product, order)

    Interrupted(order, HOLD, some_returns)
    assert (await create(order, 2, key="k")).status == "backordered"
    assert product.asked.count("hold") == 1


async def test_order_is_woken_when_the_event_comes_after_short_is_noted(order, product):
    await plant(product, 0)

    async def stock_returns_unheard():
        await restock(product, 1)

    Interrupted(order, HOLD, stock_returns_unheard)
    placed = await create(order, 1, key="k")
    assert placed.status == "backordered"
    await deliver(product, order)
    assert await work(order) == ["wake"]
    assert status_of(order, placed.id) == "reserved"


async def test_order_stays_pending_and_is_decided_later_when_answers_are_always_overtaken(
    order, product, wall
):
    await plant(product, 0)

    async def stock_comes_and_goes():
        await restock(product, 1)
        await deliver(product, order)
        await restock(product, -1)

    Interrupted(order, HOLD, *[stock_comes_and_goes] * placing.ASK_AGAIN_MAX)
    placed = await create(order, 1, key="k")
    assert placed.status == "pending"
    assert product.asked.count("hold") == placing.ASK_AGAIN_MAX
    await deliver(product, order)
    wall.forward(DRIVE_AFTER_S)
    await work(order)
    assert status_of(order, placed.id) == "backordered"


async def test_wake_runs_again_when_stock_returns_while_it_runs(order, product):
    await plant(product, 0)
    first = await create(order, 1, key="a")
    second = await create(order, 2, key="b")

    async def more_returns():
        await restock(product, 2)
        await deliver(product, order)

    Interrupted(order, HOLD, lambda: restock(product, 0), more_returns)
    await restock(product, 1)
    await deliver(product, order)
    await work(order)
    assert [status_of(order, each.id) for each in (first, second)] == ["reserved", "reserved"]


async def test_released_hold_is_not_taken_again_when_the_request_comes_late(order, product, wall):
    await plant(product, 1)
    product.away = True
    placed = await create(order, 1, key="k")
    product.away = False
    await order.ask("cancel", {"id": placed.id}, caller=ALICE)
    assert await work(order) == ["release"]
    late = {"order_id": placed.id, "lines": [{"product_id": LAMP, "quantity": 1}]}
    from mesh.errors import Gone
    from mesh.framework import Caller

    with pytest.raises(Gone):
        await product.ask("hold", late, caller=Caller("service", "order"))
    assert hold_of(product, placed.id) == "released 0"


@pytest.mark.parametrize("on_hand", [1, 0])
@pytest.mark.parametrize("who", [ALICE, SAM])
async def test_order_stays_cancelled_when_the_answer_comes_after(
    order, product, wall, who, on_hand
):
    await plant(product, on_hand)
    product.away = True
    placed = await create(order, 1, key="k")
    product.away = False

    async def cancelled():
        await order.ask("cancel", {"id": placed.id}, caller=who)
        await work(order)

    Interrupted(order, HOLD, cancelled)
    wall.forward(DRIVE_AFTER_S)
    assert await work(order, only={"decide"}) == ["decide"]
    await work(order)
    shown = await order.ask("get", {"id": placed.id}, caller=ALICE)
    assert (shown.status, shown.version, shown.total_minor) == ("cancelled", 2, None)
    assert hold_of(product, placed.id).startswith("released")
    assert product.database.read.one(int, "SELECT reserved FROM products") == 0
    assert left(order) == offenders(product) == offenders(order) == []


async def test_payment_is_driven_on_when_an_earlier_ones_answer_comes_late(order, product, wall):
    await plant(product, 1)
    placed = await create(order, 1, key="k")

    async def declined_and_paid_anew():
        body = {"id": placed.id, "payment_token": "tok_visa"}
        assert (await order.ask("pay", body, caller=ALICE)).status == "reserved"
        product.away = True
        assert (await order.ask("pay", body, caller=ALICE)).status == "paying"
        product.away = False

    Interrupted(order, COMMIT, declined_and_paid_anew)
    await order.ask("pay", {"id": placed.id, "payment_token": "tok_declined"}, caller=ALICE)
    assert status_of(order, placed.id) == "paying"
    wall.forward(DRIVE_AFTER_S)
    assert await work(order) == ["capture"]
    assert status_of(order, placed.id) == "paid"
    assert offenders(order) == []


async def test_order_expires_when_its_date_came_while_it_was_being_paid(order, product, wall):
    await plant(product, 1)
    placed = await create(order, 1, key="k")

    async def time_is_over():
        wall.forward(HOLD_S + 1)
        assert await work(order, only={"expire"}) == ["expire"]
        assert status_of(order, placed.id) == "paying", "who is paying is not hurried"
        assert left(order) == ["capture"]

    Interrupted(order, COMMIT, time_is_over)
    body = {"id": placed.id, "payment_token": "tok_declined"}
    assert (await order.ask("pay", body, caller=ALICE)).status == "reserved"
    await work(order)
    assert status_of(order, placed.id) == "expired"
    assert hold_of(product, placed.id).startswith("released")
    assert await work(product) == ["expire-holds"]
    assert left(order) == left(product) == []


async def test_order_expires_when_product_says_so_while_it_is_being_paid(order, product, wall):
    await plant(product, 1)
    placed = await create(order, 1, key="k")
    product.away = True
    body = {"id": placed.id, "payment_token": "tok_visa"}
    assert (await order.ask("pay", body, caller=ALICE)).status == "paying"
    product.away = False
    wall.forward(HOLD_S + 1)
    await work(product)
    await deliver(product, order)
    await work(order)
    assert status_of(order, placed.id) == "expired"
    assert offenders(order) == offenders(product) == []
    assert order.database.read.all(str, "SELECT state FROM payments") == ["abandoned"]


async def test_backorders_are_woken_oldest_first_and_one_that_does_not_fit_is_passed(
    order, product
):
    await plant(product, 0)
    placed = [await create(order, n, key=f"{n}") for n in (3, 2, 1)]
    await restock(product, 2)
    await deliver(product, order)
    await work(order)
    found = [status_of(order, each.id) for each in placed]
    assert found == ["backordered", "reserved", "backordered"]


async def test_nobody_is_woken_when_a_hold_takes_stock(order, product):
    await plant(product, 1)
    await deliver(product, order)
    await create(order, 2, key="waits")
    await create(order, 1, key="takes")
    assert await deliver(product, order) == 2
    assert product.told()[-1].type == "product.out_of_stock"
    assert "wake" not in left(order)


async def test_every_backorder_is_tried_when_there_are_more_than_one_wake_takes(
    order, product, monkeypatch
):
    from mesh.services.order import replica

    monkeypatch.setattr(replica, "WAKE_MAX", 5)
    await plant(product, 0)
    large = [await create(order, 9, key=f"large {n}") for n in range(7)]
    small = [await create(order, 1, key=f"small {n}") for n in range(6)]
    await restock(product, 6)
    await deliver(product, order)
    await work(order)
    assert {status_of(order, each.id) for each in large} == {"backordered"}
    assert {status_of(order, each.id) for each in small} == {"reserved"}


async def test_staff_restocks_and_the_customer_pays_when_all_goes_well(order, product):
    await plant(product, 0, 1)
    placed = await create(order, 1, 1, key="k")
    assert placed.status == "backordered"
    await restock(product, 1)
    await deliver(product, order)
    await work(order)
    body = {"id": placed.id, "payment_token": "tok_visa"}
    assert (await order.ask("pay", body, caller=ALICE)).status == "paid"
    assert hold_of(product, placed.id) == "committed 1"
    steps = (await order.ask("history", {"id": placed.id}, caller=SAM)).items
    assert [step.new for step in steps] == ["pending", "backordered", "reserved", "paying", "paid"]
    assert offenders(order) == offenders(product) == []


class Misunderstood:
    """A neighbour that has nothing to say about the order: it does not know us, or the route."""

    def __init__(self, room, error) -> None:
        self._inner, self._error = room.wires.client, error
        room.wires.client = self

    async def ask(self, call, request, envelope):
        if self._error is not None:
            raise self._error
        return await self._inner.ask(call, request, envelope)

    def understands(self) -> None:
        self._error = None


@pytest.mark.parametrize(
    "error",
    [
        errors.Forbidden("order may not ask product"),
        errors.Unauthenticated("the token has expired", code="token-expired"),
        errors.NotFound("nothing is at /holds", code="no-such-route"),
        errors.Refused("that host", code="misdirected"),
    ],
    ids=lambda error: error.code,
)
async def test_order_waits_when_product_refuses_order_itself(order, product, wall, error):
    await plant(product, 2)
    line = Misunderstood(order, error)
    placed = await create(order, 1, key="k")
    assert placed.status == "pending"
    line.understands()
    wall.forward(DRIVE_AFTER_S)
    assert await work(order) == ["decide"]
    assert status_of(order, placed.id) == "reserved"
    line._error = error
    body = {"id": placed.id, "payment_token": "tok_visa"}
    assert (await order.ask("pay", body, caller=ALICE)).status == "paying"
    line.understands()
    wall.forward(DRIVE_AFTER_S)
    assert await work(order) == ["capture"]
    assert status_of(order, placed.id) == "paid"


async def test_order_is_rejected_when_a_product_is_unknown_or_the_hold_was_released(order, product):
    await plant(product, 1)
    placed = await create(order, 0, 1, key="k")
    assert (placed.status, placed.reason) == ("rejected", "unknown-product")
    assert await work(order) == ["release"]
    assert offenders(order) == offenders(product) == []
