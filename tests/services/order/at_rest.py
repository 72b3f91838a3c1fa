"""What must hold of order and product together once nothing is under way any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from tests.services.order.support import offenders

if TYPE_CHECKING:
    from tests.services.in_process import Room

Lines = dict[str, int]


class Stock(Struct, frozen=True):
    id: str
    available: int
    stock_version: int
    price_minor: int
    discontinued: bool


class Line(Struct, frozen=True):
    order_id: str
    status: str
    product_id: str
    quantity: int


def wrong(order: Room, product: Room) -> list[str]:
    """Every promise of either, V3 and V9."""
    return [
        *(
            f"{room.service.name}: {found}"
            for room in (order, product)
            for found in offenders(room)
        ),
        *_disagreements(order, product),
        *_asleep(order, product),
    ]


def expirable(order: Room, product: Room) -> list[str]:
    """What is held for somebody who has not paid, and work that waits for a date."""
    deferred = " UNION ALL SELECT action || ' ' || key FROM deferred"
    held = "SELECT 'hold of ' || order_id FROM holds WHERE state = 'held'"
    reserved = "SELECT 'reserved ' || id FROM orders WHERE status = 'reserved'"
    return [
        *product.database.read.all(str, held + deferred),
        *order.database.read.all(str, reserved + deferred),
    ]


def answered_twice(order: Room, answers: dict[str, list[object]]) -> list[str]:
    """V7: one order for each key, and one answer however often it is asked for."""
    found = [
        f"{key} was answered in different ways: {given}"
        for key, given in answers.items()
        if any(answer != given[0] for answer in given)
    ]
    orders = order.database.read.one(int, "SELECT count(*) FROM orders")
    keys = order.database.read.one(int, "SELECT count(*) FROM request WHERE route = 'create'")
    return found if orders == keys else [*found, f"{orders} orders for {keys} keys"]


def _by_order(room: Room, sql: str) -> dict[str, tuple[str, Lines]]:
    found: dict[str, tuple[str, Lines]] = {}
    for row in room.database.read.all(Line, sql):
        found.setdefault(row.order_id, (row.status, {}))[1][row.product_id] = row.quantity
    return found


def _orders(order: Room) -> dict[str, tuple[str, Lines]]:
    return _by_order(
        order,
        "SELECT o.id AS order_id, o.status, l.product_id, l.quantity"
        " FROM orders o JOIN lines l ON l.order_id = o.id",
    )


def _disagreements(order: Room, product: Room) -> list[str]:
    """V3: stock is held for an order exactly as long as the order says so."""
    holds = _by_order(
        product,
        "SELECT h.order_id, h.state AS status, l.product_id, l.quantity FROM holds h"
        " JOIN hold_lines l ON l.order_id = h.order_id WHERE h.state IN ('held', 'committed', 'shipped')",
    )
    orders = _orders(order)
    found = [f"a hold without an order: {order_id}" for order_id in holds.keys() - orders.keys()]
    wanted = {
        "reserved": {"held", "committed"},
        "paid": {"committed"},
        "shipped": {"shipped"},
        "delivered": {"shipped"},
    }
    for order_id, (status, lines) in orders.items():
        state, held = holds.get(order_id, ("none", {}))
        if status in {"pending", "paying"}:
            found.append(f"{order_id} is still {status}")
        if state not in wanted.get(status, {"none"}) or (held and held != lines):
            found.append(f"{order_id} is {status} {lines}, its hold {state} {held}")
    return found


def _asleep(order: Room, product: Room) -> list[str]:
    """V9: no backorder sleeps while its stock is there; the replica is what product has."""
    rows = product.database.read.all(
        Stock,
        "SELECT id, on_hand - reserved AS available, stock_version, price_minor,"
        " status = 'discontinued' AS discontinued FROM products",
    )
    stock = {row.id: row for row in rows}
    sleeping = [
        f"{order_id} sleeps, though {lines} is there"
        for order_id, (status, lines) in _orders(order).items()
        if status == "backordered"
        and all(stock[product_id].available >= n for product_id, n in lines.items())
    ]
    sleeping += [
        f"{order_id} waits for what is sold no longer"
        for order_id, (status, lines) in _orders(order).items()
        if status == "backordered" and any(stock[product_id].discontinued for product_id in lines)
    ]
    believed = order.database.read.all(
        Stock,
        "SELECT product_id AS id, available, stock_version, price_minor, discontinued"
        " FROM stock_seen",
    )
    return sleeping + [
        f"order believes {seen}, product has {stock[seen.id]}"
        for seen in believed
        if seen != stock[seen.id]
    ]
