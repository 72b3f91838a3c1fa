"""A hold that is not paid in time: its stock is given back at its date, with what it came from."""

from __future__ import annotations

import pytest

from mesh import telemetry
from mesh.errors import Conflict, Gone
from mesh.services.product import holding, model
from tests.services.product.conftest import HOLD_S, LAMP, MUG, ONE, ORDER, TWO, Shop, order_id


async def test_expiry_gives_back_and_tells_the_version(shop: Shop):
    await shop.hold(ONE, {LAMP: 3, MUG: 1})
    assert await shop.expire() == 1
    assert (shop.reserved(LAMP), shop.reserved(MUG), shop.looks()) == (0, 0, [])
    assert shop.ended() == [{"order_id": ONE, "version": 1}]
    with pytest.raises(Gone):
        await shop.commit(ONE)


async def test_expiry_does_nothing_before_its_date(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    shop.wall.forward(HOLD_S - 0.001)
    assert await shop.run_due() == 0
    await shop.look()
    assert (shop.reserved(), shop.ended(), shop.looks()) == (3, [], [0.001])


async def test_each_hold_ends_at_its_own_date(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    shop.wall.forward(60)
    await shop.hold(TWO, {LAMP: 2, MUG: 1})
    assert shop.looks() == [HOLD_S - 60]
    shop.wall.forward(HOLD_S - 60)
    assert (await shop.run_due(), shop.reserved(), shop.looks()) == (1, 2, [60])
    shop.wall.forward(60)
    assert (await shop.run_due(), shop.reserved(), shop.looks()) == (1, 0, [])


async def test_hold_that_ends_before_all_others_is_looked_at_first(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    shop.wall.forward(-60)
    await shop.hold(TWO, {LAMP: 2})
    assert shop.looks() == [HOLD_S]
    shop.wall.forward(HOLD_S)
    assert (await shop.run_due(), shop.reserved(), shop.looks()) == (1, 3, [60])


async def test_more_holds_end_at_once_than_are_given_back_side_by_side(shop: Shop):
    await shop.restock(LAMP, 400)
    many = holding.EXPIRED_AT_ONCE * 2 + 3
    for number in range(many):
        await shop.hold(order_id(number), {LAMP: 1})
    assert await shop.expire() == many
    assert (shop.reserved(), shop.looks()) == (0, [])


async def test_hold_that_cannot_be_given_back_keeps_back_no_other(shop: Shop):
    await shop.hold(ONE, {MUG: 1})
    await shop.hold(TWO, {LAMP: 3})
    broken = "UPDATE products SET reserved = :n WHERE id = :id"
    await shop.room.transact(lambda tx: tx.execute(broken, n=0, id=MUG))
    with pytest.raises(Conflict, match="less would be left"):
        await shop.expire()
    assert (shop.reserved(), shop.looks()) == (0, [0])
    await shop.room.transact(lambda tx: tx.execute(broken, n=1, id=MUG))
    assert (await shop.run_due(), shop.reserved(MUG), shop.looks()) == (1, 0, [])


async def test_expiry_goes_on_with_what_the_hold_came_from(shop: Shop):
    came = telemetry.new_trace()
    lines = [{"product_id": LAMP, "quantity": 1}]
    await shop.room.ask("hold", {"order_id": ONE, "lines": lines}, caller=ORDER, trace=came)
    await shop.expire()
    taken, given = shop.room.told("product.stock_changed")[-2:]
    (ended,) = shop.room.told("product.hold_expired")
    for one in (given, ended):
        assert one.trace.correlation == came.trace_id
        assert one.trace.cause == taken.trace.cause


async def test_hold_after_expiry_has_the_next_version(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    await shop.expire()
    again = await shop.hold(ONE, {MUG: 2})
    assert (again.version, again.state) == (2, "held")
    assert again.expires_at_ms == shop.wall.now_ms + model.HOLD_MS
    assert (shop.reserved(LAMP), shop.reserved(MUG)) == (0, 2)
    await shop.expire()
    assert [ended["version"] for ended in shop.ended()] == [1, 2]


async def test_committed_hold_does_not_expire(shop: Shop):
    await shop.hold(ONE, {LAMP: 3})
    committed = await shop.commit(ONE)
    assert (committed.state, committed.version) == ("committed", 1)
    assert (await shop.commit(ONE)).state == "committed"
    assert await shop.expire() == 0
    await shop.look()
    assert (shop.reserved(), shop.looks()) == (3, [])
    assert (await shop.hold(ONE, {LAMP: 3})).state == "committed"
