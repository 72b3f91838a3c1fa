"""A database that an older program has left: its holds are shown as they were, and end as they would."""

from __future__ import annotations

from pathlib import Path

import pytest

import mesh.services
from mesh import database, telemetry
from mesh.errors import Gone
from mesh.services.product import messages, model
from mesh.services.product.service import service
from tests.services.in_process import FRAMEWORK, Clock, room
from tests.services.product.conftest import LAMP, MUG, ONE, ORDER, TWO, Shop, order_id

OWN = Path(mesh.services.__file__).parent / "product" / "schema"
KEPT, SHIPPED, NEVER = order_id(3), order_id(4), order_id(5)
CAME = telemetry.new_trace()


async def older(directory: Path, wall: Clock) -> None:
    """What schema 3 left behind, its stock being moved as if all this had been told."""
    store = await database.connect("sqlite://", directory / "product", "product")
    own = database.found_in(OWN, "product")
    await store.migrate([*database.found_in(FRAMEWORK, "mesh"), *own[:3]])

    def leave(tx):
        for product, sku, on_hand, reserved in ((LAMP, "L", 10, 6), (MUG, "M", 9, 2)):
            tx.execute(
                "INSERT INTO products (id, sku, name, description, price_minor, currency, on_hand,"
                " reserved, stock_version) VALUES (:id, :sku, 'It', '', 990, 'EUR', :n, :r, 1)",
                id=product,
                sku=sku,
                n=on_hand,
                r=reserved,
            )
            tx.execute(
                "INSERT INTO ledger VALUES (:id, 1, :n, :r, :n, :r, 'seed', '', 0)",
                id=product,
                n=on_hand,
                r=reserved,
            )
        holds = [
            (ONE, "held", {LAMP: 3, MUG: 2}, 60),
            (TWO, "held", {LAMP: 2}, 90),
            (KEPT, "committed", {LAMP: 1}, 30),
            (SHIPPED, "shipped", {MUG: 4}, 20),
            (NEVER, "released", {}, 0),
        ]
        for order, state, lines, after_s in holds:
            until_ms = wall.now_ms + after_s * 1000
            tx.execute(
                "INSERT INTO holds VALUES (:id, :state, 1, :ms)", id=order, state=state, ms=until_ms
            )
            for product, quantity in lines.items():
                tx.execute(
                    "INSERT INTO hold_lines VALUES (:id, :product, :n, 990)",
                    id=order,
                    product=product,
                    n=quantity,
                )
            if state == "held":
                tx.execute(
                    "INSERT INTO deferred (action, key, args, due_ms, dated, generation,"
                    " traceparent, cause) VALUES ('expire-hold', :id, x'7b7d', :ms, 1, 1, :came,"
                    " 'req_old')",
                    id=order,
                    ms=until_ms,
                    came=CAME.traceparent,
                )

    await store.write(leave)
    await store.close()


@pytest.fixture
async def shop(tmp_path, monkeypatch):
    wall = Clock(monkeypatch)
    await older(tmp_path, wall)
    async with room(service, tmp_path) as made:
        yield Shop(made, wall)


async def test_holds_of_an_older_schema_are_shown_and_end_at_their_dates(shop: Shop):
    assert set(shop.room.offenders()) == {"changes-told"}, "of older changes no event is here"
    for order, state, quantity in (
        (ONE, "held", 3),
        (KEPT, "committed", 1),
        (SHIPPED, "shipped", 4),
    ):
        shown = await shop.room.ask("get-hold", {"order_id": order}, caller=ORDER)
        assert (shown.state, shown.version, shown.lines[0].quantity) == (state, 1, quantity)
    assert shop.looks() == [60]
    shop.wall.forward(60)
    assert (await shop.run_due(), shop.reserved(LAMP), shop.reserved(MUG)) == (1, 3, 0)
    assert shop.looks() == [30]
    (ended,) = shop.room.told("product.hold_expired")
    assert (ended.trace.correlation, ended.trace.cause) == (CAME.trace_id, "req_old")
    shop.wall.forward(30)
    assert (await shop.run_due(), shop.reserved(LAMP), shop.looks()) == (1, 1, [])
    await shop.release(KEPT)
    assert (await shop.hold(ONE, {LAMP: 1})).version == 2
    assert shop.looks() == [model.HOLD_MS / 1000]
    with pytest.raises(Gone):
        await shop.hold(NEVER, {LAMP: 1})
    assert set(shop.room.offenders()) == {"changes-told"}


async def test_nothing_is_looked_at_where_nothing_was_held(tmp_path, monkeypatch):
    Clock(monkeypatch)
    async with room(service, tmp_path) as made:
        await made.plant(messages.Seed([messages.SeedProduct(LAMP, "L", "Lamp", 1, "EUR", 9)]))
        assert made.database.read.all(str, "SELECT action FROM deferred") == []
