"""All SQL of order, and nothing but SQL. Every function takes a transaction or a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.services.order.messages import Address, LineView, OnShortage, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.framework import Reader, Tx
    from mesh.services.order.messages import HeldLine, ListOrders
    from mesh.services.order.model import Charge

LINES_MAX = 50
STEPS_MAX = 1000
WAKE_MAX = 200
"""Backorders of one product that are tried in one go."""


class OrderRow(Struct, frozen=True):
    """An order as it is stored."""

    id: str
    user_id: str
    status: Status
    reason: str
    on_shortage: OnShortage
    expected_total_minor: int | None
    created_ms: int
    version: int
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


class PaymentRow(Struct, frozen=True):
    """One payment."""

    id: str
    attempt: str
    amount_minor: int
    state: str
    token: str | None


class SeenRow(Struct, frozen=True):
    """The newest stock heard of."""

    product_id: str
    stock_version: int
    available: int


_ORDER = (
    "SELECT id, user_id, status, reason, currency, subtotal_minor, shipping_minor, total_minor,"
    " on_shortage, expected_total_minor, hold_version, held_until_ms, created_ms, version"
    " FROM orders"
)


def insert(tx: Tx, order: OrderRow, wanted: dict[str, int], to: Address) -> bool:
    """Add an order that is nowhere yet; False when it is there already."""
    added = tx.execute(
        "INSERT INTO orders (id, user_id, status, reason, on_shortage, expected_total_minor,"
        " created_ms, version) VALUES (:id, :user_id, :status, :reason, :on_shortage, :expected,"
        " :created_ms, :version) ON CONFLICT DO NOTHING",
        id=order.id,
        user_id=order.user_id,
        status=order.status,
        reason=order.reason,
        on_shortage=order.on_shortage,
        expected=order.expected_total_minor,
        created_ms=order.created_ms,
        version=order.version,
    )
    if not added:
        return False
    for n, (product_id, quantity) in enumerate(wanted.items(), 1):
        tx.execute(
            "INSERT INTO lines (order_id, n, product_id, quantity)"
            " VALUES (:id, :n, :product_id, :quantity)",
            id=order.id,
            n=n,
            product_id=product_id,
            quantity=quantity,
        )
    tx.execute(
        "INSERT INTO shipments (order_id, name, line1, line2, city, region, postcode, country)"
        " VALUES (:id, :name, :line1, :line2, :city, :region, :postcode, :country)",
        id=order.id,
        name=to.name,
        line1=to.line1,
        line2=to.line2,
        city=to.city,
        region=to.region,
        postcode=to.postcode,
        country=to.country,
    )
    return True


def get(reads: Reader, order_id: str) -> OrderRow | None:
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


def lines(reads: Reader, order_id: str) -> list[LineView]:
    """An order's lines."""
    return reads.all(
        LineView,
        "SELECT product_id, sku, name, quantity, unit_price_minor FROM lines"
        " WHERE order_id = :id ORDER BY n LIMIT :most",
        id=order_id,
        most=LINES_MAX,
    )


