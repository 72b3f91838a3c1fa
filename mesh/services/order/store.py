"""All SQL of order, and nothing but SQL. Every function takes a transaction or a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.services.order.messages import Address, LineView, OnShortage, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.framework import Reader, Tx
    from mesh.services.order.messages import ListOrders

LINES_MAX = 50
STEPS_MAX = 1000
OWED_MAX = 10
"""More than one order can have at a time."""


class OrderRow(Struct, frozen=True):
    """An order as it is stored; of where it goes nothing is left once that was forgotten."""

    id: str
    user_id: str
    status: Status
    reason: str
    on_shortage: OnShortage
    expected_total_minor: int | None
    created_ms: int
    version: int
    name: str
    line1: str
    city: str
    postcode: str
    country: str
    line2: str | None = None
    region: str | None = None
    carrier: str | None = None
    tracking: str | None = None
    forgotten: bool = False
    currency: str | None = None
    subtotal_minor: int | None = None
    shipping_minor: int | None = None
    total_minor: int | None = None
    hold_version: int = 0
    held_until_ms: int | None = None


class StepRow(Struct, frozen=True):
    """One row of the history."""

    version: int
    old: str
    new: str
    reason: str
    actor: str
    cause: str
    at_ms: int


class Unpaid(Struct, frozen=True):
    """An order that was not paid in time, and the request that it waits for since."""

    held_until_ms: int
    id: str
    traceparent: str
    cause: str


class OwedRow(Struct, frozen=True):
    """Work left for later."""

    action: str
    due_ms: int
    dated: bool
    attempts: int
    error: str | None


_ORDER = (
    "SELECT id, user_id, status, reason, currency, subtotal_minor, shipping_minor, total_minor,"
    " on_shortage, expected_total_minor, hold_version, held_until_ms, created_ms, version, name,"
    " line1, line2, city, region, postcode, country, carrier, tracking, forgotten FROM orders"
)
_INSERT = (
    "INSERT OR FAIL INTO orders (id, user_id, status, reason, currency, subtotal_minor, shipping_minor,"
    " total_minor, on_shortage, expected_total_minor, hold_version, held_until_ms, created_ms,"
    " version, name, line1, line2, city, region, postcode, country, traceparent)"
    " SELECT :id, :user_id, :status, :reason, :currency, :subtotal, :shipping,"
    " :total, :on_shortage, :expected, :hold_version, :held_until, :created_ms,"
    " :version, :name, :line1, :line2, :city, :region, :postcode, :country, :traceparent"
    " WHERE NOT EXISTS (SELECT 1 FROM erased WHERE user_id = :user_id)"
)
"""OR FAIL: it is one row. To undo several SQLite would copy each page that changes, and it does not look."""
_HELD = (
    "(:hold_version = 0 OR NOT EXISTS"
    " (SELECT 1 FROM hold_lost WHERE order_id = :id AND version >= :hold_version))"
)
"""What events have told of a hold may be newer than the answer that promised it."""


def insert(tx: Tx, order: OrderRow, lines: Sequence[LineView]) -> bool:
    """Add an order; False when it is there already, its owner was erased or its hold was lost."""
    added = tx.execute(
        f"{_INSERT} AND {_HELD} ON CONFLICT DO NOTHING",
        id=order.id,
        user_id=order.user_id,
        status=order.status,
        reason=order.reason,
        currency=order.currency,
        subtotal=order.subtotal_minor,
        shipping=order.shipping_minor,
        total=order.total_minor,
        on_shortage=order.on_shortage,
        expected=order.expected_total_minor,
        hold_version=order.hold_version,
        held_until=order.held_until_ms,
        created_ms=order.created_ms,
        version=order.version,
        name=order.name,
        line1=order.line1,
        line2=order.line2,
        city=order.city,
        region=order.region,
        postcode=order.postcode,
        country=order.country,
        traceparent=_resumed_by(tx, order),
    )
    if not added:
        return False
    for n, line in enumerate(lines, 1):
        tx.execute(
            "INSERT INTO lines (order_id, product_id, n, sku, name, quantity, unit_price_minor)"
            " VALUES (:id, :product_id, :n, :sku, :name, :quantity, :price)",
            id=order.id,
            product_id=line.product_id,
            n=n,
            sku=line.sku,
            name=line.name,
            quantity=line.quantity,
            price=line.unit_price_minor,
        )
    return True


def exists(reads: Reader | Tx, order_id: str) -> bool:
    """Whether this order was written down."""
    return reads.one(int, "SELECT 1 FROM orders WHERE id = :id", id=order_id) is not None


def get(reads: Reader | Tx, order_id: str) -> OrderRow | None:
    """One order."""
    return reads.one(OrderRow, f"{_ORDER} WHERE id = :id", id=order_id)


def page(user_id: str | None, wanted: ListOrders) -> tuple[str, dict[str, str | int | None]]:
    """What finds one row more than the page holds; everybody's orders when `user_id` is None."""
    whose = "" if user_id is None else " AND user_id = :user_id"
    which = "" if wanted.status is None else " AND status = :status"
    return f"{_ORDER} WHERE id > :after{whose}{which} ORDER BY id LIMIT :most", {
        "after": wanted.page_token or "",
        "user_id": user_id,
        "status": wanted.status,
        "most": wanted.page_size + 1,
    }


