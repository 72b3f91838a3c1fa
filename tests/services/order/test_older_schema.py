"""A database that an older program has left: its orders are shown as they were, go on, and end."""

from __future__ import annotations

from pathlib import Path

import pytest

import mesh.services
from mesh import database, telemetry
from mesh.errors import Conflict
from mesh.services.order.service import service as order_service
from mesh.services.product.service import service as product_service
from tests.services.in_process import FRAMEWORK, Clock, room
from tests.services.order.conftest import ALICE, BOB, LAMP, MUG, SAM
from tests.services.order.support import ADDRESS, create, left, offenders, plant, work

OWN = Path(mesh.services.__file__).parent / "order" / "schema"
FIRST, SECOND, THIRD = (f"ord_00000000-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))
CAME = telemetry.new_trace()


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


async def left_by(directory: Path, schema: int, *leaves) -> None:
    """What a program of this schema left behind."""
    store = await database.connect("sqlite://", directory / "order", "order")
    own = database.found_in(OWN, "order")
    await store.migrate([*database.found_in(FRAMEWORK, "mesh"), *own[:schema]])
    for leave in leaves:
        await store.write(leave)
    await store.close()


@pytest.fixture
async def older(tmp_path):
    await left_by(tmp_path, 2, leave)


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


def unpaid(now_ms: int):
    """Two orders that wait to be paid, each with its own piece of work, and one that is being paid."""

    def leave(tx) -> None:
        for order_id, status, after_ms in (
            (FIRST, "reserved", 60_000),
            (SECOND, "reserved", 90_000),
            (THIRD, "paying", 30_000),
        ):
            tx.execute(
                "INSERT INTO orders (id, user_id, status, reason, currency, subtotal_minor,"
                " shipping_minor, total_minor, on_shortage, hold_version, held_until_ms, created_ms,"
                " version) VALUES (:id, :user, :status, 'stock held', 'EUR', 2490, 490, 2980,"
                " 'backorder', 1, :until, 0, 1)",
                id=order_id,
                user=ALICE.id,
                status=status,
                until=now_ms + after_ms,
            )
            tx.execute(
                "INSERT INTO history VALUES (:id, 1, '', :status, 'stock held', 'order', 'req_old', 0)",
                id=order_id,
                status=status,
            )
            tx.execute(
                "INSERT INTO payments VALUES (:pay, :id, 'capture', :pay, 2980, :state, 'tok_declined',"
                " NULL, NULL, 0)",
                pay=f"{order_id}/1",
                id=order_id,
                state="started" if status == "paying" else "declined",
            )
            tx.execute(
                "INSERT INTO deferred (action, key, args, due_ms, dated, generation, traceparent,"
                " cause) VALUES (:action, :id, CAST(:args AS BLOB), :due, :dated, 1, :came, 'req_old')",
                action="expire" if status == "reserved" else "capture",
                id=order_id,
                args=f'{{"order_id":"{order_id}"}}',
                due=now_ms + (after_ms if status == "reserved" else 5000),
                dated=int(status == "reserved"),
                came=CAME.traceparent,
            )

    return leave


async def test_unpaid_orders_of_an_older_schema_end_at_their_dates(tmp_path, monkeypatch):
    wall = Clock(monkeypatch)
    await left_by(tmp_path, 3, unpaid(wall.now_ms))
    async with (
        room(product_service, tmp_path) as product,
        room(order_service, tmp_path, product) as order,
    ):
        assert left(order) == ["capture", "expire"]
        assert [row for row in offenders(order) if "is over" in row[0]] == []
        wall.forward(60)
        assert await work(order, only={"expire"}) == ["expire"]
        assert order.database.read.all(str, "SELECT status FROM orders ORDER BY id") == [
            "expired",
            "reserved",
            "paying",
        ]
        (ended,) = order.told("order.status_changed")
        assert (ended.data["reason"], ended.trace.cause) == ("not paid in time", "req_old")
        assert ended.trace.correlation == CAME.trace_id
        wall.forward(30)
        assert await work(order, only={"expire"}) == ["expire"]
        assert (await order.ask("get", {"id": SECOND}, caller=ALICE)).status == "expired"
        assert await work(order, only={"capture"}) == ["capture"]
        assert (await order.ask("get", {"id": THIRD}, caller=ALICE)).status == "expired"
        assert left(order) == ["release"] * 3


@pytest.mark.parametrize("schema", [0, 3])
async def test_nothing_is_looked_at_where_no_order_waits(tmp_path, schema):
    await left_by(tmp_path, schema)
    async with room(order_service, tmp_path) as order:
        assert left(order) == []