def ship_to(reads: Reader, order_id: str) -> Address | None:
    """Where an order goes."""
    return reads.one(
        Address,
        "SELECT name, line1, line2, city, region, postcode, country FROM shipments"
        " WHERE order_id = :id",
        id=order_id,
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


def save(tx: Tx, order: OrderRow) -> None:
    """Write back everything of an order that may change."""
    tx.execute(
        "UPDATE orders SET status = :status, reason = :reason, currency = :currency,"
        " subtotal_minor = :subtotal, shipping_minor = :shipping, total_minor = :total,"
        " hold_version = :hold_version, held_until_ms = :held_until, version = :version"
        " WHERE id = :id",
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
    )


def append_step(tx: Tx, order: OrderRow, old: str, actor: str) -> None:
    """Note the step by which an order came to be as it is now, and whether it waits for stock."""
    tx.execute(
        "INSERT INTO history (order_id, version, old, new, reason, actor, cause, at_ms)"
        " VALUES (:id, :version, :old, :new, :reason, :actor, :cause, :now)",
        id=order.id,
        version=order.version,
        old=old,
        new=order.status,
        reason=order.reason,
        actor=actor,
        cause=tx.cause,
        now=tx.now_ms,
    )
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


def set_line_prices(tx: Tx, order_id: str, quoted: Sequence[HeldLine]) -> None:
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


def see_stock(tx: Tx, product_id: str, stock_version: int, available: int) -> None:
    """Keep the newest stock heard of."""
    tx.execute(
        "INSERT INTO stock_seen (product_id, stock_version, available)"
        " VALUES (:product_id, :version, :available)"
        " ON CONFLICT (product_id) DO UPDATE SET stock_version = excluded.stock_version,"
        " available = excluded.available WHERE excluded.stock_version > stock_seen.stock_version",
        product_id=product_id,
        version=stock_version,
        available=available,
    )


def seen(reads: Reader, order_id: str) -> dict[str, tuple[int, int]]:
    """The newest stock heard of, for each product of an order."""
    rows = reads.all(
        SeenRow,
        "SELECT product_id, stock_version, available FROM stock_seen JOIN lines USING (product_id)"
        " WHERE order_id = :id LIMIT :most",
        id=order_id,
        most=LINES_MAX,
    )
    return {row.product_id: (row.stock_version, row.available) for row in rows}


def lose_hold(tx: Tx, order_id: str, version: int) -> None:
    """Note that a hold of this version has expired."""
    tx.execute(
        "INSERT INTO hold_lost (order_id, version) VALUES (:id, :version)"
        " ON CONFLICT (order_id) DO UPDATE SET version = max(version, excluded.version)",
        id=order_id,
        version=version,
    )


def lost_version(reads: Reader, order_id: str) -> int:
    """The newest hold of this order known to have expired; 0 for none."""
    found = reads.one(int, "SELECT version FROM hold_lost WHERE order_id = :id", id=order_id)
    return found or 0


def waits(reads: Reader, product_id: str) -> bool:
    """Whether a backorder waits for this product."""
    sql = "SELECT 1 FROM backorders WHERE product_id = :product_id LIMIT 1"
    return reads.one(int, sql, product_id=product_id) is not None


def waiting(reads: Reader, product_id: str, after: str) -> list[str]:
    """The next backorders beyond `after` that want this product, the oldest first."""
    return reads.all(
        str,
        "SELECT order_id FROM backorders WHERE product_id = :product_id AND order_id > :after"
        " ORDER BY order_id LIMIT :most",
        product_id=product_id,
        after=after,
        most=WAKE_MAX,
    )


def start_capture(tx: Tx, payment_id: str, order: OrderRow, attempt: str, token: str) -> None:
    """Note that a payment is about to be taken."""
    tx.execute(
        "INSERT INTO payments (id, order_id, kind, attempt, amount_minor, state, token, at_ms)"
        " VALUES (:id, :order_id, 'capture', :attempt, :amount, 'started', :token, :now)",
        id=payment_id,
        order_id=order.id,
        attempt=attempt,
        amount=order.total_minor,
        token=token,
        now=tx.now_ms,
    )


def open_capture(reads: Reader, order_id: str) -> PaymentRow | None:
    """The payment that is being taken."""
    return reads.one(
        PaymentRow,
        "SELECT id, attempt, amount_minor, state, token FROM payments"
        " WHERE order_id = :id AND kind = 'capture' AND state = 'started'",
        id=order_id,
    )


def captures(reads: Reader, order_id: str) -> int:
    """How many payments were tried."""
    sql = "SELECT count(*) FROM payments WHERE order_id = :id AND kind = 'capture'"
    return reads.one(int, sql, id=order_id) or 0


def end_capture(tx: Tx, payment_id: str, state: str, charge: Charge | None) -> None:
    """Note how a payment ended."""
    tx.execute(
        "UPDATE payments SET state = :state, brand = :brand, last4 = :last4 WHERE id = :id",
        id=payment_id,
        state=state,
        brand=charge.brand if charge else None,
        last4=charge.last4 if charge else None,
    )


def refund(tx: Tx, order_id: str) -> int:
    """Give back what was captured, once; returns how many rows that made."""
    return tx.execute(
        "INSERT INTO payments (id, order_id, kind, attempt, amount_minor, state, brand, last4,"
        " at_ms) SELECT :id, order_id, 'refund', :attempt, amount_minor, 'succeeded', brand, last4,"
        " :now FROM payments WHERE order_id = :order_id AND kind = 'capture'"
        " AND state = 'succeeded' ON CONFLICT DO NOTHING",
        id=tx.new_id("pay"),
        order_id=order_id,
        attempt=f"{order_id}/refund",
        now=tx.now_ms,
    )


UNSETTLED = "SELECT count(*) FROM orders WHERE status IN ('pending', 'paying')"
