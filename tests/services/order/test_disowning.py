"""Stock that is held for an order which was never written down, or is about to be."""

from __future__ import annotations

import pytest

from mesh.services.order import messages
from mesh.services.order.model import DRIVE_AFTER_S
from tests.framework.mortal import Died, Mortal
from tests.services.order.conftest import ALICE
from tests.services.order.support import (
    Interrupted,
    create,
    deliver,
    left,
    offenders,
    plant,
    work,
)

HOLD = messages.HOLD.route


def reserved(product) -> int:
    return product.database.read.one(int, "SELECT reserved FROM products") or 0


async def dies_once_its_stock_is_held(order, key: str) -> None:
    with Mortal(order, 2), pytest.raises(Died):
        await create(order, 1, key=key)


async def hears_and_waits(order, product, wall) -> list[str]:
    """What order does once it has heard of every hold, and nobody can be about to write its order."""
    await deliver(product, order)
    wall.forward(DRIVE_AFTER_S)
    return await work(order)


async def test_hold_is_given_back_when_the_process_died_before_it_wrote_the_order(
    order, product, wall
):
    await plant(product, 1)
    await dies_once_its_stock_is_held(order, "k")
    assert (reserved(product), left(order)) == (1, [])
    await deliver(product, order)
    assert await work(order) == [], "somebody may still be about to write it"
    wall.forward(DRIVE_AFTER_S)
    assert await work(order) == ["disown", "release"]
    assert reserved(product) == 0
    await deliver(product, order)
    await work(order)
    assert left(order) == offenders(order) == offenders(product) == []


async def test_same_key_makes_one_order_when_the_first_try_died(order, product, wall):
    await plant(product, 2)
    await dies_once_its_stock_is_held(order, "k")
    placed = await create(order, 1, key="k")
    assert placed.status == "reserved"
    await hears_and_waits(order, product, wall)
    assert reserved(product) == 1
    shown = await order.ask("get", {"id": placed.id}, caller=ALICE)
    assert shown == placed == await create(order, 1, key="k")
    assert offenders(order) == offenders(product) == []


async def test_backorder_is_woken_by_what_is_given_back(order, product, wall):
    await plant(product, 1)
    await dies_once_its_stock_is_held(order, "k")
    placed = await create(order, 1, key="k")
    assert placed.status == "backordered"
    await hears_and_waits(order, product, wall)
    await deliver(product, order)
    await work(order)
    shown = await order.ask("get", {"id": placed.id}, caller=ALICE)
    assert (shown.status, reserved(product)) == ("reserved", 1)
    assert offenders(order) == offenders(product) == []


async def test_order_keeps_its_hold_when_that_was_heard_of_before_it_was_written(
    order, product, wall
):
    await plant(product, 1)

    async def heard():
        assert await deliver(product, order)

    Interrupted(order, HOLD, heard)
    placed = await create(order, 1, key="k")
    assert (placed.status, left(order)) == ("reserved", ["disown", "expire"])
    wall.forward(DRIVE_AFTER_S)
    assert await work(order) == ["disown"]
    assert (reserved(product), left(order)) == (1, ["expire"])


@pytest.mark.parametrize("released", [False, True])
async def test_order_is_not_reserved_when_its_hold_was_given_back_before_it_was_written(
    order, product, wall, released
):
    await plant(product, 1)

    async def disowned():
        await deliver(product, order)
        wall.forward(DRIVE_AFTER_S)
        assert "disown" in await work(order, only=None if released else {"disown"})

    Interrupted(order, HOLD, disowned)
    placed = await create(order, 1, key="k")
    assert placed.status == ("rejected" if released else "pending")
    wall.forward(DRIVE_AFTER_S)
    await work(order)
    shown = await order.ask("get", {"id": placed.id}, caller=ALICE)
    assert (shown.status, shown.reason, reserved(product)) == ("rejected", "hold-gone", 0)
    assert left(order) == offenders(order) == offenders(product) == []
