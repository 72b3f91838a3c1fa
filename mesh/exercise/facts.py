"""What the databases say happened, read from the copies of one cut: what a history is judged by.

Keys and their effects are the framework's, so they are known of every service; the rest is read
where the shop's own tables are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import database

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mesh.database import Copies, Value
    from mesh.framework.service import Service


class Effect(Struct, frozen=True):
    """What one Idempotency-Key has done; `status` None: begun, and not answered."""

    service: str
    route: str
    caller: str
    entity: str
    status: int | None


class Order(Struct, frozen=True):
    """An order as it lies there."""

    user_id: str
    status: str
    version: int


class Step(Struct, frozen=True):
    """One step of an order: the version it led to, from where, where to."""

    version: int
    old: str
    new: str
    at_ms: int = 0


class Stock(Struct, frozen=True):
    """A product's stock."""

    on_hand: int
    reserved: int


class Facts(Struct, kw_only=True):
    """Everything a judgement reads.

    `told` are the steps and the stock that events tell, in their order; `whole` whether all events
    are still kept. `restocks` maps the reason of a delivery of the run to its deltas. `closed` are users who
    are gone, and when; `people` maps a login to its user's id, `staff` are those who see more.
    """

    keys: dict[str, list[Effect]] = {}
    orders: dict[str, Order] | None = None
    steps: dict[str, list[Step]] = {}
    told: dict[str, list[Step]] = {}
    moves: frozenset[tuple[str, str]] = frozenset()
    unsettled: frozenset[str] = frozenset({"pending", "paying"})
    stock: dict[str, Stock] | None = None
    stock_told: dict[str, Stock] = {}
    restocks: dict[str, list[int]] = {}
    users: dict[str, str] | None = None
    credentials: frozenset[str] | None = None
    people: dict[str, str] = {}
    staff: frozenset[str] = frozenset()
    closed: dict[str, int] = {}
    whole: bool = True


def read(copies: Mapping[str, Path], services: Mapping[str, Service], run: str) -> Facts:
    """The facts of one cut.

    Args:
        services: the tables of the services that have a copy.
        run: what the keys of the run begin with; others are not read.
    """
    facts = Facts()
    for name in services:
        with database.opened(copies[name], {}) as copy:
            tables = {str(row[0]) for row in _rows(copy, "SELECT name FROM sqlite_master")}
            for key, *effect in _rows(
                copy,
                "SELECT key, route, caller, entity, status FROM request"
                " WHERE substr(key, 1, length(:run)) = :run",
                run=run,
            ):
                facts.keys.setdefault(str(key), []).append(Effect(name, *effect))  # type: ignore[arg-type]  # as stored
            if {"orders", "history"} <= tables:
                _orders(copy, facts, services[name])
            if {"products", "ledger"} <= tables:
                _stock(copy, facts, run)
            if {"users", "grants"} <= tables:
                _users(copy, facts)
            if "credentials" in tables:
                facts.credentials = frozenset(
                    str(row[0]) for row in _rows(copy, "SELECT subject FROM credentials")
                )
    return facts


def _rows(copy: Copies, sql: str, **params: Value) -> list[tuple[Value, ...]]:
    return list(copy.rows(sql, params))


def _orders(copy: Copies, facts: Facts, table: Service) -> None:
    facts.orders = {
        str(order): Order(*row)  # type: ignore[arg-type]  # as stored
        for order, *row in _rows(copy, "SELECT id, user_id, status, version FROM orders")
    }
    for order, *row in _rows(
        copy, "SELECT order_id, version, old, new, at_ms FROM history ORDER BY order_id, version"
    ):
        facts.steps.setdefault(str(order), []).append(Step(*row))  # type: ignore[arg-type]
    for order, body, at_ms in _rows(
        copy, "SELECT key, body, ts_ms FROM outbox WHERE type = 'order.status_changed' ORDER BY seq"
    ):
        said = _said(body)
        step = Step(said["version"], said["old"], said["new"], at_ms)  # type: ignore[arg-type]
        facts.told.setdefault(str(order), []).append(step)
    if _rows(copy, "SELECT 1 FROM sqlite_master WHERE name = 'erased'"):
        gone = _rows(copy, "SELECT user_id, at_ms FROM erased")
        facts.closed = {str(user): int(str(at_ms)) for user, at_ms in gone}
    facts.moves = frozenset((row.source, row.target) for moves in table.moves for row in moves.rows)
    facts.whole = facts.whole and _whole(copy)


def _said(body: Value) -> dict[str, object]:
    assert isinstance(body, bytes)
    said: dict[str, object] = json.loads(body)
    return said


def _whole(copy: Copies) -> bool:
    (first,) = _rows(copy, "SELECT coalesce(min(seq), 1) FROM outbox")
    return first[0] == 1


def _stock(copy: Copies, facts: Facts, run: str) -> None:
    facts.stock = {
        str(product): Stock(*row)  # type: ignore[arg-type]
        for product, *row in _rows(copy, "SELECT id, on_hand, reserved FROM products")
    }
    for product, body in _rows(
        copy, "SELECT key, body FROM outbox WHERE type = 'product.stock_changed' ORDER BY seq"
    ):
        said, before = _said(body), facts.stock_told.get(str(product), Stock(0, 0))
        facts.stock_told[str(product)] = Stock(
            before.on_hand + int(str(said["d_on_hand"])),
            before.reserved + int(str(said["d_reserved"])),
        )
    for reason, delta in _rows(
        copy,
        "SELECT reason, d_on_hand FROM ledger WHERE substr(reason, 1, length(:reason)) = :reason",
        reason=f"delivery {run}",
    ):
        facts.restocks.setdefault(str(reason), []).append(int(str(delta)))
    facts.whole = facts.whole and _whole(copy)


def _users(copy: Copies, facts: Facts) -> None:
    rows = _rows(copy, "SELECT id, email, status FROM users")
    facts.users = {str(user): str(status) for user, _, status in rows}
    facts.people = {str(email).partition("@")[0]: str(user) for user, email, _ in rows}
    facts.staff = frozenset(
        str(row[0]) for row in _rows(copy, "SELECT user_id FROM grants WHERE role <> 'customer'")
    )
