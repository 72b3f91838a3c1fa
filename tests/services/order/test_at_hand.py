"""Who places an order answers from what is at hand: it must be what a look would show."""

from __future__ import annotations

import pytest

from mesh.errors import Forbidden
from mesh.services.order import messages
from mesh.services.order.model import DRIVE_AFTER_S
from mesh.services.product.model import HOLD_MS
from tests.services.order.conftest import ALICE, LAMP, MUG, SAM
from tests.services.order.support import (
    ADDRESS,
    Interrupted,
    create,
    deliver,
    offenders,
    plant,
    restock,
    work,
)

HOLD = messages.HOLD.route


def lines(*wanted: tuple[str, int]) -> list[dict[str, object]]:
    return [{"product_id": product_id, "quantity": n} for product_id, n in wanted]


def statements(order) -> list[str]:
    """What is run on the writer from now on, by its first two words."""
    seen, inner = [], order.database._writer.statements._cursor

    class Cursor:
        def execute(self, sql, *params):
            seen.append(sql)
            return inner.execute(sql, *params)

        def __getattr__(self, name):
            return getattr(inner, name)

    order.database._writer.statements._cursor = Cursor()
    return seen


async def euros_and_pounds(product) -> None:
    await product.plant(
        {
            "products": [
                {"id": i, "sku": i, "name": i, "price_minor": 1, "currency": c, "on_hand": 9}
                for i, c in ((LAMP, "EUR"), (MUG, "GBP"))
            ]
        }
    )


ENDS = {
    "reserved": (lines((LAMP, 1)), {}, "reserved", "stock held"),
    "reserved, for free shipping": (lines((LAMP, 3)), {}, "reserved", "stock held"),
    "reserved, several lines": (lines((MUG, 2), (LAMP, 1)), {}, "reserved", "stock held"),
    "reserved, merged lines": (lines((MUG, 1), (LAMP, 1), (MUG, 1)), {}, "reserved", "stock held"),
    "reserved, all of the address": (
        lines((LAMP, 1)),
        {"ship_to": {**ADDRESS, "line2": "c/o Bob", "region": "Elbe"}},
        "reserved",
        "stock held",
    ),
    "reserved, as cheap as expected": (
        lines((LAMP, 1)),
        {"expected_total_minor": 2980},
        "reserved",
        "stock held",
    ),
    "price-changed": (
        lines((LAMP, 1)),
        {"expected_total_minor": 2979},
        "rejected",
        "price-changed",
    ),
    "price-changed and short": (
        lines((LAMP, 10)),
        {"expected_total_minor": 1},
        "rejected",
        "price-changed",
    ),
    "backordered": (lines((LAMP, 10)), {}, "backordered", "insufficient-stock"),
    "backordered, several lines": (
        lines((MUG, 9), (LAMP, 1), (MUG, 9)),
        {},
        "backordered",
        "insufficient-stock",
    ),
    "short": (lines((LAMP, 10)), {"on_shortage": "reject"}, "rejected", "insufficient-stock"),
    "unknown": (lines((LAMP, 1), (LAMP[:-1] + "9", 1)), {}, "rejected", "unknown-product"),
}


async def told_and_shown(order, placed) -> None:
    """The answer is what is shown, what is kept for a repeat, and what was told."""
    assert placed == await order.ask("get", {"id": placed.id}, caller=ALICE)
    told = order.told("order.status_changed")
    assert [(one.data["old"], one.data["new"]) for one in told] == [
        ("", "pending"),
        ("pending", placed.status),
    ]
    assert [one.data["lines"] for one in told] == [
        lines(*((line.product_id, line.quantity) for line in placed.lines))
    ] * 2
    assert told[1].data["total_minor"] == placed.total_minor
    assert told[1].data["version"] == placed.version == 2
    if placed.total_minor is not None:
        assert all(line.sku and line.name and line.unit_price_minor for line in placed.lines)
    assert offenders(order) == []


@pytest.mark.parametrize("end", ENDS)
async def test_answer_is_what_a_look_shows_however_an_order_ends(order, product, end):
    wanted, more, status, reason = ENDS[end]
    await plant(product, 5, 5)
    placed = await create(order, key="k", **{"lines": wanted, **more})
    assert (placed.status, placed.reason) == (status, reason)
    await told_and_shown(order, placed)
    assert placed == await create(order, key="k", **{"lines": wanted, **more})
    wants: dict[str, int] = {}
    for line in wanted:
        wants[line["product_id"]] = wants.get(line["product_id"], 0) + line["quantity"]
    assert [(line.product_id, line.quantity) for line in placed.lines] == list(wants.items())


async def test_answer_is_what_a_look_shows_when_the_currencies_differ(order, product):
    await euros_and_pounds(product)
    placed = await create(order, 1, 1, key="k")
    assert (placed.status, placed.reason) == ("rejected", "mixed-currencies")
    await told_and_shown(order, placed)


async def test_answer_is_what_a_look_shows_when_a_product_is_sold_no_longer(order, product):
    await plant(product, 5)
    await product.ask("discontinue", {"id": LAMP}, caller=SAM, match="*")
    placed = await create(order, 1, key="k")
    assert (placed.status, placed.reason) == ("rejected", "discontinued")
    await told_and_shown(order, placed)


async def test_nothing_is_read_of_an_order_that_is_being_written(order, product):
    await plant(product, 5)
    seen = statements(order)
    assert (await create(order, 1, key="k")).status == "reserved"
    assert sum(sql.startswith("INSERT OR FAIL INTO orders") for sql in seen) == 1
    own = ("orders", "lines", "hold_lost", "erased")
    assert [
        sql for sql in seen if sql.startswith("SELECT") and any(f" {t}" in sql for t in own)
    ] == []


async def test_hold_is_asked_for_again_when_its_end_was_heard_before_the_answer(
    order, product, wall
):
    await plant(product, 1)

    async def expires():
        wall.forward(HOLD_MS / 1000 + 1)
        await work(product)
        await deliver(product, order)

    Interrupted(order, HOLD, expires)
    placed = await create(order, 1, key="k")
    assert product.asked == ["hold", "hold"]
    held = product.database.read.one(int, "SELECT version FROM holds WHERE state = 'held'")
    kept = order.database.read.one(int, "SELECT hold_version FROM orders")
    assert (placed.status, held, kept) == ("reserved", 2, 2)
    assert placed == await order.ask("get", {"id": placed.id}, caller=ALICE)
    assert offenders(product) == offenders(order) == []


async def test_backorder_is_asked_for_again_when_stock_was_heard_of_before_the_answer(
    order, product
):
    await plant(product, 0)

    async def stock_returns():
        await restock(product, 1)
        await deliver(product, order)

    Interrupted(order, HOLD, stock_returns)
    placed = await create(order, 1, key="k")
    assert placed.status == "reserved"
    assert placed == await order.ask("get", {"id": placed.id}, caller=ALICE)


async def test_nothing_is_written_when_its_owner_was_erased_before_the_answer(order, product, wall):
    await plant(product, 5)

    async def erased():
        await order.transact(lambda tx: tx.erase(ALICE.id))

    Interrupted(order, HOLD, erased)
    with pytest.raises(Forbidden):
        await create(order, 1, key="k")
    for table in ("orders", "request", "history", "outbox"):
        assert order.database.read.one(int, f"SELECT count(*) FROM {table}") == 0
    await deliver(product, order)
    wall.forward(DRIVE_AFTER_S)
    await work(order)
    assert product.database.read.one(int, "SELECT reserved FROM products") == 0
