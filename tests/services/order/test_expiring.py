"""An order that is not paid in time ends by order's own clock, whatever product does meanwhile."""

from __future__ import annotations

import pytest

from mesh import telemetry
from mesh.errors import Conflict
from mesh.services.order import expiring
from mesh.services.product.model import HOLD_MS
from tests.services.order.conftest import ALICE, SAM
from tests.services.order.support import create, left, offenders, placing, plant, work

HOLD_S = HOLD_MS / 1000
EXPIRE = {"expire"}


def states(order) -> list[str]:
    return order.database.read.all(str, "SELECT status FROM orders ORDER BY id")


def looks(order, wall) -> list[float]:
    """In how many seconds somebody looks for unpaid orders."""
    sql = "SELECT due_ms FROM deferred WHERE action = 'expire'"
    return [(due - wall.now_ms) / 1000 for due in order.database.read.all(int, sql)]


async def pay(order, placed, token="tok_visa"):
    return await order.ask("pay", {"id": placed.id, "payment_token": token}, caller=ALICE)


async def test_order_that_is_not_paid_in_time_expires_also_with_product_away(order, product, wall):
    await plant(product, 3)
    placed = await create(order, 1, key="k")
    product.away = True
    wall.forward(HOLD_S - 0.001)
    assert (await work(order), looks(order, wall)) == ([], [0.001])
    wall.forward(0.001)
    assert await work(order, only=EXPIRE) == ["expire"]
    shown = await order.ask("get", {"id": placed.id}, caller=ALICE)
    assert (shown.status, shown.reason) == ("expired", "not paid in time")
    assert left(order) == ["release"]
    assert offenders(order) == []


async def test_each_order_ends_at_its_own_date(order, product, wall):
    await plant(product, 3)
    await create(order, 1, key="a")
    wall.forward(60)
    await create(order, 1, key="b")
    assert looks(order, wall) == [HOLD_S - 60]
    wall.forward(HOLD_S - 60)
    await work(order, only=EXPIRE)
    assert (states(order), looks(order, wall)) == (["expired", "reserved"], [60])
    wall.forward(60)
    await work(order, only=EXPIRE)
    assert (states(order), looks(order, wall)) == (["expired", "expired"], [])


async def test_order_whose_time_ends_before_all_others_is_looked_at_first(order, product, wall):
    await plant(product, 3)
    await create(order, 1, key="a")
    wall.forward(-60)
    await create(order, 1, key="b")
    assert looks(order, wall) == [HOLD_S]
    wall.forward(HOLD_S)
    await work(order, only=EXPIRE)
    assert (sorted(states(order)), looks(order, wall)) == (["expired", "reserved"], [60])


async def test_next_order_relies_on_the_look_of_one_that_is_paid(order, product, wall):
    await plant(product, 3)
    await pay(order, await create(order, 1, key="a"))
    wall.forward(60)
    await create(order, 1, key="b")
    assert looks(order, wall) == [HOLD_S - 60]
    wall.forward(HOLD_S - 60)
    await work(order, only=EXPIRE)
    assert (states(order), looks(order, wall)) == (["paid", "reserved"], [60])
    assert offenders(order) == []


async def test_look_that_finds_nobody_is_the_last_one(order, product, wall):
    await plant(product, 3)
    await pay(order, await create(order, 1, key="a"))
    cancelled = await create(order, 1, key="b")
    await order.ask("cancel", {"id": cancelled.id}, caller=ALICE)
    wall.forward(HOLD_S)
    assert await work(order, only=EXPIRE) == ["expire"]
    assert (states(order), looks(order, wall)) == (["paid", "cancelled"], [])


