"""A database that an older program has left: its orders are shown as they were, and go on."""

from __future__ import annotations

from pathlib import Path

import pytest

import mesh.services
from mesh import database
from mesh.errors import Conflict
from mesh.services.order.service import service as order_service
from mesh.services.product.service import service as product_service
from tests.services.in_process import FRAMEWORK, room
from tests.services.order.conftest import ALICE, BOB, LAMP, MUG, SAM
from tests.services.order.support import ADDRESS, create, offenders, plant

OWN = Path(mesh.services.__file__).parent / "order" / "schema"
FIRST, SECOND = (f"ord_00000000-0000-7000-8000-00000000000{n}" for n in (1, 2))


def leave(tx) -> None:
    """One order that was shipped, and one of somebody who was erased."""
    for order_id, caller in ((FIRST, ALICE), (SECOND, BOB)):
        tx.execute(
            "INSERT INTO orders (id, user_id, status, reason, currency, subtotal_minor,"
            " shipping_minor, total_minor, on_shortage, hold_version, created_ms, version)"
            " VALUES (:id, :user, 'paid', 'payment captured', 'EUR', 4470, 490, 4960,"
            " 'backorder', 1, 0, 4)",
            id=order_id,
            user=caller.id,
        )
        for n, (product_id, quantity, price) in enumerate([(MUG, 2, 990), (LAMP, 1, 2490)], 1):
            tx.execute(
                "INSERT INTO lines (order_id, n, product_id, sku, name, quantity, unit_price_minor)"
                " VALUES (:id, :n, :product_id, 'A', 'a', :quantity, :price)",
                id=order_id,
                n=n,
                product_id=product_id,
                quantity=quantity,
                price=price,
            )
    tx.execute(
        "INSERT INTO shipments (order_id, name, line1, line2, city, region, postcode, country,"
        " carrier, tracking) VALUES (:id, :name, :line1, 'c/o Bob', :city, 'Elbe', :postcode,"
        " :country, 'DHL', 'JD01')",
        id=FIRST,
        **ADDRESS,
    )
    tx.execute(
        "INSERT INTO shipments (order_id, name, line1, city, postcode, country, forgotten)"
        " VALUES (:id, '', '', '', '', '', 1)",
        id=SECOND,
    )


@pytest.fixture
async def older(tmp_path):
    """What schema 2 left behind."""
    store = await database.connect("sqlite://", tmp_path / "order", "order")
    own = database.found_in(OWN, "order")
    await store.migrate([*database.found_in(FRAMEWORK, "mesh"), *own[:2]])
    await store.write(leave)
    await store.close()


async def test_orders_of_an_older_schema_are_shown_and_go_on(older, tmp_path):
    async with (
        room(product_service, tmp_path) as product,
        room(order_service, tmp_path, product) as order,
    ):
        first = await order.ask("get", {"id": FIRST}, caller=ALICE)
        assert first.ship_to is not None
        assert {name: getattr(first.ship_to, name) for name in ADDRESS} == ADDRESS
        assert (first.ship_to.line2, first.ship_to.region) == ("c/o Bob", "Elbe")
        assert (first.carrier, first.tracking) == ("DHL", "JD01")
        assert [(line.product_id, line.quantity) for line in first.lines] == [(MUG, 2), (LAMP, 1)]
        assert first.total_minor == 4960
        second = await order.ask("get", {"id": SECOND}, caller=BOB)
        assert (second.ship_to, second.carrier, len(second.lines)) == (None, None, 2)
        with pytest.raises(Conflict, match="erased"):
            await order.ask("ship", {"id": SECOND}, caller=SAM)
        shipped = await order.ask("ship", {"id": FIRST, "carrier": "UPS"}, caller=SAM)
        assert (shipped.status, shipped.carrier, shipped.ship_to) == (
            "shipped",
            "UPS",
            first.ship_to,
        )
        await plant(product, 5)
        assert (await create(order, 1, key="k")).status == "reserved"
        costs = [row for row in offenders(order) if "lines cost" in row[0]]
        assert costs == []