def lines(reads: Reader | Tx, order_id: str) -> list[LineView]:
    """An order's lines."""
    return reads.all(
        LineView,
        "SELECT product_id, sku, name, quantity, unit_price_minor FROM lines"
        " WHERE order_id = :id ORDER BY n LIMIT :most",
        id=order_id,
        most=LINES_MAX,
    )


def address(row: OrderRow) -> Address | None:
    """Where an order goes, None once that was forgotten."""
    if row.forgotten:
        return None
    return Address(
        name=row.name,
        line1=row.line1,
        city=row.city,
        postcode=row.postcode,
        country=row.country,
        line2=row.line2,
        region=row.region,
    )


def set_parcel(tx: Tx, order_id: str, carrier: str | None, tracking: str | None) -> None:
    """Note who carries it, and under what number."""
    tx.execute(
        "UPDATE orders SET carrier = :carrier, tracking = :tracking WHERE id = :id",
        id=order_id,
        carrier=carrier,
        tracking=tracking,
    )


def is_erased(tx: Tx, user_id: str) -> bool:
    """Whether this person was erased."""
    sql = "SELECT 1 FROM erased WHERE user_id = :user_id"
    return tx.one(int, sql, user_id=user_id) is not None


def forget_addresses(tx: Tx, user_id: str) -> None:
    """Leave nothing of where a person's orders went."""
    tx.execute(
        "UPDATE orders SET name = '', line1 = '', line2 = NULL, city = '', region = NULL,"
        " postcode = '', country = '', tracking = NULL, forgotten = 1 WHERE user_id = :user_id",
        user_id=user_id,
    )


def forget_reasons(tx: Tx, user_id: str) -> None:
    """Leave nothing of what people gave as a reason for a step of this person's orders."""
    tx.execute(
        "UPDATE history SET reason = 'forgotten' WHERE new IN ('cancelled', 'returned')"
        " AND actor LIKE 'user:%' AND order_id IN (SELECT id FROM orders WHERE user_id = :user_id)",
        user_id=user_id,
    )
    tx.execute(
        "UPDATE orders SET reason = (SELECT h.reason FROM history h"
        " WHERE h.order_id = orders.id AND h.version = orders.version) WHERE user_id = :user_id",
        user_id=user_id,
    )


def forget_answers(tx: Tx, user_id: str) -> None:
    """Leave no answer about this person's orders that is kept for somebody else, such as staff."""
    tx.execute(
        "DELETE FROM request WHERE answer IS NOT NULL"
        " AND json_extract(CAST(answer AS TEXT), '$.user_id') = :user_id",
        user_id=user_id,
    )


def orders_of(tx: Tx, user_id: str, after: str, most: int) -> list[OrderRow]:
    """A person's next orders beyond `after`."""
    return tx.all(
        OrderRow,
        f"{_ORDER} WHERE user_id = :user_id AND id > :after ORDER BY id LIMIT :most",
        user_id=user_id,
        after=after,
        most=most,
    )


def history(reads: Reader, order_id: str) -> list[StepRow]:
    """An order's steps, the first one first."""
    return reads.all(
        StepRow,
        "SELECT version, old, new, reason, actor, cause, at_ms FROM history"
        " WHERE order_id = :id ORDER BY version LIMIT :most",
        id=order_id,
        most=STEPS_MAX,
    )


def save(tx: Tx, order: OrderRow) -> bool:
    """Write back everything of an order that may change; False when it is not at the version before."""
    saved = tx.execute(
        "UPDATE orders SET status = :status, reason = :reason, currency = :currency,"
        " subtotal_minor = :subtotal, shipping_minor = :shipping, total_minor = :total,"
        " hold_version = :hold_version, held_until_ms = :held_until, version = :version,"
        " traceparent = :traceparent WHERE id = :id AND version = :version - 1",
        id=order.id,
        status=order.status,
        reason=order.reason,
        currency=order.currency,
        subtotal=order.subtotal_minor,
        shipping=order.shipping_minor,
        total=order.total_minor,
        hold_version=order.hold_version,
        held_until=order.held_until_ms,
        version=order.version,
        traceparent=_resumed_by(tx, order),
    )
    return saved == 1


