"""A database that an older program has left: the orders heard of are shown as before, and go on."""

from __future__ import annotations

from pathlib import Path

import mesh.services
from mesh import database
from mesh.framework import Caller
from mesh.services.user.service import service
from tests.services.in_process import FRAMEWORK, Told, room

OWN = Path(mesh.services.__file__).parent / "user" / "schema"
ALICE, BOB = (f"usr_00000000-0000-7000-8000-00000000000{n}" for n in (1, 2))
ORDERS = [f"ord_00000000-0000-7000-8000-00000000000{n}" for n in range(1, 4)]


def leave(tx) -> None:
    for user_id in (ALICE, BOB):
        tx.execute(
            "INSERT INTO users (id, email, display_name, status, version, created_at_ms)"
            " VALUES (:id, :id, 'x', 'active', 1, 0)",
            id=user_id,
        )
    for order_id, user_id in zip(ORDERS, (ALICE, BOB, ALICE), strict=True):
        tx.execute(
            "INSERT INTO orders_seen (order_id, user_id, status, version, total_minor, currency,"
            " heard_at_ms) VALUES (:order_id, :user_id, 'reserved', 2, 2980, 'EUR', 7)",
            order_id=order_id,
            user_id=user_id,
        )


def changed(order_id: str, version: int, status: str) -> Told:
    return Told(
        "order.status_changed",
        {
            "order_id": order_id,
            "user_id": ALICE,
            "new": status,
            "version": version,
            "total_minor": 2980,
            "currency": "EUR",
        },
    )


async def test_orders_heard_of_under_an_older_schema_are_shown_and_go_on(tmp_path):
    store = await database.connect("sqlite://", tmp_path / "user", "user")
    own = database.found_in(OWN, "user")
    await store.migrate([*database.found_in(FRAMEWORK, "mesh"), *own[:2]])
    await store.write(leave)
    await store.close()
    async with room(service, tmp_path) as user:

        async def seen() -> list[tuple[str, str, int, int | None]]:
            page = await user.ask("orders", {"id": ALICE}, caller=Caller("user", ALICE))
            return [(one.order_id, one.status, one.version, one.total_minor) for one in page.items]

        newest, oldest = (ORDERS[2], "reserved", 2, 2980), (ORDERS[0], "reserved", 2, 2980)
        assert await seen() == [newest, oldest]
        await user.hear(changed(ORDERS[0], 3, "paying"), changed(ORDERS[2], 1, "pending"))
        assert await seen() == [newest, (ORDERS[0], "paying", 3, 2980)]
        await user.transact(lambda tx: tx.execute("DELETE FROM users WHERE id = :id", id=ALICE))
        left = user.database.read.all(str, "SELECT order_id FROM orders_seen")
        assert left == [ORDERS[1]]