async def test_order_placed_while_the_last_look_ends_is_looked_at(
    order, product, wall, monkeypatch
):
    await plant(product, 3)
    await create(order, 1, key="a")
    wall.forward(HOLD_S)
    found = expiring._look_again
    write = order.wires.database.write

    async def placed_right_after(run, fn, *rest):
        done = await write(run, fn, *rest)
        if fn is found:
            assert left(order) == ["release"], "nobody relies on a look that has looked"
            await create(order, 1, key="b")
        return done

    monkeypatch.setattr(order.wires.database, "write", placed_right_after)
    await work(order, only=EXPIRE)
    assert (states(order), looks(order, wall)) == (["expired", "reserved"], [HOLD_S])
    assert offenders(order) == []


async def test_order_that_was_declined_after_its_date_ends_at_once(order, product, wall):
    await plant(product, 3)
    first, _ = [await create(order, 1, key=key) for key in "ab"]
    product.away = True
    assert (await pay(order, first, "tok_declined")).status == "paying"
    product.away = False
    wall.forward(HOLD_S)
    await work(order, only=EXPIRE)
    assert (states(order), looks(order, wall)) == (["paying", "expired"], [])
    assert await work(order, only={"capture"}) == ["capture"]
    assert (states(order), looks(order, wall)) == (["reserved", "expired"], [0])
    assert await work(order, only=EXPIRE) == ["expire"]
    assert (states(order), looks(order, wall)) == (["expired", "expired"], [])
    assert offenders(order) == []


async def test_more_orders_end_at_once_than_in_one_transaction(order, product, wall):
    many = expiring.EXPIRED_AT_ONCE * 2 + 3
    await plant(product, many)
    for number in range(many):
        await create(order, 1, key=f"{number}")
    wall.forward(HOLD_S)
    assert await work(order, only=EXPIRE) == ["expire"]
    assert (states(order), looks(order, wall)) == (["expired"] * many, [])


async def test_order_that_cannot_be_ended_keeps_back_no_other(order, product, wall):
    await plant(product, 3)
    placed = [await create(order, 1, key=key) for key in "abc"]
    spoiled = "UPDATE history SET version = :to WHERE order_id = :id AND version = :version"
    bad = placed[1].id
    await order.transact(lambda tx: tx.execute(spoiled, id=bad, version=1, to=3))
    wall.forward(HOLD_S)
    with pytest.raises(Conflict):
        await order.work()
    assert (states(order), looks(order, wall)) == (["expired", "reserved", "expired"], [0])
    await order.transact(lambda tx: tx.execute(spoiled, id=bad, version=3, to=1))
    await work(order, only=EXPIRE)
    assert (states(order), looks(order, wall)) == (["expired"] * 3, [])
    assert offenders(order) == []


async def test_end_goes_on_with_what_the_order_came_from(order, product, wall):
    await plant(product, 3)
    came = {key: telemetry.new_trace() for key in "ab"}
    for key, trace in came.items():
        await order.ask("create", placing(1), caller=ALICE, key=key, trace=trace)
    wall.forward(HOLD_S)
    await work(order, only=EXPIRE)
    *_, first, second = order.told("order.status_changed")
    ended = {one.trace.correlation for one in (first, second)}
    assert [one.data["new"] for one in (first, second)] == ["expired", "expired"]
    assert ended == {trace.trace_id for trace in came.values()}
    assert {one.trace.cause for one in (first, second)} == {"req_test"}
    sql = "SELECT traceparent FROM deferred WHERE action = 'release' ORDER BY key"
    owed = order.database.read.all(str, sql)
    assert owed == [trace.traceparent for trace in came.values()]
    assert order.database.read.all(str, "SELECT DISTINCT traceparent FROM orders") == [""]


async def test_staff_sees_no_work_of_a_single_order_that_waits_to_be_paid(order, product, wall):
    await plant(product, 3)
    placed = await create(order, 1, key="k")
    told = await order.ask("explain", {"id": placed.id}, caller=SAM)
    assert (told.owed, told.waits_for) == ([], f"its owner, to pay until {placed.held_until}")
    assert ("expired", ["itself"]) in [(row.move, row.by) for row in told.possible]