def _resumed_by(tx: Tx, order: OrderRow) -> str:
    """With which trace its time goes on to run out, if it is not paid."""
    return tx.trace.traceparent if order.status == "reserved" else ""


def unpaid(reads: Reader, now_ms: int, after: Unpaid, most: int) -> list[Unpaid]:
    """Orders that were not paid in time, those whose time ended first, beyond `after`."""
    return reads.all(
        Unpaid,
        "SELECT held_until_ms, id, traceparent, coalesce((SELECT h.cause FROM history h"
        " WHERE h.order_id = o.id AND h.version = o.version), '') AS cause FROM orders o"
        " WHERE status = 'reserved' AND held_until_ms <= :now"
        " AND (held_until_ms, id) > (:after_ms, :after_id) ORDER BY held_until_ms, id LIMIT :most",
        now=now_ms,
        after_ms=after.held_until_ms,
        after_id=after.id,
        most=most,
    )


def first_to_be_paid(tx: Tx) -> int | None:
    """When the time to pay is over for the first of all orders that wait for it."""
    return tx.one(int, "SELECT min(held_until_ms) FROM orders WHERE status = 'reserved'")


def is_looked_at(tx: Tx, until_ms: int) -> bool:
    """Whether a look for unpaid orders comes by then."""
    sql = "SELECT 1 FROM deferred WHERE action = 'expire' AND key = 'all' AND due_ms <= :until"
    return tx.one(int, sql, until=until_ms) is not None


_STEP = "INSERT INTO history (order_id, version, old, new, reason, actor, cause, at_ms) VALUES"


def append_step(tx: Tx, order: OrderRow, old: str, actor: str) -> None:
    """Note the step by which an order came to be as it is now, and whether it waits for stock."""
    tx.execute(
        f"{_STEP} (:id, :version, :old, :new, :reason, :actor, :cause, :now)",
        id=order.id,
        version=order.version,
        old=old,
        new=order.status,
        reason=order.reason,
        actor=actor,
        cause=tx.cause,
        now=tx.now_ms,
    )
    _queue(tx, order, old)


def append_first_steps(tx: Tx, first: OrderRow, last: OrderRow, owner: str, actor: str) -> None:
    """Note both steps of an order that was decided before it was written down."""
    tx.execute(
        f"{_STEP} (:id, :first, '', :placed, :placed_reason, :owner, :cause, :now),"
        " (:id, :version, :placed, :new, :reason, :actor, :cause, :now)",
        id=last.id,
        first=first.version,
        placed=first.status,
        placed_reason=first.reason,
        owner=owner,
        version=last.version,
        new=last.status,
        reason=last.reason,
        actor=actor,
        cause=tx.cause,
        now=tx.now_ms,
    )
    _queue(tx, last, first.status)


def _queue(tx: Tx, order: OrderRow, old: str) -> None:
    if order.status == "backordered":
        tx.execute(
            "INSERT INTO backorders (product_id, order_id)"
            " SELECT product_id, order_id FROM lines WHERE order_id = :id",
            id=order.id,
        )
    elif old == "backordered":
        tx.execute(
            "DELETE FROM backorders WHERE order_id = :id"
            " AND product_id IN (SELECT product_id FROM lines WHERE order_id = :id)",
            id=order.id,
        )


def set_line_prices(tx: Tx, order_id: str, quoted: Sequence[LineView]) -> None:
    """Keep what product said of each line, once: an order costs what it was first quoted."""
    for line in quoted:
        tx.execute(
            "UPDATE lines SET sku = :sku, name = :name, unit_price_minor = :price"
            " WHERE order_id = :id AND product_id = :product_id",
            id=order_id,
            product_id=line.product_id,
            sku=line.sku,
            name=line.name,
            price=line.unit_price_minor,
        )


def owed(reads: Reader, order_id: str) -> list[OwedRow]:
    """What is left to do for an order."""
    return reads.all(
        OwedRow,
        "SELECT action, due_ms, dated, attempts, error FROM deferred WHERE key = :id"
        " ORDER BY due_ms LIMIT :most",
        id=order_id,
        most=OWED_MAX,
    )


UNSETTLED = "SELECT count(*) FROM deferred WHERE action IN ('decide', 'capture')"
"""Orders that are pending or paying: each is driven on, and nothing else is."""
